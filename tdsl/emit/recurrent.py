"""ONNX's RNN for `nn.RNN`, which torch's exporter unrolls step by step and for one length only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from onnxscript.onnx_opset import opset18

aten = torch.ops.aten
op: Any = opset18  # its stubs know neither lists as constants nor inputs that are left out


def _rnn(activation: str) -> Callable[..., Any]:
    """The lowering of stacked layers with that activation, in one direction or both."""

    def lowered(
        input: Any,
        hx: Any,
        params: Sequence[Any],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> Any:
        directions = 2 if bidirectional else 1
        each = (4 if has_biases else 2) * directions
        steps = op.Transpose(input, perm=[1, 0, 2]) if batch_first else input
        last = []
        for layer in range(num_layers):
            first = layer * directions
            state = hx if num_layers == 1 else op.Slice(hx, [first], [first + directions], [0])
            weights = _by_direction(params[layer * each : (layer + 1) * each], directions)
            outputs, final = op.RNN(
                steps,
                *weights,
                *([] if has_biases else [None]),
                None,
                state,
                activations=[activation] * directions,
                direction="bidirectional" if bidirectional else "forward",
                hidden_size=hx.shape[2],
            )
            # [steps, directions, batch, width] → [steps, batch, directions · width]
            steps = (
                op.Reshape(op.Transpose(outputs, perm=[0, 2, 1, 3]), [0, 0, -1])
                if bidirectional
                else op.Squeeze(outputs, [1])
            )
            last.append(final)
        whole = op.Transpose(steps, perm=[1, 0, 2]) if batch_first else steps
        return whole, last[0] if len(last) == 1 else op.Concat(*last, axis=0)

    return lowered


def _by_direction(params: Sequence[Any], directions: int) -> list[Any]:
    """The weights of the inputs, of the states, and the biases, if any, each with an axis of directions."""
    each = len(params) // directions
    own = [params[i * each : (i + 1) * each] for i in range(directions)]
    rows = [[w, r, *([op.Concat(*biases, axis=0)] if biases else [])] for w, r, *biases in own]
    return [_stacked([op.Unsqueeze(part, [0]) for part in column]) for column in zip(*rows, strict=True)]


def _stacked(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else op.Concat(*parts, axis=0)


LOWERINGS: Mapping[Any, Callable[..., Any]] = {
    aten.rnn_tanh.input: _rnn("Tanh"),
    aten.rnn_relu.input: _rnn("Relu"),
}
"""Lowerings that torch's registry lacks."""
