"""Statistics of a model's values over calibration data, as the rules of a step ask for them.

A rule says `second_moment(x)`; which value that is, at a match, becomes a `Request`. Requests are collected
first (`Recorder`), answered together by one pass over the data, and read from then on (`Answers`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import fx

from tdsl.engine.staged import CannotStage, Constant, Filled, Staged, Value
from tdsl.factor.memo import digest
from tdsl.provenance import value_name

Kind = Literal["second_moment", "covariance", "first_moment", "gradient_moment", "frequency"]

STATISTICS: Mapping[str, tuple[Kind, int]] = {
    "second_moment": ("second_moment", 2),
    "covariance": ("covariance", 2),
    "first_moment": ("first_moment", 1),
    "gradient_moment": ("gradient_moment", 2),
    "frequency": ("frequency", 1),
}
"""The statistics by name, each with the number of axes it has."""

LARGEST = 8192
"""Longest axis of a second moment, which takes half a gigabyte then, and minutes to decompose."""


@dataclass(frozen=True, slots=True)
class Request:
    """One statistic of one value along one axis; `size` is the length of that axis, or the number of ids."""

    kind: Kind
    value: Any = field(compare=False)
    """A graph node, or a staged term over nodes and constants."""
    axis: int
    size: int
    identity: Hashable


class Statistics(Protocol):
    """What a workspace asks."""

    def answer(self, request: Request) -> torch.Tensor:
        """The statistic, float64. Raises `CannotStage` where there is none."""
        ...


class Recorder:
    """Remembers what is asked and answers nothing."""

    def __init__(self) -> None:
        self.requests: dict[Request, None] = {}

    def answer(self, request: Request) -> torch.Tensor:
        """Remember `request`; raises `CannotStage`."""
        self.requests.setdefault(request)
        raise CannotStage(f"{request.kind} is not known yet")


@dataclass
class Answers:
    """Statistics that were collected."""

    values: Mapping[Request, torch.Tensor]
    rows: Mapping[Request, int] = field(default_factory=dict)
    """How many rows each is the mean of, where that was counted."""

    def answer(self, request: Request) -> torch.Tensor:
        """The statistic asked for; raises `CannotStage` where it was not collected."""
        if request not in self.values:
            raise CannotStage(f"no {request.kind} of this value was collected")
        return self.values[request]


def request_of(kind: Kind, value: Any, axis: int, described: Any, size: int | None = None) -> Request:
    """The request for a statistic of `value`, which `described` (a fake tensor) gives the sizes of.

    Raises `CannotStage` for a value without the axis, and for an axis of dynamic size or beyond `LARGEST`.
    """
    if size is None:
        if not isinstance(described, torch.Tensor) or not -described.dim() <= axis < described.dim():
            raise CannotStage(f"{kind} needs a tensor with an axis {axis}")
        axis = axis if axis < 0 else axis - described.dim()
        length = described.shape[axis]
        if not isinstance(length, int):
            raise CannotStage(f"{kind} along an axis of dynamic size {length}")
        if length > LARGEST and STATISTICS[kind][1] == 2:
            raise CannotStage(f"{kind} along an axis of {length}: more than {LARGEST} is too large")
        size = length
    return Request(kind, value, axis, size, _identity(value))


def _identity(value: Any) -> Hashable:
    """What a value is, whatever node of whichever copy of the graph computes it."""
    if isinstance(value, fx.Node):
        return ("value", value_name(value))
    if isinstance(value, Staged):
        named = tuple((name, _identity(v)) for name, v in sorted(value.kwargs.items()))
        return (str(value.target), tuple(map(_identity, value.args)), named)
    if isinstance(value, Constant):
        return ("constant", *digest(value.values))
    if isinstance(value, Filled):
        return ("filled", value.fill)
    if isinstance(value, list | tuple):
        return tuple(map(_identity, value))
    assert not isinstance(value, Value)
    return (type(value).__name__, str(value))
