"""Why a condition does not hold: the values of its parts, in words."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tdsl.engine.expression import compile_expression
from tdsl.engine.frame import Frame, Test
from tdsl.engine.mismatch import value_described
from tdsl.engine.sizes import describe
from tdsl.engine.staged import CannotStage, tensors_in
from tdsl.engine.text import call_text, value_text
from tdsl.errors import Span, TdslError
from tdsl.lang import tree
from tdsl.lang.terms import flat
from tdsl.ops.targets import DTYPES

_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
_ARITHMETIC = frozenset({"+", "-", "*", "/", "//", "%", "**", "and", "or", *_COMPARISONS})


@dataclass(frozen=True, slots=True)
class Refutation:
    """A condition that does not hold: its text, the values in it, what it comes to, what to do."""

    text: str
    span: Span | None
    values: tuple[tuple[str, str], ...]
    verdict: str
    hint: str = ""


def refute(test: Test, frame: Frame) -> Refutation:
    """The part of a failed condition that fails, with the values of what it is made of."""
    if not isinstance(test.source, tree.Node):
        return Refutation(str(test.source), None, (), "it is false")
    expr = _failing(test.source, frame)
    text = flat(expr)
    values = tuple((flat(leaf), _shown(_value(leaf, frame), frame)) for leaf in _leaves(expr))
    verdict = f"{text} is false"
    if isinstance(expr, tree.Binary) and expr.operator in _COMPARISONS:
        sides = [_shown(_value(side, frame), frame) for side in (expr.left, expr.right)]
        verdict = f"{sides[0]} {expr.operator} {sides[1]} is false"
        if any(isinstance(_value(side, frame), torch.SymInt) for side in (expr.left, expr.right)):
            verdict = f"{sides[0]} {expr.operator} {sides[1]} does not hold for every size"
    return Refutation(text, expr.span, values, verdict, _other_users(expr, frame))


def _failing(expr: Any, frame: Frame) -> Any:
    """The first side of an `and` that is false; the expression itself elsewhere."""
    if isinstance(expr, tree.Binary) and expr.operator == "and":
        return _failing(expr.right if _value(expr.left, frame) else expr.left, frame)
    return expr


def _leaves(expr: Any) -> list[Any]:
    """The names and calls that arithmetic and logic are made of, each once, in order of appearance.

    A predicate that stands alone is looked into: its arguments say why.
    """
    found: dict[str, Any] = {}

    def visit(part: Any, top: bool) -> None:
        if isinstance(part, tree.Name) and part.id not in ("lhs", "rhs", *DTYPES):
            found.setdefault(part.id, part)
        elif isinstance(part, tree.Call) and not top:
            found.setdefault(flat(part), part)
        elif isinstance(part, tree.Node):
            inside = top and not (isinstance(part, tree.Binary) and part.operator in _ARITHMETIC)
            for field in dataclasses.fields(part):
                below = getattr(part, field.name)
                for item in below if isinstance(below, tuple) else (below,):
                    if field.name != "span":
                        visit(item, inside and isinstance(item, tree.Argument | tree.Call))

    visit(expr, True)
    return list(found.values())


_UNKNOWN = object()


def _value(expr: tree.Expr, frame: Frame) -> Any:
    """The value of a part of a condition at this match."""
    try:
        return compile_expression(expr, {})(frame)
    except (KeyError, CannotStage, TdslError):
        return _UNKNOWN


def _shown(value: Any, frame: Frame) -> str:
    if value is _UNKNOWN:
        return "unknown"
    if isinstance(value, fx.Node):
        return f"{value_described(value)}: {describe(value)}"
    if tensors_in(value) and not isinstance(value, list | tuple):
        return describe(frame.work.val(value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return value_text(value)


def _other_users(expr: Any, frame: Frame) -> str:
    """For `used_once(W)`: who else uses it."""
    if not (isinstance(expr, tree.Call) and expr.callee == "used_once"):
        return ""
    value = _value(expr.arguments[0].value, frame)
    if not isinstance(value, fx.Node):
        return ""
    others = [user for user in value.users if user not in frame.nodes]
    named = "; ".join(
        "the model's outputs" if u.op == "output" else f"{u.name} = {call_text(u)}" for u in others[:3]
    )
    return f"also used by {named}" if others else ""
