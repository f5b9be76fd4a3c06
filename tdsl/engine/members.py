"""The operators that a variable of a rule stands for, taken apart by where they have their parameters.

A pattern looks for each argument at one place of a call. `roll` has the axes second, `flip` first: a rule of
both becomes one variant for each.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable

from tdsl.lang import tree
from tdsl.lang.bind import bind
from tdsl.lang.resolve import Resolved
from tdsl.ops import Operator


def alike_members(resolved: Resolved) -> list[Resolved]:
    """The rule once for each choice of members whose parameters stand at the same places."""
    groups: list[list[tuple[str, tuple[Operator, ...]]]] = []
    for name, members in resolved.operators.items():
        calls = [call for call in resolved.matched_calls if call.callee == name]
        alike: dict[Hashable, list[Operator]] = {}
        for member in members:
            alike.setdefault(tuple(_places(call, member) for call in calls), []).append(member)
        groups.append([(name, tuple(some)) for some in alike.values()])
    return [
        dataclasses.replace(resolved, operators=dict(choice)) if choice else resolved
        for choice in itertools.product(*groups)
    ]


def _places(call: tree.Call, operator: Operator) -> Hashable:
    """Where the arguments of a call stand, attributes with their kinds, and in which orders operands may."""
    bound = bind(call, operator)
    written = tuple(
        (place, "" if param.is_operand else param.kind, param.keyword_only and param.name)
        for place, param in enumerate(operator.params)
        if param.name in bound
    )
    several = any(param.is_operand for param in operator.params[1:])
    ordered = None if operator.commutative else sum(not p.keyword_only for p in operator.params)
    by_name = tuple(p.name for p in operator.params if p.keyword_only and operator.commutative)
    return written, (ordered, by_name) if several else None
