"""Samples that a user gave, tried once: what is no number spoils every sum that it goes into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from tdsl.capture import Captured
from tdsl.errors import TdslError
from tdsl.plan.calibrate import ROOM, Data
from tdsl.plan.loss import Loss
from tdsl.samples import Given, parted_labels
from tdsl.verify import Tensors


def require_sound(
    captured: Captured,
    samples: Iterable[tuple[str, Given]],
    loss: Loss | None = None,
    *,
    infinite: bool = False,
) -> None:
    """Run the model on samples, each with what it is called (`calibration sample 3`), and then the loss.

    `infinite` outputs may be allowed. An infinity that an input holds is right where outputs are numbers all
    the same, as in a mask of 0 and -inf.

    Raises `TdslError` where an output or labels are NaN or infinite, with the input that is to blame, if it
    is one, and where the loss fails or is no finite number.
    """
    data = Data.of(captured, ())
    for where, sample in samples:
        if any(bool(label.isnan().any()) for label in sample.labels if label.is_floating_point()):
            raise TdslError(f"the labels of {where} hold NaN", expected="a number for every sample")
        parts = data.pieces(sample.inputs, ROOM, captured.module)
        for part, labels in zip(parts, parted_labels(sample.labels, parts), strict=True):
            run = data.execution(captured.module, part)
            run.advance()
            outputs = [out.detach() for out in run.outputs]
            for name, output in zip(captured.output_names, outputs, strict=False):
                what = _no_number(output)
                if what == "NaN" or (what and not infinite):
                    raise _told(
                        captured.input_names, sample.inputs, f"the output {name} is {what} on {where}"
                    )
            if loss is not None and labels and len(parts) == 1:  # a part of a mean may be one of nothing
                loss(outputs, labels, where)


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
