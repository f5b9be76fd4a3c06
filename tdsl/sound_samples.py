"""Samples that a user gave, tried once: what is no number spoils every sum that it goes into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from tdsl.capture import Captured
from tdsl.errors import TdslError
from tdsl.plan.calibrate import Data
from tdsl.plan.extent import room_beside
from tdsl.plan.loss import Loss
from tdsl.samples import Given
from tdsl.verify import TaskMetric, Tensors


def require_sound(
    captured: Captured,
    samples: Iterable[Given],
    loss: Loss | None = None,
    metrics: Sequence[TaskMetric] = (),
    *,
    infinite: bool = False,
) -> None:
    """Run the model on samples, and then what looks at their labels: the loss and the metrics.

    `infinite` outputs may be allowed. An infinity that an input holds is right where outputs are numbers all
    the same, as in a mask of 0 and -inf.

    Raises `TdslError`, which names the sample, where an output or labels are NaN or infinite, with the input
    that is to blame, if it is one, and where the loss or a metric fails or is no number.
    """
    data, room = Data.of(captured, ()), room_beside(captured.module)
    for sample in samples:
        where = sample.called
        if any(bool(label.isnan().any()) for label in sample.labels if label.is_floating_point()):
            raise TdslError(f"the labels of {where} hold NaN", expected="a number for every sample")
        # A loss is the mean over all samples of a batch.
        judged = bool(sample.labels) and (loss is not None or bool(metrics))
        parts = [sample.inputs] if judged else data.pieces(sample.inputs, room, captured.module)
        for part in parts:
            run = data.execution(captured.module, part)
            run.advance()
            outputs = tuple(out.detach() for out in run.outputs)
            for name, output in zip(captured.output_names, outputs, strict=False):
                what = _no_number(output)
                if what == "NaN" or (what and not infinite):
                    raise _told(
                        captured.input_names, sample.inputs, f"the output {name} is {what} on {where}"
                    )
            if loss is not None and judged:
                loss(outputs, sample.labels, where)
            for metric in metrics if judged else ():
                metric.try_on(outputs, sample.labels, where)


def _no_number(value: Tensor) -> str:
    """`NaN` or `infinite` where some of a value is that."""
    if not (value.is_floating_point() or value.is_complex()) or bool(value.isfinite().all()):
        return ""
    return "NaN" if bool(value.isnan().any()) else "infinite"


def _told(names: Sequence[str], inputs: Tensors, message: str) -> TdslError:
    """The error, with the first place of an input that is no number."""
    for name, value in zip(names, inputs, strict=False):
        if what := _no_number(value):
            wrong = torch.isnan(value) if what == "NaN" else torch.isinf(value)
            at = torch.nonzero(wrong)[0].tolist()
            held = "NaN" if what == "NaN" else "an infinity"
            return TdslError(
                f"{message}: its input {name} holds {held}",
                expected="samples of numbers that the model can compute with",
                hint=f"{name}{at} is the first of {int(wrong.sum())}: leave the sample out, "
                "or put numbers there",
            )
    return TdslError(
        f"{message}, though its inputs are numbers",
        expected="samples on which the model gives numbers",
        hint="the model itself makes it, as the logarithm of 0 does: leave the sample out, or mend the model",
    )
