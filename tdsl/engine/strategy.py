"""Pipelines: which rules run where, in which order, until when, and under which contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import fx

from tdsl.engine.attempt import attempted
from tdsl.engine.driver import Order, Scope, Settings, rewrite
from tdsl.engine.included import written_out
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library
from tdsl.engine.parameters import constant_value, parameter_values
from tdsl.engine.passes import GraphPass
from tdsl.engine.rule import Rule
from tdsl.engine.statistics import Request, Statistics
from tdsl.engine.storing import storage_steps
from tdsl.engine.weights import prune_weights, restore_names
from tdsl.engine.workspace import Workspace
from tdsl.errors import NotSupportedYet, Span, TdslError
from tdsl.lang import tree
from tdsl.provenance import is_within, module_path
from tdsl.spelling import did_you_mean
from tdsl.symmetry.contract import Contract

OBJECTIVES = ("latency", "bytes", "parameters", "macs", "error")
"""What a plan can make small."""
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
class SymmetryBound:
    """A symmetry that a `check` asks for, its tolerance set."""

    contract: Contract
    span: Span


class Planner(Protocol):
    """What carries out the steps that look at data: those of `tdsl.plan`, which know the engine."""

    def remember(self, module: fx.GraphModule) -> None:
        """Keep `module` as it is now, before the first step that loses something."""
        ...

    def statistics(
        self, module: fx.GraphModule, rules: Sequence[Rule], scope: Scope | None
    ) -> Statistics | None:
        """What these rules ask about calibration data, at the places where they match."""
        ...

    def answers(self, module: fx.GraphModule, requests: Sequence[Request]) -> Statistics | None:
        """The statistics that a pass asks for; `None` where there is no data."""
        ...

    def choose(self, choice: ChoiceStep, module: fx.GraphModule, journal: Journal) -> int:
        """Rewrite `module` by the best plan; returns the number of rewrites."""
        ...

    def heal(self, step: tree.Heal, module: fx.GraphModule, journal: Journal) -> int:
        """Recover what approximate rewrites lost."""
        ...


@dataclass(frozen=True, slots=True)
class Alternative:
    """A rule that a plan may apply, with the arguments that the pipeline gives it."""

    name: str
    arguments: Mapping[str, Any]
    span: Span


@dataclass(frozen=True, slots=True)
class ChoiceStep:
    """A `choose` step with its names resolved."""

    alternatives: tuple[Alternative, ...]
    objective: str
    bounds: tuple[ContractBound, ...]
    scope: Scope | None
    heal: tree.Heal | None
    """The recovery that follows, before which the plan is not judged."""
    span: Span


@dataclass(frozen=True, slots=True)
class Context:
    """What a step inherits from those around it."""

    order: Order = "top_down"
    scope: Scope | None = None


class Runner:
    """Carries out the steps of one pipeline on one graph module."""

    def __init__(
        self,
        library: Library,
        pipeline: tree.Pipeline,
        arguments: Mapping[str, Any] | None = None,
        planner: Planner | None = None,
    ) -> None:
        self.library = library
        self.planner = planner
        self.names = parameter_values(
            f"pipeline {pipeline.name}", pipeline.parameters, arguments or {}, pipeline.span
        )
        self.pipeline = pipeline = written_out(pipeline, self.names, library.pipeline)
        self.contract = tuple(self._bounds(pipeline.steps))
        self.symmetries = tuple(self._symmetries(pipeline.steps))
        """What the rewritten graph and its file must be symmetric under."""
        self._compiled: dict[int, tuple[list[Rule], list[GraphPass]]] = {}
        self._choices: dict[int, ChoiceStep] = {}
        for step in _all_steps(pipeline.steps):
            if isinstance(step, tree.Repeated | tree.Once):
                self._compiled[id(step)] = self._select(step.rules)
            elif isinstance(step, tree.Attempt):
                _require_rules_alone(step)
            elif isinstance(step, tree.Choose):
                self._choices[id(step)] = self._choice(step)
        self.storage = tuple(storage_steps(pipeline.steps, self.names))
        """How weights are stored in the file."""
        self._require_contract()

    @property
    def approximate(self) -> list[str]:
        """Names of the approximate rules and passes that the pipeline may apply."""
        found = {r.name for rules, _ in self._compiled.values() for r in rules if r.approximate}
        found |= {p.name for _, passes in self._compiled.values() for p in passes if p.approximate}
        return sorted(found | self.planned)

    @property
    def named(self) -> set[str]:
        """Names of all rules and passes that steps of the pipeline may apply."""
        rules = {rule.name for some, _ in self._compiled.values() for rule in some}
        passes = {made.name for _, some in self._compiled.values() for made in some}
        return rules | passes | self.planned

    @property
    def paths(self) -> list[str]:
        """The globs over module paths that `at` blocks are restricted to, each once."""
        blocks = [step for step in _all_steps(self.pipeline.steps) if isinstance(step, tree.At)]
        return list(dict.fromkeys(path for block in blocks for path in block.paths))

    @property
    def choices(self) -> list[ChoiceStep]:
        """The plans that the pipeline makes, in its order."""
        return list(self._choices.values())

    @property
    def planned(self) -> set[str]:
        """Names of the rules that plans choose among."""
        return {a.name for choice in self.choices for a in choice.alternatives}

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
        count = 0
        for position, step in enumerate(steps):
            following = steps[position + 1] if position + 1 < len(steps) else None
            if isinstance(step, tree.Choose):
                heal = following if isinstance(following, tree.Heal) else None
                choice = replace(self._choices[id(step)], scope=context.scope, heal=heal)
                count += self._planner(step).choose(choice, module, journal)
            else:
                count += self._step(step, module, journal, context)
        return count

    def _planner(self, step: tree.Step) -> Planner:
        if self.planner is None:
            raise RuntimeError(f"the step at line {step.span.line} looks at data, and there is no planner")
        return self.planner

    def _step(self, step: tree.Step, module: fx.GraphModule, journal: Journal, context: Context) -> int:
        match step:
            case tree.Heal():
                return self._planner(step).heal(step, module, journal)
            case tree.Repeated():
                return self._repeat(step, module, journal, context)
            case tree.Once():
                rules, passes = self._compiled[id(step)]
                settings = Settings(context.order, False, None, context.scope)
                count = self._rewrite(module, rules, settings, journal)
                return count + self._passed(module, passes, journal, context.scope)
            case tree.First(attempt=attempt, otherwise=otherwise):
                done = self._steps(attempt, module, journal, context)
                return done or self._steps(otherwise, module, journal, context)
            case tree.Attempt(steps=steps):
                return attempted(
                    module,
                    journal,
                    lambda m, j, s: self._steps(steps, m, j, replace(context, scope=s)),
                    context.scope,
                )
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

    def _rewrite(
        self, module: fx.GraphModule, rules: Sequence[Rule], settings: Settings, journal: Journal
    ) -> int:
        if not rules:
            return 0
        if self.planner and any(rule.approximate for rule in rules):
            self.planner.remember(module)
        asks = any(variant.statistics for rule in rules for variant in rule.variants)
        statistics = self.planner.statistics(module, rules, settings.scope) if asks and self.planner else None
        return rewrite(module, rules, settings, journal, statistics)

    def _passed(
        self, module: fx.GraphModule, passes: Sequence[GraphPass], journal: Journal, scope: Scope | None
    ) -> int:
        """What some passes change, one after the other."""
        count = 0
        for made in passes:
            if journal.full:  # whoever looks for a guilty rewrite need not rely on each pass to stop
                break
            if self.planner and made.approximate:
                self.planner.remember(module)
                made.statistics = self.planner.answers  # type: ignore[method-assign]
            count += made.rewrite(module, journal, scope)
        return count

    def _repeat(self, step: tree.Repeated, module: fx.GraphModule, journal: Journal, context: Context) -> int:
        rules, passes = self._compiled[id(step)]
        by_rules = by_passes = 0
        for _ in range(ROUNDS):
            left = None if step.limit is None else step.limit - by_rules
            settings = Settings(context.order, True, left, context.scope)
            by_rules += self._rewrite(module, rules, settings, journal)
            changed = self._passed(module, passes, journal, context.scope)
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
            arguments = self._arguments(reference)
            for name in self.library.select(reference.pattern, reference.span):
                if name in self.library.passes:
                    passes.setdefault(name, self.library.graph_pass(name, arguments, reference.span))
                elif name not in rules:
                    rules[name] = self.library.rule(name, arguments, reference.span)
        return list(rules.values()), list(passes.values())

    def _arguments(self, reference: tree.RuleRef) -> dict[str, Any]:
        return {_named(each): constant_value(each.value, self.names) for each in reference.arguments}

    def _choice(self, step: tree.Choose) -> ChoiceStep:
        """A step with its rules and bounds resolved. Raises `TdslError` for what cannot be chosen."""
        alternatives: dict[tuple[str, str], Alternative] = {}
        for reference in step.rules:
            arguments = self._arguments(reference)
            for name in self.library.select(reference.pattern, reference.span):
                if name in self.library.passes:
                    raise TdslError(
                        f"{name} is a pass, and a plan chooses among rules",
                        reference.span,
                        hint="apply it with `once` or `repeat`",
                    )
                self.library.rule(name, arguments, reference.span)
                once = (name, repr(sorted(arguments.items())))  # a rule may stand there at several ranks
                alternatives.setdefault(once, Alternative(name, arguments, reference.span))
        if step.objective not in OBJECTIVES:
            raise TdslError(
                f"a plan cannot minimize {step.objective}",
                step.span,
                expected=f"one of {', '.join(OBJECTIVES)}",
                hint=did_you_mean(step.objective, OBJECTIVES),
            )
        bounds = tuple(self._bound(bound, "a budget", "bytes <= 50%") for bound in step.budgets)
        return ChoiceStep(tuple(alternatives.values()), step.objective, bounds, None, None, step.span)

    def _bound(self, bound: tree.Expr, what: str, example: str) -> ContractBound:
        if not (
            isinstance(bound, tree.Binary)
            and isinstance(bound.left, tree.Name)
            and bound.operator in ("<=", ">=", "<", ">")
        ):
            raise TdslError(f"{what} compares a metric with a number", bound.span, expected=example)
        value = constant_value(bound.right, self.names)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TdslError(f"{what} compares a metric with a number", bound.right.span, expected=example)
        return ContractBound(bound.left.id, bound.operator, float(value), bound)

    def _bounds(self, steps: Sequence[tree.Step]) -> list[ContractBound]:
        bounds: list[ContractBound] = []
        for step in _all_steps(steps):
            for bound in step.bounds if isinstance(step, tree.Check) else ():
                bounds.append(self._bound(bound, "a check", "cosine >= 0.999"))
        return bounds

    def _symmetries(self, steps: Sequence[tree.Step]) -> Iterator[SymmetryBound]:
        for step in _all_steps(steps):
            for kept in step.symmetries if isinstance(step, tree.Check) else ():
                contract = self.library.symmetry.contract(kept.name, kept.span)
                if kept.within is not None:
                    within = constant_value(kept.within, self.names)
                    if isinstance(within, bool) or not isinstance(within, int | float) or within <= 0:
                        raise TdslError(
                            "a symmetry holds within a relative defect",
                            kept.within.span,
                            expected="a positive number, such as 1e-6",
                        )
                    contract = replace(contract, within=float(within))
                yield SymmetryBound(contract, kept.span)

    def _require_contract(self) -> None:
        rounding = [one.text for one in self.storage if one.scheme.lossy]
        if self.contract or not (self.approximate or rounding):
            return
        few = ", ".join(self.approximate[:3]) + (", …" if len(self.approximate) > 3 else "")
        what = f"loses something ({few})" if self.approximate else f"rounds weights to {rounding[0]}"
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


def _require_rules_alone(attempt: tree.Attempt) -> None:
    """Raise `TdslError` at a step in an `attempt` that cannot be carried out on a copy and forgotten."""
    for step in _all_steps(attempt.steps):
        if isinstance(step, tree.Choose | tree.Heal | tree.Quantize | tree.Check):
            raise TdslError(
                f"`{type(step).__name__.lower()}` stands inside `attempt`",
                step.span,
                expected="steps that apply rules: repeat, once, first, top_down, bottom_up, at",
                hint="put it behind the block",
            )


def _all_steps(steps: Sequence[tree.Step]) -> list[tree.Step]:
    """Every step, nested ones included, in written order."""
    found: list[tree.Step] = []
    for step in steps:
        found.append(step)
        match step:
            case tree.First(attempt=attempt, otherwise=otherwise):
                found.extend(_all_steps((*attempt, *otherwise)))
            case tree.Attempt(steps=inner) | tree.Ordered(steps=inner) | tree.At(steps=inner):
                found.extend(_all_steps(inner))
    return found


def _scope(paths: tuple[str, ...], outer: Scope | None) -> Scope:
    """Nodes traced in a module that one of the globs matches, or inside such a module."""

    def inside(node: fx.Node) -> bool:
        return (outer is None or outer(node)) and is_within(module_path(node), paths)

    return inside
