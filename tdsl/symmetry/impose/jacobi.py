"""Eigenvectors of symmetric 3×3 matrices by additions and products alone: cyclic Jacobi rotations, unrolled.

ONNX has no eigenvalue operator. Four sweeps bring what is off the diagonal to rounding in float64 (Jacobi,
1846; quadratic convergence: Henrici, 1958).
"""

from __future__ import annotations

import torch
from torch import Tensor

SWEEPS = 4
PAIRS = ((0, 1), (0, 2), (1, 2))


def eigen3(matrix: Tensor, sweeps: int = SWEEPS) -> tuple[Tensor, Tensor]:
    """Eigenvalues, descending, and eigenvectors as columns. [B, 3, 3] → [B, 3], [B, 3, 3].

    The sign of each vector is whatever the rotations leave. Where eigenvalues are equal, so is their order.
    """
    entries = {(i, j): matrix[:, i, j] for i in range(3) for j in range(i, 3)}
    start = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    columns = [start[i].expand(matrix.shape[0], 3) for i in range(3)]
    for _ in range(sweeps):
        for p, q in PAIRS:
            _rotate(entries, columns, p, q)
    values = torch.stack([entries[i, i] for i in range(3)], dim=1)
    ordered, places = values.sort(dim=1, descending=True)
    vectors = torch.stack(columns, dim=1)  # [B, which vector, coordinate]
    chosen = vectors.gather(1, places.unsqueeze(2).expand(-1, -1, 3))
    return ordered, chosen.transpose(1, 2)


def _rotate(entries: dict[tuple[int, int], Tensor], columns: list[Tensor], p: int, q: int) -> None:
    """The rotation of axes p and q that makes their entry zero, of the smaller angle."""
    first, second, off = entries[p, p], entries[q, q], entries[p, q]
    difference, twice = second - first, 2 * off
    size = difference.abs() + (difference * difference + twice * twice).sqrt()
    signed = torch.where(difference < 0, -twice, twice)
    tangent = signed / torch.where(size == 0, torch.ones_like(size), size)
    cosine = (tangent * tangent + 1).rsqrt()
    sine = tangent * cosine
    entries[p, p], entries[q, q] = first - tangent * off, second + tangent * off
    entries[p, q] = torch.zeros_like(off)
    r = 3 - p - q
    left, right = (min(p, r), max(p, r)), (min(q, r), max(q, r))
    a, b = entries[left], entries[right]
    entries[left], entries[right] = cosine * a - sine * b, sine * a + cosine * b
    c, s = cosine.unsqueeze(1), sine.unsqueeze(1)
    columns[p], columns[q] = c * columns[p] - s * columns[q], s * columns[p] + c * columns[q]


def gap(values: Tensor) -> Tensor:
    """The least distance of neighbours among falling eigenvalues, relative to the largest. [B, 3] → [B]."""
    steps = (values[:, :-1] - values[:, 1:]).amin(1)
    size = values.abs().amax(1)
    return steps / torch.where(size == 0, torch.ones_like(size), size)
