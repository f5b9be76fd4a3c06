"""Calls as a person writes them, `F.softmax(x, dim=-1)`, `x + 1`, `x.relu()`, as calls of ATen overloads.

Needed for patterns, which are traced symbolically and never run: a captured model has ATen calls only.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from tdsl.ops.spec import Operator
from tdsl.ops.targets import operators_by_python_spelling, overload, resolve

# What ATen calls a parameter, where `torch` or `torch.nn.functional` has another word for it.
_PYTHON_NAMES: Mapping[str, tuple[str, ...]] = {
    "self": ("input", "x", "a"),
    "train": ("training",),
    "training": ("train",),
    "dim0": ("axis0",),
    "dim1": ("axis1",),
    "dim": ("axis",),
    "indices": ("input",),
}
# Parameters of `torch.nn.functional` that ATen lacks, and the values that change nothing.
_WITHOUT_MEANING: Mapping[str, tuple[Any, ...]] = {
    "inplace": (False,),
    "_stacklevel": (3,),
    "dtype": (None,),
    "out": (None,),
    "return_indices": (False,),
    "use_input_stats": (False,),
    "max_norm": (None,),
    "norm_type": (2.0,),
    "recompute_scale_factor": (None,),
    "antialias": (False,),
}
# What ATen writes for a flag that Python leaves to the backend.
_BACKEND_FLAGS: Mapping[str, Any] = {"cudnn_enabled": True, "cudnn_enable": True}


def to_aten(node: fx.Node) -> tuple[Any, tuple[Any, ...], dict[str, Any]] | None:
    """The ATen overload and arguments that a Python call means; `None` when the table has none."""
    op = _operator(node.target)
    if op is None:
        return None
    args = list(node.args)
    if len(args) == 2 and _is_number(args[0]) and isinstance(args[1], fx.Node) and op.commutative:
        args.reverse()
    named = _by_name(node.target, args, node.kwargs)
    for strict in (True, False):
        for target in _overloads(op):
            bound = _bind(target, named if named is not None else args, node.kwargs, strict)
            if bound is not None:
                return target, bound[0], bound[1]
    return None


def _operator(target: Any) -> Operator | None:
    """The operator of a Python function or method; its namesake in `torch` or on tensors means the same."""
    table = operators_by_python_spelling()
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    namesakes: list[Any] = [target]
    if isinstance(target, str) or _is_torchs(target):
        namesakes += [getattr(torch, name, None), name, getattr(F, name, None)]
    return next((table[n] for n in namesakes if n is not None and n in table), None)


def _is_torchs(function: Any) -> bool:
    name = getattr(function, "__name__", "")
    return function in (getattr(torch, name, None), getattr(F, name, None))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, complex))


def _overloads(op: Operator) -> Iterator[Any]:
    """The canonical overload, its variants, and the other spellings, in that order."""
    yield overload(op)
    for target in op.variants:
        yield resolve(target)
    for spelling in op.spellings:
        yield resolve(spelling.target)


def _by_name(function: Any, args: list[Any], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Arguments by the names of a function written in Python; `None` for built-ins (in ATen's order)."""
    if not inspect.isfunction(function):
        return None
    try:
        return dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    except TypeError:
        return None


def _bind(
    target: Any, given: Mapping[str, Any] | list[Any], kwargs: Mapping[str, Any], strict: bool
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """`given` as arguments of `target`; with `strict`, a number where a tensor is due does not fit."""
    rest = dict(given) if isinstance(given, Mapping) else dict(kwargs)
    ordered = [] if isinstance(given, Mapping) else list(given)
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for argument in target._schema.arguments:
        names = (argument.name, *_PYTHON_NAMES.get(argument.name, ()))
        name = next((n for n in names if n in rest), None)
        if ordered and not argument.kwarg_only:
            value = ordered.pop(0)
        elif name is not None:
            value = rest.pop(name)
        elif argument.has_default_value():
            value = argument.default_value
        elif argument.name in _BACKEND_FLAGS:
            value = _BACKEND_FLAGS[argument.name]
        else:
            return None
        if not _fits(str(argument.type), value, strict):
            return None
        if argument.kwarg_only:
            keywords[argument.name] = value
        else:
            positional.append(value)
    if ordered or any(value not in _WITHOUT_MEANING.get(key, ()) for key, value in rest.items()):
        return None
    return tuple(positional), keywords


def _fits(kind: str, value: Any, strict: bool) -> bool:
    if isinstance(value, fx.Node):
        return "Tensor" in kind or not strict
    if value is None:
        return "Optional" in kind or not strict
    if kind == "Tensor":
        return not strict and _is_number(value)
    if isinstance(value, (list, tuple)):
        return "List" in kind
    return True
