"""Which network a matrix is: the digits of its axes, the ranks of the edges, as few numbers as can be.

Structures are compared by what their cuts say, which costs no fit (`network_cuts`): a network has to have the
rank that is found in every cut, and the right one has no larger rank in any. Digits are found by enumerating
one boundary after the other with the rest fixed, and so are the ranks once a network fits (Li et al., 2023).
Trains in any order of the cores and stars need no such test: their ranks are those of cuts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from tdsl.factor.network_cuts import Bounds, Cuts, Digits
from tdsl.factor.network_fit import Fitter, Ranks, numbers_of
from tdsl.factor.rank import RankRule
from tdsl.factor.splits import divisors, enough

KINDS = (
    ("apart", 2, 2),
    ("apart", 2, 3),
    ("apart", 3, 2),
    ("apart", 3, 3),
    ("paired", 3, 3),
    ("paired", 4, 4),
)
"""Cores with digits of outputs or of inputs alone, or with one of both; how many digits each axis has."""
MOST_CORES = 6
VISIBLE = 1.25
"""A structure shows in a cut whose rank is so many times below full."""
EXAMINED = 4
"""So many networks, those of the fewest numbers first, are fitted."""
SIMPLER = 1.25
"""What a network may hold more for a circle less: with circles enough every rank of a cut can be met."""
CLOSE = 0.05
"""Ranks that exceed those of the cuts by less, all in all and in logarithms, are the same."""

Boundaries = tuple[tuple[int, ...], tuple[int, ...]]
"""Products of the leading digits of outputs and of inputs: where a digit ends and the next one begins."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network that was found."""

    digits: Digits
    ranks: Ranks
    cores: tuple[Tensor, ...]
    """[d, r, …], in the order of the digits."""
    error: float

    @property
    def numbers(self) -> int:
        """How many numbers the cores hold."""
        return numbers_of(self.digits.modes, self.ranks)


@dataclass
class Search:
    """The search for one matrix; `evaluations` counts the fits, each from as many starts as it takes."""

    weight: Tensor
    rule: RankRule
    below: int
    """The network is to hold fewer numbers than this."""
    evaluations: int = 0
    candidates: dict[tuple[Digits, Ranks], int] = field(default_factory=dict)
    """Networks that may be the right one, and how many numbers they hold."""

    def __post_init__(self) -> None:
        self.cuts = Cuts(self.weight, self.rule)
        self._scores: dict[Digits, float] = {}

    def run(self) -> Network | None:
        """The smallest network that is found; `None` without one."""
        if not self.visible():
            return None
        for kind, outputs, inputs in KINDS:
            self.enumerate_digits(kind, outputs, inputs)
        return self.smallest()

    def smallest(self) -> Network | None:
        """The first of the candidates that keeps the rule, its ranks lowered as far as that goes."""
        smaller = [(size, *one) for one, size in self.candidates.items() if size < self.below]
        smaller.sort(key=lambda one: (one[0] * SIMPLER ** _circles(one[1], one[2]), one[1].modes, one[2]))
        fitters: dict[Digits, Fitter] = {}
        for _, digits, ranks in smaller[:EXAMINED]:
            if digits not in fitters:
                fitters[digits] = Fitter(digits.tensor(self.weight))
            self.evaluations += 1
            found = fitters[digits].fit(ranks, self.content)
            if self.content(found.error):
                return self._lowered(fitters[digits], Network(digits, ranks, found.cores, found.error))
        return None

    # ------------------------------------------------------------ digits

    def visible(self) -> bool:
        """Whether some cut between two digits of outputs and two of inputs has a rank far below full."""
        rows, columns = self.weight.shape
        for o, i in itertools.product(divisors(rows)[1:-1], divisors(columns)[1:-1]):
            digits = Digits((o, rows // o, 1, 1), (1, 1, i, columns // i))
            for side in (frozenset({0}), frozenset({2}), frozenset({0, 2}), frozenset({0, 3})):
                if VISIBLE * self.cuts.glanced(digits, side) <= self.cuts.shorter(digits, side):
                    return True
        return False

    def enumerate_digits(self, kind: str, outputs: int, inputs: int) -> None:
        """One boundary after the other where it promises the smallest network, the others fixed."""
        shape = (self.weight.shape[0], self.weight.shape[1])
        at: Boundaries = (_balanced(shape[0], outputs), _balanced(shape[1], inputs))
        if min(_digits(kind, at, shape).modes) == 1:
            return
        places = [(axis, place) for axis in (0, 1) for place in range(len(at[axis]))]
        changed = True
        while changed:
            changed = False
            for axis, place in places:
                moved = _moved(at, axis, place, shape[axis])
                ways = [way for way in moved if min(_digits(kind, way, shape).modes) > 1]
                score, least = min((self.score(_digits(kind, way, shape)), way) for way in ways)
                if score < self.score(_digits(kind, at, shape)):
                    at, changed = least, True

    def score(self, digits: Digits) -> float:
        """How many numbers the cuts demand, and how far from them such a network is, in logarithms.

        What is no further from them than rounding, trains and stars become candidates.
        """
        if digits not in self._scores:
            bounds = Bounds(self.cuts, digits)
            ranks = bounds.least()
            excess = bounds.excess(ranks)
            self._scores[digits] = math.log(numbers_of(digits.modes, ranks)) + excess / digits.count
            if excess < CLOSE:
                self.candidates[digits, ranks] = numbers_of(digits.modes, ranks)
            train = bounds.train()
            self.candidates[digits, train] = numbers_of(digits.modes, train)
            if digits.count < MOST_CORES:
                hidden, star = digits.with_hidden(), bounds.star()
                self.candidates[hidden, star] = numbers_of(hidden.modes, star)
        return self._scores[digits]

    # ------------------------------------------------------------ ranks

    def _lowered(self, fitter: Fitter, network: Network) -> Network:
        """One rank after the other lowered while the network still keeps the rule, what saves most first."""
        bounds = Bounds(self.cuts, network.digits)
        while True:
            ways = [way for way in _one_less(network.ranks) if bounds.enough(way)]
            for way in sorted(ways, key=lambda way: (numbers_of(fitter.modes, way), way)):
                self.evaluations += 1
                found = fitter.fit(way, self.content)
                if self.content(found.error):
                    network = Network(network.digits, way, found.cores, found.error)
                    break
            else:
                return network

    def content(self, error: float) -> bool:
        """Whether the rule is content with a relative error."""
        return enough(self.rule, math.sqrt(max(0.0, 1 - error**2)), error)


def _digits(kind: str, at: Boundaries, shape: tuple[int, int]) -> Digits:
    outputs, inputs = (_between(ends, size) for ends, size in zip(at, shape, strict=True))
    if kind == "paired":
        return Digits(outputs, inputs)
    return Digits((*outputs, *[1] * len(inputs)), (*[1] * len(outputs), *inputs))


def _between(boundaries: tuple[int, ...], size: int) -> tuple[int, ...]:
    return tuple(b // a for a, b in itertools.pairwise((1, *boundaries, size)))


def _balanced(size: int, count: int) -> tuple[int, ...]:
    """Boundaries of digits that are as equal as the divisors allow."""
    found: list[int] = []
    for place in range(1, count):
        before = found[-1] if found else 1
        wanted = before * (size / before) ** (1 / (count - place + 1))
        options = [d for d in divisors(size) if d % before == 0]
        found.append(min(options, key=lambda d: (abs(math.log(d / wanted)), d)))
    return tuple(found)


def _circles(digits: Digits, ranks: Ranks) -> int:
    """How many edges there are beyond those of a tree."""
    return max(0, sum(rank > 1 for rank in ranks) - digits.count + 1)


def _moved(at: Boundaries, axis: int, place: int, size: int) -> Iterator[Boundaries]:
    """The same with one boundary wherever its neighbours allow."""
    ends = (1, *at[axis], size)
    for option in divisors(size):
        if option % ends[place] == 0 and ends[place + 2] % option == 0:
            moved = (*at[axis][:place], option, *at[axis][place + 1 :])
            yield (moved, at[1]) if axis == 0 else (at[0], moved)


def _one_less(ranks: Ranks) -> Iterator[Ranks]:
    for edge, rank in enumerate(ranks):
        if rank > 1:
            yield (*ranks[:edge], rank - 1, *ranks[edge + 1 :])
