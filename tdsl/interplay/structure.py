"""Keys of graphs that are equal where the graphs compute the same in the same way.

Names do not count, nor does the order of operands of a commutative operator or how a sum is bracketed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from tdsl.capture.normal import attribute
from tdsl.ops import Operator
from tdsl.ops.targets import operator_of

DIGITS = 6
"""Significant digits of weights that are the same in two states."""


def term_key(module: fx.GraphModule) -> str:
    """The outputs as terms: weights by their shapes; whether a value is computed twice does not count."""
    return _Keys(module, values=False).outputs()


def state_key(module: fx.GraphModule) -> str:
    """The graph as it is: weights by their values, and how many operators there are."""
    return f"{_Keys(module, values=True).outputs()} {size(module)}"


def size(module: fx.GraphModule) -> int:
    """How many operators the graph has."""
    return sum(node.op == "call_function" for node in module.graph.nodes)


class _Keys:
    def __init__(self, module: fx.GraphModule, values: bool) -> None:
        self.module = module
        self.values = values
        self.known: dict[fx.Node, str] = {}
        self.inputs = {node: i for i, node in enumerate(module.graph.find_nodes(op="placeholder"))}

    def outputs(self) -> str:
        for node in self.module.graph.nodes:
            if node.op != "output":
                self.known[node] = _digest(self._node(node))
        return _digest(self._argument(self.module.graph.output_node().args[0]))

    def _node(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return "input", self.inputs[node]
        if node.op == "get_attr":
            return self._weight(attribute(self.module, str(node.target)))
        operator = operator_of(node.target)
        if operator is None:
            return str(node.target), self._argument(node.args), self._argument(list(node.kwargs.items()))
        if _is_sum(operator, node):
            return operator.name, sorted(self._summands(operator, node))
        args = [self._shaped(operator, i, node) for i in range(len(node.args))]
        if operator.commutative and len(args) >= 2:
            args[:2] = sorted(args[:2], key=repr)
        return operator.name, args, self._argument(list(node.kwargs.items()))

    def _shaped(self, operator: Operator, place: int, node: fx.Node) -> Any:
        """An argument; a shape that is asked for is the one that comes out."""
        params = [p for p in operator.params if not p.keyword_only]
        if place < len(params) and params[place].kind == "shape":
            return tuple(node.meta["val"].shape)
        return self._argument(node.args[place])

    def _summands(self, operator: Operator, node: fx.Node) -> Iterator[str]:
        for operand in node.args:
            if isinstance(operand, fx.Node) and operand.target == node.target and _is_sum(operator, operand):
                yield from self._summands(operator, operand)
            else:
                yield repr(self._argument(operand))

    def _weight(self, value: torch.Tensor) -> Any:
        described = ("weight", tuple(value.shape), str(value.dtype))
        if not self.values:
            return described
        return *described, [f"{v:.{DIGITS}g}" for v in value.detach().double().reshape(-1).tolist()]

    def _argument(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self.known[value]
        if isinstance(value, list | tuple):
            return [self._argument(v) for v in value]
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return str(value) if isinstance(value, torch.dtype) else value


def _is_sum(operator: Operator, node: fx.Node) -> bool:
    return operator.commutative and operator.associative and len(node.args) == 2 and not node.kwargs


def _digest(value: Any) -> str:
    return hashlib.blake2b(repr(value).encode(), digest_size=12).hexdigest()
