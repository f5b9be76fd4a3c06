"""Whether windows commute with turns is known from the sizes alone, and what small change would help."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tdsl.capture import capture
from tdsl.symmetry.action import rotated
from tdsl.symmetry.border import Windows
from tdsl.symmetry.infer import infer


def conv(size: int, **window: object) -> tuple[nn.Module, int]:
    """A convolution whose kernel is symmetric, so that only its windows can break a turn."""
    layer = nn.Conv2d(2, 3, dtype=torch.float64, **window)  # type: ignore[arg-type]
    kernel = layer.weight.data
    layer.weight.data = sum(torch.rot90(k, i, (2, 3)) for k in (kernel, kernel.flip(3)) for i in range(4))
    return layer, size


class Resize(nn.Module):
    def __init__(self, size: int, mode: str) -> None:
        super().__init__()
        self.size, self.mode = size, mode

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, size=(self.size, self.size), mode=self.mode)


CASES: dict[str, tuple[Callable[[], tuple[nn.Module, int]], bool]] = {
    "conv, stride 1, odd": (lambda: conv(9, kernel_size=3, padding=1), True),
    "conv, stride 2, even": (lambda: conv(32, kernel_size=3, stride=2, padding=1), False),
    "conv, stride 2, odd": (lambda: conv(33, kernel_size=3, stride=2, padding=1), True),
    "conv, stride 2, no padding, odd": (lambda: conv(31, kernel_size=3, stride=2), True),
    "conv, stride 2, kernel 2, even": (lambda: conv(8, kernel_size=2, stride=2), True),
    "conv, stride 3, padding 0": (lambda: conv(9, kernel_size=3, stride=3), True),
    "conv, stride 3, padding 1": (lambda: conv(9, kernel_size=3, stride=3, padding=1), False),
    "conv, same, even kernel": (lambda: conv(8, kernel_size=4, padding="same"), False),
    "conv, same, odd kernel": (lambda: conv(8, kernel_size=3, padding="same"), True),
    "max pool 2/2, even": (lambda: (nn.MaxPool2d(2, 2), 8), True),
    "max pool 2/2, odd": (lambda: (nn.MaxPool2d(2, 2), 9), False),
    "max pool 2/2, odd, ceil": (lambda: (nn.MaxPool2d(2, 2, ceil_mode=True), 9), False),
    "max pool 3/2/1, odd": (lambda: (nn.MaxPool2d(3, 2, 1), 9), True),
    "max pool 3/2/1, even": (lambda: (nn.MaxPool2d(3, 2, 1), 8), False),
    "avg pool 3/2/1, odd": (lambda: (nn.AvgPool2d(3, 2, 1), 9), True),
    "adaptive to 3 of 8": (lambda: (nn.AdaptiveAvgPool2d(3), 8), True),
    "nearest to a multiple": (lambda: (Resize(16, "nearest"), 8), True),
    "nearest, not a multiple": (lambda: (Resize(12, "nearest"), 8), False),
    "bilinear, not a multiple": (lambda: (Resize(13, "bilinear"), 8), True),
}


@pytest.mark.parametrize("name", CASES)
def test_the_prediction_is_what_a_probe_finds(name: str) -> None:
    make, expected = CASES[name]
    layer, size = make()
    layer = layer.double()
    x = torch.randn(2, 2, size, size, dtype=torch.float64)
    inference = infer(capture(layer, (x,)).module, [rotated(x.shape, 1, 2, 3)])
    predicted = inference.broken is None
    with torch.no_grad():
        plain, turned = layer(x), layer(torch.rot90(x, 1, (2, 3)))
    off = float((turned - torch.rot90(plain, 1, (2, 3))).abs().max() / plain.abs().max())
    assert (off < 1e-12) is expected, off
    assert off < 1e-12 or off > 1e-2
    assert predicted is expected
    if expected:
        assert inference.outputs == (rotated(plain.shape, 1, 2, 3),)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "conv, stride 2, even",
            "stride 2, kernel 3, padding 1 on even width 32: rot90(height, width) does not commute;"
            " width 33, kernel 4 or stride 1 does",
        ),
        (
            "conv, stride 3, padding 1",
            "stride 3, kernel 3, padding 1 on odd width 9: rot90(height, width) does not commute;"
            " width 10, padding 0, kernel 2 or stride 2 does",
        ),
        (
            "max pool 2/2, odd",
            "stride 2, kernel 2 on odd width 9: rot90(height, width) does not commute;"
            " width 10, kernel 3 or stride 1 does",
        ),
        (
            "conv, same, even kernel",
            'padding="same" with kernel 4 pads 1 before and 2 behind: no flip commutes; kernel 5 or 3 does',
        ),
        (
            "nearest, not a multiple",
            "resizing width 8 to 12 does not commute with rot90(height, width): places are rounded to one"
            " side; 16 does",
        ),
    ],
)
def test_the_message_says_what_would_do(name: str, said: str) -> None:
    layer, size = CASES[name][0]()
    x = torch.randn(2, 2, size, size, dtype=torch.float64)
    broken = infer(capture(layer, (x,)).module, [rotated(x.shape, 1, 2, 3)]).broken
    assert broken is not None
    assert broken.reason == said


def test_every_remedy_is_one() -> None:
    for size in range(5, 12):
        for kernel in range(1, 5):
            for stride in range(1, 4):
                for padding in range(3):
                    windows = Windows(size, kernel, stride, padding)
                    if not windows.legal or windows.symmetric:
                        continue
                    for remedy in windows.remedies("width"):
                        field, value = re.fullmatch(r"(\w+) (\d+)", remedy).groups()  # type: ignore[union-attr]
                        values = {"size": size, "kernel": kernel, "stride": stride, "padding": padding}
                        values["size" if field == "width" else field] = int(value)
                        assert Windows(**values).symmetric, (windows, remedy)
