"""Symbolic sizes as graph nodes: a `SymInt` in a replacement becomes the node that computes it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Protocol

import sympy
import torch
from torch import fx

from tdsl.engine.staged import CannotStage

_SIZE = torch.ops.aten.sym_size.int
_FUNCTIONS: dict[type, Callable[[Any, Any], Any]] = {
    sympy.Add: operator.add,
    sympy.Mul: operator.mul,
    sympy.Pow: operator.mul,
}


class Place(Protocol):
    """Where new nodes go: behind `last`, which moves on."""

    last: fx.Node

    def place(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], val: Any) -> fx.Node:
        """Append a node."""
        ...


class SizeNodes:
    """Finds or makes the nodes that compute symbolic sizes in one graph."""

    def __init__(self, graph: fx.Graph) -> None:
        self.graph = graph
        self._known: dict[Any, list[fx.Node]] | None = None

    def plain(self, value: Any, at: Place) -> Any:
        """`value` as an argument of a node: symbolic integers as the nodes that compute them, lists alike.

        Raises `CannotStage` for a size that is no sum or product of sizes of earlier nodes, and for other
        numbers that vary (half a size, a root of it): no operator of a graph computes those.
        """
        if isinstance(value, torch.SymInt):
            return self._node(value.node.expr, value, at)
        if isinstance(value, torch.SymFloat | torch.SymBool):
            raise CannotStage(f"the number {value} cannot be computed from the inputs here")
        if isinstance(value, list | tuple):
            return type(value)(self.plain(item, at) for item in value)
        return value

    def _node(self, expr: Any, size: torch.SymInt, at: Place) -> fx.Node | int:
        if expr.is_Integer:
            return int(expr)
        found = self._existing(expr, at)
        if found is not None:
            return found
        function = _FUNCTIONS.get(type(expr))
        if function is None or not _factors(expr):
            raise CannotStage(f"the size {expr} cannot be computed from the inputs here")
        first, *others = (self._node(arg, size, at) for arg in _factors(expr))
        total: Any = first
        for part in others:
            val = function(*(p.meta["val"] if isinstance(p, fx.Node) else p for p in (total, part)))
            total = at.place(function, (total, part), {}, val)
        return total  # type: ignore[no-any-return]

    def _existing(self, expr: Any, at: Place) -> fx.Node | None:
        """A node before the place that computes a size, made from the first value that has it if need be."""
        known = self._sizes()
        for node in known.get(expr, ()):
            if not node._erased and not at.last < node:
                return node
        for node in self.graph.nodes:
            if at.last < node:
                break
            val = node.meta.get("val")
            for axis, extent in enumerate(val.shape if isinstance(val, torch.Tensor) else ()):
                if isinstance(extent, torch.SymInt) and extent.node.expr == expr:
                    with self.graph.inserting_after(node):
                        made = self.graph.call_function(_SIZE, (node, axis))
                    made.meta["val"] = extent
                    known.setdefault(expr, []).append(made)
                    if at.last is node:
                        at.last = made
                    return made
        return None

    def _sizes(self) -> dict[Any, list[fx.Node]]:
        """Nodes of the graph that compute a symbolic size, by its expression."""
        if self._known is None:
            self._known = {}
            for node in self.graph.nodes:
                if isinstance(val := node.meta.get("val"), torch.SymInt):
                    self._known.setdefault(val.node.expr, []).append(node)
        return self._known


def _factors(expr: Any) -> tuple[Any, ...]:
    """The operands of a sum or product, a whole power as a product; empty for any other power."""
    if not isinstance(expr, sympy.Pow):
        return tuple(expr.args)
    return (expr.base,) * int(expr.exp) if expr.exp.is_Integer and expr.exp > 0 else ()
