"""Low rank that keeps a symmetry: whole singular spaces of irreducible components are kept or dropped.

In a basis of irreducible spaces a weight that commutes with a finite group is a block W̃ for each of them,
and every singular value of a block comes as often in W as the irreducible space has dimensions. A truncated
singular value decomposition of W may cut such a space in two; here none is cut, so that what is left
commutes exactly, and of all weights that commute and have that rank it is the nearest one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.group_places import chosen_places
from tdsl.factor.group_spaces import numbers_of_spaces
from tdsl.factor.matrix import checked, svd
from tdsl.factor.rank import Error, RankRule, as_rank_rule, break_even

SYMMETRIC = Error(1e-6)
"""A weight commutes with a group that it is this near to commuting with."""


def group_svd(weight: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """Factors U [m, r], V [r, n] of a weight that commutes with a group, so that U·V commutes with it.

    `rank` is anything `as_rank_rule` takes; where it would cut a singular space, the space is kept whole
    under a bound on the error, and dropped under a number, unless nothing else is left. A weight without a
    group stays whole under a bound, and has its plain decomposition under a number. Raises `TdslError` for a
    weight that is no finite matrix, `UnreachableRankError` for a rank that it does not have.
    """
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    chosen = chosen_places(exact, SYMMETRIC, True, numbers_of_spaces)
    if chosen is None and rule.spectral:
        return torch.eye(len(exact), dtype=torch.float64), exact
    if chosen is None:
        left, right = svd(exact, rule)
        return left, right
    places, parameters = chosen
    spaces: list[tuple[float, Tensor, Tensor]] = []
    start = 0
    for inner, out in places.components:
        units, d = len(inner.units), inner.dimension
        count = len(inner.copies) * len(out.copies) * units
        part = parameters[start : start + count].reshape(
            len(inner.copies), len(out.copies), units, *parameters.shape[1:]
        )
        start += count
        # On one number of the division algebra in place of d/t of them; rows (copy, number, channel).
        small = torch.einsum("jlupq,uvw->lvpjwq", part, inner.units[:, :units, :units])
        block = small.reshape(len(out.copies) * units * part.shape[3], -1)
        u, s, v = torch.linalg.svd(block, full_matrices=False)
        for first in range(0, len(s), units):
            kept = slice(first, first + units)
            left = u[:, kept].reshape(len(out.copies), units, part.shape[3], -1)
            right = v[kept].reshape(-1, len(inner.copies), units, part.shape[4])
            out_basis = out.copies.reshape(*out.copies.shape[:2], d // units, units)
            in_basis = inner.copies.reshape(*inner.copies.shape[:2], d // units, units)
            whole_left = torch.einsum("lmev,lvpz->mpez", out_basis, left * s[kept].sqrt())
            whole_right = torch.einsum(
                "jnev,zjvq->eznq", in_basis, right * s[kept].sqrt()[:, None, None, None]
            )
            spaces.append(
                (float(s[first]), whole_left.reshape(len(exact), -1), whole_right.reshape(-1, exact.shape[1]))
            )
    spaces.sort(key=lambda space: -space[0])
    return _kept(exact, spaces, rule)


def _kept(
    weight: Tensor, spaces: list[tuple[float, Tensor, Tensor]], rule: RankRule
) -> tuple[Tensor, Tensor]:
    """The leading spaces, as many as the rule wants of their singular values."""
    values = torch.cat([torch.full((len(right),), value, dtype=torch.float64) for value, _, right in spaces])
    wanted = rule.select(values, break_even(*weight.shape))
    ends = torch.tensor([len(right) for _, _, right in spaces]).cumsum(0)
    whole = int((ends <= wanted).sum())
    if rule.spectral and int(ends[max(whole - 1, 0)]) != wanted:
        whole += 1
    count = max(1, min(whole, len(spaces)))
    return torch.cat([left for _, left, _ in spaces[:count]], 1), torch.cat(
        [right for _, _, right in spaces[:count]]
    )


DECLARED = (
    Decomposition(
        name="group_svd",
        params=("W", "rank"),
        results=2,
        function=group_svd,
        promise_text="W ≈ U · V",
        promise=lambda left, right: left @ right,
        forms=forms("[M, N] -> [M, r], [r, N]"),
        source="Schur, 1905; Eckart & Young, 1936",
        doc="Low rank that commutes with the group that the weight commutes with, exactly.",
    ),
)
