"""Graphs of an example in the words of the example: what was expected, and what came out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from tdsl.capture.normal import attribute
from tdsl.engine.example_graph import Drawn
from tdsl.engine.same_graph import Expected, same_weight
from tdsl.engine.unparse import NOWHERE, NotExpressible, equations
from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.example import Example
from tdsl.ops.targets import DTYPES

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Words:
    """What weights are called: as the example calls one of equal values, or by a new name and their type."""

    def __init__(self, example: Example, drawn: Drawn, expected: Expected) -> None:
        self.outputs = example.outputs
        self.inputs = tuple(drawn.inputs)
        self.taken = {*drawn.inputs, *drawn.weights, *example.free}
        self.free = dict(example.free)
        self.known: list[tuple[tree.Expr, torch.Tensor]] = [
            (_name(name), value) for name, value in drawn.weights.items()
        ]
        self.known += _computed(expected)
        self.given: dict[fx.Node, tree.Expr] = {}

    def text(self, module: fx.GraphModule) -> tuple[tree.Equation, ...]:
        """The outputs of a graph in the language. Raises `TdslError` where it has no words for it."""
        placeholders = module.graph.find_nodes(op="placeholder")
        self.given = dict(zip(placeholders, map(_name, self.inputs), strict=True))

        def leaf(node: fx.Node) -> tree.Expr | None:
            if node.op == "get_attr" and node not in self.given:
                self.given[node] = self._weight(attribute(module, str(node.target)))
            return self.given.get(node)

        results: Any = module.graph.output_node().args[0]
        try:
            return equations(list(zip(self.outputs, results, strict=True)), leaf, self.taken)
        except NotExpressible as reason:
            raise TdslError(f"the result has no form in the language: {reason}") from None

    def _weight(self, values: torch.Tensor) -> tree.Expr:
        for term, value in self.known:
            if same_weight(values, value):
                return term
        sizes = tuple(values.shape)
        name = next((n for n, leaf in self.free.items() if leaf.sizes == sizes), None)
        if name is not None:
            del self.free[name]
        else:
            name = next(n for i in itertools.count(1) if (n := f"c{i}") not in self.taken)
            self.taken.add(name)
        dtype = None if values.dtype is torch.float64 else _NAMES.get(values.dtype)
        return _weight_of(name, sizes, dtype)


def _name(name: str) -> tree.Name:
    return tree.Name(id=name, span=NOWHERE)


def _weight_of(name: str, sizes: Sequence[int], dtype: str | None) -> tree.Declared:
    dims = tuple(tree.Constant(value=size, span=NOWHERE) for size in sizes)
    written = tree.TensorType(const=True, dtype=dtype, dims=dims, span=NOWHERE)
    return tree.Declared(name=name, type=written, span=NOWHERE)


def expected_text(example: Example, expected: Expected) -> tuple[tree.Equation, ...]:
    """The expected side in the words that the result is shown in."""
    free = {name: _weight_of(name, leaf.sizes, leaf.dtype) for name, leaf in example.free.items()}

    def leaf(node: fx.Node) -> tree.Expr | None:
        name = str(node.target)
        return free.get(name, _name(name)) if node.op == "placeholder" else None

    results: Any = expected.module.graph.output_node().args[0]
    return equations(list(zip(example.outputs, results, strict=True)), leaf, expected.names)


def _computed(expected: Expected) -> list[tuple[tree.Expr, torch.Tensor]]:
    """Terms of weights on the expected side, and their values."""
    found: list[tuple[tree.Expr, torch.Tensor]] = []
    for node in expected.module.graph.nodes:
        value = expected.weight(node) if node.op == "call_function" else None
        if value is not None:
            found.append((equations([("", node)], _input_name)[-1].term, value))
    return found


def _input_name(node: fx.Node) -> tree.Name | None:
    return _name(str(node.target)) if node.op == "placeholder" else None
