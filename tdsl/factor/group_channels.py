"""Channels that a finite group permutes, in whatever order they stand, as a product for each space.

Many matrices on the same channels, one for each tap of a window and for each group of a convolution, commute
with one group. Its places run slowest among the channels of each matrix, or fastest, or rows and columns are
in an order of their own that is read off the numbers (`tdsl.symmetry.finite.orders`). Then fields may have
any size: channels that few elements move, or none, have fewer places, and fewer copies of the irreducible
spaces (`tdsl.symmetry.finite.fields`). Everything is in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.group_places import chosen_places, has_no_group
from tdsl.factor.group_spaces import numbers_of_spaces
from tdsl.factor.matrix import checked
from tdsl.factor.memo import memoised
from tdsl.factor.rank import RankRule, as_rank_rule
from tdsl.symmetry.finite.fields import Fields, copies_in, fields_of
from tdsl.symmetry.finite.isotypic import Component
from tdsl.symmetry.finite.orders import find_orders, unlifted
from tdsl.symmetry.finite.places import Places
from tdsl.symmetry.finite.products import ALGEBRAS

Factors = tuple[Tensor, ...]


def group_channels(weight: Tensor, rank: object) -> Factors:
    """The projection onto what commutes with a group that permutes rows and columns, whatever their order.

    [m, n, s] → J [d, q], the column at each place and channel, and the kind U [q] of each channel; T [t, d],
    whose rows have labels [t, 3] (kind, copy, dimension); D [f, q, p, s] with labels [f, 2] (copy read, copy
    written); B [a, z] with labels [z, 3] as T; the kind V [p] of each channel of the rows, and the place and
    channel R [m], of a·p, at which each row stands. D leads from the copies read to those written in every
    dimension that both have, of the kinds that have them. `rank` is as in `group_spaces`; of several orders
    that with the fewest numbers is taken, for a rank of 1 places that run slowest; where no group is found
    D is the weight. Raises `TdslError` for a weight that is not finite.
    """
    return _found(checked(weight, ndim=3), as_rank_rule(rank))


@memoised
def _found(weight: Tensor, rule: RankRule) -> Factors:
    ways = list(_ways(weight, rule))
    if not ways:
        return _plain(weight)
    return _by_spaces(weight, min(ways, key=_Way.numbers) if rule.spectral else ways[0])


@dataclass(frozen=True, slots=True)
class _Way:
    """Places that a group permutes, and what stands at them."""

    places: Places
    rows: Tensor
    """[a, p] int64."""
    columns: Tensor
    """[d, q] int64."""

    def numbers(self) -> int:
        """How many numbers the products and small matrices are, for each matrix."""
        sides = [(order, fields_of(order)) for order in (self.columns, self.rows)]
        total = 0
        for pair in self.places.components:
            units = len(pair[0].units)
            few, held = len(ALGEBRAS[units]), 1
            for (order, fields), component in zip(sides, pair, strict=True):
                copies = [len(copies_in(component, stands).copies) for stands in fields.stands]
                held *= sum(copies[kind] for kind in fields.kinds.tolist())
                total += few * sum(copies) * component.dimension // units * len(order)
            total += few * held
        return total


def _ways(weight: Tensor, rule: RankRule) -> Iterator[_Way]:
    """Places in each order, those that need no search first."""
    if has_no_group(weight.flatten(1), rule):
        return
    for last in (True, False):
        places = _places(weight, rule, last)
        if places is not None:
            rows, columns = (
                _in_order(count, side, last)
                for count, side in zip(weight.shape, (places.rows, places.columns), strict=False)
            )
            yield _Way(places, rows, columns)
    found = find_orders(weight)
    if found is not None:
        places = _places(found.lifted(weight), rule, True, (len(found.rows), len(found.columns)))
        if places is not None:
            yield _Way(places, found.rows, found.columns)


def _in_order(count: int, places: int, channels_last: bool) -> Tensor:
    """What stands at each place and channel. → [places, count / places] int64"""
    every = torch.arange(count)
    return every.reshape(places, -1) if channels_last else every.reshape(-1, places).T


def _plain(weight: Tensor) -> Factors:
    """The weight as one product of all channels, at a single place."""
    rows, columns, _ = weight.shape
    one, first = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.int64)
    kinds = (torch.zeros(n, dtype=torch.int64) for n in (columns, rows))
    return (
        torch.arange(columns)[None], next(kinds), one, first, weight.transpose(0, 1)[None].contiguous(),
        first[:, :2], one, first, next(kinds), torch.arange(rows),
    )  # fmt: skip


def _places(
    weight: Tensor, rule: RankRule, channels_last: bool, sizes: tuple[int, int] | None = None
) -> Places | None:
    """The places of matrices [m, n, s] that a group permutes alike; `None` where there is no group."""
    rows, columns, count = weight.shape
    flat = weight if channels_last else weight.transpose(1, 2)
    chosen = chosen_places(flat.reshape(rows, columns * count), rule, channels_last, numbers_of_spaces, sizes)
    return None if chosen is None or columns % chosen[0].columns else chosen[0]


@dataclass(slots=True)
class _Side:
    """The rows or the columns: the fields, and a basis of their spaces as it grows."""

    order: Tensor
    fields: Fields
    basis: list[Tensor]
    labels: list[Tensor]
    copies: int = 0

    def components(self, component: Component) -> list[Component]:
        """The copies of a space in the fields of each kind."""
        return [copies_in(component, stands) for stands in self.fields.stands]

    def add(self, components: list[Component], combined: Tensor, dimension: int) -> int:
        """The copies of one product, `combined` [t] of each number of the division algebra. → how many"""
        most = max(len(one.copies) for one in components)
        for kind, one in enumerate(components):
            if not len(one.copies):
                continue
            part = torch.einsum("kdev,v->ekd", one.numbered, combined)
            rows = part.new_zeros(*part.shape[:2], len(self.order))
            rows[:, :, self.fields.first(kind)] = part
            ways = torch.cartesian_prod(*map(torch.arange, part.shape[:2])).reshape(-1, 2)
            names = [torch.full((len(ways),), kind), self.copies + ways[:, 1], dimension + ways[:, 0]]
            self.basis.append(rows.flatten(0, 1))
            self.labels.append(torch.stack(names, 1))
        self.copies += most
        return most


def _by_spaces(weight: Tensor, way: _Way) -> Factors:
    """The factors of matrices [m, n, s] at these places."""
    rows, columns = way.rows, way.columns
    out, inner = (_Side(order, fields_of(order), [], []) for order in (rows, columns))
    products, pairs = [], []
    dimension = 0
    for read, written in way.places.components:
        ours, theirs = inner.components(read), out.components(written)
        parameters = _parameters(weight, (out, theirs), (inner, ours))
        few = ALGEBRAS[len(read.units)]
        for left, right, onto in zip(few.left, few.right, few.onto, strict=True):
            starts = inner.copies, out.copies
            counts = inner.add(ours, left, dimension), out.add(theirs, onto, dimension)
            names = (start + torch.arange(count) for start, count in zip(starts, counts, strict=True))
            pairs.append(torch.cartesian_prod(*names).reshape(-1, 2))
            products.append(torch.einsum("kluqps,u->klqps", parameters, right).flatten(0, 1))
            dimension += read.dimension
    return (
        columns.contiguous(), inner.fields.kinds, torch.cat(inner.basis), torch.cat(inner.labels),
        torch.cat(products), torch.cat(pairs), torch.cat(out.basis).T.contiguous(), torch.cat(out.labels),
        out.fields.kinds, _where(rows, len(weight)),
    )  # fmt: skip


def _where(rows: Tensor, count: int) -> Tensor:
    """The first place of each row among those at rows [a, p]. → [count] int64"""
    flat = rows.flatten()
    found = torch.full((count,), len(flat), dtype=torch.int64)
    return found.scatter_reduce(0, flat, torch.arange(len(flat)), "amin")


def _parameters(
    weight: Tensor, written: tuple[_Side, list[Component]], read: tuple[_Side, list[Component]]
) -> Tensor:
    """What a weight does from copies to copies of one space. [m, n, s] → [k, l, u, q, p, s]

    Zero where a channel has fewer copies than others.
    """
    (out, theirs), (inner, ours) = written, read
    units = ours[0].units
    found = weight.new_zeros(
        max(len(one.copies) for one in ours), max(len(one.copies) for one in theirs), len(units),
        len(inner.fields.kinds), len(out.fields.kinds), weight.shape[2],
    )  # fmt: skip
    for kind, one in enumerate(ours):
        columns = inner.order[inner.fields.first(kind)][:, inner.fields.channels(kind)]
        for other_kind, other in enumerate(theirs):
            rows = out.order[out.fields.first(other_kind)][:, out.fields.channels(other_kind)]
            (a, p), (d, q) = rows.shape, columns.shape
            block = weight[rows.flatten()][:, columns.flatten()].reshape(a, p, d, q, -1)
            left = torch.einsum("lax,apdqs->lxpdqs", other.copies, block)
            both = torch.einsum("lxpdqs,kdy->klxyqps", left, one.copies)
            part = torch.einsum("klxyqps,uxy->kluqps", both, units) / len(units[0])
            k, copies = len(one.copies), len(other.copies)
            at_q = inner.fields.channels(kind)
            at_p = out.fields.channels(other_kind)
            found[:k, :copies, :, at_q[:, None], at_p] = part
    return found


def group_channels_product(
    columns: Tensor,
    kinds: Tensor,
    into: Tensor,
    entering: Tensor,
    products: Tensor,
    pairs: Tensor,
    back: Tensor,
    leaving: Tensor,
    row_kinds: Tensor,
    rows: Tensor,
) -> Tensor:
    """The matrices of ten factors, as `group_channels` returns them. → [m, n, s]"""
    (d, q), (p, s), a = columns.shape, products.shape[2:], len(back)
    same = (leaving[:, None, 2] == entering[:, 2]).to(back.dtype)
    read, written = (
        (pairs[:, side, None] == labels[:, 1]).to(back.dtype)
        for side, labels in ((0, entering), (1, leaving))
    )
    placed = products.new_zeros(a, p, d, q, s)
    for kind in set(kinds.tolist()):
        entered = into * (entering[:, 0] == kind).to(into.dtype)[:, None]
        of_kind = (kinds == kind).nonzero().flatten()
        for other in set(row_kinds.tolist()):
            left = back * (leaving[:, 0] == other).to(back.dtype)
            of_other = (row_kinds == other).nonzero().flatten()
            each = torch.einsum("az,fz,zr,fr,rd->fad", left, written, same, read, entered)
            part = torch.einsum("fad,fqps->apdqs", each, products[:, of_kind][:, :, of_other])
            placed[:, of_other[:, None, None], torch.arange(d)[:, None], of_kind] = part
    return unlifted(placed.reshape(a * p, d * q, s), columns.flatten(), rows)


DECLARED = (
    Decomposition(
        name="group_channels",
        params=("W", "rank"),
        results=10,
        function=group_channels,
        promise_text="W[i, j, s] ≈ Σ_f Σ_z Σ_t B[g, z] · D[f, q, p, s] · T[t, h] where labels are equal,"
        " (g, p) where row i stands, over all (h, q) at which column j stands",
        promise=group_channels_product,
        forms=forms(
            "[M, N, k] -> [d, q], [q], [t, d], [t, 3], [f, q, p, k], [f, 2], [a, z], [z, 3], [p], [M]"
        ),
        roles=(
            "labels", "labels", "dense", "labels", "dense", "labels", "dense", "labels", "labels", "labels",
        ),
        source="Schur, 1905; Gauss; Howell & Lafon, 1975; Weiler & Cesa, 2019",
        doc="Channels in any order that a finite group permutes, as dense products by irreducible spaces.",
    ),
)  # fmt: skip
