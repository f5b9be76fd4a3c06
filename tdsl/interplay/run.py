"""Rewriting one graph by a set of rules: to its normal form, or step by step until it comes round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import fx

from tdsl.engine.census import copied
from tdsl.engine.driver import Settings, rewrite
from tdsl.engine.journal import Journal
from tdsl.engine.rule import Rule
from tdsl.engine.text import graph_text
from tdsl.errors import TdslError
from tdsl.interplay.structure import size, state_key

MOST_REWRITES = 60
"""Rewrites of a small graph after which no normal form is expected any more."""
GROWN = 3
"""How many times larger than at the start a graph is that grows without end, and a few operators more."""


@dataclass(frozen=True)
class Step:
    """A rule, and the graph after it."""

    rule: str
    state: str


@dataclass(frozen=True)
class Loop:
    """A graph that a set of rules never finishes."""

    kind: Literal["repeats", "grows"]
    start: str
    steps: tuple[Step, ...]
    """From the start; the last state is one that was there before, or one of growing ones."""
    returns_to: int = 0
    """After which step the last state was seen first; 0 is the start."""

    @property
    def circle(self) -> tuple[str, ...]:
        """The rules of one round, in the order of their steps; each once where the graph grows."""
        names = [step.rule for step in self.steps[self.returns_to :]]
        return tuple(names if self.kind == "repeats" else dict.fromkeys(names))


def normal_form(module: fx.GraphModule, rules: Sequence[Rule]) -> fx.GraphModule | None:
    """A copy of the graph on which no rule fires any more; `None` where that takes too many rewrites."""
    result = copied(module)
    try:
        rewrite(result, rules, Settings(limit=MOST_REWRITES), Journal(measure=False))
    except TdslError:
        return None
    return result


def loop_from(module: fx.GraphModule, rules: Sequence[Rule]) -> Loop | None:
    """The loop that a graph runs into; `None` where it reaches a normal form, or none is seen."""
    current, journal = copied(module), Journal(measure=False)
    start = graph_text(current)
    seen = {state_key(current): 0}
    steps: list[Step] = []
    for number in range(1, MOST_REWRITES + 1):
        journal.limit = number
        if not rewrite(current, rules, Settings(), journal):
            return None
        steps.append(Step(journal.entries[-1].rule, graph_text(current)))
        key = state_key(current)
        if key in seen:
            return Loop("repeats", start, tuple(steps), seen[key])
        seen[key] = number
        if size(current) > GROWN * size(module) + 2 * MOST_REWRITES // 3:
            break
    return Loop("grows", start, tuple(steps)) if size(current) > GROWN * size(module) else None
