"""A weight of any element type in float64, some of its rows at a time.

Widened whole, a large weight in float32 takes twice its room again, more than all else that a truncation of
it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

PART = 2**20
"""Entries that are in float64 at one time: enough to fill a matrix product."""


def widened_rows(weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of a weight [m, …] in float64 on the CPU and where they are; one in float64 comes whole."""
    step = len(weight)
    if weight.dtype != torch.float64:
        step = max(1, PART * step // max(1, weight.numel()))
    for first in range(0, len(weight), max(1, step)):
        rows = slice(first, first + step)
        yield rows, weight[rows].to(device="cpu", dtype=torch.float64)


def times(weight: Tensor, columns: Tensor) -> Tensor:
    """W·C in float64. [m, n], [n, k] → [m, k]."""
    product = torch.empty(len(weight), columns.shape[1], dtype=torch.float64)
    for rows, part in widened_rows(weight):
        torch.mm(part, columns, out=product[rows])
    return product


def across(columns: Tensor, weight: Tensor) -> Tensor:
    """Cᵀ·W in float64. [m, k], [m, n] → [k, n]."""
    product = torch.zeros(columns.shape[1], weight.shape[1], dtype=torch.float64)
    for rows, part in widened_rows(weight):
        product.addmm_(columns[rows].T, part)
    return product


def sum_of_squares(weight: Tensor) -> float:
    """‖W‖² in the Frobenius norm."""
    return sum(_squares(part) for _, part in widened_rows(weight))


def missed_squares(weight: Tensor, rebuilt: Callable[[slice], Tensor]) -> tuple[float, float]:
    """‖W − Ŵ‖² and ‖W‖² in the Frobenius norm; `rebuilt` gives some rows of Ŵ in float64."""
    missed = total = 0.0
    for rows, part in widened_rows(weight):
        missed += _squares(part - rebuilt(rows))
        total += _squares(part)
    return missed, total


def _squares(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values)) ** 2
