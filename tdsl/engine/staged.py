"""Replacements before they are part of a graph: staged terms and compile-time constants.

The right side of a rule is built as `Staged` terms over graph nodes and constants. A term whose tensors
are all known at compile time is itself a constant: it is evaluated in float64 and becomes one new
parameter. Nothing touches the graph until every condition of the rule holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from tdsl.ops.spec import REQUIRED


class CannotStage(Exception):
    """The replacement has no meaning at this site; the text says why. The site is left alone."""


@dataclass(eq=False, slots=True)
class Constant:
    """A tensor computed at compile time: float64 (or integer) values, and the element type to deploy."""

    values: torch.Tensor
    dtype: torch.dtype
    label: str = ""
    """What to call the new parameter: the name of the definition it comes from."""
    origin: fx.Node | None = None
    """The weight that it was computed from, for naming."""


@dataclass(eq=False, slots=True)
class Filled:
    """A tensor of one value throughout: what an absent operand stands for (a bias of zeros)."""

    fill: float
    sizes: tuple[Any, ...] | None
    dtype: torch.dtype


@dataclass(eq=False, slots=True)
class Staged:
    """An operator applied to graph nodes, constants and other staged terms, not yet in the graph."""

    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    _val: Any = field(default=REQUIRED, repr=False)
    _const: bool | None = field(default=None, repr=False)
    node: fx.Node | None = None
    """The graph node, once committed."""
    op: str = "call_function"
    """What kind of node it will be; `call_method` and `call_module` occur in untyped graphs only."""


Value = fx.Node | Constant | Filled | Staged


def tensors_in(value: Any) -> list[Any]:
    """The tensor-like values in an argument, nested lists included, in order."""
    if isinstance(value, list | tuple):
        return [t for item in value for t in tensors_in(item)]
    if isinstance(value, dict):
        return [t for item in value.values() for t in tensors_in(item)]
    if isinstance(value, slice):
        return tensors_in([value.start, value.stop, value.step])
    return [value] if isinstance(value, Value) else []


def parts_of(values: Iterable[Any], below: Callable[[Staged], bool] = lambda term: True) -> Iterator[Any]:
    """What staged values are made of, themselves included, each part once; `below` says which to enter."""
    seen: set[int] = set()
    stack = list(values)
    while stack:
        value = stack.pop()
        if id(value) in seen or not isinstance(value, Value):
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, Staged) and below(value):
            stack.extend(tensors_in([value.args, value.kwargs]))


def map_values(value: Any, change: Any) -> Any:
    """`value` with every tensor-like part replaced by `change(part)`."""
    if isinstance(value, Value):
        return change(value)
    if isinstance(value, list):
        return [map_values(item, change) for item in value]
    if isinstance(value, tuple):
        return tuple(map_values(item, change) for item in value)
    if isinstance(value, dict):
        return {key: map_values(item, change) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(map_values(part, change) for part in (value.start, value.stop, value.step)))
    return value
