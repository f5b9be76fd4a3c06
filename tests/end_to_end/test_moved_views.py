"""Whole blocks between an action and its inverse lose both, exactly; where windows do not fit, they stay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tdsl

Action = Callable[[Tensor], Tensor]


class Residual(nn.Module):
    """Two convolutions, normalised, beside a shortcut; `of` has the layers for one, two or three axes."""

    def __init__(self, axes: int, stride: int = 1) -> None:
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
        norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[axes]
        self.first, self.second = conv(4, 4, 3, stride, 1), conv(4, 4, 3, padding=1)
        self.norm, self.groups, self.short = norm(4), nn.GroupNorm(2, 4), conv(4, 4, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.first(x)).relu()
        return (self.short(x) + self.groups(self.second(h))).relu()


class Attended(nn.Module):
    """A gate of channel means and maxima, a decoder and a concatenation (Woo et al., 2018; U-Net)."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.gate = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(2, 1, 7, padding=3)
        self.mix = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        folds = [x.mean(1, keepdim=True), x.amax(1, keepdim=True)]
        h = x * self.gate(torch.cat(folds, 1)).sigmoid()
        up = F.interpolate(self.down(F.avg_pool2d(h, 2)).relu(), scale_factor=2.0, mode="bicubic")
        return self.mix(torch.cat([h, up], 1))


class Between(nn.Module):
    """`back(net(go(x)))`."""

    def __init__(self, net: nn.Module, go: Action, back: Action) -> None:
        super().__init__()
        self.net, self.go, self.back = net, go, back

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.net(self.go(x)))


def left(module: nn.Module, example: Tensor) -> list[str]:
    """The actions that the compiled graph has; its outputs are the module's, in float64 too."""
    module.eval()
    result = tdsl.compile(module, (example,), pipeline="pipelines.exact", latency=False)
    double, x = result.module.double(), torch.randn(example.shape, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(double(x), module.double()(x), rtol=1e-5, atol=1e-6)
    names = [str(node.target) for node in result.module.graph.nodes if node.op == "call_function"]
    return [name for name in names if any(word in name for word in ("flip", "roll", "rot90", "permute"))]


VIEWS: dict[str, tuple[Action, Action]] = {
    "flip": (lambda x: x.flip(-1), lambda x: x.flip(-1)),
    "turn": (lambda x: x.rot90(1, (-2, -1)), lambda x: x.rot90(-1, (-2, -1))),
    "transpose": (lambda x: x.transpose(-2, -1), lambda x: x.transpose(-2, -1)),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (Residual(1), (2, 4, 9)),
        (Residual(2, stride=2), (2, 4, 9, 9)),
        (Residual(3), (2, 4, 5, 6, 7)),
        (Attended(), (2, 4, 8, 8)),
    ],
    ids=["sequences", "images", "volumes", "gates"],
)
def test_a_view_of_a_block_disappears(net: nn.Module, shape: tuple[int, ...], view: str) -> None:
    if len(shape) == 3 and view != "flip":
        pytest.skip("a sequence has one axis")
    assert left(Between(net.float(), *VIEWS[view]), torch.randn(shape)) == []


@pytest.mark.parametrize("shift", [1, 2])
def test_a_ring_with_strides_turns_by_whole_strides(shift: int) -> None:
    conv = nn.Conv2d(4, 4, 3, 2, 1, padding_mode="circular")
    net = Between(conv, lambda x: x.roll(shift, 3), lambda x: x.roll(-1, 3))
    assert bool(left(net, torch.randn(2, 4, 8, 8))) == (shift == 1)


@pytest.mark.parametrize(("size", "stays"), [(9, False), (8, True)])
def test_windows_that_do_not_reach_the_end_keep_the_flip(size: int, stays: bool) -> None:
    net = Between(nn.Conv3d(4, 4, 3, 2, 1), *VIEWS["flip"])
    assert bool(left(net, torch.randn(1, 4, 5, 5, size))) == stays


@pytest.mark.parametrize(("padding", "operators"), [(0, 1), (1, 2)])
def test_an_image_is_normalised_by_the_layer_that_reads_it(padding: int, operators: int) -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=padding)
            self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor([0.2, 0.3, 0.25]).view(1, 3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.conv((x - self.mean) / self.std)

    result = tdsl.compile(Normalised().eval(), (torch.rand(1, 3, 8, 8),), latency=False)
    assert sum(node.op == "call_function" for node in result.module.graph.nodes) == operators


def test_a_reflection_of_no_axis_is_no_mistake() -> None:
    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flip(()).select(1, 0).relu()

    assert tdsl.compile(Nothing(), (torch.randn(3, 4, 5),), latency=False).module is not None
