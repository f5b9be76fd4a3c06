"""`binary`: weights as products of two matrices of signs, with numbers for rows, columns and ranks.

W ≈ Σ diag(h)·U±·diag(l)·V±ᵀ·diag(g), U± [m, r] and V± [n, r] of ±1: the first product by the signs of the
singular vectors, the second of what that leaves (Lee et al., 2025). It is post-training only: where the
original method begins to train. Numbers `l` are the least-squares ones for the signs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tdsl.quantise.declare import Array, Limit, Recipe, Scheme, Stored, Weight
from tdsl.quantise.half import FLOAT
from tdsl.quantise.signs import BITS, signed

PATHS = 2
"""Products whose sum a weight is."""
HALF = 16
"""Bits of a number for a row or a column."""
LARGEST = 4096
"""Most rows and columns of a map whose singular vectors are computed."""
RIDGE = 1e-9
"""Relative, of the equations for `l`, which two equal columns of signs would make singular."""


def store_binary(weight: Weight, bits: float, error: float) -> Stored | None:
    """A map in `bits` for each number; `None` for what is no map, or too large a one."""
    if not weight.is_map(LARGEST):
        return None
    rank = rank_of(weight.outputs, weight.inputs, bits)
    if rank < BITS:
        return None
    products = factored(weight.flat.astype(np.float64), weight.root, rank)
    lost = weight.error(np.sum([product.dense() for product in products], axis=0))
    return Stored(_recipe(weight, products), lost, "signs of factors")


def rank_of(m: int, n: int, bits: float, paths: int = PATHS) -> int:
    """The rank that so many bits for each number of a map [m, n] allow, a multiple of eight."""
    rank = int((bits * m * n / paths - HALF * (m + n)) / (m + n + 2 * HALF)) // BITS * BITS
    return min(rank, min(m, n) // BITS * BITS)


@dataclass(frozen=True, slots=True)
class Signs:
    """diag(h)·U±·diag(l)·V±ᵀ·diag(g), as the file holds it: h and g in float16, l in float32."""

    left: Array
    """Which entries of U± [m, r] are positive."""
    right: Array
    """The same of V± [n, r]."""
    rows: Array
    columns: Array
    ranks: Array

    def dense(self) -> Array:
        """The product, float32. → [m, n]"""
        left = np.where(self.left, 1, -1) * self.rows.astype(np.float32)[:, None] * self.ranks
        right = np.where(self.right, 1, -1) * self.columns.astype(np.float32)[:, None]
        found: Array = (left @ right.T).astype(np.float32)
        return found


def factored(matrix: Array, root: Array, rank: int, paths: int = PATHS) -> list[Signs]:
    """Some products of signs whose sum a map [m, n] is like, errors of columns multiplied by `root` [n]."""
    left_over, made = matrix, []
    for _ in range(paths):
        made.append(_signs(left_over, root, rank))
        left_over = left_over - made[-1].dense()
    return made


def _signs(matrix: Array, root: Array, rank: int) -> Signs:
    from scipy import linalg

    u, s, vt = linalg.svd(matrix * root, full_matrices=False)
    half = np.sqrt(s[:rank])
    u, v = u[:, :rank] * half, vt[:rank].T * half
    rows, columns = _scale(u), _scale(v) / root
    rows, columns = (_narrow(scale) for scale in (rows, columns))
    left = np.where(u >= 0, 1.0, -1.0) * rows.astype(np.float64)[:, None]
    right = np.where(v >= 0, 1.0, -1.0) * columns.astype(np.float64)[:, None]
    weighed = right * root[:, None]
    gram = (left.T @ left) * (weighed.T @ weighed)
    gram[np.diag_indices(rank)] *= 1 + RIDGE
    target = np.einsum("mr,mr->r", left, matrix @ (weighed * root[:, None]))
    ranks = linalg.solve(gram, target, assume_a="sym") if target.any() else np.zeros(rank)
    return Signs(u >= 0, v >= 0, rows, columns, ranks.astype(np.float32))


def _scale(factor: Array) -> Array:
    """The number for each row of the best product of such numbers and others for columns. → [m]"""
    from scipy import linalg

    u, _, _ = linalg.svd(np.abs(factor), full_matrices=False)
    found: Array = np.abs(u[:, 0])
    return found


def _narrow(scale: Array) -> Array:
    """Numbers as float16, the largest of them one."""
    largest = scale.max()
    found: Array = (scale / largest if largest > 0 else scale).astype(np.float16)
    return found


def _recipe(weight: Weight, products: list[Signs]) -> Recipe:
    """Signs and numbers, multiplied when the file is loaded."""
    recipe = Recipe()
    total = ""
    for i, product in enumerate(products):
        rows, columns = (
            recipe.step("Cast", recipe.keep(f"{key}.{i}", scale[:, None]), to=FLOAT)
            for key, scale in (("rows", product.rows), ("columns", product.columns))
        )
        left = signed(recipe, f"left.{i}", product.left, rows)
        left = recipe.step("Mul", left, recipe.keep(f"ranks.{i}", product.ranks))
        right = signed(recipe, f"right.{i}", product.right, columns)
        first, second = (left, right) if weight.rows_first else (right, left)
        dense = recipe.step("MatMul", first, recipe.step("Transpose", second, perm=(1, 0)))
        total = recipe.step("Add", total, dense) if total else dense
    if weight.values.ndim != 2:
        recipe.shaped(total, weight.values.shape)
    return recipe


DECLARED = (
    Scheme(
        "binary",
        "bits: Real = 1, error: Ratio = 60%",
        store_binary,
        "Weights as the sum of two products of matrices of signs, with a number for each row, column and "
        "rank, in `bits` for each of their own numbers. For weights of low rank that may be far below one; "
        "others lose much. A weight that would lose more than `error` stays as it is.",
        "Lee et al., 2025, before training",
        limits={"bits": Limit(lambda bits: 0 < bits <= 4, "more than 0 and at most 4 bits for each number")},
        by_data=True,
    ),
)
