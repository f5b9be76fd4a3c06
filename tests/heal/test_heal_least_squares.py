"""Recovery by least squares: it helps on data it has not seen, leaves the original alone, and aims right."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "plan"))

from plan_models import batches, drawn, perceptron, planned
from torch import nn

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.errors import TdslError

TRUNCATED = """
pipeline cut {
    once factorize.linear.svd_linear(rank=%s)
    %s
    check error <= 100%%
}
"""


def run(rank: str, heal: str):
    captured = perceptron(None)
    text = TRUNCATED % (rank, heal)
    runner, planner = planned(captured, text, batches(40, 32))
    module = copied(captured.module)
    runner.run(module, Journal())
    return captured, planner, module


def test_recovery_lowers_the_error_on_data_it_has_not_seen() -> None:
    _, planner, plain = run("40%", "")
    _, _, healed = run("40%", "heal least_squares")
    before, after = planner.measure(plain).error, planner.measure(healed).error
    assert before > 0.05
    assert after < 0.8 * before
    assert {n: p.shape for n, p in plain.named_parameters()} == {
        n: p.shape for n, p in healed.named_parameters()
    }


def test_the_original_keeps_its_weights() -> None:
    captured, _, healed = run("40%", "heal least_squares")
    fresh = perceptron(None)
    for a, b in zip(captured.module.parameters(), fresh.module.parameters(), strict=True):
        assert torch.equal(a, b)
    theirs = {p.data_ptr() for p in captured.module.parameters()}
    changed = [n for n, p in healed.named_parameters() if "svd" in n]
    assert changed and not {healed.get_parameter(n).data_ptr() for n in changed} & theirs


def test_every_factor_reports_its_error_before_and_after() -> None:
    _, planner, _ = run("40%", "heal least_squares")
    assert [h.node for h in planner.healed] == ["linear_4", "linear_6", "linear_8"] or len(
        planner.healed
    ) == 3
    assert all(h.after <= h.before for h in planner.healed)
    assert any(h.after < 0.9 * h.before for h in planner.healed)


def test_a_module_without_approximations_is_left_as_it_is() -> None:
    captured = perceptron(None)
    runner, planner = planned(captured, "pipeline p { heal least_squares }", batches())
    module = copied(captured.module)
    runner.run(module, Journal())
    assert planner.healed == []
    for a, b in zip(captured.module.parameters(), module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_without_data_nothing_is_recovered() -> None:
    captured = perceptron(None)
    runner, _ = planned(captured, TRUNCATED % ("40%", "heal least_squares"), [])
    with pytest.raises(TdslError, match="recovery needs calibration data") as refusal:
        runner.run(copied(captured.module), Journal())
    assert refusal.value.span is not None


def test_no_normal_equation_outweighs_a_large_model(monkeypatch) -> None:
    """Sites with more features than their share of the model's memory keep their factors."""
    from tdsl.heal import sites

    captured = perceptron()
    monkeypatch.setattr(sites, "LEAST_LARGEST", 1)
    text = """
    pipeline small {
        choose factorize.linear.svd_linear minimize error subject to parameters <= 60%
        heal least_squares
        check error <= 100%
    }
    """
    counts = []
    for number in (sites._NUMBER, 10**9):
        monkeypatch.setattr(sites, "_NUMBER", number)
        runner, planner = planned(captured, text, batches())
        runner.run(copied(captured.module), Journal())
        counts.append(len(planner.healed))
    assert counts[0] > 0 == counts[1]


class Placed(nn.Module):
    """A layer whose results of shape [batch, steps, 24] meet places of shape [steps, 24]."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.places = nn.Linear(24, 24), nn.Parameter(drawn(16, 24, seed=3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.wide(x) + self.places[: x.shape[1]])


def test_sizes_that_vary_are_compared_and_not_fixed() -> None:
    sizes = {"x": {0: "batch", 1: torch.export.Dim("steps", max=16)}}
    captured = capture(Placed().eval(), (drawn(4, 6, 24),), dynamic_shapes=sizes)
    data = [(drawn(8, 5, 24, seed=i) @ drawn(24, 24, seed=99),) for i in range(12)]
    runner, planner = planned(captured, TRUNCATED % ("40%", "heal least_squares"), data)
    module = copied(captured.module)
    runner.run(module, Journal())
    assert len(planner.healed) == 1 and planner.healed[0].after < planner.healed[0].before
    assert module(drawn(3, 11, 24)).shape == (3, 11, 24)
