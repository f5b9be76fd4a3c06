"""Constants with a structure, as conditions on weights ask for it, over the field and in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tdsl.prove import field
from tdsl.prove.field import Elements

ARRANGED = ("in order", "blocks")
"""Permutations of places that a condition may ask for."""


LABELS = 4
"""Labels are below this: of three, two are equal more often than not."""


def arranged(family: str, count: int, order: Callable[[int], Sequence[int]]) -> list[int]:
    """A permutation of `count` places that moves nothing, or one that takes blocks to blocks.

    `order(n)` draws a permutation of n.
    """
    if family == "in order" or count < 2:
        return list(range(count))
    divisors = [d for d in range(2, count + 1) if count % d == 0]
    groups = divisors[int(order(len(divisors))[0])]
    width = count // groups
    return [int(block) * width + int(i) for block in order(groups) for i in order(width)]


def chosen(
    family: str, shape: Sequence[int], order: Callable[[int], Sequence[int]]
) -> list[tuple[int, int, int]] | None:
    """The entries that are not zero of a matrix that selects: row, column, and 1, −1, or 0 for any number.

    `None` where no such matrix has the shape; `order(n)` draws a permutation of n.
    """
    signs = {"selection": (1,), "scaled selection": (0,), "incidence": (1, -1)}.get(family)
    if signs is None or len(shape) != 2 or shape[1] < len(signs):
        return None
    columns = (order(shape[1])[: len(signs)] for _ in range(shape[0]))
    return [(i, int(j), sign) for i, row in enumerate(columns) for j, sign in zip(row, signs, strict=True)]


def mirrors(axes: int, order: Callable[[int], Sequence[int]]) -> list[int]:
    """One or both of the last two axes, along which a weight is to be its own mirror image."""
    last = [-1, -2][:axes]
    chosen = [last[int(i)] for i in order(len(last))]
    return chosen[: 1 + int(order(2)[0])]


def orthogonal(random: np.random.Generator, size: int) -> Elements:
    """A random orthogonal matrix over the field: (I − A)·(I + A)⁻¹ of a skew A (Cayley, 1846), rows negated.

    It is a rational function of A, so that an identity which fails for some orthogonal matrix fails here with
    the usual probability.
    """
    one = np.eye(size, dtype=np.uint64)
    while True:
        upper = np.triu(field.drawn(random, (size, size)), 1)
        skew = field.subtract(upper, upper.T)
        inverse = _inverse(field.add(one, skew))
        if inverse is not None:
            signs = np.where(random.integers(0, 2, size) == 1, 1, field.P - 1).astype(np.uint64)
            product = field.matmul(field.subtract(one, skew), inverse)
            return field.multiply(product, np.broadcast_to(signs[:, None], product.shape))


def _inverse(matrix: Elements) -> Elements | None:
    """The inverse of a square matrix, `None` where there is none. Gauss–Jordan."""
    size = len(matrix)
    rows = np.concatenate([matrix, np.eye(size, dtype=np.uint64)], 1)
    for at in range(size):
        candidates = np.flatnonzero(rows[at:, at])
        if not len(candidates):
            return None
        rows[[at, at + candidates[0]]] = rows[[at + candidates[0], at]]
        rows[at] = field.multiply(rows[at], field.inverse(rows[at, at : at + 1]))
        others = np.array([i for i in range(size) if i != at], dtype=np.intp)
        if len(others):
            rows[others] = field.subtract(rows[others], field.multiply(rows[others, at : at + 1], rows[at]))
    return rows[:, size:]
