"""The algebra of meanings over the prime field, with oracles and a random order."""

# ruff: noqa: D102  (the methods are documented in tdsl.ops.meaning.Algebra)

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tdsl.prove import field
from tdsl.prove.field import Elements

UNITS = 10_000 << 6
SMALL = UNITS << 20
"""Numbers below 2²⁰ with four decimals, or six binary ones, are ordered as they are, the others at random."""


MOST_COMPARANDS = 1 << 10


def key_of(*parts: Any) -> int:
    """A number that stands for some names and attributes, the same in every process."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % field.P


class FieldAlgebra:
    """Arrays of elements of the field, as `tdsl.ops.meaning.Algebra` wants them."""

    def __init__(self, seed: int, centred: bool = False) -> None:
        """`centred`: ratios of exponentials are those of what is left without the mean of their row."""
        self.seed = seed
        self.centred = centred
        self.exponentials = False
        """Whether ratios of exponentials took part."""
        self.compared = 1
        """A bound of how many elements are compared with each other for one element of a result."""
        self.bounds: set[int] = set()
        """The numbers that elements were compared with."""
        self.named = False
        """Whether a function of which only the name is known took part."""
        self._settled: dict[str, Elements] = {}

    def number(self, value: Any) -> Elements:
        if isinstance(value, np.ndarray | np.generic):
            return np.asarray(value)
        return np.array(field.element(value), dtype=np.uint64)

    def filled(self, shape: Sequence[int], value: float) -> Elements:
        return np.full(tuple(shape), field.element(value), dtype=np.uint64)

    def add(self, x: Elements, y: Elements) -> Elements:
        return field.add(*np.broadcast_arrays(x, y))

    def subtract(self, x: Elements, y: Elements) -> Elements:
        return field.subtract(*np.broadcast_arrays(x, y))

    def multiply(self, x: Elements, y: Elements) -> Elements:
        return field.multiply(*np.broadcast_arrays(x, y))

    def divide(self, x: Elements, y: Elements) -> Elements:
        return self.multiply(x, field.inverse(y))

    def negative(self, x: Elements) -> Elements:
        return field.negative(x)

    def power(self, x: Elements, exponent: int) -> Elements:
        return field.power(x, exponent)

    def total(self, x: Elements, axes: Sequence[int], keepdims: bool = False) -> Elements:
        return np.asarray(field.total(x, tuple(axes), keepdims)) if axes else x

    def matmul(self, x: Elements, y: Elements) -> Elements:
        return field.matmul(x, y)

    def einsum(self, equation: str, *operands: Elements) -> Elements:
        return field.einsum(equation, operands)

    def concat(self, parts: Sequence[Elements], axis: int) -> Elements:
        return np.concatenate(parts, axis)

    def windows(
        self,
        x: Elements,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        border: Any,
    ) -> Elements:
        axes = len(kernel)
        widths = [(0, 0)] * (x.ndim - axes) + [(p, p) for p in padding]
        x = np.pad(x, widths, constant_values=border)
        reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
        places = tuple(range(x.ndim - axes, x.ndim))
        seen = np.lib.stride_tricks.sliding_window_view(x, reach, axis=places)
        steps = [slice(None)] * (x.ndim - axes)
        steps += [slice(None, None, s) for s in stride]
        steps += [slice(None, None, d) for d in dilation]
        return seen[tuple(steps)]

    # ------------------------------------------------------------ oracles

    def oracle(
        self, name: str, *operands: Any, attributes: Sequence[Any] = (), positive: bool = False
    ) -> Elements:
        self.named = True
        key = key_of(self.seed, name, *attributes)
        arrays = np.broadcast_arrays(*(self.number(x) for x in operands))
        result = field.mixed(arrays[0], key)
        for other in arrays[1:]:
            result = field.mixed(field.add(field.multiply(result, np.full_like(result, key)), other), key)
        return np.where(self.place(result) < 0, field.negative(result), result) if positive else result

    def powers(self, x: Elements, axes: Sequence[int]) -> Elements:
        self.exponentials = True
        if self.centred:
            count = int(np.prod([x.shape[axis] for axis in axes]))
            mean = self.divide(self.total(x, axes, True), self.filled([1] * x.ndim, count))
            x = self.subtract(x, mean)
        return self.oracle("exp", x, positive=True)

    def settled(self, name: str, x: Elements) -> Elements:
        known = self._settled.get(name)
        if known is None:
            known = np.zeros(1, dtype=np.uint64)
        result = np.where(np.isin(x, known), x, self.oracle(name, x))
        self._settled[name] = np.unique(np.append(known, result))
        return result

    # ------------------------------------------------------------ order

    @property
    def comparands(self) -> int:
        """A bound of how many values the order decides about for one element of a result; 1 for no order."""
        return self.compared + len(self.bounds)

    def choose(self, mask: Elements, x: Any, y: Any) -> Elements:
        return np.where(mask != 0, self.number(x), self.number(y))

    def equal(self, x: Any, y: Any) -> Elements:
        return np.asarray(self.number(x) == self.number(y)).astype(np.uint64)

    def less(self, x: Any, y: Any) -> Elements:
        x, y = self.number(x), self.number(y)
        for side in (x, y):
            if side.ndim == 0:
                self.bounds.add(int(side))
        if x.ndim and y.ndim and not (self._are_numbers(x) and self._are_numbers(y)):
            self.compared = min(self.compared * 2, MOST_COMPARANDS)
        return np.asarray(self.place(x) < self.place(y)).astype(np.uint64)

    def _are_numbers(self, x: Elements) -> bool:
        """Whether all are small numbers, places that an index names say, which are ordered as they are."""
        scaled = field.multiply(*np.broadcast_arrays(x, np.uint64(UNITS)))
        return bool(np.all(np.minimum(scaled, field.negative(scaled)) < SMALL))

    def greatest(self, x: Elements, axes: Sequence[int], keepdims: bool = False) -> Elements:
        kept = [a for a in range(x.ndim) if a not in axes]
        rows = x.transpose([*kept, *axes]).reshape([*(x.shape[a] for a in kept), -1])
        self.compared = min(self.compared * max(rows.shape[-1], 1), MOST_COMPARANDS)
        best = np.argmax(self.place(rows), axis=-1, keepdims=True)
        shape = [1 if a in axes else x.shape[a] for a in range(x.ndim) if keepdims or a not in axes]
        return np.take_along_axis(rows, best, -1).reshape(shape)

    def place(self, x: Elements) -> Any:
        """Where elements stand in the order: an odd function, proportional to numbers of few digits."""
        x = field.multiply(*np.broadcast_arrays(x, np.uint64(UNITS)))
        mirrored = field.negative(x)
        least = np.minimum(x, mirrored)
        hashed = field.mixed(least, key_of(self.seed, "order"))
        size = np.where(least < SMALL, least, (hashed >> np.uint64(2)) + np.uint64(SMALL)).astype(np.int64)
        upwards = np.where(least < SMALL, x == least, (hashed & np.uint64(1)) == (x == least))
        return np.where(upwards, size, -size)
