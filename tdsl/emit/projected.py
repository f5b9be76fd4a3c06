"""Recurrent layers with projections (`nn.LSTM(proj_size=…)`) by layers without, which ONNX has.

With hₜ = P·mₜ and mₜ = oₜ ⊙ tanh(cₜ) (Sak, Senior, Beaufays, 2014) the gates read H·hₜ₋₁ = (H·P)·mₜ₋₁: m is
what a layer with the recurrent weight H·P puts out, and P its projection. The first state h₀ need not be P·m
for any m. Where it is not zero the inputs have columns of their own for it, zero but at the first step.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from operator import getitem
from typing import Any

import torch
from torch import fx

from tdsl.emit.inserting import Inserter
from tdsl.ops.targets import operator_of

aten = torch.ops.aten
LSTM = aten.lstm.input


def without_projections(node: fx.Node) -> None:
    """Put layers without projections in the place of an LSTM that has some; another one stays as it is."""
    args: tuple[Any, ...] = node.args
    x, (h, c), weights, has_biases, layers, _, _, bidirectional, batch_first = args
    directions = 2 if bidirectional else 1
    each = len(weights) // (layers * directions)
    if each == (4 if has_biases else 2):
        return
    with Inserter(node) as insert:
        stack = _Stack(insert, directions, has_biases, batch_first)
        states: list[fx.Node] = []
        cells: list[fx.Node] = []
        for layer in range(layers):
            own = [
                weights[i * each : (i + 1) * each]
                for i in range(layer * directions, (layer + 1) * directions)
            ]
            x, state, cell = stack.layer(x, stack.rows(h, layer), stack.rows(c, layer), own)
            states.append(state)
            cells.append(cell)
        results = (x, _joined(insert, states), _joined(insert, cells))
    for taker in list(node.users):
        index: Any = taker.args[1]
        taker.replace_all_uses_with(results[index])
        node.graph.erase_node(taker)
    node.graph.erase_node(node)
    for result in results:
        _forget(result)


@dataclass(frozen=True)
class _Stack:
    insert: Inserter
    directions: int
    has_biases: bool
    batch_first: bool

    @property
    def time(self) -> int:
        """The axis of steps."""
        return 1 if self.batch_first else 0

    def rows(self, states: fx.Node, layer: int) -> fx.Node:
        """The initial states of one layer, of those of all. [layers · directions, batch, width]"""
        if states.meta["val"].shape[0] == self.directions:
            return states
        first = layer * self.directions
        return self.insert.call(aten.slice.Tensor, states, 0, first, first + self.directions)

    def layer(
        self, x: Any, h: fx.Node, c: fx.Node, weights: Sequence[Sequence[fx.Node]]
    ) -> tuple[fx.Node, fx.Node, fx.Node]:
        """The outputs, last state and last cell of one layer; `weights` are those of each direction."""
        call = self.insert.call
        projections = [own[-1] for own in weights]
        inputs = [own[0] for own in weights]
        if not _is_zero(h):
            x = call(aten.cat.default, [x, *self._at_first_steps(x, h)], 2)
            inputs = [self._with_columns(own, i) for i, own in enumerate(weights)]
        flat = [
            part
            for given, (_, recurrent, *rest) in zip(inputs, weights, strict=True)
            for part in (given, self._product(recurrent, rest[-1]), *rest[:-1])
        ]
        start = c if _is_zero(c) else call(aten.zeros_like.default, c)
        outputs, state, cell = self._recurrence(x, start, c, flat)
        found = [
            call(aten.linear.default, self._own(outputs, i), projection)
            for i, projection in enumerate(projections)
        ]
        last = [
            call(aten.linear.default, self._row(state, i), projection)
            for i, projection in enumerate(projections)
        ]
        return self._side_by_side(found, 2), self._side_by_side(last, 0), cell

    def _recurrence(
        self, x: fx.Node, h: fx.Node, c: fx.Node, weights: list[fx.Node]
    ) -> tuple[fx.Node, fx.Node, fx.Node]:
        """The three results of one layer without projections."""
        given, cell = x.meta["val"], c.meta["val"]
        width = cell.shape[2] * self.directions
        values = (given.new_empty((*given.shape[:2], width)), cell, cell)
        options = (self.has_biases, 1, 0.0, False, self.directions == 2, self.batch_first)
        made = self.insert.described(values, LSTM, x, [h, c], weights, *options)
        first, second, third = (self.insert.described(v, getitem, made, i) for i, v in enumerate(values))
        return first, second, third

    def _at_first_steps(self, x: fx.Node, h: fx.Node) -> list[fx.Node]:
        """For each direction its initial state, at the step that it reads first, and zeros at the others."""
        call, steps = self.insert.call, x.meta["val"].shape[self.time]
        others: Any = steps - 1
        if not isinstance(steps, int):
            others = call(operator.sub, call(aten.sym_size.int, x, self.time), 1)
        axes = [0, 0] * (2 - self.time)  # counted from the last, as padding is
        spread = []
        for i in range(self.directions):
            step = call(aten.unsqueeze.default, call(aten.select.int, h, 0, i), self.time)
            around = [others, 0] if i else [0, others]
            sizes = [steps if axis == self.time else n for axis, n in enumerate(step.meta["val"].shape)]
            value = step.meta["val"].new_empty(sizes)
            spread.append(
                self.insert.described(value, aten.constant_pad_nd.default, step, [*axes, *around], 0.0)
            )
        return spread

    def _with_columns(self, weights: Sequence[fx.Node], direction: int) -> fx.Node:
        """The weight of the inputs and, beside it, what a direction's gates read of the initial states."""
        columns = [
            weights[1] if i == direction else self.insert.call(aten.zeros_like.default, weights[1])
            for i in range(self.directions)
        ]
        return self.insert.call(aten.cat.default, [weights[0], *columns], 1)

    def _product(self, a: fx.Node, b: fx.Node) -> fx.Node:
        """A product of weights, rounded once."""
        call, exact = self.insert.call, {"dtype": torch.float64}
        wide = [call(aten._to_copy.default, weight, **exact) for weight in (a, b)]
        return call(aten._to_copy.default, call(aten.matmul.default, *wide), dtype=a.meta["val"].dtype)

    def _own(self, outputs: fx.Node, direction: int) -> fx.Node:
        """What one direction puts out."""
        if self.directions == 1:
            return outputs
        width = outputs.meta["val"].shape[2] // 2
        return self.insert.call(aten.slice.Tensor, outputs, 2, direction * width, (direction + 1) * width)

    def _row(self, state: fx.Node, direction: int) -> fx.Node:
        if self.directions == 1:
            return state
        return self.insert.call(aten.slice.Tensor, state, 0, direction, direction + 1)

    def _side_by_side(self, parts: list[fx.Node], axis: int) -> fx.Node:
        return parts[0] if len(parts) == 1 else self.insert.call(aten.cat.default, parts, axis)


def _is_zero(state: fx.Node) -> bool:
    """Whether an initial state is one of zeros, of some layers perhaps."""
    op = operator_of(state.target) if state.op == "call_function" else None
    if op is not None and op.name == "slice":
        return isinstance(source := state.args[0], fx.Node) and _is_zero(source)
    return op is not None and op.name == "zeros"


def _joined(insert: Inserter, parts: list[fx.Node]) -> fx.Node:
    """The states of all layers."""
    return parts[0] if len(parts) == 1 else insert.call(aten.cat.default, parts, 0)


def _forget(node: fx.Node) -> None:
    """Erase a node that nobody reads, and what only it needs."""
    if node.op != "call_function" or node.users or node._erased:
        return
    sources = node.all_input_nodes
    node.graph.erase_node(node)
    for source in sources:
        _forget(source)
