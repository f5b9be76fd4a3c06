"""Matrices that select: each row has one entry that is not zero, or a 1 and a −1 (an incidence matrix).

Multiplying by one is gathering. Each predicate says over a field, too, whether it holds, and is exact: one
entry beside those that are meant, however small, is another matrix.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tdsl.factor.declare import CompileTimeFunction
from tdsl.factor.matrix import checked


def is_selection(weight: Tensor) -> bool:
    """Whether each row of a matrix is a 1 and zeros."""
    return is_scaled_selection(weight) and bool((weight.sum(1) == 1).all())


def is_scaled_selection(weight: Tensor) -> bool:
    """Whether each row of a matrix is a single number and zeros."""
    return _each_row_has(weight, 1)


def is_incidence(weight: Tensor) -> bool:
    """Whether each row of a matrix is a 1, a −1 and zeros."""
    return _each_row_has(weight, 2) and all(bool((weight == one).any(1).all()) for one in (1, -1))


def selected(weight: Tensor, value: float | None = None) -> Tensor:
    """In each row the place of the first entry that is `value`, or not zero. [m, n] → [m], int64."""
    exact = checked(weight, ndim=2)
    found = exact != 0 if value is None else exact == value
    return found.to(torch.int64).argmax(1)


def _each_row_has(weight: Tensor, count: int) -> bool:
    """Whether each row has so many entries that are not zero; the first one tells most matrices."""
    if weight.ndim != 2 or not len(weight) or int(weight[0].count_nonzero()) != count:
        return False
    return bool(((checked(weight) != 0).sum(1) == count).all())


# ---------------------------------------------------------------- over a field


def _field_alone(_: Any, weight: Any) -> bool:
    return len(weight.shape) == 2 and bool(((weight != 0).sum(1) == 1).all())


def _field_selection(k: Any, weight: Any) -> bool:
    return _field_alone(k, weight) and bool((weight == k.number(1)).any(1).all())


def _field_incidence(k: Any, weight: Any) -> bool:
    if len(weight.shape) != 2 or not bool(((weight != 0).sum(1) == 2).all()):
        return False
    return all(bool((weight == k.number(one)).any(1).all()) for one in (1, -1))


def _field_selected(k: Any, weight: Any, value: float | None = None) -> Tensor:
    found = weight != 0 if value is None else weight == k.number(value)
    return torch.from_numpy(found.argmax(1))


DECLARED = (
    CompileTimeFunction(
        "is_selection",
        "predicate",
        ("W",),
        is_selection,
        "Whether each row is a 1 and zeros.",
        exact=_field_selection,
        family="selection",
    ),
    CompileTimeFunction(
        "is_scaled_selection",
        "predicate",
        ("W",),
        is_scaled_selection,
        "Whether each row is a single number and zeros.",
        exact=_field_alone,
        family="scaled selection",
    ),
    CompileTimeFunction(
        "is_incidence",
        "predicate",
        ("W",),
        is_incidence,
        "Whether each row is a 1, a −1 and zeros.",
        exact=_field_incidence,
        family="incidence",
    ),
    CompileTimeFunction(
        "selected",
        "tensor",
        ("W", "value?"),
        selected,
        "In each row the place of the first entry that is `value`, or not zero.",
        exact=_field_selected,
    ),
)
