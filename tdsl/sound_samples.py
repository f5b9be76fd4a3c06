"""Samples that a user gave, tried once: what is no number spoils every sum that it goes into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from tdsl.capture import Captured
from tdsl.capture.normal import attribute
from tdsl.errors import TdslError
from tdsl.plan.calibrate import Data
from tdsl.plan.extent import room_beside
from tdsl.plan.finite import blamed, no_number
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

    `infinite` outputs may be allowed; where they are not, those are that do not depend on weights, as the
    scores of what is ruled out. An infinity that an input holds is right where outputs are numbers all the
    same, as in a mask of 0 and -inf.

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
                what = no_number(output)
                if what == "NaN" or (what and not infinite and not _put_in(captured, data, part, outputs)):
                    raise blamed(
                        captured.input_names, sample.inputs, f"the output {name} is {what} on {where}"
                    )
            if loss is not None and judged:
                loss(outputs, sample.labels, where)
            for metric in metrics if judged else ():
                metric.try_on(outputs, sample.labels, where)


def _put_in(captured: Captured, data: Data, inputs: Tensors, outputs: Tensors) -> bool:
    """Whether infinities of outputs stand there whatever the weights are, as scores of what is ruled out.

    Behind a logarithm of 0, or an exponential that overflows, they are not.
    """
    generator = torch.Generator().manual_seed(0)
    run = data.execution(captured.module, inputs)
    run.instead = {
        node: weight + weight.std() * torch.randn(weight.shape, generator=generator).to(weight.dtype)
        for node in captured.module.graph.find_nodes(op="get_attr")
        if isinstance(weight := attribute(captured.module, str(node.target)).detach(), Tensor)
        and weight.is_floating_point()
        and weight.numel() > 1
        and bool(weight.isfinite().all())
    }
    run.advance()
    return all(a.isfinite().equal(b.isfinite()) for a, b in zip(outputs, run.outputs, strict=True))
