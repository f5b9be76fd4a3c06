"""Recurrent layers over whole sequences."""

from __future__ import annotations

from math import prod
from typing import Any

from tdsl.ops.spec import Operator, Shape, operator

_LAYERS = (
    "has_biases: bool, num_layers: int, dropout: float, train: bool, bidirectional: bool, batch_first: bool"
)

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""How many numbers a layer computes for each of its units at a step, by its operator."""


def _macs(x: Shape, weights: list[Shape], **_: Any) -> Any:
    """Every matrix of every layer and direction, at every step."""
    return prod(x[:-1]) * sum(prod(weight) for weight in weights if len(weight) == 2)


def _with_one_state(name: str, doc: str) -> Operator:
    return operator(
        f"{name}(x, state, weights..., {_LAYERS}) -> recurrent",
        aten=f"aten.{name}.input",
        results=2,
        macs=_macs,
        doc=doc,
    )


RECURRENT = (
    operator(
        f"lstm(x, states..., weights..., {_LAYERS}) -> lstm",
        aten="aten.lstm.input",
        results=3,
        macs=_macs,
        doc="Long short-term memory (Hochreiter, Schmidhuber, 1997): outputs, last state, last cell.",
    ),
    _with_one_state("gru", "Gated recurrent unit (Cho et al., 2014): the outputs, and the last state."),
    _with_one_state("rnn_tanh", "Recurrent layer with tanh (Elman, 1990): the outputs, and the last state."),
    _with_one_state("rnn_relu", "Recurrent layer with relu: the outputs, and the last state."),
)
