"""Canonical polyadic (CP) decomposition of convolution kernels, stable under small changes of the factors.

A kernel as a sum of R rank-one terms is a 1×1 convolution to R channels, a depthwise one, and a 1×1 back. The
terms are fitted by least squares, and then corrected: where they cancel each other, and within the error that
a rank rule allows, less sensitive factors are preferred to closer ones (`rank_one`).
"""

from __future__ import annotations

import math

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
    Stable,
    Tiled,
    allowed_error,
    as_rank_rule,
)
from tdsl.factor.rank_one import EXACT, SEED, cancellation, fit, rebuilt, stabilised, unfolded
from tdsl.factor.stability import stable_rank

SEARCH_STEP = 1.1
"""A rank that an error asks for is found to within this factor."""
CANCELLING = 2.0
"""Terms whose squared norms add up to more than this many times that of the kernel cancel each other."""
ALLOWANCE = 0.01
"""Share of the kernel's norm that may be lost for terms that do not."""


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


# ---------------------------------------------------------------- parts


def _decomposed(tensor: Tensor, rule: RankRule) -> tuple[Tensor, ...]:
    """Factors [Iₙ, R] of a tensor, R as the rule says."""
    if not tensor.numel():
        return tuple(tensor.new_zeros(size, 0) for size in tensor.shape)
    terms = _terms(tensor, rule)
    if terms is None or not tensor.any():
        return _exact(tensor)
    return _stable(tensor, terms, allowed_error(rule))


@memoised
def _fitted(tensor: Tensor, terms: int) -> tuple[Tensor, ...]:
    return tuple(fit(tensor, terms))


@memoised
def _stable(tensor: Tensor, terms: int, bound: float) -> tuple[Tensor, ...]:
    """Factors as insensitive as their own error allows, or `bound`, or `ALLOWANCE` where terms cancel.

    Terms that are exact stay so: they are the only ones.
    """
    factors = _fitted(tensor, terms)
    own = float((tensor - rebuilt(factors)).norm() / tensor.norm())
    if max(bound, EXACT) < own and cancellation(factors) > CANCELLING:
        bound = math.hypot(own, ALLOWANCE)
    return tuple(stabilised(tensor, factors, bound))


def _terms(tensor: Tensor, rule: RankRule) -> int | None:
    """The number of terms that a rule asks for; `None` for as many as an exact form needs."""
    most = tensor.numel() // max(tensor.shape)
    limit = (tensor.numel() - 1) // sum(tensor.shape)
    if isinstance(rule, Tiled):
        terms = _terms(tensor, rule.rule)
        return None if terms is None else Tiled(Fixed(terms), rule.multiple).select(torch.empty(most), limit)
    if isinstance(rule, Stable):
        return _agreed(tensor, min(rule.most, most, limit)) or None
    if isinstance(rule, Energy | Error):
        return _searched(tensor, allowed_error(rule), limit)
    if not rule.spectral:
        return rule.select(torch.empty(most, device="meta"), limit)
    matrices = (unfolded(tensor, mode) for mode in range(tensor.ndim))
    return max(
        rule.select(decompose(matrix).values, limit, aspect=min(matrix.shape) / max(matrix.shape))
        for matrix in matrices
    )


@memoised
def _agreed(tensor: Tensor, most: int) -> int:
    """The number of terms, `most` at most, that come out again of disturbed tensors; 0 where none do."""
    return stable_rank(tensor, lambda data, terms, run: fit(data, terms, seed=SEED + run), most)


@memoised
def _searched(tensor: Tensor, bound: float, limit: int) -> int | None:
    """The least number of terms, to within `SEARCH_STEP`, whose relative error is at most `bound`.

    At least the rank that any unfolding needs for it, at most `limit`; `None` where that is too few.
    """
    least = max(
        Error(bound).select(decompose(unfolded(tensor, mode)).values, limit) for mode in range(tensor.ndim)
    )

    def enough(terms: int) -> bool:
        missed = tensor - rebuilt(_fitted(tensor, terms))
        return float(missed.norm()) <= bound * float(tensor.norm())

    if least > limit:
        return None
    if enough(least):
        return least
    if not enough(limit):
        return None
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
        unfolded(tensor, mode)
        if mode == longest
        else torch.nn.functional.one_hot(factors[mode], tensor.shape[mode]).double().T
        for mode in range(tensor.ndim)
    )


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
