"""Laws of movement: axes reshaped, ordered, expanded; tensors joined and taken apart."""

from __future__ import annotations

from math import prod
from typing import Any

from tdsl.ops.laws import (
    Shapes,
    axes,
    axis,
    broadcast_shapes,
    law,
    replaced,
    require,
    require_each,
    require_same,
)
from tdsl.ops.spec import Operator, Shape


@law
def reshape(op: Operator, x: Shape, shape: list[int]) -> Shape:
    """The wanted shape, one -1 in it the size that is left."""
    total, free = prod(x), shape.count(-1)
    require(free <= 1, f"{shape} is no shape")
    require_each((size >= -1 for size in shape), f"{shape} is no shape")
    rest = prod(size for size in shape if size != -1)
    if free:
        require(rest != 0, f"-1 in {shape} could be any size")
        require(total % rest == 0, f"{x} does not fill {shape}")
        return tuple(total // rest if size == -1 else size for size in shape)
    require(rest == total, f"{x} does not fill {shape}")
    return tuple(shape)


@law
def permute(op: Operator, x: Shape, dims: list[int]) -> Shape:
    """The axes in the given order."""
    require(sorted(axes(dims, len(x))) == list(range(len(x))), f"{dims} is no order of {len(x)} axes")
    return tuple(x[i] for i in dims)


@law
def expand(op: Operator, x: Shape, shape: list[int], **_: Any) -> Shape:
    """The wanted sizes, -1 the own one; new axes in front."""
    added = len(shape) - len(x)
    require(added >= 0, f"{shape} has fewer axes than {x}")
    result = []
    for i, size in enumerate(shape):
        own = x[i - added] if i >= added else None
        require(size >= 0 or (size == -1 and own is not None), f"no size for axis {i} of {shape}")
        if size == -1:
            result.append(own)
            continue
        if own is not None:
            require_same(broadcast_shapes((own,), (size,)), (size,), f"{x} does not expand to {shape}")
        result.append(size)
    return tuple(result)


@law
def squeeze(op: Operator, x: Shape, dims: list[int]) -> Shape:
    """Without those of the axes that have size 1."""
    gone = axes(dims, len(x))
    return tuple(size for i, size in enumerate(x) if i not in gone or size != 1)


@law
def unsqueeze(op: Operator, x: Shape, dim: int) -> Shape:
    """With an axis of size 1 at `dim` of the result."""
    at = axis(dim, len(x) + 1)
    return (*x[:at], 1, *x[at:])


@law
def concat(op: Operator, tensors: list[Shape], dim: int) -> Shape:
    """The sizes along the axis added up; an empty vector joins anything."""
    require(bool(tensors), "nothing to concatenate")
    require(all(tensors), "concat takes no tensor without axes")
    # PyTorch's legacy: tensors of shape (0,) are skipped whatever the rank of the others.
    joined = [shape for shape in tensors if shape != (0,)] or [(0,)]
    first = joined[0]
    at = axis(dim, len(first))
    for shape in joined[1:]:
        require(len(shape) == len(first), f"{first} and {shape} differ in more than axis {dim}")
        around = replaced(shape, at), replaced(first, at)
        require_same(*around, f"{first} and {shape} differ in more than axis {dim}")
    return replaced(first, at, sum(shape[at] for shape in joined))


@law
def stack(op: Operator, tensors: list[Shape], dim: int) -> Shape:
    """The number of tensors as a new axis."""
    require(bool(tensors), "nothing to stack")
    first = tensors[0]
    for shape in tensors[1:]:
        require_same(shape, first, f"{' and '.join(map(str, tensors))} differ")
    at = axis(dim, len(first) + 1)
    return (*first[:at], len(tensors), *first[at:])


@law
def split(op: Operator, x: Shape, sizes: list[int], dim: int) -> Shapes:
    """One piece for each size; together they are the axis."""
    require(bool(x), "split takes no tensor without axes")
    at = axis(dim, len(x))
    require_each((size >= 0 for size in sizes), f"{sizes} has a negative size")
    require(sum(sizes) == x[at], f"{sizes} do not add up to {x[at]}")
    return tuple(replaced(x, at, size) for size in sizes)


@law
def unbind(op: Operator, x: Shape, dim: int) -> Shapes:
    """As many slices as the axis is long."""
    require(bool(x), "unbind takes no tensor without axes")
    at = axis(dim, len(x))
    return tuple(replaced(x, at) for _ in range(x[at]))


@law
def getitem(op: Operator, x: Shapes, index: int) -> Shape:
    """One of several shapes."""
    require(-len(x) <= index < len(x), f"no result {index} among {len(x)}")
    shape: Shape = x[index]
    return shape


@law
def slice_(op: Operator, x: Shape, dim: int, start: int | None, end: int | None, step: int) -> Shape:
    """Python's rule, for positive steps."""
    require(bool(x), "slice takes no tensor without axes")
    require(step > 0, f"step {step} is not positive")
    at = axis(dim, len(x))
    return replaced(x, at, sliced(x[at], start, end, step))


def sliced(size: int, start: int | None, end: int | None, step: int) -> int:
    """How many elements a slice takes along an axis."""
    first = 0 if start is None else _inside(start, size)
    last = size if end is None else _inside(end, size)
    return (last - first + step - 1) // step if last > first else 0


def _inside(place: int, size: int) -> int:
    if place < 0:
        return place + size if place + size > 0 else 0
    return place if place <= size else size


@law
def select(op: Operator, x: Shape, dim: int, index: int) -> Shape:
    """Without the axis."""
    require(bool(x), "select takes no tensor without axes")
    at = axis(dim, len(x))
    require_each((index >= -x[at], index < x[at]), f"no place {index} along an axis of {x[at]}")
    return replaced(x, at)


@law
def pad(op: Operator, x: Shape, pad: list[int], mode: str, **_: Any) -> Shape:
    """Each pair adds to an axis, the first pair to the last axis."""
    count = len(pad) // 2
    require(len(pad) % 2 == 0 and count <= len(x), f"{len(pad)} numbers pad no {len(x)} axes")
    result = list(x)
    for i in range(count):
        before, after = pad[2 * i : 2 * i + 2]
        size = x[-1 - i]
        result[-1 - i] += before + after
        if mode == "reflect":
            require_each(
                (width < size for width in (before, after)), f"reflection of {pad} in an axis of {size}"
            )
        if mode == "circular":  # what is cropped is gone before the rest is wrapped: beyond it memory is read
            ring = size + min(before, 0) + min(after, 0)
            require_each((width <= ring for width in (before, after)), f"wrapping of {pad} around {ring}")
    if mode != "constant":
        require(
            count in (1, 2, 3) and len(x) in (count + 1, count + 2), f"{mode} pads {count} of {len(x)} axes"
        )
        require_each((size != 0 for size in result), f"nothing is left of {x}")
    require_each((size >= 0 for size in result), f"{pad} takes more from {x} than there is")
    return tuple(result)


@law
def meshgrid(op: Operator, tensors: list[Shape], indexing: str) -> Shapes:
    """Every result has one axis for each vector."""
    require(bool(tensors) and all(len(shape) <= 1 for shape in tensors), "meshgrid takes vectors")
    require(indexing in ("ij", "xy"), f"no indexing {indexing!r}")
    grid = [prod(shape) for shape in tensors]
    if indexing == "xy" and len(grid) > 1:
        grid[0], grid[1] = grid[1], grid[0]
    return (tuple(grid),) * len(tensors)


@law
def take_along_dim(op: Operator, x: Shape, index: Shape, dim: int | None) -> Shape:
    """The index, broadcast with x in all axes but `dim`; without an axis, a row of them."""
    if dim is None:
        return (prod(index),)
    require(len(x) == len(index), f"{x} and {index} differ in rank")
    at = axis(dim, len(x))
    around = broadcast_shapes(replaced(x, at, 1), replaced(index, at, 1))
    return replaced(around, at, index[at]) if x else ()
