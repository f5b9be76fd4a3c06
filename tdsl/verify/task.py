"""What outputs are worth by labels: metrics of the user's task, of the original and of the file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tdsl.errors import TdslError, kind_of
from tdsl.spelling import did_you_mean
from tdsl.verify.runner import Runner, Tensors
from tdsl.verify.samples import Sample

Function = Callable[[Any, Any], Any]
"""`metric(output, labels)`, a number for a batch; tuples where the model has several outputs or labels."""

BINS = 15
"""Bins of equal width that confidences are sorted into."""
IGNORED = -100
"""The label that torch's losses ignore by default."""
SUMS_TO_ONE = 1e-3


@dataclass(frozen=True, slots=True)
class TaskMetric:
    """A metric by its name: one of `NAMED`, over all rows, or a user's, the mean over batches by samples."""

    name: str
    function: Function | None = None

    @classmethod
    def of(cls, wanted: str | Function) -> TaskMetric:
        """The metric that a user names or gives. Raises `TdslError` for anything else."""
        if callable(wanted):
            name = getattr(wanted, "__name__", type(wanted).__name__)
            return cls("metric" if name == "<lambda>" else name, wanted)
        if not isinstance(wanted, str) or wanted not in NAMED:
            said = (
                f"there is no metric {wanted!r}"
                if isinstance(wanted, str)
                else f"`metric` is {kind_of(wanted)}"
            )
            raise TdslError(
                said,
                expected=f"{', '.join(NAMED)}, or a function of (output, labels)",
                hint=did_you_mean(str(wanted), NAMED),
            )
        return cls(wanted)

    def of_batches(self, batches: Sequence[tuple[Tensors, Tensors, str]]) -> float:
        """The metric of some batches of (outputs, labels, what the batch is called).

        Raises `TdslError` for a batch that it fails on, and where no label counts.
        """
        if self.function is None:
            judged = [self._classes(*batch) for batch in batches]
            confidence, right = (torch.cat(column) for column in zip(*judged, strict=True))
            if not len(right):
                raise TdslError(
                    f"{self.name} has nothing to count: every label is {IGNORED}",
                    expected="held-out samples with labels that are classes",
                )
            return NAMED[self.name](confidence, right)
        values = [self._value(*batch) for batch in batches]
        counts = [_count(labels) for _, labels, _ in batches]
        return sum(v * n for v, n in zip(values, counts, strict=True)) / sum(counts)

    def try_on(self, outputs: Tensors, labels: Tensors, where: str) -> None:
        """Raise `TdslError`, which names the batch by `where`, for labels it cannot judge by."""
        if self.function is None:
            self._classes(outputs, labels, where)
        else:
            self._value(outputs, labels, where)

    def _classes(self, outputs: Tensors, labels: Tensors, where: str) -> tuple[Tensor, Tensor]:
        return _classified(alone(outputs), alone(labels), self.name, where)

    def _value(self, outputs: Tensors, labels: Tensors, where: str) -> float:
        assert self.function is not None
        try:
            value = float(self.function(alone(outputs), alone(labels)))
        except Exception as reason:
            said = (str(reason).splitlines() or [""])[0]
            raise TdslError(
                f"the metric {self.name} fails on {where}: {type(reason).__name__}: {said}",
                expected="a function of (output, labels) that gives a number for a batch",
            ) from None
        if not math.isfinite(value):
            raise TdslError(
                f"the metric {self.name} is {value:g} on {where}", expected="a finite number for every batch"
            )
        return value


@dataclass(frozen=True, slots=True)
class Task:
    """A metric of the original and of the file on as many labelled samples."""

    metric: str
    original: float
    result: float
    samples: int


def measured_tasks(
    metrics: Sequence[TaskMetric], original: Runner, file: Runner, samples: Iterable[Sample]
) -> tuple[Task, ...]:
    """Each metric of both on the held-out samples that have labels."""
    known = [sample for sample in samples if sample.kind == "held-out" and sample.labels]
    if not metrics or not known:
        return ()
    count = sum(_count(one.labels) for one in known)
    before, after = (
        [(tuple(run(one.inputs)), one.labels, f"{whose}{one.called or one.name}") for one in known]
        for run, whose in ((original, ""), (file, "what the file says of "))
    )
    return tuple(Task(one.name, one.of_batches(before), one.of_batches(after), count) for one in metrics)


def accuracy(confidence: Tensor, right: Tensor) -> float:
    """The share of rows whose most likely class is the label."""
    return float(right.double().mean())


def calibration_error(confidence: Tensor, right: Tensor) -> float:
    """How far confidence is from accuracy: the expected calibration error (Naeini et al., 2015).

    `confidence` and `right` [rows]; the mean over bins of equal width, weighted by their rows, of
    |accuracy − confidence| there, as Guo et al. (2017) measure networks.
    """
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gaps = torch.zeros(BINS, dtype=torch.float64)
    gaps.index_add_(0, bins, right.double() - confidence)
    return float(gaps.abs().sum() / len(confidence))


NAMED: dict[str, Callable[[Tensor, Tensor], float]] = {
    "accuracy": accuracy,
    "calibration_error": calibration_error,
}


def _count(labels: Tensors) -> int:
    """How many samples the labels of a batch are for."""
    return len(labels[0]) if labels[0].dim() else 1


def alone(tensors: Sequence[Tensor]) -> Any:
    """The only tensor, or a tuple of several."""
    return tensors[0] if len(tensors) == 1 else tuple(tensors)


def _classified(output: Any, labels: Any, name: str, where: str) -> tuple[Tensor, Tensor]:
    """For each row the probability of its most likely class, and whether that is the label.

    Classes run along the last axis, or along the second as in torch's losses.
    """
    rows = _rows(output, labels)
    if rows is None:
        shapes = [
            list(one.shape) if isinstance(one, Tensor) else "several tensors" for one in (output, labels)
        ]
        raise TdslError(
            f"{name} needs a score for each class and labels that are classes: "
            f"on {where} outputs are {shapes[0]}, labels {shapes[1]}",
            expected="outputs [batch, …, classes] or [batch, classes, …] and integers [batch, …]",
            hint="`metric=` also takes a function of (output, labels)",
        )
    scores, classes = rows
    kept = classes != IGNORED
    scores, classes = scores[kept].double(), classes[kept]
    stray = classes[(classes < 0) | (classes >= scores.shape[1])]
    if len(stray):
        count = scores.shape[1]
        raise TdslError(
            f"{name} cannot count a label {int(stray[0])} of {where}: "
            f"the outputs have scores for {count} classes",
            expected=f"labels from 0 to {count - 1}, or {IGNORED} for what is not to be counted",
        )
    likely = (
        scores.min() >= 0 and bool(((scores.sum(1) - 1).abs() < SUMS_TO_ONE).all()) if len(scores) else True
    )
    confidence, chosen = (scores if likely else scores.softmax(1)).max(1)
    return confidence, chosen == classes


def _rows(output: Any, labels: Any) -> tuple[Tensor, Tensor] | None:
    """Scores [rows, classes] and labels [rows]; `None` where these do not fit."""
    if not isinstance(output, Tensor) or not isinstance(labels, Tensor):
        return None
    if not output.is_floating_point() or labels.is_floating_point() or output.dim() != labels.dim() + 1:
        return None
    if output.shape[:-1] == labels.shape:
        return output.reshape(-1, output.shape[-1]), labels.reshape(-1)
    if output.dim() > 2 and output.shape[:1] + output.shape[2:] == labels.shape:
        return output.movedim(1, -1).reshape(-1, output.shape[1]), labels.reshape(-1)
    return None
