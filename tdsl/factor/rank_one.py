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

EXACT = 1e-7
"""Below this relative error the closed forms of squared errors are rounding."""
_ROUNDING = 1e-14
_SQUARED = 16 * torch.finfo(torch.float64).eps
"""What rounding does to a squared relative error in closed form."""
_INSIDE = 1 - 1e-9
"""Share of a bound that is made use of, so that rounding does not break it."""


def fit(tensor: Tensor, terms: int, sweeps: int = SWEEPS, seed: int = SEED) -> list[Tensor]:
    """Factors [Iₙ, R] of a sum of R rank-one terms near a float64 tensor, by alternating least squares.

    Starts from the leading singular vectors of every unfolding, filled up with normal numbers from the
    seed, from such numbers alone (singular vectors can be a saddle point), or from the terms of two slices
    (which are the right ones, where R terms are exact): what fits best after a few sweeps. Stops when a
    sweep gains little. The result may be far from stable: `stabilised`.
    """
    starts = (_swept(tensor, start, TRIAL_SWEEPS) for start in _starts(tensor, terms, seed))
    factors, _ = min(starts, key=lambda found: found[1])
    return _swept(tensor, factors, sweeps)[0]


def stabilised(tensor: Tensor, factors: Sequence[Tensor], bound: float) -> list[Tensor]:
    """The least sensitive factors of a relative error of at most `bound` that are found from `factors` on.

    One factor at a time, the others fixed, the sensitivity is a weighted sum of squares of its columns and
    the error a quadratic form: the least sensitive factor within the bound is a ridge regression, whose
    weight is found by bisection (error-preserving correction; Phan et al., 2020). The sensitivity never
    rises, nor the error, where that is above the bound already.
    """
    found = balance([factor.clone() for factor in factors])
    total = float(tensor.square().sum())
    own = float((tensor - rebuilt(found)).square().sum())
    allowed = max(own, ((_INSIDE * bound) ** 2 - _SQUARED) * total)
    if allowed <= EXACT**2 * total:
        return found
    before = sensitivity(found)
    for _ in range(SWEEPS):
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


def _starts(tensor: Tensor, terms: int, seed: int) -> tuple[list[Tensor], ...]:
    """Singular vectors filled up with normal numbers; normal numbers; the terms of two slices."""
    generator = torch.Generator().manual_seed(seed)
    normal = [torch.randn(size, terms, generator=generator, dtype=torch.float64) for size in tensor.shape]
    leading = [decompose(unfolded(tensor, mode)).left[:, :terms] for mode in range(tensor.ndim)]
    filled = [torch.cat([few, more[:, few.shape[1] :]], 1) for few, more in zip(leading, normal, strict=True)]
    sliced = _of_two_slices(tensor, terms)
    return (filled, normal) if sliced is None else (filled, normal, sliced)


def _of_two_slices(tensor: Tensor, terms: int) -> list[Tensor] | None:
    """The terms that two slices of a tensor have in common (Leurgans, Ross & Abel, 1993), if so many.

    Slices along two axes are A·D·Bᵀ with one A and B for all and D diagonal, so the columns of A are the
    eigenvectors of one slice times the inverse of another, here those of the largest energy. `None` for more
    terms than there are, or than these axes have places, and where eigenvectors are complex.
    """
    long = sorted(range(tensor.ndim), key=lambda mode: tensor.shape[mode])[-2:]
    others = [mode for mode in range(tensor.ndim) if mode not in long]
    count = math.prod(tensor.shape[mode] for mode in others)
    if terms > min(tensor.shape[mode] for mode in long) or count < 2:
        return None
    slices = tensor.permute(*others, *long).reshape(count, tensor.shape[long[0]], tensor.shape[long[1]])
    leading = decompose(slices.reshape(count, -1)).left[:, :2]
    left, right = (decompose(unfolded(slices, axis)).left[:, :terms] for axis in (1, 2))
    one, two = torch.einsum("kc,kij,ir,js->crs", leading, slices, left, right)
    kept = torch.linalg.svdvals(two)
    if float(kept[-1]) <= EXACT * float(kept[0]):
        return None
    values, found = torch.linalg.eig(torch.linalg.lstsq(two.T, one.T, driver="gelsd").solution.T)
    if float(values.imag.abs().max()) > EXACT * float(values.abs().max()):
        return None
    first = found.real
    second = torch.linalg.lstsq(first, one, driver="gelsd").solution.T
    factors = {long[0]: left @ first, long[1]: right @ second}
    pair = _columns([factors[mode] for mode in long])
    rest = torch.linalg.lstsq(pair, slices.reshape(count, -1).T, driver="gelsd").solution
    shape = [tensor.shape[mode] for mode in others]
    for axis, mode in enumerate(others):
        each = rest.reshape(terms, *shape).movedim(axis + 1, 1).reshape(terms, shape[axis], -1)
        factors[mode] = torch.linalg.svd(each, full_matrices=False).U[:, :, 0].T
    start = [factors[mode] for mode in range(tensor.ndim)]
    return start if all(bool(factor.isfinite().all()) for factor in start) else None


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
