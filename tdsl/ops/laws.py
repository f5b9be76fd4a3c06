"""What the laws of shape share: their registry, their errors, and arithmetic on axes.

A law is a function `law(op, **arguments)`: operands are shapes (lists of shapes for `tensors`, `None` for
absent ones), attributes their canonical values. It returns the shape of the result, or a tuple of shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tdsl.ops.spec import Operator, Shape

Shapes = tuple[Shape, ...]
Law = Callable[..., Any]

LAWS: dict[str, Law] = {}
"""Name after `->` in a signature → law."""


class ShapeMismatch(ValueError):
    """The operator does not take tensors of these shapes, or not with these attributes."""


class NoShapeLaw(LookupError):
    """The shape of the result depends on the values of the tensors, or nobody wrote down the law."""


def law(function: Law) -> Law:
    """Register a law under the name of its function, a trailing underscore (`slice_`) left out."""
    LAWS[function.__name__.rstrip("_")] = function
    return function


def require(condition: bool, reason: str) -> None:
    """Raise `ShapeMismatch` unless the condition holds."""
    if not condition:
        raise ShapeMismatch(reason)


def axis(dim: int, rank: int) -> int:
    """`dim` counted from the front; a tensor of no axes takes 0 and -1, as in PyTorch."""
    count = max(rank, 1)
    require(-count <= dim < count, f"no axis {dim} in a tensor of {rank}")
    return dim % count


def axes(dims: Iterable[int], rank: int) -> list[int]:
    """`dims` counted from the front, each at most once."""
    found = [axis(dim, rank) for dim in dims]
    require(len(set(found)) == len(found), f"an axis is named twice in {found}")
    return found


def replaced(shape: Shape, position: int, *sizes: int) -> Shape:
    """`shape` with the axis at `position` replaced by axes of these sizes."""
    return (*shape[:position], *sizes, *shape[position + 1 :])


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape that all of these broadcast to: aligned from the last axis, 1 stretches."""
    result: list[int] = []
    for i in range(1, max(map(len, shapes), default=0) + 1):
        # By their text: a dynamic size has no hash, and asking whether it is 1 would make it a fixed one.
        sizes = {str(shape[-i]): shape[-i] for shape in shapes if len(shape) >= i}
        sizes.pop("1", None)
        require(len(sizes) <= 1, f"{' and '.join(map(str, shapes))} do not broadcast")
        result.append(next(iter(sizes.values()), 1))
    return tuple(reversed(result))


def operand_shapes(op: Operator, arguments: dict[str, Any]) -> list[Shape]:
    """The shapes of the operands that are there, in order, lists of tensors flattened."""
    found: list[Shape] = []
    for param in op.operands:
        value = arguments[param.name]
        if value is not None:
            found.extend(value if param.kind == "tensors" else [value])
    return found


def per_axis(value: Sequence[int], count: int, what: str) -> list[int]:
    """`value` for each of `count` spatial axes."""
    require(len(value) == count, f"{what} has {len(value)} entries for {count} axes")
    return list(value)
