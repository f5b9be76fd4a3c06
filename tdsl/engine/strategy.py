"""Pipelines: which rules run where, in which order, until when, and under which contract."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import fx

from tdsl.engine.driver import Order, Scope, Settings, rewrite
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library
from tdsl.engine.parameters import constant_value, parameter_values
from tdsl.engine.passes import GraphPass
from tdsl.engine.rule import Rule
from tdsl.engine.staged import Workspace
from tdsl.engine.weights import prune_weights, restore_names
from tdsl.errors import NotSupportedYet, TdslError
from tdsl.lang import tree
from tdsl.provenance import module_path

ROUNDS = 20
"""Most alternations of rules and hand-written passes inside one `repeat`."""


@dataclass(frozen=True, slots=True)
class ContractBound:
    """One line of a `check`: a metric, how it compares, and the number."""

    metric: str
    relation: str
    value: float
    source: tree.Expr


@dataclass(frozen=True, slots=True)
class Context:
    """What a step inherits from those around it."""

    order: Order = "top_down"
    scope: Scope | None = None


class Runner:
    """Carries out the steps of one pipeline on one graph module."""

    def __init__(
        self, library: Library, pipeline: tree.Pipeline, arguments: Mapping[str, Any] | None = None
    ) -> None:
        self.library = library
        self.pipeline = pipeline
        self.names = parameter_values(
            f"pipeline {pipeline.name}", pipeline.parameters, arguments or {}, pipeline.span
        )
        self.contract = tuple(self._bounds(pipeline.steps))
        self._compiled: dict[int, tuple[list[Rule], list[GraphPass]]] = {}
        for step in _all_steps(pipeline.steps):
            if isinstance(step, tree.Repeated | tree.Once):
                self._compiled[id(step)] = self._select(step.rules)
        self.storage = next(
            (s.scheme for s in _all_steps(pipeline.steps) if isinstance(s, tree.Quantize)), None
        )
        """How weights are stored in the file; `None` as they are."""
        self._require_contract()

    @property
    def approximate(self) -> list[str]:
        """Names of the approximate rules that the pipeline may apply."""
        found = {r.name for rules, _ in self._compiled.values() for r in rules if r.approximate}
        return sorted(found)

    def run(self, module: fx.GraphModule, journal: Journal) -> int:
        """Rewrite `module` in place, drop the weights it no longer reads; returns the number of rewrites."""
        work = Workspace(module)
        assumed = work.guards()
        count = self._steps(self.pipeline.steps, module, journal, Context())
        if work.guards() != assumed:
            raise RuntimeError(f"rewriting fixed a symbolic size: {work.guards()[len(assumed) :]}")
        prune_weights(module)
        restore_names(module)
        module.recompile()
        return count

    # ------------------------------------------------------------ steps

    def _steps(
        self, steps: Sequence[tree.Step], module: fx.GraphModule, journal: Journal, context: Context
    ) -> int:
        return sum(self._step(step, module, journal, context) for step in steps)

    def _step(self, step: tree.Step, module: fx.GraphModule, journal: Journal, context: Context) -> int:
        match step:
            case tree.Repeated():
                return self._repeat(step, module, journal, context)
            case tree.Once():
                rules, passes = self._compiled[id(step)]
                settings = Settings(context.order, False, None, context.scope)
                count = rewrite(module, rules, settings, journal) if rules else 0
                return count + sum(p.rewrite(module, journal, context.scope) for p in passes)
            case tree.First(attempt=attempt, otherwise=otherwise):
                done = self._steps(attempt, module, journal, context)
                return done or self._steps(otherwise, module, journal, context)
            case tree.Ordered(order=order, steps=steps):
                return self._steps(steps, module, journal, replace(context, order=order))
            case tree.At(paths=paths, steps=steps):
                return self._steps(
                    steps, module, journal, replace(context, scope=_scope(paths, context.scope))
                )
            case tree.Check() | tree.Quantize():
                return 0  # the contract and the storage concern the file
            case _:
                raise NotSupportedYet(type(step).__name__.lower(), step.span)

    def _repeat(self, step: tree.Repeated, module: fx.GraphModule, journal: Journal, context: Context) -> int:
        rules, passes = self._compiled[id(step)]
        by_rules = by_passes = 0
        for _ in range(ROUNDS):
            left = None if step.limit is None else step.limit - by_rules
            settings = Settings(context.order, True, left, context.scope)
            by_rules += rewrite(module, rules, settings, journal) if rules else 0
            changed = sum(p.rewrite(module, journal, context.scope) for p in passes)
            by_passes += changed
            if changed == 0 or journal.full:
                return by_rules + by_passes
        raise TdslError(
            f"no fixed point after {ROUNDS} rounds of rules and passes",
            step.span,
            hint="some rule brings back what a pass removes",
        )

    # ------------------------------------------------------------ preparation

    def _select(self, references: Sequence[tree.RuleRef]) -> tuple[list[Rule], list[GraphPass]]:
        """The rules and passes of a step, each once, in the order of the references."""
        rules: dict[str, Rule] = {}
        passes: dict[str, GraphPass] = {}
        for reference in references:
            arguments = {
                _named(argument): constant_value(argument.value, self.names)
                for argument in reference.arguments
            }
            for name in self.library.select(reference.pattern, reference.span):
                if name in self.library.passes:
                    if arguments:
                        raise TdslError(f"{name} is a pass and takes no arguments", reference.span)
                    passes.setdefault(name, self.library.passes[name]())
                elif name not in rules:
                    rules[name] = self.library.rule(name, arguments, reference.span)
        return list(rules.values()), list(passes.values())

    def _bounds(self, steps: Sequence[tree.Step]) -> list[ContractBound]:
        bounds: list[ContractBound] = []
        for step in _all_steps(steps):
            for bound in step.bounds if isinstance(step, tree.Check) else ():
                if not (
                    isinstance(bound, tree.Binary)
                    and isinstance(bound.left, tree.Name)
                    and bound.operator in ("<=", ">=", "<", ">")
                ):
                    raise TdslError(
                        "a check compares a metric with a number", bound.span, expected="cosine >= 0.999"
                    )
                value = constant_value(bound.right, self.names)
                bounds.append(ContractBound(bound.left.id, bound.operator, float(value), bound))
        return bounds

    def _require_contract(self) -> None:
        if self.contract or not (self.approximate or self.storage):
            return
        few = ", ".join(self.approximate[:3]) + (", …" if len(self.approximate) > 3 else "")
        what = f"uses approximate rules ({few})" if self.approximate else f"rounds weights to {self.storage}"
        raise TdslError(
            f"pipeline {self.pipeline.name} {what} and declares no contract",
            self.pipeline.span,
            expected="a `check` step, which says how much may be lost",
            hint="add for example `check cosine >= 0.99`",
        )


def _named(argument: tree.Argument) -> str:
    """The parameter that an argument of a rule in a pipeline is for."""
    if argument.name is None:
        raise TdslError(
            "an argument of a rule has no name", argument.span, expected="rank=64, as the rule declares it"
        )
    return argument.name


def _all_steps(steps: Sequence[tree.Step]) -> list[tree.Step]:
    """Every step, nested ones included, in written order."""
    found: list[tree.Step] = []
    for step in steps:
        found.append(step)
        match step:
            case tree.First(attempt=attempt, otherwise=otherwise):
                found.extend(_all_steps((*attempt, *otherwise)))
            case tree.Ordered(steps=inner) | tree.At(steps=inner):
                found.extend(_all_steps(inner))
    return found


def _scope(paths: tuple[str, ...], outer: Scope | None) -> Scope:
    """Nodes traced in a module that one of the globs matches, or inside such a module."""

    def inside(node: fx.Node) -> bool:
        if outer is not None and not outer(node):
            return False
        path = module_path(node)
        parts = path.split(".") if path else []
        prefixes = [".".join(parts[: i + 1]) for i in range(len(parts))]
        return any(fnmatch.fnmatchcase(prefix, glob) for prefix in prefixes for glob in paths)

    return inside
