"""One walk over a graph that writes down how every operator ties the axes of its operands and results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from tdsl.errors import TdslError
from tdsl.ops.spec import Operator
from tdsl.ops.targets import operator_of
from tdsl.symmetry.hidden import (  # noqa: F401 — each registers its laws
    contracting,
    moving,
    recurring,
    selecting,
    windows,
)
from tdsl.symmetry.hidden.carrying import by_facts
from tdsl.symmetry.hidden.flow import AXIS_LAWS, Call, Value
from tdsl.symmetry.hidden.layout import Axes
from tdsl.symmetry.hidden.relation import Relation
from tdsl.symmetry.hidden.settling import settle_value
from tdsl.symmetry.hidden.sizes import Sizes
from tdsl.symmetry.hidden.system import Site, System


@dataclass(slots=True)
class Inference:
    """The axes of every value of a graph, and the equations between them."""

    module: fx.GraphModule
    system: System
    values: dict[fx.Node, Value | None]

    def axes(self, node: fx.Node) -> Axes:
        """The axes of a node that is one tensor, in terms of atoms."""
        value = self.values.get(node)
        return tuple(map(self.system.resolve, value)) if isinstance(value, tuple) else ()

    def weights(self) -> list[fx.Node]:
        """The nodes that read a parameter or a buffer."""
        return [node for node in self.module.graph.nodes if node.op == "get_attr" and self.axes(node)]


def infer(module: fx.GraphModule, open_outputs: frozenset[int] = frozenset()) -> Inference:
    """Tie the axes of all values of a graph in normal form, which must have shapes.

    Blocks that something tells apart (queries, keys and values in one weight) are found in a first walk and
    followed one by one in the next. Outputs with the numbers `open_outputs` do not pin their axes. Raises
    `TdslError` where the graph has no shapes.
    """
    selectors: frozenset[Site] = frozenset()
    while True:
        found = _Walk(module, selectors, open_outputs).run()
        system = found.system
        apart = {site for site, outer in system.splits if system.pin_of(outer) is not None}
        if apart <= selectors:
            return found
        selectors |= apart


class _Walk:
    def __init__(
        self, module: fx.GraphModule, selectors: frozenset[Site], open_outputs: frozenset[int]
    ) -> None:
        self.module = module
        self.open_outputs = open_outputs
        self.system = System(selectors)
        self.sizes = Sizes()
        self.values: dict[fx.Node, Value | None] = {}
        self.relations: list[Relation] = []

    def run(self) -> Inference:
        for node in self.module.graph.nodes:
            self.system.node = node
            self.values[node] = self._value(node)
            self._settle(self.values[node])
        before = -1
        while before != self.system.changes:
            before = self.system.changes
            for value in self.values.values():
                self._settle(value)
            for relation in self.relations:
                relation.restrict(self.system)
        return Inference(self.module, self.system, self.values)

    def _settle(self, value: Value | None) -> None:
        for axes in [value] if isinstance(value, tuple) else value or []:
            settle_value(self.system, axes)

    def _value(self, node: fx.Node) -> Value | None:
        if node.op == "output":
            for i, operand in enumerate(pytree.tree_leaves(node.args[0])):
                if isinstance(operand, fx.Node) and i not in self.open_outputs:
                    self._pin(self.values[operand], "a graph output")
            return None
        if node.op == "placeholder":
            return self._opaque(node, "a graph input")
        if node.op == "get_attr":
            return self._fresh(node)
        op = operator_of(node.target)
        if op is not None and op.name == "getitem":
            whole, index = self.values.get(node.args[0]), node.args[1]  # type: ignore[arg-type]
            return whole[index] if isinstance(whole, list) and isinstance(index, int) else None
        if op is not None and _computes_tensors(node):
            found = self._by_law(node, op)
            if found is not None:
                return found
        elif not _computes_tensors(node):
            return None  # a size; sizes do not change under permutations
        name = op.name if op is not None else str(node.target)
        for operand in node.all_input_nodes:
            self._pin(self.values[operand], f"{name} may see the order of the axis")
        return self._opaque(node, f"{name} may put the axis in any order")

    def _by_law(self, node: fx.Node, op: Operator) -> Value | None:
        arguments: dict[str, Any] = {param.name: param.default for param in op.params}
        for param, value in zip(op.params, node.args, strict=False):
            arguments[param.name] = value
        arguments.update(node.kwargs)
        for param in op.operands:
            arguments[param.name] = self._operand(arguments[param.name])
        call = Call(node, op, arguments, self.system, self.sizes, self.relations)
        found = AXIS_LAWS[op.name](call) if op.name in AXIS_LAWS else by_facts(call)
        if isinstance(found, tuple) and tuple(map(self.system.size, found)) != call.shape:
            return None
        return found

    def _operand(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self.values.get(value)
        if isinstance(value, (list, tuple)):
            return [self._operand(item) for item in value]
        return None

    def _fresh(self, node: fx.Node) -> Value | None:
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            return None
        return tuple(self.system.fresh(size) for size in self.sizes.shape(value))

    def _opaque(self, node: fx.Node, reason: str) -> Value | None:
        value = node.meta.get("val")
        if value is None:
            raise TdslError(
                f"the graph has no shapes: node {node.name} has no value",
                hint="capture the model with example inputs: `tdsl.capture.capture(model, args)`",
            )
        listed: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
        found = [
            tuple(self.system.pinned(size, reason) for size in self.sizes.shape(item))
            if isinstance(item, torch.Tensor)
            else ()
            for item in listed
        ]
        return found if isinstance(value, (list, tuple)) else found[0]

    def _pin(self, value: Value | None, reason: str) -> None:
        for axes in [value] if isinstance(value, tuple) else value or []:
            for layout in axes:
                self.system.pin(layout, reason)


def _computes_tensors(node: fx.Node) -> bool:
    value = node.meta.get("val")
    listed = value if isinstance(value, (list, tuple)) else [value]
    return value is None or any(isinstance(item, torch.Tensor) for item in listed)
