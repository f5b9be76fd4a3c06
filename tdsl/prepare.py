"""What every way of running a pipeline needs first: the model captured, rules and data checked, a runner."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from tdsl.errors import TdslError, kind_of
from tdsl.plan.calibrate import Data, Loss, samples_in
from tdsl.plan.latency import LatencyTable
from tdsl.planner import DataPlanner
from tdsl.verify import Sample, Tensors, draw_samples, inputs_of

SEED = 0
HELD_OUT_SHARE = 4
"""One in this many calibration batches is held out when the user gives no held-out ones."""
JUDGES_SHARE = 8
"""One in this many of the others judges plans instead of taking part in them."""
JUDGES, JUDGES_LEAST = 24, 3
"""One in fewer where that leaves less than so many samples to judge, but no more than one in three."""
PARTS = 16
"""Fewer batches than can be divided in this way are cut into about this many first."""

Batch = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
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
    loss: Loss | None = None,
    profile: str | Path | LatencyTable | None = None,
    cache: str | Path | None = None,
    verified: bool = True,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    progress: Progress = lambda stage: None,
) -> Prepared:
    """Capture `model` and check everything else; the arguments are those of `tdsl.compile`.

    Where nothing will be `verified`, no calibration sample is held out. Raises `TdslError` for a model that
    does not trace or draws random numbers, and an argument that does not fit.
    """
    require_kinds(
        args=(args, (Tensor, Sequence)),
        kwargs=(kwargs, (Mapping, NoneType)),
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
    samples = _samples(captured, calibration, held_out, verified)
    planner = _planner(library, captured, samples, mask, loss, profile, cache, progress)
    runner = Runner(library, declared, as_written(declared.parameters, parameters or {}), planner)
    return Prepared(captured, pipeline, runner, planner, samples)


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
    known = [sample.inputs for sample in samples if sample.kind == "calibration"]
    few = sum(map(samples_in, known)) // JUDGES
    share = min(JUDGES_SHARE, max(JUDGES_LEAST, few), max(2, len(known) // 2))
    judges = known[share - 1 :: share]
    fitted = [inputs for i, inputs in enumerate(known) if (i + 1) % share] if judges else known
    return DataPlanner(
        library,
        Data.of(captured, fitted, mask, SEED, loss),
        Data.of(captured, judges or known, mask, SEED),
        table,
        progress,
        None if cache is None else Path(cache),
    )


def _samples(
    captured: Captured, calibration: Iterable[Batch], held_out: Iterable[Batch], verified: bool
) -> tuple[Sample, ...]:
    inputs, ranges = inputs_of(captured)
    names = captured.input_names
    first = inputs[0].example if inputs else None
    known = [as_tensors(batch, "calibration", names) for batch in listed(calibration, first)]
    kept_back = [as_tensors(batch, "held-out", names) for batch in listed(held_out, first)]
    known = _divided(captured, known, max((low for low, _ in ranges.values()), default=1))
    if verified and not kept_back and len(known) >= HELD_OUT_SHARE:
        kept_back = known[HELD_OUT_SHARE - 1 :: HELD_OUT_SHARE]
        known = [k for i, k in enumerate(known) if (i + 1) % HELD_OUT_SHARE]
    return draw_samples(inputs, ranges=ranges, calibration=known, held_out=kept_back, seed=SEED)


def listed(batches: Iterable[Batch], like: Any = None) -> list[Batch]:
    """The batches; raises `TdslError` for an iterator at its end, and for a batch alone, `like` an input."""
    if isinstance(batches, Tensor) and isinstance(like, Tensor) and batches.dim() == like.dim():
        raise TdslError(
            f"samples of inputs are one tensor {list(batches.shape)}",
            expected="several of them: `[tensor]` for one batch, or `tensor.split(32)`",
        )
    found = list(batches)
    if not found and not isinstance(batches, list | tuple):
        raise TdslError(
            f"there is not a single sample in the {type(batches).__name__} of inputs",
            expected="at least one",
            hint="an iterator gives its samples once: make a new one, or keep them in a list",
        )
    return found


def _divided(captured: Captured, known: Sequence[Tensors], least: int) -> list[Tensors]:
    """The batches, cut where they are too few for some to judge what others are used for.

    No part has fewer than `least` samples. Batches that cannot be cut, or do not fit the model, stay whole.
    """
    if len(known) >= HELD_OUT_SHARE:
        return list(known)
    data = Data.of(captured, known)
    at_once = max(least, -(-sum(map(samples_in, known)) // PARTS))
    alike = [len({len(t) if t.dim() else -1 for t in batch}) == 1 for batch in known]
    parted = [
        data.portions(batch, at_once) if one else [batch] for batch, one in zip(known, alike, strict=True)
    ]
    return [part for parts in parted for part in parts]


def as_tensors(batch: Batch, kind: str, names: Sequence[str]) -> Tensors:
    """The tensors of one sample in the order of the inputs; raises `TdslError` for anything else."""
    if isinstance(batch, Mapping):
        missing = [name for name in names if name not in batch]
        if missing:
            raise TdslError(f"a {kind} sample has no {', '.join(missing)}", expected=", ".join(names))
        batch = tuple(batch[name] for name in names)
    tensors = (batch,) if isinstance(batch, Tensor) else tuple(batch) if isinstance(batch, Sequence) else None
    wrong: Any = batch if tensors is None else next((t for t in tensors if not isinstance(t, Tensor)), None)
    if tensors is None or wrong is not None:
        raise TdslError(
            f"a {kind} sample is {kind_of(wrong)}",
            expected="a tensor, a tuple of the model's input tensors in their order, or a dict by name",
        )
    return tensors
