"""Calling the kernel of an operator on tensors, and reading its coefficients off where it is linear."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tdsl.ops import Operator
from tdsl.ops.spec import REQUIRED
from tdsl.ops.targets import DTYPES, overload_for
from tdsl.prove import field
from tdsl.prove.field import Elements

MOST_COEFFICIENTS = 1 << 20


class NoMeaning(Exception):
    """Nothing exact is known about an operator, with these attributes."""


def call(operator: Operator, arguments: Mapping[str, Any]) -> Any:
    """The operator on tensors and attributes, by the names of its parameters, all of them.

    Raises `NoMeaning` where the kernel refuses.
    """
    plain = {p.name: _plain(arguments[p.name]) for p in operator.params}
    plain |= {
        p.name: p.default
        for p in operator.params
        if p.kind == "any" and plain[p.name] is None and p.default is not REQUIRED
    }
    positional = [plain[p.name] for p in operator.params if not p.keyword_only]
    named = {p.name: plain[p.name] for p in operator.params if p.keyword_only}
    target = overload_for(operator, positional)
    if not operator.target.startswith("aten."):
        named = {}
    try:
        return target(*positional, **named)
    except (RuntimeError, IndexError, TypeError, ValueError, NotImplementedError) as error:
        raise NoMeaning(f"{operator.name}: {str(error).splitlines()[0]}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, str) and value in DTYPES:
        return DTYPES[value]
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def moved(operator: Operator, arguments: Mapping[str, Any]) -> Any:
    """The result of data movement on elements: the kernel moves the numbers of the places instead.

    Place 0 is what comes from outside, the value of a constant border. Operands that select are integers.
    """
    places: dict[str, Any] = {}
    sources: list[Elements] = [np.zeros(1, dtype=np.uint64)]
    count = 1

    def numbered(value: Any) -> Any:
        nonlocal count
        if isinstance(value, list):
            return [numbered(v) for v in value]
        if not isinstance(value, np.ndarray):
            return value
        numbers = torch.arange(count, count + value.size, dtype=torch.float64).reshape(value.shape)
        sources.append(value.reshape(-1))
        count += value.size
        return numbers

    for param in operator.params:
        value = arguments[param.name]
        if param.name in operator.selects:
            places[param.name] = _selecting(value)
        else:
            places[param.name] = numbered(value) if param.is_operand else value
    if operator.name == "pad":
        sources[0][0] = field.element(places["value"] or 0)
        places["value"] = 0.0
    whole = np.concatenate(sources)

    def gathered(result: Tensor) -> Elements:
        return np.asarray(whole[result.to(torch.int64).numpy()])

    result = call(operator, places)
    return tuple(map(gathered, result)) if isinstance(result, list | tuple) else gathered(result)


def _selecting(value: Any) -> Any:
    if isinstance(value, list):
        return [_selecting(v) for v in value]
    return torch.from_numpy(value.astype(np.int64)) if isinstance(value, np.ndarray) else value


def mapped(operator: Operator, arguments: Mapping[str, Any]) -> Elements:
    """The result of an operator that is linear in its first operand: its matrix, times the elements.

    The coefficients are what the kernel gives on unit vectors, as fractions of small denominators where
    they are that within rounding.
    """
    first = operator.operands[0].name
    x = arguments[first]
    rest = {n: _selecting(v) if n in operator.selects else v for n, v in arguments.items()}
    if any(isinstance(v, np.ndarray) for n, v in rest.items() if n != first):
        raise NoMeaning(f"{operator.name} depends on more than one operand")
    columns: list[Tensor] = []
    for i in range(x.size):
        unit = torch.zeros(x.size, dtype=torch.float64)
        unit[i] = 1
        columns.append(call(operator, {**rest, first: unit.reshape(x.shape)}))
        if columns[0].numel() * x.size > MOST_COEFFICIENTS:
            raise NoMeaning(f"{operator.name} on too many elements")
    if not columns:
        raise NoMeaning(f"{operator.name} of nothing")
    matrix = torch.stack([c.reshape(-1) for c in columns], 1).numpy()
    distinct, where = np.unique(matrix, return_inverse=True)
    exact = np.array([field.quotient(_fraction(float(c))) for c in distinct], dtype=np.uint64)
    product = field.matmul(exact[where].reshape(matrix.shape), x.reshape(-1, 1))
    return np.asarray(product.reshape(tuple(columns[0].shape)))


def _fraction(value: float) -> Fraction:
    near = Fraction(value).limit_denominator(1 << 16)
    return near if abs(float(near) - value) < 1e-13 * max(1.0, abs(value)) else Fraction(value)
