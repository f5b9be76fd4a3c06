"""A call of an operator in normal form: complete arguments, attributes canonical, one overload.

Graphs and what is about to become part of one go through the same functions; `Operand` stands for a tensor
of either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tdsl.ops.spec import Operand, Operator
from tdsl.ops.targets import overload_for

Call = tuple[Any, list[Any], dict[str, Any]]
"""Overload, positional arguments, keyword-only ones that differ from their defaults."""


def complete(
    target: torch._ops.OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]] | None:
    """All positional arguments and all keyword-only ones, defaults filled in; `None` when one is missing."""
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for i, argument in enumerate(target._schema.arguments):
        if i < len(args):
            value = args[i]
        elif argument.name in kwargs:
            value = kwargs[argument.name]
        elif argument.has_default_value():
            value = argument.default_value
        else:
            return None
        if argument.kwarg_only:
            keywords[argument.name] = value
        else:
            positional.append(value)
    return positional, keywords


def canonical_call(op: Operator, args: list[Any], kwargs: dict[str, Any], written: Any = None) -> Call | None:
    """The call of `op` in normal form, tensors given as `Operand` and returned as their handles.

    `written` is the overload it was written with, where that is known. `None` when this use has no normal
    form.
    """
    for normal in (None, op.normal):
        if normal is not None:
            converted = normal(*args, **kwargs)
            if converted is None:
                return None
            args, kwargs = split_keywords(converted)
        target = written or overload_for(op, unwrap(args))
        full = complete(target, args, kwargs)
        if full is None:
            return None
        args, kwargs = full
    target = overload_for(op, unwrap(args))
    rank = next((a.rank for a in args if isinstance(a, Operand)), None)
    if rank is None and args and isinstance(args[0], list):
        rank = next((a.rank for a in args[0] if isinstance(a, Operand)), None)
    by_name = {param.name: param for param in op.params}
    schema = target._schema.arguments
    positional = [
        param.canonical(unwrap(value), rank) if not param.is_operand else unwrap(value)
        for param, value in zip(op.params, args, strict=False)
    ]
    positional += [unwrap(value) for value in args[len(op.params) :]]
    defaults = {a.name: a.default_value for a in schema if a.kwarg_only and a.has_default_value()}
    keywords = {
        name: by_name[name].canonical(unwrap(value), rank) if name in by_name else unwrap(value)
        for name, value in kwargs.items()
        if name not in defaults or (value is not defaults[name] and value != defaults[name])
    }
    return target, positional, keywords


def unwrap(value: Any) -> Any:
    """The handles of operands, in nested lists too."""
    if isinstance(value, (list, tuple)):
        return [unwrap(item) for item in value]
    if isinstance(value, dict):
        return {key: unwrap(item) for key, item in value.items()}
    return value.handle if isinstance(value, Operand) else value


def split_keywords(converted: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """A conversion's result as positional and keyword-only arguments."""
    if converted and isinstance(converted[-1], dict):
        return list(converted[:-1]), dict(converted[-1])
    return list(converted), {}
