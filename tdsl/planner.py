"""Carries out the steps of a pipeline that look at data: statistics, plans under budgets, recovery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, fx

from tdsl.engine.census import copied
from tdsl.engine.driver import Scope
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library
from tdsl.engine.rule import Rule
from tdsl.engine.statistics import Answers, Statistics
from tdsl.engine.strategy import Alternative, ChoiceStep, ContractBound
from tdsl.errors import TdslError
from tdsl.factor.rank import Ratio, Tiled
from tdsl.heal.least_squares import Healed, least_squares
from tdsl.heal.sites import approximate_rules
from tdsl.lang import tree
from tdsl.lang.expected import did_you_mean
from tdsl.plan.cache import collect_cached
from tdsl.plan.calibrate import Data, Progress
from tdsl.plan.candidates import COSTS, Candidate, Choice, candidates, corrected, promising, requests_of
from tdsl.plan.choose import QUALITIES, Budget, Outcome, Problem, apply_plan, search, totals_of
from tdsl.plan.latency import LatencyTable
from tdsl.verify.compare import Metrics, compare, over_outputs, over_samples

LEVELS = tuple(i / 16 for i in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15))
"""Ranks to try for a rule, as shares of the break-even rank."""
CORRECTION_BATCHES = 48
CORRECTION_SAMPLES = 128
"""Calibration batches on which single candidates are measured: this many, or that many samples in them."""
TILE = 8
"""Ranks are multiples of this, which vector units like."""


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
    outcomes: list[Outcome] = field(default_factory=list)
    healed: list[Healed] = field(default_factory=list)
    _reference: fx.GraphModule | None = None
    _expected: list[list[Tensor]] | None = None

    # ------------------------------------------------------------ statistics

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
        requests = requests_of(module, choices, scope)
        if not requests:
            return Answers({})
        return collect_cached(module, self.data, requests, self.cache, self.progress)

    def remember(self, module: fx.GraphModule) -> None:
        """Keep the graph as it was before the first step that loses something: what recovery aims at."""
        if self._reference is None:
            self._reference = copied(module)

    # ------------------------------------------------------------ plans

    def choose(self, choice: ChoiceStep, module: fx.GraphModule, journal: Journal) -> int:
        """Rewrite `module` by the best plan within the budgets.

        Raises `TdslError` without calibration data, and for budgets that cannot be met.
        """
        problem, statistics = self.problem(choice, module)
        outcome = search(
            problem,
            module,
            statistics,
            self.measure,
            lambda copy: self.finish(choice, copy, journal),
            self.progress,
        )
        self.outcomes.append(outcome)
        return apply_plan(module, outcome.chosen, statistics, journal)

    def problem(
        self, choice: ChoiceStep, module: fx.GraphModule, *, timed: bool = False
    ) -> tuple[Problem, Statistics]:
        """The candidates of a `choose` step on `module` with their costs and errors, `timed` or as needed."""
        if not self.data.batches:
            raise TdslError(
                "a plan needs calibration data",
                choice.span,
                expected="samples of the model's inputs: `calibration=…`, or the option `--calibration`",
            )
        self.remember(module)
        budgets = tuple(map(_budget, choice.bounds))
        choices = [made for alternative in choice.alternatives for made in self._levels(alternative)]
        statistics = self._collected(module, choices, choice.scope)
        timed |= choice.objective == "latency" or any(b.name == "latency" for b in budgets)
        table = self.table if timed else None
        found = candidates(module, choices, statistics, self.data, table, choice.scope, self.progress)
        expected = outputs_of(module, self.data, _batches_with(self.data, CORRECTION_SAMPLES))
        found = corrected(
            promising(found), lambda candidate: self._alone(candidate, module, statistics, expected)
        )
        totals = totals_of(module, table)
        return Problem(found, choice.objective, budgets, totals, choice.span), statistics

    def _alone(
        self,
        candidate: Candidate,
        module: fx.GraphModule,
        statistics: Statistics,
        expected: Sequence[Sequence[Tensor]],
    ) -> float:
        """The measured error of the output when this candidate is applied and nothing else."""
        self.progress(f"measure {candidate.choice.name} at {candidate.root}")
        copy = copied(module)
        apply_plan(copy, [candidate], statistics, Journal())
        return difference(copy, self.data, expected).error

    def _levels(self, alternative: Alternative) -> list[Choice]:
        """A rule at every rank to try, or as it is where its rank is given or it has none."""
        declared = (
            self.library.rules[alternative.name].parameters if alternative.name in self.library.rules else ()
        )
        free = next(
            (p.name for p in declared if p.kinds == ("Rank",) and p.name not in alternative.arguments), None
        )
        levels: list[dict[str, Any]] = [dict(alternative.arguments)]
        if free is not None:
            levels = [{**alternative.arguments, free: Tiled(Ratio(share), TILE)} for share in LEVELS]
        return [
            Choice(alternative.name, given, self.library.rule(alternative.name, given, alternative.span))
            for given in levels
        ]

    # ------------------------------------------------------------ judging

    def measure(self, module: fx.GraphModule) -> Metrics:
        """How far `module` is from the captured model, on the batches that judge."""
        if self._expected is None:
            self._expected = outputs_of(self.judged_on.captured.module, self.judged_on)
        return difference(module, self.judged_on, self._expected)

    # ------------------------------------------------------------ recovery

    def heal(self, step: tree.Heal, module: fx.GraphModule, journal: Journal) -> int:
        """Re-solve the factors that approximate rewrites left; no rewrite is added to the journal.

        Raises `TdslError` without calibration data.
        """
        if not self.data.batches:
            raise TdslError("recovery needs calibration data", step.span, expected="`calibration=…`")
        if self._reference is not None:
            self.healed = self._heal(module, approximate_rules(journal.entries))
        return 0

    def finish(self, choice: ChoiceStep, copy: fx.GraphModule, journal: Journal) -> None:
        """Carry out the recovery that follows a plan, if one does, on a copy that the plan was applied to."""
        if choice.heal is not None:
            names = {alternative.name for alternative in choice.alternatives}
            self._heal(copy, names | approximate_rules(journal.entries))

    def _heal(self, module: fx.GraphModule, rules: set[str]) -> list[Healed]:
        assert self._reference is not None
        return least_squares(module, self._reference, self.data, rules, progress=self.progress)


def _batches_with(data: Data, samples: int) -> int:
    """How many of the first batches hold that many samples; `CORRECTION_BATCHES` at most."""
    count = 0
    for number, batch in enumerate(data.batches[:CORRECTION_BATCHES], start=1):
        count += max((len(tensor) for tensor in batch if tensor.dim()), default=1)
        if count >= samples:
            return number
    return CORRECTION_BATCHES


def outputs_of(module: fx.GraphModule, data: Data, most: int | None = None) -> list[list[Tensor]]:
    """The outputs of `module` on each of the first `most` batches."""
    found = []
    for batch in data.batches[:most]:
        run = data.execution(module, batch)
        run.advance()
        found.append([out.detach() for out in run.outputs])
    return found


def difference(module: fx.GraphModule, data: Data, expected: Sequence[Sequence[Tensor]]) -> Metrics:
    """How far the outputs of `module` are from those expected on the first batches of `data`."""
    found = outputs_of(module, data, len(expected))
    pairs = [
        [compare(a, b) for a, b in zip(theirs, ours, strict=True)]
        for theirs, ours in zip(expected, found, strict=True)
    ]
    return over_outputs(over_samples(column) for column in zip(*pairs, strict=True))


def _budget(bound: ContractBound) -> Budget:
    """A bound of `subject to`. Raises `TdslError` for one that means nothing."""
    source = bound.source
    assert isinstance(source, tree.Binary)
    known = (*COSTS, *QUALITIES)
    if bound.metric not in known:
        raise TdslError(
            f"unknown budget {bound.metric}",
            source.span,
            expected=f"one of {', '.join(known)}",
            hint=did_you_mean(bound.metric, known),
        )
    wanted = ">=" if "cosine" in bound.metric else "<="
    if bound.relation.rstrip("=") != wanted.rstrip("="):
        raise TdslError(
            f"a budget cannot bound {bound.metric} with `{bound.relation}`",
            source.span,
            expected=f"{bound.metric} {wanted} …",
        )
    share = bound.metric in COSTS and bound.value <= 1
    return Budget(bound.metric, wanted, bound.value, share, source.span)
