"""The shape of a result from the shapes of the operands, on integer sizes and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tdsl.ops import laws_arrange, laws_fold, laws_index, laws_move, laws_recurrent, laws_window
from tdsl.ops.laws import LAWS, NoShapeLaw, ShapeMismatch, broadcast_shapes, require
from tdsl.ops.spec import REQUIRED, Operator, Param, Shape

__all__ = ["NoShapeLaw", "ShapeMismatch", "broadcast_shapes", "result_shape"]

# imported for their laws
_LAW_FILES = (laws_arrange, laws_fold, laws_index, laws_move, laws_recurrent, laws_window)


def result_shape(op: Operator, arguments: Mapping[str, Any]) -> Shape | tuple[Shape, ...]:
    """The shape of `op`'s result; a tuple of shapes where it has several results.

    `arguments` maps names of parameters to shapes (tuples) for tensors, lists of shapes for `tensors`,
    numbers or shapes for `value` operands, `None` for absent operands, and plain values for attributes;
    what is missing has its default. Sizes are integers. Raises `ShapeMismatch` where the operator
    refuses these arguments, `NoShapeLaw` where no law is known, `TypeError` for unknown or missing names.
    """
    if op.result == "unknown":
        raise NoShapeLaw(op.name)
    complete = _complete(op, arguments)
    known = _unify(op, complete)
    if isinstance(op.result, str):
        result: Shape | tuple[Shape, ...] = LAWS[op.result](op, **complete)
        return result
    return _built(op.result, known)


def _complete(op: Operator, arguments: Mapping[str, Any]) -> dict[str, Any]:
    unknown = set(arguments) - {p.name for p in op.params}
    if unknown:
        raise TypeError(f"{op.name} has no parameter {', '.join(sorted(unknown))}")
    complete: dict[str, Any] = {}
    for param in op.params:
        if param.is_operand:
            complete[param.name] = _operand(op, param, arguments)
            continue
        value = arguments.get(param.name, param.default)
        if value is REQUIRED:
            raise TypeError(f"{op.name} needs {param.name}")
        complete[param.name] = param.canonical(value)
    return complete


def _operand(op: Operator, param: Param, arguments: Mapping[str, Any]) -> Any:
    value = arguments.get(param.name)
    if value is None:
        if param.name in arguments or param.optional:
            return None
        raise TypeError(f"{op.name} needs {param.name}")
    return () if isinstance(value, (int, float, complex)) else value


def _unify(op: Operator, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of the declared dimensions; `...` is bound to the axes that it stands for."""
    known: dict[str, Any] = {}
    for param in op.operands:
        shape = arguments[param.name]
        if param.dims is None or shape is None:
            continue
        many = "..." in param.dims
        fixed = len(param.dims) - many
        require(
            len(shape) >= fixed if many else len(shape) == fixed,
            f"{param.name} of {op.name} has {len(shape)} axes, not {'at least ' * many}{fixed}",
        )
        at = param.dims.index("...") if many else fixed
        behind = fixed - at
        sizes = [
            *shape[:at],
            *([shape[at : len(shape) - behind]] if many else []),
            *shape[len(shape) - behind :],
        ]
        for name, size in zip(param.dims, sizes[: len(param.dims)], strict=True):
            expected = int(name) if name.isdigit() else known.setdefault(name, size)
            require(expected == size, f"{name} is {expected} and {size} in {op.name}, at {param.name}")
    return known


def _built(dims: tuple[str, ...], known: Mapping[str, Any]) -> Shape:
    result: list[int] = []
    for name in dims:
        if name == "...":
            result.extend(known[name])
        else:
            result.append(int(name) if name.isdigit() else known[name])
    return tuple(result)
