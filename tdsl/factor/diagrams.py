"""Weights between tensors of several axes that treat n items alike, of any order, found without being told.

A layer from tensors of k axes to tensors of l axes, with channels, that commutes with all permutations of n
items is a sum of diagrams (Maron et al., 2019): partitions of the l + k axes into blocks of equal indices,
each with a mix of channels. Those of layers that commute with O(n) too are pairings (Brauer, 1937), so that
they are found as sums of few diagrams. n, k and l are read off the shape of the weight, coefficients are
means over orbits, and the distance is the certificate. Everything is computed and returned in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.diagram_parts import joined
from tdsl.factor.matrix import checked
from tdsl.factor.orbit_probe import Axes, Layout, likely
from tdsl.factor.orbits import incidence, nearest, pattern_of, patterns
from tdsl.factor.rank import RankRule, as_rank_rule
from tdsl.factor.splits import Way, best, divisors, enough
from tdsl.symmetry.diagrams import dimension
from tdsl.symmetry.diagrams.diagram import Labels
from tdsl.symmetry.diagrams.partitions import size

MOST_POINTS = 6
"""Largest k + l: 203 diagrams."""

Factors = tuple[Tensor, Tensor, Tensor, Tensor]


def diagrams(weight: Tensor, rank: object) -> Factors:
    """The nearest weight that treats n items alike, between tensors of k axes and of l, channels last.

    [m, n_in] → K [d, p, q], the mix of channels of each diagram that counts; out [d, l] and into [d, k], the
    blocks of its axes; items [n] (their numbers), with m = n^l·p and n_in = n^k·q. `rank` is anything
    `as_rank_rule` takes; where it bounds the error, the orders with the fewest numbers that keep the bound
    are taken (none, k = l = 0, always do), otherwise those of the smallest error. Items in one axis on both
    sides alone, k = l = 1, are for `exchangeable`. Raises `TdslError` for a weight that is no finite matrix.
    """
    return _factors(weight, rank, channels_last=True)


def diagrams_planes(weight: Tensor, rank: object) -> Factors:
    """As `diagrams`, with the entries of a channel side by side."""
    return _factors(weight, rank, channels_last=False)


def _product(*, channels_last: bool) -> Callable[..., Tensor]:
    def product(mixes: Tensor, *structure: Tensor) -> Tensor:
        """The weight of these diagrams. [d, p, q], and [d, l], [d, k], [n] for each group → [m, n_in]."""
        found = joined(*structure)
        _, p, q = mixes.shape
        rows, columns = math.prod(found.outputs), math.prod(found.inputs)
        kinds, ids = torch.unique(
            patterns((*found.outputs, *found.inputs), found.groups), return_inverse=True
        )
        wanted = torch.tensor([pattern_of((*out, *into), found.groups) for out, into in found.labels])
        entries = torch.einsum("od,dpq->opq", incidence(kinds, wanted).to(mixes.dtype), mixes)
        whole = entries[ids.reshape(rows, columns)].permute(0, 2, 1, 3)
        if not channels_last:
            whole = whole.permute(1, 0, 3, 2)
        return whole.reshape(rows * p, columns * q)

    return product


diagrams_product = _product(channels_last=True)
diagrams_planes_product = _product(channels_last=False)


@dataclass(frozen=True, slots=True)
class Found:
    """The diagrams that count in a weight, each as the blocks of output and input axes of every group."""

    layout: Layout
    labels: tuple[tuple[Labels, ...], ...]
    """For each diagram a partition of the axes of each group, outputs first."""
    mixes: Tensor
    """[d, p, q]."""


def _factors(weight: Tensor, rank: object, *, channels_last: bool) -> Factors:
    exact = checked(weight, ndim=2)
    found = _chosen(exact, as_rank_rule(rank), channels_last)
    if found is None:
        none = torch.zeros(1, 0, dtype=torch.int64)
        return exact[None], none, none, torch.arange(1)
    return (found.mixes, *structure_of(found))  # type: ignore[return-value]


def structure_of(found: Found) -> tuple[Tensor, ...]:
    """Three tensors for each group: blocks of output axes [d, l], those of input axes [d, k], indices [n]."""
    parts: list[Tensor] = []
    for place, group in enumerate(found.layout.groups):
        table = torch.tensor([labels[place] for labels in found.labels], dtype=torch.int64)
        table = table.reshape(len(found.labels), group.outputs + group.inputs)
        parts += [table[:, : group.outputs], table[:, group.outputs :], torch.arange(group.n)]
    return tuple(parts)


def _chosen(weight: Tensor, rule: RankRule, channels_last: bool) -> Found | None:
    rows, columns = weight.shape
    return first_found(weight, list(_layouts(rows, columns, channels_last)), rule)


def _layouts(rows: int, columns: int, channels_last: bool) -> Iterator[Layout]:
    """Every way to read the sizes of a weight as axes of n items and channels, n above 1."""
    for k in range(MOST_POINTS + 1):
        for l in range(MOST_POINTS + 1 - k):  # noqa: E741
            if k + l == 0 or (k, l) == (1, 1):
                continue
            common = math.gcd(rows if l else 0, columns if k else 0)
            for n in divisors(common) if common else ():
                if n > 1 and not (rows % n**l or columns % n**k):
                    yield Layout((Axes(n, l, k),), rows, columns, channels_last)


def first_found(
    weight: Tensor, layouts: Sequence[Layout], rule: RankRule, accepts: Callable[[Found], bool] | None = None
) -> Found | None:
    """The layout that `rule` prefers, with the diagrams that count; `None` where there is none.

    What is not acceptable is passed over.
    """
    norm = float(torch.linalg.vector_norm(weight))
    ordered = sorted(layouts, key=lambda layout: (_numbers(layout), layout.groups != (), str(layout.groups)))
    ways: list[Way] = []
    known: list[Found] = []
    fewer = [layout for layout in ordered if norm and _numbers(layout) < weight.numel()]
    for layout in likely(weight, norm, fewer, rule) if rule.spectral else fewer:
        labels, mixes, lost = nearest(weight, layout)
        kept = math.sqrt(max(0.0, norm**2 - lost**2))
        if not kept or not enough(rule, kept, lost):
            continue
        found = Found(layout, *_counting(labels, mixes, layout, lost, norm, rule))
        if accepts is not None and not accepts(found):
            continue
        ways.append(Way((len(known),), (1,), found.mixes.numel(), lost / norm))
        known.append(found)
        if rule.spectral:
            break
    chosen = best(rule, ways, weight.numel())
    return known[chosen.sizes[0]] if chosen else None


def _numbers(layout: Layout) -> int:
    """How many numbers the mixes of all diagrams are."""
    diagrams = [dimension("S", group.n, group.inputs, group.outputs) for group in layout.groups]
    positions = math.prod(layout.positions)
    return math.prod(diagrams) * (layout.rows * layout.columns // positions)


def _counting(
    labels: Sequence[tuple[Labels, ...]],
    mixes: Tensor,
    layout: Layout,
    lost: float,
    norm: float,
    rule: RankRule,
) -> tuple[tuple[tuple[Labels, ...], ...], Tensor]:
    """The diagrams without those that `rule` allows to lose together, one at least."""
    weights = []
    for one, mix in zip(labels, mixes, strict=True):
        entries = math.prod(group.n ** size(part) for group, part in zip(layout.groups, one, strict=True))
        weights.append(float(mix.norm()) * math.sqrt(entries))
    dropped: set[int] = set()
    for place in sorted(range(len(weights)), key=weights.__getitem__)[:-1]:
        more = lost + weights[place]
        if weights[place] and not (
            rule.spectral and enough(rule, math.sqrt(max(0.0, norm**2 - more**2)), more)
        ):
            break
        lost = more
        dropped.add(place)
    kept = [place for place in range(len(weights)) if place not in dropped]
    return tuple(labels[place] for place in kept), mixes[kept]


_FORMS = forms("[M, N] -> [D, p, q], [D, L], [D, K], [i]")
_ROLES = ("dense", "labels", "labels", "permutation")
_SOURCE = "Maron et al., 2019 (invariant graph networks); Brauer, 1937"

DECLARED = (
    Decomposition(
        name="diagrams",
        params=("W", "rank"),
        results=4,
        function=diagrams,
        promise_text="W[(i…, a), (j…, c)] ≈ Σ_d K[d, a, c], d with equal indices where labels are equal",
        promise=diagrams_product,
        forms=_FORMS,
        source=_SOURCE,
        doc="A layer between tensors of items that treats all items alike, of any order, channels last.",
        roles=_ROLES,
    ),
    Decomposition(
        name="diagrams_planes",
        params=("W", "rank"),
        results=4,
        function=diagrams_planes,
        promise_text="W[(a, i…), (c, j…)] ≈ Σ_d K[d, a, c], d with equal indices where labels are equal",
        promise=diagrams_planes_product,
        forms=_FORMS,
        source=_SOURCE,
        doc="A layer between tensors of items that treats all items alike, of any order, channels first.",
        roles=_ROLES,
    ),
)
