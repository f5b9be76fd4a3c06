"""Parts of a value by matrices of their own: as one batch of products or as dense layers.

A runtime prepares the matrix of a dense layer once, and those of a batch at every call: at 8 rows that takes
a third of the time and more. A single row is read from both alike, and of many rows the products take so long
that taking parts apart and putting them together again costs more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tdsl.factor.declare import TermFunction, Terms

MANY_ROWS = 128
"""From here on a batch of products is faster, as measured in onnxruntime (docs/finite-groups.md)."""
MOST_LAYERS = 16
"""More products than this are one batch in any case."""


def separate_products(terms: Terms, x: Any, matrices: Any) -> Any:
    """x [b, r, q], matrices [r, q, p] → [b, r, p]: each of r parts by its own matrix."""
    r, q, p = terms.known(matrices).shape
    rows = terms.shape(x)[0]
    if r > MOST_LAYERS or (isinstance(rows, int) and (rows == 1 or rows >= MANY_ROWS)):
        return terms("permute", terms("matmul", terms("permute", x, [1, 0, 2]), matrices), [1, 0, 2])
    parts = terms.split(terms("reshape", x, [-1, r * q]), [q] * r, 1)
    weights = [terms("reshape", terms("slice", matrices, 0, place, place + 1), [q, p]) for place in range(r)]
    results = [
        terms("linear", part, terms("permute", weight, [1, 0]))
        for part, weight in zip(parts, weights, strict=True)
    ]
    return terms("reshape", terms("concat", results, 1), [-1, r, p])


def _shape(x: Sequence[int], matrices: Sequence[int]) -> tuple[int, ...]:
    """The shape of `separate_products`. Raises `ValueError` where the sizes do not fit."""
    if len(x) != 3 or list(x[1:]) != list(matrices[:2]):
        raise ValueError(f"matrices {list(matrices)}, applied to a value of shape {list(x)}")
    return x[0], x[1], matrices[2]


DECLARED = (
    TermFunction(
        "separate_products",
        ("x", "S"),
        separate_products,
        _shape,
        "x [b, r, q] by S [r, q, p], each of the r parts by its own matrix → [b, r, p].",
    ),
)
