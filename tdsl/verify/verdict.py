"""The judgement of a file: original and result on the same inputs, against rounding bounds and a contract.

Always: the same number of outputs, the same shapes and dtypes, finite where the original is, and alive
(varying with the input where the original does). An exact pipeline may differ by rounding only, on every
sample. The contract's bounds hold on the held-out samples; without these, on all but the hard ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tdsl.errors import TdslError
from tdsl.verify.compare import Difference, Metrics, over_outputs, over_samples
from tdsl.verify.contract import METRICS, Bound, Contract, Violation, describe, violation
from tdsl.verify.runner import Runner
from tdsl.verify.samples import Kind, Sample
from tdsl.verify.tolerance import Double, double_bound, file_bound, unmeasured_bound
from tdsl.verify.trial import Measurement, Trial

NO_BOUNDS = Contract()
CAPTURE = "capture"
"""The metric of a violation by which a captured graph is not the model."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """Rounding of one output on one sample, relative to the output's ordinary size.

    `original` is the distance of the original to itself in float64 (`None`: not measured), `result`
    that of the file to the same reference, at most `allowed`. `in_double` compares the rewritten module
    with the original, both in float64 (`None`: not run), at most `allowed_in_double`. `allowed_original` is
    the most that rounding of the captured graph explains of `original`.
    """

    original: float | None
    result: float
    allowed: float
    in_double: float | None = None
    allowed_in_double: float | None = None
    allowed_original: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One output on one sample; `rounding` is there for exact pipelines only."""

    sample: str
    kind: Kind
    output: str
    difference: Difference
    rounding: Rounding | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found, and whether the file may be written.

    `judged` are the metrics on the samples that decide, `judged_on` names these and `judged_samples`
    counts them. `groups` holds the metrics of each kind of sample. `skipped` lists drawn samples that
    the original itself does not accept, with its reason. `warnings` are for people, and fail nothing.
    """

    violations: tuple[Violation, ...]
    rows: tuple[Row, ...]
    judged_on: str
    judged_samples: int
    judged: Metrics
    groups: tuple[tuple[Kind, Metrics], ...]
    contract: Contract
    exact: bool
    skipped: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every promise is kept."""
        return not self.violations

    def __str__(self) -> str:
        head = f"{'passed' if self.passed else 'FAILED'} on {self.judged_samples} {self.judged_on} samples"
        lines = [head, describe(self.violations), *(f"warning: {item}" for item in self.warnings)]
        return "\n".join(line for line in lines if line)


def verify(
    original: Runner,
    file: Runner,
    samples: Sequence[Sample],
    contract: Contract = NO_BOUNDS,
    *,
    exact: bool,
    double: Double | None = None,
    not_in_double: str = "",
    output_names: Sequence[str] = (),
    steps: int = 1,
) -> Verdict:
    """Run `original` and `file` on `samples` and judge.

    `exact` pipelines are held to rounding, as measured with `double`; `not_in_double` says why that is
    absent. `steps` is the number of operations of the model. Raises `TdslError` when the original fails
    on a sample that the user gave, or no sample is left.
    """
    trial = Trial(original, file, double if exact else None, tuple(output_names))
    for sample in samples:
        trial.run(sample)
    if not trial.measured and not trial.violations:
        raise TdslError("there is no sample to check the file on", hint="give an example the model accepts")
    rows = tuple(_row(measured, trial.measured, trial, exact, steps) for measured in trial.measured)
    kinds = tuple(dict.fromkeys(row.kind for row in rows))
    deciding: tuple[Kind, ...] = (
        ("held-out",) if "held-out" in kinds else ("example", "calibration", "random")
    )
    judged_rows = [row for row in rows if row.kind in deciding]
    judged = _metrics(judged_rows)
    warnings = [
        f"output '{name}' of the original does not vary over the samples: agreement says little"
        for name in trial.still_outputs()
    ]
    if exact and double is None:
        warnings.append(
            "rounding was not measured in float64" + (f": {not_in_double}" if not_in_double else "")
        )
    if not exact and not contract.bounds:
        warnings.append("an approximate pipeline without a contract: any error is accepted")
    return Verdict(
        violations=(
            *trial.violations,
            *_structure(rows),
            *_dead(trial),
            *(_rounding(rows) if exact else ()),
            *_broken_bounds(contract, judged, judged_rows),
        ),
        rows=rows,
        judged_on="held-out" if deciding == ("held-out",) else "example and random",
        judged_samples=len({row.sample for row in judged_rows}),
        judged=judged,
        groups=tuple((kind, _metrics([row for row in rows if row.kind == kind])) for kind in kinds),
        contract=contract,
        exact=exact,
        skipped=tuple(trial.skipped),
        warnings=tuple(warnings),
    )


# ---------------------------------------------------------------- rounding


def _row(measured: Measurement, others: Sequence[Measurement], trial: Trial, exact: bool, steps: int) -> Row:
    rounding = _rounding_of(measured, others, trial.double, steps) if exact else None
    sample = measured.sample
    return Row(sample.name, sample.kind, measured.output, measured.difference, rounding)


def _rounding_of(
    measured: Measurement, others: Sequence[Measurement], double: Double | None, steps: int
) -> Rounding:
    """Distances relative to the size of the output, and their bounds.

    On one sample an output can be small, and its measured condition lucky: the output's ordinary size
    and condition, over all samples that are not hard ones, are the least that is granted.
    """
    ordinary = [m for m in others if m.output == measured.output and m.sample.kind != "hard"]
    scale = max(m.size for m in (measured, *ordinary)) or 1.0
    result = measured.file_off / scale
    if double is None or measured.original_off is None:
        return Rounding(None, result, unmeasured_bound(measured.dtype, steps))
    granted = (measured, *ordinary)
    condition = max(m.original_off / scale for m in granted if m.original_off is not None)
    captured = [m.narrow_off / scale for m in granted if m.narrow_off is not None]
    found = Rounding(
        measured.original_off / scale,
        result,
        file_bound(condition, measured.dtype, steps),
        allowed_original=file_bound(max(captured), measured.dtype, steps) if captured else None,
    )
    if measured.rewritten_off is None:
        return found
    limit = double_bound(condition, measured.dtype, double.stored, steps)
    return replace(found, in_double=measured.rewritten_off / scale, allowed_in_double=limit)


# ---------------------------------------------------------------- judging


def _metrics(rows: Iterable[Row]) -> Metrics:
    by_output: dict[str, list[Difference]] = {}
    for row in rows:
        by_output.setdefault(row.output, []).append(row.difference)
    return over_outputs(over_samples(differences) for differences in by_output.values())


def _structure(rows: Iterable[Row]) -> Iterable[Violation]:
    """Shapes, dtypes and lost values: wrong whatever the pipeline promises; one report an output."""
    seen: set[tuple[str, str]] = set()
    for row in rows:
        findings = []
        if row.difference.mismatch:
            findings.append(("form", row.difference.mismatch))
        if row.difference.lost:
            findings.append(("finite", f"{row.difference.lost} values are not finite, the original's are"))
        for metric, message in findings:
            if (metric, row.output) not in seen:
                seen.add((metric, row.output))
                yield Violation(metric, row.sample, row.output, message)


def _dead(trial: Trial) -> Iterable[Violation]:
    """Outputs that follow the input in the original, and stand still in the file."""
    for name in trial.dead_outputs():
        yield Violation(
            "varies", "all", name, "the output is the same for every input, the original's is not"
        )


def _rounding(rows: Sequence[Row]) -> Iterable[Violation]:
    """For each output, the sample on which the file, and the module, is furthest beyond rounding."""
    for output in dict.fromkeys(row.output for row in rows):
        of_output = [(row, row.rounding) for row in rows if row.output == output and row.rounding]
        measured = (
            (
                CAPTURE,
                "the captured graph, in float64,",
                [(r, x.original, x.allowed_original) for r, x in of_output],
            ),
            (
                "rounding in float64",
                "the rewritten module, in float64,",
                [(r, x.in_double, x.allowed_in_double) for r, x in of_output],
            ),
            ("rounding", "the result", [(r, x.result, x.allowed) for r, x in of_output]),
        )
        for metric, what, values in measured:
            beyond = [(v / b, row, v, b) for row, v, b in values if v is not None and b is not None and v > b]
            if beyond:
                _, row, value, bound = max(beyond, key=lambda item: item[0])
                message = f"{what} is {value:.3g} away from the original, rounding explains {bound:.3g}"
                yield Violation(metric, row.sample, output, message, value, bound)


def _broken_bounds(contract: Contract, judged: Metrics, rows: Sequence[Row]) -> Iterable[Violation]:
    for bound in contract.bounds:
        measured: float = getattr(judged, bound.metric)
        if not bound.holds(measured):
            row = _worst_row(bound, rows)
            yield violation(bound, measured, row.sample if row else "none", row.output if row else "")


def _worst_row(bound: Bound, rows: Sequence[Row]) -> Row | None:
    """The row that is worst in the metric of `bound`; one where it is not defined before any other."""
    sign = -1 if METRICS[bound.metric].lower_is_worse else 1

    def badness(row: Row) -> float:
        value: float = getattr(over_samples([row.difference]), bound.metric)
        return math.inf if math.isnan(value) else sign * value

    return max(rows, key=badness, default=None)
