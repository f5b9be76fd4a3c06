"""A weight that commutes with a finite group as few products of channels, found without being told.

Rows are (place, channel) and columns are (place, channel), the group permutes the places. In a basis of its
irreducible spaces the weight is block diagonal (Schur), one block for each, and each block is a matrix over
real numbers, complex numbers or quaternions, whose product needs fewer products of channels than it has
entries (Strassen; Gauss). All of it is one form: W = Σ_r B[:, r] ⊗ S[r] ⊗ T[r, :], a small matrix on the
places, r products of channels, a small matrix on the places. Everything is in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.group_places import chosen_places
from tdsl.factor.matrix import checked
from tdsl.factor.rank import RankRule, as_rank_rule
from tdsl.symmetry.element import block_diagonal
from tdsl.symmetry.finite.places import Places
from tdsl.symmetry.finite.products import component_product

Factors = tuple[Tensor, Tensor, Tensor]


def group_blocks(weight: Tensor, rank: object) -> Factors:
    """The projection onto what commutes with a group that permutes places, channels running fastest.

    [m, n] → T [r, b], S [r, q, p], B [a, r] with m = a·p and n = b·q. `rank` is anything `as_rank_rule`
    takes; where it bounds the error, the group that is read off the weight with the fewest numbers is taken
    (none is always exact); a rank of 1 is the smallest error of this and of cyclic and dihedral groups.
    Raises `TdslError` for a weight that is no finite matrix.
    """
    found = chosen_blocks(checked(weight, ndim=2), as_rank_rule(rank), True)
    if found is None:
        one = torch.ones(1, 1, dtype=torch.float64)
        return one, weight.to(torch.float64).T[None].contiguous(), one
    return found


def chosen_blocks(weight: Tensor, rule: RankRule, channels_last: bool) -> Factors | None:
    """As `group_blocks`, `None` where there is no group; places run fastest unless channels do."""
    chosen = chosen_places(weight, rule, channels_last, _numbers)
    if chosen is None:
        return None
    places, parameters = chosen
    into, combined, back = zip(*(component_product(i, o) for i, o in places.components), strict=True)
    f, p, q = parameters.shape
    products = (block_diagonal(combined) @ parameters.reshape(f, -1)).reshape(-1, p, q)
    return torch.cat(into), products.transpose(1, 2).contiguous(), torch.cat(back, 1)


def group_blocks_product(into: Tensor, products: Tensor, back: Tensor) -> Tensor:
    """The matrix of three factors. [r, b], [r, q, p], [a, r] → [a·p, b·q]."""
    whole = torch.einsum("rb,rqp,ar->apbq", into, products, back)
    return whole.reshape(len(back) * products.shape[2], into.shape[1] * products.shape[1])


def _numbers(places: Places, rows: int, columns: int) -> int:
    """How many numbers the factors of a weight of that shape are."""
    return places.products * (places.rows + places.columns + rows * columns // (places.rows * places.columns))


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
)
