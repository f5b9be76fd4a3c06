"""Whether a graph is the one expected: the same operators on the same inputs, weights of equal values.

Names do not count, nor does whether a value that is needed twice is computed twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from tdsl.capture.normal import attribute
from tdsl.engine.sizes import same_value, sizes_of
from tdsl.ops.targets import calls, operator_of

CLOSE = 1e-9
"""Largest relative difference of two weights, in float64, that are the same one."""


class Expected:
    """A graph of inputs, weights (with `values`) and `free` names, which stand for any weight of a shape."""

    def __init__(
        self, module: fx.GraphModule, values: Mapping[str, torch.Tensor], free: frozenset[str]
    ) -> None:
        self.module = module
        self.values = values
        self.free = free
        self._computed: dict[fx.Node, torch.Tensor | None] = {}

    def weight(self, node: fx.Node) -> torch.Tensor | None:
        """What a node computes from weights alone; `None` if it needs an input."""
        if node not in self._computed:
            self._computed[node] = self._weight(node)
        return self._computed[node]

    def _weight(self, node: fx.Node) -> torch.Tensor | None:
        if node.op != "call_function":
            return self.values.get(str(node.target))
        parts = {operand: self.weight(operand) for operand in node.all_input_nodes}
        if not parts or any(part is None for part in parts.values()):
            return None
        target: Any = node.target
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda operand: parts[operand])
        result: torch.Tensor = target(*args, **kwargs)
        return result

    @property
    def names(self) -> list[str]:
        """What the inputs are called, weights and free names among them."""
        return [str(node.target) for node in self.module.graph.find_nodes(op="placeholder")]


class Comparison:
    """Compares the nodes of a found graph with those of an expected one."""

    def __init__(self, found: fx.GraphModule, expected: Expected) -> None:
        self.found = found
        self.expected = expected
        self.known: dict[tuple[fx.Node, fx.Node], bool] = {}
        self.meant: dict[str, fx.Node] = {}
        """Weights that free names stand for."""
        runtime = [n for n in expected.names if n not in expected.values and n not in expected.free]
        self.inputs = dict(zip(found.graph.find_nodes(op="placeholder"), runtime, strict=True))

    def same(self) -> bool:
        """Whether both compute the same outputs in the same way."""
        return self._argument(
            self.found.graph.output_node().args[0], self.expected.module.graph.output_node().args[0]
        )

    def _argument(self, found: Any, expected: Any) -> bool:
        if isinstance(found, fx.Node) and isinstance(expected, fx.Node):
            key = (found, expected)
            if key not in self.known:
                self.known[key] = self._node(found, expected)
            return self.known[key]
        if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
            return len(found) == len(expected) and all(map(self._argument, found, expected))
        return same_value(found, expected)

    def _node(self, found: fx.Node, expected: fx.Node) -> bool:
        weight = self.expected.weight(expected)
        if weight is not None and not (calls(found, "expand") and calls(expected, "expand")):
            return found.op == "get_attr" and same_weight(attribute(self.found, str(found.target)), weight)
        if expected.op == "placeholder":
            if expected.target in self.expected.free:
                fits = found.op == "get_attr" and sizes_of(found) == sizes_of(expected)
                return fits and self.meant.setdefault(str(expected.target), found) is found
            return self.inputs.get(found) == expected.target
        if found.op != "call_function" or found.target != expected.target:
            return False
        if found.kwargs.keys() != expected.kwargs.keys():
            return False
        if not all(self._argument(value, expected.kwargs[name]) for name, value in found.kwargs.items()):
            return False
        if self._argument(found.args, expected.args):
            return True
        op = operator_of(found.target)
        swapped = op is not None and op.commutative and len(found.args) >= 2
        return swapped and self._argument((found.args[1], found.args[0], *found.args[2:]), expected.args)


def same_weight(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have the same sizes, element type and, up to rounding, values."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    a, b = one.detach().double(), other.detach().double()
    bound = max(CLOSE, 4 * torch.finfo(one.dtype).eps)
    return not a.numel() or bool((a - b).abs().max() <= bound * max(float(b.abs().max()), 1e-30))
