"""A graph run in float64 without a float64 copy of it: every weight is widened where it is read.

What is alive at one time takes twice the room; of a dense layer, a convolution or a table it is a part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_aggregate

aten = torch.ops.aten

WIDE = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex64: torch.complex128,
}

PART = 2**18
"""Entries of a weight, or of an unfolded image, that are in float64 at one time where a step can be cut."""


def widened_value(value: Tensor) -> Tensor:
    """A tensor in float64 (or complex128) where it was narrower."""
    return value.to(WIDE[value.dtype]) if value.dtype in WIDE else value


def widened_graph(module: fx.GraphModule) -> fx.GraphModule:
    """`module` in float64, its weights shared with it."""
    return fx.GraphModule(module, _wide(module))


def widening_graph(module: fx.GraphModule) -> fx.GraphModule:
    """`widened_graph` of inputs that it widens itself, each freed after its last use."""
    graph = _wide(module)
    for node in graph.find_nodes(op="placeholder"):
        users = list(node.users)
        with graph.inserting_after(node):
            given = graph.call_function(_widened_if_tensor, (node,))
        for user in users:
            user.replace_input_with(node, given)
    return fx.GraphModule(module, graph)


def _wide(module: fx.GraphModule) -> fx.Graph:
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    graph.set_codegen(module.graph._codegen)  # shared: it knows no node, and a deep copy of it warns
    for node in list(graph.nodes):
        node.args = map_aggregate(node.args, _widened_dtype)
        node.kwargs = map_aggregate(node.kwargs, _widened_dtype)
        narrow = None
        if node.op == "call_function" and node.target in _IN_PARTS:
            place, step = _IN_PARTS[node.target]
            narrow = node.args[place]
            node.args = (node.target, *node.args)
            node.target = step
        for weight in node.all_input_nodes:
            if weight.op == "get_attr" and weight is not narrow:
                with graph.inserting_before(node):
                    wide = graph.call_function(_widened_if_tensor, (weight,))
                node.replace_input_with(weight, wide)
    return graph


def _widened_dtype(value: Any) -> Any:
    return WIDE.get(value, value) if isinstance(value, torch.dtype) else value


def _widened_if_tensor(value: Any) -> Any:
    return widened_value(value) if isinstance(value, Tensor) else value


# ---------------------------------------------------------------- steps that widen their weight part by part


def _looked_up(embedding: Any, table: Tensor, *rest: Any, **named: Any) -> Tensor:
    """The rows that are looked up in a table, in float64."""
    return widened_value(embedding(table, *rest, **named))


def _by_rows(linear: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A dense layer, some of its outputs at a time."""
    rows = max(1, PART // max(1, weight.shape[-1]))
    if weight.dim() != 2 or len(weight) <= rows:
        whole: Tensor = linear(x, widened_value(weight), bias)
        return whole
    result = x.new_empty(*x.shape[:-1], len(weight))
    for part, some in zip(torch.split(result, rows, -1), torch.split(weight, rows), strict=True):
        part.copy_(linear(x, widened_value(some), None))
    return result if bias is None else result.add_(bias)


def _by_channels(
    convolution: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any
) -> Tensor:
    """A convolution of one sample at a time, some of the input channels at a time where there are no groups.

    In float64 the kernels unfold the whole batch at once, which may take many times its room.
    """
    if x.dim() != weight.dim() or not x.numel():
        whole: Tensor = convolution(x, widened_value(weight), bias, *rest, **named)
        return whole
    unfolded = math.prod(weight.shape[2:]) * (math.prod(x.shape[2:]) + len(weight))
    channels = x.shape[1]
    if channels == weight.shape[1]:
        channels = min(channels, max(1, PART // unfolded))
    result: Tensor | None = None
    for image, kernel in zip(torch.split(x, channels, 1), torch.split(weight, channels, 1), strict=True):
        wide = widened_value(kernel)
        for i, one in enumerate(torch.split(image, 1)):
            (made,) = convolution(one, wide, None, *rest, **named)
            result = made.new_zeros(len(x), *made.shape) if result is None else result
            result[i] += made
    assert result is not None
    return result if bias is None else result.add_(bias.view(-1, *[1] * (x.dim() - 2)))


_IN_PARTS: Mapping[Any, tuple[int, Callable[..., Tensor]]] = {
    aten.embedding.default: (0, _looked_up),
    aten.linear.default: (1, _by_rows),
    **{getattr(aten, f"conv{axes}d").default: (1, _by_channels) for axes in (1, 2, 3)},
}
"""By operator: the place of a weight that the step widens itself, and the step."""
