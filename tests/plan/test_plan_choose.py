"""Plans on small models: planted structure is found first, budgets are kept, what cannot be is said."""

from __future__ import annotations

import functools

import pytest
import torch
from plan_models import batches, drawn, perceptron, planned

from tdsl.capture import Captured
from tdsl.engine.census import census, copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library
from tdsl.errors import TdslError
from tdsl.lang import parse
from tdsl.plan.latency import LatencyTable
from tdsl.prepare import prepare


@functools.cache
def model(planted: int | None = 8) -> Captured:
    """Captured once: what changes the graph is given a copy."""
    return perceptron(planted)


def run(pipeline, captured=None, known=None, table=None):
    captured = captured or model()
    runner, planner = planned(captured, pipeline, known or batches(), table)
    module, journal = copied(captured.module), Journal()
    runner.run(module, journal)
    return captured, planner, module, journal


def plan(objective, budgets, heal=""):
    return f"""
    pipeline small {{
        choose factorize.linear.svd_linear
            minimize {objective}
            subject to {budgets}
        {heal}
        check error <= 100%
    }}
    """


def test_the_planted_layer_pays_for_the_others() -> None:
    """One of three layers has rank 8: it is cut to that, and no other one is touched."""
    captured, planner, module, journal = run(plan("error", "parameters <= 75%"))
    assert [e.replaced for e in journal.entries] == [("linear_1",)]
    assert journal.entries[0].error < 1e-5
    assert census(module).parameters <= 0.75 * census(captured.module).parameters
    assert planner.measure(module).error < 1e-5


def test_a_budget_beyond_the_planted_structure_goes_where_it_hurts_least() -> None:
    captured, planner, module, journal = run(plan("error", "parameters <= 45%"))
    assert len(journal.entries) > 1
    assert census(module).parameters <= 0.45 * census(captured.module).parameters
    planned_error = planner.measure(module).error
    # Control: the same size with one ratio everywhere.
    uniform = """
    pipeline uniform {
        once factorize.linear.svd_linear(rank=45%)
        check error <= 100%
    }
    """
    _, _, other, _ = run(uniform)
    assert census(other).parameters >= census(module).parameters * 0.9
    assert planned_error < 0.8 * planner.measure(other).error


@pytest.mark.parametrize("budget", ["error <= 10%", "mean_cosine >= 0.99"])
def test_a_measured_budget_is_used_and_not_broken(budget: str) -> None:
    captured, planner, module, _ = run(plan("parameters", budget))
    [bound] = planner.outcomes[0].problem.qualities
    measured = getattr(planner.measure(module), bound.name)
    assert bound.holds(measured)
    assert census(module).parameters < 0.75 * census(captured.module).parameters
    # Every measured plan that was smaller broke the budget.
    outcome = planner.outcomes[0]
    size = outcome.problem.cost(outcome.chosen, "parameters")
    smaller = [t for t in outcome.trials if outcome.problem.cost(t.chosen, "parameters") < size]
    assert all(not t.kept for t in smaller)


def test_the_predicted_error_is_the_real_one_where_errors_are_small() -> None:
    captured = model(planted=None)
    runner, planner = planned(captured, plan("error", "parameters <= 99%"), batches(40, 32))
    step = next(iter(runner._choices.values()))
    problem, statistics = planner.problem(step, copied(captured.module))
    for candidate in problem.candidates:
        module = copied(captured.module)
        from tdsl.plan.choose import apply_plan

        assert apply_plan(module, [candidate], statistics, Journal()) == 1
        measured = planner.measure(module).error
        if measured < 0.3:
            assert 0.5 * measured < candidate.error < 2 * measured
    assert sum(c.error < 0.3 for c in problem.candidates) > 3


def test_a_rule_may_be_named_at_several_ranks() -> None:
    text = plan("error", "parameters <= 80%").replace(
        "factorize.linear.svd_linear",
        "factorize.linear.svd_linear(rank=8), factorize.linear.svd_linear(rank=24)",
    )
    runner, planner = planned(model(), text, batches())
    problem, _ = planner.problem(next(iter(runner._choices.values())), copied(model().module))
    assert {c.details["r"] for c in problem.candidates} == {8, 24}


def test_several_budgets_hold_at_once() -> None:
    captured, planner, module, _ = run(plan("macs", "parameters <= 60%, error <= 60%"))
    assert census(module).parameters <= 0.6 * census(captured.module).parameters
    assert planner.measure(module).error <= 0.6


def test_what_the_model_keeps_already_asks_for_nothing() -> None:
    """More than 100 % is a share too, and not one and a half parameters."""
    for budget in ("parameters <= 150%", "bytes <= 100%", "error <= 0%"):
        _, _, _, journal = run(plan("error", budget))
        assert not journal.entries


def test_a_latency_table_decides_where_time_is_the_objective() -> None:
    """Where factors are as slow as a dense layer nothing pays; where they are fast, they do."""
    captured = model()
    slow = _Fixed(lambda step: 1.0)
    _, _, module, journal = run(plan("latency", "error <= 90%"), captured, table=slow)
    assert not journal.entries and census(module).parameters == census(captured.module).parameters
    fast = _Fixed(
        lambda step: dict(step.arguments)["weight"].sizes[0] * dict(step.arguments)["weight"].sizes[1]
    )
    _, _, _, journal = run(plan("latency", "error <= 90%"), captured, table=fast)
    assert journal.entries


def test_budgets_that_each_can_be_met_and_not_all_are_refused() -> None:
    """Where every layer takes the same time, two in the place of one are smaller and slower."""
    alike = _Fixed(lambda step: 1.0)
    for budget in ("parameters <= 75%", "latency <= 100%"):
        run(plan("error", budget), table=alike)
    with pytest.raises(TdslError, match=r"parameters <= 75%, latency <= 100% cannot be met together"):
        run(plan("error", "parameters <= 75%, latency <= 100%"), table=alike)


class _Fixed(LatencyTable):
    """A table that computes what it says."""

    def __init__(self, rule) -> None:
        super().__init__()
        self.rule = rule

    def of(self, steps):
        return sum(self.rule(step) if step.name == "linear" else 0.0 for step in steps)


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ("parameters <= 1%", "parameters <= 1% cannot be met: these rules reach .*%"),
        ("parameters <= 30%, error <= 0.01%", "error <= 0.01% cannot be met within parameters <= 30%"),
        ("speed <= 3", "unknown budget speed"),
        ("error >= 3%", "cannot bound error with `>=`"),
        ("parameters <= -5", "no plan has parameters <= -5"),
        ("error <= -1%", "no plan has error <= -0.01"),
        ("cosine >= 99, error <= 50%", "no cosine is as large as 99"),
    ],
)
def test_a_budget_that_cannot_be_met_says_how_close_it_got(budgets: str, message: str) -> None:
    with pytest.raises(TdslError, match=message) as caught:
        run(plan("error" if "error" not in budgets else "parameters", budgets))
    assert caught.value.span is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (plan("size", "bytes <= 50%"), "cannot minimize size"),
        (plan("bytes", "error <= 1%").replace("svd_linear", "nothing"), "unknown rule or pass"),
        (
            plan("bytes", "error <= 1%").replace("factorize.linear.svd_linear", "cleanup.fold_constants"),
            "is a pass",
        ),
    ],
)
def test_a_plan_that_means_nothing_is_refused_before_anything_runs(text: str, message: str) -> None:
    with pytest.raises(TdslError, match=message):
        planned(model(), text, batches())


def test_a_budget_that_means_nothing_is_refused_before_samples_are_run() -> None:
    """Control: samples of another size are refused where the budget means something."""
    for budget, message in (("speed <= 3", "unknown budget speed"), ("parameters <= 50%", "has shape")):
        library = Library()
        library.add_file(parse(plan("error", budget)), "early")
        with pytest.raises(TdslError, match=message):
            prepare(model(), pipeline="early.small", rules=library, calibration=[drawn(4, 7)])


def test_without_data_a_plan_is_refused_at_its_line() -> None:
    captured = model()
    runner, _ = planned(captured, plan("bytes", "error <= 1%"), [])
    with pytest.raises(TdslError, match="needs calibration data") as caught:
        runner.run(copied(captured.module), Journal())
    assert caught.value.span is not None


def test_the_same_data_give_the_same_plan() -> None:
    first = run(plan("error", "parameters <= 50%"))
    second = run(plan("error", "parameters <= 50%"))
    assert [(e.rule, e.replaced, e.error) for e in first[3].entries] == [
        (e.rule, e.replaced, e.error) for e in second[3].entries
    ]
    for a, b in zip(first[2].parameters(), second[2].parameters(), strict=True):
        assert torch.equal(a, b)


def test_ranks_are_multiples_of_a_tile() -> None:
    runner, planner = planned(model(96), plan("error", "parameters <= 60%"), batches())
    step = next(iter(runner._choices.values()))
    problem, _ = planner.problem(step, copied(model(96).module))
    assert {c.site for c in problem.candidates} == {
        "linear in first",
        "linear_1 in middle",
        "linear_2 in last",
    }
    ranks = {c.details["r"] for c in problem.candidates}
    assert ranks and all(rank % 2 == 0 for rank in ranks)  # eights, halved for layers as narrow as these
