"""Weights on arrays of n × m entries that treat all n items alike, and all m others, found unannotated.

Rows and columns of a table may be permuted apart, S(n) × S(m): each entry by itself, the sums of rows and of
columns, and the total (Hartford et al., 2018). Where some of these are missing it is a wreath product, items
within others; where an axis is on one side alone, entries are pooled or spread. Everything is computed and
returned in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.diagrams import Found, diagrams_planes_product, diagrams_product, first_found, structure_of
from tdsl.factor.matrix import checked
from tdsl.factor.orbit_probe import Axes, Layout, conceivable, likely
from tdsl.factor.rank import RankRule, as_rank_rule
from tdsl.factor.splits import divisors

Factors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

SIDES = ((1, 1), (1, 0), (0, 1))
"""Whether an axis is one of the output and of the input; one of the two is both."""


def diagrams_of_two(weight: Tensor, rank: object) -> Factors:
    """The nearest weight on arrays of items and others that treats both alike, channels last.

    [m, n_in] → K [d, p, q], the mix of channels of each diagram that counts; out [d, l], into [d, k], items
    [n], the same of the others: out [d, h], into [d, g], others [o], with m = n^l·o^h·p and n_in = n^k·o^g·q.
    `rank` is anything `as_rank_rule` takes, as in `diagrams`; without two kinds of items, or where both are
    alike too, there are none. Raises `TdslError` for a weight that is no finite matrix.
    """
    return _factors(weight, rank, channels_last=True)


def diagrams_of_two_planes(weight: Tensor, rank: object) -> Factors:
    """As `diagrams_of_two`, with the entries of a channel side by side."""
    return _factors(weight, rank, channels_last=False)


def _factors(weight: Tensor, rank: object, *, channels_last: bool) -> Factors:
    exact = checked(weight, ndim=2)
    found = _chosen(exact, as_rank_rule(rank), channels_last)
    if found is None:
        none, one = torch.zeros(1, 0, dtype=torch.int64), torch.arange(1)
        return exact[None], none, none, one, none, none, one
    return (found.mixes, *structure_of(found))  # type: ignore[return-value]


def _chosen(weight: Tensor, rule: RankRule, channels_last: bool) -> Found | None:
    norm = float(torch.linalg.vector_norm(weight))
    rows, columns = weight.shape
    layouts = []
    for sides in SIDES:
        for outside in _axes(rows, columns, sides):
            # What treats both alike treats those alike whose index runs slowest, all else being channels.
            alone = Layout((outside,), rows, columns, channels_last)
            if rule.spectral and not conceivable(weight, norm, alone, rule):
                continue
            rest = rows // outside.n**outside.outputs, columns // outside.n**outside.inputs
            for others in SIDES if sides == (1, 1) else SIDES[:1]:
                for inside in _axes(*rest, others):
                    pair = (outside, inside) if channels_last else (inside, outside)
                    layouts.append(Layout(pair, rows, columns, channels_last))
    if rule.spectral:  # where all entries are alike, they are items of one axis
        joined = {layout: _joined(layout) for layout in layouts}
        alike = set(likely(weight, norm, sorted({one for one in joined.values() if one}, key=str), rule))
        layouts = [layout for layout in layouts if joined[layout] not in alike]
    return first_found(weight, layouts, rule, _apart)


def _joined(layout: Layout) -> Layout | None:
    """The layout whose items are all pairs of items of both kinds, where both are on the same sides."""
    one, other = layout.groups
    if (one.outputs, one.inputs) != (other.outputs, other.inputs):
        return None
    axes = Axes(one.n * other.n, one.outputs, one.inputs)
    return Layout((axes,), layout.rows, layout.columns, layout.channels_last)


def _axes(rows: int, columns: int, sides: tuple[int, int]) -> Iterator[Axes]:
    """Axes of every size above 1 that divides the sides that have it."""
    outputs, inputs = sides
    common = math.gcd(rows if outputs else 0, columns if inputs else 0)
    for n in divisors(common) if common else ():
        if n > 1:
            yield Axes(n, outputs, inputs)


def _apart(found: Found) -> bool:
    """Whether some diagram tells items from others; else all entries are alike, items of one axis."""
    first, second = (set(part) for part in zip(*found.labels, strict=True))
    alike = all(one == other for one, other in found.labels)
    return not (alike and first == second)


_FORMS = forms("[M, N] -> [D, p, q], [D, L], [D, K], [i], [D, H], [D, F], [o]")
_ROLES = ("dense", "labels", "labels", "permutation", "labels", "labels", "permutation")
_SOURCE = "Hartford et al., 2018 (exchangeable matrices)"

DECLARED = (
    Decomposition(
        name="diagrams_of_two",
        params=("W", "rank"),
        results=7,
        function=diagrams_of_two,
        promise_text="W[(i…, r…, a), (j…, s…, c)] ≈ Σ_d K[d, a, c], d with indices equal where labels are",
        promise=diagrams_product,
        forms=_FORMS,
        source=_SOURCE,
        doc="A layer on arrays that treats all rows alike, and all columns, channels last.",
        roles=_ROLES,
    ),
    Decomposition(
        name="diagrams_of_two_planes",
        params=("W", "rank"),
        results=7,
        function=diagrams_of_two_planes,
        promise_text="W[(a, i…, r…), (c, j…, s…)] ≈ Σ_d K[d, a, c], d with indices equal where labels are",
        promise=diagrams_planes_product,
        forms=_FORMS,
        source=_SOURCE,
        doc="A layer on arrays that treats all rows alike, and all columns, channels first.",
        roles=_ROLES,
    ),
)
