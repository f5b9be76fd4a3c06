"""Runs a graph node by node on one batch, so that its inner values can be looked at on the way.

Staged replacements are evaluated in the same run: what a rewrite would compute, on the values at hand.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from tdsl.capture.captured import Captured
from tdsl.capture.normal import attribute
from tdsl.engine.staged import Constant, Filled, Staged, Value, map_values

Batch = tuple[Tensor, ...]
"""The tensor inputs of a model, in order."""


class Execution:
    """One batch on its way through a graph: the values that later nodes still need.

    `advance` computes nodes in order. A value is dropped after its last use unless `keep` names its node;
    with `gradients` the values of those nodes can be differentiated.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        leaves: Sequence[Any],
        keep: Iterable[fx.Node] = (),
        *,
        gradients: bool = False,
    ) -> None:
        self.module = module
        self.values: dict[fx.Node, Any] = {}
        self.sizes: dict[Any, int] = {}
        self.keep = set(keep)
        self.gradients = gradients
        self.instead: Mapping[fx.Node, Any] = {}
        """Values that some nodes have instead of what they compute."""
        self._leaves = iter(leaves)
        self._next: fx.Node = next(iter(module.graph.nodes))
        self._last_use = {operand: node for node in module.graph.nodes for operand in node.all_input_nodes}

    def advance(self, until: fx.Node | None = None) -> None:
        """Compute every node before `until`, if it is not behind already; to the end without it."""
        if until is not None and until.op != "root" and until < self._next:
            return
        with torch.set_grad_enabled(self.gradients):
            while self._next is not until and self._next.op != "root":
                self._step(self._next)
                self._next = self._next.next

    def release(self, node: fx.Node) -> None:
        """Keep the value of `node` no longer than the graph needs it."""
        self.keep.discard(node)
        last = self._last_use.get(node)
        if last is None or last < self._next:
            self.values.pop(node, None)

    def fork(self, instead: Mapping[fx.Node, Any]) -> Execution:
        """A run of its own from here on, in which values that are known already are others."""
        other = copy.copy(self)
        other.keep = set(self.keep)
        other.values = {**self.values, **instead}
        return other

    @property
    def outputs(self) -> list[Tensor]:
        """The tensors among the results, once the run is through."""
        result = self.values[self.module.graph.output_node()]
        return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]

    def value(self, value: Any) -> Any:
        """What a node, or a staged term over nodes and constants, comes to on this batch."""
        if isinstance(value, fx.Node):
            if value in self.values:
                return self.values[value]
            if value.op == "get_attr":
                return attribute(self.module, str(value.target)).detach()
            raise KeyError(f"the value of {value.name} is not kept")
        if isinstance(value, Constant):
            return value.values.to(value.dtype)
        if isinstance(value, Filled):
            return torch.full(tuple(self._plain(value.sizes)), value.fill, dtype=value.dtype)
        assert isinstance(value, Staged)
        args = self._plain(map_values(value.args, self.value))
        kwargs = self._plain(map_values(value.kwargs, self.value))
        return value.target(*args, **kwargs)

    def _step(self, node: fx.Node) -> None:
        match node.op:
            case _ if node in self.instead:
                other = self.instead[node]
                self.values[node] = self.value(other) if isinstance(other, fx.Node | Value) else other
            case "placeholder":
                self.values[node] = self._placeholder(node, next(self._leaves))
            case "get_attr":
                self.values[node] = attribute(self.module, str(node.target))
                if isinstance(self.values[node], Tensor):
                    self.values[node] = self.values[node].detach()
            case "output":
                self.values[node] = fx.node.map_arg(node.args[0], self.values.__getitem__)
            case _:
                args = fx.node.map_arg(node.args, self.values.__getitem__)
                kwargs = fx.node.map_arg(node.kwargs, self.values.__getitem__)
                assert callable(node.target)
                self.values[node] = node.target(*args, **kwargs)
        if self.gradients and node in self.keep:
            self._watch(node)
        for operand in dict.fromkeys(node.all_input_nodes):
            if self._last_use[operand] is node and operand not in self.keep:
                self.values.pop(operand, None)

    def _watch(self, node: fx.Node) -> None:
        value = self.values[node]
        if isinstance(value, Tensor) and value.is_floating_point() and not value.requires_grad:
            self.values[node] = value.detach().requires_grad_()  # a sample stays as the user gave it

    def _placeholder(self, node: fx.Node, value: Any) -> Any:
        """`value`, its dynamic sizes remembered by their symbols."""
        described = node.meta.get("val")
        if isinstance(value, Tensor) and isinstance(described, Tensor):
            for symbol, size in zip(described.shape, value.shape, strict=True):
                if isinstance(symbol, torch.SymInt) and symbol.node.expr.is_Symbol:
                    self.sizes[symbol.node.expr] = size
        return value

    def _plain(self, value: Any) -> Any:
        """`value` with symbolic sizes replaced by those of this batch."""
        if isinstance(value, torch.SymInt):
            return int(value.node.expr.xreplace(self.sizes))
        if isinstance(value, list | tuple):
            return type(value)(self._plain(v) for v in value)
        if isinstance(value, dict):
            return {name: self._plain(v) for name, v in value.items()}
        return value


def leaves_of(captured: Captured) -> Callable[[Batch], list[Any]]:
    """How a batch becomes the values of the graph's inputs: tensors replaced, everything else as traced."""
    pattern = pytree.tree_leaves((captured.args, captured.kwargs))

    def fill(batch: Batch) -> list[Any]:
        given = iter(batch)
        return [next(given) if isinstance(leaf, Tensor) else leaf for leaf in pattern]

    return fill
