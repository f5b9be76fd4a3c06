"""A plan under budgets: candidates, the exact knapsack over them, and a check of the whole model at the end.

What a candidate saves is known beforehand; what all of them together do to the output is not, since their
errors are added as if they were independent. So a plan is applied to a copy and measured, and the allowance
for the added errors is tightened or relaxed until the budget is used and not broken.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import fx

from tdsl.engine.census import Census, census, copied
from tdsl.engine.driver import Scope, Settings, rewrite
from tdsl.engine.frame import Variant
from tdsl.engine.journal import Applied, Journal
from tdsl.engine.rule import Replacement
from tdsl.engine.statistics import Statistics
from tdsl.engine.workspace import Workspace
from tdsl.errors import Span, TdslError
from tdsl.memory import give_back
from tdsl.plan.calibrate import Progress
from tdsl.plan.candidates import COSTS, Candidate
from tdsl.plan.judged import Judged
from tdsl.plan.latency import LatencyTable
from tdsl.plan.solve import Item, knapsack
from tdsl.provenance import value_name
from tdsl.verify.compare import Metrics

ROUNDS = 8
"""Plans that are applied and measured at most."""
CLOSE = 0.04
"""A budget counts as used when this share of it or less is left."""
QUALITIES = ("error", "max_error", "cosine", "mean_cosine")
ROUNDING = 2.0**-20
"""Errors up to a few roundings of numbers in single precision are the same: nothing."""


class Unreachable(TdslError):
    """A budget on a cost that no choice of rules keeps; `least` is the share that one reaches."""

    def __init__(self, budget: Budget, least: float, shown: str, *, blind: bool) -> None:
        super().__init__(
            f"the budget {budget} cannot be met: these rules reach {shown} at the least",
            budget.span,
            hint="give calibration data, without which rules that ask for statistics take no part"
            if blind
            else "name more rules in `choose`, or ask for less",
        )
        self.least = least


Measure = Callable[[fx.GraphModule], Judged]
"""How far a rewritten module is from the original on samples that nothing was computed from."""
Finish = Callable[[fx.GraphModule], object]
"""What follows a plan before it is judged: recovery."""


@dataclass(frozen=True, slots=True)
class Budget:
    """`bytes <= 50%`: a bound on a cost of the whole model, or on a measured quality."""

    name: str
    relation: str
    value: float
    share: bool
    """Whether `value` is a share of the model's own cost."""
    span: Span

    def holds(self, measured: float) -> bool:
        """Whether `measured` keeps the bound."""
        return measured <= self.value if self.relation == "<=" else measured >= self.value

    def __str__(self) -> str:
        shown = f"{100 * self.value:g}%" if self.share or self.name in ("error",) else f"{self.value:g}"
        return f"{self.name} {self.relation} {shown}"


@dataclass(frozen=True, slots=True)
class Problem:
    """What to choose from, what to make small, and what must hold."""

    candidates: Sequence[Candidate]
    objective: str
    budgets: Sequence[Budget]
    totals: dict[str, float]
    """The model's own costs."""
    span: Span
    blind: bool = False
    """Whether errors are those of the weights, for want of data."""

    @property
    def structural(self) -> list[Budget]:
        """Budgets on costs, which are known without running the model."""
        return [b for b in self.budgets if b.name in COSTS]

    @property
    def qualities(self) -> list[Budget]:
        """Budgets on what is measured."""
        return [b for b in self.budgets if b.name in QUALITIES]

    def limit(self, budget: Budget) -> float:
        """A structural budget as an absolute number."""
        return budget.value * self.totals[budget.name] if budget.share else budget.value

    def solve(self, allowance: float | None) -> list[Candidate] | None:
        """The best choice whose squared errors add up to `allowance` at most; `None` when there is none."""
        structural = self.structural
        candidates = _worthwhile(self.candidates)
        items = [
            Item(
                value=c.error**2 if self.objective == "error" else -c.saved[self.objective],
                weights=(
                    *(-c.saved[b.name] for b in structural),
                    *((c.error**2,) if allowance is not None else ()),
                ),
                covers=c.covers,
            )
            for c in candidates
        ]
        limits = [self.limit(b) - self.totals[b.name] for b in structural]
        if allowance is not None:
            limits.append(allowance)
        found = knapsack(items, limits)
        return None if found is None else [candidates[i] for i in found]

    def cost(self, chosen: Sequence[Candidate], name: str) -> float:
        """A cost of the whole model under a choice, as a share of its own."""
        total = self.totals[name]
        return (total - sum(c.saved[name] for c in chosen)) / total if total else 1.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One plan that was applied and measured."""

    chosen: Sequence[Candidate]
    allowance: float | None
    judged: Judged
    kept: bool

    @property
    def metrics(self) -> Metrics:
        """How far from the original it was."""
        return self.judged.metrics


@dataclass
class Outcome:
    """What a plan came to, for the report."""

    problem: Problem
    trials: list[Trial] = field(default_factory=list)
    chosen: Sequence[Candidate] = ()

    @property
    def measured(self) -> Trial | None:
        """The trial of the plan that was taken."""
        return next((t for t in reversed(self.trials) if t.chosen is self.chosen), None)


def _worthwhile(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates without those that lose as little as another one in their place that saves more.

    A planted rank is found so: what a larger one loses less is rounding.
    """
    lossless: dict[frozenset[str], list[Candidate]] = {}
    for one in candidates:
        if one.error <= ROUNDING:
            lossless.setdefault(one.covers, []).append(one)
    idle = {
        id(one)
        for alike in lossless.values()
        for one in alike
        if any(
            other.saved != one.saved and all(other.saved[name] >= one.saved[name] for name in one.saved)
            for other in alike
        )
    }
    return [one for one in candidates if id(one) not in idle]


def totals_of(module: fx.GraphModule, table: LatencyTable | None) -> dict[str, float]:
    """The costs of a whole module; latency (seconds) only with a table."""
    counted: Census = census(module)
    totals = {"bytes": counted.bytes, "parameters": counted.parameters, "macs": counted.macs, "latency": 0.0}
    if table is not None:
        nodes = [node for node in module.graph.nodes if node.op == "call_function"]
        totals["latency"] = table.of(table.steps(Workspace(module), nodes))
    return {name: float(value) for name, value in totals.items()}


def apply_plan(
    module: fx.GraphModule, chosen: Sequence[Candidate], statistics: Statistics, journal: Journal
) -> int:
    """Apply the candidates of a plan to the module they were found in, or to a copy of it."""
    count = 0
    for candidate in chosen:
        settings = Settings("top_down", False, None, _at(candidate.root))
        count += rewrite(module, [candidate.choice.rule], settings, journal, statistics)
        give_back()
    return count


class Unrecorded(Journal):
    """A journal of a trial, which nobody reads: what each rewrite loses and saves is not computed."""

    def savings(
        self, replacement: Replacement, variant: Variant, work: Workspace
    ) -> tuple[int | None, int | None]:
        """Nothing is asked."""
        return None, None

    def record(
        self,
        replacement: Replacement,
        variant: Variant,
        saved_nodes: int,
        saved: tuple[int | None, int | None],
        created: Sequence[fx.Node] = (),
    ) -> None:
        """Add the entry with what is known at once."""
        replaced = tuple([node.name for node in replacement.matched])
        number, rule, lost = self.next_number, replacement.rule, replacement.rule.approximate
        self.add(Applied(number, rule.name, "", "", replaced, saved_nodes, None, None, approximate=lost))


def settle() -> None:
    """Free what a plan that was tried leaves behind: graphs, and what was staged, refer to themselves."""
    gc.collect()
    give_back()


def _at(name: str) -> Scope:
    """The nodes that compute the value of that name."""
    return lambda node: value_name(node) == name


def search(
    problem: Problem,
    module: fx.GraphModule,
    statistics: Statistics,
    measure: Measure,
    finish: Finish,
    progress: Progress = lambda stage: None,
) -> Outcome:
    """The best plan that keeps every budget, each trial applied to a copy, finished and measured.

    Where no budget bounds what is measured, the knapsack's answer is the plan.

    Raises `TdslError` at the budget that cannot be met, with how close the rules get to it; `Unreachable`
    where it is one on a cost.
    """
    outcome = Outcome(problem)
    _require_reachable(problem)

    def attempt(allowance: float | None) -> Trial | None:
        chosen = problem.solve(allowance)
        return None if chosen is None else made(chosen, allowance)

    def made(chosen: list[Candidate], allowance: float | None) -> Trial:
        for trial in outcome.trials:
            if list(trial.chosen) == chosen:
                return trial
        progress(f"plan: trial {len(outcome.trials) + 1}")
        copy = copied(module)
        apply_plan(copy, chosen, statistics, Unrecorded())
        copy.recompile()
        settle()
        finish(copy)
        found = measure(copy)
        settle()
        kept = all(b.holds(getattr(found.metrics, b.name)) for b in problem.qualities)
        trial = Trial(chosen, allowance, found, kept)
        outcome.trials.append(trial)
        return trial

    if not problem.qualities:
        outcome.chosen = problem.solve(None) or ()
        return outcome
    found = _within(problem, attempt)
    outcome.chosen = found if found is not None else _closest(problem, made)
    return outcome


def _within(problem: Problem, attempt: Callable[[float | None], Trial | None]) -> Sequence[Candidate] | None:
    """The plan with the largest allowance, among those tried, whose measured qualities hold."""
    ceiling = sum(c.error**2 for c in problem.candidates if math.isfinite(c.error)) or 1.0
    target = _as_error(problem.qualities)
    allowance = min(target**2, ceiling)
    below: tuple[float, Trial] | None = None
    above: tuple[float, Trial | None] | None = None
    for _ in range(ROUNDS):
        trial = attempt(allowance)
        if trial is not None and trial.kept:
            below = (allowance, trial)
            if _used(problem, trial) or allowance >= ceiling:
                break
        elif trial is None and below is None:
            # The structural budgets need more error than this allows.
            allowance *= 4
            if allowance > 4 * ceiling:
                break
            continue
        else:
            above = (allowance, trial)
        if above is None:
            allowance = min(ceiling, allowance * _growth(problem, trial))
        elif below is None:
            allowance = allowance / max(2.0, _growth(problem, trial, shrinking=True))
        else:
            if above[0] / below[0] < 1 + CLOSE:
                break
            allowance = math.sqrt(above[0] * below[0])
    return below[1].chosen if below is not None else None


def _closest(problem: Problem, made: Callable[[list[Candidate], float | None], Trial]) -> Sequence[Candidate]:
    """The plan of least error within the structural budgets, if its qualities hold.

    Raises `TdslError` with the measured quality where they do not.
    """
    gentle = Problem(problem.candidates, "error", problem.structural, problem.totals, problem.span)
    chosen = gentle.solve(None)
    assert chosen is not None  # the structural budgets were found reachable
    trial = made(chosen, sum(c.error**2 for c in chosen))
    if trial.kept:
        return trial.chosen
    if not problem.structural:
        return ()
    broken = next(b for b in problem.qualities if not b.holds(getattr(trial.metrics, b.name)))
    within = ", ".join(map(str, problem.structural))
    raise TdslError(
        f"the budget {broken} cannot be met within {within}: the least error found gives "
        f"{broken.name} {getattr(trial.metrics, broken.name):.4g}",
        broken.span,
        expected="budgets that some choice of these rules keeps together",
        hint="allow more error, a larger model, more rules in `choose`, or recovery (`heal`) after it",
    )


def _require_reachable(problem: Problem) -> None:
    """Raise `Unreachable` at the structural budget that no choice keeps, with the least that one reaches."""
    for budget in problem.structural:
        alone = Problem(problem.candidates, budget.name, (), problem.totals, problem.span)
        least = alone.solve(None) or []
        reached = problem.cost(least, budget.name)
        if reached * problem.totals[budget.name] > problem.limit(budget) * (1 + 1e-9):
            shown = (
                f"{100 * reached:.3g}%" if budget.share else f"{reached * problem.totals[budget.name]:.6g}"
            )
            raise Unreachable(budget, reached, shown, blind=problem.blind)
    if problem.structural and problem.solve(None) is None:
        raise TdslError(
            "the budgets " + ", ".join(map(str, problem.structural)) + " cannot be met together",
            problem.span,
            hint="each of them can be met alone",
        )


def _as_error(qualities: Sequence[Budget]) -> float:
    """A relative error at which the budgets would about hold: of unit vectors ‖a − b‖² = 2 − 2·cos."""
    errors = []
    for budget in qualities:
        if budget.name == "error":
            errors.append(budget.value)
        elif budget.name in ("cosine", "mean_cosine"):
            errors.append(math.sqrt(max(0.0, 2 - 2 * budget.value)))
    return max(min(errors, default=0.05), 1e-6)


def _distance(problem: Problem, trial: Trial) -> float:
    """Measured over allowed error, the largest over the quality budgets; 1 where a budget is just used."""
    ratios = []
    for budget in problem.qualities:
        measured = getattr(trial.metrics, budget.name)
        if budget.relation == "<=":
            ratios.append(measured / budget.value if budget.value else math.inf)
        else:
            ratios.append(math.sqrt(max(0.0, 1 - measured) / max(1 - budget.value, 1e-12)))
    return max(ratios)


def _used(problem: Problem, trial: Trial) -> bool:
    return _distance(problem, trial) >= 1 - CLOSE


def _growth(problem: Problem, trial: Trial | None, *, shrinking: bool = False) -> float:
    """How much to change the allowance: by the square of what is left of, or beyond, the error budget."""
    ratio = _distance(problem, trial) if trial is not None else 2.0
    factor = (ratio if shrinking else 1 / max(ratio, 1e-3)) ** 2
    return min(max(factor, 1.05), 16.0)
