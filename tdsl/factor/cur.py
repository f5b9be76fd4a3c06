"""Columns and rows of a weight itself, and a small matrix between them.

The outer factors are entries of the weight, not mixtures: they keep its type, its zeros and its meaning.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked, decompose
from tdsl.factor.memo import memoised
from tdsl.factor.moment import checked_moment, input_error, whitened
from tdsl.factor.rank import as_rank_rule, break_even, select_by_gains

INDEPENDENT = 1e-6
"""Smallest diagonal entry of a triangle, in largest ones, at which it is solved by substitution."""


class Skeleton(NamedTuple):
    """Columns and rows in the order they are selected; every rank takes a prefix of both."""

    columns: Tensor
    rows: Tensor
    left: Tensor
    """Triangular: the columns are an orthonormal basis times it, [k, k]."""
    core: Tensor
    """The weight between the two bases, [k, k]."""
    right: Tensor
    """Triangular: the rows are it, transposed, times an orthonormal basis, [k, k]."""
    gains: Tensor
    """What each column and row take off the squared error, [k]."""


def cur(weight: Tensor, rank: object) -> tuple[Tensor, Tensor, Tensor]:
    """r columns and r rows of W and the best matrix between them (Mahoney & Drineas, 2009).

    W [m, n] → C [m, r], U [r, r], R [r, n] with W ≈ C·U·R, C and R slices of W, U = C⁺·W·R⁺. They are chosen
    by discrete empirical interpolation of the singular vectors (Sorensen & Embree, 2016): exact where r is
    the rank of W, never better than the truncation. Raises `TdslError` as `svd` does.
    """
    exact = checked(weight, ndim=2)
    return _cut(exact, skeleton(exact, exact, exact), rank)


def whitened_cur(weight: Tensor, moment: Tensor, rank: object) -> tuple[Tensor, Tensor, Tensor]:
    """As `cur`, for the inputs of second moment C [n, n].

    Columns count as much as their input is large, and U is the best one in tr(ΔCΔᵀ). Raises `TdslError` as
    `whitened_svd` does.
    """
    exact = checked(weight, ndim=2)
    sizes = checked_moment(moment, exact.shape[1], of="inputs").diagonal().clamp_min(0).sqrt()
    scored = exact * sizes if sizes.any() else exact
    return _cut(exact, skeleton(exact, whitened(weight, moment), scored), rank)


@memoised
def skeleton(weight: Tensor, seen: Tensor, scored: Tensor) -> Skeleton:
    """Columns of `weight` and rows of `seen`, by the singular vectors of `scored`; all are [m, n].

    The pivots of Gaussian elimination on singular vectors are the interpolation points.
    """
    vectors = decompose(scored)
    there = vectors.values > len(vectors.values) * torch.finfo(torch.float64).eps * vectors.values[:1]
    terms = max(1, int(there.sum())) if len(there) else 0
    rows, columns = _pivots(vectors.left[:, :terms]), _pivots(vectors.right[:terms].T)
    basis, left = torch.linalg.qr(weight[:, columns])
    across, right = torch.linalg.qr(seen[rows].T)
    core = basis.T @ seen @ across
    kept = core.square().cumsum(0).cumsum(1).diagonal()
    return Skeleton(columns, rows, left, core, right, kept.diff(prepend=kept.new_zeros(1)))


def _pivots(vectors: Tensor) -> Tensor:
    """The rows that partial pivoting brings to the top, in that order. [n, k] → [k]."""
    order = torch.arange(len(vectors))
    if vectors.numel():
        for position, pivot in enumerate((torch.linalg.lu_factor(vectors).pivots - 1).tolist()):
            order[[position, pivot]] = order[[pivot, position]]
    return order[: vectors.shape[1]]


def _solved(triangle: Tensor, right: Tensor) -> Tensor:
    """The X of least squares with `triangle` · X = `right`, by substitution unless nearly dependent."""
    sizes = triangle.diagonal().abs()
    if len(sizes) and float(sizes.min()) > INDEPENDENT * float(sizes.max()):
        solved: Tensor = torch.linalg.solve_triangular(triangle, right, upper=True)
        return solved
    found: Tensor = torch.linalg.lstsq(triangle, right, driver="gelsd").solution
    return found


def _cut(weight: Tensor, found: Skeleton, rank: object) -> tuple[Tensor, Tensor, Tensor]:
    kept = select_by_gains(as_rank_rule(rank), found.gains, limit=break_even(*weight.shape))
    core = _solved(found.left[:kept, :kept], found.core[:kept, :kept])
    core = _solved(found.right[:kept, :kept], core.T).T
    return weight[:, found.columns[:kept]], core, weight[found.rows[:kept]]


DECLARED = (
    Decomposition(
        name="cur",
        params=("W", "rank"),
        results=3,
        function=cur,
        promise_text="W ≈ C @ U @ R",
        promise=lambda C, U, R: C @ U @ R,  # noqa: N803
        forms=forms("[m, n] -> [m, r], [r, r], [r, n]"),
        source="Mahoney & Drineas, 2009; the selection Sorensen & Embree, 2016",
        doc="Columns and rows of a matrix itself, and the best small matrix between them.",
    ),
    Decomposition(
        name="whitened_cur",
        params=("W", "C", "rank"),
        results=3,
        function=whitened_cur,
        promise_text="W ≈ C @ U @ R",
        promise=lambda C, U, R: C @ U @ R,  # noqa: N803
        forms=forms("[m, n] -> [m, r], [r, r], [r, n]"),
        moments=forms("[m, n] -> [n, n]"),
        metric=input_error,
        source="the scores of CURing, 2025; the selection Sorensen & Embree, 2016",
        doc="As `cur`, of columns with large inputs and least output error, C the moment of the inputs.",
    ),
)
