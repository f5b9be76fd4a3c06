"""What the values of a graph take on a batch, told before it runs: attention grows with a text squared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from tdsl.engine.census import census
from tdsl.plan.execute import Batch

SHARE, LEAST = 2, 8 * 2**20
"""Bytes that are taken beside a model at once: its own over the share, or this many."""


def room_beside(module: fx.GraphModule) -> int:
    """Bytes that decompositions may take beside a model, or what its samples leave; a part of its own."""
    return max(LEAST, census(module).bytes // SHARE)


class Extent:
    """The sizes of a graph's values at those of a batch."""

    def __init__(self, inputs: Sequence[fx.Node], batch: Batch) -> None:
        """`inputs` are the placeholders that are tensors, in order; a batch may have other sizes."""
        self._sizes: dict[Any, int] = {}
        self._known: dict[Any, int] = {}
        for node, tensor in zip(inputs, batch, strict=False):
            for symbol, size in zip(node.meta["val"].shape, tensor.shape, strict=False):
                if isinstance(symbol, torch.SymInt) and symbol.node.expr.is_Symbol:
                    self._sizes[symbol.node.expr] = size

    def bytes(self, node: fx.Node) -> int:
        """What the value of a node takes; nothing for one that is no tensor."""
        described = node.meta.get("val")
        if not isinstance(described, Tensor):
            return 0
        return math.prod(map(self._number, described.shape)) * described.element_size()

    def most(self, graph: fx.Graph, keep: Iterable[fx.Node] = ()) -> int:
        """What is alive at once in a run that frees each value after its last use, but those of `keep`.

        Every value counts whole, also one that only looks at another. Weights do not count.
        """
        last = {operand: node for node in graph.nodes for operand in node.all_input_nodes}
        kept = set(keep)
        alive = most = 0
        for node in graph.nodes:
            if node.op == "call_function":
                alive += self.bytes(node)
                most = max(most, alive)
            for operand in node.all_input_nodes:
                if operand.op == "call_function" and last[operand] is node and operand not in kept:
                    alive -= self.bytes(operand)
        return most

    def _number(self, size: Any) -> int:
        """A size at this batch; as traced where it depends on more than the inputs."""
        if not isinstance(size, torch.SymInt):
            return int(size)
        expr = size.node.expr
        if expr not in self._known:
            found = expr.xreplace(self._sizes)
            told = isinstance(found, int) or found.is_number
            self._known[expr] = int(found if told else size.node.hint)
        return self._known[expr]
