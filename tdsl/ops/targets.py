"""From names to torch: resolve ATen overloads, and find the operator behind an FX node's target.

The only file of this room that imports torch, so import it only where graphs are handled.
"""

from __future__ import annotations

import functools
import operator as python_operator
from typing import Any

import torch
import torch.nn.functional as F

from tdsl.ops import OPERATORS
from tdsl.ops.spec import Operator, Spelling


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
def operators_by_target() -> dict[Any, Operator]:
    """Canonical ATen overload → operator."""
    return {overload(op): op for op in OPERATORS.values()}


@functools.cache
def spellings_by_target() -> dict[Any, tuple[Operator, Spelling]]:
    """Every other ATen overload that has a canonical one → (operator, spelling)."""
    return {resolve(s.target): (op, s) for op in OPERATORS.values() for s in op.spellings}


def operator_of(target: Any) -> Operator | None:
    """The operator whose canonical overload is `target`; `None` for an opaque one."""
    return operators_by_target().get(target)


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
