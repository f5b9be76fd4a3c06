"""The graph of rules: an edge where one rule may make a match of another possible.

What a right side builds, on its own or together with what stands around it, is unified with left sides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import networkx as nx

from tdsl.interplay.forms import Form, positions
from tdsl.interplay.measure import STRICT, WEAK, Effect, is_constant
from tdsl.interplay.unify import Unifier
from tdsl.lang import tree


def graph_of_rules(forms: Mapping[str, Sequence[Form]], marked: Mapping[str, Sequence[Form]]) -> nx.DiGraph:
    """The rules by name, with an edge from each to those that may match what it has made.

    `marked` are the same rules with their names apart.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(forms)
    made = {name: [(form, list(_built(form))) for form in some] for name, some in forms.items()}
    for first in forms:
        for second in forms:
            if any(_enables(form, built, other) for form, built in made[first] for other in marked[second]):
                graph.add_edge(first, second)
    return graph


def unranked(graph: nx.DiGraph, effects: Mapping[str, Effect]) -> list[list[str]]:
    """Strongly connected components in which no measure decreases, as far as rules can be told apart by one.

    Where no rule of a component makes a measure larger, those that make it smaller fire finitely often, and
    the others are looked at alone.
    """
    stuck: list[list[str]] = []
    waiting = [graph]
    while waiting:
        part = waiting.pop()
        for component in nx.strongly_connected_components(part):
            names = sorted(component)
            if len(names) == 1 and not part.has_edge(names[0], names[0]):
                continue
            shrinking = _shrinking(names, effects)
            if shrinking:
                waiting.append(part.subgraph(component - shrinking))
            else:
                stuck.append(names)
    return sorted(stuck)


def _shrinking(names: Sequence[str], effects: Mapping[str, Effect]) -> set[str]:
    """The rules that make smaller what no rule of `names` makes larger."""
    measures = {measure: None for name in names for measure in effects[name].of}
    for measure in measures:
        changes = {name: _change(effects[name], measure) for name in names}
        if all(change <= WEAK for change in changes.values()) and STRICT in changes.values():
            return {name for name, change in changes.items() if change == STRICT}
    return set()


def _change(effect: Effect, measure: str) -> int:
    """An operator that a rule does not name is left as it is."""
    return effect.of.get(measure, WEAK) if measure.startswith("operators `") else effect[measure]


# ---------------------------------------------------------------- seams


def _built(form: Form) -> Iterator[tree.Expr]:
    """The terms of the right side; constants and computed attributes are variables."""
    numbers = count()

    def open_(value: Any, operand: bool) -> Any:
        if operand and is_constant(value, form) and not isinstance(value, tree.Constant):
            type_ = tree.TensorType(const=True, span=value.span)
            return tree.Declared(f"?{next(numbers)}", type_, span=value.span)
        if isinstance(value, tree.Call) and value.callee in form.vocabulary.operators and operand:
            operands = {p.name for p in form.vocabulary.operators[value.callee].operands}
            arguments = tuple(
                dataclasses.replace(a, value=open_(a.value, a.name in operands)) for a in value.arguments
            )
            return dataclasses.replace(value, arguments=arguments)
        if isinstance(value, tree.ListOf):
            return dataclasses.replace(value, items=tuple(open_(item, operand) for item in value.items))
        if isinstance(value, tree.Name | tree.Declared | tree.Constant):
            return value
        return tree.Name(f"?{next(numbers)}", span=value.span)

    for equation in form.rhs:
        yield open_(equation.term, True)


def _enables(form: Form, built: Sequence[tree.Expr], other: Form) -> bool:
    """Whether the pattern of `other` may stand in what `form` has built, or across its upper edge."""
    patterns = [equation.term for equation in other.lhs]
    pairs = [
        *((pattern, call) for term in built for _, call in positions(term) for pattern in patterns),
        *(
            (inner, term)
            for term in built
            for pattern in patterns
            for path, inner in positions(pattern)
            if path
        ),
    ]
    possible = [pair for pair in pairs if not _heads_differ(*pair)]
    if not possible:
        return False
    start = Unifier.of((form, other))
    return any(next(start.unified(*pair), None) is not None for pair in possible)


def _heads_differ(one: tree.Expr, other: tree.Expr) -> bool:
    return isinstance(one, tree.Call) and isinstance(other, tree.Call) and one.callee != other.callee
