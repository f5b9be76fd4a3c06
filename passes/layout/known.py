"""Values in a graph that depend on no input: masks and knots, made of weights or of nothing."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from tdsl.engine.workspace import Workspace
from tdsl.ops.targets import operator_of

LONGEST_CHAIN = 16
"""Operators in a row that such a value may be computed by."""


def known_value(work: Workspace, value: Any) -> Tensor | None:
    """What a node holds for all inputs, in float64 if it is floating point; `None` if they matter."""
    if not isinstance(value, fx.Node) or not _is_known(value, LONGEST_CHAIN):
        return None
    return _computed(work, value)


def _is_known(node: fx.Node, steps: int) -> bool:
    """Asked before anything is computed: most chains end at an input, and weights are large."""
    if node.op == "get_attr":
        return True
    op = operator_of(node.target) if node.op == "call_function" else None
    val = node.meta.get("val")
    if op is None or op.random or not steps or not isinstance(val, Tensor):
        return False
    if not all(isinstance(size, int) for size in val.shape):
        return False
    return all(_is_known(one, steps - 1) for one in node.all_input_nodes)


def _computed(work: Workspace, node: fx.Node) -> Tensor:
    if node.op == "get_attr":
        return work.evaluate(node)
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda one: _computed(work, one))
    result: Tensor = node.target(*args, **kwargs)  # type: ignore[operator]
    return result.double() if result.is_floating_point() else result
