"""Block-diagonal structure of a weight matrix, in the order of its axes or hidden by permutations of them.

Rows and columns joined by an entry belong together; what is not joined, however the axes are permuted, is a
block of its own. The connected components of the bipartite graph of rows and columns find it. Everything
is computed in float64; factors are float64, indices int64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked
from tdsl.factor.rank import RankRule, as_rank_rule
from tdsl.factor.splits import Way, best, divisors, enough

MANY = 512
"""Components beyond this number are not packed together."""


def block_diagonal(weight: Tensor, rank: object) -> tuple[Tensor]:
    """The blocks on the diagonal: the nearest block-diagonal matrix in the Frobenius norm.

    [m, n] → blocks [g, q, p], each transposed, with m = g·p and n = g·q. `rank` is anything `as_rank_rule`
    takes; where it bounds the error, the most blocks that keep it are taken (one always does), and a rank
    of 1 are the blocks of the smallest error. Raises `TdslError` for a weight that is no finite matrix.
    """
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    total = exact.norm()
    ways = []
    for count in divisors(math.gcd(*exact.shape)) if exact.numel() else (1,):
        kept = diagonal(exact, count).norm()
        lost = float((total.square() - kept.square()).clamp_min(0).sqrt()) if count > 1 else 0.0
        if lost:  # the difference of squares is good to half the digits only
            lost = float((exact - block_diagonal_product(diagonal(exact, count))).norm())
        if enough(rule, float(kept), lost):
            ways.append(Way((count,), (1,), exact.numel() // count, lost / float(total) if total else 0.0))
    chosen = best(rule, ways, exact.numel())
    return (diagonal(exact, chosen.sizes[0] if chosen else 1),)


def block_diagonal_product(blocks: Tensor) -> Tensor:
    """The matrix with those blocks, transposed, on its diagonal. [g, q, p] → [g·p, g·q]."""
    count, width, height = blocks.shape
    whole = blocks.new_zeros(count, height, count, width)
    whole.diagonal(dim1=0, dim2=2).copy_(blocks.permute(2, 1, 0))
    return whole.reshape(count * height, count * width)


def hidden_blocks(weight: Tensor, rank: object) -> tuple[Tensor, Tensor, Tensor]:
    """A block-diagonal matrix between two permutations, by connected components (Tarjan, 1972).

    [m, n] → blocks [g, q, p], the input columns [g·q] that the blocks read, and for each output the place
    [m] in the blocks' outputs where it is found. Components of unequal size share blocks that are padded
    with zeros; columns that nothing reads are left out, but for the last, which padding reads. `rank` is
    anything `as_rank_rule` takes, and counts entries, the largest first: `error(1e-6)` ignores entries that
    are together smaller than that. Raises `TdslError` for a weight that is no finite matrix,
    `UnreachableRankError` for more entries than it has.
    """
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    parts = _packed(_components(exact, rule), exact)
    height, width = max(len(p.rows) for p in parts), max(len(p.columns) for p in parts)
    blocks = exact.new_zeros(len(parts), width, height)
    columns = torch.full((len(parts), width), exact.shape[1] - 1, dtype=torch.int64)
    found = torch.zeros(len(exact), dtype=torch.int64)
    for block, part in enumerate(parts):
        rows, read = (torch.tensor(places, dtype=torch.int64) for places in (part.rows, part.columns))
        blocks[block, : len(read), : len(rows)] = exact[rows[:, None], read].T
        columns[block, : len(read)] = read
        found[rows] = block * height + torch.arange(len(rows))
    return blocks, columns.flatten(), found


def hidden_blocks_product(blocks: Tensor, columns: Tensor, places: Tensor) -> Tensor:
    """The matrix of blocks between two look-ups. [g, q, p], [g·q], [m] → [m, n], the last column read."""
    apart = block_diagonal_product(blocks)[places]
    return apart.new_zeros(len(apart), int(columns.max()) + 1).index_add(1, columns, apart)


# ---------------------------------------------------------------- parts


@dataclass(slots=True)
class _Part:
    """Rows and columns that belong to one block."""

    rows: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)


def diagonal(weight: Tensor, count: int) -> Tensor:
    """The blocks on the diagonal, transposed. [g·p, g·q] → [g, q, p]."""
    rows, columns = (size // count for size in weight.shape)
    return weight.reshape(count, rows, count, columns).diagonal(dim1=0, dim2=2).permute(2, 1, 0).contiguous()


def _components(weight: Tensor, rule: RankRule) -> list[_Part]:
    """What the entries that `rule` keeps join, in the order of the columns; rows without entries last."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    sizes = weight.abs().flatten().sort(descending=True).values
    kept = rule.select(sizes, len(sizes)) if len(sizes) else 0
    mask = (weight.abs() >= sizes[kept - 1]) & (weight != 0) if kept else weight != 0
    rows, columns = weight.shape
    row, column = mask.nonzero(as_tuple=True)
    entries = torch.ones(len(row)).numpy(), (row.numpy(), column.numpy() + rows)
    graph = coo_array(entries, shape=(rows + columns, rows + columns))
    _, labels = connected_components(graph, directed=False)
    parts: dict[int, _Part] = {}
    for place in range(columns):
        parts.setdefault(int(labels[rows + place]), _Part()).columns.append(place)
    for place in range(rows):
        parts.setdefault(int(labels[place]), _Part()).rows.append(place)
    return [part for part in parts.values() if part.rows]


def _packed(parts: list[_Part], weight: Tensor) -> list[_Part]:
    """Components put together in as many blocks of equal size as hold the fewest numbers."""
    joined = [part for part in parts if part.columns] or [_Part([], [0])]
    idle = [row for part in parts if not part.columns for row in part.rows]
    last = weight.shape[1] - 1
    halvings = range(len(joined).bit_length() if len(joined) <= MANY else 1)
    ways = [_shared(joined, idle, max(1, len(joined) >> halving), last) for halving in halvings]
    return min(ways, key=lambda blocks: (_numbers(blocks), -len(blocks)))


def _shared(parts: list[_Part], idle: list[int], count: int, last: int) -> list[_Part]:
    """Each component, the largest first, to the block that is smallest; idle rows to the lowest.

    The `last` column is read by some block, or there is room for it.
    """
    descending = sorted(parts, key=lambda part: -len(part.rows) * len(part.columns))
    blocks = [_Part(list(part.rows), list(part.columns)) for part in descending[:count]]
    for part in descending[count:]:
        least = min(blocks, key=lambda block: len(block.rows) * len(block.columns))
        least.rows += part.rows
        least.columns += part.columns
    for row in idle:
        min(blocks, key=lambda block: len(block.rows)).rows.append(row)
    full = len({len(block.columns) for block in blocks}) == 1
    if full and not any(last in block.columns for block in blocks):
        blocks[0].columns.append(last)
    for block in blocks:
        block.rows.sort()
        block.columns.sort()
    return sorted(blocks, key=lambda block: block.columns)


def _numbers(blocks: list[_Part]) -> int:
    return len(blocks) * max(len(b.rows) for b in blocks) * max(len(b.columns) for b in blocks)


DECLARED = (
    Decomposition(
        name="block_diagonal",
        params=("W", "rank"),
        results=1,
        function=block_diagonal,
        promise_text="W[(g, p), (g, q)] ≈ blocks[g, q, p], 0 elsewhere",
        promise=block_diagonal_product,
        forms=forms("[M, N] -> [g, q, p]"),
        source="the projection onto block-diagonal matrices",
        doc="The blocks on the diagonal of a matrix, transposed.",
    ),
    Decomposition(
        name="hidden_blocks",
        params=("W", "rank"),
        results=3,
        function=hidden_blocks,
        promise_text="W[:, columns] ≈ blockdiag(blocks)ᵀ[places]",
        promise=hidden_blocks_product,
        roles=("dense", "permutation", "permutation"),
        forms=forms("[M, N] -> [g, q, p], [w], [M]"),
        source="connected components: Tarjan, 1972",
        doc="Blocks hidden by permutations of rows and columns, the columns they read, where outputs are.",
    ),
)
