"""The first plan of a pipeline, looked at on its own: its whole curve, and the latencies it goes by."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnxruntime
from torch import fx

from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.law_transfer import laws_of
from tdsl.engine.strategy import ChoiceStep
from tdsl.engine.weights import prune_weights
from tdsl.errors import TdslError
from tdsl.files import require_writable, written
from tdsl.memory import returning
from tdsl.plan.candidates import COSTS
from tdsl.plan.choose import Budget, Problem, Unrecorded, apply_plan, settle
from tdsl.plan.latency import LatencyTable
from tdsl.planner import DataPlanner
from tdsl.prepare import Prepared, prepare
from tdsl.symmetry.audit import Verdict
from tdsl.symmetry.kept import audit_of

SHARES = tuple(i / 100 for i in range(90, 15, -10))
"""Sizes of the curve, as shares of the model's own."""


@dataclass(frozen=True, slots=True)
class Symmetry:
    """A symmetry that a pipeline checks, measured on a plan: the defect of its graph in float64."""

    name: str
    verdict: Verdict
    defect: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class Point:
    """One plan of the curve: costs as shares of the model's own, and what was measured on judging samples."""

    asked: float
    sites: int
    bytes: float
    parameters: float
    macs: float
    latency: float | None
    error: float
    cosine: float
    mean_cosine: float
    symmetries: tuple[Symmetry, ...] = ()
    """How well the symmetries are kept that the pipeline checks, in its order."""


@dataclass(frozen=True)
class Curve:
    """The points of a sweep from large to small; `least` is the smallest share that the rules reach."""

    by: str
    least: float
    points: tuple[Point, ...]
    cautions: tuple[str, ...] = ()
    """What to know of the data before the curve is believed."""

    def write(self, path: Path) -> None:
        """Write the curve as JSON, whole or not at all."""
        record = {"format": "tdsl-sweep/1", **asdict(self)}
        with written(path) as part:
            part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


Visit = Callable[[float, fx.GraphModule], object]
"""Hears the size that was asked for and the rewritten module, which nobody needs afterwards."""
SoFar = Callable[[Curve], object]
"""Hears the curve as far as it is known, after every point."""


def sweep(
    *args: Any,
    by: str = "parameters",
    shares: Sequence[float] = SHARES,
    visit: Visit = lambda share, module: None,
    so_far: SoFar = lambda curve: None,
    pipeline: str = "pipelines.compact",
    **kwargs: Any,
) -> Curve:
    """The least error that the first `choose` of a pipeline reaches at each of some sizes.

    `by` is the cost that is bounded (`parameters`, `bytes`, `macs` or `latency`), `visit` sees every module
    on the way, `so_far` the curve after every point, to keep where a run may be cut off; everything else is
    given as to `tdsl.compile`. The steps before the plan and the recovery after it are carried out, and
    symmetries that the pipeline checks are measured; nothing is written.
    Raises `TdslError` for a pipeline without a plan, and for what `tdsl.compile` raises it.
    """
    if by not in COSTS:
        raise TdslError(f"a sweep cannot be over {by!r}", expected=f"one of {', '.join(COSTS)}")
    if not all(0 < share <= 1 for share in shares):
        raise TdslError(
            "the sizes of a sweep are shares of the model",
            expected="numbers above 0 and up to 1",
            hint="half of it is `50%` on the command line, 0.5 in Python",
        )
    prepared = prepare(*args, pipeline=pipeline, verified=False, **kwargs)
    planner = _Sweeper(prepared, by, tuple(shares), visit, so_far)
    prepared.runner.planner = planner
    try:
        prepared.runner.run(copied(prepared.captured.module), Journal())
    except _Done:
        assert planner.curve is not None
        return planner.curve
    raise _no_plan(prepared.pipeline)


def profile(path: Path, *args: Any, pipeline: str = "pipelines.compact", **kwargs: Any) -> LatencyTable:
    """Time every step that the first `choose` of a pipeline may build, and write the table to `path`.

    Everything but the path is given as to `tdsl.compile`, which takes the table as `profile=`. Raises
    `TdslError` for a pipeline without a plan.
    """
    require_writable(path)
    prepared = prepare(*args, pipeline=pipeline, verified=False, **kwargs)
    prepared.runner.planner = _Profiler(prepared.planner)
    try:
        prepared.runner.run(copied(prepared.captured.module), Journal())
    except _Done:
        table = prepared.planner.table
        table.machine = f"{platform.machine()}, onnxruntime {onnxruntime.__version__}, 1 thread"
        table.write(path)
        return table
    raise _no_plan(prepared.pipeline)


def _no_plan(pipeline: str) -> TdslError:
    return TdslError(f"pipeline {pipeline} has no plan", expected="a `choose … minimize … subject to …` step")


class _Done(Exception):
    """The first plan is reached and dealt with: the rest of the pipeline is of no interest."""


class _First:
    """The planner of a compilation up to its first plan."""

    def __init__(self, planner: DataPlanner) -> None:
        self.planner = planner
        self.statistics = planner.statistics
        self.answers = planner.answers
        self.heal = planner.heal
        self.remember = planner.remember


class _Profiler(_First):
    """Times what the first plan may build."""

    def choose(self, choice: ChoiceStep, module: fx.GraphModule, journal: Journal) -> int:
        """Measure every candidate; raises `_Done`."""
        self.planner.problem(choice, module, ("latency",))
        raise _Done


class _Sweeper(_First):
    """Makes the first plan for every size in turn."""

    def __init__(
        self, prepared: Prepared, by: str, shares: tuple[float, ...], visit: Visit, so_far: SoFar
    ) -> None:
        super().__init__(prepared.planner)
        self.prepared = prepared
        self.by = by
        self.shares = shares
        self.visit = visit
        self.so_far = so_far
        self.curve: Curve | None = None

    @returning()
    def choose(self, choice: ChoiceStep, module: fx.GraphModule, journal: Journal) -> int:
        """Make and measure every plan of the curve; raises `_Done`."""
        planner = self.planner
        timed = self.by == "latency" or choice.objective == "latency"
        problem, statistics = planner.problem(choice, module, (self.by,))
        alone = Problem(problem.candidates, self.by, (), problem.totals, problem.span)
        least = alone.cost(alone.solve(None) or (), self.by)
        self.curve = Curve(self.by, least, (), tuple(planner.cautions()))
        for share in self.shares:
            budget = Budget(self.by, "<=", share, True, choice.span)
            chosen = Problem(problem.candidates, "error", (budget,), problem.totals, choice.span).solve(None)
            if chosen is None:
                continue
            planner.progress(f"sweep: {self.by} at {100 * share:g}%")
            copy = copied(module)
            apply_plan(copy, chosen, statistics, Unrecorded())
            copy.recompile()
            settle()
            planner.finish(choice, copy, journal)
            prune_weights(copy)
            self.visit(share, copy)
            metrics = planner.measure(copy)
            cost = {name: problem.cost(chosen, name) for name in COSTS}
            point = Point(
                asked=share,
                sites=len(chosen),
                bytes=cost["bytes"],
                parameters=cost["parameters"],
                macs=cost["macs"],
                latency=cost["latency"] if timed else None,
                error=metrics.error,
                cosine=metrics.cosine,
                mean_cosine=metrics.mean_cosine,
                symmetries=self._symmetries(copy),
            )
            self.curve = replace(self.curve, points=(*self.curve.points, point))
            self.so_far(self.curve)
        raise _Done

    def _symmetries(self, module: fx.GraphModule) -> tuple[Symmetry, ...]:
        """How well a plan keeps what the pipeline checks."""
        runner = self.prepared.runner
        if not runner.symmetries:
            return ()
        self.planner.progress("sweep: audit symmetry")
        fallback = laws_of(runner.library)
        found = []
        for wanted in runner.symmetries:
            one = audit_of(self.prepared.captured, module, wanted.contract, fallback)
            found.append(Symmetry(wanted.contract.name, one.verdict, one.defect, one.tolerance))
        return tuple(found)
