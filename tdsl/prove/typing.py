"""Types for all sizes: both sides of a rule have the same shape whatever its dimension variables are.

An instance gives the outline: how many axes and results there are, which operators, which optional operands.
Every size and every number of an attribute becomes a variable, the laws of shape run on them, and each
condition they ask about is proved from what the left side and `where` say, or taken both
ways (King, 1976). Where the sides then differ, sizes are looked for at which they do.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tdsl.lang.shapes import UnknownValueError
from tdsl.lang.typecheck import conditions_hold, require_equal_shapes
from tdsl.ops.shapes import ShapeMismatch
from tdsl.prove.assumptions import Contradiction
from tdsl.prove.examine import Finding
from tdsl.prove.outline import Outline
from tdsl.prove.polynomial import Polynomial
from tdsl.prove.size import Decision, Fit, Path
from tdsl.prove.symbolic import Undefined, compare, matches

MOST_OUTLINES = 2
"""Outlines that are looked at of one case, and"""
MOST_OF_ALL = 8
"""of all cases together."""
MOST_PATHS = 24
"""Paths that are followed of one outline, and"""
PATHS_OF_ALL = 64
"""of all together."""
MOST_SEARCHES = 2
"""Paths of an outline for which sizes are looked for at which the sides differ, so many times:"""
SEARCHED = 600

State = Literal["elsewhere", "equal", "different", "unknown"]

ALL = "for all sizes"


@dataclass(frozen=True)
class _Outcome:
    """What is known at the end of a path."""

    state: State
    reason: str = ""


def types_of(findings: Sequence[Finding]) -> str:
    """`for all sizes`, or on how many instances both sides have equal shapes and why no more is known.

    Raises `TdslError` with sizes at which they differ.
    """
    decided: list[Outline] = []
    open_: dict[int, str] = {}
    """By number of axes, why types are not known for all sizes."""
    left = PATHS_OF_ALL
    for outline in _outlines(findings):
        reason, followed = _of_outline(outline, min(left, MOST_PATHS))
        left -= followed
        if reason:
            open_.setdefault(outline.axes, reason)
        else:
            decided.append(outline)
    if not open_:
        return ALL
    axes = min(open_)
    known = max((outline.axes for outline in decided if outline.axes < axes), default=None)
    beyond = f"on {len(findings)} instances: {open_[axes]}"
    return beyond if known is None else f"{ALL} of tensors of up to {known} axes, beyond {beyond}"


def _outlines(findings: Sequence[Finding]) -> Iterator[Outline]:
    """The different ones among the instances, the smaller ones first."""
    seen: dict[tuple[int, str], Outline] = {}
    count: dict[int, int] = {}
    for finding in sorted(findings, key=lambda f: f.instance.elements):
        outline = Outline(finding.instance)
        key = (id(finding.case), outline.key)
        if key not in seen and count.get(key[0], 0) < MOST_OUTLINES:
            seen[key] = outline
            count[key[0]] = count.get(key[0], 0) + 1
    yield from list(seen.values())[:MOST_OF_ALL]


def _of_outline(outline: Outline, most: int) -> tuple[str, int]:
    """Why types are not known for all sizes of this outline, if so, and how many paths were followed."""
    pending: list[tuple[bool, ...]] = [()]
    reason, searches = "", 0
    for count in range(most):
        if not pending:
            return reason, count
        forced = pending.pop()
        path = Path(outline.positive, outline.values, forced)
        outcome = _followed(outline, path)
        taken = tuple(decision.outcome for decision in path.decisions)
        pending += [(*taken[:i], not taken[i]) for i in range(len(forced), len(taken))]
        if outcome.state == "different" and path.known.impossible():
            continue
        if outcome.state == "different" and searches < MOST_SEARCHES:
            searches += 1
            _refute(outline, path)
        if outcome.state in ("different", "unknown"):
            reason = reason or outcome.reason
        elif outcome.state == "equal" and path.counted:
            reason = reason or f"{path.counted} says how many there are"
    return reason or ("" if not pending else "there are too many cases"), most


def _followed(outline: Outline, path: Path) -> _Outcome:
    sides = outline.sides(path)
    try:
        sides.left()
        if not matches(sides, path):
            return _Outcome("elsewhere")
    except (ShapeMismatch, Contradiction, ZeroDivisionError):
        return _Outcome("elsewhere")
    except Undefined as undefined:
        return _Outcome("different", str(undefined))
    except (UnknownValueError, TypeError) as unknown:
        return _Outcome("unknown", str(unknown))
    path.matching = False
    try:
        different = compare(sides)
    except Contradiction:
        return _Outcome("elsewhere")
    except (ShapeMismatch, ZeroDivisionError) as mismatch:
        return _Outcome("different", f"whether {mismatch}")
    except (UnknownValueError, TypeError) as unknown:
        return _Outcome("unknown", str(unknown))
    return _Outcome("different", f"whether {different}") if different else _Outcome("equal")


# ---------------------------------------------------------------- counterexamples


def _refute(outline: Outline, path: Path) -> None:
    """Raise a `TdslError` with sizes on the path at which the sides differ, if some are found."""
    found = _sizes(outline, path)
    if found is None:
        return
    instance = copy.copy(outline.instance)
    instance.shapes = outline.sides_at(found)
    instance.env = instance.shapes.env
    rule = instance.resolved.rule
    try:
        left = instance.shapes.left()
        if conditions_hold(instance, rule):
            require_equal_shapes(instance, left, rule)
    except (ShapeMismatch, UnknownValueError, ZeroDivisionError):
        return


def _sizes(outline: Outline, path: Path) -> Mapping[str, int] | None:
    """Small values of the variables at which everything is as on the path."""
    conditions: list[Decision | Fit] = [*path.taken, *path.decisions]
    solved = {n: p for n, p in path.known.solved.items() if n in outline.values}
    free = sorted(
        {n for n in outline.values if n not in solved}
        | {n for p in solved.values() for n in p.variables if n not in outline.values}
    )
    source = random.Random(0)
    start = {n: path.values.get(n, 1) for n in free}
    best: Mapping[str, int] | None = None
    for attempt in range(SEARCHED):
        values = dict(start)
        most = 3 if attempt < SEARCHED // 3 else 12 if attempt < 2 * SEARCHED // 3 else 70
        changed = source.sample(free, source.randint(0, len(free)) if attempt % 2 else min(2, len(free)))
        for name in changed if attempt else ():
            values[name] = source.randint(1 if name in outline.positive else -1, most)
        whole = _completed(values, solved, outline, conditions)
        if whole is not None and (
            best is None or sum(map(abs, whole.values())) < sum(map(abs, best.values()))
        ):
            best = whole
            if attempt > SEARCHED // 3:
                break
    return best


def _completed(
    values: dict[str, int],
    solved: Mapping[str, Polynomial],
    outline: Outline,
    conditions: Sequence[Decision | Fit],
) -> Mapping[str, int] | None:
    """The values with those that equations tell, if all conditions hold there."""
    try:
        for name, p in solved.items():
            value = p.at(values)
            if value != int(value):
                return None
            values[name] = int(value)
        known = {n: values[n] for n in outline.values}
        if any(known[n] < 1 for n in outline.positive):
            return None
        return known if all(c.holds_at(known) for c in conditions) else None
    except ZeroDivisionError:
        return None
