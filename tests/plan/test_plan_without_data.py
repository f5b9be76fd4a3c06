"""Without data ranks are divided by the spectra of the weights: budgets are kept, scales are no matter."""

from __future__ import annotations

import pytest
import torch
from plan_models import Perceptron, batches, drawn, perceptron, planned

import tdsl
from tdsl.capture import Captured, capture
from tdsl.engine.census import census, copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library
from tdsl.errors import TdslError
from tdsl.lang import parse

PLAN = """
pipeline small {
    choose factorize.linear.svd_linear, factorize.linear.whitened_linear
        minimize error
        subject to %s
    check error <= 100%%
}
"""


def run(captured: Captured, budgets: str, known=()):
    runner, planner = planned(captured, PLAN % budgets, list(known))
    module, journal = copied(captured.module), Journal()
    runner.run(module, journal)
    return module, {entry.replaced: entry.details["r"] for entry in journal.entries}, planner


def shares(captured: Captured, module) -> float:
    return census(module).parameters / census(captured.module).parameters


@pytest.mark.parametrize("share", [75, 50, 30])
def test_the_budget_is_met_and_the_planted_layer_donates(share: int) -> None:
    captured = perceptron()
    module, ranks, planner = run(captured, f"parameters <= {share}%")
    assert shares(captured, module) <= share / 100
    assert planner.outcomes[0].problem.blind
    assert ranks[("linear_1",)] == 8  # all that it has, however small the budget
    if share == 75:
        assert len(ranks) == 1
    else:
        assert min(ranks.values()) == 8 and shares(captured, module) > share / 100 - 0.02


def test_scaling_a_layer_does_not_change_its_share() -> None:
    model = Perceptron(planted=None).eval()
    before = run(of(model), "parameters <= 50%")[1]
    assert len(before) > 1
    with torch.no_grad():
        model.middle.weight *= 10
    assert run(of(model), "parameters <= 50%")[1] == before
    # The control: data see that a layer whose outputs drown beside a constant matters less, weights do not.
    known = batches()
    seen = run(of(model), "parameters <= 50%", known)[1]
    with torch.no_grad():
        model.first.bias += 300
    assert run(of(model), "parameters <= 50%", known)[1] != seen
    assert run(of(model), "parameters <= 50%")[1] == before


def of(model: torch.nn.Module) -> Captured:
    return capture(model, (drawn(4, 48),), dynamic_shapes={"x": {0: "batch"}})


def test_data_do_better_and_one_ratio_everywhere_worse() -> None:
    captured, known = perceptron(), batches()
    blind, _, _ = run(captured, "parameters <= 50%")
    seeing, _, judge = run(captured, "parameters <= 50%", known)
    uniform = "pipeline uniform { once factorize.linear.svd_linear(rank=50%) check error <= 100% }"
    runner, _ = planned(captured, uniform, [])
    one_ratio = copied(captured.module)
    runner.run(one_ratio, Journal())
    assert shares(captured, one_ratio) >= shares(captured, blind) - 0.02
    errors = [judge.measure(module).error for module in (seeing, blind, one_ratio)]
    assert errors[0] < 0.7 * errors[1] < 0.7 * errors[2]


def test_the_report_says_what_the_plan_went_by() -> None:
    library = Library()
    library.add_file(parse(PLAN % "parameters <= 60%"), "blind")
    result = tdsl.compile(
        Perceptron().eval(), (drawn(4, 48),), pipeline="blind.small", rules=library, latency=False
    )
    assert "without calibration data" in str(result)


@pytest.mark.parametrize(
    ("budgets", "objective"),
    [("error <= 5%", "parameters"), ("parameters <= 50%, error <= 5%", "error"), ("bytes <= 50%", "macs")],
)
def test_what_must_be_measured_is_refused(budgets: str, objective: str) -> None:
    text = (PLAN % budgets).replace("minimize error", f"minimize {objective}")
    runner, _ = planned(perceptron(), text, [])
    with pytest.raises(TdslError, match="needs calibration data") as caught:
        runner.run(copied(perceptron().module), Journal())
    assert "minimize error" in str(caught.value.hint)
