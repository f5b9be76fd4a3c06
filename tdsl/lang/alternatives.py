"""The alternatives of a left side, `(relu(x) | gelu(x) where n > 8)`, as left sides of their own."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from tdsl.lang import tree

Side = tuple[tree.Equation, ...]
Clauses = tuple[tree.Clause, ...]


def expand_alternatives(rule: tree.Rule) -> list[tuple[Side, Clauses]]:
    """Every choice of branches on the left side, with the conditions that hold for it, in written order."""
    return [(lhs, (*clauses, *rule.where)) for lhs, clauses in _choices(rule.lhs)]


def _choices(value: Any) -> list[tuple[Any, Clauses]]:
    if isinstance(value, tree.Alternatives):
        return [
            (term, (*inner, *option.where))
            for option in value.options
            for term, inner in _choices(option.term)
        ]
    if isinstance(value, tuple):
        rows = itertools.product(*(_choices(item) for item in value))
        return [(tuple(v for v, _ in row), tuple(c for _, cs in row for c in cs)) for row in rows]
    if isinstance(value, tree.Node):
        names = [f.name for f in dataclasses.fields(value) if f.name != "span"]
        rows = itertools.product(*(_choices(getattr(value, name)) for name in names))
        return [
            (
                dataclasses.replace(value, **{n: v for n, (v, _) in zip(names, row, strict=True)}),
                tuple(c for _, cs in row for c in cs),
            )
            for row in rows
        ]
    return [(value, ())]
