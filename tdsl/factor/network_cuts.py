"""What the cuts of a matrix say of every network that stands for it, before any is fitted.

The axes of W [m, n] are written in digits, outputs o₁ o₂ … and inputs i₁ i₂ …, the last one running fastest,
and core k of a network has oₖ and iₖ. Putting some of the cores on one side makes a matrix of W, whose rank
no network can do without: the ranks of the edges between the sides multiply to it or to more. Ranks are
read off random projections, once for each set of digits.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tdsl.factor.matrix import SEED
from tdsl.factor.network_fit import Ranks, edges
from tdsl.factor.rank import RankRule

SKETCHES = (48, 256)
"""Rows of the random projections of a cut: the second one is for ranks that the first one does not show."""

ROUNDING = 1e-9
"""Logarithms this close are equal."""

FloatArray = NDArray[np.float64]
Range = tuple[int, int]
"""Digits by the products of what comes before them and of that with them."""

Cut = tuple[tuple[Range, ...], tuple[Range, ...]]
"""The digits of outputs and of inputs on one side."""


@dataclass(frozen=True, slots=True)
class Digits:
    """The digits of outputs and inputs, one pair for each core; a core that has neither is (1, 1)."""

    outputs: tuple[int, ...]
    inputs: tuple[int, ...]

    @property
    def modes(self) -> tuple[int, ...]:
        """The size of the axis that each core has in the tensor."""
        return tuple(o * i for o, i in zip(self.outputs, self.inputs, strict=True))

    @property
    def count(self) -> int:
        """How many cores there are."""
        return len(self.outputs)

    def tensor(self, weight: Tensor) -> Tensor:
        """The matrix [m, n] as a tensor [o₁·i₁, o₂·i₂, …]."""
        count = self.count
        split = weight.reshape(*self.outputs, *self.inputs)
        pairs = split.permute(*(place for k in range(count) for place in (k, count + k)))
        return pairs.reshape(self.modes)

    def matrix(self, tensor: Tensor) -> Tensor:
        """The tensor [o₁·i₁, o₂·i₂, …] as a matrix [m, n]."""
        count = self.count
        split = tensor.reshape(
            [size for pair in zip(self.outputs, self.inputs, strict=True) for size in pair]
        )
        apart = split.permute(*range(0, 2 * count, 2), *range(1, 2 * count, 2))
        return apart.reshape(math.prod(self.outputs), math.prod(self.inputs))

    def with_hidden(self) -> Digits:
        """The same with one more core, which has no axis of the tensor."""
        return Digits((*self.outputs, 1), (*self.inputs, 1))


@dataclass
class Cuts:
    """The ranks of a matrix cut between digits, as a rule on its error has them."""

    weight: Tensor
    rule: RankRule
    known: dict[tuple[Cut, int], int] = field(default_factory=dict)

    def rank(self, digits: Digits, cores: frozenset[int]) -> int:
        """The rank that a cut has with these cores on one side; its shorter side where it is not small."""
        return self._remembered(digits, cores, SKETCHES)

    def glanced(self, digits: Digits, cores: frozenset[int]) -> int:
        """The same by the first projection alone."""
        return self._remembered(digits, cores, SKETCHES[:1])

    def _remembered(self, digits: Digits, cores: frozenset[int], sketches: Sequence[int]) -> int:
        parts = (cores, frozenset(range(digits.count)) - cores)
        keys = [(_ranges(digits.outputs, side), _ranges(digits.inputs, side)) for side in parts]
        if ((), ()) in keys:
            return 1
        key = min(keys)
        if (key, len(sketches)) not in self.known:
            self.known[key, len(sketches)] = self._rank(digits, parts[keys.index(key)], sketches)
        return self.known[key, len(sketches)]

    def shorter(self, digits: Digits, cores: frozenset[int]) -> int:
        """The largest rank that a cut could have."""
        one = math.prod(mode for core, mode in enumerate(digits.modes) if core in cores)
        return min(one, self.weight.numel() // one)

    def _rank(self, digits: Digits, cores: frozenset[int], sketches: Sequence[int]) -> int:
        count = digits.count
        rows = [k for k in range(2 * count) if k % count in cores]
        columns = [k for k in range(2 * count) if k % count not in cores]
        split = self.weight.reshape(*digits.outputs, *digits.inputs)
        height = math.prod(split.shape[k] for k in rows)
        matrix = split.permute(*rows, *columns).reshape(height, -1)
        shorter = min(matrix.shape)
        for most in sketches:
            values = _projected(matrix, most)
            rank = self.rule.select(values, len(values))
            if shorter <= most or 4 * rank <= 3 * most:
                return rank
        return shorter


def _projected(matrix: Tensor, most: int) -> Tensor:
    """Singular values of a matrix, or of a random projection where its sides are longer than `most`."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    shorter, longer = wide.shape
    if shorter > most:
        wide = _mix(most, shorter) @ wide
        if longer > 3 * most:
            wide = wide @ _mix(3 * most // 2, longer).T
    # The triangle of a QR has the singular values at a fraction of the price, and to full precision.
    values: Tensor = torch.linalg.svdvals(torch.linalg.qr(wide.T, mode="r").R)
    return values


@functools.lru_cache(maxsize=64)
def _mix(rows: int, columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(SEED)
    mix: Tensor = torch.randn(rows, columns, generator=generator, dtype=torch.float64) / rows**0.5
    return mix


def _ranges(digits: tuple[int, ...], cores: frozenset[int]) -> tuple[Range, ...]:
    """The digits of some cores that are larger than 1, neighbours joined."""
    found: list[Range] = []
    before = 1
    for core, digit in enumerate(digits):
        if digit > 1 and core in cores:
            if found and found[-1][1] == before:
                found[-1] = (found[-1][0], before * digit)
            else:
                found.append((before, before * digit))
        before *= digit
    return tuple(found)


# ---------------------------------------------------------------- the ranks of edges


def _subsets(count: int) -> list[frozenset[int]]:
    """Every set of cores."""
    return [frozenset(k for k in range(count) if mask >> k & 1) for mask in range(1 << count)]


class Bounds:
    """What the ranks of the edges have to multiply to, for every cut; and the smallest ranks that do."""

    def __init__(self, cuts: Cuts, digits: Digits) -> None:
        self.modes = digits.modes
        count = digits.count
        most = _subsets(count)
        every = [side for side in most[:-1] if 0 in side]
        self.ranks = [cuts.rank(digits, side) for side in most]
        self.needs = np.log([self.ranks[most.index(side)] for side in every])
        self.sizes = np.array(self.modes, dtype=np.float64)
        self.touching = np.array([[float(k in edge) for edge in edges(count)] for k in range(count)])
        self.crossing = _parted(every, count)
        self.parted = _parted(most, count)
        inside, wanted = (np.array([[k in side for k in range(count)] for side in s]) for s in (most, every))
        self.astray = (inside[None] != wanted[:, None]) @ np.log(self.sizes)

    def enough(self, ranks: Ranks) -> bool:
        """Whether every cut has the rank that it needs."""
        return bool(self._missing(np.array([ranks]))[0] < ROUNDING)

    def excess(self, ranks: Ranks) -> float:
        """By how much the ranks that such a network has in its cuts exceed those found, in logarithms.

        Its rank in a cut is that of the narrowest place between the axes of the two sides (max-flow min-cut;
        Cui et al., 2016), for nearly all cores. Another network than the right one exceeds some.
        """
        shown = (self.parted @ np.log(ranks) + self.astray).min(1)
        return float((shown - self.needs).sum())

    def least(self) -> Ranks:
        """The smallest ranks found that are enough.

        They grow from 1 on, always that edge which takes away most for the numbers it costs, and are trimmed.
        """
        ranks = np.ones((1, self.crossing.shape[1]))
        step = np.eye(self.crossing.shape[1])
        lack, held = self._missing(ranks)[0], self._numbers(ranks)[0]
        while lack > ROUNDING:
            ways = ranks + step
            missing, numbers = self._missing(ways), self._numbers(ways)
            edge = int(((lack - missing) / (numbers - held)).argmax())
            ranks, lack, held = ways[edge], missing[edge], numbers[edge]
        return self._trimmed(ranks.reshape(-1))

    def star(self) -> Ranks:
        """Every core joined with one more, which has no axis of the tensor, alone (Tucker, 1966)."""
        count = len(self.modes)
        return tuple(self.ranks[1 << k] if other == count else 1 for k, other in edges(count + 1))

    def train(self) -> Ranks:
        """The smallest train, its cores in any order (Oseledets, 2011): the ranks are those of its cuts.

        By dynamic programming over what comes first.
        """
        count, whole = len(self.modes), (1 << len(self.modes)) - 1
        best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
        for mask in range(1, whole + 1):
            ways = []
            for core in (k for k in range(count) if mask >> k & 1):
                held, order = best[mask ^ 1 << core]
                size = self.ranks[mask ^ 1 << core] * self.modes[core] * self.ranks[mask]
                ways.append((held + size, (*order, core)))
            best[mask] = min(ways)
        ranks, before = dict.fromkeys(edges(count), 1), 0
        for k, following in itertools.pairwise(best[whole][1]):
            before |= 1 << k
            ranks[min(k, following), max(k, following)] = self.ranks[before]
        return tuple(ranks.values())

    def _trimmed(self, ranks: FloatArray) -> Ranks:
        """Ranks that are enough, made fewer: an edge less, or one or two more and others less."""
        count = len(ranks)
        up = np.array([*np.eye(count), *(_one(count, k) + _one(count, other) for k, other in _pairs(count))])
        best = self._lowered(ranks[None], np.zeros((1, count), dtype=bool))[0]
        while True:
            ways = self._lowered(best + up, up > 0)
            numbers = self._numbers(ways)
            if numbers.min() >= self._numbers(best[None])[0] - 0.5:
                return tuple(round(rank) for rank in best.tolist())
            best = ways[int(numbers.argmin())]

    def _lowered(self, ranks: FloatArray, kept: NDArray[np.bool_]) -> FloatArray:
        """Each row with one rank after the other lowered as far as the cuts allow, what saves most first."""
        ranks, step = ranks.copy(), np.eye(ranks.shape[1])
        active = np.arange(len(ranks))
        while len(active):
            ways = (ranks[active, None] - step).clip(min=1)
            flat = ways.reshape(-1, ranks.shape[1])
            possible = (ranks[active] > 1) & ~kept[active]
            possible &= (self._missing(flat) < ROUNDING).reshape(possible.shape)
            numbers = np.where(possible, self._numbers(flat).reshape(possible.shape), np.inf)
            chosen, some = numbers.argmin(1), possible.any(1)
            active, chosen = active[some], chosen[some]
            ranks[active, chosen] -= 1
        return ranks

    def _missing(self, ranks: FloatArray) -> FloatArray:
        """How much the edges between the sides lack, all cuts together, in logarithms. [z, e] → [z]."""
        lacking: FloatArray = (self.needs - np.log(ranks) @ self.crossing.T).clip(min=0).sum(1)
        return lacking

    def _numbers(self, ranks: FloatArray) -> FloatArray:
        """How many numbers the cores hold. [z, e] → [z]."""
        numbers: FloatArray = np.exp(np.log(ranks) @ self.touching.T) @ self.sizes
        return numbers


def _pairs(count: int) -> itertools.combinations[tuple[int, int]]:
    return itertools.combinations(range(count), 2)


def _one(count: int, place: int) -> FloatArray:
    unit = np.zeros(count)
    unit[place] = 1
    return unit


def _parted(parts: Sequence[frozenset[int]], count: int) -> FloatArray:
    """Which edges go from inside to outside of each set of cores."""
    return np.array([[float((k in part) != (other in part)) for k, other in edges(count)] for part in parts])
