"""What a compilation has to report: sizes, rewrites, what plans came to, what was not applied."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence

from torch import fx

from tdsl.emit import Emitted, size
from tdsl.engine.census import Census, shared_weights
from tdsl.engine.journal import Applied, Journal
from tdsl.engine.library import standard_library
from tdsl.engine.strategy import Runner as PipelineRunner
from tdsl.plan.describe import described
from tdsl.planner import DataPlanner
from tdsl.provenance import is_within, module_path
from tdsl.report import Note, Report, RewriteRecord, Size
from tdsl.report.condition import conditions
from tdsl.spelling import some_of


def size_of(counted: Census, emitted: Emitted) -> Size:
    """What the file of a graph weighs."""
    return Size(
        bytes=size(emitted),
        parameters=counted.parameters,
        macs=counted.macs,
        nodes=len(emitted.proto.graph.node),
    )


def records_of(module: fx.GraphModule, entries: Sequence[Applied]) -> list[RewriteRecord]:
    """The rewrites, with the conditions of what approximate ones left."""
    found = conditions(module, [entry.created if entry.approximate else () for entry in entries])
    return [_record(entry, one) for entry, one in zip(entries, found, strict=True)]


def _record(entry: Applied, condition: float | None) -> RewriteRecord:
    return RewriteRecord(
        number=entry.number,
        rule=entry.rule,
        site=entry.site,
        source=entry.source,
        error=entry.error,
        parameters=entry.saved_parameters or 0,
        macs=entry.saved_macs,
        nodes=entry.saved_nodes,
        condition=condition,
    )


def refusals_of(runner: PipelineRunner, journal: Journal) -> tuple[Note, ...]:
    """Approximate rules of the pipeline that were not applied anywhere; a plan speaks for its own."""
    applied = {entry.rule for entry in journal.entries}
    asked = [name for name in runner.approximate if name not in runner.planned]
    names = list(_by_file(asked, applied))
    return (Note("nothing paid", f"no site met the conditions of {', '.join(names)}"),) if names else ()


def _by_file(asked: Sequence[str], applied: Collection[str]) -> Iterator[str]:
    """Those of `asked` that were not applied: by a glob where a file has several and none of them was."""
    for file, group in itertools.groupby(asked, key=lambda name: name.rpartition(".")[0]):
        names = list(group)
        idle = [name for name in names if name not in applied]
        yield from [f"{file}.*"] if len(idle) == len(names) > 1 else idle


def shared_layer_notes(
    runner: PipelineRunner, captured: fx.GraphModule, module: fx.GraphModule
) -> list[Note]:
    """The weights of layers that are called more than once, where approximate rules left them as they are."""
    stay = unfactorized(captured, module) if runner.approximate else ""
    return [Note("nothing paid", stay)] if stay else []


def unfactorized(captured: fx.GraphModule, module: fx.GraphModule) -> str:
    """What is to be said of weights that several layers read before and after; empty where there is none."""
    before = set(shared_weights(captured))
    stay = [path for path in shared_weights(module) if path in before]
    if not stay:
        return ""
    return f"left alone, because several calls of a layer read it, and rules are for one: {some_of(stay)}"


def idle_notes(runner: PipelineRunner) -> tuple[Note, ...]:
    """Whether the user's rules take no part: loading a file adds names, and steps of a pipeline use them."""
    own = runner.library.own_names()
    if not own or own & runner.named:
        return ()
    pipelines = sorted(runner.library.pipelines.keys() - standard_library().pipelines.keys())
    some = some_of(sorted(own), 3)
    remedy = (
        f"choose pipeline {' or '.join(pipelines)}"
        if pipelines
        else f"a pipeline with `repeat {min(own)} until stable` would apply it"
    )
    text = f"nothing that was loaded takes part ({some}): no step of pipeline {runner.pipeline.name} names it"
    return (Note("rules", f"{text}; {remedy}"),)


def slip_notes(runner: PipelineRunner, module: fx.GraphModule) -> tuple[Note, ...]:
    """What is allowed and hardly meant: paths that no module has, errors above 100 %."""
    modules = list(dict.fromkeys(path for node in module.graph.nodes if (path := module_path(node))))
    known = f"its modules are {some_of(modules)}" if modules else "it has no modules"
    paths = [path for path in runner.paths if not any(is_within(module, [path]) for module in modules)]
    bounds = [("contract", bound) for bound in runner.contract]
    bounds += [("plan", bound) for choice in runner.choices for bound in choice.bounds]
    loose = [(kind, bound.value) for kind, bound in bounds if bound.metric == "error" and bound.value > 1]
    return (
        *(Note("at", f'no module of the model matches "{path}": {known}') for path in paths),
        *(
            Note(
                kind,
                f"error <= {value:g} is {value:.0%}, and zeros in place of every output lose 100%",
            )
            for kind, value in loose
        ),
    )


def plan_notes(planner: DataPlanner) -> tuple[Note, ...]:
    """What the data are worth, what each plan came to, and what recovery gave."""
    notes = [Note("calibration", text) for text in planner.cautions()]
    notes += [Note("plan", text) for outcome in planner.outcomes for text in described(outcome)]
    if planner.healed:
        better = [h for h in planner.healed if h.after < h.before]
        notes.append(
            Note("heal", f"{len(better)} of {len(planner.healed)} factors solved anew by least squares")
        )
    return tuple(notes)


def str_contract(report: Report) -> str:
    """The promises of a report as text."""
    promises = [promise.bound for promise in report.correctness.contract]
    return ", ".join(promises) or "outputs equal to rounding"
