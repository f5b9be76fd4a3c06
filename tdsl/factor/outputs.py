"""Truncations by the moments of what a layer computes, where its inputs are too many for their own.

The best truncation of a weight W [m, n] depends on the second moment C of its inputs only through W·C·Wᵀ, the
moment of its outputs: m² numbers tell as much as n² do. Windows of k² taps over as many channels as there
are filters have k⁴ times as many. Nothing is sketched, and nothing is lost.
"""

from __future__ import annotations

from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.krylov import orthonormal
from tdsl.factor.matrix import checked, from_gram
from tdsl.factor.memo import memoised
from tdsl.factor.moment import DAMPING, checked_moment, root_of
from tdsl.factor.whitened import Terms, first_terms, projected


def output_svd(
    weight: Tensor, moment: Tensor, rank: object, damping: float = DAMPING
) -> tuple[Tensor, Tensor]:
    """`whitened_svd` from the moment of the outputs: their principal components (Yu & Wu, 2023).

    W [m, n], C [m, m] of the outputs, without the bias or about their mean → U [m, r], V [r, n] with W ≈ U·V.
    Of inputs with the moment M, C = W·M·Wᵀ; directions that the data never took come last, those that the
    weight turns most inputs to first among them (`damping`). Full rank is exact for any C. Rank rules see
    the square roots of the moment's eigenvalues. Raises `TdslError` as `svd` does, and for a C that is no
    moment of m outputs.
    """
    return _truncated(weight, moment, None, rank, damping)


def two_sided_output_svd(
    weight: Tensor, moment: Tensor, gradients: Tensor, rank: object, damping: float = DAMPING
) -> tuple[Tensor, Tensor]:
    """`two_sided_svd` from the moment of the outputs, weighted by gradients (Martens & Grosse, 2015).

    W [m, n], C [m, m] of the outputs, G [m, m] of the gradients there → U [m, r], V [r, n]. Raises
    `TdslError` as `output_svd` does.
    """
    return _truncated(weight, moment, gradients, rank, damping)


def _truncated(
    weight: Tensor, moment: Tensor, gradients: Tensor | None, rank: object, damping: float
) -> tuple[Tensor, Tensor]:
    return first_terms(
        weight,
        gradients,
        rank,
        damping,
        lambda: _seen(weight, moment, gradients, damping),
        lambda _: _all_terms(weight, moment, gradients, damping),
    )


@memoised
def _all_terms(weight: Tensor, moment: Tensor, gradients: Tensor | None, damping: float) -> Terms:
    """Every term of a weight in the metric, remembered: each rank is a prefix."""
    basis, values = from_gram(_seen(weight, moment, gradients, damping))
    least = min(weight.shape)
    return Terms(*projected(weight, basis[:, :least], gradients, damping), values[:least])


@memoised
def _seen(weight: Tensor, moment: Tensor, gradients: Tensor | None, damping: float) -> Tensor:
    """Kᵀ·C·K with G = K·Kᵀ and C damped by what the weight makes of inputs that are all alike. → [m, m]."""
    exact = checked(weight, ndim=2)
    rows, columns = exact.shape
    outputs = checked_moment(moment, rows, "outputs")
    if columns < rows:  # what is outside the range of the weight is the rounding of the data
        basis, _ = orthonormal(exact)
        outputs = basis @ (basis.T @ outputs @ basis) @ basis.T
    own = exact @ exact.T
    size, alike = float(outputs.trace()), float(own.trace())
    level = damping * size / alike if size and alike else 1.0
    seen = outputs + level * own
    if gradients is not None:
        mixing = root_of(gradients, rows, "outputs", damping)
        seen = mixing.T @ seen @ mixing
    return (seen + seen.T) / 2


def _output_error(change: Tensor, moment: Tensor) -> float:
    return float(((change @ moment) * change).sum())


def _two_sided_output_error(change: Tensor, moment: Tensor, gradients: Tensor) -> float:
    return float(((change @ moment) * (gradients @ change)).sum())


DECLARED = (
    Decomposition(
        name="output_svd",
        params=("W", "C", "rank", "damping?"),
        results=2,
        function=output_svd,
        promise_text="W ≈ U @ V",
        promise=lambda U, V: U @ V,  # noqa: N803
        forms=forms("[m, n] -> [m, r], [r, n]"),
        moments=forms("[m, n] -> [m, m]"),
        metric=_output_error,
        of_outputs=True,
        source="Yu & Wu, 2023; Zhang et al., 2016",
        doc="`whitened_svd` where C is the moment of the outputs W·x: m² numbers of data instead of n².",
    ),
    Decomposition(
        name="two_sided_output_svd",
        params=("W", "C", "G", "rank", "damping?"),
        results=2,
        function=two_sided_output_svd,
        promise_text="W ≈ U @ V",
        promise=lambda U, V: U @ V,  # noqa: N803
        forms=forms("[m, n] -> [m, r], [r, n]"),
        moments=forms("[m, n] -> [m, m], [m, m]"),
        metric=_two_sided_output_error,
        of_outputs=True,
        source="the metric of Martens & Grosse, 2015",
        doc="`two_sided_svd` where C is the moment of the outputs W·x: m² numbers of data instead of n².",
    ),
)
