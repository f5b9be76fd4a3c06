"""Is a rule right? Random instances under two checkers, and what their opinions come to.

*Proved*: on every instance both sides are equal over the prime field, for random values of everything; a
wrong rule passes with the stated probability at most. *Tested*: equal in float64 on every instance, where the
field knows too little. *Refuted*: there is an instance on which the sides differ.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

from tdsl.lang import tree
from tdsl.lang.alternatives import expand_alternatives
from tdsl.lang.assignment import ALIKE, DISTINCT_ATTEMPTS
from tdsl.lang.resolve import Resolved, Role
from tdsl.lang.walk import walk
from tdsl.ops import Operator
from tdsl.prove.counterexample import counterexample_of
from tdsl.prove.examine import LARGEST_INSTANCE, Case, Finding, examine, least_elements
from tdsl.prove.typing import types_of
from tdsl.prove.verdict import Verdict

INSTANCES, LEAST = 20, 4
"""How many instances of a rule are wanted, `EACH` more for each attribute; and of each of its cases."""
EACH = 6
ATTEMPTS = 1500
"""How many draws of a case are tried for that."""
DISTINCT = 4
"""The first draws give every dimension a size of its own; the others are small."""
ALIKE_INSTANCES, ALIKE_ATTEMPTS = 4, 60
"""How many more instances of a case have one size for all dimensions; how many draws are tried for them."""
PATIENCE = 20
"""How many times the instances are taken where comparisons make single ones say little."""
LARGEST_NAMED = 1 << 22
"""Most elements of an instance of a rule that names large sizes."""
MOST_CASES = 24
MOST_UNKNOWN = 30
CERTAIN = 1e-6
"""Above this probability of error nothing is called proved."""


def prove(resolved: Resolved) -> Verdict:
    """The verdict on a rule whose names are resolved.

    Raises `TdslError` with sizes at which the sides have different shapes.
    """
    cases = cases_of(resolved)
    findings = findings_of(cases)
    if findings and findings[-1].differs:
        return _refuted(findings)
    verdict = _accepted(cases, findings)
    if verdict.status == "unchecked":
        return verdict
    return dataclasses.replace(verdict, types=types_of([f for f in findings if f.agrees]))


def findings_of(cases: Sequence[Case]) -> list[Finding]:
    """What the checkers find on instances of every case, up to the first one on which the sides differ."""
    roles = cases[0].resolved.roles.values()
    wanted = INSTANCES + EACH * sum(role is Role.ATTRIBUTE for role in roles)
    findings: list[Finding] = []
    for i, case in enumerate(cases):
        findings += _of_case(case, max(LEAST, wanted // len(cases)), i * ATTEMPTS)
        if findings and findings[-1].differs:
            break
    return findings


def cases_of(resolved: Resolved) -> list[Case]:
    """The choices of alternatives, and of operators for variables that are one of a few."""
    rule = resolved.rule
    classes = resolved.vocabulary.classes
    few = [p for p in rule.parameters if p.name in resolved.operators and p.kinds[0] not in classes]
    members = [[(p.name, op) for op in resolved.operators[p.name]] for p in few]
    choices: list[Mapping[str, Operator]] = [dict(row) for row in itertools.product(*members)]
    sides = [
        dataclasses.replace(resolved, rule=dataclasses.replace(rule, lhs=lhs, where=where))
        for lhs, where in expand_alternatives(rule)
    ]
    optional = any(isinstance(node, tree.Declared) and node.optional for e in rule.lhs for node in walk(e))
    cases = [
        Case(side, operators, complete)
        for complete in ([False, True] if optional else [False])
        for side in sides
        for operators in choices
    ]
    step = math.ceil(len(cases) / MOST_CASES)
    return cases[::step]


def _of_case(case: Case, wanted: int, first: int) -> list[Finding]:
    if (
        least_elements(case) > LARGEST_INSTANCE
    ):  # of one large instance everything is known that is known of two
        return _findings(case, 1, first, LARGEST_NAMED)
    return _findings(case, wanted, first, LARGEST_INSTANCE)


def _findings(case: Case, wanted: int, first: int, largest: int) -> list[Finding]:
    found: list[Finding] = []
    nothing: list[Finding] = []
    first += DISTINCT_ATTEMPTS
    for seed in (*range(DISTINCT), *range(first, first + ATTEMPTS)):
        finding = examine(case, seed, largest=largest)
        if finding is None:
            continue
        if finding.exact == finding.numeric == "unknown":  # no instance after all, or no operator is known
            nothing.append(finding)
            if len(nothing) > MOST_UNKNOWN:
                break
            continue
        found.append(finding)
        if finding.differs:
            break
        if len(found) >= wanted:
            exact = [f for f in found if f.exact == "equal"]
            if len(found) >= PATIENCE * wanted or len(exact) < len(found) or _error(exact) <= CERTAIN:
                break
    if found and not found[-1].differs:
        found += _alike(case, first, largest)
    return found or nothing[:1]


def _alike(case: Case, first: int, largest: int) -> list[Finding]:
    """Some instances in which all dimensions have one size, up to the first one on which the sides differ."""
    found: list[Finding] = []
    dimensions = [name for name, role in case.resolved.roles.items() if role is Role.DIMENSION]
    for seed in range(ALIKE + first, ALIKE + first + ALIKE_ATTEMPTS) if len(dimensions) > 1 else ():
        finding = examine(case, seed, largest=largest)
        if finding is None or finding.exact == finding.numeric == "unknown":
            continue
        found.append(finding)
        if finding.differs or len(found) == ALIKE_INSTANCES:
            break
    return found


def _refuted(findings: list[Finding]) -> Verdict:
    wrong = findings[-1]
    if wrong.numeric == "differs":
        reason = "the sides differ" if wrong.exact == "differs" else "the sides differ in float64"
    else:
        reason = "the sides differ over the prime field"
    example = counterexample_of(wrong)
    return Verdict("refuted", reason, instances=len(findings), counterexample=example)


def _accepted(cases: list[Case], findings: list[Finding]) -> Verdict:
    by_case = {id(case): [f for f in findings if f.case is case] for case in cases}
    count = sum(f.agrees for f in findings)
    if not all(by_case.values()):
        reasons = (case.refused for case in cases if case.refused and not by_case[id(case)])
        reason = next(reasons, "")
        return Verdict(
            "unchecked", "no instance of its left side was found" + (f": {reason}" if reason else "")
        )
    seen = [
        [f for f in found if f.exact != "unknown" or f.numeric != "unknown"] for found in by_case.values()
    ]
    if not all(seen):
        return Verdict("unchecked", next(f.reason for f in findings if f.reason))
    exact = [[f for f in found if f.exact == "equal"] for found in seen]
    doubtful = next((f for found in seen for f in found if f.exact == "differs"), None)
    probability = max((_error(found) for found in exact), default=1.0)
    partly = next((f for found in seen for f in found if f.exact == "unknown"), None)
    if doubtful is None and partly is None and probability <= CERTAIN:
        return Verdict("proved", f"on {count} instances, over a field", probability, count)
    if not any(f.numeric == "equal" for f in findings):
        return Verdict("unchecked", next((f.reason for f in findings if f.reason), "no numbers were equal"))
    if doubtful is not None:
        why = doubtful.reason or "it holds for the functions in it, not for any in their place"
    else:
        why = partly.reason if partly else "which of many orders decides is left to chance"
    return Verdict("tested", f"on {count} instances, in float64: {why}", instances=count)


def _error(found: list[Finding]) -> float:
    """The probability that one case of a wrong rule passes.

    A difference of rational functions vanishes at a random point with probability degree / p, with p the
    number of elements that are drawn from. Where elements were compared, a difference may show in one of
    their orders only, which each element of a result meets independently of the others.
    """
    if not found:
        return 1.0
    rational = max(f.degree / f.choices for f in found)
    orders = math.factorial(min(max(f.comparands for f in found), 12))
    elements = sum(f.elements for f in found)
    return rational + (0.0 if orders == 1 else (1 - 1 / orders) ** elements)
