"""The report of a compilation: what went in, what came out, what each rewrite did, whether it may be used.

A `Report` is data only. As JSON it is deterministic: the same compilation gives the same bytes, apart
from latencies. No time stamp, no absolute path of the machine.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata

from tdsl.verify import Latency, Metrics, Row, Task, Verdict

FORMAT = "tdsl-report/1"
"""Names the layout of the JSON; a change that a reader would notice counts up."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a model weighs; `macs` (multiply-accumulates on the example) is `None` where not counted."""

    bytes: int
    parameters: int
    macs: int | None
    nodes: int


@dataclass(frozen=True, slots=True)
class Promise:
    """A bound of the contract, as measured."""

    bound: str
    metric: str
    limit: float
    measured: float
    kept: bool


@dataclass(frozen=True, slots=True)
class GroupErrors:
    """Errors over one kind of sample; `decides` marks those that the contract is judged on."""

    group: str
    samples: int
    decides: bool
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class RoundingRecord:
    """For an exact pipeline, the output and sample where the file comes closest to its rounding bound.

    Distances to the original in float64, relative to the output's ordinary size; `original` is that of
    the original's own float32 run (`None`: the model does not run in float64).
    """

    sample: str
    output: str
    original: float | None
    result: float
    allowed: float


@dataclass(frozen=True, slots=True)
class Correctness:
    """The verdict: promises, violations in words, errors by group of samples."""

    passed: bool
    exact: bool
    judged_on: str
    judged_samples: int
    violations: tuple[str, ...] = ()
    guilty: int | None = None
    contract: tuple[Promise, ...] = ()
    errors: tuple[GroupErrors, ...] = ()
    rounding: RoundingRecord | None = None


@dataclass(frozen=True, slots=True)
class RewriteRecord:
    """One application of a rule: where, what it cost in accuracy there, what it saved.

    `site` is a module path and `source` a line of the user's model (`file.py:12`). `error` is the
    relative Frobenius error of the replaced weight, `None` for an exact rewrite. Savings are negative
    where something was added; `macs` is `None` where not counted. `condition` is the largest condition number
    of the matrices that an approximate rewrite left, `None` where it left none.
    """

    number: int
    rule: str
    site: str
    source: str = ""
    error: float | None = None
    parameters: int = 0
    macs: int | None = 0
    nodes: int = 0
    condition: float | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth knowing that changes no verdict: `kind` is "refused", "nothing paid", "skipped"…"""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything about one compilation; `latency` is `None` when it was not measured."""

    model: str
    pipeline: str
    correctness: Correctness
    original: Size
    result: Size
    latency: Latency | None = None
    tasks: tuple[Task, ...] = ()
    """Metrics of the user's task by labels, where some were asked for."""
    rewrites: tuple[RewriteRecord, ...] = ()
    notes: tuple[Note, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: environment())
    seeds: Mapping[str, int] = field(default_factory=dict)


def correctness_of(verdict: Verdict, guilty: int | None = None) -> Correctness:
    """The part of a report that `verdict` decides; `guilty` is the rewrite found by bisection."""
    promises = []
    for bound in verdict.contract.bounds:
        measured: float = getattr(verdict.judged, bound.metric)
        promises.append(Promise(str(bound), bound.metric, bound.value, measured, bound.holds(measured)))
    deciding = {"held-out"} if verdict.judged_on == "held-out" else {"example", "calibration", "random"}
    errors = tuple(
        GroupErrors(
            kind, len({row.sample for row in verdict.rows if row.kind == kind}), kind in deciding, metrics
        )
        for kind, metrics in verdict.groups
    )
    return Correctness(
        passed=verdict.passed,
        exact=verdict.exact,
        judged_on=verdict.judged_on,
        judged_samples=verdict.judged_samples,
        violations=tuple(str(item) for item in verdict.violations),
        guilty=guilty,
        contract=tuple(promises),
        errors=errors,
        rounding=_closest_to_its_bound(verdict.rows),
    )


def notes_of(verdict: Verdict) -> tuple[Note, ...]:
    """What a verdict has to say beside its judgement: warnings, and samples left out."""
    warnings = tuple(Note("warning", text) for text in verdict.warnings)
    skipped = (Note("skipped", f"sample '{name}': the original says: {why}") for name, why in verdict.skipped)
    return (*warnings, *skipped)


def environment() -> dict[str, str]:
    """Versions that results may depend on."""
    names = ("tdsl", "torch", "onnx", "onnxruntime", "onnxscript", "numpy", "scipy")
    versions = {name: metadata.version(name) for name in names}
    return {**versions, "python": platform.python_version(), "machine": platform.machine()}


def _closest_to_its_bound(rows: tuple[Row, ...]) -> RoundingRecord | None:
    found = [(row, row.rounding) for row in rows if row.rounding is not None]
    if not found:
        return None
    row, rounding = max(found, key=lambda item: item[1].result / item[1].allowed)
    return RoundingRecord(row.sample, row.output, rounding.original, rounding.result, rounding.allowed)
