"""A weight matrix as the sum of a low-rank matrix and a block-diagonal one.

The blocks take up what is local and of high rank, the two other factors what is global and of low rank. The
split is found by turns, each part fitted to what the other leaves. Everything is computed and returned in
float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.diagonal_blocks import block_diagonal_product, diagonal
from tdsl.factor.matrix import checked, decompose, truncate
from tdsl.factor.memo import memoised
from tdsl.factor.rank import Fixed, RankRule, UnreachableRankError, as_rank_rule, break_even
from tdsl.factor.splits import Way, best, divisors, enough

SWEEPS = 300
"""Most turns of the alternation."""
GAIN = 1e-3
"""It stops when ten turns gain less than this share of the error."""
CLOSE = 1e-13
"""Relative error at which nothing is left to gain."""


def low_rank_plus_blocks(weight: Tensor, rank: object) -> tuple[Tensor, Tensor, Tensor]:
    """U·V plus blocks on the diagonal, by alternating projections (Zhou & Tao, 2011, with fixed support).

    [m, n] → U [m, r], V [r, n], blocks [g, q, p], each transposed, with m = g·p and n = g·q. `rank` is
    anything `as_rank_rule` takes: it chooses r from the part of W above the diagonal, which the blocks do
    not touch, and the sum keeps what it allows (a single block always does). The divisors of m and n are
    searched for the fewest numbers where the rule bounds the error, for the smallest error where it does
    not. Raises `TdslError` for a weight that is no finite matrix, `UnreachableRankError` for no such rank.
    """
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    count, terms = _chosen(exact, rule)
    return _alternated(exact, count, terms)


def sum_product(left: Tensor, right: Tensor, blocks: Tensor) -> Tensor:
    """The sum. [m, r], [r, n], [g, q, p] → [m, n]."""
    return left @ right + block_diagonal_product(blocks)


@memoised
def _chosen(weight: Tensor, rule: RankRule) -> tuple[int, int]:
    """The number of blocks and the rank that `rule` prefers."""
    rows, columns = weight.shape
    counts = divisors(math.gcd(rows, columns)) if weight.numel() else (1,)
    ways = [way for count in counts if (way := _way(weight, count, rule)) is not None]
    chosen = best(rule, ways, rows * columns)
    if chosen is None:
        raise UnreachableRankError(f"a matrix of shape {[rows, columns]} has no such low-rank part")
    return chosen.sizes[0], chosen.ranks[0]


def _way(weight: Tensor, count: int, rule: RankRule) -> Way | None:
    """The rank at that number of blocks, if the sum is then as close as `rule` asks."""
    rows, columns = weight.shape
    if count == 1:  # the weight itself, where any rank will do
        return Way((1,), (1,), rows + columns + weight.numel(), 0.0) if rule.spectral else None
    above = weight[: count // 2 * (rows // count), count // 2 * (columns // count) :]
    try:
        terms = rule.select(decompose(above).values, break_even(rows, columns))
    except UnreachableRankError:
        return None
    numbers = terms * (rows + columns) + weight.numel() // count
    if numbers >= weight.numel():
        return None
    lost = float((weight - sum_product(*_alternated(weight, count, terms))).norm())
    total = float(weight.norm())
    kept = math.sqrt(max(0.0, total**2 - lost**2))
    if rule.spectral and not enough(rule, kept, lost):
        return None
    return Way((count,), (terms,), numbers, lost / total if total else 0.0)


@memoised
def _alternated(weight: Tensor, count: int, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The three factors for one number of blocks and one rank; the error never rises from turn to turn."""
    if count == 1:
        rows, columns = weight.shape
        return weight.new_zeros(rows, rank), weight.new_zeros(rank, columns), diagonal(weight, 1)
    total = float(weight.norm())
    blocks = diagonal(weight, count)
    right = truncate(weight - block_diagonal_product(blocks), Fixed(rank)).right
    left = weight.new_zeros(len(weight), rank)
    errors: list[float] = []
    for turn in range(SWEEPS):
        rest = weight - block_diagonal_product(blocks)
        left = torch.linalg.qr(rest @ right.T).Q
        right = left.T @ rest
        blocks = diagonal(weight - left @ right, count)
        errors.append(float((weight - left @ right - block_diagonal_product(blocks)).norm()))
        if errors[-1] <= CLOSE * total or (turn >= 10 and errors[-11] - errors[-1] <= GAIN * errors[-11]):
            break
    return left, right, blocks


DECLARED = (
    Decomposition(
        name="low_rank_plus_blocks",
        params=("W", "rank"),
        results=3,
        function=low_rank_plus_blocks,
        promise_text="W ≈ U @ V + blockdiag(blocks)ᵀ",
        promise=sum_product,
        forms=forms("[M, N] -> [M, r], [r, N], [g, q, p]"),
        source="Zhou & Tao, 2011 (GoDec); of such layers Chen et al., 2022 (Pixelated Butterfly)",
        doc="A matrix of rank r plus blocks on the diagonal, transposed.",
    ),
)
