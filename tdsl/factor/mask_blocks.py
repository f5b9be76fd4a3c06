"""Blocks of queries and the keys that each of them sees, read off the constant mask of an attention layer.

Queries go into blocks of equal size, neighbours or every n-th; each block reads the keys that one of its
queries sees, filled up to one number w for all blocks. Local, strided and block-sparse patterns (Child et
al., 2019) then cost t·w instead of t·u scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tdsl.factor.splits import divisors

TILE = 8
"""What a side of a small product costs beside its length, in onnxruntime on one core."""
SMALLEST = 4
"""Fewest queries of a block."""
SHUFFLE = 1.1
"""How much dearer blocks of every n-th query are, which have to be brought together first."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """n blocks of c queries that see at most w keys each."""

    keys: Tensor
    """Places [n, w] of the keys of each block, all different, int64."""
    size: int
    """c."""
    strided: bool
    """Whether block i holds the queries i, i + n, i + 2n …; else c neighbours."""

    @property
    def count(self) -> int:
        """n."""
        return int(self.keys.shape[0])

    @property
    def width(self) -> int:
        """w."""
        return int(self.keys.shape[1])

    def of(self, table: Tensor) -> Tensor:
        """The entries of a table of queries and keys that the blocks hold. [..., t, u] → [..., n, c, w]."""
        rows = _rows(table, self.count, self.strided)
        index = self.keys[:, None].expand(*rows.shape[:-1], self.width)
        return rows.gather(-1, index)


def mask_blocks(seen: Tensor) -> Blocks | None:
    """The blocks that cost least for a mask, True where a query sees a key. [..., t, u] bool; leading axes
    (heads) share their blocks.

    `None` where no two blocks of `SMALLEST` queries exist, and where some query sees nothing.
    """
    *_, queries, keys = seen.shape
    if not seen.numel() or not bool(seen.any(-1).all()):
        return None
    some = seen.reshape(-1, queries, keys).any(0)
    best: tuple[float, int, bool, Tensor] | None = None
    for size in divisors(queries):
        count = queries // size
        if size < SMALLEST or count < 2:
            continue
        for strided in (False, True):
            columns = _rows(some, count, strided).any(-2)  # [n, u]
            width = int(columns.sum(-1).max())
            cost = count * (size + TILE) * (width + TILE) * (SHUFFLE if strided else 1.0)
            if best is None or cost < best[0]:
                best = (cost, size, strided, columns)
    if best is None:
        return None
    _, size, strided, columns = best
    width = int(columns.sum(-1).max())
    order = torch.argsort((~columns).to(torch.int8), dim=-1, stable=True)  # keys that are seen come first
    return Blocks(order[:, :width].contiguous(), size, strided)


def _rows(table: Tensor, count: int, strided: bool) -> Tensor:
    """[..., t, u] → [..., n, c, u]."""
    *leading, queries, keys = table.shape
    size = queries // count
    if strided:
        return table.reshape(*leading, size, count, keys).transpose(-3, -2)
    return table.reshape(*leading, count, size, keys)
