"""`run`: the steps of one pipeline in another, written out before anything is applied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from tdsl.engine.parameters import constant_value, parameter_values
from tdsl.errors import Span, TdslError
from tdsl.lang import tree


def written_out(
    pipeline: tree.Pipeline, names: Mapping[str, Any], find: Callable[[str, Span], tree.Pipeline]
) -> tree.Pipeline:
    """`pipeline` with the steps of another in the place of each `run`, and values in place of its parameters.

    `names` are the values of the parameters of `pipeline` itself, and `find` gives the pipeline of a name.
    Raises `TdslError` for values that a pipeline does not take, and for one that runs itself.
    """
    return replace(pipeline, steps=tuple(_Within(find, (pipeline,), names).steps(pipeline.steps)))


@dataclass(frozen=True, slots=True)
class _Within:
    """Steps are written out within these pipelines, from the outermost; `names` are values of the last."""

    find: Callable[[str, Span], tree.Pipeline]
    around: tuple[tree.Pipeline, ...]
    names: Mapping[str, Any]

    def steps(self, steps: tuple[tree.Step, ...]) -> Iterator[tree.Step]:
        """Steps in their order, blocks included."""
        for step in steps:
            match step:
                case tree.Run(pipeline=reference):
                    yield from self._run(reference)
                case tree.First(attempt=attempt, otherwise=otherwise):
                    yield replace(
                        step, attempt=tuple(self.steps(attempt)), otherwise=tuple(self.steps(otherwise))
                    )
                case tree.Attempt(steps=inner) | tree.Ordered(steps=inner) | tree.At(steps=inner):
                    yield replace(step, steps=tuple(self.steps(inner)))
                case _:
                    yield step

    def _run(self, reference: tree.RuleRef) -> Iterator[tree.Step]:
        if "*" in reference.pattern:
            raise TdslError(
                "`run` takes one pipeline", reference.span, expected="a name, such as `pipelines.exact`"
            )
        found = self.find(reference.pattern, reference.span)
        around = (*self.around, found)
        if found in self.around:
            raise TdslError(
                f"pipeline {found.name} runs itself: {' → '.join(one.name for one in around)}", reference.span
            )
        given = dict(_given(argument) for argument in reference.arguments)
        names = parameter_values(
            f"pipeline {found.name}",
            found.parameters,
            {name: constant_value(value, self.names) for name, value in given.items()},
            reference.span,
            {name: value.span for name, value in given.items()},
        )
        written: dict[str, tree.Expr] = {}
        for parameter in found.parameters:
            value = given.get(parameter.name)
            if value is None:
                assert parameter.default is not None, "`parameter_values` asks for a value"
                value = _filled(parameter.default, written)
            written[parameter.name] = value
        for step in _Within(self.find, around, names).steps(found.steps):
            yield _filled(step, written)


def _given(argument: tree.Argument) -> tuple[str, tree.Expr]:
    if argument.name is None:
        raise TdslError(
            "an argument of a pipeline has no name", argument.span, expected="size=50%, as it declares it"
        )
    return argument.name, argument.value


def _filled(part: Any, values: Mapping[str, tree.Expr]) -> Any:
    """A part of a tree with an expression for each name of a parameter; what a bound is about is none."""
    if isinstance(part, tree.Name):
        return values.get(part.id, part)
    if isinstance(part, tuple):
        return tuple(_filled(one, values) for one in part)
    if not isinstance(part, tree.Node):
        return part
    kept = {"span", "left"} if _is_bound(part) else {"span"}
    return replace(
        part, **{f.name: _filled(getattr(part, f.name), values) for f in fields(part) if f.name not in kept}
    )


def _is_bound(node: tree.Node) -> bool:
    return isinstance(node, tree.Binary) and node.operator in ("<", "<=", ">", ">=")
