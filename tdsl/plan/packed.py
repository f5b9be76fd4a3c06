"""Symmetric matrices kept as one triangle: what is known of a model's data takes half the room.

A moment is unpacked where it is asked for, and the square is remembered only as long as decompositions are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from tdsl.engine.statistics import STATISTICS, Request
from tdsl.factor.memo import MEMORY


class Packed(Mapping[Request, Tensor]):
    """Statistics by request, float64 where they are asked for; second moments are stored as triangles."""

    def __init__(self, stored: Mapping[Request, Tensor]) -> None:
        self.stored = stored
        """Vectors as they are, of matrices the `triangle`."""
        self._identity = object()

    def __getitem__(self, request: Request) -> Tensor:
        stored = self.stored[request]
        if STATISTICS[request.kind][1] == 1:
            return stored.double()
        return MEMORY.recall((self._identity, request), lambda: square(stored, request.size))

    def __iter__(self) -> Iterator[Request]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def triangle(matrix: Tensor) -> Tensor:
    """The upper triangle of a matrix, row by row. [n, n] → [n·(n + 1) / 2]."""
    return torch.cat([row[i:] for i, row in enumerate(matrix)]) if len(matrix) else matrix.flatten()


def square(packed: Tensor, size: int) -> Tensor:
    """The symmetric matrix with that upper triangle, float64. [n·(n + 1) / 2] → [n, n]."""
    found = torch.empty(size, size, dtype=torch.float64)
    start = 0
    for i in range(size):
        found[i, i:] = packed[start : start + size - i]
        start += size - i
    for first in range(0, size, _BLOCK):
        rows = slice(first, first + _BLOCK)
        found[rows, rows] = found[rows, rows].triu() + found[rows, rows].triu(1).T
        found[first + _BLOCK :, rows] = found[rows, first + _BLOCK :].T
    return found


class Triangle:
    """Σ x·xᵀ over rows x of `size` numbers, summed in blocks from the diagonal to the right alone."""

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        self._blocks = [
            torch.zeros(min(_BLOCK, size - first), size - first, dtype=dtype)
            for first in range(0, size, _BLOCK)
        ]

    def add(self, rows: Tensor) -> None:
        """Some rows more. [count, size]."""
        for number, block in enumerate(self._blocks):
            first = number * _BLOCK
            block.addmm_(rows[:, first : first + len(block)].T, rows[:, first:])

    def mean(self, count: int, centre: Tensor | None = None) -> Tensor:
        """The `triangle` of the mean over `count` rows, minus that of `centre` [size] with itself."""
        parts: list[Tensor] = []
        for number, block in enumerate(self._blocks):
            first = number * _BLOCK
            exact = block / count
            if centre is not None:
                exact.addr_(centre[first : first + len(block)], centre[first:], alpha=-1)
            parts.append(torch.cat([row[i:] for i, row in enumerate(exact)]))
        return torch.cat(parts) if parts else torch.zeros(0)


_BLOCK = 256
"""Rows that are mirrored, or summed, at once."""
