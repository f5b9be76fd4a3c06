"""Refusing a rule that changes nothing: its right side is its left side, up to commuted operands."""

from __future__ import annotations

from typing import Any

from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.bind import bind, is_nary
from tdsl.lang.vocabulary import INFIX, Vocabulary
from tdsl.ops import Operator


def require_progress(rule: tree.Rule, vocabulary: Vocabulary) -> None:
    """Raise `TdslError` when what the right side builds is matched by the same rule again, for ever."""
    if rule.arrow == "==":
        return
    before = {equation.names: _normal(equation.term, vocabulary) for equation in rule.lhs}
    after = {equation.names: _normal(equation.term, vocabulary) for equation in rule.rhs}
    if all(names in before and before[names] == term for names, term in after.items()):
        raise TdslError(
            "the rule would fire for ever",
            rule.rhs[0].term.span,
            expected="a right side that the left side does not match",
            hint="up to the order of commutative operands and spelled-out defaults this is the left"
            " side again; a fact that is no step is a `law`, with `==`",
        )


def _normal(expr: tree.Expr, vocabulary: Vocabulary) -> Any:
    """A value that is equal for terms equal up to commuting operands and spelled-out defaults."""
    match expr:
        case tree.Name(id=name) | tree.Declared(name=name):
            return "variable", name
        case tree.Constant(value=value):
            return "constant", repr(value)
        case tree.Splat(value=value):
            return "splat", _normal(value, vocabulary)
        case tree.ListOf(items=items) | tree.TupleOf(items=items):
            return "list", tuple(_normal(item, vocabulary) for item in items)
        case tree.Unary(operator="-", operand=tree.Constant(value=int() | float() as value)):
            return "constant", repr(-value)
        case tree.Unary():
            return expr.operator, _normal(expr.operand, vocabulary)
        case tree.Binary(operator=sign, left=left, right=right) if sign in INFIX:
            arguments = tuple(tree.Argument(e, span=e.span) for e in (left, right))
            return _normal(tree.Call(INFIX[sign], arguments, span=expr.span), vocabulary)
        case tree.Call() if expr.callee in vocabulary.operators and expr.repeat is None:
            return _application(expr, vocabulary.operators[expr.callee], vocabulary)
        case tree.Call():
            parts = tuple((a.name or "", _normal(a.value, vocabulary)) for a in expr.arguments)
            return expr.callee, repr(expr.repeat), parts
        case _:
            return "other", id(expr)


def _application(call: tree.Call, operator: Operator, vocabulary: Vocabulary) -> Any:
    bound = bind(call, operator)
    parts: dict[str, Any] = {}
    for param in operator.params:
        written = bound.get(param.name)
        if isinstance(written, tuple):
            items = [_normal(item, vocabulary) for item in written]
            sort = operator.commutative and is_nary(call, operator)
            parts[param.name] = tuple(sorted(items, key=repr) if sort else items)
        elif written is not None and not (not param.is_operand and _is_default(written, param.default)):
            parts[param.name] = _normal(written, vocabulary)
    pair = [p.name for p in operator.operands[:2]]
    if operator.commutative and all(name in parts for name in pair):
        values = sorted((parts[name] for name in pair), key=repr)
        parts.update(zip(pair, values, strict=True))
    return operator.name, tuple(sorted(parts.items(), key=lambda item: item[0]))


def _is_default(written: tree.Expr, default: Any) -> bool:
    if isinstance(written, tree.Unary) and isinstance(written.operand, tree.Constant):
        value = written.operand.value
        return isinstance(value, int | float) and repr(-value) == repr(default)
    return isinstance(written, tree.Constant) and repr(written.value) == repr(default)
