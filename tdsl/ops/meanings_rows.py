"""Meanings of what is only known to treat rows alike, or elements alike: sorts, scans, places, norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tdsl.ops.meaning import MEANINGS, Algebra, Array, Meaning, meaning
from tdsl.ops.meanings_reduce import amax, amin


def of_sets(
    k: Algebra, name: str, x: Array, dim: Any, keepdim: bool, attributes: Sequence[Any] = ()
) -> Array:
    """A fold of which nothing is known but that it sees no order.

    It is a function of the sum of a function of each element: all of sets are such (Zaheer et al., 2017).
    """
    rank = len(x.shape)
    named = [dim] if isinstance(dim, int) else dim
    axes = [axis % max(rank, 1) for axis in named] if named else list(range(rank))
    each = k.oracle(f"{name} of each", x, attributes=attributes)
    return k.oracle(name, k.total(each, axes, keepdim), attributes=attributes)


def of_rows(k: Algebra, name: str, x: Array, dim: int, count: int, attributes: Sequence[Any] = ()) -> Array:
    """So many functions, of which nothing is known, of the elements of each row along an axis."""
    if not x.shape:
        raise NotImplementedError(f"{name} of a number")
    axis = dim % len(x.shape)
    if not count:
        return x[(slice(None),) * axis + (slice(0, 0),)]
    row = [x[(slice(None),) * axis + (slice(i, i + 1),)] for i in range(x.shape[axis])]
    return k.concat([k.oracle(name, *row, attributes=(*attributes, i)) for i in range(count)], axis)


def _fold(name: str) -> Meaning:
    def folded(k: Algebra, x: Array, dim: Any, keepdim: bool, order: Any = None, dtype: Any = None) -> Array:
        return of_sets(k, name, x, dim, keepdim, (order,))

    return folded


def _scan(name: str) -> Meaning:
    def scanned(k: Algebra, x: Array, dim: int, dtype: Any = None) -> Array:
        return of_rows(k, name, x, dim, x.shape[dim] if x.shape else 1)

    return scanned


for _name in ("norm", "logsumexp", "any", "all"):
    MEANINGS[_name] = _fold(_name)
for _name in ("cumprod", "logcumsumexp"):
    MEANINGS[_name] = _scan(_name)


def _sorted(k: Algebra, x: Array, dim: int, count: int, attributes: Sequence[Any]) -> tuple[Array, Array]:
    values = of_rows(k, "sort", x, dim, count, attributes)
    return values, of_rows(k, "places of sort", x, dim, count, attributes)


@meaning
def sort(k: Algebra, x: Array, dim: int, descending: bool) -> tuple[Array, Array]:
    """Elements and places, functions of the row."""
    return _sorted(k, x, dim, x.shape[dim] if x.shape else 1, (descending,))


@meaning
def sort_stable(k: Algebra, x: Array, stable: bool, dim: int, descending: bool) -> tuple[Array, Array]:
    """Elements and places, functions of the row."""
    return _sorted(k, x, dim, x.shape[dim] if x.shape else 1, (stable, descending))


@meaning
def topk(algebra: Algebra, /, x: Array, k: int, dim: int, largest: bool, sorted: bool) -> tuple[Array, Array]:
    """Elements and places, functions of the row."""
    return _sorted(algebra, x, dim, k, (largest, sorted))


def _place(k: Algebra, name: str, x: Array, dim: int | None, keepdim: bool) -> Array:
    if dim is None:
        found = of_rows(k, name, x.reshape([-1]), 0, 1)
        return found.reshape([1] * len(x.shape) if keepdim else [])
    found = of_rows(k, name, x, dim, 1)
    axis = dim % len(x.shape)
    return found if keepdim else found.reshape([*x.shape[:axis], *x.shape[axis + 1 :]])


@meaning
def argmax(k: Algebra, x: Array, dim: int | None, keepdim: bool) -> Array:
    """A function of the row, or of all elements in a row."""
    return _place(k, "argmax", x, dim, keepdim)


@meaning
def argmin(k: Algebra, x: Array, dim: int | None, keepdim: bool) -> Array:
    """A function of the row, or of all elements in a row."""
    return _place(k, "argmin", x, dim, keepdim)


@meaning
def max_and_index(k: Algebra, x: Array, dim: int, keepdim: bool) -> tuple[Array, Array]:
    """The greatest element, and a function of the row."""
    return amax(k, x, [dim], keepdim), argmax(k, x, dim, keepdim)


@meaning
def min_and_index(k: Algebra, x: Array, dim: int, keepdim: bool) -> tuple[Array, Array]:
    """The least element, and a function of the row."""
    return amin(k, x, [dim], keepdim), argmin(k, x, dim, keepdim)
