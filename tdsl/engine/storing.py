"""The `quantize` steps of a pipeline with their names and arguments resolved: how its file stores weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tdsl.engine.parameters import constant_value, parameter_values
from tdsl.errors import Span, TdslError
from tdsl.lang import tree
from tdsl.lang.walk import walk
from tdsl.provenance import is_within
from tdsl.quantise.declare import Scheme
from tdsl.quantise.table import scheme_named


@dataclass(frozen=True, slots=True)
class StorageStep:
    """A scheme with the values of its parameters; it stores what the steps before it have left."""

    scheme: Scheme
    arguments: Mapping[str, Any]
    span: Span

    paths: tuple[tuple[str, ...], ...] = ()
    """Globs over modules, one of each of which a layer must be in for its weight to be stored so."""

    @property
    def text(self) -> str:
        """`int4`: what messages call it."""
        return self.scheme.name

    def takes(self, path: str) -> bool:
        """Whether the weight of a layer in the module of that path is to be stored."""
        return all(is_within(path, globs) for globs in self.paths)


def storage_steps(
    steps: Sequence[tree.Step], names: Mapping[str, Any], paths: tuple[tuple[str, ...], ...] = ()
) -> Iterator[StorageStep]:
    """The `quantize` steps among some steps, in order, those inside of `at` with its paths.

    Raises `TdslError` for an unknown scheme, for arguments that it does not take, and where a step stands in
    a block of another kind: the file is one, whatever block of rules was carried out.
    """
    for step in steps:
        match step:
            case tree.Quantize():
                yield replace(storage_step(step, names), paths=paths)
            case tree.At(paths=globs, steps=inner):
                yield from storage_steps(inner, names, (*paths, globs))
            case _:
                inside = next((node for node in walk(step) if isinstance(node, tree.Quantize)), None)
                if inside is not None:
                    raise TdslError(
                        "`quantize` stands in a block of rules",
                        inside.span,
                        expected="a step of the pipeline itself, or of `at`: it is about the file",
                        hint="put it behind the block",
                    )


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
