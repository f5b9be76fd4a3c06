"""A layer by irreducible spaces: one matrix into them, a dense layer for each line and for the larger space.

A runtime prepares the matrix of a dense layer once, so that lines are layers of their own, except for a
single row, from which a batch is read as fast. Many rows are taken in blocks whose activations stay in the
second level of the cache: the small matrices read and write all of them. A bias that all places share is
that of the invariant line, and no pass over the result (docs/finite-groups.md).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from tdsl.factor.declare import TermFunction, Terms
from tdsl.factor.separate_products import MOST_LAYERS, separate_products

BLOCK = 150_000
"""Numbers of the rows of a block, as measured in onnxruntime."""
WHOLE = 400_000
"""Rows of fewer numbers than this stay together."""


def space_products(
    terms: Terms,
    x: Any,
    invariant: Any,
    into: Any,
    lines: Any,
    entering: Any,
    dense: Any,
    back: Any,
    leaving: Any,
    bias: Any = None,
) -> Any:
    """The seven factors of `group_irreps` applied to rows of places. x [b, h, q] → [b, a·p].

    invariant E [q, p], into T [s, h], lines A [s, q, p], entering U [d, k, h], dense D [k, q, l, p], back
    L [a, s], leaving B [a, d, l] and a bias c [p] that is added at each place.
    """
    spaces = _Spaces(terms, invariant, into, lines, entering, dense, back, leaving)
    rows = terms.shape(x)[0]
    if not isinstance(rows, int) or rows * spaces.h * spaces.q <= WHOLE:
        return spaces.applied(x, bias)
    # Each block has prepared weights of its own: together no more of them than the plain layer.
    count = min(spaces.times_smaller, rows * spaces.h * spaces.q // BLOCK)
    ends = [rows * place // count for place in range(count + 1)]
    parts = terms.split(x, [end - start for start, end in itertools.pairwise(ends)], 0)
    return terms("concat", [spaces.applied(part, bias) for part in parts], 0)


class _Spaces:
    """The constants of a layer by irreducible spaces, made once for all blocks of rows."""

    def __init__(
        self,
        terms: Terms,
        invariant: Any,
        into: Any,
        lines: Any,
        entering: Any,
        dense: Any,
        back: Any,
        leaving: Any,
    ) -> None:
        self.terms = terms
        self.h = terms.shape(into)[1]
        d, self.k, _ = terms.shape(entering)
        _, self.q, copies, self.p = terms.shape(dense)
        self.a, s = terms.shape(back)
        self.s, self.entered, self.left = s + 1, d * self.k, d * copies
        self.into = terms("concat", [terms.constant(torch.ones(1, self.h)), into], 0)
        self.lines = terms("concat", [terms("reshape", invariant, [1, self.q, self.p]), lines], 0)
        self.entering = terms("reshape", entering, [self.entered, self.h])
        self.dense = terms("reshape", dense, [self.k * self.q, copies * self.p])
        every = terms.constant(torch.ones(self.a, 1))
        self.back = terms("concat", [every, back, terms("reshape", leaving, [self.a, self.left])], 1)
        self.whole = terms("concat", [self.into, self.entering], 0)
        self.layers = [self._layer(place) for place in range(self.s)]
        numbers = self.q * self.p * (self.s + self.k * copies)
        self.times_smaller = max(1, self.a * self.h * self.q * self.p // numbers)

    def _layer(self, place: int) -> Any:
        """The matrix of one line as that of a dense layer. → [p, q]"""
        one = self.terms("slice", self.lines, 0, place, place + 1)
        return self.terms("permute", self.terms("reshape", one, [self.q, self.p]), [1, 0])

    def applied(self, x: Any, bias: Any) -> Any:
        """[b, h, q] → [b, a·p]."""
        terms = self.terms
        if terms.shape(x)[0] == 1 or self.s > MOST_LAYERS:
            result = self._lines_as_batch(x)
            return result if bias is None else terms("add", result, terms("concat", [bias] * self.a, 0))
        spaces = terms("reshape", terms("matmul", self.whole, x), [-1, (self.s + self.entered) * self.q])
        *single, larger = terms.split(spaces, [self.q] * self.s + [self.entered * self.q], 1)
        products = [
            terms("linear", line, layer, *([] if place or bias is None else [bias]))
            for place, (line, layer) in enumerate(zip(single, self.layers, strict=True))
        ]
        return self._joined(products, larger)

    def _lines_as_batch(self, x: Any) -> Any:
        terms = self.terms
        lines = separate_products(terms, terms("matmul", self.into, x), self.lines)
        larger = terms("matmul", self.entering, x)
        return self._joined([terms("reshape", lines, [-1, self.s * self.p])], larger)

    def _joined(self, lines: list[Any], larger: Any) -> Any:
        """Lines and the larger space, before its product, by the matrix on the places. → [b, a·p]"""
        terms = self.terms
        product = terms("matmul", terms("reshape", larger, [-1, self.k * self.q]), self.dense)
        together = terms("concat", [*lines, terms("reshape", product, [-1, self.left * self.p])], 1)
        places = terms("reshape", together, [-1, self.s + self.left, self.p])
        return terms("reshape", terms("matmul", self.back, places), [-1, self.a * self.p])


def _shape(x: Sequence[int], *factors: Sequence[int]) -> tuple[int, ...]:
    """The shape of `space_products`. Raises `ValueError` where the sizes do not fit."""
    invariant, into, _, _, _, back, *_ = factors
    if list(x[1:]) != [into[1], invariant[0]]:
        raise ValueError(f"{into[1]} places of {invariant[0]} numbers, applied to a value of shape {list(x)}")
    return x[0], back[0] * invariant[1]


DECLARED = (
    TermFunction(
        "space_products",
        ("x", "E", "T", "A", "U", "D", "L", "B", "c?"),
        space_products,
        _shape,
        "x [b, h, q] by the seven factors of `group_irreps`, and a bias of each place [p] → [b, a·p].",
    ),
)
