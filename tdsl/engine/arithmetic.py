"""Arithmetic of expressions: numbers, sizes and lists are computed, tensors are staged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from tdsl.engine.frame import Frame
from tdsl.engine.sizes import value_of
from tdsl.engine.stage import stage
from tdsl.engine.staged import CannotStage, Constant, Staged, Value, tensors_in
from tdsl.engine.weights import leading
from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.ops import OPERATORS


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor of the model or of the rule, rather than a number, list or text."""
    return isinstance(value, Value) and not (
        isinstance(value, fx.Node) and isinstance(value_of(value), torch.SymInt | int | float)
    )


def apply(frame: Frame, name: str, *values: Any) -> Any:
    """The operator called `name` on `values` in the order of its signature, staged."""
    op = OPERATORS[name]
    return stage(frame.work, op, {p.name: value for p, value in zip(op.params, values, strict=False)})


def number(value: Any) -> Any:
    """A size that stands in the graph as a node, as the symbolic number that it computes."""
    if isinstance(value, fx.Node) and not is_tensor(value):
        return value_of(value)
    return [number(v) for v in value] if isinstance(value, list | tuple) else value


def computed(expr: tree.Expr, function: Callable[..., Any], *values: Any) -> Any:
    """`function` of numbers, lists and texts.

    Raises `CannotStage` where it has no value (a division by zero), `TdslError` for values of a wrong kind.
    """
    try:
        return function(*values)
    except (ArithmeticError, ValueError, IndexError) as reason:
        raise CannotStage(f"this has no value: {reason}") from None
    except TypeError as reason:
        if any(value is None for value in values):
            raise CannotStage("an operand that is absent has no value here") from None
        raise TdslError(
            f"this has no value: {reason}",
            expr.span,
            expected="numbers, or lists of them; a tensor has a shape, a dtype and a rank to ask about",
        ) from reason


def elementwise(function: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """Arithmetic on numbers, and element by element on lists of them (`H + 2*p` with a padding per axis)."""
    if isinstance(a, list) and isinstance(b, list):
        return [function(x, y) for x, y in zip(a, b, strict=True)]
    if isinstance(a, list):
        return [function(x, b) for x in a]
    if isinstance(b, list):
        return [function(a, y) for y in b]
    return function(a, b)


def tensor_arithmetic(frame: Frame, name: str, a: Any, b: Any) -> Any:
    """An operator of two operands, a number among them second where their order is free, staged."""
    if not is_tensor(a) and OPERATORS[name].commutative:
        a, b = b, a
    return apply(frame, name, a, b)


def transposed(frame: Frame, value: Any) -> Any:
    """A value with its last two axes exchanged. Raises `CannotStage` where its rank is not known."""
    described = frame.work.val(value) if is_tensor(value) else None
    if described is None:
        raise CannotStage("the number of axes of a transposed value is not known")
    axes = list(range(described.dim()))
    axes[-2:] = reversed(axes[-2:])
    return apply(frame, "permute", value, axes)


def constant_of(frame: Frame, arguments: list[Any], values: torch.Tensor, label: str) -> Constant:
    """A computed tensor, to be deployed in the element type of the weight it comes from."""
    sources = [a for a in arguments if is_tensor(a)]
    described = frame.work.val(sources[0]) if sources else None
    dtype = described.dtype if described is not None else torch.float32
    origin = leading(frame.work.module, origins_of(sources))
    return Constant(values, dtype if values.is_floating_point() else values.dtype, label, origin)


def origins_of(values: list[Any]) -> list[fx.Node]:
    """The weights of the graph that some values are made from, for naming what is made of them."""
    found: list[fx.Node] = []
    for value in values:
        if isinstance(value, fx.Node) and value.op == "get_attr":
            found.append(value)
        elif isinstance(value, Constant) and value.origin is not None:
            found.append(value.origin)
        elif isinstance(value, Staged):
            found += origins_of([*tensors_in(value.args), *tensors_in(list(value.kwargs.values()))])
    return found
