"""Steps and images, windows, orders of tokens around a net: what disappears leaves nothing under `exact`."""

from __future__ import annotations

import pytest
import torch
from rule_cases import operators, randomised, relative_error
from torch import Tensor, nn

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.strategy import Runner

WIDTH = 6
LAYERS = {
    "attention": lambda first: Alone(first),
    "encoder": lambda first: nn.TransformerEncoderLayer(WIDTH, 2, 8, dropout=0.0, batch_first=not first),
    "encoder, norms first": lambda first: nn.TransformerEncoderLayer(
        WIDTH, 3, 8, dropout=0.0, batch_first=not first, norm_first=True
    ),
}
"""A net by name, with steps or images first."""


class Alone(nn.Module):
    """An attention of a value to itself."""

    def __init__(self, steps_first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=not steps_first)

    def forward(self, x: Tensor) -> Tensor:
        """[b, t, 6], or [t, b, 6], to the same."""
        result: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return result


class Exchanged(nn.Module):
    """A net that takes steps first on values that have images first, exchanged before and, or not, behind."""

    def __init__(self, net: nn.Module, behind: bool = True) -> None:
        super().__init__()
        self.net, self.behind = net, behind

    def forward(self, x: Tensor) -> Tensor:
        """[b, t, 6] to [b, t, 6], or to [t, b, 6]."""
        result: Tensor = self.net(x.transpose(0, 1))
        return result.transpose(0, 1) if self.behind else result


def left(model: nn.Module, sizes: tuple[int, ...] = (3, 5, WIDTH)) -> int:
    """How many operators of a model are left; it computes what it did, in float64."""
    model = randomised(model).eval()
    draws = [torch.randn(sizes, generator=torch.Generator().manual_seed(n)).double() for n in range(2)]
    captured = capture(model, (draws[0],))
    module = copied(captured.module)
    library = standard_library()
    Runner(library, library.pipeline("exact"), {}).run(module, Journal())
    with torch.no_grad():
        wanted, found = [model(x) for x in draws], [module(x) for x in draws]
    assert all(relative_error(a, b) < 1e-10 for a, b in zip(wanted, found, strict=True))
    assert float((wanted[0] - wanted[1]).abs().max()) > 1e-3
    return operators(module)


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_exchanged_around_it_takes_no_operator(name: str) -> None:
    assert left(Exchanged(LAYERS[name](True))) == left(LAYERS[name](False))


@pytest.mark.parametrize("name", ["encoder", "encoder, norms first"])
def test_what_is_exchanged_before_it_alone_is_left(name: str) -> None:
    assert left(Exchanged(LAYERS[name](True), behind=False)) > left(Exchanged(LAYERS[name](True)))


class Windows(nn.Module):
    """A perceptron on the windows of a rolled image (Swin; Liu et al., 2021); it may mix their tokens."""

    def __init__(self, mixes: bool, roll: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(WIDTH, 8), nn.GELU(), nn.Linear(8, WIDTH))
        self.norm, self.mixes, self.roll = nn.LayerNorm(WIDTH), mixes, roll

    def forward(self, x: Tensor) -> Tensor:
        """[b, 4, 4, 6] to the same."""
        y = torch.roll(self.norm(x), (-self.roll, -self.roll), (1, 2))
        y = y.view(-1, 2, 2, 2, 2, WIDTH).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, WIDTH)
        y = self.net(y - y.mean(1, keepdim=True) if self.mixes else y)
        y = y.view(-1, 2, 2, 2, 2, WIDTH).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 4, WIDTH)
        return x + torch.roll(y, (self.roll, self.roll), (1, 2))


def test_windows_are_left_where_their_tokens_are_mixed_alone() -> None:
    norm_two_layers_activation_and_sum = 5
    assert left(Windows(mixes=False, roll=1), (2, 4, 4, WIDTH)) == norm_two_layers_activation_and_sum
    assert left(Windows(mixes=True, roll=1), (2, 4, 4, WIDTH)) > left(Windows(True, 0), (2, 4, 4, WIDTH))


class Reordered(nn.Module):
    """An attention with its weights, or without, of tokens to others that are in reverse."""

    def __init__(self, weights: bool, reverse: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.weights, self.reverse = weights, reverse

    def forward(self, x: Tensor) -> Tensor:
        """[b, t, 6] to [b, 2, 6], times the largest weight of each query."""
        others = x.flip(1) if self.reverse else x
        y, weights = self.attention(x[:, :2], others, others, need_weights=self.weights)
        result: Tensor = y * weights.amax(-1, keepdim=True) if self.weights else y
        return result


@pytest.mark.parametrize("weights", [False, True])
def test_keys_in_reverse_are_keys(weights: bool) -> None:
    assert left(Reordered(weights, reverse=True)) == left(Reordered(weights, reverse=False))
