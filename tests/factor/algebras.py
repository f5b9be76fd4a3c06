"""Tensors T[i, j, k] of multiplications, and of products that rotations leave alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr
from scipy.spatial.transform import Rotation

from tdsl.factor.bilinear_harmonics import wigner

Array = NDArray[np.float64]


def clifford(positive: int, negative: int = 0) -> Array:
    """The geometric product of Cl(p, q); blades in binary order; Cl(0, 1) is ℂ, Cl(0, 2) is ℍ."""
    count = positive + negative
    size = 1 << count
    tensor = np.zeros((size, size, size))
    for left in range(size):
        for right in range(size):
            sign = 1
            for axis in range(count):
                if right >> axis & 1:
                    sign *= (-1) ** (left >> (axis + 1)).bit_count()
                    sign *= -1 if left >> axis & 1 and axis >= positive else 1
            tensor[left, right, left ^ right] = sign
    return tensor


def matrices(rows: int, inner: int, columns: int) -> Array:
    """The product of matrices, their entries row by row."""
    tensor = np.zeros((rows * inner, inner * columns, rows * columns))
    for i in range(rows):
        for j in range(inner):
            for k in range(columns):
                tensor[i * inner + j, j * columns + k, i * columns + k] = 1
    return tensor


def cross() -> Array:
    """The cross product of vectors of three."""
    tensor = np.zeros((3, 3, 3))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        tensor[i, j, k], tensor[j, i, k] = 1, -1
    return tensor


def rotations(count: int, seed: int = 0) -> Array:
    """Random rotation matrices [count, 3, 3]."""
    found: Array = Rotation.random(count, random_state=seed).as_matrix()
    return found


def wigner_blocks(levels: tuple[int, ...], rotation: Array) -> Array:
    """The same for several degrees one after the other."""
    sizes = [2 * level + 1 for level in levels]
    whole = np.zeros((sum(sizes), sum(sizes)))
    for level, size, end in zip(levels, sizes, np.cumsum(sizes), strict=True):
        whole[end - size : end, end - size : end] = wigner(level, rotation)
    return whole


def mixed(tensor: Array, seed: int = 0) -> Array:
    """The same multiplication in random orthonormal bases: of the same rank, and of no simple numbers."""
    generator = np.random.default_rng(seed)
    bases = [qr(generator.standard_normal((size, size)))[0] for size in tensor.shape]
    found: Array = np.einsum("ijk,ia,jb,kc->abc", tensor, *bases)
    return found
