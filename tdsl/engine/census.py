"""What a graph module is made of: operators, parameters, bytes, multiply–accumulates; and a copy of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import optimization_hint

from tdsl.capture.normal import weights_of
from tdsl.engine.frame import Frame, Variant
from tdsl.engine.functions import macs
from tdsl.engine.pattern import Pattern
from tdsl.engine.workspace import Workspace
from tdsl.ops.recurrent import GATES
from tdsl.ops.targets import operator_of


@dataclass(frozen=True, slots=True)
class Census:
    """Totals of a graph; `macs` is that of the traced example where sizes are dynamic."""

    nodes: int
    parameters: int
    bytes: int
    macs: int


def census(module: fx.GraphModule) -> Census:
    """Count the operators, the distinct weights and the multiply–accumulates of `module`."""
    work = Workspace(module)
    operators = tuple(node for node in module.graph.nodes if node.op == "call_function")
    weights: dict[tuple[int, int], torch.Tensor] = {}
    for tensor in weights_of(module).values():  # one and its transpose are one, parts of one memory several
        weights[tensor.data_ptr() or id(tensor), tensor.numel()] = tensor
    return Census(
        nodes=len(operators),
        parameters=sum(t.numel() for t in weights.values() if t.is_floating_point()),
        bytes=sum(t.numel() * t.element_size() for t in weights.values()),
        macs=macs_of(work, operators),
    )


def macs_of(work: Workspace, nodes: tuple[fx.Node, ...]) -> int:
    """Multiply–accumulates of some nodes of a graph, at the traced example where sizes are dynamic.

    What values decide, as the number of entries that are not zero, counts as 1.
    """
    total = macs(Frame(work, Variant(Pattern(()), (), {}, lambda _: ()), nodes, {}, {}), "lhs")
    return optimization_hint(total, fallback=1) if isinstance(total, torch.SymInt) else int(total)


def shared_weights(module: fx.GraphModule) -> list[str]:
    """The paths of matrices and kernels that several layers read: a rule for one layer leaves them alone."""
    return [
        str(node.target)
        for node in module.graph.find_nodes(op="get_attr")
        if isinstance(val := node.meta.get("val"), torch.Tensor)
        and val.dim() > 1
        and sum((op := operator_of(user.target)) is not None and op.name in _LAYERS for user in node.users)
        > 1
    ]


_LAYERS = frozenset(
    {"linear", *GATES} | {f"conv{kind}{axes}d" for kind in ("", "_transpose") for axes in (1, 2, 3)}
)


def copied(module: fx.GraphModule) -> fx.GraphModule:
    """A graph module with a graph of its own and the same weights; new parameters stay in the copy."""
    graph = fx.Graph()
    result = graph.graph_copy(module.graph, {})
    graph.output(result)
    old, new = module.graph.output_node(), graph.output_node()
    new.meta.update(old.meta)
    graph._codegen = module.graph._codegen
    return fx.GraphModule(module, graph)
