"""What every way of running a pipeline needs first: the model captured, rules and data checked, a runner."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any

from torch import Tensor

from tdsl.capture import Captured, capture
from tdsl.capture.captured import ModelLike
from tdsl.capture.randomness import require_deterministic
from tdsl.engine.library import Library, load, standard_library
from tdsl.engine.parameters import as_written
from tdsl.engine.strategy import Runner
from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.walk import walk
from tdsl.plan.budgets import budgets_of
from tdsl.plan.calibrate import Data, samples_in
from tdsl.plan.latency import LatencyTable
from tdsl.plan.loss import Function, Loss
from tdsl.planner import DataPlanner
from tdsl.samples import Batch, Given, as_given, listed, parted_labels, require_as_many
from tdsl.sound_samples import require_sound
from tdsl.verify import Sample, TaskMetric, Tensors, draw_samples, fitting_sizes, inputs_of

SEED = 0
HELD_OUT_SHARE = 4
"""One in this many calibration batches is held out when the user gives no held-out ones."""
JUDGES_SHARE = 8
"""One in this many of the others judges plans instead of taking part in them."""
JUDGES, JUDGES_LEAST = 24, 3
"""One in fewer where that leaves less than so many samples to judge, but no more than one in three."""
PARTS = 16
"""Fewer batches than can be divided in this way are cut into about this many first."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """A model, the pipeline to run on it, and the data that the pipeline may look at."""

    captured: Captured
    pipeline: str
    runner: Runner
    planner: DataPlanner
    samples: tuple[Sample, ...]


def prepare(
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
    mask: str | None = None,
    loss: str | Function | None = None,
    metrics: Sequence[TaskMetric] = (),
    profile: str | Path | LatencyTable | None = None,
    cache: str | Path | None = None,
    verified: bool = True,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    progress: Progress = lambda stage: None,
) -> Prepared:
    """Capture `model` and check everything else; the arguments are those of `tdsl.compile`.

    `metrics` look at the labels of held-out samples. Where nothing will be `verified`, no calibration sample
    is held out. Raises `TdslError` for a model that does not trace or draws random numbers, and an argument
    that does not fit.
    """
    require_inputs(args, kwargs)
    require_kinds(
        pipeline=(pipeline, str),
        parameters=(parameters, (Mapping, NoneType)),
        rules=(rules, (str, PathLike, Library, NoneType)),
        calibration=(calibration, Iterable),
        held_out=(held_out, Iterable),
        mask=(mask, (str, NoneType)),
        profile=(profile, (str, PathLike, LatencyTable, NoneType)),
        cache=(cache, (str, PathLike, NoneType)),
    )
    progress("capture")
    if isinstance(model, Captured):
        captured = model
    else:
        captured = capture(
            model,
            args,
            kwargs,
            dynamic_shapes=dynamic_shapes,
            input_names=input_names,
            output_names=output_names,
        )
    if verified:
        require_deterministic(captured.module)
    library = standard_library()
    if rules is not None:
        library = library.extended(rules if isinstance(rules, Library) else load(rules))
    declared = library.pipeline(pipeline)
    runner = Runner(library, declared, as_written(declared.parameters, parameters or {}))
    for choice in runner.choices:
        budgets_of(choice)  # a mistake in one is said before samples are run
    measured_by = None if loss is None else Loss.of(loss)
    planned = any(isinstance(node, tree.Choose | tree.Heal) for node in walk(runner.pipeline))
    samples = _samples(captured, calibration, held_out, verified, measured_by, metrics, planned)
    runner.planner = planner = _planner(
        library, captured, samples, mask, measured_by, profile, cache, progress
    )
    return Prepared(captured, pipeline, runner, planner, samples)


def require_inputs(args: Any, kwargs: Any) -> None:
    """Raise `TdslError` for inputs that are none, as where options are given without their names."""
    require_kinds(args=(args, (Tensor, Sequence)))
    if isinstance(kwargs, Mapping | NoneType):
        return
    option = ""
    if isinstance(kwargs, str | PathLike):
        option = {".onnx": "output", ".tdsl": "rules"}.get(Path(kwargs).suffix, "pipeline")
    elif isinstance(kwargs, int | float):
        option = "rank"
    raise TdslError(
        f"`kwargs`, given third, is of type {type(kwargs).__name__}",
        expected="None, or inputs of the model by name, as a dict",
        hint="whatever is no input is given by its name" + (f": `{option}={kwargs!r}`" if option else ""),
    )


def require_kinds(**arguments: tuple[Any, Any]) -> None:
    """Raise `TdslError` at an argument that is not of the kind, or of one of the kinds, beside it."""
    for name, (value, kinds) in arguments.items():
        if not isinstance(value, kinds):
            expected = kinds if isinstance(kinds, tuple) else (kinds,)
            raise TdslError(
                f"`{name}` is of type {type(value).__name__}",
                expected=" or ".join("None" if kind is NoneType else kind.__name__ for kind in expected),
            )


def _planner(
    library: Library,
    captured: Captured,
    samples: Sequence[Sample],
    mask: str | None,
    loss: Loss | None,
    profile: str | Path | LatencyTable | None,
    cache: str | Path | None,
    progress: Progress,
) -> DataPlanner:
    """The planner on the calibration samples, some of which judge and are not computed from."""
    table = profile if isinstance(profile, LatencyTable) else None
    if profile is not None and table is None:
        table = LatencyTable.read(Path(profile))  # type: ignore[arg-type]
    table = table or LatencyTable()
    table.bind(axis for axes in captured.dynamic_axes for axis in axes.values())
    known = [sample for sample in samples if sample.kind == "calibration"]
    few = sum(samples_in(sample.inputs) for sample in known) // JUDGES
    share = min(JUDGES_SHARE, max(JUDGES_LEAST, few), max(2, len(known) // 2))
    judges = known[share - 1 :: share]
    fitted = [sample for i, sample in enumerate(known) if (i + 1) % share] if judges else known

    def data_of(chosen: Sequence[Sample]) -> Data:
        labels = [sample.labels for sample in chosen]
        called = [sample.called for sample in chosen]
        return Data.of(captured, [sample.inputs for sample in chosen], mask, SEED, loss, labels, called)

    return DataPlanner(
        library,
        data_of(fitted),
        data_of(judges or known),
        table,
        progress,
        None if cache is None else Path(cache),
        whole=data_of(known) if judges else None,
    )


def _samples(
    captured: Captured,
    calibration: Iterable[Batch],
    held_out: Iterable[Batch],
    verified: bool,
    loss: Loss | None,
    metrics: Sequence[TaskMetric],
    planned: bool,
) -> tuple[Sample, ...]:
    """Every sample; given ones with their labels where these are looked at; calibration needs them.

    What is `planned` by goes into sums, which infinities spoil.
    """
    by_loss, labelled = loss is not None, bool(metrics)
    inputs, ranges = inputs_of(captured)

    def given(batches: Iterable[Batch], kind: str, needed: bool) -> list[Given]:
        found = []
        for number, batch in enumerate(listed(batches, inputs[0].example if inputs else None), start=1):
            where, labels = f"{kind} sample {number}", by_loss or labelled
            one = as_given(batch, where, captured.input_names, labels=labels, needed=needed)
            fitting_sizes(f"{kind} {number}", one.inputs, inputs, ranges)
            found.append(replace(one, called=where))
        return found

    known = given(calibration, "calibration", by_loss)
    kept_back = given(held_out, "held-out", labelled)
    held_apart = bool(kept_back)
    known = _divided(captured, known, max((low for low, _ in ranges.values()), default=1))
    if verified and not kept_back and len(known) >= HELD_OUT_SHARE:
        kept_back = known[HELD_OUT_SHARE - 1 :: HELD_OUT_SHARE]
        known = [k for i, k in enumerate(known) if (i + 1) % HELD_OUT_SHARE]
    if labelled and not any(one.labels for one in kept_back):
        raise TdslError(
            "a metric needs held-out samples with labels",
            expected="(inputs, labels) as `held_out=`, `--held-out`, or four calibration batches of them",
        )
    drawn = draw_samples(
        inputs,
        ranges=ranges,
        calibration=[one.inputs for one in known],
        held_out=[one.inputs for one in kept_back],
        seed=SEED,
    )
    require_sound(captured, known, loss, infinite=not planned)
    if held_apart:
        require_sound(captured, kept_back, metrics=metrics, infinite=True)
    else:
        require_sound(captured, kept_back, loss, metrics, infinite=not planned)
    of_user = iter([*known, *kept_back])

    def with_labels(sample: Sample) -> Sample:
        if sample.kind not in ("calibration", "held-out"):
            return sample
        one = next(of_user)
        return replace(sample, labels=one.labels, called=one.called)

    return tuple(map(with_labels, drawn))


def _divided(captured: Captured, known: Sequence[Given], least: int) -> list[Given]:
    """The samples, cut where they are too few for some to judge what others are used for.

    No part has fewer than `least` rows. Samples that cannot be cut, or do not fit the model, stay whole.
    Raises `TdslError` for labels of another number of rows than the inputs have.
    """
    data = Data.of(captured, [one.inputs for one in known])
    alike = [len({len(t) if t.dim() else -1 for t in one.inputs}) == 1 for one in known]
    for one, even in zip(known, alike, strict=True):
        if one.labels and even and data.can_be_cut(one.inputs):
            require_as_many(one, len(one.inputs[0]), one.called)
    if len(known) >= HELD_OUT_SHARE:
        return list(known)
    at_once = max(least, -(-sum(samples_in(one.inputs) for one in known) // PARTS))
    found: list[Given] = []
    for one, even in zip(known, alike, strict=True):
        parts = data.portions(one.inputs, at_once) if even else [one.inputs]
        labels = parted_labels(one.labels, parts)
        called = _called(one.called, parts)
        found += [Given(*part) for part in zip(parts, labels, called, strict=True)]
    return found


def _called(whole: str, parts: Sequence[Tensors]) -> list[str]:
    """What the parts of a sample are called, which were cut along its first axis."""
    if len(parts) == 1:
        return [whole]
    ends = list(accumulate((len(part[0]) for part in parts), initial=0))
    return [f"rows {start} to {end - 1} of {whole}" for start, end in pairwise(ends)]
