"""The rules of a set together: loops, what may loop, and critical pairs that do not join."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tdsl.engine.library import Declaration
from tdsl.engine.rule import Rule
from tdsl.errors import TdslError
from tdsl.interplay.enabling import graph_of_rules, unranked
from tdsl.interplay.forms import Form, forms_of
from tdsl.interplay.measure import OPERATORS, STRICT, WEAK, Effect, effect_of
from tdsl.interplay.overlap import MARK, Overlap, alone, overlaps
from tdsl.interplay.pairs import CriticalPair, critical_pair
from tdsl.interplay.run import Loop, loop_from
from tdsl.interplay.scene import Drawn, drawn
from tdsl.interplay.sites import sites

DRAWS = 400
"""Draws in search of a graph on which a rule fires."""


@dataclass(frozen=True)
class MayLoop:
    """Rules that enable each other in a circle, in which nothing is known to become smaller."""

    rules: tuple[str, ...]
    missing: str
    """Why no measure decreases."""


@dataclass(frozen=True)
class Together:
    """What was found about a set of rules."""

    rules: tuple[str, ...]
    loops: tuple[Loop, ...]
    may_loop: tuple[MayLoop, ...]
    pairs: tuple[CriticalPair, ...]
    """Those that do not join, of each two rules the first."""
    joinable: int
    """How many critical pairs join."""
    apart: int
    """How many do not."""
    overlaps: int
    """How many overlaps there are; no peak was found for the others: their conditions exclude each other."""
    left_out: Mapping[str, str]
    """Rules that were not looked at, and why."""


def analyse(
    declarations: Mapping[str, Declaration], progress: Callable[[str], None] = lambda text: None
) -> Together:
    """The exact rules among `declarations` as one set; approximate ones and laws do not take part."""
    work = _Analysis(declarations, progress)
    graph = graph_of_rules(work.forms, work.marked)
    circles = unranked(graph, work.effects)
    progress("looking for loops")
    loops: list[Loop] = []
    may_loop: list[MayLoop] = []
    for names in circles:
        found = work.loop_among(names)
        if found:
            loops.append(found)
        else:
            may_loop.append(MayLoop(tuple(names), _missing(names, work.effects)))
    pairs = work.pairs()
    for pair in pairs:
        if pair.loop and not any(set(pair.loop.circle) == set(known.circle) for known in loops):
            loops.append(pair.loop)
    apart = [pair for pair in pairs if pair.result != "joinable"]
    firsts = {frozenset(pair.rules): pair for pair in reversed(apart)}
    return Together(
        tuple(work.rules),
        tuple(loops),
        tuple(may_loop),
        tuple(pair for pair in apart if firsts[frozenset(pair.rules)] is pair),
        len(pairs) - len(apart),
        len(apart),
        work.overlapping,
        work.left_out,
    )


class _Analysis:
    """The rules of a set with what is computed once of each."""

    def __init__(self, declarations: Mapping[str, Declaration], progress: Callable[[str], None]) -> None:
        self.progress = progress
        self.rules: dict[str, Rule] = {}
        self.forms: dict[str, list[Form]] = {}
        self.marked: dict[str, list[Form]] = {}
        self.effects: dict[str, Effect] = {}
        self.graphs: dict[str, Drawn] = {}
        self.left_out: dict[str, str] = {}
        self.overlapping = 0
        for name, declared in declarations.items():
            if declared.source.arrow != "=>":
                continue
            try:
                rule, forms = declared.instantiate(), forms_of(name, declared.resolved)
            except TdslError as reason:
                self.left_out[name] = reason.message
                continue
            graph = _own_graph(rule, forms)
            if graph is None:
                self.left_out[name] = "no graph was found on which it fires"
                continue
            self.rules[name], self.forms[name], self.graphs[name] = rule, forms, graph
            self.marked[name] = [form.apart(MARK) for form in forms]
            self.effects[name] = effect_of(declared.resolved, forms)

    def loop_among(self, names: Sequence[str]) -> Loop | None:
        """A loop of rules that enable each other, from a graph of one of them or from a peak of two."""
        rules = [self.rules[name] for name in names]
        starts = [self.graphs[name].module for name in names]
        for start in starts:
            found = loop_from(start, rules)
            if found:
                return found
        for first in names:
            for second in names:
                for some in self._overlaps(first, second).values():
                    pair = critical_pair(some, self.rules, rules)
                    if pair is not None and pair.loop is not None:
                        return pair.loop
        return None

    def pairs(self) -> list[CriticalPair]:
        """The critical pairs of all rules, one of each two rules and place."""
        every = list(self.rules.values())
        found: list[CriticalPair] = []
        for first in self.rules:
            self.progress(f"critical pairs of {first}")
            for second in self.rules:
                for some in self._overlaps(first, second).values():
                    self.overlapping += 1
                    pair = critical_pair(some, self.rules, every)
                    if pair is not None:
                        found.append(pair)
        return found

    def _overlaps(self, first: str, second: str) -> dict[object, list[Overlap]]:
        """The overlaps of two rules, by where they are."""
        found: dict[object, list[Overlap]] = {}
        for outer in self.forms[first]:
            for inner in self.marked[second]:
                for overlap in overlaps(outer, inner):
                    found.setdefault(overlap.place, []).append(overlap)
        return found


def _own_graph(rule: Rule, forms: Sequence[Form]) -> Drawn | None:
    """A graph of the left side on which the rule is seen to fire."""
    for shared in (True, False):
        for form in forms:
            for graph in drawn(alone(form), DRAWS, shared):
                if next(sites(graph.module, [rule]), None) is not None:
                    return graph
    return None


def _missing(names: Sequence[str], effects: Mapping[str, Effect]) -> str:
    """What keeps the number of operators, the first of the measures, from deciding."""
    grows = [name for name in names if effects[name][OPERATORS] > WEAK]
    if grows:
        return f"{_and(grows)} may make more operators, and no other measure decreases"
    keeps = [name for name in names if effects[name][OPERATORS] != STRICT]
    return f"{_and(keeps)} may keep the number of operators, and no other measure decreases"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
