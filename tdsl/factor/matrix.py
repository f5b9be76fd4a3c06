"""Truncated singular value decomposition of a weight matrix, and its spectrum.

Everything is computed and returned in float64. Which algorithm runs depends on the arguments alone, never
on what was asked before, so that the same weight and rank give the same factors.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.krylov import krylov_range, orthonormal
from tdsl.factor.memo import memoised
from tdsl.factor.parts import across, missed_squares, sum_of_squares, times
from tdsl.factor.rank import RankRule, as_rank_rule, break_even
from tdsl.memory import returning

RANDOMIZED_ABOVE = 1024
"""Shorter side above which a small, known rank is found by random projection."""
FAR_BELOW = 4
"""The rank must fit this many times into the shorter side for that."""
OVERSAMPLING = 64
POWER_ITERATIONS = 4
PLAIN_SINGLE = 1e-3
"""Above this relative error, finding the range in single precision changes nothing in its first digits."""
CONDITION = 1e-4
"""Squared singular values at least this large, against the first one, are found well in a Gram matrix."""
SEED = 0x7D51
THIN = 2**24
"""Bytes of what goes back to the system as soon as it is freed: smaller ones, block by block, take time."""

_TIE = 1e-8
"""Entries this close to the largest one, relatively, count as equally large."""


class Truncation(NamedTuple):
    """Leading singular triplets `left` [m, r], `values` [r], `right` [r, n]; left·diag(values)·right ≈ W."""

    left: Tensor
    values: Tensor
    right: Tensor
    error: float
    """Relative Frobenius error of the product: the discarded singular values, or the residual itself."""


def checked(weight: Tensor, ndim: int | None = None) -> Tensor:
    """`weight` as a detached float64 tensor on the CPU.

    Raises `TdslError` when it is complex, not finite, or has not `ndim` axes.
    """
    return checked_as_stored(weight, ndim, torch.float64)


def checked_as_stored(weight: Tensor, ndim: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """`weight` detached on the CPU, in its own floating-point type where no `dtype` is given.

    Raises `TdslError` when it is complex, not finite, or has not `ndim` axes.
    """
    if ndim is not None and weight.ndim != ndim:
        raise TdslError(f"a weight of shape {list(weight.shape)}", expected=f"a weight of {ndim} axes")
    if weight.is_complex():
        raise TdslError(f"a weight of type {weight.dtype} is complex", expected="a real weight")
    if dtype is None:
        dtype = weight.dtype if weight.is_floating_point() else torch.float64
    plain = weight.dtype == dtype and weight.device.type == "cpu" and not weight.requires_grad
    exact = weight if plain else weight.detach().to(device="cpu", dtype=dtype)
    finite = math.isfinite(float(torch.linalg.vector_norm(exact)))  # or the squares overflow
    bad = 0 if finite else int(exact.numel() - exact.isfinite().sum())
    if bad:
        raise TdslError(
            f"NaN or infinite values in a weight of shape {list(weight.shape)}: {bad} of {exact.numel()}",
            expected="finite weights",
            hint="the checkpoint is damaged, or training diverged",
        )
    return exact


def svd(weight: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """The best rank-r approximation in the Frobenius norm (Eckart & Young, 1936), as two factors.

    [m, n] → U [m, r], V [r, n] with weight ≈ U·V, both carrying the square root of the singular values.
    `rank` is anything `as_rank_rule` takes. The product is optimal, up to 0.2 % or so of the error where
    the rank is found by random projection (`truncate`). Raises `TdslError` for a weight that is not a
    finite matrix and for a rank that it has not.
    """
    found = truncate(weight, rank)
    root = found.values.sqrt()
    return found.left * root, root[:, None] * found.right


def spectrum(weight: Tensor) -> Tensor:
    """The singular values of a matrix, descending. [m, n] → [min(m, n)]."""
    return decompose(weight).values.clone()


def truncate(weight: Tensor, rank: object) -> Truncation:
    """The leading singular triplets of `weight` [m, n], as many as `rank` says, and their error.

    Rules that look at the singular values, and small matrices, go through one full decomposition that
    is remembered; a rank that is known beforehand and far below a long shorter side takes a random
    projection instead.
    """
    rule = as_rank_rule(rank)
    shape = _matrix_shape(weight)
    known = projected_rank(rule, shape)
    if known is not None:
        return truncate_randomized(weight, known)
    whole = decompose(checked(weight))
    kept = select_rank(rule, whole.values, shape)
    lost = whole.values[kept:].norm()
    total = whole.values.norm()
    return Truncation(
        whole.left[:, :kept], whole.values[:kept], whole.right[:kept], float(lost / total) if total else 0.0
    )


def projected_rank(rule: RankRule, shape: tuple[int, int]) -> int | None:
    """The rank, where it is one that a random projection finds; `None` where all is decomposed."""
    shorter = min(shape)
    if shorter <= RANDOMIZED_ABOVE or rule.spectral:
        return None
    known = select_rank(rule, torch.empty(shorter, device="meta"), shape)
    return known if known * FAR_BELOW <= shorter else None


def select_rank(rule: RankRule, values: Tensor, shape: tuple[int, int]) -> int:
    """The rank that `rule` chooses for a matrix of that shape and spectrum."""
    rows, columns = shape
    aspect = min(shape) / max(shape) if min(shape) else 1.0
    return rule.select(values, break_even(rows, columns), aspect=aspect)


@memoised
def decompose(weight: Tensor) -> Truncation:
    """The full singular value decomposition of a matrix, remembered by content."""
    return triplets(checked(weight, ndim=2))


def by_gram(rule: RankRule, shape: tuple[int, int]) -> bool:
    """Whether a Gram matrix is good enough for the left singular vectors of a matrix, and worth it.

    It is a complete basis for a matrix that is not tall, in which directions that hold less than rounding of
    the energy may be mixed and have inexact values: too little for a rule that looks at values.
    """
    return not rule.spectral and shape[1] >= shape[0]


def principal(matrix: Tensor, *, by_gram: bool) -> tuple[Tensor, Tensor]:
    """The left singular vectors of a float64 matrix, descending, and its singular values; not remembered.

    [m, n] → [m, k], [k], k = min(m, n).
    """
    if by_gram:
        return from_gram(matrix @ matrix.T)
    found = triplets(matrix)
    return found.left, found.values


def principal_rows(matrix: Tensor, *, by_gram: bool) -> tuple[Tensor, Tensor]:
    """The right singular vectors of a float64 matrix, descending, and its singular values; not remembered.

    [m, n] → [k, n], [k]. By the Gram matrix of the columns k = n, else k = min(m, n).
    """
    if by_gram:
        basis, values = principal(matrix.T, by_gram=True)
        return basis.T, values
    found = triplets(matrix)
    return found.right, found.values


def from_gram(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Left singular vectors and values, descending, of a matrix A with Gram matrix A·Aᵀ [m, m]."""
    squares, vectors = torch.linalg.eigh(gram)
    left, values = vectors.flip(1), squares.flip(0).clamp_min(0).sqrt()
    return _oriented(left, values, left.T, error=0.0).left, values


def triplets(matrix: Tensor) -> Truncation:
    """Every singular triplet of a float64 matrix, not remembered."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return _oriented(left, values, right, error=0.0)


@memoised
def truncate_randomized(weight: Tensor, rank: int) -> Truncation:
    """Leading singular triplets by a randomized range finder, then an exact decomposition inside the range.

    The range comes from a block Krylov method in single precision (`krylov_range`). Where the error turns
    out so small that single precision shows in it, it comes from `POWER_ITERATIONS` power iterations on
    `OVERSAMPLING` columns more than wanted, in double (Halko, Martinsson & Tropp, 2011). Seeds are fixed.
    `error` is the residual of the returned triplets, computed from W itself. Some rows of W at a time are in
    double, so that all that stands beside it is thin.
    """
    stored = checked_as_stored(weight, ndim=2)
    with returning(THIN):
        basis = krylov_range(stored, rank, SEED)
        if basis is not None:
            found = _inside(stored, basis, rank)
            if found.error > PLAIN_SINGLE:
                return found
        return _inside(stored, _powered_range(stored, min(rank + OVERSAMPLING, *stored.shape)), rank)


def _powered_range(matrix: Tensor, width: int) -> Tensor:
    """An orthonormal basis of about the leading left singular vectors. [m, n] → [m, width]."""
    generator = torch.Generator().manual_seed(SEED)
    sketch = times(matrix, torch.randn(matrix.shape[1], width, generator=generator, dtype=torch.float64))
    basis: Tensor = torch.linalg.qr(sketch).Q
    for _ in range(POWER_ITERATIONS):
        dual = torch.linalg.qr(across(basis, matrix).T).Q
        basis = torch.linalg.qr(times(matrix, dual)).Q
    return basis


def _inside(matrix: Tensor, basis: Tensor, rank: int) -> Truncation:
    """The leading `rank` triplets of the projection of `matrix` [m, n] on orthonormal columns [m, k ≥ rank].

    The residual is what the projection loses and what the truncation loses of it, as a difference of squared
    norms, which is exact until it nears rounding; there it is formed.
    """
    inner, values, right = _decomposed(across(basis, matrix))
    left, values, right = basis @ inner[:, :rank], values[:rank], right[:rank]
    total = sum_of_squares(matrix)
    missed = total - float(values.square().sum())
    if missed <= PLAIN_SINGLE**2 * total:
        missed, _ = missed_squares(matrix, lambda rows: (left[rows] * values) @ right)
    return _oriented(left, values, right, error=math.sqrt(missed / total) if total else 0.0)


def _decomposed(wide: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition of a matrix [k, n], k ≤ n, by products where its values allow it."""
    scale = float(torch.linalg.vector_norm(wide)) or 1.0
    squares, inner = torch.linalg.eigh((wide / scale) @ (wide / scale).T)
    if len(squares) and float(squares[0]) > CONDITION * float(squares[-1]):
        inner, values = inner.flip(1), squares.flip(0).sqrt() * scale
        return inner, values, (inner.T @ wide) / values[:, None]
    across, triangle = orthonormal(wide.T)
    inner, values, turn = torch.linalg.svd(triangle.T, full_matrices=False)
    return inner, values, turn @ across.T


def _matrix_shape(weight: Tensor) -> tuple[int, int]:
    if weight.ndim != 2:
        checked(weight, ndim=2)
    rows, columns = weight.shape
    return rows, columns


def _oriented(left: Tensor, values: Tensor, right: Tensor, error: float) -> Truncation:
    """The triplets with the largest entry of each left vector positive (the first of equal ones).

    A singular vector is defined up to sign; this choice does not depend on the algorithm.
    """
    if left.numel() == 0:
        return Truncation(left, values, right, error)
    sizes = left.abs()
    largest = (sizes >= (1 - _TIE) * sizes.max(0).values).int().argmax(0)
    signs = left.gather(0, largest[None])[0].sign()
    signs = signs.where(signs != 0, 1.0)
    return Truncation(left * signs, values, signs[:, None] * right, error)


DECLARED = (
    Decomposition(
        name="svd",
        params=("W", "rank"),
        results=2,
        function=svd,
        promise_text="W ≈ U @ V",
        promise=lambda U, V: U @ V,  # noqa: N803
        by_rows=True,
        of_any_type=True,
        forms=forms("[m, n] -> [m, r], [r, n]"),
        source="Eckart & Young, 1936; by random projection Halko, Martinsson & Tropp, 2011",
        doc="The best rank-r approximation of a matrix in the Frobenius norm, as two balanced factors.",
    ),
)
