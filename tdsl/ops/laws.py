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


class UndecidedSize:
    """A size that stands for many numbers. Comparisons with it are `UndecidedCondition`s."""

    __slots__ = ()

    def joined(self, other: Any) -> Any:
        """What this size and another one broadcast to; `None` where they do not."""
        raise NotImplementedError


class UndecidedCondition:
    """A condition on such sizes. As a truth value it is decided; whoever made the sizes says how."""

    def assumed(self) -> bool:
        """Whether it holds where it is required: it may be taken for granted from then on."""
        raise NotImplementedError


def require(condition: bool | UndecidedCondition, reason: str) -> None:
    """Raise `ShapeMismatch` unless the condition holds."""
    if not (condition.assumed() if isinstance(condition, UndecidedCondition) else condition):
        raise ShapeMismatch(reason)


def require_each(conditions: Iterable[bool | UndecidedCondition], reason: str) -> None:
    """Raise `ShapeMismatch` unless all of the conditions hold."""
    for condition in conditions:
        require(condition, reason)


def require_same(first: Sequence[Any], second: Sequence[Any], reason: str) -> None:
    """Raise `ShapeMismatch` unless these are the same sizes."""
    require(len(first) == len(second), reason)
    require_each((a == b for a, b in zip(first, second, strict=True)), reason)


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
        size: Any = 1
        for shape in shapes:
            size = _joined(size, shape[-i] if len(shape) >= i else 1)
            if size is None:
                raise ShapeMismatch(f"{' and '.join(map(str, shapes))} do not broadcast")
        result.append(size)
    return tuple(reversed(result))


def _joined(size: Any, other: Any) -> Any:
    """What two sizes broadcast to; `None` where they do not."""
    if isinstance(size, UndecidedSize):
        return size.joined(other)
    if isinstance(other, UndecidedSize):
        return other.joined(size)
    return other if size == 1 else size if other in (1, size) else None


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
