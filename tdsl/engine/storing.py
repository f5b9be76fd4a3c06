"""The `quantize` steps of a pipeline with their names and arguments resolved: how its file stores weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tdsl.engine.parameters import constant_value, parameter_values
from tdsl.errors import Span, TdslError
from tdsl.lang import tree
from tdsl.quantise.declare import Scheme
from tdsl.quantise.table import scheme_named


@dataclass(frozen=True, slots=True)
class StorageStep:
    """A scheme with the values of its parameters; it stores what the steps before it have left."""

    scheme: Scheme
    arguments: Mapping[str, Any]
    span: Span

    @property
    def text(self) -> str:
        """`int4`: what messages call it."""
        return self.scheme.name


def storage_steps(
    top: Sequence[tree.Step], every: Sequence[tree.Step], names: Mapping[str, Any]
) -> tuple[StorageStep, ...]:
    """The `quantize` steps among those at the `top` of a pipeline, in order.

    Raises `TdslError` for an unknown scheme, for arguments that it does not take, and where one stands inside
    of another of `every` step: the file is one, whatever block of rules was carried out.
    """
    for step in every:
        if isinstance(step, tree.Quantize) and all(step is not one for one in top):
            raise TdslError(
                "`quantize` stands inside another step",
                step.span,
                expected="a step of the pipeline itself: it is about the file as a whole",
                hint="put it behind the block",
            )
    return tuple(storage_step(step, names) for step in top if isinstance(step, tree.Quantize))


def storage_step(step: tree.Quantize, names: Mapping[str, Any]) -> StorageStep:
    """One of them. Raises `TdslError` as `storage_steps` does."""
    scheme = scheme_named(step.scheme, step.span)
    given: dict[str, Any] = {}
    spans: dict[str, Span] = {}
    for argument in step.arguments:
        if argument.name is None:
            raise TdslError(
                f"an argument of {scheme.name} has no name", argument.span, expected=scheme.signature
            )
        given[argument.name] = constant_value(argument.value, names)
        spans[argument.name] = argument.span
    unknown = next((name for name in given if all(p.name != name for p in scheme.parameters)), None)
    where = spans[unknown] if unknown else step.span
    values = parameter_values(scheme.name, scheme.parameters, given, where, spans)
    scheme.require(values, spans)
    return StorageStep(scheme, values, step.span)
