"""How a rule changes the number of multiply–accumulates, counted on random instances of its left side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tdsl.interplay.forms import Form, positions
from tdsl.interplay.overlap import alone
from tdsl.lang import tree
from tdsl.lang.instance import Instance
from tdsl.lang.shapes import Shapes, UnknownValueError, as_argument
from tdsl.lang.typecheck import conditions_hold
from tdsl.ops import Operator
from tdsl.ops.shapes import ShapeMismatch
from tdsl.ops.spec import REQUIRED

DRAWS = 1000
"""Most instances that are tried."""
LEAST, ENOUGH = 12, 40
"""On how many instances the right side has to take no more, and on how many at most it is counted."""


def never_more_macs(form: Form, is_constant: Callable[[tree.Expr], bool]) -> bool:
    """Whether the right side takes no more multiply–accumulates on any instance of the left one.

    Operators on constants, which are computed at once, do not count, nor does what is kept. False where
    shapes do not tell.
    """
    after = {name for equation in form.rhs for name in equation.names}
    dying = [e.term for e in form.lhs if not e.names or after & {*e.names}]
    made = [e.term for e in form.rhs]
    seen = 0
    for shapes in _instances(form):
        try:
            if _macs(made, shapes, is_constant) > _macs(dying, shapes, is_constant):
                return False
        except ShapeMismatch:  # there is no right side, and the engine leaves the site alone
            continue
        except (UnknownValueError, TypeError):
            return False
        seen += 1
        if seen == ENOUGH:
            break
    return seen >= LEAST


def _instances(form: Form) -> Iterator[Shapes]:
    """The shapes of instances that fulfil the conditions."""
    resolved = alone(form)
    for seed in range(DRAWS):
        try:
            instance = Instance(resolved, seed)
            left = instance.left(resolved.rule.lhs)
            instance.env["lhs"] = next(iter(left.values()))
            if conditions_hold(instance, resolved.rule):
                yield instance.shapes
        except (ShapeMismatch, UnknownValueError):
            continue


def _macs(terms: list[tree.Expr], shapes: Shapes, is_constant: Callable[[tree.Expr], bool]) -> int:
    """Multiply–accumulates of some terms, equal subterms counted once."""
    total = 0
    for call in dict.fromkeys(call for term in terms for _, call in positions(term)):
        operator = shapes.vocabulary.operators.get(call.callee)
        if operator is None or operator.macs is None or is_constant(call):
            continue
        given = shapes.arguments(call, operator, True)
        result = shapes.apply(operator, given)
        total += operator.macs(**_complete(operator, given), result=as_argument(result, None))
    return total


def _complete(operator: Operator, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments with defaults for those that are not written; absent operands are `None`."""
    defaults = {p.name: None if p.default is REQUIRED or p.is_operand else p.default for p in operator.params}
    return {**defaults, **given}
