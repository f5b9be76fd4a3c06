"""A layer by irreducible spaces: a matrix into them, a dense layer for each, a matrix back to the places.

A runtime prepares the matrix of a dense layer once, so that products are layers of their own, except for a
single row, from which a batch is read as fast, and where there are many. Many rows are taken in blocks whose
activations stay in the second level of the cache: the small matrices read and write all of them. A bias that
all places share is that of the line of equal places, and no pass over the result (docs/finite-groups.md).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tdsl.factor.declare import TermFunction, Terms
from tdsl.factor.place_terms import picked

BLOCK = 150_000
"""Numbers of the rows of a block, as measured in onnxruntime."""
WHOLE = 400_000
"""Rows of fewer numbers than this stay together."""
MOST_LAYERS = 16
"""More products than this are batches, where their sizes are the same."""

Named = dict[tuple[int, ...], list[int]]
"""Places by label."""


@dataclass(frozen=True, slots=True)
class Product:
    """Copies read and copies written that products of channels connect, and the dimensions both have."""

    read: tuple[int, ...]
    written: tuple[int, ...]
    dimensions: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many dimensions, copies read and copies written."""
        return len(self.dimensions), len(self.read), len(self.written)


def space_products(
    terms: Terms,
    x: Any,
    into: Any,
    entering: Any,
    products: Any,
    pairs: Any,
    back: Any,
    leaving: Any,
    matching: Any,
    order: Any,
    bias: Any = None,
) -> Any:
    """The eight factors of `group_spaces` applied to rows of places. x [b, h, q] → [b, a·p].

    A bias c [p] is added at each place.
    """
    layer = _Layer(terms, into, entering, products, pairs, back, leaving, matching, order)
    return in_blocks(terms, x, lambda part: layer.applied(part, bias), layer.times_smaller)


def in_blocks(terms: Terms, x: Any, layer: Callable[[Any], Any], most: int) -> Any:
    """A layer applied to blocks of rows, at most so many, where these have many numbers. x [b, …] → [b, m]"""
    rows, *sizes = terms.shape(x)
    if not isinstance(rows, int) or rows * math.prod(sizes) <= WHOLE:
        return layer(x)
    # Each block has prepared weights of its own: together no more of them than the plain layer.
    count = max(1, min(most, rows * math.prod(sizes) // BLOCK))
    ends = [rows * place // count for place in range(count + 1)]
    parts = terms.split(x, [end - start for start, end in itertools.pairwise(ends)], 0)
    return terms("concat", [layer(part) for part in parts], 0)


class _Layer:
    """The constants of a layer by irreducible spaces, made once for all blocks of rows."""

    def __init__(
        self,
        terms: Terms,
        into: Any,
        entering: Any,
        products: Any,
        pairs: Any,
        back: Any,
        leaving: Any,
        matching: Any,
        order: Any,
    ) -> None:
        self.terms = terms
        self.h = terms.shape(into)[1]
        self.count, self.q, self.p = terms.shape(products)
        self.a = terms.shape(back)[0]
        names = [terms.known(labels) for labels in (entering, pairs, leaving)]
        self.order = [int(place) % self.h for place in terms.known(order)]
        self.parts = list(connected(*names))
        read, pair, left = map(named, names)
        self.into = summed(terms, into, [one for part in self.parts for one in _entering(part, read)])
        ones = terms.constant(torch.ones(self.a, 1))
        columns = terms("permute", terms("concat", [ones, back], 1), [1, 0])
        written = [one for part in self.parts for one in _leaving(part, left)]
        self.back = terms("permute", summed(terms, columns, written), [1, 0])
        self.matrices = [self._matrix(part, products, pair) for part in self.parts]
        self.layers = [terms("permute", one, [1, 0]) for one in self.matrices]  # of dense layers, [l·p, k·q]
        self.matching = terms("sum", matching, [0]) if terms.shape(matching)[0] else None
        first = tuple(names[2][0].tolist())
        self.line = next(
            (
                place
                for place, part in enumerate(self.parts)
                if part.sizes[0] == 1
                and first == (part.written[0], part.dimensions[0])
                and len(left[first]) == 1
            ),
            None,
        )
        held = sum(k * copies for _, k, copies in (part.sizes for part in self.parts))
        self.times_smaller = self.a * self.h // max(1, held)

    def _matrix(self, part: Product, products: Any, pairs: Named) -> Any:
        """The matrix of one product, channels in (copy, channel). → [k·q, l·p]"""
        terms = self.terms
        _, k, copies = part.sizes
        chosen = [pairs.get((read, written), []) for read in part.read for written in part.written]
        flat = summed(terms, terms("reshape", products, [self.count, self.q * self.p]), chosen)
        blocks = terms("permute", terms("reshape", flat, [k, copies, self.q, self.p]), [0, 2, 1, 3])
        return terms("reshape", blocks, [k * self.q, copies * self.p])

    def applied(self, x: Any, bias: Any) -> Any:
        """[b, h, q] → [b, a·p]."""
        terms = self.terms
        results = []
        added = bias is None
        if self.parts:
            separate = terms.shape(x)[0] != 1 and len(self.parts) <= MOST_LAYERS
            added = added or (separate and self.line is not None)
            values = self._separate(x, bias) if separate else self._batches(x)
            joined = terms("concat", values, 1) if len(values) > 1 else values[0]
            written = sum(d * copies for d, _, copies in (part.sizes for part in self.parts))
            results.append(terms("matmul", self.back, terms("reshape", joined, [-1, written, self.p])))
        if self.matching is not None:
            each = terms("matmul", x, self.matching)
            if self.order != list(range(self.h)):
                each = terms("index_select", each, 1, terms.constant(torch.tensor(self.order)))
            results.append(each)
        if not results:
            nothing = terms.constant(torch.zeros(self.a, self.h))
            empty = terms.constant(torch.zeros(self.q, self.p))
            results.append(terms("matmul", nothing, terms("matmul", x, empty)))
        whole = terms("add", *results) if len(results) > 1 else results[0]
        flat = terms("reshape", whole, [-1, self.a * self.p])
        return flat if added else terms("add", flat, terms("concat", [bias] * self.a, 0))

    def _separate(self, x: Any, bias: Any) -> list[Any]:
        """Each product by itself. → [b, d·l·p] each"""
        terms = self.terms
        sizes = [d * k * self.q for d, k, _ in (part.sizes for part in self.parts)]
        spaces = terms("reshape", terms("matmul", self.into, x), [-1, sum(sizes)])
        values = []
        for place, (part, value) in enumerate(
            zip(self.parts, terms.split(spaces, sizes, 1) if len(sizes) > 1 else [spaces], strict=True)
        ):
            d, k, copies = part.sizes
            if d == 1:
                line = [self._bias(bias, copies)] if place == self.line and bias is not None else []
                values.append(terms("linear", value, self.layers[place], *line))
            else:
                product = terms("matmul", terms("reshape", value, [-1, k * self.q]), self.matrices[place])
                values.append(terms("reshape", product, [-1, d * copies * self.p]))
        return values

    def _bias(self, bias: Any, copies: int) -> Any:
        """A bias of the first copy that a product writes."""
        if copies == 1:
            return bias
        nothing = self.terms.constant(torch.zeros((copies - 1) * self.p))
        return self.terms("concat", [bias, nothing], 0)

    def _batches(self, x: Any) -> list[Any]:
        """Products of the same sizes as one batch. → [b, r·d·l·p] each"""
        terms = self.terms
        values = []
        start = place = 0
        for (d, k, copies), alike in itertools.groupby(self.parts, key=lambda part: part.sizes):
            count = len(list(alike))
            rows = count * d * k
            value = terms("matmul", terms("slice", self.into, 0, start, start + rows), x)
            start += rows
            matrices = [
                terms("reshape", one, [1, k * self.q, copies * self.p])
                for one in self.matrices[place : place + count]
            ]
            place += count
            if count == 1:
                product = terms("matmul", terms("reshape", value, [-1, k * self.q]), self.matrices[place - 1])
            else:
                parts = terms("permute", terms("reshape", value, [-1, count, d * k * self.q]), [1, 0, 2])
                batch = terms("concat", matrices, 0)
                product = terms("matmul", terms("reshape", parts, [count, -1, k * self.q]), batch)
                apart = terms("reshape", product, [count, -1, d * copies * self.p])
                product = terms("permute", apart, [1, 0, 2])
            values.append(terms("reshape", product, [-1, count * d * copies * self.p]))
        return values


def connected(entering: Tensor, pairs: Tensor, leaving: Tensor) -> Iterator[Product]:
    """Copies that products connect, each with the dimensions in which some are read and some written."""
    waiting = list(dict.fromkeys(tuple(pair) for pair in pairs.tolist()))
    read_in, written_in = entering.tolist(), leaving.tolist()
    while waiting:
        read, written = dict.fromkeys([waiting[0][0]]), dict.fromkeys([waiting[0][1]])
        size = 0
        while size != len(read) + len(written):
            size = len(read) + len(written)
            for first, second in waiting:
                if first in read or second in written:
                    read.setdefault(first)
                    written.setdefault(second)
        waiting = [pair for pair in waiting if pair[0] not in read]
        entered = dict.fromkeys(dimension for copy, dimension in read_in if copy in read)
        left = {dimension for copy, dimension in written_in if copy in written}
        dimensions = tuple(dimension for dimension in entered if dimension in left)
        if dimensions:
            yield Product(tuple(read), tuple(written), dimensions)


def named(labels: Tensor) -> Named:
    """The places of each label. [n, k] int64"""
    found: Named = {}
    for place, label in enumerate(labels.tolist()):
        found.setdefault(tuple(label), []).append(place)
    return found


def _entering(part: Product, labels: Named) -> Iterator[list[int]]:
    """Which rows of T are read together, for each (dimension, copy)."""
    for dimension in part.dimensions:
        for copy in part.read:
            yield labels.get((copy, dimension), [])


def _leaving(part: Product, labels: Named) -> Iterator[list[int]]:
    """To which columns of ones and B each (dimension, copy) is written."""
    for dimension in part.dimensions:
        for copy in part.written:
            yield labels.get((copy, dimension), [])


def summed(terms: Terms, value: Any, chosen: Sequence[Sequence[int]]) -> Any:
    """Sums of the chosen rows of a constant. [n, m], r times some of n → [r, m]"""
    if not chosen:
        return value
    if all(len(rows) == 1 for rows in chosen):
        return picked(terms, value, torch.tensor([row for (row,) in chosen]), axis=0)
    wanted = torch.zeros(len(chosen), terms.shape(value)[0], dtype=torch.float64)
    for place, rows in enumerate(chosen):
        wanted[place, list(rows)] = 1
    return terms("matmul", terms.constant(wanted), value)


def _shape(x: Sequence[int], *factors: Sequence[int]) -> tuple[int, ...]:
    """The shape of `space_products`. Raises `ValueError` where the sizes do not fit."""
    into, _, products, _, back, *_ = factors
    if len(x) != 3 or list(x[1:]) != [into[1], products[1]]:
        raise ValueError(f"{into[1]} places of {products[1]} numbers, applied to a value of shape {list(x)}")
    return x[0], back[0] * products[2]


DECLARED = (
    TermFunction(
        "space_products",
        ("x", "T", "I", "D", "C", "B", "O", "K", "order", "c?"),
        space_products,
        _shape,
        "x [b, h, q] by the eight factors of `group_spaces`, and a bias of each place [p] → [b, a·p].",
    ),
)
