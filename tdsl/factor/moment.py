"""Second moments of data as metrics on weights: checked, damped, and as square roots.

The mean squared output error of a layer y = Wx whose weight is off by Δ is tr(ΔCΔᵀ), C the second moment of x
(its covariance, where the bias absorbs the mean). A root C = L·Lᵀ turns that into the Frobenius norm of ΔL.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.matrix import checked
from tdsl.factor.memo import memoised
from tdsl.memory import forget_packed

DAMPING = 1e-8
"""Share of the mean diagonal added to a moment: directions that the data never took come last, but come."""
_ROWS = 128
"""Rows that are looked at together."""
_ASYMMETRY = 1e-5
"""Moments summed in float32 are this far from symmetric and positive, and no further, relatively."""


def checked_moment(moment: Tensor, size: int, of: str) -> Tensor:
    """`moment` as a symmetric float64 matrix [size, size].

    Raises `TdslError`, naming what it is the moment `of`, for another shape and for what is not symmetric.
    """
    exact = checked(moment, ndim=2)
    if exact.shape != (size, size):
        raise TdslError(
            f"a moment of shape {list(exact.shape)} for {size} {of}", expected=f"a moment [{size}, {size}]"
        )
    if torch.equal(exact, exact.T):
        return exact  # no copy: a moment can be as large as the weights of many layers
    if (exact - exact.T).norm() > _ASYMMETRY * exact.norm():
        raise TdslError("a moment that is not symmetric", expected="the mean of x·xᵀ over data")
    return (exact + exact.T).div_(2)


@memoised
def root(moment: Tensor, damping: float = DAMPING) -> Tensor:
    """`new_root`, remembered."""
    return new_root(moment, damping)


def new_root(moment: Tensor, damping: float = DAMPING) -> Tensor:
    """L with L·Lᵀ = C + damping · tr(C)/n · I. [n, n] → [n, n], invertible unless `damping` is 0.

    A Cholesky factor; where rounding left C with eigenvalues below zero, those are raised to the damping
    instead. A moment of nothing but zeros says nothing, and counts as the identity. Raises `TdslError` for
    a negative damping and for a matrix that is no moment: not square, asymmetric, or clearly indefinite.
    """
    if not damping >= 0:
        raise TdslError(f"a damping of {damping!r}", expected="a number from 0 up")
    exact = checked_moment(moment, len(moment), of="values")
    size = len(exact)
    level = float(exact.diagonal().mean()) if size else 0.0
    if not exact.any():
        return torch.eye(size, dtype=torch.float64)
    damped = exact.clone()
    damped.diagonal().add_(damping * level)
    found = cholesky_in_place(damped)
    if found is not None:
        return found
    del damped
    values, vectors = torch.linalg.eigh(exact)
    if values[0] < -_ASYMMETRY * values[-1] or values[-1] <= 0:
        raise TdslError(
            f"a moment with the eigenvalues {float(values[0]):.3g} … {float(values[-1]):.3g}",
            expected="a positive semidefinite one: the mean of x·xᵀ over data",
        )
    scaled: Tensor = vectors.mul_((values.clamp_min(0) + damping * level).sqrt())
    return scaled


def cholesky_in_place(matrix: Tensor) -> Tensor | None:
    """The lower Cholesky factor of a symmetric matrix, in its memory, whose numbers are lost. [n, n].

    `None` where there is none. A matrix can be as large as a model.
    """
    by_columns = matrix.mT if matrix.is_contiguous() else matrix  # as LAPACK wants them: it copies others
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(
        by_columns, out=(by_columns, torch.empty((), dtype=torch.int32))
    )
    forget_packed()
    return None if int(failed) else factor


@memoised
def root_of(moment: Tensor, size: int, of: str, damping: float = DAMPING) -> Tensor:
    """`new_root` of `checked_moment`, remembered by the moment as it is given."""
    return new_root(checked_moment(moment, size, of), damping)


def solved_by_root(root: Tensor, right: Tensor) -> Tensor:
    """The X with Lᵀ·X = `right`, L a `root`: by substitution where that is triangular. [n, k]."""
    if _is_lower(root):
        solved: Tensor = torch.linalg.solve_triangular(root.T, right, upper=True)
    else:
        solved = torch.linalg.solve(root.T, right)
    return solved


def _is_lower(matrix: Tensor) -> bool:
    """Whether nothing but zeros is above the diagonal; looked at some rows at a time."""
    return not any(
        bool(rows.triu(1 + first).any())
        for first, rows in zip(range(0, len(matrix), _ROWS), torch.split(matrix, _ROWS), strict=True)
    )


@memoised
def whitened(weight: Tensor, moment: Tensor, damping: float = DAMPING) -> Tensor:
    """W·L, whose Frobenius norm is the output error of W, remembered. W [m, n], C [n, n] → [m, n].

    Raises `TdslError` as `root` does, and for a moment of another size.
    """
    exact = checked(weight, ndim=2)
    return exact @ root_of(moment, exact.shape[1], "inputs", damping)


def input_error(difference: Tensor, moment: Tensor) -> float:
    """tr(ΔCΔᵀ), summed over maps if there are several. Δ [m, n] or [h, m, n], C [n, n]."""
    return float(((difference @ moment) * difference).sum())


def two_sided_error(difference: Tensor, moment: Tensor, gradients: Tensor) -> float:
    """tr(GΔCΔᵀ), summed over maps if there are several. Δ [m, n] or [h, m, n], C [n, n], G [m, m]."""
    return float(((difference @ moment) * (gradients @ difference)).sum())
