"""Declared groups in rules: in `commutant(D4)` the expression of the group takes the place of its name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tdsl.lang import tree
from tdsl.lang.walk import walk


def with_groups(rule: tree.Rule, groups: Mapping[str, tree.Group]) -> tree.Rule:
    """The rule with the names of `groups` in its `where` replaced by what they stand for.

    A name that the rule binds itself stays what the rule says. So proofs and their records see the group.
    """
    if not groups:
        return rule
    own = {node.name for node in walk(rule) if isinstance(node, tree.Declared | tree.Parameter)}
    own |= {node.id for equation in rule.lhs for node in walk(equation) if isinstance(node, tree.Name)}
    own |= {name for equation in rule.lhs for name in equation.names}
    own |= {t.name for clause in rule.where if isinstance(clause, tree.Definition) for t in clause.targets}
    values = {name: _expanded(group.value, groups) for name, group in groups.items() if name not in own}
    asked = any(
        isinstance(node, tree.Name) and node.id in values for clause in rule.where for node in walk(clause)
    )
    return dataclasses.replace(rule, where=_replaced(rule.where, values)) if asked else rule


def _expanded(value: tree.Expr, groups: Mapping[str, tree.Group]) -> Any:
    """The expression of a group with the groups declared before it put in."""
    inner = {node.id for node in walk(value) if isinstance(node, tree.Name) and node.id in groups}
    return _replaced(value, {name: _expanded(groups[name].value, groups) for name in inner})


def _replaced(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, tuple):
        return tuple(_replaced(item, values) for item in value)
    if not isinstance(value, tree.Node):
        return value
    if isinstance(value, tree.Name) and value.id in values:
        return values[value.id]
    names = [f.name for f in dataclasses.fields(value) if f.name != "span"]
    changed = {name: _replaced(getattr(value, name), values) for name in names}
    return dataclasses.replace(value, **changed)
