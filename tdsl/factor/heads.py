"""Fewer numbers a head between the values of attention and the output layer that reads them.

An output layer O [m, e] reads the contexts of h heads, d numbers each. In every head the directions that
matter least to the output are left out; what is left of all heads together makes up for them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked
from tdsl.factor.memo import memoised
from tdsl.factor.moment import checked_moment, root, two_sided_error
from tdsl.factor.rank import as_rank_rule, select_by_gains


def head_svd(
    weight: Tensor, moment: Tensor, gradients: Tensor, rank: object, heads: int = 1
) -> tuple[Tensor, Tensor]:
    """A weight that reads heads, on fewer numbers of each of them: the same number in all.

    O [m, h·d], C [h·d, h·d] the moment of the contexts, G [m, m] that of gradients at the output →
    R [m, h·r], S [h, r, d] with O ≈ R·diag(S₁ … S_h). S_h spans the leading right singular vectors of
    G^½·O_h·C_hh^½ (as in Lin et al., 2024), and R = O·C·Sᵀ·(S·C·Sᵀ)⁻¹ is the weight of least squared error on
    what they keep, across heads; exact where r = d. A ratio is a share of d. Raises `TdslError` for a number
    of heads that does not divide the columns, and for moments of other sizes.
    """
    exact = checked(weight, ndim=2)
    columns = exact.shape[1]
    if not isinstance(heads, int) or isinstance(heads, bool) or heads < 1 or columns % heads:
        raise TdslError(f"{heads!r} heads of {columns} numbers", expected=f"a number that divides {columns}")
    second = checked_moment(moment, columns, of="numbers in the heads")
    values, directions = _directions(exact, second, gradients, heads)
    kept = select_by_gains(as_rank_rule(rank), values.square().sum(0), limit=values.shape[1])
    chosen = directions[:, :kept]
    joined = torch.block_diag(*chosen)  # type: ignore[no-untyped-call]
    if kept == columns // heads:
        return torch.linalg.solve(joined.T, exact.T).T, chosen
    known = root(second)
    seen = joined @ known
    return torch.linalg.lstsq(seen.T, (exact @ known).T).solution.T, chosen


@memoised
def _directions(weight: Tensor, moment: Tensor, gradients: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Of each head the singular values, and the directions to read its context along. [h, d], [h, d, d]."""
    outputs = root(checked_moment(gradients, weight.shape[0], of="outputs"))
    width = weight.shape[1] // heads
    blocks = [slice(start, start + width) for start in range(0, weight.shape[1], width)]
    values, directions = [], []
    for block in blocks:
        known = root(moment[block, block].contiguous())
        _, found, right = torch.linalg.svd(outputs.T @ weight[:, block] @ known, full_matrices=True)
        values.append(torch.nn.functional.pad(found, (0, width - len(found))))
        directions.append(torch.linalg.solve(known.T, right.T).T)
    return torch.stack(values), torch.stack(directions)


def _promise(reading: Tensor, directions: Tensor) -> Tensor:
    """O from R [m, h·r] and S [h, r, d]."""
    count, kept, width = directions.shape
    parts = reading.reshape(len(reading), count, kept).movedim(1, 0) @ directions
    return parts.movedim(0, 1).reshape(len(reading), count * width)


DECLARED = (
    Decomposition(
        name="head_svd",
        params=("O", "C", "G", "rank", "heads?"),
        results=2,
        function=head_svd,
        promise_text="O ≈ R @ diag(S)",
        promise=_promise,
        forms=forms("[m, e] -> [m, c], [g, r, d]"),
        moments=forms("[m, e] -> [e, e], [m, m]"),
        metric=two_sided_error,
        source="Lin et al., 2024 (MoDeGPT), with the correction of Chee et al., 2022",
        doc="An output layer on fewer numbers of each of its heads, weighted by moments on both sides.",
    ),
)
