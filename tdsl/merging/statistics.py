"""What the samples of one model say about its weights: moments around its products, Fisher information."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, fx

from tdsl.engine.statistics import Answers
from tdsl.merging.objective import Form, damped
from tdsl.merging.uses import Use
from tdsl.plan.calibrate import Data, collect
from tdsl.plan.cotangents import gradients

PROBES = 4
"""Random cotangents of the outputs for each batch."""


def moments(data: Data, uses: Iterable[Sequence[Use]], *, with_gradients: bool) -> Answers:
    """The statistics that the products of a model ask for, in one pass over its data."""
    requests = [request for many in uses for use in many for request in use.requests(with_gradients)]
    return collect(data.captured.module, data, requests) if requests else Answers({})


def form_of(use: Use, known: Answers, damping: float, scale: float | None, *, bias: bool) -> Form:
    """How much an error of a weight costs at one of its products.

    Without gradients it is the squared error of the product, ‖D·x‖². With them, times `scale`, it is what
    that does to the outputs to first order, the factors taken as independent (Martens & Grosse, 2015). With
    `bias` D has that as its last column.
    """
    backward = None
    if scale is not None:
        backward = damped(known.answer(use.gradient_moment) * scale, damping)
    if use.table:
        often = known.answer(use.frequency)[:, None]
        return Form(entries=often + damping * float(often.mean()), right=backward)
    second = known.answer(use.second_moment)
    if bias:
        first = known.answer(use.first_moment)[:, None]
        one = torch.ones(1, 1, dtype=torch.float64)
        second = torch.cat([torch.cat([second, first], 1), torch.cat([first.T, one], 1)])
    return Form(left=backward, right=damped(second, damping))


def samples_in_a_batch(data: Data) -> float:
    """The mean: gradients are those of outputs relative to the size of the outputs of a whole batch."""
    sizes = [max((len(t) for t in batch if t.dim()), default=1) for batch in data.batches]
    return sum(sizes) / max(1, len(sizes))


def fisher_diagonals(
    data: Data,
    weights: Iterable[str],
    progress: Callable[[str], None] = lambda stage: None,
) -> Mapping[str, Tensor]:
    """For every number of some weights, what an error of it does to the outputs: the diagonal of E[JᵀJ].

    J is the Jacobian of the outputs of a batch, relative to their size, with respect to the weights. With
    random cotangents v, independent of one another, E[(Jᵀv)²] is that diagonal, summed over the samples of a
    batch (Bekas, Kokiopoulou, Saad, 2007; as Fisher information that of a Gaussian): no labels are needed.
    Float64, of the shapes of the weights.
    """
    module = data.captured.module
    wanted = set(weights)
    nodes: dict[str, fx.Node] = {
        str(node.target): node
        for node in module.graph.find_nodes(op="get_attr")
        if str(node.target) in wanted
    }
    sums: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(data.seed)
    for number, batch in enumerate(data.batches, start=1):
        progress(f"gradients: batch {number} of {len(data.batches)}")
        run = data.execution(module, batch, nodes.values(), gradients=True)
        run.advance()
        if not any(out.requires_grad for out in run.outputs):
            continue
        values = [run.values[node] for node in nodes.values()]
        for _ in range(PROBES):
            for path, gradient in zip(nodes, gradients(run, values, generator), strict=True):
                square = gradient.double().square()
                sums[path] = sums[path].add_(square) if path in sums else square
    count = max(1, PROBES * len(data.batches))
    return {path: total / count for path, total in sums.items()}
