"""Sizes and element types of graph values, and comparisons that never add a guard on a symbolic size."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import statically_known_true

from tdsl.ops.targets import DTYPES

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_INTEGERS = (torch.SymInt, int)


def value_of(node: Any) -> Any:
    """The fake tensor (or symbolic size) that describes what `node` computes; `None` if unknown."""
    return node.meta.get("val") if isinstance(node, fx.Node) else node


def sizes_of(value: Any) -> tuple[Any, ...] | None:
    """Sizes of a graph value, symbolic ones included; numbers have none (`()`); `None` if unknown."""
    if isinstance(value, fx.Node):
        value = value.meta.get("val")
        if value is None:
            return None
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    number = int | float | bool | complex | torch.SymInt | torch.SymFloat | torch.SymBool
    return () if isinstance(value, number) else None


def dtype_of(value: Any) -> torch.dtype | None:
    """Element type of a graph value; `None` if unknown."""
    value = value_of(value)
    return value.dtype if isinstance(value, torch.Tensor) else None


def dtype_named(value: Any, name: str) -> bool:
    """Whether a graph value has the element type that the language calls `name`."""
    return dtype_of(value) == DTYPES[name]


def compare(relation: str, left: Any, right: Any) -> bool:
    """`left relation right`, true only where it holds for every value of a symbolic size.

    Lists compare element by element (`p == 0` asks it of each); `!=` asks that some of them differ.
    """
    if isinstance(left, list | tuple) or isinstance(right, list | tuple):
        every = any if relation == "!=" else all
        if isinstance(left, list | tuple) and isinstance(right, list | tuple):
            if len(left) != len(right):
                return relation == "!="
            return every(compare(relation, a, b) for a, b in zip(left, right, strict=True))
        many, one = (left, right) if isinstance(left, list | tuple) else (right, left)
        return every(compare(relation, *((m, one) if many is left else (one, m))) for m in many)
    result = _COMPARE[relation](left, right)
    if isinstance(result, bool):
        return result
    return bool(statically_known_true(result)) if isinstance(result, torch.SymBool) else bool(result)


def same(a: Any, b: Any) -> bool:
    """Whether two sizes are equal for every value of the symbols in them; a node means what it computes."""
    return a is b or compare("==", _size(a), _size(b))


def same_shape(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether two shapes are equal for every value of the symbols in them."""
    return len(one) == len(other) and all(map(same, one, other))


def _size(value: Any) -> Any:
    """The symbolic size that a node computes; anything else as it is."""
    known = value.meta.get("val") if isinstance(value, fx.Node) else None
    return known if isinstance(known, _INTEGERS) else value


def same_value(a: Any, b: Any) -> bool:
    """Whether two arguments are the same: one node, equal numbers or lists of such."""
    if a is b:
        return True
    if isinstance(a, fx.Node) or isinstance(b, fx.Node):
        size = _size(a)  # of a tensor it is the node, and this the end
        other = _size(b) if isinstance(size, _INTEGERS) else None
        return isinstance(other, _INTEGERS) and compare("==", size, other)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same_value(x, y) for x, y in zip(a, b, strict=True))
    if type(a) is not type(b) and (isinstance(a, bool) or isinstance(b, bool)):
        return False
    return bool(a == b) if not isinstance(a, torch.Tensor) else False


def describe(value: Any) -> str:
    """A value's element type and sizes for people: `f32[8, n]`; numbers as they are."""
    described = value_of(value)
    if isinstance(described, torch.Tensor):
        name = next((k for k, v in DTYPES.items() if v == described.dtype), str(described.dtype))
        return f"{name}[{', '.join(str(s) for s in described.shape)}]"
    return repr(described) if not isinstance(value, fx.Node) else "unknown"


def elements_at_example(value: object) -> int:
    """Elements of a described value, of all of several; dynamic sizes are those of the traced example."""
    if isinstance(value, list | tuple):
        return sum(map(elements_at_example, value))
    if not isinstance(value, torch.Tensor):
        return 0
    count = value.numel()
    return int(count.node.hint or 0) if isinstance(count, torch.SymInt) else count
