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


_BLOCK = 256
"""Rows that are mirrored at once."""
