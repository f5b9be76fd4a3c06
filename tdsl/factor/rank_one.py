"""Sums of rank-one terms fitted to a tensor, and corrected so that small changes of the factors do little.

Least squares alone drives terms to infinity that nearly cancel, wherever the best fit is not attained (border
rank), and then a small change of a factor, by training or rounding, is a large one of the sum. Among the
factors that fit as well, those of least sensitivity are sought (Phan et al., 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tdsl.factor.matrix import decompose

SWEEPS = 200
"""Most sweeps of alternating least squares, and of the correction."""
TRIAL_SWEEPS = 10
"""Sweeps after which the better start is chosen."""
GAIN = 1e-5
"""Least squares stop when a sweep gains less than this share of the error."""
SETTLED = 3e-3
"""The correction stops when a sweep gains less than this share of the sensitivity."""
SEED = 0xC9

_EXACT = 1e-7
"""Below this relative error the closed forms of squared errors are rounding."""
_ROUNDING = 1e-14
_INSIDE = 1 - 1e-9
"""Share of a bound that is made use of, so that rounding does not break it."""


def fit(tensor: Tensor, terms: int, sweeps: int = SWEEPS) -> list[Tensor]:
    """Factors [Iₙ, R] of a sum of R rank-one terms near a float64 tensor, by alternating least squares.

    Starts from the leading singular vectors of every unfolding, filled up with normal numbers from a fixed
    seed, or from such numbers alone where those fit better after a few sweeps (singular vectors can be a
    saddle point). Stops when a sweep gains little. The result may be far from stable: `stabilised`.
    """
    starts = (_swept(tensor, start, TRIAL_SWEEPS) for start in _starts(tensor, terms))
    factors, _ = min(starts, key=lambda found: found[1])
    return _swept(tensor, factors, sweeps)[0]


def stabilised(tensor: Tensor, factors: Sequence[Tensor], bound: float, sweeps: int = SWEEPS) -> list[Tensor]:
    """The least sensitive factors of a relative error of at most `bound` that are found from `factors` on.

    One factor at a time, the others fixed, the sensitivity is a weighted sum of squares of its columns and
    the error a quadratic form: the least sensitive factor within the bound is a ridge regression, whose
    weight is found by bisection (error-preserving correction; Phan et al., 2020). The sensitivity never
    rises, nor the error, where that is above the bound already.
    """
    found = balance([factor.clone() for factor in factors])
    total = float(tensor.square().sum())
    allowed = max(float((tensor - rebuilt(found)).square().sum()), (_INSIDE * bound) ** 2 * total)
    if allowed <= _EXACT**2 * total:
        return found
    before = sensitivity(found)
    for _ in range(sweeps):
        for mode in range(tensor.ndim):
            found[mode] = _least_sensitive(tensor, found, mode, allowed)
        balance(found)
        now = sensitivity(found)
        if before - now <= SETTLED * before:
            break
        before = now
    return found


def cancellation(factors: Sequence[Tensor]) -> float:
    """Σ_r ‖term r‖² over the squared norm of the sum: 1 for orthogonal terms, large where they cancel."""
    terms = float(math.prod((factor.square().sum(0) for factor in factors), start=_one()).sum())
    whole = float(rebuilt(factors).square().sum())
    return terms / whole if whole else 1.0


def sensitivity(factors: Sequence[Tensor]) -> float:
    """E‖change of the sum‖² for independent changes of variance 1 of all entries, to first order.

    Σₙ Iₙ · Σ_r ∏_{m ≠ n} ‖column r of factor m‖² (Tichavský, Phan & Cichocki, 2019).
    """
    lengths = [factor.square().sum(0) for factor in factors]
    return float(
        sum(
            len(factor) * math.prod(lengths[:mode] + lengths[mode + 1 :], start=_one()).sum()
            for mode, factor in enumerate(factors)
        )
    )


def rebuilt(factors: Sequence[Tensor]) -> Tensor:
    """The sum of the rank-one terms. [I₁, R], [I₂, R], … → [I₁, I₂, …]."""
    first, *others = factors
    return (first @ _columns(others).T).reshape([len(factor) for factor in factors])


def balance(factors: list[Tensor]) -> list[Tensor]:
    """Rescale the columns in place so that every mode has an equal part in the sensitivity of its term."""
    lengths = torch.stack([factor.norm(dim=0) for factor in factors])
    whole = lengths.log().sum(0)
    ideal = torch.tensor([[len(factor)] for factor in factors], dtype=torch.float64).log() / 2
    wanted = ((whole - ideal.sum()) / len(factors) + ideal).exp()
    scale = (wanted / lengths).where(whole.isfinite(), 0.0)
    for mode, factor in enumerate(factors):
        factors[mode] = factor * scale[mode]
    return factors


# ---------------------------------------------------------------- parts


def _starts(tensor: Tensor, terms: int) -> tuple[list[Tensor], list[Tensor]]:
    """Singular vectors filled up with normal numbers; normal numbers."""
    generator = torch.Generator().manual_seed(SEED)
    normal = [torch.randn(size, terms, generator=generator, dtype=torch.float64) for size in tensor.shape]
    leading = [decompose(unfolded(tensor, mode)).left[:, :terms] for mode in range(tensor.ndim)]
    filled = [torch.cat([few, more[:, few.shape[1] :]], 1) for few, more in zip(leading, normal, strict=True)]
    return filled, normal


def _swept(tensor: Tensor, factors: Sequence[Tensor], sweeps: int) -> tuple[list[Tensor], float]:
    """The factors after so many sweeps of least squares, fewer where one gains little, and their error."""
    found, total = list(factors), float(tensor.norm())
    before = now = total
    for sweep in range(sweeps):
        for mode in range(tensor.ndim):
            found[mode] = _solved(_gram(found, mode), _projected(tensor, found, mode))
        balance(found)
        now = float((tensor - rebuilt(found)).norm())
        if (sweep and before - now <= GAIN * before) or now <= _ROUNDING * total:
            break
        before = now
    return found, now


def _solved(gram: Tensor, projected: Tensor) -> Tensor:
    """A with A·G = P, of least norm where G is singular. G [R, R], P [I, R] → [I, R]."""
    found: tuple[Tensor, Tensor] = torch.linalg.cholesky_ex(gram)
    factor, failed = found
    if not int(failed):
        return torch.cholesky_solve(projected.T, factor).T
    least: Tensor = torch.linalg.lstsq(gram, projected.T, driver="gelsd").solution
    return least.T


def _least_sensitive(tensor: Tensor, factors: Sequence[Tensor], mode: int, bound: float) -> Tensor:
    """The factor of one mode of least sensitivity whose squared error is at most `bound`."""
    lengths = [factor.square().sum(0) for factor in factors]
    others = [m for m in range(len(factors)) if m != mode]
    weights = sum(
        (len(factors[m]) * math.prod((lengths[n] for n in others if n != m), start=_one()) for m in others),
        start=0 * _one(),
    )
    root = weights.clamp_min(torch.finfo(torch.float64).tiny).sqrt()
    # With weighted columns, and the eigenvectors of their Gram matrix, the ridge is a division.
    gram, turn = torch.linalg.eigh(_gram(factors, mode) / root / root[:, None])
    gram = gram.clamp_min(0)
    seen = _projected(tensor, factors, mode) / root @ turn
    energy, total = seen.square().sum(0), float(tensor.square().sum())

    def missed(ridge: float) -> float:
        kept = (2 / (gram + ridge) - gram / (gram + ridge).square()) * energy
        return total - float(kept.sum())

    high = float(gram.max())
    tiny = high * torch.finfo(torch.float64).eps
    if not tiny or missed(tiny) > bound:
        return factors[mode]
    low = tiny
    while missed(high) <= bound and high < 1e12 * float(gram.max()):
        low, high = high, 4 * high
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if missed(middle) <= bound else (low, middle)
    least: Tensor = seen / (gram + low) @ turn.T / root
    return least


def _one() -> Tensor:
    return torch.ones((), dtype=torch.float64)


def unfolded(tensor: Tensor, mode: int) -> Tensor:
    """The matrix whose rows run along that axis. […] → [Iₙ, the rest]."""
    return tensor.movedim(mode, 0).reshape(tensor.shape[mode], -1)


def _columns(factors: Sequence[Tensor]) -> Tensor:
    """The rank-one terms as vectors (Khatri–Rao product). [I, R], [J, R], … → [I·J·…, R]."""
    product, *others = factors
    for factor in others:
        product = (product[:, None] * factor).flatten(0, 1)
    return product


def _projected(tensor: Tensor, factors: Sequence[Tensor], mode: int) -> Tensor:
    """The unfolding times the terms of the other modes. → [Iₙ, R]."""
    return unfolded(tensor, mode) @ _columns([*factors[:mode], *factors[mode + 1 :]])


def _gram(factors: Sequence[Tensor], mode: int) -> Tensor:
    """The inner products of the terms of the other modes. → [R, R]."""
    grams = [factor.T @ factor for n, factor in enumerate(factors) if n != mode]
    return math.prod(grams[1:], start=grams[0])
