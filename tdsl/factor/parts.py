"""A weight of any element type in float64, some of its rows at a time.

Widened whole, a large weight in float32 takes twice its room again, more than all else that a truncation of
it needs.
"""

from __future__ import annotations

from collections.abc import Iterator

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
    return sum(float(torch.linalg.vector_norm(part)) ** 2 for _, part in widened_rows(weight))


def missed_squares(weight: Tensor, left: Tensor, right: Tensor) -> float:
    """‖W − L·R‖² in the Frobenius norm. [m, n], [m, r], [r, n]."""
    lost = 0.0
    for rows, part in widened_rows(weight):
        lost += float(torch.linalg.vector_norm(torch.addmm(part, left[rows], right, alpha=-1))) ** 2
    return lost
