"""Numbers and predicates about the values of a weight, for the conditions of a rule.

A predicate is exact unless a tolerance is given: the relative Frobenius distance to the nearest matrix that
has the property. Spectra and predicates are remembered by content; what takes one pass over the entries is
not, since recognising the content takes one as well. Raises `TdslError` for weights that are not finite and,
where a matrix is meant, for anything else.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.declare import CompileTimeFunction
from tdsl.factor.matrix import checked, spectrum
from tdsl.factor.memo import memoised
from tdsl.factor.rank import Energy, break_even


def numerical_rank(weight: Tensor, tolerance: float | None = None) -> int:
    """How many singular values exceed `tolerance` times the largest one.

    Without a tolerance, the rounding of the weight's own type: ε · max(m, n).
    """
    values = spectrum(weight)
    if tolerance is None:
        kind = weight.dtype if weight.is_floating_point() else torch.float64
        tolerance = torch.finfo(kind).eps * max(weight.shape)
    return int((values > tolerance * values[0]).sum()) if len(values) else 0


def energy_rank(weight: Tensor, energy: float) -> int:
    """The rank that `energy(e)` chooses: the smallest that keeps that share of the squared norm."""
    return Energy(energy).select(spectrum(weight), break_even(*weight.shape))


@memoised
def is_symmetric(weight: Tensor, tolerance: float = 0.0) -> bool:
    """Whether W = Wᵀ."""
    exact = checked(weight, ndim=2)
    return _square(exact) and _near(exact, (exact + exact.T) / 2, tolerance)


@memoised
def is_diagonal(weight: Tensor, tolerance: float = 0.0) -> bool:
    """Whether a square W is zero off its diagonal."""
    exact = checked(weight, ndim=2)
    return _square(exact) and _near(exact, exact.diagonal().diag(), tolerance)


@memoised
def is_circulant(weight: Tensor, tolerance: float = 0.0) -> bool:
    """Whether W[i, j] depends on (i − j) mod n alone."""
    exact = checked(weight, ndim=2)
    if not _square(exact):
        return False
    steps = torch.arange(len(exact))
    offset = (steps[:, None] - steps) % max(1, len(exact))  # of each entry, in 0 … n − 1
    # Row d of `wrapped` is the d-th wrapped diagonal. Averaging differences to its first entry, not the
    # entries themselves, leaves a matrix that is circulant exactly as it is.
    wrapped = exact[(steps[:, None] + steps) % max(1, len(exact)), steps]
    level = wrapped[:, :1] + (wrapped - wrapped[:, :1]).mean(1, keepdim=True)
    return _near(exact, level[:, 0][offset] if len(exact) else exact, tolerance)


def sparsity(weight: Tensor) -> float:
    """The share of entries that are zero; 0 for an empty tensor."""
    exact = checked(weight)
    return int((exact == 0).sum()) / exact.numel() if exact.numel() else 0.0


def is_zero(weight: Tensor) -> bool:
    """Whether every entry is zero."""
    if weight.is_floating_point() and weight.numel():  # one pass in any type, a quarter of what `any` takes
        ends = [float(end) for end in weight.detach().aminmax()]
        if all(map(math.isfinite, ends)):
            return ends == [0, 0]
    return not bool(checked(weight).any())


def norm(weight: Tensor) -> float:
    """The Frobenius norm: the root of the sum of squares of all entries."""
    return float(checked(weight).norm())


def relative_error(reference: Tensor, approximation: Tensor) -> float:
    """‖reference − approximation‖ / ‖reference‖ in the Frobenius norm; infinite when only the reference is 0.

    Raises `TdslError` when the shapes differ.
    """
    if reference.shape != approximation.shape:
        raise TdslError(
            f"an error between shapes {list(reference.shape)} and {list(approximation.shape)}",
            expected="two tensors of one shape",
        )
    exact = checked(reference)
    missed = float((exact - checked(approximation)).norm())
    total = float(exact.norm())
    return missed / total if total else (float("inf") if missed else 0.0)


def _square(matrix: Tensor) -> bool:
    return matrix.shape[0] == matrix.shape[1]


def _near(matrix: Tensor, nearest: Tensor, tolerance: float) -> bool:
    return bool((matrix - nearest).norm() <= tolerance * matrix.norm())


DECLARED = (
    CompileTimeFunction(
        "numerical_rank",
        "number",
        ("W", "tolerance?"),
        numerical_rank,
        "How many singular values exceed `tolerance` times the largest; by default, rounding.",
    ),
    CompileTimeFunction(
        "energy_rank",
        "number",
        ("W", "energy"),
        energy_rank,
        "The smallest rank that keeps that share of the squared Frobenius norm.",
    ),
    CompileTimeFunction("sparsity", "number", ("W",), sparsity, "The share of entries that are zero."),
    CompileTimeFunction(
        "is_zero",
        "predicate",
        ("W",),
        is_zero,
        "Whether every entry is zero.",
        family="zeros",
        of_any_type=True,
    ),
    CompileTimeFunction("norm", "number", ("W",), norm, "The Frobenius norm."),
    CompileTimeFunction(
        "relative_error",
        "number",
        ("reference", "approximation"),
        relative_error,
        "‖reference − approximation‖ / ‖reference‖ in the Frobenius norm.",
    ),
    CompileTimeFunction("is_symmetric", "predicate", ("W", "tolerance?"), is_symmetric, "Whether W = Wᵀ."),
    CompileTimeFunction(
        "is_diagonal",
        "predicate",
        ("W", "tolerance?"),
        is_diagonal,
        "Whether a square W is zero off its diagonal.",
    ),
    CompileTimeFunction(
        "is_circulant",
        "predicate",
        ("W", "tolerance?"),
        is_circulant,
        "Whether W[i, j] depends on (i − j) mod n alone.",
    ),
)
