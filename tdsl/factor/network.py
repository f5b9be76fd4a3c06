"""A weight matrix as a tensor network of at most six cores: trains, rings, stars and what lies between.

Outputs and inputs are written in digits, core k has an output digit, an input digit and an edge to every
other core, most of them of rank 1. Where a rule bounds the error, the network of the fewest numbers is sought
(`network_search`); at a given size it is the train of that size, fitted, and then other ranks of as many
numbers. Everything is computed and returned in float64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tdsl.factor.contraction import axes_of, within_room
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.kronecker import tensor_train
from tdsl.factor.matrix import checked
from tdsl.factor.memo import memoised
from tdsl.factor.network_cuts import Digits
from tdsl.factor.network_fit import Fit, Fitter, Ranks, numbers_of, resized
from tdsl.factor.network_search import MOST_CORES, Search
from tdsl.factor.rank import RankRule, UnreachableRankError, as_rank_rule

LARGEST = 1 << 20
"""Numbers of the largest weight in which a network is sought."""
LARGEST_FITTED = 1 << 18
"""Numbers of the largest weight of which a network of a given size is fitted, and not only truncated."""
WIDEST = 128
"""Products of ranks at a core up to which that is so."""
TURNS = 6
"""Most exchanges of rank between edges at a given size."""

Cores = tuple[Tensor, ...]


def tensor_network(weight: Tensor, rank: object) -> Cores:
    """Cores of a tensor network (Hashemizadeh et al., 2020; Li et al., 2023).

    [m, n] → six cores [o, i, r, r, r, r, r], the ranks those of a core's edges to the others in order, with
    m = o₁ ⋯ o₆ and n = i₁ ⋯ i₆. `rank` is anything `as_rank_rule` takes: a bound on the error asks for the
    network of the fewest numbers, which is the weight itself where none is found, a ratio for the least error
    at that share of the numbers, a number for a train of these ranks. Raises `TdslError` for a weight that is
    no finite matrix, `UnreachableRankError` for one of more than `LARGEST` numbers or without such a network.
    """
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    if exact.numel() > LARGEST:
        raise UnreachableRankError(f"networks of weights of more than {LARGEST} numbers are not sought")
    return _found(exact, rule)


def network_product(*cores: Tensor) -> Tensor:
    """The matrix of a network. [o, i, r, …] for each core → [o₁·o₂ ⋯, i₁·i₂ ⋯]."""
    count = len(cores)
    names = {
        axis: place for place, axis in enumerate(sorted({a for k in range(count) for a in axes_of(k, count)}))
    }
    arguments: list[object] = []
    for k, core in enumerate(cores):
        arguments += [core, [names[axis] for axis in axes_of(k, count)]]
    out = [names[side, k, k] for side in "oi" for k in range(count)]
    whole: Tensor = torch.einsum(*arguments, out)
    return whole.reshape(math.prod(core.shape[0] for core in cores), -1)


@memoised
def _found(weight: Tensor, rule: RankRule) -> Cores:
    if not rule.spectral:
        return _of_size(weight, rule)
    whole = (weight.reshape(*weight.shape, *[1] * (MOST_CORES - 1)), *_ones(MOST_CORES - 1))
    return sought(weight, rule, weight.numel()) or whole


def sought(weight: Tensor, rule: RankRule, below: int) -> Cores | None:
    """The network of the fewest numbers that a bound on the error allows, if these are fewer than `below`.

    [m, n] float64 → cores as those of `tensor_network`. `None` for weights of more than `LARGEST`, too.
    """
    if not 0 < weight.numel() <= LARGEST or not weight.any():
        return None
    found = Search(weight, rule, below).run()
    if found is None:
        return None
    cores = _split(found.digits, found.cores)
    return cores if within_room([tuple(core.shape) for core in cores]) else None


def _split(digits: Digits, cores: Sequence[Tensor]) -> Cores:
    """Cores [d, r, …] with their digits apart, and as many more as there are places for."""
    missing = MOST_CORES - len(cores)
    apart = [
        core.reshape(o, i, *core.shape[1:], *[1] * missing)
        for o, i, core in zip(digits.outputs, digits.inputs, cores, strict=True)
    ]
    return (*apart, *_ones(missing))


def _ones(count: int) -> Cores:
    return (torch.ones([1] * (MOST_CORES + 1), dtype=torch.float64),) * count


# ---------------------------------------------------------------- at a given size


def _of_size(weight: Tensor, rule: RankRule) -> Cores:
    """The train of that size, its cores fitted, and whatever rank does better on another edge."""
    first, second, third = tensor_train(weight, rule)
    (o1, i1, r), (_, o2, i2, s), (_, o3, i3) = first.shape, second.shape, third.shape
    digits, ranks = Digits((o1, o2, o3), (i1, i2, i3)), (r, 1, s)
    train = (
        first.reshape(o1 * i1, r, 1),
        second.movedim(0, 2).reshape(o2 * i2, r, s),
        third.movedim(0, 2).reshape(o3 * i3, 1, s),
    )
    if weight.numel() > LARGEST_FITTED or r * s > WIDEST or not weight.any():
        return _split(digits, train)
    return _split(digits, _exchanged(Fitter(digits.tensor(weight)), ranks, train).cores)


def _exchanged(fitter: Fitter, ranks: Ranks, start: Sequence[Tensor]) -> Fit:
    """The best fit that is found by giving one edge rank that others lose, the size fixed."""
    size = numbers_of(fitter.modes, ranks)
    best = fitter.fit(ranks, lambda _: True, start)
    for _ in range(TURNS):
        ways = list(_exchanges(fitter.modes, ranks, size))
        fits = [fitter.fit(way, lambda _: True, resized(best.cores, way)) for way in ways]
        closest = min(range(len(fits)), key=lambda place: fits[place].error, default=None)
        if closest is None or fits[closest].error >= best.error:
            return best
        best, ranks = fits[closest], ways[closest]
    return best


def _exchanges(modes: Sequence[int], ranks: Ranks, size: int) -> Iterator[Ranks]:
    """Ranks with one edge one more and another one less, as far as that keeps the size."""
    for up, down in itertools.permutations(range(len(ranks)), 2):
        way = tuple(rank + (edge == up) for edge, rank in enumerate(ranks))
        while way[down] > 1 and numbers_of(modes, way) > size:
            way = tuple(rank - (edge == down) for edge, rank in enumerate(way))
        if numbers_of(modes, way) <= size and way != ranks:
            yield way


def _core_names(core: int) -> str:
    """The axes of a core, as a form has them: `[o1, i1, r12, r13, …]`."""
    pairs = (sorted((core, other)) for other in range(MOST_CORES) if other != core)
    ranks = (f"r{first + 1}{second + 1}" for first, second in pairs)
    return "[" + ", ".join([f"o{core + 1}", f"i{core + 1}", *ranks]) + "]"


DECLARED = (
    Decomposition(
        name="tensor_network",
        params=("W", "rank"),
        results=MOST_CORES,
        function=tensor_network,
        promise_text="W[o, i] ≈ the sum over all edges of the product of the cores",
        promise=network_product,
        forms=forms("[M, N] -> " + ", ".join(map(_core_names, range(MOST_CORES)))),
        source="Hashemizadeh et al., 2020; Li et al., 2023",
        doc="A matrix as a tensor network of at most six cores: a train, a ring, a star, what lies between.",
    ),
)
