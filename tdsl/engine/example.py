"""Running an example: a model with random weights, the rules it names, and what came of them.

Three things are asked: that the rules fired (or did not), that the graph is the one expected, and that both
compute the same numbers. An exact outcome (`=>`) is held to rounding, an approximate one (`~>`) to the error
that the rewrites state for the weights they approximated.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tdsl.capture import Captured
from tdsl.engine.census import copied
from tdsl.engine.example_graph import draw, expected_graph, model_of
from tdsl.engine.example_text import Words, expected_text
from tdsl.engine.explain import explain
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library
from tdsl.engine.parameters import constant_value
from tdsl.engine.same_graph import Comparison, Expected
from tdsl.engine.strategy import Runner
from tdsl.errors import TdslError
from tdsl.factor.table import vocabulary
from tdsl.lang import parse_expression, tree
from tdsl.lang.example import check_example
from tdsl.lang.library_files import full_name
from tdsl.lang.walk import walk

UNITS = 1e4
"""Rounding: the largest relative difference of two outputs, in units in the last place of their type."""

SLACK = 3.0
"""By how much the error of an output may exceed that of the weights it comes from, on few random inputs."""


@dataclass(frozen=True)
class Outcome:
    """What became of an example; `problem` is empty where it is as expected."""

    example: tree.Example
    rules: tuple[str, ...]
    """Names of the rules that were applied, in order."""
    found: tuple[tree.Equation, ...]
    """The rewritten model as text would have it."""
    expected: tuple[tree.Equation, ...] = ()
    problem: str = ""
    explanation: str = ""
    """Why a rule did not fire."""

    @property
    def passed(self) -> bool:
        """Whether everything is as the example says."""
        return not self.problem


def run_example(source: tree.Example, library: Library, prefix: str, seed: int = 0) -> Outcome:
    """Run an example of the file called `prefix` with what `library` holds.

    Raises `TdslError` for an example that cannot be run: a name that means nothing, sizes that do not fit.
    """
    example = check_example(source, vocabulary())
    pipeline, names = _pipeline(source.reference, library, prefix)
    drawn = draw(example, seed)
    captured = model_of(example, drawn)
    module, journal = copied(captured.module), Journal(measure=False)
    runner = Runner(library, *pipeline)
    _require_no_data(runner.pipeline, source.reference)
    runner.run(module, journal)
    rules = tuple(entry.rule for entry in journal.entries)
    expected = Expected(expected_graph(example, drawn), drawn.weights, frozenset(example.free))
    found = Words(example, drawn, expected).text(module)
    wanted = expected_text(example, expected) if source.rhs or source.unchanged else ()
    called = source.reference.pattern
    if source.unchanged:
        problem = f"{', '.join(dict.fromkeys(rules))} fired" if rules else ""
        return Outcome(source, rules, found, wanted, problem)
    if not rules:
        why = _explanation(names, pipeline[0], library, captured.module)
        return Outcome(source, rules, found, wanted, f"{called} did not fire", why)
    problem = _difference(captured, module, journal, source, bool(runner.approximate))
    if not problem and source.rhs and not Comparison(module, expected).same():
        problem = f"{called} gives another graph"
    return Outcome(source, rules, found, wanted, problem)


# ---------------------------------------------------------------- which rules


def _pipeline(
    reference: tree.RuleRef, library: Library, prefix: str
) -> tuple[tuple[tree.Pipeline, Mapping[str, Any]], list[str]]:
    """What is named as a pipeline, with its arguments; of rules and passes also their names."""
    span = reference.span
    pipeline = _pipeline_named(reference.pattern, library, prefix)
    if pipeline is not None:
        return (pipeline, {a.name or "": constant_value(a.value) for a in reference.arguments}), []
    names = _rules_named(reference, library, prefix)
    references = tuple(tree.RuleRef(pattern=n, arguments=reference.arguments, span=span) for n in names)
    steps: tuple[tree.Step, ...] = (tree.Repeated(rules=references, span=span),)
    # What an example may lose it says itself; a pipeline of approximate rules needs a contract all the same.
    steps += (tree.Check(bounds=(parse_expression("error <= 100%"),), span=span),)
    return (tree.Pipeline(name=reference.pattern, parameters=(), steps=steps, span=span), {}), names


def _pipeline_named(name: str, library: Library, prefix: str) -> tree.Pipeline | None:
    """The pipeline of that name: the file's own, or of the library where no rule of the file is called so."""
    own = full_name(prefix, name)
    if own in library.pipelines:
        return library.pipelines[own]
    found = [n for n in library.pipelines if n == name or n.endswith(f".{name}")]
    return library.pipeline(name) if found and own not in library.rules else None


def _rules_named(reference: tree.RuleRef, library: Library, prefix: str) -> list[str]:
    """The rules and passes that a name or glob means: those of the file, or else of the library."""
    pattern = full_name(prefix, reference.pattern)
    if pattern in library.rules:
        return [pattern]
    glob = f"{prefix}.{reference.pattern}"
    fires = (n for n, declared in library.rules.items() if declared.source.arrow != "==")
    own = [n for n in fires if "*" in glob and fnmatch.fnmatchcase(n, glob)]
    return own or library.select(reference.pattern, reference.span)


def _require_no_data(pipeline: tree.Pipeline, reference: tree.RuleRef) -> None:
    for node in walk(pipeline):
        if isinstance(node, tree.Choose | tree.Heal):
            raise TdslError(
                f"{pipeline.name} looks at calibration data, and an example has none",
                reference.span,
                expected="a pipeline without `choose` and `heal`, or one of the rules",
            )


def _explanation(
    names: Sequence[str], pipeline: tree.Pipeline, library: Library, module: fx.GraphModule
) -> str:
    """What `tdsl explain` says of the only rule in question."""
    if len(names) != 1 or names[0] in library.passes:
        return ""
    [step] = (s for s in pipeline.steps if isinstance(s, tree.Repeated))
    arguments = {a.name or "": constant_value(a.value) for a in step.rules[0].arguments}
    return explain(library.rule(names[0], arguments), module, limit=1).render()


# ---------------------------------------------------------------- numbers


def _difference(
    captured: Captured, module: fx.GraphModule, journal: Journal, source: tree.Example, approximate: bool
) -> str:
    """How the outputs differ by more than they may; empty if they do not."""
    with torch.no_grad():
        before = captured.flat_outputs(captured.original(*captured.args))
        after = captured.flat_outputs(module(*captured.args))
    for one, other in zip(before, after, strict=True):
        if one.is_floating_point() and not bool(one.isfinite().all()):
            raise TdslError(
                "the outputs of this model are not numbers, so nothing can be compared",
                source.span,
                hint="weights have both signs; a variance `var` is written `where var = abs(v: const [3])`",
            )
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            return f"{source.reference.pattern} gives outputs of another type"
    allowed = _rounding(captured, before)
    stated = 0.0
    if source.arrow != "=>" and approximate:
        errors = [entry.error for entry in journal.entries if entry.approximate]
        if any(error is None for error in errors):
            return ""  # a rule that states nothing, as those written in Python
        stated = math.sqrt(sum(error * error for error in errors if error is not None))
        allowed += SLACK * stated
    error = max((_relative(one, other) for one, other in zip(before, after, strict=True)), default=0.0)
    if error <= allowed:
        return ""
    bound = f"an approximation that states {stated:.1e}" if stated else "what rounding explains"
    return f"{source.reference.pattern} changes the outputs by {error:.1e}, more than {bound}"


def _rounding(captured: Captured, outputs: Sequence[torch.Tensor]) -> float:
    """What rounding explains, in the narrowest floating-point type in the model."""
    tensors = [*outputs, *captured.flat_args(), *captured.module.parameters()]
    eps = [torch.finfo(t.dtype).eps for t in tensors if t.is_floating_point()]
    return min(UNITS * max(eps, default=0.0), 1e-2)


def _relative(one: torch.Tensor, other: torch.Tensor) -> float:
    """The relative RMS difference of two outputs; infinite where one side is no number."""
    if not one.numel():
        return 0.0
    difference = (one.double() - other.double()).norm()
    error = float(difference / one.double().norm().clamp_min(1e-30))
    return error if error == error else math.inf
