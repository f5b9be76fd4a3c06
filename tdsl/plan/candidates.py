"""Candidates of a plan: every site × rule × rank that fits, what it saves and what it does to the output.

Errors are first-order (`probes`), scaled to what one candidate of each rule and site does when measured.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx

from tdsl.engine.driver import Scope
from tdsl.engine.frame import Frame, Variant
from tdsl.engine.functions import bytes_, dying_nodes, macs, new_terms, params
from tdsl.engine.journal import error_of
from tdsl.engine.narrowing import replaced_beside
from tdsl.engine.rule import Replacement, Rule
from tdsl.engine.staged import CannotStage
from tdsl.engine.statistics import Recorder, Request, Statistics
from tdsl.engine.workspace import Workspace
from tdsl.factor.memo import MEMORY
from tdsl.memory import give_back
from tdsl.plan.calibrate import Data, Progress
from tdsl.plan.latency import LatencyTable
from tdsl.plan.probes import Change, Effects, Probes
from tdsl.plan.remembering import Remembering
from tdsl.plan.shelf import Shelf
from tdsl.provenance import module_path, value_name

COSTS = ("bytes", "parameters", "macs", "latency")
"""What a candidate saves, by the names that budgets and objectives use."""

LAID_ASIDE = 32 * 2**20
"""Bytes of samples that are laid aside at least where there are so many, most of them in a file."""
SLACK = 1.25
"""By how much a candidate's error must exceed a rival's for it not to be looked at any further."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A rule with its parameters set: one way to rewrite a site."""

    name: str
    arguments: Mapping[str, Any]
    rule: Rule


@dataclass(frozen=True, slots=True)
class Candidate:
    """One choice at one site. `saved` are differences left minus right; latency is in seconds.

    `error` is the relative error of the model's output to first order, `local` that of the site's value.
    """

    choice: Choice
    root: str
    """Name of the value at which the rule's match is rooted."""
    covers: frozenset[str]
    """Names of the nodes that it replaces: two candidates that share one exclude each other."""
    saved: Mapping[str, float]
    error: float
    local: float
    details: Mapping[str, Any] = field(default_factory=dict)
    module: str = ""
    """Path of the module that the site is in."""

    @property
    def site(self) -> str:
        """What a report calls the site: the value, and the module that computes it."""
        return f"{self.root} in {self.module}" if self.module else self.root


def requests_of(module: fx.GraphModule, choices: Sequence[Choice], scope: Scope | None) -> list[Request]:
    """The statistics that some rules would ask for at the places where their left sides match in size."""
    work, recorder = Workspace(module), Recorder()
    work.statistics = recorder
    for variant, nodes, env, rule in matches(module, choices, scope):
        given = [choice.rule.parameters for choice in choices if choice.name == rule.name]
        if not any(variant.fits(Frame(work, variant, nodes, dict(env), one)) for one in given):
            continue
        for statistic in variant.statistics:
            with contextlib.suppress(CannotStage):  # which the recorder raises, having heard the request
                statistic(Frame(work, variant, nodes, dict(env), rule.parameters))
    return list(recorder.requests)


def matches(
    module: fx.GraphModule, choices: Sequence[Choice], scope: Scope | None
) -> Iterable[tuple[Variant, tuple[fx.Node, ...], dict[str, Any], Rule]]:
    """Every structural match of some rules, each rule once whatever its parameters."""
    seen: set[str] = set()
    for choice in choices:
        if choice.name in seen:
            continue
        seen.add(choice.name)
        rule = choice.rule
        for variant, roots in zip(rule.variants, rule.roots, strict=True):
            matcher = variant.matcher(rule.name)
            for node in module.graph.nodes:
                if node.target in roots and (scope is None or scope(node)):
                    found = _Found()
                    matcher(node, found)
                    yield from ((variant, nodes, env, rule) for nodes, env in found.matches)


class _Found:
    """Accepts no match, and remembers every one, so that the matcher goes on to the next."""

    def __init__(self) -> None:
        self.matches: list[tuple[tuple[fx.Node, ...], dict[str, Any]]] = []

    def __call__(self, nodes: tuple[fx.Node, ...], env: dict[str, Any]) -> None:
        self.matches.append((nodes, dict(env)))


# ---------------------------------------------------------------- enumeration


@dataclass(frozen=True, slots=True)
class Measures:
    """What candidates are held against: samples, the table of latencies if time matters, and the costs that
    a plan looks at: what saves none of these is left out before its error is computed.

    Without samples an error is the relative one of the weights, whatever their scale (Azizi et al., 2024).
    """

    probes: Probes | None
    effects: Effects | None
    table: LatencyTable | None
    counted: Collection[str]

    def errors(self, found: Replacement, work: Workspace) -> tuple[float, float]:
        """The relative errors of the model's output and of the replaced values, as far as they are known."""
        if self.probes is not None:
            return self.probes.errors(Change.of(found, work))
        lost = error_of(found)
        lost = (math.inf if found.rule.approximate else 0.0) if lost is None else lost
        return lost, lost

    def measured(self, changes: Sequence[Change]) -> list[float] | None:
        """What changes do to the output of the model when it is run; `None` without samples."""
        return None if self.effects is None else self.effects.errors(changes)

    def useful(self, candidate: Candidate, others: Iterable[Candidate]) -> bool:
        """Whether a candidate saves something, and more than larger ones of its rule, which lose less."""

        def larger(other: Candidate) -> bool:
            return other.details.keys() == candidate.details.keys() and all(
                other.details[name] >= size for name, size in candidate.details.items()
            )

        saves = any(candidate.saved[cost] > 0 for cost in self.counted)
        return saves and not any(
            larger(other) and all(other.saved[cost] >= candidate.saved[cost] for cost in self.counted)
            for other in others
            if candidate.details
        )


def candidates(
    module: fx.GraphModule,
    choices: Sequence[Choice],
    statistics: Statistics,
    data: Data,
    table: LatencyTable | None,
    counted: Collection[str],
    memory: int,
    scope: Scope | None = None,
    progress: Progress = lambda stage: None,
) -> list[Candidate]:
    """The candidates worth choosing among, in graph order.

    Their errors are scaled to what one of each family does to the whole model, measured: a family is one rule
    at one site, its candidate in the middle of the sizes is measured alone. First-order errors are right for
    small changes and for independent samples; this is what they miss. `counted` are the costs that matter;
    with a latency table, what each saves in time is measured as well. Sites are dealt with one after the
    other, so that what one of them needs is forgotten before the next: about `memory` bytes are in use for
    decompositions, and half as many for samples. Without data errors are those of the weights.
    """
    structural = list(matches(module, choices, scope))
    work = Remembering(module, statistics)
    inputs = [
        n
        for variant, nodes, env, _ in structural
        for m in (*nodes, *replaced_beside(variant, env, work))
        for n in m.all_input_nodes
        if n.op != "get_attr"
    ]
    outputs = [n for v, nodes, env, _ in structural for n in v.pattern.output_nodes(nodes, env)]
    roots = {target for choice in choices for targets in choice.rule.roots for target in targets}
    places = [n for n in module.graph.nodes if n.target in roots and (scope is None or scope(n))]
    laid = max(LAID_ASIDE, memory // 2)
    probes = Probes(module, data, inputs, outputs, laid, memory // 2) if data.batches else None
    effects = Effects(module, data, memory // 2) if data.batches else None
    measures = Measures(probes, effects, table, counted)
    made: list[Candidate] = []
    with MEMORY.limited(memory, lambda: Shelf(0).put):
        for count, node in enumerate(places, start=1):
            progress(f"try {value_name(node)}: {count} of {len(places)}")
            made += _at(node, choices, work, measures)
            work.forget()
    order = {value_name(node): i for i, node in enumerate(module.graph.nodes)}
    return sorted(made, key=lambda c: (order[c.root], c.choice.name, c.saved["bytes"]))


_Tried = tuple[Candidate, Callable[[], Change]]
"""A candidate, and how to build it again."""


def _at(node: fx.Node, choices: Sequence[Choice], work: Workspace, measures: Measures) -> list[Candidate]:
    """The candidates rooted at a node; what a decomposition leaves behind serves one rule after the other."""
    families: dict[str, list[Choice]] = {}
    for choice in choices:
        if any(node.target in targets for targets in choice.rule.roots):
            families.setdefault(choice.name, []).append(choice)
    found: list[Candidate] = []
    measurable: dict[str, list[_Tried]] = {}
    for name, family in families.items():
        tried = _family(node, family, work, measures)
        found += (candidate for candidate, _ in tried)
        usable = [one for one in tried if 0 < one[0].error < math.inf]
        if usable:
            measurable[name] = sorted(usable, key=lambda one: one[0].saved["parameters"])
    kept = promising(found)
    names = [name for name in dict.fromkeys(c.choice.name for c in kept) if name in measurable]
    scale = _scales([measurable[name][len(measurable[name]) // 2] for name in names], measures)
    # What changes no class or id on the samples may do so when it is larger.
    silent = [name for name in names if scale.get(name) == 0]
    scale |= _scales([max(measurable[name], key=lambda one: one[0].error) for name in silent], measures)
    scaled = [replace(c, error=c.error * scale.get(c.choice.name, 1.0)) for c in kept]
    return [c for c in scaled if math.isfinite(c.error)]


def _scales(tried: Sequence[_Tried], measures: Measures) -> dict[str, float]:
    """For the rule of each candidate, its measured error over that to first order; none without samples."""
    errors = measures.measured([rebuild() for _, rebuild in tried]) if tried else None
    if errors is None:
        return {}
    return {one.choice.name: error / one.error for (one, _), error in zip(tried, errors, strict=True)}


def _family(node: fx.Node, family: Sequence[Choice], work: Workspace, measures: Measures) -> list[_Tried]:
    """The useful candidates of one rule at a node, and how to build each of them again.

    Larger ones, which lose less, come first. Of those that save the same it is the one of least error.
    """
    best: dict[Any, _Tried] = {}
    tried: dict[int, list[Candidate]] = {}
    for choice in reversed(family):
        rule = choice.rule
        for number, (variant, roots) in enumerate(zip(rule.variants, rule.roots, strict=True)):
            attempt = rule.attempt(variant, work)
            found = attempt(node) if node.target in roots else None
            if found is None:
                continue
            made = _candidate(choice, variant, found, work, measures.table)
            larger = tried.setdefault(number, [])
            if not measures.useful(made, larger):
                continue
            larger.append(made)
            output, local = measures.errors(found, work)
            give_back()
            made = replace(made, error=output, local=local)
            key = tuple(made.saved[cost] for cost in ("bytes", "macs"))
            if key not in best or made.error < best[key][0].error:
                best[key] = made, functools.partial(_change, attempt, node, work)
    return list(best.values())


def _change(attempt: Callable[[fx.Node], Replacement | None], node: fx.Node, work: Workspace) -> Change:
    found = attempt(node)
    assert found is not None  # it was found before
    return Change.of(found, work)


def _candidate(
    choice: Choice, variant: Variant, found: Replacement, work: Workspace, table: LatencyTable | None
) -> Candidate:
    """A candidate with what it saves; its errors are not known yet."""
    frame = Frame(work, variant, found.matched, dict(found.env), {}, _rhs=found.values)
    saved: dict[str, float] = {
        name: _number(cost(frame, "lhs") - cost(frame, "rhs"))
        for name, cost in (("bytes", bytes_), ("parameters", params), ("macs", macs))
    }
    saved["latency"] = 0.0
    if table is not None:
        before = table.steps(work, dying_nodes(frame))
        after = table.steps(work, new_terms(frame.rhs, frame))
        saved["latency"] = table.gain(before, after)
    return Candidate(
        choice=choice,
        root=value_name(found.outputs[0]),
        covers=frozenset(node.name for node in found.matched),
        saved=saved,
        error=math.inf,
        local=math.inf,
        details=_details(found, variant),
        module=module_path(found.outputs[0]),
    )


def _details(found: Replacement, variant: Variant) -> dict[str, int]:
    """The sizes that a rule chose: ranks."""
    return {n: v for n, v in found.env.items() if isinstance(v, int) and n in variant.definitions}


def _number(value: Any) -> float:
    """A cost, at the traced example where it depends on dynamic sizes."""
    return float(value.node.hint) if isinstance(value, torch.SymInt) else float(value)


def promising(found: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that no other one of the same nodes beats: saves as much as, for less error.

    First-order errors decide, so that one must be beaten by the factor `SLACK` to be left out.
    """
    rivals: dict[frozenset[str], list[Candidate]] = {}
    for candidate in found:
        rivals.setdefault(candidate.covers, []).append(candidate)

    def beats(other: Candidate, candidate: Candidate) -> bool:
        saves = all(other.saved[cost] >= candidate.saved[cost] for cost in COSTS)
        return saves and other.error * SLACK < candidate.error

    return [c for c in found if not any(beats(other, c) for other in rivals[c.covers])]
