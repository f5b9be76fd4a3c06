"""Steps that are timed: at the sizes asked for, each for what it adds to a file."""

from __future__ import annotations

import math

import pytest
import torch
from plan_models import drawn
from torch import nn

from tdsl.capture import capture
from tdsl.engine.workspace import Workspace
from tdsl.errors import TdslError
from tdsl.plan import timing
from tdsl.plan.latency import LatencyTable
from tdsl.plan.steps import Step, steps_of
from tdsl.plan.steps import Tensor as Operand


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).flatten(0, 1)


CAPTURED = capture(Net(), (drawn(4, 3, 10, 10),), dynamic_shapes=({0: "batch"},))
AXES = [axis for axes in CAPTURED.dynamic_axes for axis in axes.values()]


def shapes(table: LatencyTable) -> list[tuple[int, ...]]:
    nodes = [node for node in CAPTURED.module.graph.nodes if node.op == "call_function"]
    return [step.result for step in table.steps(Workspace(CAPTURED.module), nodes) if step.name != "sym_size"]


def test_steps_are_of_the_sizes_that_the_table_is_told() -> None:
    table = LatencyTable(sizes={"batch": 1})
    table.bind(AXES)
    assert shapes(table)[0] == (1, 8, 10, 10) and shapes(table)[-1] == (8, 10, 10)
    table.bind(AXES)
    as_traced = LatencyTable()
    as_traced.bind(AXES)
    assert shapes(as_traced)[0] == (4, 8, 10, 10) and shapes(as_traced)[-1] == (32, 10, 10)


def test_an_axis_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(TdslError, match="bach = 1") as refused:
        LatencyTable(sizes={"bach": 1}).bind(AXES)
    assert "batch" in str(refused.value)


def test_sizes_are_written_and_read(tmp_path) -> None:
    LatencyTable({"a": 1.0}, sizes={"batch": 1}).write(tmp_path / "profile.json")
    assert LatencyTable.read(tmp_path / "profile.json").sizes == {"batch": 1}


def convolution() -> Step:
    [node] = [n for n in CAPTURED.module.graph.nodes if "conv2d" in str(n.target)]
    [step] = steps_of(Workspace(CAPTURED.module), [node])
    return step


def test_copies_of_a_step_add_up() -> None:
    """Two copies share their input, have weights of their own, and differ from one alone."""
    step = convolution()
    image = {"x": drawn(4, 3, 10, 10).numpy()}
    [alone] = timing.copies_of(step, 1).run(None, image)
    [both] = timing.copies_of(step, 2).run(None, image)
    assert alone.shape == both.shape == (4, 8, 10, 10)
    assert abs(both - alone).max() > 0.1 and abs(both - 2 * alone).max() > 0.1


def test_a_convolution_is_charged_for_what_a_second_one_adds(monkeypatch) -> None:
    found = iter([timing.Timing(10e-6, 3e-7), timing.Timing(14e-6, 4e-7)])
    monkeypatch.setattr(timing, "timed", lambda call: next(found))
    seconds, spread = timing.measure(convolution())
    assert math.isclose(seconds, 4e-6) and math.isclose(spread, 5e-7)


def test_a_dense_layer_is_not_charged_for_the_run(monkeypatch) -> None:
    monkeypatch.setattr(timing, "timed", lambda call: timing.Timing(10e-6))
    monkeypatch.setattr(timing, "_seconds_per_run", lambda: 4e-6)
    x, weight = Operand((2, 6), torch.float32, False), Operand((3, 6), torch.float32, True)
    step = Step("linear", (("x", x), ("weight", weight)), (2, 3))
    assert math.isclose(timing.measure(step).seconds, 6e-6)
