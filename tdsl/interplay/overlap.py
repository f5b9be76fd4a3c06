"""Overlaps of left sides: where one rule's pattern can stand inside another's (Knuth and Bendix, 1970).

The term in which both patterns stand is the peak, written here as the left side of a rule of its own, of
which instances are drawn like those of any rule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tdsl.interplay.forms import Form, positions
from tdsl.interplay.unify import Unifier
from tdsl.lang import tree
from tdsl.lang.resolve import Resolved

MARK = "′"
"""Behind the names of the inner rule, so that they are no names of the outer one."""


@dataclass(frozen=True)
class Overlap:
    """Two rules, and the term in which the left sides of both stand and share an operator."""

    outer: str
    inner: str
    place: tuple[Any, ...]
    """Which equations overlap, and the way down to the operator they share."""
    peak: Resolved


def alone(form: Form) -> Resolved:
    """The left side of one rule as a term to draw instances of."""
    return _resolved(form, form.lhs, form.where)


def overlaps(outer: Form, inner: Form) -> Iterator[Overlap]:
    """The ways in which `inner` stands at an operator of `outer`.

    The names of `inner` are marked (`Form.apart`). Trivial ones are left out: a rule on itself. Of two rules
    that share their roots one order is enough.
    """
    own = outer.rule == inner.rule
    start: Unifier | None = None
    for i, around in enumerate(outer.lhs):
        for path, call in positions(around.term):
            for j, within in enumerate(inner.lhs):
                if not isinstance(within.term, tree.Call) or within.term.callee != call.callee:
                    continue
                if not path and (j <= i if own else outer.rule > inner.rule):
                    continue
                start = start or Unifier.of((outer, inner))
                named = _named(start, around, within, call, at_root=not path)
                if named is None:
                    continue
                for unifier in named.unified(call, within.term):
                    others = (e for k, e in enumerate(inner.lhs) if k != j)
                    lhs = unifier.applied((*_with_names(outer.lhs, i, within, path), *others))
                    lhs = tuple(_renamed(e, unifier) for e in lhs)
                    where = unifier.applied((*outer.where, *inner.where))
                    both = dataclasses.replace(outer, roles={**outer.roles, **inner.roles})
                    place = (i, path, j)
                    yield Overlap(outer.rule, inner.rule, place, _resolved(both, lhs, where))


def _named(
    start: Unifier, around: tree.Equation, within: tree.Equation, call: tree.Call, at_root: bool
) -> Unifier | None:
    """The names of the inner equation as those of the outer one, or as the term they stand for."""
    names = within.names
    if at_root and len(around.names) == len(names):
        for mine, theirs in zip(names, around.names, strict=True):
            start = start.bound(mine, tree.Name(theirs, span=call.span))
        return start
    if at_root and not around.names:
        return start
    if len(names) == 1:
        return start.bound(names[0], tree.Name(around.names[0], span=call.span) if at_root else call)
    return None if names else start


def _with_names(
    equations: tuple[tree.Equation, ...], place: int, within: tree.Equation, path: tuple[int, ...]
) -> tuple[tree.Equation, ...]:
    """The outer equations; a nameless one has the names of the inner one where they share the root."""
    if path or equations[place].names:
        return equations
    return (dataclasses.replace(equations[place], names=within.names),)


def _renamed(equation: tree.Equation, unifier: Unifier) -> tree.Equation:
    def name_of(name: str) -> str:
        found = unifier.bindings.get(name)
        return found.id if isinstance(found, tree.Name) else name

    return dataclasses.replace(equation, names=tuple(map(name_of, equation.names)))


def _resolved(form: Form, lhs: tuple[tree.Equation, ...], where: tuple[tree.Clause, ...]) -> Resolved:
    rule = tree.Rule(form.rule, (), lhs, "=>", lhs, where, span=lhs[0].span)
    return Resolved(rule, form.roles, {}, form.vocabulary)
