"""Truncation of products of weights, where nothing stands between the two: the heads of attention.

A head scores a query x against a key y by xᵀ·(W_qᵀ·W_k)·y, and sends y on as W_o·W_v·y: only the products
matter. Truncating them is never worse, and mostly better, than truncating their factors. A bias is one more
column of its weight, for an input that is always 1, so that it takes part and stays exact at full rank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.factor.declare import CompileTimeFunction, Decomposition, forms
from tdsl.factor.matrix import SEED, checked
from tdsl.factor.memo import memoised
from tdsl.factor.moment import DAMPING, checked_moment, input_error, root, two_sided_error
from tdsl.factor.rank import as_rank_rule, select_by_gains

SKETCH = 128
"""Columns with which the range of a product is guessed; wider products are decomposed in full."""


def bilinear_svd(
    weight: Tensor, moment: Tensor, others: Tensor, rank: object, damping: float = DAMPING
) -> tuple[Tensor, Tensor]:
    """Bilinear forms truncated to one rank, optimal in the sum of tr(GΔCΔᵀ) over them (Lin et al., 2024).

    M [h, m, n], C [n, n] the moment of what meets M from the right, G [m, m] of what meets it from the left →
    U [h, m, r], V [h, r, n] with M ≈ U·V for each of the h forms. The error is the mean squared one of the
    values xᵀ·M·y of independent x and y. The forms share their rank, which is at most the largest that one
    of them has; a ratio is a share of that. Raises `TdslError` as `two_sided_svd` does.
    """
    left = root(checked_moment(others, checked(weight, ndim=3).shape[1], of="rows"), damping)
    return _truncated(weight, moment, left, rank, damping)


def whitened_bilinear(
    weight: Tensor, moment: Tensor, rank: object, damping: float = DAMPING
) -> tuple[Tensor, Tensor]:
    """As `bilinear_svd` where what M maps to counts as it is: the sum of tr(ΔCΔᵀ) over the forms.

    M [h, m, n], C [n, n] → U [h, m, r], V [h, r, n].
    """
    return _truncated(weight, moment, torch.eye(weight.shape[1], dtype=torch.float64), rank, damping)


def _truncated(
    weight: Tensor, moment: Tensor, left: Tensor, rank: object, damping: float
) -> tuple[Tensor, Tensor]:
    """The forms truncated in the metric whose root on the left is `left` [m, m]."""
    exact = checked(weight, ndim=3)
    right = root(checked_moment(moment, exact.shape[2], of="columns"), damping)
    basis, values, _ = _decompose(left.T @ exact @ right)
    found = values.square().sum(0)
    there = found > len(found) * torch.finfo(torch.float64).eps ** 2 * found.sum()
    gains = found[: max(1, int(there.sum()))]
    kept = select_by_gains(as_rank_rule(rank), gains, limit=len(gains))
    basis = basis[:, :, :kept]
    count, rows, _ = exact.shape
    unseen = torch.linalg.solve(left.T, basis.movedim(0, 1).reshape(rows, count * kept))
    return _balanced(unseen.reshape(rows, count, kept).movedim(1, 0), basis.mT @ (left.T @ exact))


@memoised
def _decompose(forms_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition of each form, of those terms that there are. [h, m, n].

    The product of two narrow weights has a small range, which a random sketch spans; whether it does is
    checked, and where it does not every form is decomposed as it is.
    """
    size = forms_.shape[2]
    if min(forms_.shape[1:]) > 2 * SKETCH:
        test = torch.randn(size, SKETCH, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
        span = torch.linalg.qr(forms_ @ test).Q
        inside = span.mT @ forms_
        if (forms_ - span @ inside).norm() <= 1e-13 * forms_.norm():
            left, values, right = torch.linalg.svd(inside, full_matrices=False)
            return span @ left, values, right
    left, values, right = torch.linalg.svd(forms_, full_matrices=False)
    return left, values, right


def _balanced(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The same products, with columns of `left` as long as rows of `right`. [h, m, r], [h, r, n]."""
    columns, rows = left.norm(dim=1, keepdim=True), right.norm(dim=2, keepdim=True).mT
    scale = (rows / columns).sqrt().where((rows > 0) & (columns > 0), 1.0)
    return left * scale, right / scale.mT


def homogeneous(moment: Tensor, mean: Tensor) -> Tensor:
    """The second moment of (x, 1), x of second moment C [n, n] and mean μ [n]. → [n + 1, n + 1].

    Raises `TdslError` for shapes that do not belong together.
    """
    middle = checked(mean, ndim=1)
    exact = checked_moment(moment, len(middle), of="inputs")
    below = torch.cat([middle, middle.new_ones(1)])
    return torch.cat([torch.cat([exact, middle[:, None]], 1), below[None]])


DECLARED = (
    Decomposition(
        name="bilinear_svd",
        params=("M", "C", "G", "rank", "damping?"),
        results=2,
        function=bilinear_svd,
        promise_text="M ≈ U @ V",
        promise=lambda U, V: U @ V,  # noqa: N803
        forms=forms("[h, m, n] -> [h, m, r], [h, r, n]"),
        moments=forms("[h, m, n] -> [n, n], [m, m]"),
        metric=two_sided_error,
        source="Lin et al., 2024 (MoDeGPT), for values and outputs; the metric of two_sided_svd",
        doc="Bilinear forms (heads) truncated to one rank, weighted by moments on both sides.",
    ),
    Decomposition(
        name="whitened_bilinear",
        params=("M", "C", "rank", "damping?"),
        results=2,
        function=whitened_bilinear,
        promise_text="M ≈ U @ V",
        promise=lambda U, V: U @ V,  # noqa: N803
        forms=forms("[h, m, n] -> [h, m, r], [h, r, n]"),
        moments=forms("[h, m, n] -> [n, n]"),
        metric=input_error,
        source="Lin et al., 2024 (MoDeGPT), for values and outputs",
        doc="Maps (heads) truncated to one rank, weighted by the moment of their inputs.",
    ),
    CompileTimeFunction(
        "homogeneous", "tensor", ("C", "mean"), homogeneous, "The second moment of x and a constant 1."
    ),
)
