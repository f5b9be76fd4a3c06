"""From names to torch: resolve ATen overloads, and find the operator behind an FX node's target.

The only file of this room that imports torch, so import it only where graphs are handled.
"""

from __future__ import annotations

import functools
import operator as python_operator
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from tdsl.ops import OPERATORS
from tdsl.ops.spec import Operator, Spelling

DTYPES: dict[str, torch.dtype] = {
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
    "f64": torch.float64,
    "i8": torch.int8,
    "u8": torch.uint8,
    "i16": torch.int16,
    "i32": torch.int32,
    "i64": torch.int64,
    "bool": torch.bool,
}
"""Element types by the names they have in the language."""


def resolve(target: str) -> Any:
    """The overload called `aten.linear.default`, or the Python function `operator.getitem`."""
    namespace, _, rest = target.partition(".")
    if namespace == "operator":
        return getattr(python_operator, rest)
    value: Any = getattr(torch.ops, namespace)
    for part in rest.split("."):
        value = getattr(value, part)
    return value


@functools.cache
def overload(op: Operator) -> Any:
    """The callable that carries out `op` on tensors, fake or real."""
    return resolve(op.target)


@functools.cache
def overloads(op: Operator) -> tuple[Any, ...]:
    """Every overload that a graph in normal form may hold for `op`: the canonical one and its variants."""
    return tuple(resolve(target) for target in (op.target, *op.variants))


@functools.cache
def _overload_by_numbers(op: Operator, numbers: tuple[bool, ...]) -> Any:
    def takes(argument: Any, number: bool) -> bool:
        return ("Tensor" not in str(argument.type)) if number else ("Tensor" in str(argument.type))

    positions = [i for i, p in enumerate(op.params) if p.kind == "value"]
    for target in (op.target, *op.variants):
        arguments = resolve(target)._schema.arguments
        if all(takes(arguments[i], number) for i, number in zip(positions, numbers, strict=True)):
            return resolve(target)
    return overload(op)


def overload_for(op: Operator, arguments: Sequence[Any]) -> Any:
    """The callable for these positional arguments: `eq(x, y)` and `eq(x, 1)` are two overloads of ATen.

    Only operators with `variants` depend on the arguments; for the others it is `overload(op)`.
    """
    if not op.variants:
        return overload(op)
    given = [
        isinstance(arguments[i], (int, float, complex, torch.SymInt, torch.SymFloat))
        if i < len(arguments)
        else True
        for i, p in enumerate(op.params)
        if p.kind == "value"
    ]
    return _overload_by_numbers(op, tuple(given))


@functools.cache
def operators_by_target() -> dict[Any, Operator]:
    """Canonical ATen overload, or a variant of it (same parameters) → operator."""
    return {target: op for op in OPERATORS.values() for target in overloads(op)}


def operator_of(target: Any) -> Operator | None:
    """The operator whose canonical overload, or a variant of it, is `target`; `None` for an opaque one."""
    return operators_by_target().get(target)


def calls(node: Any, *names: str) -> bool:
    """Whether a node of a graph calls an operator of one of these names."""
    if not isinstance(node, fx.Node) or node.op != "call_function":
        return False
    found = operator_of(node.target)
    return found is not None and found.name in names


@functools.cache
def _spellings() -> dict[Any, tuple[tuple[Operator, Spelling], ...]]:
    table: dict[Any, tuple[tuple[Operator, Spelling], ...]] = {}
    for op in OPERATORS.values():
        for spelling in op.spellings:
            target = resolve(spelling.target)
            table[target] = (*table.get(target, ()), (op, spelling))
    return table


def spellings_of(target: Any) -> tuple[tuple[Operator, Spelling], ...]:
    """What the overload `target` may spell, in order: the first whose conversion is not `None` is meant."""
    return _spellings().get(target, ())


@functools.cache
def operators_by_python_spelling() -> dict[Any, Operator]:
    """`torch.relu`, `F.relu`, `operator.add` (functions) and `"relu"` (a tensor method) → operator."""
    spaces = {"torch": torch, "F": F, "operator": python_operator}
    table: dict[Any, Operator] = {}
    for op in OPERATORS.values():
        for spelling in op.torch:
            space, _, name = spelling.partition(".")
            table[name if space == "Tensor" else getattr(spaces[space], name)] = op
    return table
