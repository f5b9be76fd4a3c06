"""Contracts: bounds on how far a file may be from the original on held-out samples."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from tdsl.errors import Span, TdslError
from tdsl.spelling import did_you_mean

Relation = Literal["<=", ">="]


@dataclass(frozen=True, slots=True)
class Metric:
    """A number a contract can bound: its meaning, and the side it is bounded on."""

    name: str
    meaning: str
    relation: Relation

    @property
    def lower_is_worse(self) -> bool:
        """Whether a smaller value is a worse one."""
        return self.relation == ">="


METRICS = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric("error", "relative RMS error over the held-out samples, worst output", "<="),
            Metric("max_error", "largest absolute error of any entry", "<="),
            Metric("cosine", "lowest cosine of any row (last axis) to the original's", ">="),
            Metric("mean_cosine", "mean cosine of the rows, worst output", ">="),
        )
    }
)
"""Every metric by name; the names are the fields of `compare.Metrics`."""


@dataclass(frozen=True, slots=True)
class Bound:
    """`error <= 0.02`: one promise. Raises `TdslError` for one that means nothing."""

    metric: str
    relation: Relation
    value: float

    def __post_init__(self) -> None:
        metric = METRICS.get(self.metric)
        if metric is None:
            raise TdslError(
                f"unknown metric '{self.metric}'",
                expected=f"one of {', '.join(METRICS)}",
                hint=did_you_mean(self.metric, METRICS),
            )
        if self.relation != metric.relation:
            raise TdslError(
                f"a contract cannot bound {self.metric} with '{self.relation}'",
                expected=f"{self.metric} {metric.relation} …",
                hint=f"{self.metric} is the {metric.meaning}",
            )
        if metric.relation == ">=" and self.value > 1:
            raise TdslError(
                f"no cosine is as large as {self.value:g}",
                expected=f"{self.metric} >= a number up to 1",
                hint="a percentage is written with its sign: `98%` is 0.98",
            )
        if math.isnan(self.value):
            raise TdslError(f"{self.metric} is bounded by NaN", expected="a number")

    @classmethod
    def asked(cls, metric: str, relation: str, value: float, span: Span) -> Bound:
        """The bound that a pipeline asks for at `span`, where a mistake in it is shown."""
        try:
            return cls(metric, relation, value)  # type: ignore[arg-type]  # any other relation is refused
        except TdslError as told:
            raise TdslError(told.message, span, expected=told.expected, hint=told.hint) from None

    @classmethod
    def parse(cls, text: str) -> Bound:
        """The bound written as `error <= 2%` or `cosine >= 0.98`."""
        found = re.fullmatch(r"\s*(\w+)\s*(<=|>=)\s*([-+.\deE]+?)\s*(%?)\s*", text)
        try:
            if found is None:
                raise ValueError(text)
            value = float(found[3]) / (100 if found[4] else 1)
        except ValueError:
            raise TdslError(
                f"'{text}' is not a bound",
                expected=" or ".join(f"{m.name} {m.relation} NUMBER" for m in METRICS.values()),
                hint="for example `error <= 2%`",
            ) from None
        return cls(found[1], "<=" if found[2] == "<=" else ">=", value)

    def holds(self, measured: float) -> bool:
        """Whether `measured` keeps the bound; NaN never does."""
        return measured <= self.value if self.relation == "<=" else measured >= self.value

    def __str__(self) -> str:
        return f"{self.metric} {self.relation} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Contract:
    """Bounds that must all hold; without any, only structure and finiteness are checked."""

    bounds: tuple[Bound, ...] = ()

    @classmethod
    def parse(cls, *texts: str) -> Contract:
        """The contract of bounds written as text."""
        return cls(tuple(Bound.parse(text) for text in texts))

    def __str__(self) -> str:
        return ", ".join(map(str, self.bounds)) or "no bounds"


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that is broken: `metric` names it, `sample` and `output` the worst place.

    `measured` and `bound` are absent where something is wrong that has no size (a shape, a crash).
    """

    metric: str
    sample: str
    output: str
    message: str
    measured: float | None = None
    bound: float | None = None

    def __str__(self) -> str:
        place = f"output '{self.output}', " if self.output else ""
        return f"{self.message} ({place}sample '{self.sample}')"


def violation(bound: Bound, measured: float, sample: str, output: str) -> Violation:
    """The record of `bound` broken by `measured`, worst at `sample` and `output`."""
    message = f"{bound.metric} is {measured:.3g}, the contract says {bound}"
    if math.isnan(measured):
        message = f"{bound.metric} is not defined for these outputs, the contract says {bound}"
    return Violation(bound.metric, sample, output, message, measured, bound.value)


def describe(violations: Sequence[Violation]) -> str:
    """One line a violation, for people."""
    return "\n".join(f"- {item}" for item in violations)
