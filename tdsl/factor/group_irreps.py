"""A weight that commutes with a finite group as one block for each irreducible space (Schur, 1905).

For groups whose irreducible spaces are lines and one larger real space: the mirror and quarter turns of a
square, the symmetries of a triangle. Lines have products of channels of their own; the copies of the larger
space are channels of one dense product. It holds as many numbers as the commutant has dimensions, and its
large product is one matrix. Everything is computed and returned in float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.group_blocks import chosen_places
from tdsl.factor.matrix import checked
from tdsl.factor.rank import as_rank_rule

Factors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def group_irreps(weight: Tensor, rank: object) -> Factors:
    """The projection onto what commutes with a group that permutes places, channels running fastest.

    [m, n] → T [s, b], A [s, q, p], L [a, s] of s lines and U [d, k, b], D [k, q, l, p], B [a, d, l] of the
    larger space, of d dimensions, k copies in the columns and l in the rows; m = a·p, n = b·q. Places and
    `rank` as in `group_blocks`; where there is no group of this kind, one line is the weight itself. Raises
    `TdslError` for a weight that is no finite matrix.
    """
    exact = checked(weight, ndim=2)
    chosen = chosen_places(exact, as_rank_rule(rank), True, one_space=True)
    if chosen is None:
        one, none = torch.ones(1, 1, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
        rows, columns = exact.shape
        empty = none.reshape(0, 0, 1), none.reshape(0, columns, 0, rows), none.reshape(1, 0, 0)
        return one, exact.T[None].contiguous(), one, *empty
    places, parameters = chosen
    lines: list[tuple[Tensor, Tensor, Tensor]] = []
    start = 0
    for inner, out in places.components:
        ways = (len(inner.copies), len(out.copies))
        part = parameters[start : start + math.prod(ways)]  # copy in the columns, copy in the rows
        start += math.prod(ways)
        if inner is places.larger:
            dense = part.reshape(*ways, *part.shape[1:]).permute(0, 3, 1, 2).contiguous()
            space = (
                inner.copies.permute(2, 0, 1).contiguous(),
                dense,
                out.copies.permute(1, 2, 0).contiguous(),
            )
        else:
            lines.append((inner.copies[0, :, 0], part[0].T, out.copies[0, :, 0]))
    into, products, back = (torch.stack(one) for one in zip(*lines, strict=True))
    return into, products, back.T.contiguous(), *space


def group_irreps_product(
    into: Tensor, products: Tensor, back: Tensor, entering: Tensor, dense: Tensor, leaving: Tensor
) -> Tensor:
    """The matrix of six factors, as returned by `group_irreps`. → [a·p, b·q]."""
    lines = torch.einsum("sb,sqp,as->apbq", into, products, back)
    space = torch.einsum("dkb,kqlp,adl->apbq", entering, dense, leaving)
    rows, columns = len(back) * products.shape[2], into.shape[1] * products.shape[1]
    return (lines + space).reshape(rows, columns)


DECLARED = (
    Decomposition(
        name="group_irreps",
        params=("W", "rank"),
        results=6,
        function=group_irreps,
        promise_text="W[(g, p), (h, q)] ≈ Σ_s L[g, s] · A[s, q, p] · T[s, h]"
        " + Σ_d Σ_k Σ_l B[g, d, l] · D[k, q, l, p] · U[d, k, h]",
        promise=group_irreps_product,
        forms=forms("[M, N] -> [s, b], [s, q, p], [a, s], [d, c, b], [c, q, l, p], [a, d, l]"),
        source="Schur, 1905",
        doc="A weight that commutes with a finite group as one dense block for each irreducible space.",
    ),
)
