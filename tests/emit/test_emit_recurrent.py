"""Recurrent layers are single operators of the file, for sequences of every length, projections included."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import tdsl
from tdsl.capture import Captured, capture
from tdsl.emit import emit, run, session
from tdsl.errors import TdslError
from tdsl.verify.tolerance import CELL, steps_of

FEATURES, UNITS, PROJECTED = 12, 16, 5


class Read(nn.Module):
    """Everything that a layer gives, from given states or from zeros."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer
        with torch.no_grad():
            for weight in layer.parameters():  # so that states matter
                weight.mul_(2)

    def forward(self, x, state=None, cell=None):
        given = state if cell is None else (state, cell)
        outputs, last = self.layer(x, given)
        return (outputs, *last) if isinstance(last, tuple) else (outputs, last)


def inputs_of(layer: nn.RNNBase, batch: int, steps: int, given: bool) -> tuple[torch.Tensor, ...]:
    sizes = (batch, steps) if layer.batch_first else (steps, batch)
    x = torch.randn(*sizes, FEATURES)
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    states = [torch.randn(rows, batch, layer.proj_size or UNITS), torch.randn(rows, batch, UNITS)]
    return (x, *states[: 2 if isinstance(layer, nn.LSTM) else 1]) if given else (x,)


def of_any_size(layer: nn.RNNBase, given: bool) -> Captured:
    args = inputs_of(layer, 3, 7, given)
    names = ("batch", "steps") if layer.batch_first else ("steps", "batch")
    dynamic = [dict(enumerate(names)), {1: "batch"}, {1: "batch"}]
    named = dict(zip(("x", "state", "cell"), dynamic[: len(args)], strict=False))
    return capture(Read(layer).eval(), args, dynamic_shapes=named)


def assert_alike(captured: Captured, proto: onnx.ModelProto, args: tuple[torch.Tensor, ...]) -> None:
    with torch.no_grad():
        wanted = captured.original(*args)
    got = run(session(proto), dict(zip(captured.input_names, args, strict=True)))
    for array, tensor in zip(got.values(), wanted, strict=True):
        assert float(tensor.std()) > 0.01
        np.testing.assert_allclose(array, tensor.numpy(), rtol=0, atol=2e-5)


CASES = {
    "lstm": (nn.LSTM, {}, False),
    "lstm, two layers, both directions": (nn.LSTM, {"num_layers": 2, "bidirectional": True}, True),
    "projected": (nn.LSTM, {"proj_size": PROJECTED}, False),
    "projected, steps first": (nn.LSTM, {"proj_size": PROJECTED, "batch_first": False}, True),
    "projected, no biases": (nn.LSTM, {"proj_size": PROJECTED, "num_layers": 2, "bias": False}, False),
    "projected, both directions": (
        nn.LSTM,
        {"proj_size": PROJECTED, "num_layers": 2, "bidirectional": True},
        True,
    ),
    "gru, two layers, both directions": (nn.GRU, {"num_layers": 2, "bidirectional": True}, False),
    "rnn, two layers": (nn.RNN, {"num_layers": 2}, True),
    "rnn of relu, both directions, no biases": (
        nn.RNN,
        {"nonlinearity": "relu", "bidirectional": True, "bias": False},
        False,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_recurrent_layer_is_one_operator_for_every_length_and_batch(name):
    kind, options, given = CASES[name]
    layer = kind(FEATURES, UNITS, **{"batch_first": True, **options})
    captured = of_any_size(layer, given)
    proto = emit(captured)
    operators = Counter(node.op_type for node in proto.graph.node)
    assert operators[kind.__name__] == layer.num_layers
    for batch, steps in ((3, 7), (1, 1), (2, 31)):
        assert_alike(captured, proto, inputs_of(layer, batch, steps, given))


def test_a_first_state_that_no_output_could_leave_is_read_as_it_is():
    """The control: without the columns for it, or at another step, the outputs would be others."""
    layer = nn.LSTM(FEATURES, UNITS, batch_first=True, proj_size=PROJECTED, bidirectional=True)
    captured = of_any_size(layer, True)
    x, state, cell = inputs_of(layer, 2, 4, True)
    assert_alike(captured, emit(captured), (x, 30 * state, cell))
    with torch.no_grad():
        there, without = captured.original(x, 30 * state, cell), captured.original(x, 0 * state, cell)
    assert float((there[0] - without[0]).abs().max()) > 0.1


def test_a_projected_layer_of_one_size_needs_no_size_at_run_time():
    layer = nn.LSTM(FEATURES, UNITS, batch_first=True, proj_size=PROJECTED)
    args = inputs_of(layer, 3, 7, True)
    captured = capture(Read(layer).eval(), args)
    proto = emit(captured)
    assert not {"Shape", "Sub", "Cast"} & {node.op_type for node in proto.graph.node}
    assert_alike(captured, proto, args)


@pytest.mark.parametrize("opset", [18, 25])
def test_an_rnn_has_an_operator_in_every_operator_set(opset):
    layer = nn.RNN(FEATURES, UNITS, batch_first=True)
    captured = of_any_size(layer, False)
    proto = emit(captured, opset=opset)
    assert [node.op_type for node in proto.graph.node].count("RNN") == 1
    assert_alike(captured, proto, inputs_of(layer, 2, 5, False))


def test_a_projected_model_compiles_and_layers_of_any_length_are_rewritten():
    layer = nn.LSTM(FEATURES, UNITS, num_layers=2, batch_first=True, proj_size=PROJECTED)
    result = tdsl.compile(
        Read(layer).eval(),
        inputs_of(layer, 3, 7, False),
        dynamic_shapes={"x": {0: "batch", 1: "steps"}},
        latency=False,
    )
    assert result.report.correctness.passed
    assert [entry.rule for entry in result.report.rewrites].count("layout.recurrent_layers") == 1


def test_a_factorized_layer_takes_every_length():
    torch.manual_seed(0)
    layer = nn.GRU(48, 48, num_layers=2, batch_first=True)
    smaller = tdsl.factorize(
        Read(layer).eval(), (torch.randn(3, 7, 48),), rank=0.5, dynamic_shapes={"x": {0: "batch", 1: "steps"}}
    )
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in layer.parameters())
    assert smaller(torch.randn(2, 19, 48))[0].shape == (2, 19, 48)


def test_every_step_of_a_layer_may_round():
    layer = nn.GRU(FEATURES, UNITS, num_layers=3)
    captured = capture(Read(layer).eval(), (torch.randn(7, 2, FEATURES),))
    assert CELL * 3 * 7 <= steps_of(captured.module.graph) < CELL * 3 * 7 + 10


def test_a_packed_sequence_is_refused_at_its_line():
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(FEATURES, UNITS, batch_first=True)

        def forward(self, x, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
            return self.layer(packed)[0].data

    with pytest.raises(TdslError) as told:
        capture(Packed().eval(), (torch.randn(2, 4, FEATURES), torch.tensor([4, 2])))
    assert told.value.span is not None and "self.layer(packed)" in told.value.span.source.line(
        told.value.span.line
    )
    assert "padded batch" in (told.value.hint or "")
