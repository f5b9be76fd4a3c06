"""Groups that are not compact: translations, rigid motions, invertible matrices.

An affine map x ↦ A·x + t is given by the matrix [[A, t], [0, 1]]; `Group.moved` says of which sizes t is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from tdsl.symmetry.element import Linear, block_diagonal
from tdsl.symmetry.group import Group, orthogonal, positive, special_orthogonal


def general_linear(n: int) -> Group:
    """GL(n): invertible matrices.

    No measure on it is uniform: drawn are rotations times stretches by factors between ½ and 2 (the polar
    factors of Mironenco and Forré, 2024).
    """
    positive("GL", n)
    entries = torch.eye(n * n, dtype=torch.float64).reshape(n * n, n, n)
    return Group(f"GL({n})", n, (), (), tuple(entries), None, "GL", draw=partial(_stretched_rotation, n))


def euclidean(n: int) -> Group:
    """E(n): rotations, reflections and translations of R^n, as matrices [[A, t], [0, 1]]."""
    return _rigid(f"E({n})", orthogonal(n), "E")


def special_euclidean(n: int) -> Group:
    """SE(n): rotations and translations of R^n, as matrices [[A, t], [0, 1]]."""
    return _rigid(f"SE({n})", special_orthogonal(n), "SE")


def _rigid(name: str, turning: Group, family: str) -> Group:
    n = turning.degree
    one = torch.ones(1, 1, dtype=torch.float64)
    generators = tuple(Linear(block_diagonal([g.matrix(), one])) for g in turning.generators)
    turns = tuple(block_diagonal([a, 0 * one]) for a in turning.algebra)
    return Group(name, n + 1, turning.names, generators, (*turns, *_shifts((n,))), None, family, moved=(n,))


def translations(*sizes: int) -> Group:
    """T(sizes): x ↦ x + t for tensors t of these sizes, each number of it any real number."""
    for size in sizes:
        positive("T", size)
    name = f"T({', '.join(map(str, sizes))})"
    return Group(name, math.prod(sizes) + 1, (), (), _shifts(sizes), None, "T", moved=sizes)


def whole_translations(*sizes: int) -> Group:
    """Z(sizes): x ↦ x + t for tensors t of whole numbers of these sizes, as periodic images are."""
    for size in sizes:
        positive("Z", size)
    units = torch.eye(math.prod(sizes), dtype=torch.float64).reshape(-1, *sizes)
    steps = tuple(Linear(_translation(unit)) for unit in units)
    names = tuple(f"t{i}" for i in range(1, len(steps) + 1))
    name = f"Z({', '.join(map(str, sizes))})"
    return Group(
        name,
        len(steps) + 1,
        names,
        steps,
        (),
        None,
        "Z",
        moved=sizes,
        whole=True,
        draw=partial(_near_images, sizes),
    )


def _translation(t: Tensor) -> Tensor:
    """x ↦ x + t as a matrix [[1, t], [0, 1]]."""
    found = torch.eye(t.numel() + 1, dtype=torch.float64)
    found[:-1, -1] = t.flatten()
    return found


def _near_images(sizes: tuple[int, ...], random: torch.Generator) -> Tensor:
    """Whole numbers from -2 to 2."""
    return _translation(torch.randint(-2, 3, sizes, generator=random).to(torch.float64))


def _shifts(sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """The Lie algebra of translations."""
    n = math.prod(sizes)
    found = []
    for i in range(n):
        one = torch.zeros(n + 1, n + 1, dtype=torch.float64)
        one[i, n] = 1
        found.append(one)
    return tuple(found)


def _stretched_rotation(n: int, random: torch.Generator) -> Tensor:
    """Polar factors drawn each for itself: an orthogonal matrix of determinant 1, and a positive one."""
    turned: Tensor = torch.linalg.matrix_exp(_skew(torch.randn(n, n, generator=random, dtype=torch.float64)))
    axes = torch.linalg.matrix_exp(_skew(torch.randn(n, n, generator=random, dtype=torch.float64)))
    factors = 2 ** (2 * torch.rand(n, generator=random, dtype=torch.float64) - 1)
    stretched: Tensor = (axes * factors) @ axes.T
    return turned @ stretched


def _skew(matrix: Tensor) -> Tensor:
    return matrix - matrix.T
