"""Small changes of a rule that should make it wrong, one at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

from tdsl.lang import tree
from tdsl.lang.vocabulary import COSTS
from tdsl.lang.walk import walk

SAME_ROLE = frozenset({"linear", "matmul", "concat", "mul", "add"})


def mutants(rule: tree.Rule) -> Iterator[tuple[str, tree.Rule]]:
    """Each change in words, and the changed rule."""
    for i, equation in enumerate(rule.rhs):
        for words, term in _changed(equation.term, lambda expr: _changes(expr, rule)):
            sides = (*rule.rhs[:i], replace(equation, term=term), *rule.rhs[i + 1 :])
            yield words, replace(rule, rhs=sides)
    for i, clause in enumerate(rule.where):
        rest = (*rule.where[:i], *rule.where[i + 1 :])
        if isinstance(clause, tree.Condition):
            if not _is_cost(clause):
                yield f"without condition {i + 1}", replace(rule, where=rest)
        elif isinstance(clause.value, tree.Binary):
            for words, value in _changed(clause.value, lambda expr: _changes(expr, rule)):
                clauses = (*rule.where[:i], replace(clause, value=value), *rule.where[i + 1 :])
                yield f"{words} in a definition", replace(rule, where=clauses)


def _is_cost(condition: tree.Condition) -> bool:
    """Whether a condition says when a rule pays, or whether others read a value, and not when it holds."""
    calls = {node.callee for node in walk(condition) if isinstance(node, tree.Call)}
    names = {node.id for node in walk(condition) if isinstance(node, tree.Name)}
    return bool(calls & COSTS) or "used_once" in calls or (not calls and "rhs" not in names)


def _changed(
    expr: Any, change: Callable[[tree.Expr], Iterator[tuple[str, tree.Expr]]]
) -> Iterator[tuple[str, Any]]:
    """`expr` with one part of it replaced by what `change` makes of that part."""
    if isinstance(expr, tuple):
        for i, item in enumerate(expr):
            for words, new in _changed(item, change):
                yield words, (*expr[:i], new, *expr[i + 1 :])
        return
    if not isinstance(expr, tree.Node):
        return
    if not isinstance(expr, tree.Argument):
        yield from change(expr)  # type: ignore[arg-type]
    for field in fields(expr):
        if field.name != "span":
            for words, new in _changed(getattr(expr, field.name), change):
                yield words, replace(expr, **{field.name: new})


def _changes(expr: tree.Expr, rule: tree.Rule) -> Iterator[tuple[str, tree.Expr]]:
    match expr:
        case tree.Binary(operator=sign, left=left, right=right) if sign in ("+", "-", "*", "/", "@"):
            yield f"left of {sign} only", left
            yield f"right of {sign} only", right
            if sign in ("-", "/", "@"):
                yield f"{sign} turned round", replace(expr, left=right, right=left)
            other = {"+": "-", "-": "+", "*": "/", "/": "*"}.get(sign)
            if other:
                yield f"{other} for {sign}", replace(expr, operator=other)
        case tree.Unary(operator="T", operand=operand):
            yield "without transpose", operand
        case tree.Constant(value=int(value)) if not isinstance(value, bool):
            yield f"{value + 1} for {value}", replace(expr, value=value + 1)
        case tree.Call(callee=callee, arguments=arguments):
            positional = [i for i, a in enumerate(arguments) if a.name is None]
            for i, j in itertools.pairwise(positional):
                if callee in SAME_ROLE and arguments[i].value != arguments[j].value:
                    swapped = list(arguments)
                    swapped[i], swapped[j] = arguments[j], arguments[i]
                    yield (
                        f"operands {i + 1} and {j + 1} of {callee} exchanged",
                        replace(expr, arguments=tuple(swapped)),
                    )
            if callee in ("linear", "conv1d", "conv2d", "conv3d") and len(positional) == 3:
                yield f"{callee} without bias", replace(expr, arguments=(*arguments[:2], *arguments[3:]))
            for i, argument in enumerate(arguments):
                if argument.name is not None:
                    yield (
                        f"{callee} without {argument.name}",
                        replace(expr, arguments=(*arguments[:i], *arguments[i + 1 :])),
                    )
            if callee in ("permute", "squeeze", "neg", "relu", "flip"):
                yield f"without {callee}", arguments[0].value
