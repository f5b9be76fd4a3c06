"""Plans on recurrent layers, whose operator has several results: gates that read few numbers are found."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from plan_models import drawn, planned
from torch import Tensor, nn

import tdsl
from tdsl.capture import Captured, capture
from tdsl.emit import run, session
from tdsl.engine.census import census, copied
from tdsl.engine.journal import Journal

PLAN = """
pipeline small {
    choose factorize.recurrent.*, factorize.recurrent_projected.*
        minimize error
        subject to parameters <= 60%
    check error <= 100%
}
"""


KINDS: dict[str, Callable[..., nn.RNNBase]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn": partial(nn.RNN, nonlinearity="tanh"),
    "rnn of relu": partial(nn.RNN, nonlinearity="relu"),
    "projected": partial(nn.LSTM, proj_size=5),
    "unbiased projected": partial(nn.LSTM, proj_size=5, bias=False),
}
UNITS = {"rnn": 24, "rnn of relu": 24}
"""How many units a layer has, so that rank 4 of what it reads is a gain; 8 of others, which have gates."""


class Recurrent(nn.Module):
    """A layer that reads `rank` directions of 48 inputs; `None` for all of them."""

    def __init__(self, kind: str, rank: int | None) -> None:
        super().__init__()
        self.cells = KINDS[kind](48, UNITS.get(kind, 8), batch_first=True)
        weight = self.cells.weight_ih_l0
        if rank is not None:
            weight.data = drawn(len(weight), rank, seed=1) @ drawn(rank, 48, seed=2) / 20

    def forward(self, x: Tensor) -> Tensor:
        return self.cells(x)[0]


def traced(kind: str, rank: int | None, free: bool) -> Captured:
    torch.manual_seed(0)
    sizes = {"x": {0: "batch"}} if free else None
    return capture(Recurrent(kind, rank).eval(), (drawn(4, 6, 48),), dynamic_shapes=sizes)


def batches() -> list[tuple[Tensor, ...]]:
    return [(drawn(4, 6, 48, seed=20 + i),) for i in range(12)]


@pytest.mark.parametrize(("kind", "free"), [*((kind, True) for kind in KINDS), ("lstm", False)])
def test_planted_gates_are_found_whether_the_batch_is_free_or_not(kind, free) -> None:
    captured = traced(kind, 4, free)
    runner, planner = planned(captured, PLAN, batches())
    module, journal = copied(captured.module), Journal()
    runner.run(module, journal)
    [entry] = journal.entries
    assert entry.details["r"] == 4 and census(module).parameters <= 0.6 * census(captured.module).parameters
    assert census(module).macs < census(captured.module).macs
    assert planner.measure(module).error < 1e-5
    # Control: gates that read everything lose by it.
    captured = traced(kind, None, free)
    runner, planner = planned(captured, PLAN, batches())
    module = copied(captured.module)
    runner.run(module, Journal())
    assert planner.measure(module).error > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_computes_the_same_for_sequences_of_another_length(kind) -> None:
    model = Recurrent(kind, 4).eval()
    result = tdsl.compile(
        model,
        (drawn(4, 6, 48),),
        dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1, max=16), 1: "steps"}},
        pipeline="pipelines.compact",
        parameters={"size": 0.6, "drop": 1e-4},
        calibration=batches(),
        latency=False,
    )
    assert result.report.correctness.passed
    rule = {
        "lstm": "lstm_input",
        "projected": "lstm_input_projected",
        "unbiased projected": "lstm_input_unbiased_projected",
    }.get(kind, "recurrent_input")
    assert f"whitened_{rule}" in {r.rule.rpartition(".")[2] for r in result.report.rewrites}
    longer = drawn(3, 11, 48, seed=5)
    [got] = run(session(result.onnx), {"x": longer}).values()
    with torch.no_grad():
        np.testing.assert_allclose(got, model(longer).numpy(), rtol=0, atol=1e-5)


class Stack(nn.Module):
    """Two layers in both directions, whose gates read `rank` directions of what they are given."""

    def __init__(self, kind: str, rank: int, biased: bool) -> None:
        super().__init__()
        self.cells = KINDS[kind](48, 16, num_layers=2, bidirectional=True, bias=biased, batch_first=True)
        for layer, width in enumerate((48, 2 * (self.cells.proj_size or 16))):
            shared = drawn(rank, width, seed=layer) / 5
            for i, end in enumerate(("", "_reverse")):
                weight = getattr(self.cells, f"weight_ih_l{layer}{end}")
                weight.data = drawn(len(weight), rank, seed=2 + i) @ shared / 4

    def forward(self, x: Tensor) -> Tensor:
        return self.cells(x)[0]


@pytest.mark.parametrize(
    ("kind", "biased", "size"),
    [*itertools.product(("lstm", "gru", "rnn"), (True, False), (0.5,)), ("projected", False, 0.35)],
)
def test_every_layer_of_a_stack_in_both_directions_is_a_site(kind, biased, size) -> None:
    model = Stack(kind, 4, biased).eval()
    result = tdsl.compile(
        model,
        (drawn(4, 6, 48),),
        dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1, max=16)}},
        pipeline="pipelines.compact",
        parameters={"size": size, "drop": 1e-4},
        calibration=batches(),
        latency=False,
    )
    found = [r.rule.rpartition(".")[2] for r in result.report.rewrites if "_input_both" in r.rule]
    family = "recurrent" if kind in ("gru", "rnn") else "lstm"
    end = "_unbiased" * (not biased) + "_projected" * (kind == "projected")
    assert found == [f"whitened_{family}_input_both{end}"] * 2
    assert result.report.result.parameters <= size * result.report.original.parameters


@pytest.mark.parametrize("kind", KINDS)
def test_one_call_factorizes_every_layer_of_a_stack_and_is_exact_at_the_planted_rank(kind) -> None:
    model, x = Stack(kind, 4, True).eval(), drawn(3, 6, 48, seed=9)
    module = tdsl.factorize(model, (x,), rank=4)
    width = model.cells.weight_ih_l1.shape[1]
    assert {tuple(p.shape) for p in module.parameters() if len(p) == 4} == {(4, 48), (4, width)}
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)
        # Control: at rank 2 something is lost.
        lost = tdsl.factorize(model, (x,), rank=2)(x) - expected
    assert lost.norm() > 0.01 * expected.norm()


def test_a_plan_that_breaks_its_contract_is_blamed_where_layers_had_to_stand_alone_first() -> None:
    with pytest.raises(tdsl.BrokenContract) as told:
        tdsl.compile(
            Stack("rnn", 4, True).eval(),
            (drawn(4, 6, 48),),
            dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1, max=16)}},
            pipeline="pipelines.compact",
            parameters={"size": 0.4, "drop": 1e-4},  # less than rank 4, which is what the layers read
            calibration=batches(),
            latency=False,
        )
    assert "whitened_recurrent_input_both" in (told.value.hint or "")
