"""Whether a weight can be the same along the orbits of permutations of n indices, by a look at a few entries.

What permutations leave alone has equal entries all along an orbit. Pairs of entries of one orbit, no entry
in two pairs, bound the distance to such weights from below: squared, it is at least the sum of their squared
differences, halved. Random weights are refused by a few pairs. What is left is asked by a product for many
groups at once (`displaced`), which refuses what is symmetric but for an entry.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tdsl.factor.displaced import Orders, allowed, displacements
from tdsl.factor.rank import RankRule
from tdsl.factor.splits import enough

FEW, MANY = 32, 4096
"""Pairs that are looked at first, and of what is left."""

AT_ONCE = 64
"""Layouts that are asked by one product."""

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of one group of a weight: so many of size n in its rows, and in its columns."""

    n: int
    outputs: int
    inputs: int


@dataclass(frozen=True)
class Layout:
    """The rows and the columns of a weight as axes of groups, one group after the other, and channels."""

    groups: tuple[Axes, ...]
    rows: int
    columns: int
    channels_last: bool

    @property
    def positions(self) -> tuple[int, int]:
        """How many positions rows and columns have, channels apart."""
        return self._count("outputs"), self._count("inputs")

    def _count(self, side: str) -> int:
        return int(np.prod([group.n ** getattr(group, side) for group in self.groups], dtype=np.int64))

    @property
    def sizes(self) -> tuple[list[int], list[int]]:
        """The size of every axis of the rows, and of the columns."""
        return (
            [group.n for group in self.groups for _ in range(group.outputs)],
            [group.n for group in self.groups for _ in range(group.inputs)],
        )

    def view(self, weight: Tensor) -> Tensor:
        """[m, n_in] → [C_out, C_in, output axes…, input axes…]."""
        (outputs, inputs), (out, into) = self.sizes, self.positions
        p, q = self.rows // out, self.columns // into
        outer, inner = ([*outputs, p], [*inputs, q]) if self.channels_last else ([p, *outputs], [q, *inputs])
        split = weight.reshape(*outer, *inner)
        if self.channels_last:
            return split.movedim((len(outputs), -1), (0, 1))
        return split.movedim(len(outputs) + 1, 1)

    def index(self, side: int, digits: Sequence[Places], channel: Places) -> Places:
        """The row (side 0) or column (1) of a position, given digit by digit, and a channel."""
        place = np.zeros_like(channel)
        for size, digit in zip(self.sizes[side], digits, strict=True):
            place = place * size + digit
        positions = self.positions[side]
        channels = (self.rows, self.columns)[side] // positions
        return place * channels + channel if self.channels_last else channel * positions + place


def likely(weight: Tensor, norm: float, layouts: Iterable[Layout], rule: RankRule) -> Iterator[Layout]:
    """Those of the layouts at which `rule` may allow the distance. [m, n_in], of that Frobenius norm.

    They are asked some at a time, as they are wanted.
    """
    left = (
        layout
        for layout in layouts
        if conceivable(weight, norm, layout, rule) and conceivable(weight, norm, layout, rule, MANY)
    )
    count = 1  # what is there is mostly the first
    while some := list(itertools.islice(left, count)):
        shown = displacements(weight, [turn for layout in some for turn in turned(layout)])
        for layout, pair in zip(some, zip(shown[::2], shown[1::2], strict=True), strict=True):
            if allowed(rule, norm, max(pair)):
                yield layout
        count = AT_ONCE


def turned(layout: Layout) -> tuple[Orders, Orders]:
    """Orders of rows and columns: every axis in a cycle, no index where it was, and two indices exchanged.

    For one group these generate all permutations.
    """
    random = torch.Generator().manual_seed(0)
    rings = [torch.randperm(group.n, generator=random) for group in layout.groups]
    cycles = [torch.empty_like(ring).index_copy(0, ring, ring.roll(1)) for ring in rings]
    exchanges = [torch.arange(len(ring)).index_copy(0, ring[:2], ring[:2].flip(0)) for ring in rings]
    return _orders(layout, cycles), _orders(layout, exchanges)


def _orders(layout: Layout, turns: Sequence[Tensor]) -> Orders:
    outputs, inputs = (
        [turn for turn, count in zip(turns, counts, strict=True) for _ in range(count)]
        for counts in zip(*((group.outputs, group.inputs) for group in layout.groups), strict=True)
    )
    return _moved(layout, 0, outputs), _moved(layout, 1, inputs)


def conceivable(weight: Tensor, norm: float, layout: Layout, rule: RankRule, count: int = FEW) -> bool:
    """Whether so many pairs leave a distance that `rule` allows. [m, n_in], of that Frobenius norm."""
    return _content(rule, norm, _differences(weight, layout, count))


def _content(rule: RankRule, norm: float, squared: float) -> bool:
    return enough(rule, max(0.0, norm**2 - squared) ** 0.5, squared**0.5)


def _differences(weight: Tensor, layout: Layout, count: int) -> float:
    """A lower bound of the squared distance, from so many random pairs."""
    random = np.random.default_rng(count)
    digits: tuple[list[Places], list[Places]] = ([], [])
    moved: tuple[list[Places], list[Places]] = ([], [])
    for group in layout.groups:
        step, factor = random.integers(1, group.n, count), _unit(group.n, random)
        for side, axes in enumerate((group.outputs, group.inputs)):
            for _ in range(axes):
                drawn = random.integers(0, group.n, count)
                digits[side].append(drawn)
                moved[side].append((drawn * factor + step) % group.n)
    channels = [
        random.integers(0, size // positions, count)
        for size, positions in zip((layout.rows, layout.columns), layout.positions, strict=True)
    ]
    before = [layout.index(side, digits[side], channels[side]) for side in (0, 1)]
    after = [layout.index(side, moved[side], channels[side]) for side in (0, 1)]
    first, second = (rows * layout.columns + columns for rows, columns in (before, after))
    _, places, times = np.unique(np.concatenate([first, second]), return_inverse=True, return_counts=True)
    alone = times[places] == 1
    apart = alone[:count] & alone[count:]
    flat = weight.reshape(-1)
    one, other = (flat[torch.from_numpy(places[apart])] for places in (first, second))
    return float((one - other).square().sum()) / 2


def _unit(n: int, random: np.random.Generator) -> int:
    """A factor that permutes the residues of n."""
    units = [factor for factor in range(1, min(n, 64)) if np.gcd(factor, n) == 1] or [1]
    return int(units[random.integers(len(units))])


def _moved(layout: Layout, side: int, turns: Sequence[Tensor]) -> Tensor:
    """The order of the rows or columns when every axis is turned."""
    sizes, positions = layout.sizes[side], layout.positions[side]
    place = torch.zeros((), dtype=torch.int64)
    for size, turn in zip(sizes, turns, strict=True):
        place = place[..., None] * size + turn
    channels = (layout.rows, layout.columns)[side] // positions
    flat = place.flatten()
    if layout.channels_last:
        return (flat[:, None] * channels + torch.arange(channels)).flatten()
    return (torch.arange(channels)[:, None] * positions + flat).flatten()
