"""Canonical polyadic (CP) decomposition of convolution kernels, stable under small changes of the factors.

A kernel as a sum of R rank-one terms is a 1×1 convolution to R channels, a depthwise one, and a 1×1 back.
Least squares alone drives terms to infinity that nearly cancel, wherever the best fit is not attained (border
rank), and then a small change of a factor, by training or rounding, is a large one of the kernel. So the fit
is corrected: among the factors that fit as well, those of least sensitivity are sought (Phan et al., 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.conv import checked_kernel
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import decompose
from tdsl.factor.memo import memoised
from tdsl.factor.rank import (
    Energy,
    Error,
    Fixed,
    RankRule,
    Tiled,
    as_rank_rule,
)

SWEEPS = 200
"""Most sweeps of alternating least squares, and of the correction."""
GAIN = 1e-5
"""Least squares stop when a sweep gains less than this share of the error."""
SETTLED = 3e-3
"""The correction stops when a sweep gains less than this share of the sensitivity."""
SEARCH_STEP = 1.1
"""A rank that an error asks for is found to within this factor."""
SEED = 0xC9

CANCELLING = 2.0
"""Terms whose squared norms add up to more than this many times that of the kernel cancel each other."""
ALLOWANCE = 0.01
"""Share of the kernel's norm that may be lost for terms that do not."""

_EXACT = 1e-7
"""Below this relative error the closed forms of squared errors are rounding."""
_ROUNDING = 1e-14
_INSIDE = 1 - 1e-9
"""Share of a bound that is made use of, so that rounding does not break it."""


def cp(kernel: Tensor, rank: object) -> tuple[Tensor, Tensor, Tensor]:
    """R rank-one terms over outputs, inputs and positions (Lebedev et al., 2015), of least sensitivity.

    [T, S, *k] → first [R, S, *1], depthwise [R, 1, *k], last [T, R, *1]. A ratio is that of the largest R at
    which these hold fewer numbers than the kernel; an energy or an error is met by the smallest R found in a
    search, or by an exact form of full rank where no such R meets it. Raises `TdslError` for what is no
    finite kernel, `UnreachableRankError` for more terms than any kernel of that shape needs.
    """
    exact = checked_kernel(kernel, least_axes=1)
    outputs, inputs, *size = exact.shape
    last, first, middle = _decomposed(exact.reshape(outputs, inputs, math.prod(size)), as_rank_rule(rank))
    ones, terms = [1] * len(size), last.shape[1]
    return (
        first.T.reshape(terms, inputs, *ones),
        middle.T.reshape(terms, 1, *size),
        last.reshape(outputs, terms, *ones),
    )


def cp_product(first: Tensor, depthwise: Tensor, last: Tensor) -> Tensor:
    """The kernel of the chain. [R, S, *1], [R, 1, *k], [T, R, *1] → [T, S, *k]."""
    return torch.einsum("tr,r...,rs->ts...", last.flatten(1), depthwise.squeeze(1), first.flatten(1))


def cp_separable(kernel: Tensor, rank: object) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`cp` with a mode for each of two spatial axes: depthwise filters along rows, then along columns.

    [T, S, kh, kw] → first [R, S, 1, 1], vertical [R, 1, kh, 1], horizontal [R, 1, 1, kw], last [T, R, 1, 1].
    Ranks and errors as those of `cp`.
    """
    exact = checked_kernel(kernel, least_axes=2)
    if exact.ndim != 4:
        raise TdslError(
            f"a kernel of shape {list(exact.shape)}", expected="two spatial axes, [out, in, kh, kw]"
        )
    last, first, rows, columns = _decomposed(exact, as_rank_rule(rank))
    terms = last.shape[1]
    return (
        first.T.reshape(terms, -1, 1, 1),
        rows.T.reshape(terms, 1, -1, 1),
        columns.T.reshape(terms, 1, 1, -1),
        last.reshape(-1, terms, 1, 1),
    )


def cp_separable_product(first: Tensor, vertical: Tensor, horizontal: Tensor, last: Tensor) -> Tensor:
    """The kernel of the chain. [R, S, 1, 1], [R, 1, kh, 1], [R, 1, 1, kw], [T, R, 1, 1] → [T, S, kh, kw]."""
    parts = (last.flatten(1), first.flatten(1), vertical.flatten(1), horizontal.flatten(1))
    return torch.einsum("tr,rs,ri,rj->tsij", *parts)


# ---------------------------------------------------------------- sums of rank-one terms


def fit(tensor: Tensor, terms: int, sweeps: int = SWEEPS) -> list[Tensor]:
    """Factors [Iₙ, R] of a sum of R rank-one terms near a float64 tensor, by alternating least squares.

    Starts from the leading singular vectors of every unfolding, filled up with normal numbers from a fixed
    seed, and stops when a sweep gains little. What it returns may be far from stable: `stabilised`.
    """
    factors = _start(tensor, terms)
    total = before = float(tensor.norm())
    for sweep in range(sweeps):
        for mode in range(tensor.ndim):
            factors[mode] = _solved(_gram(factors, mode), _projected(tensor, factors, mode))
        balance(factors)
        now = float((tensor - rebuilt(factors)).norm())
        if (sweep and before - now <= GAIN * before) or now <= _ROUNDING * total:
            break
        before = now
    return factors


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


def _decomposed(tensor: Tensor, rule: RankRule) -> tuple[Tensor, ...]:
    """Factors [Iₙ, R] of a tensor, R as the rule says."""
    if not tensor.numel():
        return tuple(tensor.new_zeros(size, 0) for size in tensor.shape)
    terms = _terms(tensor, rule)
    if terms is None or not tensor.any():
        return _exact(tensor)
    return _stable(tensor, terms, _bound(rule))


@memoised
def _fitted(tensor: Tensor, terms: int) -> tuple[Tensor, ...]:
    return tuple(fit(tensor, terms))


@memoised
def _stable(tensor: Tensor, terms: int, bound: float) -> tuple[Tensor, ...]:
    """Factors as insensitive as their own error allows, or `bound`, or `ALLOWANCE` where terms cancel."""
    factors = _fitted(tensor, terms)
    own = float((tensor - rebuilt(factors)).norm() / tensor.norm())
    if bound < own and cancellation(factors) > CANCELLING:
        bound = math.hypot(own, ALLOWANCE)
    return tuple(stabilised(tensor, factors, bound))


def _terms(tensor: Tensor, rule: RankRule) -> int | None:
    """The number of terms that a rule asks for; `None` for as many as an exact form needs."""
    most = tensor.numel() // max(tensor.shape)
    limit = (tensor.numel() - 1) // sum(tensor.shape)
    if isinstance(rule, Tiled):
        terms = _terms(tensor, rule.rule)
        return None if terms is None else Tiled(Fixed(terms), rule.multiple).select(torch.empty(most), limit)
    if isinstance(rule, Energy | Error):
        return _searched(tensor, _bound(rule), limit)
    if not rule.spectral:
        return rule.select(torch.empty(most, device="meta"), limit)
    unfolded = (_unfolded(tensor, mode) for mode in range(tensor.ndim))
    return max(
        rule.select(decompose(matrix).values, limit, aspect=min(matrix.shape) / max(matrix.shape))
        for matrix in unfolded
    )


def _bound(rule: RankRule) -> float:
    """The relative error that a rule allows, as far as it speaks of errors."""
    match rule:
        case Energy(kept=kept):
            return math.sqrt(1 - kept)
        case Error(bound=bound):
            return bound
        case Tiled(rule=inner):
            return _bound(inner)
        case _:
            return 0.0


@memoised
def _searched(tensor: Tensor, bound: float, limit: int) -> int | None:
    """The least number of terms, to within `SEARCH_STEP`, whose relative error is at most `bound`.

    At least the rank that any unfolding needs for it, at most `limit`; `None` where that is too few.
    """
    least = max(
        Error(bound).select(decompose(_unfolded(tensor, mode)).values, limit) for mode in range(tensor.ndim)
    )

    def enough(terms: int) -> bool:
        missed = tensor - rebuilt(_fitted(tensor, terms))
        return float(missed.norm()) <= bound * float(tensor.norm())

    if least > limit or (least < limit and not enough(limit)):
        return None
    if enough(least):
        return least
    few, many = least, limit
    while many > few + 1 and many > SEARCH_STEP * few:
        middle = max(few + 1, math.isqrt(few * many))
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many if enough(many) else None


def _exact(tensor: Tensor) -> tuple[Tensor, ...]:
    """A term for every entry of all axes but the longest: exact, and no smaller than the tensor."""
    longest = max(range(tensor.ndim), key=lambda mode: tensor.shape[mode])
    others = [mode for mode in range(tensor.ndim) if mode != longest]
    places = torch.cartesian_prod(*(torch.arange(tensor.shape[mode]) for mode in others)).T
    factors = dict(zip(others, places, strict=True))
    return tuple(
        _unfolded(tensor, mode)
        if mode == longest
        else torch.nn.functional.one_hot(factors[mode], tensor.shape[mode]).double().T
        for mode in range(tensor.ndim)
    )


def _start(tensor: Tensor, terms: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    factors = []
    for mode, size in enumerate(tensor.shape):
        leading = decompose(_unfolded(tensor, mode)).left[:, :terms]
        more = torch.randn(size, terms - leading.shape[1], generator=generator, dtype=torch.float64)
        factors.append(torch.cat([leading, more], 1))
    return factors


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


def _unfolded(tensor: Tensor, mode: int) -> Tensor:
    return tensor.movedim(mode, 0).reshape(tensor.shape[mode], -1)


def _columns(factors: Sequence[Tensor]) -> Tensor:
    """The rank-one terms as vectors (Khatri–Rao product). [I, R], [J, R], … → [I·J·…, R]."""
    product, *others = factors
    for factor in others:
        product = (product[:, None] * factor).flatten(0, 1)
    return product


def _projected(tensor: Tensor, factors: Sequence[Tensor], mode: int) -> Tensor:
    """The unfolding times the terms of the other modes. → [Iₙ, R]."""
    return _unfolded(tensor, mode) @ _columns([*factors[:mode], *factors[mode + 1 :]])


def _gram(factors: Sequence[Tensor], mode: int) -> Tensor:
    """The inner products of the terms of the other modes. → [R, R]."""
    grams = [factor.T @ factor for n, factor in enumerate(factors) if n != mode]
    return math.prod(grams[1:], start=grams[0])


DECLARED = (
    Decomposition(
        name="cp",
        params=("K", "rank"),
        results=3,
        function=cp,
        promise_text="K[t, s, …] ≈ Σ_r last[t, r] · depthwise[r, 0, …] · first[r, s]",
        promise=cp_product,
        forms=forms(
            "[T, S, k] -> [r, S, 1], [r, 1, k], [T, r, 1]",
            "[T, S, kh, kw] -> [r, S, 1, 1], [r, 1, kh, kw], [T, r, 1, 1]",
            "[T, S, kd, kh, kw] -> [r, S, 1, 1, 1], [r, 1, kd, kh, kw], [T, r, 1, 1, 1]",
        ),
        source="of kernels Lebedev et al., 2015; stable Phan et al., 2020",
        doc="A kernel as a 1×1 reduction, a depthwise kernel and a 1×1 expansion, of least sensitivity.",
    ),
    Decomposition(
        name="cp_separable",
        params=("K", "rank"),
        results=4,
        function=cp_separable,
        promise_text="K[t, s, i, j] ≈ Σ_r last[t, r] · horizontal[r, j] · vertical[r, i] · first[r, s]",
        promise=cp_separable_product,
        forms=forms("[T, S, kh, kw] -> [r, S, 1, 1], [r, 1, kh, 1], [r, 1, 1, kw], [T, r, 1, 1]"),
        source="of kernels Lebedev et al., 2015; stable Phan et al., 2020",
        doc="`cp` with depthwise filters along rows, then along columns.",
    ),
)
