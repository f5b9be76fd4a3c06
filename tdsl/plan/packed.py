"""Symmetric matrices kept as one triangle: what is known of a model's data takes half the room.

A moment is fetched and unpacked where it is asked for, and the square is remembered only as long as
decompositions are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from tdsl.engine.statistics import STATISTICS, Request
from tdsl.factor.memo import MEMORY
from tdsl.plan.shelf import Shelf


class Packed(Mapping[Request, Tensor]):
    """Statistics by request, float64 where they are asked for; second moments are stored as triangles."""

    def __init__(self, stored: Mapping[Request, Callable[[], Tensor]]) -> None:
        self.stored = stored
        """How to fetch them: vectors as they are, of matrices the `triangle`."""
        self._identity = object()

    def __getitem__(self, request: Request) -> Tensor:
        fetch = self.stored[request]
        if STATISTICS[request.kind][1] == 1:
            return fetch().double()
        return MEMORY.recall((self._identity, request), lambda: square(fetch(), request.size))

    def __contains__(self, request: object) -> bool:
        return request in self.stored  # without fetching it, which a mapping would do to find out

    def __iter__(self) -> Iterator[Request]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


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
    """Σ x·xᵀ over rows x of `size` numbers, summed in blocks from the diagonal to the right alone.

    The blocks stand on a shelf, and one of them is in use at a time.
    """

    def __init__(self, size: int, dtype: torch.dtype, shelf: Shelf) -> None:
        self._size, self._dtype = size, dtype
        self._blocks = [
            shelf.drawer((min(_BLOCK, size - first), size - first), dtype) for first in range(0, size, _BLOCK)
        ]

    def add(self, rows: Tensor) -> None:
        """Some rows more. [count, size]."""
        for number, drawer in enumerate(self._blocks):
            first = number * _BLOCK
            block = drawer.take()
            drawer.back(block.addmm_(rows[:, first : first + len(block)].T, rows[:, first:]))

    def mean(self, count: int, centre: Tensor | None = None) -> Tensor:
        """The `triangle` of the mean over `count` rows, minus that of `centre` [size] with itself."""
        found = torch.empty(self._size * (self._size + 1) // 2, dtype=self._dtype)
        start = 0
        for number, drawer in enumerate(self._blocks):
            first = number * _BLOCK
            exact = drawer.take() / count
            if centre is not None:
                exact.addr_(centre[first : first + len(exact)], centre[first:], alpha=-1)
            for i, row in enumerate(exact):
                found[start : start + len(row) - i] = row[i:]
                start += len(row) - i
        return found


_BLOCK = 256
"""Rows that are mirrored, or summed, at once."""
