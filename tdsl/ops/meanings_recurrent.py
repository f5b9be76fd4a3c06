"""Meanings of recurrences, their gates over oracles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tdsl.ops.meaning import MEANINGS, Algebra, Array, meaning
from tdsl.ops.meanings_linear import linear, shifted

State = tuple[Array, ...]
"""What a cell keeps: its output first."""
Cell = Callable[[Algebra, Array, State, Sequence[Array]], State]
"""One step: the input, the state before and the weights of a layer to the state after."""


def _gates(k: Algebra, x: Array, h: Array, weights: Sequence[Array]) -> tuple[Array, Array]:
    """What the input gives to each gate, and what the output before gives to it."""
    given = linear(k, x, weights[0], weights[2] if weights[2:] else None)
    kept = shifted(k, k.matmul(h, weights[1].transpose([1, 0])), weights[3] if weights[2:] else None)
    return given, kept


def _parts(x: Array, count: int) -> list[Array]:
    size = x.shape[-1] // count
    return [x[..., i * size : (i + 1) * size] for i in range(count)]


def _lstm_cell(k: Algebra, x: Array, state: State, weights: Sequence[Array]) -> State:
    """Hochreiter and Schmidhuber (1997)."""
    h, c = state
    i, f, g, o = _parts(k.add(*_gates(k, x, h, weights)), 4)
    i, f, o = (MEANINGS["sigmoid"](k, gate) for gate in (i, f, o))
    c = k.add(k.multiply(f, c), k.multiply(i, k.oracle("tanh", g)))
    return k.multiply(o, k.oracle("tanh", c)), c


def _gru_cell(k: Algebra, x: Array, state: State, weights: Sequence[Array]) -> State:
    """Cho et al. (2014)."""
    (h,) = state
    given, kept = _gates(k, x, h, weights)
    (r, z, n), (s, u, m) = _parts(given, 3), _parts(kept, 3)
    r, z = MEANINGS["sigmoid"](k, k.add(r, s)), MEANINGS["sigmoid"](k, k.add(z, u))
    new = k.oracle("tanh", k.add(n, k.multiply(r, m)))
    return (k.add(new, k.multiply(z, k.subtract(h, new))),)


def _simple_cell(function: Callable[[Algebra, Array], Array]) -> Cell:
    """Elman (1990)."""

    def cell(k: Algebra, x: Array, state: State, weights: Sequence[Array]) -> State:
        return (function(k, k.add(*_gates(k, x, state[0], weights))),)

    return cell


def _layers(
    k: Algebra,
    cell: Cell,
    x: Array,
    states: Sequence[Array],
    weights: Sequence[Array],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Array, list[Array]]:
    """The outputs of the last layer, and the last states of all, stacked.

    States are [layers · directions, batch, width]. A layer in two directions reads the outputs of both of the
    layer before, side by side. The last weight of a projected layer (Sak, Senior, Beaufays, 2014) is what its
    outputs are multiplied with before anything reads them.
    """
    if len(x.shape) != 3:
        raise NotImplementedError("a recurrence without a batch")
    directions = 2 if bidirectional else 1
    each = len(weights) // (num_layers * directions)
    projected = each > (4 if has_biases else 2)
    steps = [x[:, i] if batch_first else x[i] for i in range(x.shape[1 if batch_first else 0])]
    last: list[State] = []
    for layer in range(num_layers):
        both: list[list[Array]] = []
        for direction in range(directions):
            at = layer * directions + direction
            state: State = tuple(given[at] for given in states)
            outputs = []
            own = weights[each * at : each * (at + 1)]
            for step in steps[::-1] if direction else steps:
                state = cell(k, step, state, own[:-1] if projected else own)
                if projected:
                    state = (k.matmul(state[0], own[-1].transpose([1, 0])), *state[1:])
                outputs.append(state[0])
            last.append(state)
            both.append(outputs[::-1] if direction else outputs)
        steps = [k.concat(list(row), 1) if directions > 1 else row[0] for row in zip(*both, strict=True)]
    axis = 1 if batch_first else 0
    shape = steps[0].shape
    whole = k.concat([s.reshape([*shape[:axis], 1, *shape[axis:]]) for s in steps], axis)
    stacked = [
        k.concat([part.reshape([1, *part.shape]) for part in row], 0) for row in zip(*last, strict=True)
    ]
    return whole, stacked


@meaning
def lstm(
    k: Algebra,
    x: Array,
    states: list[Array],
    weights: list[Array],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Array, ...]:
    """The outputs, the last states and the last cells."""
    layers = (has_biases, num_layers, bidirectional, batch_first)
    outputs, (h, c) = _layers(k, _lstm_cell, x, states, weights, *layers)
    return outputs, h, c


def _with_one_state(cell: Cell) -> Any:
    def recurrence(
        k: Algebra,
        x: Array,
        state: Array,
        weights: list[Array],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Array, ...]:
        layers = (has_biases, num_layers, bidirectional, batch_first)
        outputs, (h,) = _layers(k, cell, x, [state], weights, *layers)
        return outputs, h

    return recurrence


MEANINGS.update(
    gru=_with_one_state(_gru_cell),
    rnn_tanh=_with_one_state(_simple_cell(lambda k, x: k.oracle("tanh", x))),
    rnn_relu=_with_one_state(_simple_cell(lambda k, x: MEANINGS["relu"](k, x))),
)
