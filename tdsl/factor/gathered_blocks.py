"""Blocks of outputs that read some inputs each: of a butterfly beside a low rank, or of rows that are alike.

Every block of outputs gathers the inputs that it reads, as many as the others, and all are one batch of small
products. Everything is computed in float64; factors are float64, indices int64.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked, decompose, truncate
from tdsl.factor.memo import memoised
from tdsl.factor.rank import Fixed, RankRule, UnreachableRankError, as_rank_rule, break_even
from tdsl.factor.splits import Way, best, divisors, enough

SWEEPS = 300
"""Most turns between the two parts of a sum."""
GAIN = 1e-3
"""It stops when ten turns gain less than this share of the error."""
CLOSE = 1e-13
"""Relative error at which nothing is left to gain."""
LOWEST = 4
"""Rows of a block: fewer are no product worth a batch."""
LARGEST = 1 << 21
"""Numbers of the largest weight whose rows are compared."""


def flat_butterfly(weight: Tensor, rank: object) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """U·V plus the blocks of a flat butterfly, by turns (Chen et al., 2022, Pixelated Butterfly).

    [m, n] → U [m, r], V [r, n], blocks [g, q, p], the inputs [g·q] that they read: block row i of g = 2ˢ has
    the block columns i and i with one bit changed, s + 1 of g. `rank` is anything `as_rank_rule` takes: it
    chooses r from the corner that no such block touches, and the sum keeps what it allows. Raises `TdslError`
    for a weight that is no finite matrix, `UnreachableRankError` where sizes or ranks allow none.
    """
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    count, terms = _chosen(exact, rule)
    left, right = _alternated(exact, count, terms)
    columns = _read(count, exact.shape[1])
    rest = (exact - left @ right).reshape(count, -1, exact.shape[1])
    width = len(columns) // count
    blocks = rest.gather(2, columns.reshape(count, 1, width).expand(-1, rest.shape[1], -1))
    return left, right, blocks.transpose(1, 2).contiguous(), columns


def flat_butterfly_product(left: Tensor, right: Tensor, blocks: Tensor, columns: Tensor) -> Tensor:
    """The sum. [m, r], [r, n], [g, q, p], [g·q] → [m, n]."""
    return left @ right + _spread(blocks, columns, right.shape[1])


def gathered_blocks(weight: Tensor, rank: object) -> tuple[Tensor, Tensor, Tensor]:
    """Rows that read like columns as blocks, in any order (Okanovic et al., 2024, SMaT).

    [m, n] → blocks [g, q, p], the columns [g·q] that they read, for each output the place [m] in the blocks'
    outputs where it is. Rows are taken together that add fewest columns to those of their block, or as
    they stand, whichever holds fewer numbers. `rank` is anything `as_rank_rule` takes, counting entries,
    the largest first. Raises `TdslError` for what is no finite matrix, `UnreachableRankError` for more
    entries than it has, or than `LARGEST`.
    """
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    if not 0 < exact.numel() <= LARGEST:
        raise UnreachableRankError(f"rows of weights of more than {LARGEST} numbers are not compared")
    sizes = exact.abs().flatten().sort(descending=True).values
    kept = rule.select(sizes, len(sizes))
    mask = ((exact.abs() >= sizes[kept - 1]) & (exact != 0)).numpy()
    heights = [p for p in divisors(len(exact)) if p >= LOWEST] or [len(exact)]
    orders = [order for p in heights for order in (_alike(mask, p), np.arange(len(mask)).reshape(-1, p))]
    # What is held, the indices included.
    order = min(orders, key=lambda rows: _width(mask, rows) * (rows.size + len(rows)))
    return _blocks(exact, mask, order)


def gathered_blocks_product(blocks: Tensor, columns: Tensor, places: Tensor) -> Tensor:
    """The matrix of gathered blocks, their rows put in place. [g, q, p], [g·q], [m] → [m, n]."""
    return _spread(blocks, columns, int(columns.max()) + 1)[places]


def _spread(blocks: Tensor, columns: Tensor, width: int) -> Tensor:
    """Every block where it reads. [g, q, p], [g·q] → [g·p, n]."""
    count, read, height = blocks.shape
    rows = [
        block.new_zeros(width, height).index_add(0, places, block).T
        for block, places in zip(blocks, columns.reshape(count, read), strict=True)
    ]
    return torch.cat(rows)


# ---------------------------------------------------------------- a butterfly beside a low rank


def _neighbours(count: int) -> list[list[int]]:
    """The block columns of each block row: itself, and one bit changed."""
    bits = range(count.bit_length() - 1)
    return [sorted([row, *(row ^ (1 << bit) for bit in bits)]) for row in range(count)]


def _read(count: int, inputs: int) -> Tensor:
    """The inputs that the blocks read. → [g·q]"""
    width = inputs // count
    first = torch.tensor(_neighbours(count))[:, :, None] * width
    return (first + torch.arange(width)).flatten()


def _support(count: int, rows: int, columns: int) -> Tensor:
    """1 where the blocks are, 0 elsewhere. → [m, n]"""
    pattern = torch.zeros(count, count, dtype=torch.float64)
    for row, near in enumerate(_neighbours(count)):
        pattern[row, near] = 1
    return pattern.repeat_interleave(rows // count, 0).repeat_interleave(columns // count, 1)


@memoised
def _chosen(weight: Tensor, rule: RankRule) -> tuple[int, int]:
    """The number of block rows and the rank that `rule` prefers."""
    rows, columns = weight.shape
    common = math.gcd(rows, columns) if weight.numel() else 1
    counts = [1 << s for s in range(2, common.bit_length()) if common % (1 << s) == 0]
    ways = [way for count in counts if (way := _way(weight, count, rule)) is not None]
    if rule.spectral and weight.numel():  # one block is the weight itself
        ways.append(Way((1,), (1,), weight.numel() + rows + columns, 0.0))
    chosen = best(rule, ways, rows * columns)
    if chosen is None:
        raise UnreachableRankError(f"a matrix of shape {[rows, columns]} has no such butterfly and low rank")
    return chosen.sizes[0], chosen.ranks[0]


def _way(weight: Tensor, count: int, rule: RankRule) -> Way | None:
    """The rank at that number of block rows, if the sum is then as close as `rule` asks."""
    rows, columns = weight.shape
    # A first quarter and a last one differ in two bits: no block is there.
    corner = weight[: rows // 4, columns - columns // 4 :]
    try:
        terms = rule.select(decompose(corner).values, break_even(rows, columns))
    except UnreachableRankError:
        return None
    numbers = terms * (rows + columns) + weight.numel() * count.bit_length() // count
    if numbers >= weight.numel():
        return None
    left, right = _alternated(weight, count, terms)
    lost = float(((1 - _support(count, rows, columns)) * (weight - left @ right)).norm())
    total = float(weight.norm())
    if rule.spectral and not enough(rule, math.sqrt(max(0.0, total**2 - lost**2)), lost):
        return None
    return Way((count,), (terms,), numbers, lost / total if total else 0.0)


@memoised
def _alternated(weight: Tensor, count: int, rank: int) -> tuple[Tensor, Tensor]:
    """The low rank beside the blocks; the error never rises from turn to turn."""
    rows, columns = weight.shape
    if count == 1:
        return weight.new_zeros(rows, rank), weight.new_zeros(rank, columns)
    outside = 1 - _support(count, rows, columns)
    total = float(weight.norm())
    right = truncate(weight * outside, Fixed(rank)).right
    left, fitted = weight.new_zeros(rows, rank), weight * outside
    errors: list[float] = []
    for turn in range(SWEEPS):
        left = torch.linalg.qr(fitted @ right.T).Q
        right = left.T @ fitted
        product = left @ right
        errors.append(float((outside * (weight - product)).norm()))
        fitted = torch.where(outside > 0, weight, product)
        if errors[-1] <= CLOSE * total or (turn >= 10 and errors[-11] - errors[-1] <= GAIN * errors[-11]):
            break
    return left, right


# ---------------------------------------------------------------- rows that are alike


def _alike(mask: NDArray[np.bool_], height: int) -> NDArray[np.int64]:
    """Rows in groups of that many: the fullest one left, then always that which adds fewest columns."""
    full, left = mask.sum(1), np.ones(len(mask), dtype=bool)
    groups = []
    while left.any():
        union, group = np.zeros(mask.shape[1], dtype=bool), list[int]()
        for _ in range(height):
            added = (mask & ~union).sum(1) if group else -full
            # Of rows that add as much, that which fills most of what is read already.
            cost = np.where(
                left, added * (mask.shape[1] + 1) - (full if group else 0), np.iinfo(np.int64).max
            )
            row = int(cost.argmin())
            group.append(row)
            left[row] = False
            union |= mask[row]
        groups.append(sorted(group))
    return np.array(groups, dtype=np.int64)


def _width(mask: NDArray[np.bool_], order: NDArray[np.int64]) -> int:
    """How many columns the block reads that reads most."""
    return max(1, int(mask[order].any(1).sum(1).max()))


def _blocks(
    weight: Tensor, mask: NDArray[np.bool_], order: NDArray[np.int64]
) -> tuple[Tensor, Tensor, Tensor]:
    """The blocks of rows in that order; those that read fewer columns read the last one, times zero."""
    width, last = _width(mask, order), mask.shape[1] - 1
    if width <= last and not (mask[order].any(1).sum(1) < width).any() and not mask[:, last].any():
        width += 1  # somebody has to read the last column, or it would not be known to be there
    count, height = order.shape
    blocks = weight.new_zeros(count, width, height)
    columns = torch.full((count, width), last, dtype=torch.int64)
    places = torch.empty(len(weight), dtype=torch.int64)
    for block, rows in enumerate(torch.from_numpy(order)):
        read = torch.from_numpy(mask[rows].any(0).nonzero()[0])
        blocks[block, : len(read)] = weight[rows[:, None], read].T
        columns[block, : len(read)] = read
        places[rows] = block * height + torch.arange(height)
    return blocks, columns.flatten(), places


DECLARED = (
    Decomposition(
        name="flat_butterfly",
        params=("W", "rank"),
        results=4,
        function=flat_butterfly,
        promise_text="W ≈ U @ V + blocks, block row i at the block columns i and i with one bit changed",
        promise=flat_butterfly_product,
        forms=forms("[P, Q] -> [P, r], [r, Q], [g, q, p], [w]"),
        roles=("dense", "dense", "dense", "labels"),
        source="Chen et al., 2022 (Pixelated Butterfly)",
        doc="A matrix of rank r plus the blocks of a flat butterfly.",
    ),
    Decomposition(
        name="gathered_blocks",
        params=("W", "rank"),
        results=3,
        function=gathered_blocks,
        promise_text="W ≈ blocks of rows that read the same columns, the rows put in place",
        promise=gathered_blocks_product,
        forms=forms("[M, N] -> [g, q, p], [w], [M]"),
        roles=("dense", "labels", "permutation"),
        source="Okanovic et al., 2024 (SMaT)",
        doc="Rows that read like columns as blocks that gather these, in any order.",
    ),
)
