"""A plan in words: what was chosen out of what, how far the budgets are used, what was left alone."""

from __future__ import annotations

import math
from collections import Counter

from tdsl.plan.candidates import COSTS, Candidate
from tdsl.plan.choose import Budget, Outcome, Problem
from tdsl.plan.judged import Judged
from tdsl.spelling import some_of


def described(outcome: Outcome) -> list[str]:
    """One line on the choice, one a budget, one on the sites that were left alone."""
    problem, chosen = outcome.problem, outcome.chosen
    sites = {c.root for c in problem.candidates}
    used = Counter(c.choice.name.rpartition(".")[2] for c in chosen)
    rules = ", ".join(f"{name} {count}×" for name, count in sorted(used.items())) or "none"
    tried = len(outcome.trials)
    measured = f"; {tried} {'plan' if tried == 1 else 'plans'} measured" if tried else ""
    lines = [
        f"{len(chosen)} of {len(sites)} sites rewritten ({rules}), out of "
        f"{len(problem.candidates)} candidates{measured}"
        if sites
        else f"nothing to choose among: {_why_nothing(problem)}"
    ]
    if problem.blind:
        lines.append("without calibration data ranks are divided by the spectra of the weights alone")
    costs = dict.fromkeys([*(b.name for b in problem.structural), problem.objective])
    lines += [
        f"{name}: {100 * problem.cost(chosen, name):.1f}% of the model's{_bound(problem, name)}"
        for name in costs
        if name in COSTS
    ]
    trial = outcome.measured
    if trial is not None:
        lines += [_quality(trial.judged, b) for b in problem.qualities]
        if chosen:
            lines.append(
                f"what the rewrites lose one by one adds up to an error of "
                f"{math.sqrt(sum(c.error**2 for c in chosen)):.3g}; all together {trial.metrics.error:.3g}"
            )
    alone = _alone(outcome)
    paying = {c.root for c in problem.candidates if _pays(c, problem)}
    called = {c.root: c.site for c in problem.candidates}
    idle = [root for root in alone if root not in paying]
    by_error = problem.objective == "error"
    for why, roots in (
        ("the budgets are kept without them" if by_error else "no candidate pays there", idle),
        ("what pays there does not fit into the budgets", [root for root in alone if root in paying]),
    ):
        if roots:
            lines.append(f"left alone, because {why}: {some_of([called[root] for root in roots])}")
    return lines


def _why_nothing(problem: Problem) -> str:
    """Why a plan has no candidates: what none of its rules saves, or that nothing is to be saved."""
    names = dict.fromkeys([problem.objective, *(budget.name for budget in problem.structural)])
    costs = " or ".join(name for name in names if name in COSTS)
    if not costs:
        return "the model as it is has the least error where no cost has a budget, as by `parameters <= 50%`"
    return f"no rule of the plan saves {costs} anywhere"


def _quality(found: Judged, budget: Budget) -> str:
    """What was measured against its budget; of an error, how much of that is chance."""
    measured = f"{getattr(found.metrics, budget.name):.4g}"
    where = f"on the {found.samples} samples that judge plans, the budget is {budget}"
    if budget.name != "error" or not found.spread:
        return f"{budget.name}: {measured} {where}"
    most = found.metrics.error + 2 * found.spread
    return (
        f"error: {measured} ± {found.spread:.2g} {where}; on as many others up to {most:.3g} is no surprise"
    )


def _alone(outcome: Outcome) -> list[str]:
    """The sites none of whose own nodes is rewritten: those that every candidate of a site covers."""
    own: dict[str, frozenset[str]] = {}
    for candidate in outcome.problem.candidates:
        own[candidate.root] = own.get(candidate.root, candidate.covers) & candidate.covers
    taken = {name for candidate in outcome.chosen for name in candidate.covers}
    return sorted(root for root, nodes in own.items() if not nodes & taken)


def _pays(candidate: Candidate, problem: Problem) -> bool:
    """Whether a candidate saves something of what the plan is to make small."""
    return problem.objective in COSTS and candidate.saved[problem.objective] > 0


def _bound(problem: Problem, name: str) -> str:
    bounds = [str(b) for b in problem.structural if b.name == name]
    return f", the budget is {' and '.join(bounds)}" if bounds else ""
