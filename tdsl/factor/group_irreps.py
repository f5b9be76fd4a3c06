"""A weight that commutes with a finite group as one block for each irreducible space (Schur, 1905).

For groups whose irreducible spaces are lines and one larger real space: the mirror and quarter turns of a
square, the symmetries of a triangle. Lines have products of channels of their own, first of all the
invariant line, on which all places are alike; the copies of the larger space are channels of one dense
product. It holds as many numbers as the commutant has dimensions, and its large product is one matrix.
Everything is computed and returned in float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.group_blocks import chosen_places
from tdsl.factor.matrix import checked
from tdsl.factor.rank import as_rank_rule


def group_irreps(weight: Tensor, rank: object) -> tuple[Tensor, ...]:
    """The projection onto what commutes with a group that permutes places, channels running fastest.

    [m, n] → E [q, p] of the invariant line, from the sum over places to every place, T [s, b], A [s, q, p],
    L [a, s] of s other lines and U [d, k, b], D [k, q, l, p], B [a, d, l] of the larger space, of d
    dimensions, k copies in the columns and l in the rows; m = a·p, n = b·q. Places and `rank` as in
    `group_blocks`; where there is no group of this kind, E is the weight itself. Raises `TdslError` for a
    weight that is no finite matrix.
    """
    exact = checked(weight, ndim=2)
    chosen = chosen_places(exact, as_rank_rule(rank), True, one_space=True)
    if chosen is None:
        rows, columns = exact.shape
        return (
            exact.T.contiguous(),
            *_nothing((0, 1), (0, columns, rows), (1, 0)),
            *_nothing((0, 0, 1), (0, columns, 0, rows), (1, 0, 0)),
        )
    places, parameters = chosen
    p, q = parameters.shape[1:]
    rows, columns = places.rows, places.columns
    invariant = parameters.new_zeros(q, p)
    into, products, back = [], [], []
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
        elif _alike(inner.copies) and _alike(out.copies):
            invariant = part[0].T * inner.copies.mean() * out.copies.mean()
        else:
            into.append(inner.copies[0, :, 0])
            products.append(part[0].T)
            back.append(out.copies[0, :, 0])
    lines = (
        (torch.stack(into), torch.stack(products), torch.stack(back, 1))
        if into
        else _nothing((0, columns), (0, q, p), (rows, 0))
    )
    return (invariant, *lines, *space)


def _alike(line: Tensor) -> bool:
    """Whether all places have the same sign on a line, of unit length."""
    return bool((line - line.mean()).abs().max() < 1e-6)


def _nothing(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Factors without an entry."""
    return tuple(torch.zeros(shape, dtype=torch.float64) for shape in shapes)


def group_irreps_product(
    invariant: Tensor,
    into: Tensor,
    products: Tensor,
    back: Tensor,
    entering: Tensor,
    dense: Tensor,
    leaving: Tensor,
) -> Tensor:
    """The matrix of seven factors, as returned by `group_irreps`. → [a·p, b·q]."""
    rows, columns = len(back), into.shape[1]
    every = invariant.T[None, :, None].expand(rows, -1, columns, -1)
    lines = torch.einsum("sb,sqp,as->apbq", into, products, back)
    space = torch.einsum("dkb,kqlp,adl->apbq", entering, dense, leaving)
    return (every + lines + space).reshape(rows * invariant.shape[1], columns * invariant.shape[0])


DECLARED = (
    Decomposition(
        name="group_irreps",
        params=("W", "rank"),
        results=7,
        function=group_irreps,
        promise_text="W[(g, p), (h, q)] ≈ E[q, p] + Σ_s L[g, s] · A[s, q, p] · T[s, h]"
        " + Σ_d Σ_k Σ_l B[g, d, l] · D[k, q, l, p] · U[d, k, h]",
        promise=group_irreps_product,
        forms=forms("[M, N] -> [q, p], [s, b], [s, q, p], [a, s], [d, c, b], [c, q, l, p], [a, d, l]"),
        source="Schur, 1905",
        doc="A weight that commutes with a finite group as one dense block for each irreducible space.",
    ),
)
