"""Eigenvectors of symmetric 3×3 matrices by additions and products alone: cyclic Jacobi rotations, unrolled.

ONNX has no eigenvalue operator. Four sweeps bring what is off the diagonal to rounding in float64 (Jacobi,
1846; quadratic convergence: Henrici, 1958).
"""

from __future__ import annotations

import torch
from torch import Tensor

SWEEPS = 4
PAIRS = ((0, 1), (0, 2), (1, 2))


TINY = 1e-30
"""Keeps a quotient of zeros zero."""

Entries = dict[tuple[int, int], Tensor | None]
"""The upper triangle, [B, 1] each; `None` for the entry that the last rotation made zero."""


def eigen3(matrix: Tensor, sweeps: int = SWEEPS) -> tuple[Tensor, Tensor]:
    """Eigenvalues, descending, and eigenvectors as columns. [B, 3, 3] → [B, 3], [B, 3, 3].

    The sign of each vector is whatever the rotations leave. Where eigenvalues are equal, so is their order.
    """
    entries: Entries = {(i, j): matrix[:, i, j : j + 1] for i in range(3) for j in range(i, 3)}
    start = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    columns = [start[i].expand(matrix.shape[0], 3) for i in range(3)]
    for _ in range(sweeps):
        for p, q in PAIRS:
            _rotate(entries, columns, p, q)
    values = torch.cat([_known(entries, i, i) for i in range(3)], dim=1)
    ordered, places = values.sort(dim=1, descending=True)
    vectors = torch.stack(columns, dim=1)  # [B, which vector, coordinate]
    chosen = vectors.gather(1, places.unsqueeze(2).expand(-1, -1, 3))
    return ordered, chosen.transpose(1, 2)


def _rotate(entries: Entries, columns: list[Tensor], p: int, q: int) -> None:
    """The rotation of axes p and q that makes their entry zero, of the smaller angle."""
    first, second, off = _known(entries, p, p), _known(entries, q, q), _known(entries, p, q)
    difference, twice = second - first, 2 * off
    size = difference.abs() + (difference * difference + twice * twice).sqrt()
    tangent = torch.where(difference < 0, -twice, twice) / size.clamp_min(TINY)
    cosine = (tangent * tangent + 1).rsqrt()
    sine = tangent * cosine
    entries[p, p], entries[q, q] = first - tangent * off, second + tangent * off
    r = 3 - p - q
    left, right = (min(p, r), max(p, r)), (min(q, r), max(q, r))
    a, b = entries[left], entries[right]
    if a is None and b is not None:
        entries[left], entries[right] = -sine * b, cosine * b
    elif a is not None and b is None:
        entries[left], entries[right] = cosine * a, sine * a
    elif a is not None and b is not None:
        entries[left], entries[right] = cosine * a - sine * b, sine * a + cosine * b
    entries[p, q] = None
    first_column, second_column = columns[p], columns[q]
    columns[p] = cosine * first_column - sine * second_column
    columns[q] = sine * first_column + cosine * second_column


def _known(entries: Entries, i: int, j: int) -> Tensor:
    found = entries[i, j]
    assert found is not None  # a rotation is followed by one of another pair
    return found


def gap(values: Tensor) -> Tensor:
    """The least distance of neighbours among falling eigenvalues, relative to the largest. [B, 3] → [B]."""
    steps = (values[:, :-1] - values[:, 1:]).amin(1)
    return steps / values.abs().amax(1).clamp_min(TINY)
