"""Shape checking of a rule by instances: both sides must have the same shapes on every one tried.

Sizes are drawn at random (fixed seeds), rejecting what the left side or the numeric conditions refuse;
conditions on weights and costs are skipped. A rule that fails is refused with the instance as its
counterexample. Polynomial identities in sizes that hold on several random instances hold in general but
for accidents (Schwartz 1980, Zippel 1979).
"""

from __future__ import annotations

from typing import Any

from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.instance import Instance
from tdsl.lang.resolve import Resolved
from tdsl.lang.shapes import Absent, Shaped, UnknownValueError
from tdsl.lang.vocabulary import COSTS
from tdsl.lang.walk import walk
from tdsl.ops.shapes import ShapeMismatch

INSTANCES = 20
ATTEMPTS = 800
UNKNOWNS = 40
SEARCHED = 120
"""Further instances looked at for a smaller counterexample."""


def check_types(resolved: Resolved) -> str:
    """Check that both sides have equal shapes; why that could not be checked, or an empty text.

    Raises `TdslError` with an instance on which the shapes differ, or on which the left side has a shape
    and the right side has none.
    """
    found, unknowns, typed, reason = 0, 0, False, "the left side has no shape on any instance tried"
    wrong: list[tuple[int, TdslError]] = []
    last = ATTEMPTS
    for seed in range(ATTEMPTS):
        if found == INSTANCES or unknowns > UNKNOWNS or seed > last:
            break
        instance = Instance(resolved, seed)
        try:
            left = instance.left(resolved.rule.lhs)
            instance.env["lhs"] = next(iter(left.values()))
            if not conditions_hold(instance, resolved.rule):
                typed, reason = True, "no instance tried meets the conditions"
                continue
            require_equal_shapes(instance, left, resolved.rule)
        except TdslError as mistake:
            wrong.append((instance.elements, mistake))
            last = min(last, seed + SEARCHED)
        except ShapeMismatch as mismatch:
            if not typed:
                reason = f"the left side has no shape on any instance tried ({mismatch})"
        except UnknownValueError as unknown:
            reason, unknowns = str(unknown), unknowns + 1
        else:
            found += not wrong
    if wrong:
        raise min(wrong, key=lambda pair: pair[0])[1]
    return "" if found else f"unchecked: {reason}"


def conditions_hold(instance: Instance, rule: tree.Rule) -> bool:
    """Whether the conditions that shapes decide hold; definitions are carried out.

    Raises `TdslError` where a definition cannot be computed, as `Instance` does elsewhere.
    """
    for clause in rule.where:
        if isinstance(clause, tree.Definition):
            try:
                instance.define(clause)
            except ShapeMismatch as mismatch:
                raise TdslError(
                    f"this cannot be computed: {mismatch}",
                    clause.span,
                    hint=_counterexample(instance),
                ) from None
        elif not speaks_of_rhs(clause) and not instance.holds(clause):
            return False
    late = [c for c in rule.where if isinstance(c, tree.Condition) and speaks_of_rhs(c)]
    if late:  # the shape of the right side; where it has none, the engine leaves the site alone
        instance.env["rhs"] = instance.shapes.term(rule.rhs[0].term)
    return all(instance.holds(clause) for clause in late)


def speaks_of_rhs(condition: tree.Condition) -> bool:
    """Whether the condition asks for the shape of the right side, rather than for what it costs."""
    return any(
        isinstance(node, tree.Call)
        and node.callee not in COSTS
        and any(isinstance(a.value, tree.Name) and a.value.id == "rhs" for a in node.arguments)
        for node in walk(condition.test)
    )


def require_equal_shapes(instance: Instance, left: dict[tuple[str, ...], Any], rule: tree.Rule) -> None:
    """Raise a `TdslError` with the instance where its right side has another shape than its left one."""
    for equation in rule.rhs:
        try:
            right = instance.shapes.term(equation.term)
        except ShapeMismatch as mismatch:
            raise TdslError(
                f"the right side cannot be computed: {mismatch}",
                equation.term.span,
                expected="operands that fit wherever the left side matches",
                hint=_counterexample(instance),
            ) from None
        if len(equation.names) > 1 and isinstance(right, list):
            right = tuple(right)
        before = left[equation.names] if equation.names in left else _named(instance, equation)
        if _shapes(before) != _shapes(right):
            name = f" of {', '.join(equation.names)}" if equation.names else ""
            raise TdslError(
                f"the two sides{name} have different shapes",
                equation.term.span,
                expected=f"{_shown(before)}, as on the left",
                hint=f"{_counterexample(instance)}: left is {_shown(before)}, right is {_shown(right)}",
            )


def _named(instance: Instance, equation: tree.Equation) -> Any:
    values = tuple(instance.env[name] for name in equation.names)
    return values if len(values) > 1 else values[0]


def _counterexample(instance: Instance) -> str:
    chosen = instance.describe()
    return f"for {chosen}" if chosen else "for every instance"


def _shapes(value: Any) -> Any:
    if isinstance(value, Shaped | Absent):
        return value.shape
    if isinstance(value, tuple):
        return [_shapes(v) for v in value]
    return ()


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " and ".join(map(_shown, value))
    return str(list(_shapes(value)))
