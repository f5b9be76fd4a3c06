"""Laws of elements chosen by index tensors."""

from __future__ import annotations

from typing import Any

from tdsl.ops.laws import (
    NoShapeLaw,
    axis,
    broadcast_shapes,
    law,
    replaced,
    require,
    require_each,
    require_same,
)
from tdsl.ops.laws_move import sliced
from tdsl.ops.spec import Operator, Param, Shape


@law
def gather(op: Operator, x: Shape, dim: int, index: Shape, **_: Any) -> Shape:
    """The shape of the index, which lies inside x in all other axes."""
    at = axis(dim, len(x))
    if 0 not in index:
        require(max(len(x), 1) == max(len(index), 1), f"{x} and {index} differ in rank")
        inside = (n <= own for i, (n, own) in enumerate(zip(index, x, strict=False)) if i != at)
        require_each(inside, f"index {index} is larger than {x}")
    return index


@law
def index_select(op: Operator, x: Shape, dim: int, index: Shape) -> Shape:
    """As many slices as the index names."""
    require(len(index) <= 1, f"index {index} is no vector")
    at = axis(dim, len(x))
    count = index[0] if index else 1
    require(bool(x) or count == 1, f"{count} slices of a number")
    return replaced(x, at, count) if x else ()


@law
def index(op: Operator, x: Shape, indices: list[Shape | None]) -> Shape:
    """The broadcast indices where the first index stood, or in front when an axis lies between them.

    Indices are integers: boolean ones have a result whose size depends on their values.
    """
    require(len(indices) <= len(x), f"{len(indices)} indices for {len(x)} axes")
    given = [i for i, shape in enumerate(indices) if shape is not None]
    if not given:
        return x
    chosen = broadcast_shapes(*(shape for shape in indices if shape is not None))
    kept = [size for i, size in enumerate(x) if i not in given]
    together = given == list(range(given[0], given[-1] + 1))
    place = given[0] if together else 0
    return (*kept[:place], *chosen, *kept[place:])


@law
def index_put(op: Operator, x: Shape, indices: list[Shape | None], values: Shape, **_: Any) -> Shape:
    """The shape of x; the values broadcast to what is replaced."""
    taken = index(op, x=x, indices=indices)
    require(broadcast_shapes(values, taken) == taken, f"{values} does not broadcast to {taken}")
    return x


@law
def index_add(op: Operator, x: Shape, dim: int, index: Shape, source: Shape, **_: Any) -> Shape:
    """The shape of x; the source has the shape of the slices that the index names."""
    taken = index_select(op, x=x, dim=dim, index=index)
    require_same(source, taken, f"source {source} is not {taken}")
    return x


@law
def index_fill(op: Operator, x: Shape, dim: int, index: Shape, value: Shape) -> Shape:
    """The shape of x; one value."""
    require(value == (), f"value {value} is no number")
    index_select(op, x=x, dim=dim, index=index)
    return x


@law
def scatter(op: Operator, x: Shape, dim: int, index: Shape, source: Shape, **_: Any) -> Shape:
    """The shape of x; the index lies inside x in all other axes, and inside the source in all."""
    gather(op, x=x, dim=dim, index=index)
    number = source == () and op.param("source") == Param("source", "value")
    if not number and 0 not in index:
        require(max(len(source), 1) == max(len(index), 1), f"{source} and {index} differ in rank")
        inside = (n <= own for n, own in zip(index or (1,), source or (1,), strict=True))
        require_each(inside, f"index {index} is larger than the source {source}")
    return x


@law
def slice_scatter(op: Operator, x: Shape, source: Shape, dim: int, start: Any, end: Any, step: int) -> Shape:
    """The shape of x; the source has the shape of the slice."""
    require(bool(x), "slice takes no tensor without axes")
    require(step > 0, f"step {step} is not positive")
    at = axis(dim, len(x))
    taken = replaced(x, at, sliced(x[at], start, end, step))
    require_same(source, taken, f"source {source} is not {taken}")
    return x


@law
def select_scatter(op: Operator, x: Shape, source: Shape, dim: int, index: int) -> Shape:
    """The shape of x; the source has the shape of the slice."""
    require(bool(x), "select takes no tensor without axes")
    at = axis(dim, len(x))
    require_each((index >= -x[at], index < x[at]), f"no place {index} along an axis of {x[at]}")
    require_same(source, replaced(x, at), f"source {source} is not {replaced(x, at)}")
    return x


@law
def one_hot(op: Operator, x: Shape, classes: int) -> Shape:
    """One axis more; -1 classes would depend on the values."""
    if classes == -1:
        raise NoShapeLaw("one_hot of as many classes as there are values")
    require(classes > 0, f"{classes} classes")
    return (*x, classes)
