"""A weight that commutes with a finite group as one dense product for each irreducible space (Schur, 1905).

Rows are (place, channel) and columns are (place, channel), the group permutes the places, or changes their
signs. In a basis of irreducible spaces the weight is block diagonal, and all dimensions of one space have the
same block: its copies are channels of a dense product, its dimensions are rows of it. Complex spaces have
three such products (Gauss), quaternionic ones eight (Howell and Lafon, 1975). Where one class matches every
row with a column, a product at each place stands for the largest space, which then needs no basis: sums over
rows and columns of a table are all that is left of S(n) × S(m). Everything is in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.group_places import chosen_places
from tdsl.factor.matrix import checked
from tdsl.factor.rank import as_rank_rule
from tdsl.symmetry.finite.places import Places
from tdsl.symmetry.finite.products import ALGEBRAS

Factors = tuple[Tensor, ...]

ROUNDING = 1e-9
"""Parameters below this share of the largest are nothing."""


def group_spaces(weight: Tensor, rank: object) -> Factors:
    """The projection onto what commutes with a group that permutes places, channels running fastest.

    [m, n] → T [s, b] with labels [s, 2] (copy, dimension), D [f, q, p] with labels [f, 2] (copy read, copy
    written), B [a, z] with labels [z + 1, 2] (copy, dimension), the first of a column of ones before B, and
    K [g, q, p] with the place [a] that each place of the rows reads; m = a·p, n = b·q. D leads from copies
    read to copies written in every dimension they both have, K to every place of the rows. `rank` is anything
    `as_rank_rule` takes; where it bounds the error, the group that is read off the weight with the fewest
    numbers is taken, none being the weight itself in D; a rank of 1 is the smallest error of this and of
    cyclic and dihedral groups. Raises `TdslError` for a weight that is no finite matrix.
    """
    return _factors(weight, rank, channels_last=True)


def group_spaces_inside(weight: Tensor, rank: object) -> Factors:
    """As `group_spaces`, for rows and columns (channel, place), the places running fastest."""
    return _factors(weight, rank, channels_last=False)


def _product(weight: str) -> Callable[..., Tensor]:
    def product(
        into: Tensor,
        entering: Tensor,
        products: Tensor,
        pairs: Tensor,
        back: Tensor,
        leaving: Tensor,
        matching: Tensor,
        order: Tensor,
    ) -> Tensor:
        """The matrix of eight factors, as returned by `group_spaces`."""
        rows, columns = len(back), into.shape[1]
        whole = torch.cat([back.new_ones(rows, 1), back], 1)
        read, written, same = (
            (left[:, None] == right).to(back.dtype)
            for left, right in (
                (pairs[:, 0], entering[:, 0]),
                (pairs[:, 1], leaving[:, 0]),
                (entering[:, 1], leaving[:, 1]),
            )
        )
        places = torch.einsum("az,fz,sz,fs,sb->fab", whole, written, same, read, into)
        here = (order[:, None] % columns == torch.arange(columns)).to(back.dtype)
        found = torch.einsum(f"fab,fqp->{weight}", places, products)
        if len(matching):
            found = found + torch.einsum(f"ab,gqp->{weight}", here, matching)
        return found.reshape(rows * products.shape[2], columns * products.shape[1])

    return product


group_spaces_product = _product("apbq")
group_spaces_inside_product = _product("paqb")


@dataclass(frozen=True, slots=True)
class Space:
    """One product of a component: its basis on both sides, and its channels."""

    into: Tensor
    """[d, k, columns]."""
    products: Tensor
    """[k, l, p, q]."""
    back: Tensor
    """[d, l, rows]."""


def numbers_of_spaces(places: Places, rows: int, columns: int) -> int:
    """How many numbers the factors of a weight of that shape are."""
    channels = rows * columns // (places.rows * places.columns)
    return min(_cost(places, channels, skipped)[0] for skipped in _skippable(places))


def _cost(places: Places, channels: int, skipped: int | None) -> tuple[int, int]:
    """Numbers of the factors, and multiplications where rows and columns have as many channels."""
    numbers = products = channels * (skipped is not None)
    products *= places.rows
    for place, (inner, out) in enumerate(places.components):
        if place == skipped:
            continue
        few, units = len(ALGEBRAS[len(inner.units)]), len(inner.units)
        ways, dimensions = len(inner.copies) * len(out.copies) * few, inner.dimension // units
        basis = dimensions * few * (len(inner.copies) * places.columns + len(out.copies) * places.rows)
        numbers += ways * channels + basis
        products += ways * dimensions * channels + basis * max(1, round(channels**0.5))
    return numbers, products


def _skippable(places: Places) -> tuple[int | None, ...]:
    """No component, or the largest of several, where a product at each place can stand for it."""
    sizes = [inner.dimension * len(inner.copies) for inner, _ in places.components]
    largest = sizes.index(max(sizes))
    inner, out = places.components[largest]
    alone = len(inner.copies) == len(out.copies) == len(inner.units) == 1 < inner.dimension
    return (None, largest) if alone and len(sizes) > 1 and places.matching() is not None else (None,)


def _factors(weight: Tensor, rank: object, *, channels_last: bool) -> Factors:
    exact = checked(weight, ndim=2)
    chosen = chosen_places(exact, as_rank_rule(rank), channels_last, numbers_of_spaces)
    if chosen is None:
        one, none = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.int64)
        return (
            one, none, exact.T[None].contiguous(), none, one[:, :0], none,
            exact.new_zeros(0, *exact.T.shape), none[0, :1],
        )  # fmt: skip
    places, parameters = chosen
    channels = parameters[0].numel()
    skipped = min(_skippable(places), key=lambda one: _cost(places, channels, one)[1])
    order = torch.arange(places.rows)
    matching = parameters.new_zeros(0, *parameters.shape[1:])
    if skipped is not None:
        matched = places.matching()
        assert matched is not None
        order = matched
        at_each = torch.nn.functional.one_hot(order, places.columns).to(torch.float64)
        share = places.parameters(at_each[:, :, None, None])
        start = sum(len(i.copies) * len(o.copies) * len(i.units) for i, o in places.components[:skipped])
        matching = parameters[start : start + 1] / share[start]
        parameters = parameters - share * matching
    spaces = _spaces(places, parameters, skipped)
    return (*_assembled(spaces, places), matching.transpose(1, 2).contiguous(), order)


def _spaces(places: Places, parameters: Tensor, skipped: int | None) -> list[Space]:
    """Every product of every component that has parameters, that of the line of equal places first."""
    found: list[Space] = []
    start = 0
    for number, (inner, out) in enumerate(places.components):
        sizes = (len(inner.copies), len(out.copies), len(inner.units))
        count = sizes[0] * sizes[1] * sizes[2]
        part = parameters[start : start + count].reshape(*sizes, *parameters.shape[1:])
        start += count
        if number == skipped:
            continue
        few = ALGEBRAS[sizes[2]]
        spaces = [
            Space(
                torch.einsum("jnev,v->ejn", inner.numbered, left),
                torch.einsum("jlupq,u->jlpq", part, right),
                torch.einsum("lmev,v->elm", out.numbered, onto),
            )
            for left, right, onto in zip(few.left, few.right, few.onto, strict=True)
        ]
        ones = out.copies[:, :, 0].sum(1) / places.rows**0.5 if inner.dimension == 1 else None
        if ones is not None and abs(float(ones.norm()) - 1) < ROUNDING:
            found = [_with_ones_first(spaces[0], ones, places.rows), *found]
        else:
            found += spaces
    return found


def _with_ones_first(space: Space, ones: Tensor, rows: int) -> Space:
    """The copies written turned so that the first is the same at all places, a one each. ones [l], a unit."""
    turn = torch.linalg.qr(torch.cat([ones[:, None], torch.eye(len(ones), dtype=ones.dtype)], 1)).Q.T
    turn = turn * turn[:1].mul(ones).sum().sign()
    scale = torch.ones(len(ones), dtype=ones.dtype)
    scale[0] = rows**0.5
    return Space(
        space.into,
        torch.einsum("tl,jlpq->jtpq", turn / scale[:, None], space.products),
        torch.einsum("tl,dlm->dtm", turn * scale[:, None], space.back),
    )


def _assembled(spaces: list[Space], places: Places) -> Factors:
    """T, D and B, each with its labels."""
    into, entering, products, pairs, back, leaving = [], [], [], [], [], []
    read = written = dimension = 1
    for space in spaces:
        d, k, _ = space.into.shape
        copies = space.back.shape[1]
        names = [range(start, start + size) for start, size in ((read, k), (written, copies), (dimension, d))]
        into.append(space.into.flatten(0, 1))
        entering.append(torch.cartesian_prod(*map(torch.tensor, (names[2], names[0]))).flip(-1))
        products.append(space.products.flatten(0, 1).transpose(1, 2))
        pairs.append(torch.cartesian_prod(*map(torch.tensor, (names[0], names[1]))))
        back.append(space.back.flatten(0, 1).T)
        leaving.append(torch.cartesian_prod(*map(torch.tensor, (names[2], names[1]))).flip(-1))
        read, written, dimension = read + k, written + copies, dimension + d
    columns = torch.cat(back, 1)
    named = torch.cat(leaving)
    if bool((columns[:, 0] - 1).abs().max() < ROUNDING):
        columns = columns[:, 1:]
    else:
        named = torch.cat([torch.zeros(1, 2, dtype=torch.int64), named])  # ones are not written
    return (
        torch.cat(into).contiguous(),
        torch.cat(entering),
        torch.cat(products).contiguous(),
        torch.cat(pairs),
        columns.contiguous(),
        named,
    )


_FORMS = forms("[M, N] -> [s, b], [s, 2], [f, q, p], [f, 2], [a, z], [y, 2], [g, q, p], [a]")
_ROLES = ("dense", "labels", "dense", "labels", "dense", "labels", "dense", "labels")
_SOURCE = "Schur, 1905; Gauss; Howell & Lafon, 1975"

DECLARED = (
    Decomposition(
        name="group_spaces",
        params=("W", "rank"),
        results=8,
        function=group_spaces,
        promise_text="W[(g, p), (h, q)] ≈ Σ_f Σ_z Σ_s B[g, z] · D[f, q, p] · T[s, h] where labels are equal"
        " + Σ_k K[k, q, p] where g reads h",
        promise=group_spaces_product,
        forms=_FORMS,
        roles=_ROLES,
        source=_SOURCE,
        doc="A weight that commutes with a finite group as products by irreducible spaces, places slowest.",
    ),
    Decomposition(
        name="group_spaces_inside",
        params=("W", "rank"),
        results=8,
        function=group_spaces_inside,
        promise_text="W[(p, g), (q, h)] ≈ Σ_f Σ_z Σ_s B[g, z] · D[f, q, p] · T[s, h] where labels are equal"
        " + Σ_k K[k, q, p] where g reads h",
        promise=group_spaces_inside_product,
        forms=_FORMS,
        roles=_ROLES,
        source=_SOURCE,
        doc="A weight that commutes with a finite group as products by irreducible spaces, places fastest.",
    ),
)
