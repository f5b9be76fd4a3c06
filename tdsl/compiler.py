"""From a model to a verified ONNX file: capture, rewrite, emit, verify, write."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any

from onnx import ModelProto, load_model
from torch import Tensor, fx

from tdsl.capture import Captured
from tdsl.capture.captured import ModelLike
from tdsl.emit import Emitted, emit_apart, save, session
from tdsl.engine.census import census, copied
from tdsl.engine.journal import Journal
from tdsl.engine.law_transfer import laws_of
from tdsl.engine.library import Library
from tdsl.engine.strategy import Runner as PipelineRunner
from tdsl.errors import TdslError
from tdsl.files import require_writable
from tdsl.memory import give_back, returning
from tdsl.plan.latency import LatencyTable
from tdsl.plan.loss import Function
from tdsl.prepare import SEED, Progress, prepare, require_kinds
from tdsl.report import Note, Report, correctness_of, notes_of, to_text, write_json
from tdsl.reporting import (
    idle_notes,
    plan_notes,
    records_of,
    refusals_of,
    shared_layer_notes,
    size_of,
    slip_notes,
    str_contract,
)
from tdsl.samples import Batch
from tdsl.storing import Storing, blame_of_storage, shared_notes, storage_notes, stored_records
from tdsl.symmetry.audit import Audit
from tdsl.symmetry.kept import Kept, require_kept_by_file, require_kept_by_graph
from tdsl.verify import (
    CAPTURE,
    Ahead,
    Bound,
    Contract,
    Double,
    NotInDouble,
    Sample,
    Task,
    TaskMetric,
    Verdict,
    double_of,
    guilty,
    innocent,
    measured_tasks,
    original_runner,
    session_latency,
    session_runner,
    steps_of,
    verify,
)
from tdsl.verify.task import Function as TaskFunction

ROOM = 2**24
"""Bytes of outputs that are kept of a file while the original runs, or an eighth of its weights, if more."""


@dataclass(frozen=True)
class Result:
    """What a compilation gives: the rewritten module (trainable), the ONNX model, the report."""

    module: fx.GraphModule
    report: Report
    captured: Captured
    path: Path | None = None
    _model: ModelProto | None = None
    """The ONNX model where no file was written."""

    @functools.cached_property
    def onnx(self) -> ModelProto:
        """The ONNX model, read from `path` where it was written.

        Raises `TdslError` when that file is gone.
        """
        if self._model is not None:
            return self._model
        assert self.path is not None
        try:
            return load_model(self.path)
        except OSError as reason:
            raise TdslError(f"cannot read {self.path}: {reason.strerror or reason}") from None

    def __str__(self) -> str:
        """The report as a table."""
        return to_text(self.report)


class BrokenContract(TdslError):
    """The compiled model does not keep its contract; nothing was written. `report` has the measurements."""

    def __init__(self, message: str, report: Report, hint: str | None = None) -> None:
        super().__init__(message, expected=str_contract(report), hint=hint)
        self.report = report


def compile(
    model: ModelLike | Captured,
    args: tuple[Any, ...] | Tensor = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    pipeline: str = "pipelines.exact",
    parameters: Mapping[str, Any] | None = None,
    rules: str | Path | Library | None = None,
    calibration: Iterable[Batch] = (),
    held_out: Iterable[Batch] = (),
    output: str | Path | None = None,
    opset: int | None = None,
    metadata: bool = False,
    latency: bool = True,
    mask: str | None = None,
    loss: str | Function | None = None,
    metric: str | TaskFunction | Sequence[str | TaskFunction] = (),
    cache: str | Path | None = None,
    profile: str | Path | LatencyTable | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    name: str | None = None,
    progress: Progress = lambda stage: None,
) -> Result:
    """Compile a PyTorch model under a pipeline into an ONNX model that was run against the original.

    `pipeline` names one of the standard library's or of `rules` (a `.tdsl` file or a loaded library);
    `parameters` are its arguments, as values or as text of the language (`"energy(0.9)"`). `calibration` and
    `held_out` yield inputs as tensors, tuples of them, or dicts by name; without `held_out` every fourth
    calibration sample is held out. Plans and statistics see calibration samples alone: `mask` names the input
    that marks padding in them (one that is called a mask by default), `loss` is what their labels are for, a
    function of (output, labels) or the name of one of torch.nn.functional, whose gradients weigh errors
    (those of the outputs themselves by default), `profile` a table of latencies measured elsewhere, `cache` a
    folder in which statistics are remembered. `metric` names what the report measures by the labels of
    held-out samples, before and after: `accuracy`, `calibration_error`, or a function of (output, labels).

    With `output` the file is written there and `report.json` beside it, once everything holds; otherwise
    nothing is written. `name` is what the report calls the model, its class by default; `progress` hears each
    stage as it begins.

    Raises:
        TdslError: the model does not trace, the pipeline is wrong, an operator has no ONNX form, …
        BrokenContract: the file differs from the original by more than it may.
    """
    require_kinds(output=(output, (str, PathLike, NoneType)), opset=(opset, (int, NoneType)))
    if output is not None:
        require_writable(Path(output))
    several = isinstance(metric, Sequence) and not isinstance(metric, str)
    metrics = [TaskMetric.of(one) for one in (metric if several else (metric,))]  # type: ignore[arg-type,union-attr]
    prepared = prepare(
        model,
        args,
        kwargs,
        dynamic_shapes=dynamic_shapes,
        pipeline=pipeline,
        parameters=parameters,
        rules=rules,
        calibration=calibration,
        held_out=held_out,
        mask=mask,
        loss=loss,
        metrics=metrics,
        profile=profile,
        cache=cache,
        input_names=input_names,
        output_names=output_names,
        progress=progress,
    )
    captured, runner, planner = prepared.captured, prepared.runner, prepared.planner
    samples = prepared.samples
    contract = _contract(runner)

    give_back()
    progress("rewrite")
    journal = Journal()
    module = copied(captured.module)
    runner.run(module, journal)
    planned = plan_notes(planner)  # the search for a guilty rewrite plans anew

    audits = _audits(captured, module, runner, journal, progress)
    progress("emit")
    storing = Storing(runner.storage, planner.data, opset, metadata, progress)
    emitted, stored = storing.emit(captured, module)
    give_back()

    progress("verify")
    approximate = any(entry.approximate for entry in journal.entries)
    check = _Check(captured, samples, contract, exact=not (approximate or any(one.error for one in stored)))
    verdict = check.file(module, emitted)
    give_back()

    progress("compare with the original's export")
    baseline = emit_apart(captured, opset=storing.opset, metadata=metadata)
    give_back()
    measured = None
    if latency and verdict.passed:
        feed = next(s for s in samples if s.kind == "example").inputs
        measured = session_latency(lambda: session(baseline), lambda: session(emitted), feed)
        give_back()
    tasks: tuple[Task, ...] = ()
    if metrics and verdict.passed:
        progress("measure by labels")
        tasks = measured_tasks(metrics, check.original, session_runner(session(emitted)), samples)
        give_back()
    blame, hint = None, ""
    if any(one.metric == CAPTURE for one in verdict.violations):
        hint = f"no rule is to blame: {innocent(captured, verdict, samples)}"
    elif not verdict.passed:
        progress("find the guilty rewrite")
        too_coarse = False
        if any(one.error for one in stored):
            unrounded, _ = storing.emit(captured, module, lossy=False)
            too_coarse = check.file(module, unrounded).passed
        if journal.entries and not too_coarse:
            blame = _guilty(captured, runner, storing, check, len(journal.entries))
        if too_coarse:
            hint = blame_of_storage(stored)
        elif blame is not None:
            hint = _blame(blame, journal)
        else:
            whom = "no single rewrite is to blame" if journal.entries else "no rule was applied"
            hint = f"{whom}: {innocent(captured, verdict, samples)}"
    report = Report(
        model=name or captured.name,
        pipeline=pipeline,
        correctness=correctness_of(verdict, blame),
        original=size_of(census(captured.module), baseline),
        result=size_of(census(module), emitted),
        latency=measured,
        tasks=tasks,
        rewrites=(
            *records_of(module, journal.entries),
            *stored_records(stored, emitted, len(journal.entries)),
        ),
        notes=(
            *notes_of(verdict),
            *shared_notes(emitted),
            *storage_notes(stored),
            *planned,
            *shared_layer_notes(runner, captured.module, module),
            *refusals_of(runner, journal),
            *idle_notes(runner),
            *slip_notes(runner, captured.module),
            *(Note("sizes", text) for text in captured.bounds),
        ),
        seeds={"samples": SEED},
    )
    if not verdict.passed:
        raise BrokenContract(
            "the compiled model does not keep its contract, and nothing was written\n" + str(verdict),
            report,
            hint=hint,
        )
    kept = _certificates(emitted, runner, audits, samples, progress)
    report = replace(report, notes=(*report.notes, *(Note("symmetry", str(one)) for one in kept)))
    path, whole = None, None
    if output is None:
        whole = emitted.whole()
    else:
        progress("write")
        path = Path(output)
        _require_folder(path.parent)
        save(emitted, path)
        write_json(report, path.parent / "report.json")
    progress("done")
    return Result(module, report, captured, path, whole)


# ---------------------------------------------------------------- verification


class _Check:
    """Holds rewritten modules and emitted files against the original on fixed samples."""

    def __init__(
        self, captured: Captured, samples: Sequence[Sample], contract: Contract, *, exact: bool
    ) -> None:
        self.captured = captured
        self.samples = samples
        self.contract = contract
        self.exact = exact
        self.original = original_runner(captured)
        self.steps = steps_of(captured.module.graph)

    @returning()
    def file(self, module: fx.GraphModule, emitted: Emitted) -> Verdict:
        """The verdict on an emitted file. It is not open while the original runs, in float64 or as it is."""
        weights = sum(array.nbytes for array in emitted.weights.values())
        ahead = Ahead(lambda: session_runner(session(emitted)), self.samples, max(ROOM, weights // 8))
        double: Double | None = None
        reason = ""
        if self.exact:
            try:
                double = double_of(self.captured, module)
            except NotInDouble as why:
                reason = str(why)
        return verify(
            self.original,
            ahead,
            self.samples,
            self.contract,
            exact=self.exact,
            double=double,
            not_in_double=reason,
            output_names=self.captured.output_names,
            steps=self.steps,
        )


def _contract(runner: PipelineRunner) -> Contract:
    """What the pipeline's `check` steps promise. Raises `TdslError` at one that means nothing."""
    asked = runner.contract
    return Contract(tuple(Bound.asked(a.metric, a.relation, a.value, a.source.span) for a in asked))


def _audits(
    captured: Captured, module: fx.GraphModule, runner: PipelineRunner, journal: Journal, progress: Progress
) -> list[Audit]:
    """What the symmetries that the pipeline checks say of the rewritten graph; raises at a broken one."""
    if not runner.symmetries:
        return []
    progress("audit symmetry")

    def blame(broken: Callable[[fx.GraphModule], bool]) -> str:
        def after(count: int) -> bool:
            limited = copied(captured.module)
            runner.run(limited, Journal(limit=count))
            return broken(limited)

        number = guilty(len(journal.entries), after)
        return "" if number is None else _blame(number, journal)

    fallback = laws_of(runner.library)
    return [
        require_kept_by_graph(captured, module, one.contract, one.span, fallback=fallback, blame=blame)
        for one in runner.symmetries
    ]


def _certificates(
    emitted: Emitted,
    runner: PipelineRunner,
    audits: Sequence[Audit],
    samples: Sequence[Sample],
    progress: Progress,
) -> list[Kept]:
    """The same of the file."""
    if not audits:
        return []
    progress("certify symmetry")
    given = [next(sample.inputs for sample in samples if sample.kind == "example")]
    whole = emitted.whole()
    return [
        Kept(found, require_kept_by_file(whole, one.contract, one.span, given))
        for found, one in zip(audits, runner.symmetries, strict=True)
    ]


def _guilty(
    captured: Captured,
    runner: PipelineRunner,
    storing: Storing,
    check: _Check,
    rewrites: int,
) -> int | None:
    """The first rewrite after which an emitted file breaks the contract; `None` when the export does."""

    def broken(count: int) -> bool:
        journal = Journal(limit=count)
        module = copied(captured.module)
        runner.run(module, journal)
        emitted, _ = storing.emit(captured, module, lossy=False)  # which broke it before weights were rounded
        return not check.file(module, emitted).passed

    return guilty(rewrites, broken)


def _blame(number: int, journal: Journal) -> str:
    entry = journal.entries[number - 1]
    place = entry.site or "the top of the model"
    line = f" ({entry.source})" if entry.source else ""
    lost = "" if entry.error is None else f", relative error of the weight {entry.error:.3g}"
    return f"rewrite {number}, {entry.rule} at {place}{line}, is the one that breaks it{lost}"


def _require_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise TdslError(f"cannot write to {folder}: {reason.strerror}") from None
