"""Carries out the steps of a pipeline that look at data: statistics, plans under budgets, recovery."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, fx

from tdsl.engine.census import copied
from tdsl.engine.driver import Scope
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library
from tdsl.engine.rule import Rule
from tdsl.engine.statistics import Answers, Request, Statistics
from tdsl.engine.strategy import Alternative, ChoiceStep
from tdsl.errors import TdslError
from tdsl.factor.memo import MEMORY
from tdsl.factor.rank import Ratio, Tiled
from tdsl.heal.least_squares import Healed, least_squares
from tdsl.heal.sites import approximate_rules
from tdsl.lang import tree
from tdsl.lang.recovery import damping_of
from tdsl.memory import returning
from tdsl.plan.budgets import budgets_of
from tdsl.plan.cache import collect_cached
from tdsl.plan.calibrate import Data, Progress
from tdsl.plan.candidates import COSTS, Choice, candidates, requests_of
from tdsl.plan.choose import QUALITIES, Outcome, Problem, apply_plan, search, settle, totals_of
from tdsl.plan.extent import room_beside
from tdsl.plan.few_rows import Scarce, scarce, shrunk, told
from tdsl.plan.judged import Judged, judged, outputs_of
from tdsl.plan.latency import LatencyTable
from tdsl.plan.shelf import Shelf
from tdsl.verify.compare import Metrics

LEVELS = tuple(i / 16 for i in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15))
"""Ranks to try for a rule, as shares of the break-even rank."""
TIMED_LEVELS = tuple(i / 16 for i in range(1, 16))
"""The same in a plan that speaks of latency: wide tiles make most of them one."""
GENTLE_LEVELS, GENTLE_TILE = (15 / 16, 31 / 32), 2
"""What else to try where rows are few, since what is taken away is then replaced less well."""
TILE = 8
"""Ranks are multiples of this, which vector units like."""
BLOCK = 16
"""In a plan that speaks of latency they are multiples of this: the time of a product grows block by block."""


@dataclass
class DataPlanner:
    """The planner of one compilation: data to compute from, data to judge by, and what came of it."""

    library: Library
    data: Data
    judged_on: Data
    table: LatencyTable
    progress: Progress = lambda stage: None
    cache: Path | None = None
    """A folder in which statistics are remembered."""
    whole: Data | None = None
    """Data to compute from and data to judge by together: what a plan of few rows is carried out by."""
    outcomes: list[Outcome] = field(default_factory=list)
    healed: list[Healed] = field(default_factory=list)
    _scarce: dict[Scarce, None] = field(default_factory=dict)
    _planned: bool = False
    _weighed: bool = False
    """Whether gradients were asked for."""
    _reference: fx.GraphModule | None = None
    _expected: list[list[Tensor]] | None = None

    # ------------------------------------------------------------ statistics

    @returning()
    def statistics(
        self, module: fx.GraphModule, rules: Sequence[Rule], scope: Scope | None
    ) -> Statistics | None:
        """What these rules ask about calibration data; `None` where there is no data."""
        if not self.data.batches:
            return None
        return self._collected(module, [Choice(rule.name, rule.parameters, rule) for rule in rules], scope)

    def _collected(
        self, module: fx.GraphModule, choices: Sequence[Choice], scope: Scope | None
    ) -> Statistics:
        return self.answers(module, requests_of(module, choices, scope)) or Answers({})

    def answers(self, module: fx.GraphModule, requests: Sequence[Request]) -> Statistics | None:
        """The statistics asked for; `None` where there is no data. Second moments of few rows are damped."""
        if not self.data.batches:
            return None
        if not requests:
            return Answers({})
        self._weighed |= any(request.kind == "gradient_moment" for request in requests)
        once = list(dict.fromkeys(requests))  # several layers may ask for what they all read
        return self._answered(module, once, self.data)

    def _answered(self, module: fx.GraphModule, requests: Sequence[Request], data: Data) -> Statistics:
        found = collect_cached(module, data, requests, self.cache, self.progress, room_beside(module))
        if data is self.data:
            self._scarce.update(dict.fromkeys(scarce(found)))
        return shrunk(found)

    def cautions(self) -> list[str]:
        """What to know of the data before results are believed, a line each."""
        lines = [told(list(self._scarce))] if self._scarce else []
        if self._planned and any(a is b for a in self.data.batches for b in self.judged_on.batches):
            lines.append("plans were judged by the samples they are fitted to: give a second batch")
        if self.data.loss is not None and not self._weighed:
            lines.append("the loss was not used: no rule that had a site weighs errors by gradients")
        return lines

    def remember(self, module: fx.GraphModule) -> None:
        """Keep the graph as it was before the first step that loses something: what recovery aims at."""
        if self._reference is None:
            self._reference = copied(module)

    # ------------------------------------------------------------ plans

    @returning()
    def choose(self, choice: ChoiceStep, module: fx.GraphModule, journal: Journal) -> int:
        """Rewrite `module` by the best plan within the budgets.

        Without calibration data only the error of the weights under bounds on costs can be planned. Raises
        `TdslError` for anything else then, and for budgets that cannot be met.
        """
        if journal.full:  # not all that this plan was made after was done: nothing of it could be carried out
            return 0
        problem, statistics = self.problem(choice, module, blindly=True)
        with MEMORY.limited(room_beside(module), lambda: Shelf(0).put):
            outcome = search(
                problem,
                module,
                statistics,
                self.judge,
                lambda copy: self.finish(choice, copy, journal),
                self.progress,
            )
            self.outcomes.append(outcome)
            self.progress("plan: carry it out")
            if self._scarce and self.whole is not None:
                made = [candidate.choice for candidate in outcome.chosen]
                asked = requests_of(module, made, choice.scope)
                statistics = self._answered(module, asked, self.whole)
            count = apply_plan(module, outcome.chosen, statistics, journal)
        MEMORY.clear()
        settle()
        return count

    @returning()
    def problem(
        self,
        choice: ChoiceStep,
        module: fx.GraphModule,
        also: Collection[str] = (),
        *,
        blindly: bool = False,
    ) -> tuple[Problem, Statistics]:
        """The candidates of a `choose` step on `module` with their errors and costs, its own and others.

        `blindly` says that errors of weights will do where there is no data.
        """
        budgets = budgets_of(choice)
        measured = choice.objective != "error" or any(budget.name in QUALITIES for budget in budgets)
        if not self.data.batches and (measured or not blindly):
            raise TdslError(
                "a plan needs calibration data",
                choice.span,
                expected="samples of the model's inputs: `calibration=…`, or the option `--calibration`",
                hint="without data only `minimize error` under budgets on costs can be planned, by weights",
            )
        self.remember(module)
        self._planned = True
        counted = {choice.objective, *(budget.name for budget in budgets), *also} & set(COSTS)
        levels = (
            [Tiled(Ratio(share), BLOCK, fit=1) for share in TIMED_LEVELS]
            if "latency" in counted
            else [Tiled(Ratio(share), TILE) for share in LEVELS]
        )
        choices = [made for alternative in choice.alternatives for made in self._at(alternative, levels)]
        statistics = self._collected(module, choices, choice.scope)
        if self._scarce and "latency" not in counted:
            gentle = [Tiled(Ratio(share), GENTLE_TILE) for share in GENTLE_LEVELS]
            choices += [
                made
                for alternative in choice.alternatives
                if self._free_rank(alternative)
                for made in self._at(alternative, gentle)
            ]
        table = self.table if "latency" in counted else None
        totals = totals_of(module, table)
        found = candidates(
            module,
            choices,
            statistics,
            self.judged_on if self._scarce else self.data,
            table,
            counted,
            room_beside(module),
            choice.scope,
            self.progress,
        )
        blind = not self.data.batches
        return Problem(found, choice.objective, budgets, totals, choice.span, blind), statistics

    def _free_rank(self, alternative: Alternative) -> str | None:
        """The parameter of a rule that is its rank, where no rank is given."""
        declared = (
            self.library.rules[alternative.name].parameters if alternative.name in self.library.rules else ()
        )
        ranks = [p.name for p in declared if p.kinds == ("Rank",)]
        return None if set(ranks) & set(alternative.arguments) else next(iter(ranks), None)

    def _at(self, alternative: Alternative, ranks_to_try: Sequence[Tiled]) -> list[Choice]:
        """A rule at every rank to try, or as it is where its rank is given or it has none."""
        free = self._free_rank(alternative)
        levels: list[dict[str, Any]] = [dict(alternative.arguments)]
        if free is not None:
            levels = [{**alternative.arguments, free: rank} for rank in ranks_to_try]
        return [
            Choice(alternative.name, given, self.library.rule(alternative.name, given, alternative.span))
            for given in levels
        ]

    # ------------------------------------------------------------ judging

    def judge(self, module: fx.GraphModule) -> Judged:
        """How far `module` is from the captured model, on the batches that judge."""
        original = self.judged_on.captured.module
        memory = room_beside(original) // 2
        if self._expected is None:
            self._expected = outputs_of(original, self.judged_on, memory)
        return judged(outputs_of(module, self.judged_on, memory), self._expected, self.judged_on)

    def measure(self, module: fx.GraphModule) -> Metrics:
        """The same, without how sure that is."""
        return self.judge(module).metrics

    # ------------------------------------------------------------ recovery

    @returning()
    def heal(self, step: tree.Heal, module: fx.GraphModule, journal: Journal) -> int:
        """Re-solve the factors that approximate rewrites left; no rewrite is added to the journal.

        Raises `TdslError` without calibration data.
        """
        if not self.data.batches:
            raise TdslError("recovery needs calibration data", step.span, expected="`calibration=…`")
        if self._reference is not None:
            data = self.whole if self._scarce and self.whole is not None else self.data
            self.healed = self._heal(step, module, approximate_rules(journal.entries), data)
        return 0

    def finish(self, choice: ChoiceStep, copy: fx.GraphModule, journal: Journal) -> None:
        """Carry out the recovery that follows a plan, if one does, on a copy that the plan was applied to."""
        if choice.heal is not None:
            names = {alternative.name for alternative in choice.alternatives}
            self._heal(choice.heal, copy, names | approximate_rules(journal.entries), self.data)

    def _heal(self, step: tree.Heal, module: fx.GraphModule, rules: set[str], data: Data) -> list[Healed]:
        assert self._reference is not None
        memory = room_beside(self._reference) // 2
        return least_squares(module, self._reference, data, rules, damping_of(step), memory, self.progress)
