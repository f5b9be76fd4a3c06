"""A table that is also the output layer, in a plan: its output depends on its lookup, both are measured."""

from __future__ import annotations

import pytest
import torch
from plan_models import drawn, planned
from torch import Tensor, nn

from tdsl.capture import capture
from tdsl.engine.census import census, copied
from tdsl.engine.journal import Journal
from tdsl.plan.choose import apply_plan

PLAN = """
pipeline small {
    choose factorize.embedding.tied_embedding
        minimize error
        subject to parameters <= 70%
    check error <= 100%
}
"""


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.dense = nn.Embedding(120, 24), nn.Linear(24, 24)
        self.words.weight.data = drawn(120, 24, seed=1) * 0.8 ** torch.arange(24)

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.linear(torch.tanh(self.dense(self.words(ids))), self.words.weight)


def test_what_is_measured_of_both_users_is_what_the_plan_does() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(5)
    known = [(torch.randint(0, 120, (4, 8), generator=generator),) for _ in range(24)]
    captured = capture(Language().eval(), known[0])
    runner, planner = planned(captured, PLAN, known)
    module, journal = copied(captured.module), Journal()
    runner.run(module, journal)
    assert len(journal.entries) == 1
    assert census(module).parameters <= 0.7 * census(captured.module).parameters
    problem, statistics = planner.problem(next(iter(runner._choices.values())), copied(captured.module))
    small = 0
    for candidate in problem.candidates:
        tried = copied(captured.module)
        assert apply_plan(tried, [candidate], statistics, Journal()) == 1
        measured = planner.measure(tried).error
        if measured < 0.4:  # beyond, the first order does not hold
            assert candidate.error == pytest.approx(measured, rel=0.3)
            small += 1
    assert small > 2
