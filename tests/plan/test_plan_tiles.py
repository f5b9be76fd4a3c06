"""Ranks and what a machine computes at once (S06), and plans against every choice by its true error (S08)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from plan_models import batches, decaying, drawn, planned
from torch import nn

from tdsl.capture import Captured, capture
from tdsl.engine.census import census, copied
from tdsl.engine.journal import Journal
from tdsl.plan.choose import apply_plan
from tdsl.plan.latency import LatencyTable


class Table(LatencyTable):
    """Latencies of dense layers by a formula of their outputs and inputs."""

    def __init__(self, formula: Callable[[int, int], float]) -> None:
        super().__init__()
        self.formula = formula

    def of(self, steps):
        sizes = (dict(step.arguments)["weight"].sizes for step in steps if step.name == "linear")
        return sum(self.formula(*one) for one in sizes)


def stepped(rows: int, columns: int) -> float:
    """Blocks of sixteen, whole or not."""
    return math.ceil(rows / 16) * math.ceil(columns / 16) * 256.0


def smooth(rows: int, columns: int) -> float:
    return float(rows * columns)


def layers(*sizes: int) -> Captured:
    """Dense layers whose spectra decay, each at its own rate."""
    made = []
    for k, (n, m) in enumerate(itertools.pairwise(sizes)):
        layer = nn.Linear(n, m)
        with torch.no_grad():
            layer.weight.copy_(2 * decaying(m, n, power=0.5 + 0.4 * k, seed=40 + 2 * k))
        made += [layer, nn.Tanh()]
    model = nn.Sequential(*made[:-1]).eval()
    return capture(model, (drawn(4, sizes[0]),), dynamic_shapes=({0: "batch"},))


def ranks(captured: Captured, text: str, table: Table) -> set[int]:
    runner, _ = planned(captured, text, batches(), table)
    module, journal = copied(captured.module), Journal()
    runner.run(module, journal)
    return {entry.details["r"] for entry in journal.entries}


@pytest.mark.parametrize(("formula", "chosen"), [(stepped, {16}), (smooth, {17})])
def test_one_term_beyond_a_tile_is_taken_where_it_costs_no_block(formula, chosen: set[int]) -> None:
    """Within a budget of time: seventeen terms lose less than sixteen, and take as long as thirty-two."""
    assert stepped(96, 17) == 2 * stepped(96, 16) == stepped(96, 32)
    text = """
    pipeline tiles {
        choose factorize.linear.svd_linear(rank=16), factorize.linear.svd_linear(rank=17)
            minimize error
            subject to latency <= 42%
        check error <= 100%
    }
    """
    assert ranks(layers(48, 96, 96), text, Table(formula)) == chosen


def test_ranks_of_a_plan_for_time_are_whole_tiles_and_no_others_are_faster() -> None:
    text = """
    pipeline tiles {
        choose factorize.linear.svd_linear minimize latency subject to error <= 30%
        check error <= 100%
    }
    """
    captured, table = layers(96, 192, 192), Table(stepped)
    known = [(drawn(16, 96, seed=k),) for k in range(12)]
    runner, planner = planned(captured, text, known, table)
    problem, _ = planner.problem(next(iter(runner._choices.values())), copied(captured.module))
    tried = {c.details["r"] for c in problem.candidates}
    assert len(tried) > 3
    for rank in tried:
        tile = next(t for t in (16, 8, 4, 2, 1) if rank % t == 0)
        assert tile > 1
        if tile == 16:  # a smaller rank in the same block is as slow and loses more; one more term is slower
            assert stepped(192, rank) == stepped(192, rank - 15) < stepped(192, rank + 1)


@pytest.mark.parametrize("seed", [0, 3])
def test_a_plan_is_within_a_twentieth_of_the_best_choice_by_true_error(seed: int) -> None:
    """Every choice of candidates of three layers is run: none within the budget loses much less."""
    torch.manual_seed(seed)
    made = []
    for k, (n, m) in enumerate(((48, 40), (40, 32), (32, 24))):
        layer = nn.Linear(n, m)
        power = float(0.3 + 1.5 * torch.rand(()))
        layer.weight.data = 2 * decaying(m, n, power=power, seed=100 * seed + 2 * k)
        if seed == 3 and k == 1:  # a planted rank, which donates what the others need
            layer.weight.data = drawn(m, 6, seed=1) @ drawn(6, n, seed=2) / 10
        made += [layer, nn.Tanh()]
    captured = capture(nn.Sequential(*made[:-1]).eval(), (drawn(4, 48),), dynamic_shapes=({0: "batch"},))
    given = ", ".join(f"factorize.linear.svd_linear(rank={r})" for r in (3, 8))
    text = f"""
    pipeline few {{
        choose {given} minimize error subject to parameters <= 60%
        check error <= 100%
    }}
    """
    runner, planner = planned(captured, text, batches(16))
    module = copied(captured.module)
    runner.run(module, Journal())
    limit = 0.6 * census(captured.module).parameters
    assert census(module).parameters <= limit
    found = planner.measure(module).error
    problem, statistics = planner.problem(next(iter(runner._choices.values())), copied(captured.module))
    sites: dict[str, list] = {}
    for candidate in problem.candidates:
        sites.setdefault(candidate.root, [None]).append(candidate)
    assert len(sites) == 3
    errors, sizes = [], []
    for choice in itertools.product(*sites.values()):
        taken = [candidate for candidate in choice if candidate is not None]
        tried = copied(captured.module)
        assert apply_plan(tried, taken, statistics, Journal()) == len(taken)
        sizes.append(census(tried).parameters)
        errors.append(planner.measure(tried).error)
    within = [e for e, s in zip(errors, sizes, strict=True) if s <= limit]
    assert len(within) > 4 and max(within) > 1.3 * min(within)
    assert found <= 1.05 * min(within)
