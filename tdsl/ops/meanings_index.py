"""Meanings of additions at places that an index names, of orders, and of tensors made from numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from tdsl.ops.meaning import MEANINGS, Algebra, Array, meaning


def _collected(k: Algebra, index: Array, source: Array, axis: int, places: int) -> Array:
    """For each place along the axis the sum of those elements of the source whose index names it."""
    named = (k.multiply(source, k.equal(index, k.number(j))) for j in range(places))
    return k.concat([k.total(part, [axis], True) for part in named], axis)


def _enlarged(k: Algebra, x: Array, shape: Sequence[int], but: int) -> Array:
    """x with zeros behind it along every axis but one."""
    for axis, size in enumerate(shape):
        more = size - x.shape[axis]
        if axis != but and more:
            x = k.concat([x, k.filled([*x.shape[:axis], more, *x.shape[axis + 1 :]], 0)], axis)
    return x


@meaning
def index_add(k: Algebra, x: Array, dim: int, index: Array, source: Array, alpha: float) -> Array:
    """x with alpha times the slices of the source added to those that the index names."""
    if not x.shape:
        raise NotImplementedError("slices of a number")
    axis = dim % len(x.shape)
    along = index.reshape([1] * axis + [-1] + [1] * (len(x.shape) - axis - 1))
    added = _collected(k, along, source, axis, x.shape[axis])
    return k.add(x, added if alpha == 1 else k.multiply(added, k.number(alpha)))


@meaning
def scatter_add(k: Algebra, x: Array, dim: int, index: Array, source: Array) -> Array:
    """x with each element of the source, as far as the index reaches, added where that names."""
    if not x.shape:
        raise NotImplementedError("places in a number")
    axis = dim % len(x.shape)
    if 0 in index.shape:
        return x
    reached = source[tuple(slice(0, size) for size in index.shape)]
    added = _collected(k, index, reached, axis, x.shape[axis])
    return k.add(x, _enlarged(k, added, x.shape, axis))


@meaning
def scatter_reduce(
    k: Algebra, x: Array, dim: int, index: Array, source: Array, reduce: str, include_self: bool
) -> Array:
    """Sums are as with `scatter_add`."""
    if reduce != "sum" or not include_self:
        raise NotImplementedError(f"a {reduce} of what is scattered")
    return scatter_add(k, x, dim, index, source)


@meaning
def index_put(k: Algebra, x: Array, indices: list[Array | None], values: Array, accumulate: bool) -> Array:
    """Values added at the places that indices of the first axes name; those that share a place add up."""
    if not accumulate or any(index is None for index in indices):
        raise NotImplementedError("values that replace others, which of several is not said")
    given = [index for index in indices if index is not None]
    row = k.filled([1], 0)
    for index, size in zip(given, x.shape, strict=False):  # broadcasting, negative places from behind
        place = k.add(index, k.multiply(k.less(index, k.number(0)), k.number(size)))
        row = k.add(k.multiply(row, k.number(size)), place)
    behind = x.shape[len(given) :]
    count = prod(x.shape[: len(given)])
    spread = k.add(values, k.filled([*row.shape, *behind], 0))
    flat = x.reshape([count, *behind])
    added = index_add(k, flat, 0, row.reshape([-1]), spread.reshape([prod(row.shape), *behind]), 1)
    return added.reshape(x.shape)


@meaning
def argsort(k: Algebra, x: Array, dim: int, descending: bool) -> Array:
    """Where the elements along an axis, in order, are; equal ones keep their order."""
    if not x.shape:
        raise NotImplementedError("the order of a number")
    axis = dim % len(x.shape)
    size = x.shape[axis]
    elements = [x[(slice(None),) * axis + (slice(i, i + 1),)] for i in range(size)]
    order = k.filled(x.shape, 0)
    for i, one in enumerate(elements):
        place = k.filled(one.shape, 0)
        for j, other in enumerate(elements):
            if j != i:
                before = k.less(one, other) if descending else k.less(other, one)
                place = k.add(place, k.add(before, k.equal(other, one)) if j < i else before)
        at = [k.multiply(k.equal(place, k.number(p)), k.number(i)) for p in range(size)]
        order = k.add(order, k.concat(at, axis))
    return order


# ---------------------------------------------------------------- tensors made from numbers


def _filled(name: str, value: float) -> None:
    MEANINGS[name] = lambda k, size, **_: k.filled(size, value)
    MEANINGS[f"new_{name}"] = lambda k, x, size, **_: k.filled(size, value)
    MEANINGS[f"{name}_like"] = lambda k, x, **_: k.filled(x.shape, value)


_filled("zeros", 0)
_filled("ones", 1)


@meaning
def full(k: Algebra, size: Sequence[int], value: Any, **_: Any) -> Array:
    """One number everywhere."""
    return k.filled(size, value)


@meaning
def full_like(k: Algebra, x: Array, value: Any, **_: Any) -> Array:
    """One number everywhere, in the shape of x."""
    return k.filled(x.shape, value)


@meaning
def arange(k: Algebra, start: Any, end: Any, step: Any, **_: Any) -> Array:
    """start, start + step, … before end."""
    if not all(isinstance(number, int) for number in (start, end, step)):
        raise NotImplementedError("steps that are no whole numbers")
    steps = range(start, end, step)
    return k.concat([k.filled([1], number) for number in steps], 0) if steps else k.filled([0], 0)
