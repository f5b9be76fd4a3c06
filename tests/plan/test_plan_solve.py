"""The knapsack against every choice there is."""

from __future__ import annotations

import itertools
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from tdsl.plan.solve import Item, knapsack


@st.composite
def problems(draw):
    items = [
        Item(
            draw(st.integers(-20, 5)),
            (draw(st.integers(-9, 9)), draw(st.integers(0, 9))),
            frozenset(draw(st.sets(st.sampled_from("abcd"), min_size=1, max_size=2))),
        )
        for _ in range(draw(st.integers(1, 8)))
    ]
    return items, (draw(st.integers(-12, 20)), draw(st.integers(0, 20)))


def best_by_force(items, limits):
    values = []
    for size in range(len(items) + 1):
        for chosen in itertools.combinations(range(len(items)), size):
            covered = [key for i in chosen for key in items[i].covers]
            weights = [sum(items[i].weights[axis] for i in chosen) for axis in range(2)]
            if len(covered) == len(set(covered)) and all(
                w <= m for w, m in zip(weights, limits, strict=True)
            ):
                values.append(sum(items[i].value for i in chosen))
    return min(values, default=None)


@settings(max_examples=150, deadline=None)
@given(problems())
def test_the_choice_is_the_best_there_is(problem):
    items, limits = problem
    found = knapsack(items, limits)
    best = best_by_force(items, limits)
    assert (found is None) == (best is None)
    if found is not None:
        covered = [key for i in found for key in items[i].covers]
        assert len(covered) == len(set(covered))
        for axis, limit in enumerate(limits):
            assert sum(items[i].weights[axis] for i in found) <= limit
        assert sum(items[i].value for i in found) == best


def test_without_items_only_budgets_that_hold_already_are_kept():
    assert knapsack([], [0.0]) == []
    assert knapsack([], [-1.0]) is None


LARGE = """
import os
import numpy as np
from tdsl.plan.solve import Item, knapsack

rng = np.random.default_rng(8)
items = []
for site in range(14):
    size = rng.uniform(500, 5000)
    for rule in range(3):
        scale = rng.uniform(0.5, 2)
        more = {f"{site + 1}"} if rule == 2 else set()
        items += [
            Item(-size * (1 - r / 12), (scale * rng.uniform(0.9, 1.1) / 2**r,), frozenset({f"{site}"} | more))
            for r in range(1, 13)
        ]
print("before")
assert knapsack(items, [rng.uniform(0.5, 8)])
print("after")
"""


def test_the_solver_prints_nothing() -> None:
    """It names a function of its own there, by C and so unseen by Python, which `--json` cannot have."""
    said = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["before", "after"] and not said.stderr
    found = subprocess.run(  # Control: without it.
        [sys.executable, "-c", LARGE.replace("print(", f"{LOUD}\nprint(", 1)], capture_output=True, check=True
    )
    assert b"Highs" in found.stdout


LOUD = "import contextlib\nfrom tdsl.plan import solve\nsolve._silent = contextlib.nullcontext"
