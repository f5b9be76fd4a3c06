"""A weight that commutes with a finite group as few products of channels, found without being told.

Rows are (place, channel) and columns are (place, channel), the group permutes the places. In a basis of its
irreducible spaces the weight is block diagonal (Schur), one block for each, and each block is a matrix over
real numbers, complex numbers or quaternions, whose product needs fewer products of channels than it has
entries (Strassen; Gauss). All of it is one form: W = Σ_r B[:, r] ⊗ S[r] ⊗ T[r, :], a small matrix on the
places, r products of channels, a small matrix on the places. Everything is in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.displaced import allowed, displacements
from tdsl.factor.matrix import checked
from tdsl.factor.memo import memoised
from tdsl.factor.rank import RankRule, as_rank_rule
from tdsl.factor.splits import Way, best, enough
from tdsl.symmetry.element import block_diagonal
from tdsl.symmetry.finite.places import Places, blocks_of, find_places, listed_places
from tdsl.symmetry.finite.products import component_product

Factors = tuple[Tensor, Tensor, Tensor]


def group_blocks(weight: Tensor, rank: object) -> Factors:
    """The projection onto what commutes with a group that permutes places, channels running fastest.

    [m, n] → T [r, b], S [r, q, p], B [a, r] with m = a·p and n = b·q. `rank` is anything `as_rank_rule`
    takes; where it bounds the error, the group that is read off the weight with the fewest numbers is taken
    (none is always exact); a rank of 1 is the smallest error of this and of cyclic and dihedral groups.
    Raises `TdslError` for a weight that is no finite matrix.
    """
    return _factors(weight, rank, channels_last=True)


def group_blocks_inside(weight: Tensor, rank: object) -> Factors:
    """As `group_blocks`, for rows and columns (channel, place), the places running fastest."""
    return _factors(weight, rank, channels_last=False)


def _product(*, channels_last: bool) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def product(into: Tensor, products: Tensor, back: Tensor) -> Tensor:
        """The matrix of three factors. [r, b], [r, q, p], [a, r] → [a·p, b·q]."""
        form = "rb,rqp,ar->apbq" if channels_last else "rb,rqp,ar->paqb"
        whole = torch.einsum(form, into, products, back)
        return whole.reshape(len(back) * products.shape[2], into.shape[1] * products.shape[1])

    return product


group_blocks_product = _product(channels_last=True)
group_blocks_inside_product = _product(channels_last=False)


def _factors(weight: Tensor, rank: object, *, channels_last: bool) -> Factors:
    exact = checked(weight, ndim=2)
    chosen = chosen_places(exact, as_rank_rule(rank), channels_last)
    if chosen is None:
        one = torch.ones(1, 1, dtype=torch.float64)
        return one, exact.T[None].contiguous(), one
    places, parameters = chosen
    into, combined, back = zip(*(component_product(i, o) for i, o in places.components), strict=True)
    f, p, q = parameters.shape
    products = (block_diagonal(combined) @ parameters.reshape(f, -1)).reshape(-1, p, q)
    return torch.cat(into), products.transpose(1, 2).contiguous(), torch.cat(back, 1)


@memoised
def _found(weight: Tensor, channels_last: bool) -> tuple[Places, ...]:
    """What is read off a weight, once for every rule that asks."""
    return tuple(find_places(weight, channels_last=channels_last))


@memoised
def chosen_places(
    weight: Tensor, rule: RankRule, channels_last: bool, one_space: bool = False
) -> tuple[Places, Tensor] | None:
    """The places that a rule prefers and the parameters of the weight nearest to W; `None` for no group.

    With `one_space`, of groups that have one larger space beside lines (`Places.larger`).
    """
    rows, columns = weight.shape
    ways = [Way((0,), (1,), weight.numel() + 2, 0.0)]
    known: list[tuple[Places, Tensor]] = []
    candidates = _found(weight, channels_last)
    if not rule.spectral:
        candidates = (*candidates, *listed_places(weight))
    fewer = [
        (places, numbers)
        for places in candidates
        if (numbers := _numbers(places, rows, columns)) < weight.numel()
        and not (one_space and places.larger is None)
    ]
    if rule.spectral:
        fewer = _likely(weight, fewer, rule, channels_last)
    for places, numbers in fewer:
        parameters, kept, lost = places.fit(
            blocks_of(weight, places.rows, places.columns, channels_last=channels_last)
        )
        if kept and enough(rule, kept, lost):
            known.append((places, parameters))
            ways.append(Way((len(known),), (1,), numbers, lost / math.hypot(kept, lost)))
    chosen = best(rule, ways if rule.spectral else ways[1:] or ways, weight.numel())
    return known[chosen.sizes[0] - 1] if chosen and chosen.sizes[0] else None


def _numbers(places: Places, rows: int, columns: int) -> int:
    """How many numbers the factors of a weight of that shape are."""
    return places.products * (places.rows + places.columns + rows * columns // (places.rows * places.columns))


def _likely(
    weight: Tensor, known: list[tuple[Places, int]], rule: RankRule, channels_last: bool
) -> list[tuple[Places, int]]:
    """Those places of which a few elements of the group displace the weight by no more than `rule` allows."""
    owners = [index for index, (places, _) in enumerate(known) for _ in places.words]
    orders = [
        (
            _expanded(out, weight.shape[0], channels_last),
            _expanded(inner, weight.shape[1], channels_last),
        )
        for places, _ in known
        for out, inner in places.words
    ]
    norm = float(torch.linalg.vector_norm(weight))
    refused = {
        owner
        for owner, shown in zip(owners, displacements(weight, orders), strict=True)
        if not allowed(rule, norm, shown)
    }
    return [one for index, one in enumerate(known) if index not in refused]


def _expanded(word: tuple[int, ...], size: int, channels_last: bool) -> Tensor:
    """The order of (place, channel), or (channel, place), where places are taken in the order of `word`."""
    order = torch.arange(size)
    if channels_last:
        return order.reshape(len(word), -1)[list(word)].flatten()
    return order.reshape(-1, len(word))[:, list(word)].flatten()


_FORMS = forms("[M, N] -> [r, b], [r, q, p], [a, r]")

DECLARED = (
    Decomposition(
        name="group_blocks",
        params=("W", "rank"),
        results=3,
        function=group_blocks,
        promise_text="W[(g, p), (h, q)] ≈ Σ_r B[g, r] · S[r, q, p] · T[r, h]",
        promise=group_blocks_product,
        forms=_FORMS,
        source="Schur, 1905; Strassen, 1969; Alder & Strassen, 1981",
        doc="A weight that commutes with a finite group as few products of channels, places running slowest.",
    ),
    Decomposition(
        name="group_blocks_inside",
        params=("W", "rank"),
        results=3,
        function=group_blocks_inside,
        promise_text="W[(p, g), (q, h)] ≈ Σ_r B[g, r] · S[r, q, p] · T[r, h]",
        promise=group_blocks_inside_product,
        forms=_FORMS,
        source="Schur, 1905; Strassen, 1969; Alder & Strassen, 1981",
        doc="A weight that commutes with a finite group as few products of channels, places running fastest.",
    ),
)
