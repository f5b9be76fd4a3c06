"""Truncations of a weight that are best for the data it meets, not for its entries.

Each minimises a squared error weighted by moments: of the inputs, of the gradients at the outputs, or both.
Components that the calibration data do not use are the first to go; how far the layer then moves on other
data is not in the stated error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import by_gram, checked, principal, projected_rank, select_rank, truncate
from tdsl.factor.memo import memoised
from tdsl.factor.moment import DAMPING, input_error, root_of, solved_by_root, two_sided_error, whitened
from tdsl.factor.rank import as_rank_rule


def whitened_svd(
    weight: Tensor, moment: Tensor, rank: object, damping: float = DAMPING
) -> tuple[Tensor, Tensor]:
    """The rank-r approximation of least mean squared output error, tr(ΔCΔᵀ) (SVD-LLM: Wang et al., 2024).

    W [m, n], C [n, n] → U [m, r], V [r, n] with W ≈ U·V. With C = L·Lᵀ and the left singular vectors P of
    W·L the optimum is P·Pᵀ·W, which is the projection on the principal components of the outputs: nothing
    is inverted, and full rank is exact for any C. Rank rules see the singular values of W·L. A larger
    `damping` (`root`) guards against few data. Raises `TdslError` as `svd` does, and for a C that is no
    moment of n inputs.
    """
    return _truncated(weight, moment, None, rank, damping)


def two_sided_svd(
    weight: Tensor, moment: Tensor, gradients: Tensor, rank: object, damping: float = DAMPING
) -> tuple[Tensor, Tensor]:
    """The best rank-r approximation in tr(GΔCΔᵀ), the Kronecker-factored curvature (Martens & Grosse, 2015).

    W [m, n], C [n, n] of the inputs, G [m, m] of the gradients at the outputs → U [m, r], V [r, n]. With
    G = K·Kᵀ and the left singular vectors P of Kᵀ·W·L the optimum is K⁻ᵀ·P·Pᵀ·Kᵀ·W. Raises `TdslError` as
    `whitened_svd` does.
    """
    return _truncated(weight, moment, gradients, rank, damping)


def _truncated(
    weight: Tensor, moment: Tensor, gradients: Tensor | None, rank: object, damping: float
) -> tuple[Tensor, Tensor]:
    def seen() -> Tensor:
        inner = whitened(weight, moment, damping)
        if gradients is None:
            return inner
        return root_of(gradients, len(weight), "outputs", damping).T @ inner

    return first_terms(
        weight,
        gradients,
        rank,
        damping,
        seen,
        lambda gram: _all_terms(weight, moment, gradients, gram, damping),
    )


def first_terms(
    weight: Tensor,
    gradients: Tensor | None,
    rank: object,
    damping: float,
    seen: Callable[[], Tensor],
    terms: Callable[[bool], Terms],
) -> tuple[Tensor, Tensor]:
    """The first of all terms, as many as `rank` says; a small rank of a large weight has its own.

    [m, n] → [m, r], [r, n]. `seen` gives a matrix whose left singular vectors the weight is projected on,
    `terms` all of them, from a Gram matrix if it is told so.
    """
    rule = as_rank_rule(rank)
    rows, columns = checked(weight, ndim=2).shape
    shape = (rows, columns)
    known = projected_rank(rule, shape)
    if known is not None:
        return balanced(*projected(weight, truncate(seen(), known).left, gradients, damping))
    found = terms(by_gram(rule, shape))
    kept = select_rank(rule, found.values, shape)
    return balanced(found.left[:, :kept], found.right[:kept])


class Terms(NamedTuple):
    """Factors `left` [m, k] and `right` [k, n] at full rank, whose first r terms are those of rank r."""

    left: Tensor
    right: Tensor
    values: Tensor
    """What each term contributes in the metric, descending, [k]."""


@memoised
def _all_terms(weight: Tensor, moment: Tensor, gradients: Tensor | None, gram: bool, damping: float) -> Terms:
    """Every term of a weight in a metric, remembered: each rank is a prefix."""
    seen = checked(weight, ndim=2) @ root_of(moment, weight.shape[1], "inputs", damping)
    if gradients is not None:
        seen = root_of(gradients, weight.shape[0], "outputs", damping).T @ seen
    basis, values = principal(seen, by_gram=gram)
    return Terms(*projected(weight, basis, gradients, damping), values)


def projected(
    weight: Tensor, basis: Tensor, gradients: Tensor | None, damping: float = DAMPING
) -> tuple[Tensor, Tensor]:
    """The factors that project a weight on directions of its weighted outputs. [m, r] → [m, r], [r, n]."""
    exact = checked(weight, ndim=2)
    if gradients is None:
        return basis, basis.T @ exact
    outputs = root_of(gradients, len(exact), "outputs", damping)
    return solved_by_root(outputs, basis), (outputs @ basis).T @ exact


def fisher_svd(weight: Tensor, fisher: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """The best rank-r approximation with each row weighted by its Fisher information (Hsu et al., 2022).

    W [m, n], F [m, n] the mean squared gradient of each entry → U [m, r], V [r, n]; the error is
    Σᵢ (Σⱼ Fᵢⱼ) · ‖Δᵢ‖², of which row sums alone have a closed form. Rows without information weigh as
    `DAMPING` of the mean one. Raises `TdslError` as `svd` does, and for an F of another shape or below zero.
    """
    exact = checked(weight, ndim=2)
    information = checked(fisher, ndim=2)
    if information.shape != exact.shape or bool((information < 0).any()):
        raise TdslError(
            f"Fisher information of shape {list(information.shape)} for a weight {list(exact.shape)}",
            expected=f"squared gradients, none negative, of shape {list(exact.shape)}",
        )
    rows = information.sum(1)
    scale = (rows + DAMPING * rows.mean()).sqrt()[:, None] if rows.any() else torch.ones_like(rows)[:, None]
    basis = truncate(scale * exact, rank).left
    return balanced(basis / scale, basis.T @ (scale * exact))


def balanced(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The same product, with column i of `left` as long as row i of `right`. [m, r], [r, n]."""
    columns, rows = left.norm(dim=0), right.norm(dim=1)
    scale = (rows / columns).sqrt()
    scale = scale.where((rows > 0) & (columns > 0), 1.0)
    return left * scale, right / scale[:, None]


def _row_error(difference: Tensor, fisher: Tensor) -> float:
    return float((fisher.sum(1) * difference.square().sum(1)).sum())


DECLARED = (
    Decomposition(
        name="whitened_svd",
        params=("W", "C", "rank", "damping?"),
        results=2,
        function=whitened_svd,
        promise_text="W ≈ U @ V",
        promise=lambda U, V: U @ V,  # noqa: N803
        forms=forms("[m, n] -> [m, r], [r, n]"),
        moments=forms("[m, n] -> [n, n]"),
        metric=input_error,
        source="Wang et al., 2024 (SVD-LLM); as output principal components Yu & Wu, 2023",
        doc="The rank-r approximation of least mean squared output error, C the moment of the inputs.",
    ),
    Decomposition(
        name="two_sided_svd",
        params=("W", "C", "G", "rank", "damping?"),
        results=2,
        function=two_sided_svd,
        promise_text="W ≈ U @ V",
        promise=lambda U, V: U @ V,  # noqa: N803
        forms=forms("[m, n] -> [m, r], [r, n]"),
        moments=forms("[m, n] -> [n, n], [m, m]"),
        metric=two_sided_error,
        source="the metric of Martens & Grosse, 2015",
        doc="The best rank-r approximation, weighted by moments of inputs (C) and output gradients (G).",
    ),
    Decomposition(
        name="fisher_svd",
        params=("W", "F", "rank"),
        results=2,
        function=fisher_svd,
        promise_text="W ≈ U @ V",
        promise=lambda U, V: U @ V,  # noqa: N803
        forms=forms("[m, n] -> [m, r], [r, n]"),
        moments=forms("[m, n] -> [m, n]"),
        metric=_row_error,
        source="Hsu et al., 2022",
        doc="The best rank-r approximation with rows weighted by Fisher information (squared gradients F).",
    ),
)
