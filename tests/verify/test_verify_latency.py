"""Latency, on a clock that the test turns: nothing here depends on the machine."""

import pytest

from tdsl.verify import in_turn


class Clock:
    def __init__(self):
        self.now = 0.0
        self.log = []

    def __call__(self):
        return self.now

    def call(self, name, *seconds):
        turns = iter(range(10**9))

        def run():
            self.log.append(name)
            self.now += seconds[next(turns) % len(seconds)]

        return run


def test_medians_and_ratio_are_in_milliseconds_for_one_run():
    clock = Clock()
    found = in_turn(clock.call("a", 0.010), clock.call("b", 0.004), clock=clock, budget=1)
    assert (found.original_ms, found.result_ms) == (pytest.approx(10), pytest.approx(4))
    assert found.ratio == pytest.approx(0.4)
    assert found.spread == pytest.approx(0, abs=1e-9)


def test_the_two_take_turns_and_the_order_alternates():
    clock = Clock()
    in_turn(clock.call("a", 0.01), clock.call("b", 0.01), clock=clock, budget=0, least=6)
    assert "".join(clock.log)[4:] == "abba" * 3


def test_a_slow_machine_for_a_while_does_not_move_the_ratio():
    clock = Clock()
    slow = [0.01] * 10 + [0.10] * 10
    found = in_turn(
        clock.call("a", *slow), clock.call("b", *(s / 2 for s in slow)), clock=clock, budget=9, most=18
    )
    assert found.ratio == pytest.approx(0.5)
    assert found.original_spread_ms > 50


def test_the_budget_ends_the_run_and_the_least_count_is_kept():
    clock = Clock()
    assert in_turn(clock.call("a", 9.0), clock.call("b", 9.0), clock=clock, budget=1).pairs == 5
    assert in_turn(clock.call("a", 0.01), clock.call("b", 0.01), clock=clock, budget=1).pairs < 60
    assert in_turn(clock.call("a", 0.01), clock.call("b", 0.01), clock=clock, budget=99).pairs == 200


def test_a_very_fast_call_is_repeated_within_one_timing():
    clock = Clock()
    found = in_turn(clock.call("a", 1e-5), clock.call("b", 0.01), clock=clock, budget=1, most=5)
    assert found.original_ms == pytest.approx(0.01)
    assert clock.log.count("a") > 20 * clock.log.count("b")


def test_a_clock_that_stands_still_ends():
    found = in_turn(lambda: None, lambda: None, clock=lambda: 0.0, most=5)
    assert found.pairs == 5
