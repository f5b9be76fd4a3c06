"""Laws of recurrent layers: shapes of their results, and of all of their weights."""

from __future__ import annotations

from typing import Any

from tdsl.ops.laws import Shapes, law, require, require_same
from tdsl.ops.recurrent import GATES
from tdsl.ops.spec import Operator, Shape

OPTIONS = ("has_biases", "bidirectional", "num_layers", "batch_first")
"""Attributes that shapes depend on."""


def _outputs(
    op: Operator,
    x: Shape,
    state: Shape,
    cell: Shape,
    weights: list[Shape],
    has_biases: bool,
    bidirectional: bool,
    num_layers: int,
    batch_first: bool,
) -> Shape:
    """The shape of the outputs.

    Raises `ShapeMismatch` for what does not fit; torch itself reads beyond weights that are too small.
    """
    directions = 2 if bidirectional else 1
    require(len(x) == 3, f"{x} is no batch of sequences")
    require(len(state) == len(cell) == 3, f"states {state} and {cell} are not those of layers")
    each, remainder = divmod(len(weights), num_layers * directions)
    plain = 4 if has_biases else 2
    projected = each == plain + 1 and op.name == "lstm"
    require(not remainder and (each == plain or projected), f"{len(weights)} weights for {num_layers} layers")
    width, hidden, rows = state[-1], cell[-1], GATES[op.name] * cell[-1]
    before = (num_layers * directions, x[0 if batch_first else 1])
    for first in (state, cell):
        require_same(first[:-1], before, f"a state {first} for {before[0]} layers and {before[1]} sequences")
    if not projected:
        require(width == hidden, f"outputs of {width} features from {hidden} units")
    own: list[Shape] = [(rows, width), *[(rows,)] * (2 if has_biases else 0), *[(width, hidden)] * projected]
    below = [x[-1]] * directions + [directions * width] * (directions * (num_layers - 1))
    wanted = [shape for inputs in below for shape in ((rows, inputs), *own)]
    for weight, shape in zip(weights, wanted, strict=True):
        require_same(weight, shape, f"a weight {weight} of a recurrent layer where {shape} belongs")
    return (*x[:-1], directions * width)


@law
def lstm(op: Operator, x: Shape, states: list[Shape], weights: list[Shape], **rest: Any) -> Shapes:
    """The outputs, the last state and the last cell."""
    require(len(states) == 2, f"{len(states)} states in the place of a state and a cell")
    state, cell = states
    given = {key: rest[key] for key in OPTIONS}
    # A projected state is as wide as the outputs, the cell as wide as the layer.
    return _outputs(op, x, state, cell, weights, **given), state, cell


@law
def recurrent(op: Operator, x: Shape, state: Shape, weights: list[Shape], **rest: Any) -> Shapes:
    """The outputs and the last state."""
    given = {key: rest[key] for key in OPTIONS}
    return _outputs(op, x, state, state, weights, **given), state
