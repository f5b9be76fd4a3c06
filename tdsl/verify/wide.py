"""A graph run in float64 without a float64 copy of it: every weight is widened where it is read.

The largest weight, and what is alive at one time, is all that takes twice the room.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_aggregate

WIDE = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex64: torch.complex128,
}

_CONVOLUTIONS = frozenset(getattr(torch.ops.aten, f"conv{axes}d").default for axes in (1, 2, 3))
"""In float64 their kernels unfold the whole batch at once, which may take many times its room."""


def widened_value(value: Tensor) -> Tensor:
    """A tensor in float64 (or complex128) where it was narrower."""
    return value.to(WIDE[value.dtype]) if value.dtype in WIDE else value


def widened_graph(module: fx.GraphModule) -> fx.GraphModule:
    """`module` in float64, its weights shared with it."""
    graph = copy.deepcopy(module.graph)
    for node in list(graph.nodes):
        node.args = map_aggregate(node.args, _widened_dtype)
        node.kwargs = map_aggregate(node.kwargs, _widened_dtype)
        if node.op == "call_function" and node.target in _CONVOLUTIONS:
            node.args = (node.target, *node.args)
            node.target = _sample_by_sample
        for weight in node.all_input_nodes:
            if weight.op == "get_attr":
                with graph.inserting_before(node):
                    wide = graph.call_function(_widened_if_tensor, (weight,))
                node.replace_input_with(weight, wide)
    return fx.GraphModule(module, graph)


def _widened_dtype(value: Any) -> Any:
    return WIDE.get(value, value) if isinstance(value, torch.dtype) else value


def _widened_if_tensor(value: Any) -> Any:
    return widened_value(value) if isinstance(value, Tensor) else value


def _sample_by_sample(convolution: Any, x: Tensor, weight: Tensor, *rest: Any, **named: Any) -> Tensor:
    """The convolution of each entry of a batch on its own."""
    if x.dim() != weight.dim() or len(x) < 2:
        whole: Tensor = convolution(x, weight, *rest, **named)
        return whole
    return torch.cat([convolution(one, weight, *rest, **named) for one in torch.split(x, 1)])
