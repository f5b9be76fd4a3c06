"""Latency, on a clock that the test turns: nothing here depends on the machine."""

import weakref

import pytest

from tdsl.verify import in_turn


class Clock:
    """A clock, and what to open whose calls turn it; `log` has what was opened and called."""

    def __init__(self):
        self.now = 0.0
        self.log = []
        self.alive = weakref.WeakSet()
        self.most_alive = 0

    def __call__(self):
        return self.now

    def side(self, name, *seconds, opening=0.0):
        turns = iter(range(10**9))

        def run():
            self.log.append(name)
            self.now += seconds[next(turns) % len(seconds)]

        def opened():
            self.log.append(name.upper())
            self.now += opening

            def call():
                run()

            self.alive.add(call)
            self.most_alive = max(self.most_alive, len(self.alive))
            return call

        return opened

    def rounds(self):
        """The sides in the order in which they were opened."""
        return "".join(name.lower() for name in self.log if name.isupper())


def test_medians_and_ratio_are_in_milliseconds_for_one_run():
    clock = Clock()
    found = in_turn(clock.side("a", 0.010), clock.side("b", 0.004), clock=clock, budget=1)
    assert (found.original_ms, found.result_ms) == (pytest.approx(10), pytest.approx(4))
    assert found.ratio == pytest.approx(0.4)
    assert found.spread == pytest.approx(0, abs=1e-9)


def test_the_two_take_turns_and_the_order_alternates():
    clock = Clock()
    in_turn(clock.side("a", 0.01), clock.side("b", 0.01), clock=clock, budget=0, least=16)
    assert clock.rounds() == "abba"


def test_one_side_is_open_at_a_time():
    clock = Clock()
    in_turn(clock.side("a", 0.01, opening=0.1), clock.side("b", 0.01, opening=0.1), clock=clock, budget=2)
    assert len(clock.rounds()) > 4 and clock.most_alive == 1


def test_most_of_the_time_is_not_spent_on_opening():
    clock = Clock()
    found = in_turn(
        clock.side("a", 0.01, opening=0.1), clock.side("b", 0.01, opening=0.1), clock=clock, budget=2
    )
    opening = 0.1 * len(clock.rounds())
    assert opening < clock.now / 3.5 and found.pairs >= 40


def test_a_slow_machine_for_a_while_does_not_move_the_ratio():
    clock = Clock()
    slow = [0.01] * 10 + [0.10] * 10
    found = in_turn(
        clock.side("a", *slow), clock.side("b", *(s / 2 for s in slow)), clock=clock, budget=9, most=18
    )
    assert found.ratio == pytest.approx(0.5)
    assert found.original_spread_ms > 50


def test_the_budget_ends_the_run_and_the_least_count_is_kept():
    clock = Clock()
    slow = in_turn(clock.side("a", 9.0, opening=1.0), clock.side("b", 9.0), clock=clock, budget=1)
    assert 5 <= slow.pairs <= 6 and clock.rounds() == "abba"
    assert in_turn(clock.side("a", 0.01), clock.side("b", 0.01), clock=clock, budget=1).pairs < 60
    assert 190 < in_turn(clock.side("a", 0.01), clock.side("b", 0.01), clock=clock, budget=99).pairs <= 200


def test_a_very_fast_call_is_repeated_within_one_timing():
    clock = Clock()
    found = in_turn(clock.side("a", 1e-5), clock.side("b", 0.01), clock=clock, budget=1, most=5)
    assert found.original_ms == pytest.approx(0.01)
    assert clock.log.count("a") > 20 * clock.log.count("b")


def test_a_clock_that_stands_still_ends():
    clock = Clock()
    found = in_turn(clock.side("a", 0.0), clock.side("b", 0.0), clock=clock, most=5)
    assert found.pairs >= 5
