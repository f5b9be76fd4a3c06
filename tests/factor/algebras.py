"""Tensors T[i, j, k] of multiplications, and of products that rotations leave alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import null_space, qr
from scipy.spatial.transform import Rotation

from tdsl.factor.bilinear_grid import harmonics, sphere_rule

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


def wigner(level: int, rotation: Array) -> Array:
    """What a rotation does to the harmonics of one degree: Y(R p) = D Y(p)."""
    points, weights = sphere_rule(2 * level + 2)
    own = slice(level * level, (level + 1) ** 2)
    before, after = (harmonics(level, p)[:, own] for p in (points, rotation @ points))
    found: Array = after.T @ (weights[:, None] * before)
    return found


def wigner_blocks(levels: tuple[int, ...], rotation: Array) -> Array:
    """The same for several degrees one after the other."""
    sizes = [2 * level + 1 for level in levels]
    whole = np.zeros((sum(sizes), sum(sizes)))
    for level, size, end in zip(levels, sizes, np.cumsum(sizes), strict=True):
        whole[end - size : end, end - size : end] = wigner(level, rotation)
    return whole


def clebsch_gordan(first: int, second: int, third: int) -> Array:
    """The one product of degrees (up to a factor) that commutes with rotations, in real harmonics, of norm 1.

    It spans what every rotation leaves alone, which two of them determine (Schur).
    """
    turns = [[wigner(level, r) for level in (first, second, third)] for r in rotations(2, seed=7)]
    maps = [np.kron(np.kron(a, b), c) for a, b, c in turns]
    found = null_space(np.concatenate([m - np.eye(len(m)) for m in maps]), rcond=1e-9)
    assert found.shape[1] == 1
    sizes = (2 * first + 1, 2 * second + 1, 2 * third + 1)
    return found[:, 0].reshape(sizes)


def mixed(tensor: Array, seed: int = 0) -> Array:
    """The same multiplication in random orthonormal bases: of the same rank, and of no simple numbers."""
    generator = np.random.default_rng(seed)
    bases = [qr(generator.standard_normal((size, size)))[0] for size in tensor.shape]
    found: Array = np.einsum("ijk,ia,jb,kc->abc", tensor, *bases)
    return found
