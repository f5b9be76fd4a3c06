"""Candidates of a plan: every site × rule × rank that fits, what it saves and what it does to the output.

The error of a candidate is first-order and measured, not modelled: the difference δ that the replacement
makes at its outputs on probe batches, carried to the model's outputs by gradients of random cotangents v,
E‖J·δ‖² = E_v⟨Jᵀv, δ⟩² (Gauss–Newton). It is exact for the replacement that would be built, whatever the rule.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx

from tdsl.engine.driver import Scope
from tdsl.engine.frame import Frame, Variant
from tdsl.engine.functions import bytes_, dying_nodes, macs, new_terms, params
from tdsl.engine.rule import Replacement, Rule
from tdsl.engine.staged import CannotStage, Constant, Filled, Staged, Value, Workspace, map_values
from tdsl.engine.statistics import Recorder, Request, Statistics
from tdsl.plan.calibrate import Data, Progress, gradients
from tdsl.plan.execute import Batch, Execution
from tdsl.plan.latency import LatencyTable, steps_of
from tdsl.provenance import value_name

COSTS = ("bytes", "parameters", "macs", "latency")
"""What a candidate saves, by the names that budgets and objectives use."""

SLACK = 1.25
"""By how much a candidate's error must exceed a rival's for it not to be looked at any further."""
PROBES = 4
"""Random cotangents for each probe batch."""
PROBE_BATCHES = 32
PROBE_SAMPLES = 512
PROBE_BYTES = 512 * 2**20
"""Probe batches are taken until there are this many, or samples in them, or their values fill this memory."""


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


def requests_of(module: fx.GraphModule, choices: Sequence[Choice], scope: Scope | None) -> list[Request]:
    """The statistics that some rules would ask for at the places where their left sides match."""
    work, recorder = Workspace(module), Recorder()
    work.statistics = recorder
    for variant, nodes, env, rule in matches(module, choices, scope):
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


# ---------------------------------------------------------------- probes


class Probes:
    """A few batches run through a module, with gradients of the output, that candidates are tried on."""

    def __init__(
        self, module: fx.GraphModule, data: Data, inputs: Iterable[fx.Node], outputs: Iterable[fx.Node]
    ) -> None:
        roots = list(dict.fromkeys(outputs))
        keep = dict.fromkeys([*inputs, *roots])
        generator = torch.Generator().manual_seed(data.seed + 1)
        self.runs: list[tuple[Batch, Execution]] = []
        self.gradients: list[list[dict[fx.Node, Tensor]]] = []
        used = samples = 0
        for batch in data.batches[:PROBE_BATCHES]:
            run = data.execution(module, batch, keep, gradients=True)
            run.advance()
            watched = [n for n in roots if isinstance(run.values[n], Tensor) and run.values[n].requires_grad]
            drawn = [
                dict(zip(watched, gradients(run, [run.values[n] for n in watched], generator), strict=True))
                for _ in range(PROBES if watched else 0)
            ]
            run.values = {
                node: value.detach() if isinstance(value, Tensor) else value
                for node, value in run.values.items()
                if node in keep
            }
            run.gradients = False
            self.runs.append((batch, run))
            self.gradients.append(drawn)
            used += sum(_size(v) for v in run.values.values())
            used += sum(_size(g) for one in drawn for g in one.values())
            samples += max((len(t) for t in batch if t.dim()), default=1)
            if used > PROBE_BYTES or samples >= PROBE_SAMPLES:
                break

    def errors(self, found: Replacement, work: Workspace) -> tuple[float, float]:
        """First-order relative error of the model's output, and relative error of the replaced values."""
        output = missed = total = 0.0
        known: dict[int, Any] = {}
        values = [_settled(value, work, known) for value in found.values]
        differentiable = True
        for (_, run), drawn in zip(self.runs, self.gradients, strict=True):
            with torch.no_grad():
                differences = {}
                for old, new in zip(found.outputs, values, strict=True):
                    before = run.values[old]
                    difference = run.value(new) - before
                    differences[old] = difference
                    missed += float(difference.square().sum(dtype=torch.float64))
                    total += float(before.square().sum(dtype=torch.float64))
            differentiable &= bool(drawn) and all(node in drawn[0] for node in differences)
            if not differentiable:
                continue
            squares = [sum(_by_sample(d, one[n]) for n, d in differences.items()) for one in drawn]
            output += float(torch.stack([s.square().sum() for s in squares]).mean())  # type: ignore[union-attr]
        local = math.sqrt(missed / total) if total else (0.0 if not missed else math.inf)
        return (math.sqrt(output / len(self.runs)) if differentiable else local), local


def _settled(value: Any, work: Workspace, known: dict[int, Any]) -> Any:
    """`value` with each part that is known at compile time computed, once, as the rewrite would deploy it."""
    if isinstance(value, fx.Node | Filled) or not isinstance(value, Value):
        return value
    if id(value) not in known:
        described = work.val(value)
        if work.is_const(value) and isinstance(described, Tensor):
            known[id(value)] = Constant(work.evaluate(value).to(described.dtype), described.dtype)
        elif isinstance(value, Staged):
            args, kwargs = map_values((value.args, value.kwargs), lambda part: _settled(part, work, known))
            known[id(value)] = Staged(value.target, args, kwargs)
        else:
            return value
    return known[id(value)]


def _by_sample(difference: Tensor, gradient: Tensor) -> Tensor:
    """⟨gradient, difference⟩ for each position of the first axis, along which samples are independent."""
    product = difference * gradient
    return product.flatten(1).sum(1, dtype=torch.float64) if product.dim() > 1 else product.double()


def _size(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


# ---------------------------------------------------------------- enumeration


def candidates(
    module: fx.GraphModule,
    choices: Sequence[Choice],
    statistics: Statistics,
    data: Data,
    table: LatencyTable | None,
    scope: Scope | None = None,
    progress: Progress = lambda stage: None,
) -> list[Candidate]:
    """Every candidate, in graph order; of those at one site that save the same, the one of least error.

    With a latency table, what each saves in time is measured as well.
    """
    structural = list(matches(module, choices, scope))
    inputs = [
        n for _, nodes, _, _ in structural for m in nodes for n in m.all_input_nodes if n.op != "get_attr"
    ]
    outputs = [n for v, nodes, env, _ in structural for n in v.pattern.output_nodes(nodes, env)]
    probes = Probes(module, data, inputs, outputs)
    work = Workspace(module)
    work.statistics = statistics
    best: dict[Any, Candidate] = {}
    tried: set[Any] = set()
    for count, choice in enumerate(choices, start=1):
        progress(f"try {choice.name}: {count} of {len(choices)}")
        rule = choice.rule
        for number, (variant, roots) in enumerate(zip(rule.variants, rule.roots, strict=True)):
            attempt = rule.attempt(variant, work)
            for node in list(module.graph.nodes):
                if node.target not in roots or (scope is not None and not scope(node)):
                    continue
                found = attempt(node)
                if found is None:
                    continue
                details = _details(found, variant)
                same = (choice.name, number, node, tuple(details.items()))
                if details and same in tried:
                    continue
                tried.add(same)
                made = _candidate(choice, variant, found, work, probes, table)
                key = (choice.name, made.root, tuple(made.saved[c] for c in ("bytes", "macs")))
                if key not in best or made.error < best[key].error:
                    best[key] = made
    order = {node.name: i for i, node in enumerate(module.graph.nodes)}
    by_value = {value_name(node): order[node.name] for node in module.graph.nodes}
    return sorted(best.values(), key=lambda c: (by_value[c.root], c.choice.name, c.saved["bytes"]))


def _candidate(
    choice: Choice,
    variant: Variant,
    found: Replacement,
    work: Workspace,
    probes: Probes,
    table: LatencyTable | None,
) -> Candidate:
    frame = Frame(work, variant, found.matched, dict(found.env), {}, _rhs=found.values)
    saved: dict[str, float] = {
        name: _number(cost(frame, "lhs") - cost(frame, "rhs"))
        for name, cost in (("bytes", bytes_), ("parameters", params), ("macs", macs))
    }
    saved["latency"] = 0.0
    if table is not None:
        before = table.of(steps_of(work, dying_nodes(frame)))
        saved["latency"] = before - table.of(steps_of(work, new_terms(frame.rhs, frame)))
    error, local = probes.errors(found, work)
    root = found.outputs[0]
    return Candidate(
        choice,
        value_name(root),
        frozenset(node.name for node in found.matched),
        saved,
        error,
        local,
        _details(found, variant),
    )


def _details(found: Replacement, variant: Variant) -> dict[str, int]:
    """The sizes that a rule chose: ranks."""
    return {n: v for n, v in found.env.items() if isinstance(v, int) and n in variant.definitions}


def _number(value: Any) -> float:
    """A cost, at the traced example where it depends on dynamic sizes."""
    return float(value.node.hint) if isinstance(value, torch.SymInt) else float(value)


# ---------------------------------------------------------------- correction by measurement


def promising(found: Sequence[Candidate], slack: float = SLACK) -> list[Candidate]:
    """The candidates that no other one of the same nodes beats: saves as much as, for less error.

    First-order errors decide, so that one must be beaten by the factor `slack` to be left out.
    """
    rivals: dict[frozenset[str], list[Candidate]] = {}
    for candidate in found:
        rivals.setdefault(candidate.covers, []).append(candidate)

    def beats(other: Candidate, candidate: Candidate) -> bool:
        saves = all(other.saved[cost] >= candidate.saved[cost] for cost in COSTS)
        return saves and other.error * slack < candidate.error

    return [c for c in found if not any(beats(other, c) for other in rivals[c.covers])]


def corrected(found: Sequence[Candidate], measured: Callable[[Candidate], float]) -> list[Candidate]:
    """The candidates with their errors scaled to what one of each family does to the whole model, measured.

    A family is one rule at one site; its candidate in the middle of the sizes is measured alone. First-order
    errors are right for small changes and for independent samples; this is what they miss.
    """
    families: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in found:
        families.setdefault((candidate.choice.name, candidate.root), []).append(candidate)
    scale: dict[tuple[str, str], float] = {}
    for key, family in families.items():
        usable = [c for c in family if 0 < c.error < math.inf]
        if usable:
            middle = sorted(usable, key=lambda c: c.saved["parameters"])[len(usable) // 2]
            scale[key] = measured(middle) / middle.error
    return [replace(c, error=c.error * scale.get((c.choice.name, c.root), 1.0)) for c in found]
