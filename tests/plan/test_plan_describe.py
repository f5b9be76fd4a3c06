"""A plan in words says which sites it left alone, whatever their nodes are called."""

from __future__ import annotations

from dataclasses import replace

from tdsl.errors import Span
from tdsl.plan.candidates import Candidate, Choice
from tdsl.plan.choose import Outcome, Problem
from tdsl.plan.describe import described


def candidate(root: str, covers: set[str]) -> Candidate:
    saved = dict.fromkeys(("bytes", "parameters", "macs", "latency"), 1.0)
    choice = Choice("factorize.linear.svd_linear", {}, None)
    return Candidate(
        choice=choice,
        root=root,
        covers=frozenset(covers),
        saved=saved,
        error=0.1,
        local=0.1,
    )


def outcome(candidates: list[Candidate], chosen: list[Candidate], objective: str = "error") -> Outcome:
    totals = dict.fromkeys(("bytes", "parameters", "macs", "latency"), 10.0)
    span = Span("test", 1, 1, 1, 2)
    return Outcome(Problem(candidates, objective, (), totals, span), chosen=chosen)


def alone(made: Outcome) -> str:
    return next((line for line in described(made) if line.startswith("left alone")), "")


def test_a_site_is_named_by_its_value_and_not_by_its_node() -> None:
    """Folding gives a value to a node of another name: `norm` is computed by `conv`."""
    first, second = candidate("norm", {"conv"}), candidate("norm_1", {"conv_1"})
    assert alone(outcome([first, second], [first])).endswith(": norm_1")
    assert not alone(outcome([first, second], [first, second]))


def test_a_site_is_told_with_the_module_that_it_is_in() -> None:
    found = replace(candidate("linear_1", {"linear_1"}), module="encoder.layers.0.2")
    assert alone(outcome([found], [])).endswith(": linear_1 in encoder.layers.0.2")


def test_a_site_that_a_wider_candidate_rewrites_is_not_left_alone() -> None:
    inner, outer = candidate("up", {"up"}), candidate("down", {"down"})
    both = candidate("down", {"up", "gelu", "down"})
    assert not alone(outcome([inner, outer, both], [both]))
    assert alone(outcome([inner, outer, both], [inner])).endswith(": down")


def test_a_site_that_costs_too_much_is_told_from_one_where_nothing_pays() -> None:
    taken, dear, useless = candidate("a", {"a"}), candidate("b", {"b"}), candidate("c", {"c"})
    useless = replace(useless, saved={**useless.saved, "latency": 0.0})
    lines = described(outcome([taken, dear, useless], [taken], "latency"))
    assert [line for line in lines if line.startswith("left alone")] == [
        "left alone, because no candidate pays there: c",
        "left alone, because what pays there does not fit into the budgets: b",
    ]


def test_a_site_that_no_budget_needs_is_told_from_one_where_nothing_pays() -> None:
    taken, spared = candidate("a", {"a"}), candidate("b", {"b"})
    assert alone(outcome([taken, spared], [taken])) == (
        "left alone, because the budgets are kept without them: b"
    )


def test_a_plan_without_candidates_says_what_none_of_them_saves() -> None:
    assert described(outcome([], [], "latency"))[0] == (
        "nothing to choose among: no rule of the plan saves latency anywhere"
    )
    assert described(outcome([], [], "error"))[0].startswith(
        "nothing to choose among: the model as it is has"
    )
    one = candidate("a", {"a"})
    assert described(outcome([one], [one], "latency"))[0].startswith("1 of 1 sites rewritten")
