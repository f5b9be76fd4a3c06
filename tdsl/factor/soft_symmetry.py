"""Weights that are symmetric but for a few directions: a symmetric part, and a remainder of low rank.

Trained weights are seldom symmetric to the last digit; often what breaks the symmetry is little (Finzi et
al., 2021). The symmetric part has its fast form, and the remainder two thin factors. Two symmetries are here:
items that may be exchanged, and the mirror that reverses all inputs and all outputs. Everything is computed
and returned in float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked, decompose, truncate
from tdsl.factor.memo import memoised
from tdsl.factor.rank import (
    Fixed,
    RankRule,
    Tiled,
    UnreachableRankError,
    as_rank_rule,
    break_even,
    select_by_gains,
)
from tdsl.factor.splits import Way, best, divisors, enough

SWEEPS = 300
"""Most turns of the alternation."""
GAIN = 1e-3
"""It stops when ten turns gain less than this share of the error."""
CLOSE = 1e-13
"""Relative error at which nothing is left to gain."""
FEWEST = 4
"""Fewer items than this are not looked for: nearly all of such a weight lies in few blocks."""
SOFT = 4
"""The break-even rank must fit this many times into one that is found: what is left is called a remainder."""

Factors = tuple[Tensor, Tensor, Tensor, Tensor]


# ---------------------------------------------------------------- the mirror


def mirror_plus_low_rank(weight: Tensor, rank: object) -> Factors:
    """The nearest sum of a matrix that is its own mirror image, W[m−1−i, n−1−j] = W[i, j], and one of rank r.

    [m, n], both even → E [m/2, n/2] on the even part of the inputs, O [m/2, n/2] on the odd one, U [m, r],
    V [r, n]. In the basis of even and odd vectors the symmetric part is free in two of four blocks, so that
    the other two are all that a remainder has to be: truncated one by one, and none can be nearer.
    `rank` is anything `as_rank_rule` takes. Raises `TdslError` for a weight that is no finite matrix,
    `UnreachableRankError` for an odd size and for no such rank.
    """
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    rows, columns = exact.shape
    if rows % 2 or columns % 2 or not exact.numel():
        raise UnreachableRankError(
            f"a matrix of shape {[rows, columns]} has a middle that the mirror leaves alone",
            expected="even sizes",
        )
    even_even, even_odd, odd_even, odd_odd = _parts(exact)
    first, second = decompose(even_odd), decompose(odd_even)
    gains = first.values.square() + second.values.square()
    kept = even_even.square().sum() + odd_odd.square().sum()
    r = _terms(rule, kept, gains, break_even(rows, columns))
    out = exact.new_zeros(2, r, rows // 2)
    into = exact.new_zeros(2, r, columns // 2)
    for side, found in enumerate((first, second)):
        count = min(r, len(found.values))
        root = found.values[:count].sqrt()[:, None]
        out[side, :count] = found.left[:, :count].T * root
        into[1 - side, :count] = found.right[:count] * root
    inside = torch.einsum("srm,trn->stmn", out, into)  # what the remainder has in the free blocks
    left = _outside(out[0], out[1]).T
    right = _outside(into[0], into[1])
    return (even_even - inside[0, 0]) / 2, (odd_odd - inside[1, 1]) / 2, left, right


def mirror_sum(even: Tensor, odd: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """The sum. [p, q], [p, q], [2p, r], [r, 2q] → [2p, 2q]."""
    upper = torch.cat([even + odd, (even - odd).flip(1)], dim=1)
    return torch.cat([upper, upper.flip([0, 1])]) + left @ right


def _parts(weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Blocks between even and odd vectors, in orthonormal bases. [2p, 2q] → four of [p, q]."""
    p, q = weight.shape[0] // 2, weight.shape[1] // 2
    a, b = weight[:p, :q], weight[:p, q:].flip(1)
    c, d = weight[p:, :q].flip(0), weight[p:, q:].flip([0, 1])
    return (a + b + c + d) / 2, (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2


def _outside(even: Tensor, odd: Tensor) -> Tensor:
    """Vectors of an even and an odd part. [r, p], [r, p] → [r, 2p]."""
    return torch.cat([even + odd, (even - odd).flip(1)], dim=1) / math.sqrt(2)


# ---------------------------------------------------------------- items that may be exchanged


def exchangeable_plus_low_rank(weight: Tensor, rank: object) -> Factors:
    """A matrix that treats n items alike, the channels of each side by side, plus one of rank r, by turns.

    [m, k] → A [p, q], C [p, q], U [m, r], V [r, k] with m = n·p and k = n·q: W ≈ 1 ⊗ A + 1·1ᵀ ⊗ C + U·V.
    `rank` is anything `as_rank_rule` takes: it chooses r from entries between different items, less the mean
    of their rows, which the symmetric part does not touch, and the sum keeps what it allows (a single item
    always does). Where the rule bounds the error, the most items that keep the bound are taken, otherwise
    those of the smallest error. Raises `TdslError` for a weight that is no finite matrix,
    `UnreachableRankError` for no such rank.
    """
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    items, terms = _chosen(exact, rule)
    return _alternated(exact, items, terms)


def exchangeable_sum(each: Tensor, total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """The sum. [p, q], [p, q], [n·p, r], [r, n·q] → [n·p, n·q]."""
    return _spread(each, total, len(left) // len(each)) + left @ right


@memoised
def _chosen(weight: Tensor, rule: RankRule) -> tuple[int, int]:
    """The number of items and the rank that `rule` prefers."""
    counts = [n for n in divisors(math.gcd(*weight.shape) or 1) if n == 1 or n >= FEWEST]
    ways = []
    for items in reversed(counts):
        way = _way(weight, items, rule)
        if way is not None:
            ways.append(way)
            if rule.spectral:
                break
    chosen = best(rule, ways, weight.numel())
    if chosen is None:
        raise UnreachableRankError(f"a matrix of shape {list(weight.shape)} has no such low-rank part")
    return chosen.sizes[0], chosen.ranks[0]


def _way(weight: Tensor, items: int, rule: RankRule) -> Way | None:
    """The rank at that number of items, if the sum is then as close as `rule` asks."""
    rows, columns = weight.shape
    if items == 1:  # the weight itself, where any rank will do
        return Way((1,), (1,), rows + columns + 2 * weight.numel(), 0.0) if rule.spectral else None
    most = break_even(rows, columns)
    if rule.spectral and _least(weight, rule) - min(rows, columns) // items > most // SOFT:
        return None
    blocks = weight.reshape(items, rows // items, items, columns // items)
    half = items // 2
    between = blocks[:half, :, half : 2 * half]
    apart = (between - between.mean(0)).reshape(half * rows // items, -1)
    try:
        terms = rule.select(decompose(apart).values, most)
    except UnreachableRankError:
        return None
    terms = max(1, terms)
    numbers = terms * (rows + columns) + 2 * weight.numel() // items**2
    if numbers >= weight.numel():
        return None
    try:
        lost = float((weight - exchangeable_sum(*_alternated(weight, items, terms))).norm())
    except UnreachableRankError:
        return None
    size = float(weight.norm())
    if rule.spectral and not enough(rule, math.sqrt(max(0.0, size**2 - lost**2)), lost):
        return None
    return Way((items,), (terms,), numbers, lost / size if size else 0.0)


def _least(weight: Tensor, rule: RankRule) -> int:
    """The rank of the upper right quarter: that of the remainder, and at most that of a block, together."""
    rows, columns = weight.shape
    return rule.select(decompose(weight[: rows // 2, columns // 2 :]).values, break_even(rows, columns))


@memoised
def _alternated(weight: Tensor, items: int, rank: int) -> Factors:
    """The four factors for one number of items and one rank; the error never rises from turn to turn."""
    rows, columns = weight.shape
    if items == 1:
        zero = weight.new_zeros(rows, columns)
        return weight, zero, weight.new_zeros(rows, rank), weight.new_zeros(rank, columns)
    size = float(weight.norm())
    each, total = _nearest(weight, items)
    right = truncate(weight - _spread(each, total, items), Fixed(rank)).right
    left = weight.new_zeros(rows, rank)
    errors: list[float] = []
    for turn in range(SWEEPS):
        rest = weight - _spread(each, total, items)
        left = torch.linalg.qr(rest @ right.T).Q
        right = left.T @ rest
        low = left @ right
        each, total = _nearest(weight - low, items)
        errors.append(float((weight - low - _spread(each, total, items)).norm()))
        if errors[-1] <= CLOSE * size or (turn >= 10 and errors[-11] - errors[-1] <= GAIN * errors[-11]):
            break
    return each, total, left, right


def _nearest(weight: Tensor, items: int) -> tuple[Tensor, Tensor]:
    """The mean of the blocks between different items, and by how much that of the others differs."""
    rows, columns = weight.shape
    blocks = weight.reshape(items, rows // items, items, columns // items)
    same = blocks.diagonal(dim1=0, dim2=2).sum(2)
    other = (blocks.sum((0, 2)) - same) / (items * (items - 1))
    return same / items - other, other


def _spread(each: Tensor, total: Tensor, items: int) -> Tensor:
    """1 ⊗ A + 1·1ᵀ ⊗ C. [p, q], [p, q] → [n·p, n·q]."""
    (p, q), one = each.shape, torch.eye(items, dtype=each.dtype)
    return (one[:, None, :, None] * each[:, None, :] + total[:, None, :]).reshape(items * p, items * q)


# ---------------------------------------------------------------- ranks


def _terms(rule: RankRule, kept: Tensor, gains: Tensor, limit: int) -> int:
    """How many terms of a remainder `rule` asks for, at least one; a bounded error is that of the whole.

    `kept` is what the symmetric part takes off the squared error by itself, `gains` [k] what each term does.
    """
    if isinstance(rule, Tiled):
        return Tiled(Fixed(_terms(rule.rule, kept, gains, limit)), rule.multiple).select(gains.sqrt(), limit)
    if not rule.spectral:
        return rule.select(gains.sqrt(), limit)
    return max(1, select_by_gains(rule, torch.cat([kept.reshape(1), gains]), limit + 1) - 1)


DECLARED = (
    Decomposition(
        name="mirror_plus_low_rank",
        params=("W", "rank"),
        results=4,
        function=mirror_plus_low_rank,
        promise_text="W ≈ [[E + O, (E − O)·J], [J·(E − O), J·(E + O)·J]] + U @ V",
        promise=mirror_sum,
        forms=forms("[M, N] -> [p, q], [p, q], [M, r], [r, N]"),
        source="soft symmetry: Finzi et al., 2021 (residual pathway priors)",
        doc="A matrix that is its own mirror image, on even and odd inputs, plus one of rank r.",
    ),
    Decomposition(
        name="exchangeable_plus_low_rank",
        params=("W", "rank"),
        results=4,
        function=exchangeable_plus_low_rank,
        promise_text="W[(i, k), (j, l)] ≈ δ[i, j] · A[k, l] + C[k, l] + (U @ V)[(i, k), (j, l)]",
        promise=exchangeable_sum,
        forms=forms("[M, N] -> [p, q], [p, q], [M, r], [r, N]"),
        source="Finzi et al., 2021 (residual pathway priors); of the symmetric part Zaheer et al., 2017",
        doc="A matrix that treats items alike, plus one of rank r.",
    ),
)
