"""The rotation that brings vectors nearest to others, by a fixed number of products.

The minimum of ‖V·R − T‖ over rotations R is the maximum of tr(Rᵀ·M), M = Vᵀ·T. With reflections it is the
orthogonal polar factor of M (Schönemann, 1966), by Newton–Schulz iterations; without, in space, the
quaternion of the largest eigenvalue of a symmetric 4 × 4 matrix (Horn, 1987), by repeated squaring; in the
plane it has a closed form. Where the iteration has not converged R is not orthogonal, which `residual`
measures.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.errors import TdslError

STEPS = 24
"""Enough for float64 where the margin is 1e-3 or more."""
TINY = 1e-30

_QUATERNION = (  # of R(q): the entries of q·qᵀ (w, x, y, z) that it adds up, with their signs
    ("ww+xx-yy-zz", "xy+xy-wz-wz", "xz+xz+wy+wy"),
    ("xy+xy+wz+wz", "ww-xx+yy-zz", "yz+yz-wx-wx"),
    ("xz+xz-wy-wy", "yz+yz+wx+wx", "ww-xx-yy+zz"),
)


def nearest(matrix: Tensor, reflects: bool, steps: int = STEPS) -> Tensor:
    """The orthogonal R with the largest tr(Rᵀ·M). [B, d, d] → [B, d, d].

    Without `reflects` a rotation, in two or three dimensions. Raises `TdslError` for rotations of others.
    """
    size = matrix.shape[-1]
    if reflects:
        return polar_factor(matrix, steps)
    if size == 2:
        return _in_plane(matrix)
    if size == 3:
        return _in_space(matrix, steps)
    raise TdslError(f"SO({size}) is not supported", expected=f"O({size}), or two or three dimensions")


def polar_factor(matrix: Tensor, steps: int = STEPS) -> Tensor:
    """The orthogonal factor of M = R·P, P symmetric and positive: R ← 3/2·R − 1/2·R·Rᵀ·R. [B, d, d].

    Each step multiplies a small singular value by 3/2, and squares what is missing once it is near 1.
    """
    found = matrix / matrix.square().sum((1, 2), keepdim=True).sqrt().clamp_min(TINY)
    for _ in range(steps):
        found = 1.5 * found - 0.5 * (found @ found.transpose(1, 2) @ found)
    return found


def residual(rotation: Tensor) -> Tensor:
    """How far matrices are from orthogonal: the largest entry of R·Rᵀ − 1. [B, d, d] → [B]."""
    unit = torch.eye(rotation.shape[-1], dtype=rotation.dtype, device=rotation.device)
    return (rotation @ rotation.transpose(1, 2) - unit).abs().amax((1, 2))


def margin(matrix: Tensor, reflects: bool) -> Tensor:
    """How far M is from having several nearest rotations, relative to its largest singular value. [B].

    With reflections that is its smallest singular value, and else the sum of the last two, the smallest one
    counted as negative where M reverses orientation. (For checks: by an SVD.)
    """
    values = torch.linalg.svdvals(matrix)
    least = values[:, -1]
    if not reflects:
        least = values[:, -2] + torch.linalg.det(matrix).sign() * values[:, -1]
    share: Tensor = least / values[:, 0].clamp_min(TINY)
    return share


def _in_plane(matrix: Tensor) -> Tensor:
    cosine = matrix[:, 0, 0] + matrix[:, 1, 1]
    sine = matrix[:, 0, 1] - matrix[:, 1, 0]
    length = (cosine.square() + sine.square()).sqrt().clamp_min(TINY)
    cosine, sine = cosine / length, sine / length
    return torch.stack([cosine, sine, -sine, cosine], dim=1).reshape(-1, 2, 2)


def _in_space(matrix: Tensor, steps: int) -> Tensor:
    """tr(Rᵀ·M) is qᵀ·K·q for the unit quaternion q of R; powers of K + ‖K‖·1 tend to q·qᵀ, which gives R."""
    turned = _rotation_of_quaternion().to(matrix)
    form = (matrix.flatten(1) @ turned).reshape(-1, 4, 4)
    size = form.square().sum((1, 2), keepdim=True).sqrt().clamp_min(TINY)
    power = form / size + torch.eye(4, dtype=form.dtype, device=form.device)
    for _ in range(steps):
        power = power @ power
        power = power / power.diagonal(dim1=1, dim2=2).sum(1).reshape(-1, 1, 1)
    power = power / power.diagonal(dim1=1, dim2=2).sum(1).reshape(-1, 1, 1)
    return (power.flatten(1) @ turned.transpose(0, 1)).reshape(-1, 3, 3)


def _rotation_of_quaternion() -> Tensor:
    """What takes q·qᵀ, 16 numbers, to the rotation of q, 9 numbers; symmetric in q·qᵀ. [9, 16], float64."""
    places = {letter: i for i, letter in enumerate("wxyz")}
    found = torch.zeros(9, 4, 4, dtype=torch.float64)
    for row, entry in enumerate(text for line in _QUATERNION for text in line):
        for start in range(0, len(entry), 3):
            sign = -1.0 if start and entry[start - 1] == "-" else 1.0
            found[row, places[entry[start]], places[entry[start + 1]]] += sign
    return ((found + found.transpose(1, 2)) / 2).reshape(9, 16)
