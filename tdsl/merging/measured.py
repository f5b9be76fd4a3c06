"""How far the outputs of a merged model are from those of each model that it is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import fx

from tdsl.merging.merged import TaskErrors
from tdsl.plan.calibrate import Data
from tdsl.verify.compare import compare, over_outputs, over_samples

BATCHES = 48
"""Batches of each model that are measured on at most."""


def task_errors(
    merged: fx.GraphModule, average: fx.GraphModule, data: Sequence[Data], names: Sequence[str]
) -> tuple[TaskErrors, ...]:
    """The errors on the samples of each model, next to those of the average and of the other models."""
    modules = [one.captured.module for one in data]
    found = []
    for i, own in enumerate(data):
        others = [j for j in range(len(modules)) if j != i]
        errors = _errors(own, modules[i], [merged, average, *(modules[j] for j in others)])
        nearest = min(zip(errors[2:], others, strict=True), default=(math.inf, None))
        found.append(
            TaskErrors(
                names[i], errors[0], errors[1], nearest[0], "" if nearest[1] is None else names[nearest[1]]
            )
        )
    return tuple(found)


def worse_than_a_parent(tasks: Sequence[TaskErrors]) -> list[str]:
    """A warning for each model whose outputs another one reproduces better than the merged one does."""
    return [
        f"on the samples of {task.model} the merged model is {task.merged:.1%} from it, and "
        f"{task.nearest_model} only {task.nearest:.1%}: merging lost what they have in common"
        for task in tasks
        if task.merged > task.nearest
    ]


def _errors(data: Data, reference: fx.GraphModule, modules: Sequence[fx.GraphModule]) -> list[float]:
    differences = []
    for batch in data.batches[:BATCHES]:
        runs = [data.execution(module, batch) for module in (reference, *modules)]
        for run in runs:
            run.advance()
        expected, *results = [run.outputs for run in runs]
        differences.append(
            [[compare(a, b) for a, b in zip(expected, result, strict=True)] for result in results]
        )
    return [
        over_outputs(over_samples(one) for one in zip(*by_batch, strict=True)).error
        for by_batch in zip(*differences, strict=True)
    ]
