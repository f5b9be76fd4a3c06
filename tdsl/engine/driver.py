"""One worklist to a fixed point.

Candidates are the nodes whose target roots some rule; after a rewrite only the new nodes, their users as
far up as a pattern is deep, and the users of what lost one are looked at again. Users come before their
operands (`top_down`) unless asked otherwise: right-associating a chain of n products then takes n - 1
rewrites instead of a quadratic number.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import fx

from tdsl.engine.edit import Editor
from tdsl.engine.frame import Variant
from tdsl.engine.journal import Journal
from tdsl.engine.pattern import Pattern, Term, targets_of
from tdsl.engine.rule import Replacement, Rule
from tdsl.engine.staged import CannotStage
from tdsl.engine.statistics import Statistics
from tdsl.engine.workspace import Workspace
from tdsl.errors import TdslError
from tdsl.provenance import REWRITE, Rewrite

Order = Literal["top_down", "bottom_up"]
Scope = Callable[[fx.Node], bool]
Attempt = tuple[Rule, Variant, Callable[[fx.Node], Replacement | None]]

REWRITES_PER_NODE = 20
"""Bound on rewrites where no decreasing measure is known, per node of the graph at the start."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to visit: order, whether new nodes are visited too, most rewrites, and at which sites."""

    order: Order = "top_down"
    repeat: bool = True
    limit: int | None = None
    scope: Scope | None = None


def rewrite(
    module: fx.GraphModule,
    rules: Sequence[Rule],
    settings: Settings | None = None,
    journal: Journal | None = None,
    statistics: Statistics | None = None,
) -> int:
    """Apply `rules` to the graph of `module` in place until none fires; returns the number of rewrites.

    `statistics` answers what rules ask about calibration data. The caller recompiles the module when its
    last change is done.
    Raises `TdslError` naming the rules in the loop when the limit is reached first.
    """
    driver = _Driver(module, rules, settings or Settings(), journal if journal is not None else Journal())
    driver.work.statistics = statistics
    return driver.run()


class _Driver:
    def __init__(
        self, module: fx.GraphModule, rules: Sequence[Rule], settings: Settings, journal: Journal
    ) -> None:
        self.module = module
        self.rules = rules
        self.settings = settings
        self.journal = journal
        self.work = Workspace(module)
        self.editor = Editor(self.work)
        self.depth = max((rule.depth for rule in rules), default=1)
        self.several_roots = any(len(v.pattern.roots) > 1 for rule in rules for v in rule.variants)
        self.index: dict[Any, list[Attempt]] = {}
        for rule in rules:
            for variant, roots in zip(rule.variants, rule.roots, strict=True):
                attempt = (rule, variant, rule.attempt(variant, self.work))
                for target in roots:
                    self.index.setdefault(target, []).append(attempt)

    def run(self) -> int:
        candidates = self.candidates()
        if not candidates:
            return 0
        limit = self.limit(len(self.module.graph.nodes))
        count = 0
        work = deque(candidates)
        waiting = set(candidates)
        top_down = self.settings.order == "top_down"
        take = work.pop if top_down else work.popleft
        index, scope, journal = self.index, self.settings.scope, self.journal
        while work:
            node = take()
            waiting.discard(node)
            attempts = index.get(node.target)
            if attempts is None or node._erased or (scope is not None and not scope(node)):
                continue
            for rule, variant, attempt in attempts:
                if rule.approximate and _made_by(node, rule):
                    continue
                found = attempt(node)
                if found is None:
                    continue
                if journal.full:
                    return count
                if limit is not None and count == limit:
                    raise self.no_fixed_point(limit)
                try:
                    affected = self.apply(found, variant)
                except CannotStage:
                    continue
                count += 1
                if self.settings.repeat:
                    fresh = [n for n in affected if n not in waiting]
                    waiting.update(fresh)
                    # What is pushed last is taken first: in graph order from the end the work is taken from.
                    work.extend(fresh) if top_down else work.extendleft(reversed(fresh))
                break
        return count

    # ------------------------------------------------------------ candidates

    def candidates(self) -> list[fx.Node]:
        """Nodes that may root a match, in graph order; rules with an operator that is absent have none."""
        targets = set[Any]().union(*(v.pattern.targets for rule in self.rules for v in rule.variants))
        nodes: dict[Any, list[fx.Node]] = {}
        for node in self.module.graph.nodes:
            if node.target in targets:
                nodes.setdefault(node.target, []).append(node)
        whole: set[Any] = set()
        climbed: set[fx.Node] = set()
        for rule in self.rules:
            for variant, roots in zip(rule.variants, rule.roots, strict=True):
                if any(nodes.keys().isdisjoint(needed) for needed in variant.pattern.needs):
                    continue
                count, path = _rarest(variant.pattern, nodes)
                if 4 * count < sum(len(nodes.get(t, ())) for t in roots):
                    climbed |= _climb(path, nodes)
                else:
                    whole.update(roots)
        found = [n for target in whole for n in nodes.get(target, ())]
        if len(whole) == 1 and not climbed:
            return found
        return sorted({*found, *climbed})

    # ------------------------------------------------------------ rewriting

    def apply(self, found: Replacement, variant: Variant) -> list[fx.Node]:
        """Apply a replacement; the nodes at which a match may have become possible, in graph order."""
        # Whoever used what goes: `fx` forgets them with the edit.
        users = [user for old in found.outputs for user in old.users]
        saved = self.journal.savings(found, variant, self.work)
        edit = self.editor.apply(found, self.journal.next_number)
        seeds = [node for node in edit.created if node.op != "get_attr"]
        self.journal.record(found, variant, edit.erased - len(seeds), saved, edit.created)
        if not self.settings.repeat:
            return []
        seeds += [node for node in edit.operands if not node._erased and len(node.users) <= 2]
        values = [value for value in found.values if isinstance(value, fx.Node)]
        return self.around(seeds, values, users)

    def around(self, seeds: list[fx.Node], values: list[fx.Node], users: list[fx.Node]) -> list[fx.Node]:
        """Candidates at most a pattern's depth above an edit, in graph order.

        `seeds` are new or lost a user; `values` were there and gained `users`. A value may have had any
        number of users before: they are looked at only where a pattern leads from one root to another.
        """
        affected = dict.fromkeys([*seeds, *values])
        frontier = affected if self.several_roots else dict.fromkeys(seeds)
        for _ in range(self.depth):
            users += [user for node in frontier for user in node.users]
            frontier = dict.fromkeys([user for user in users if user not in affected])
            if not frontier:
                break
            affected.update(frontier)
            users = []
        index = self.index
        return sorted([node for node in affected if node.target in index])

    # ------------------------------------------------------------ termination

    def limit(self, nodes: int) -> int | None:
        """The bound in force: the user's, none where every rule shrinks the graph, a generous one else."""
        if self.settings.limit is not None:
            return self.settings.limit
        if not self.settings.repeat or all(rule.shrinks for rule in self.rules):
            return None
        return REWRITES_PER_NODE * (nodes + 10)

    def no_fixed_point(self, limit: int) -> TdslError:
        recent = [entry.rule for entry in self.journal.entries[-200:]]
        loop = _period(recent)
        counts = Counter(recent)
        names = loop or sorted(counts, key=lambda name: (-counts[name], name))[:5]
        arrow = " → ".join([*names, names[0]])
        where = self.journal.entries[-1]
        return TdslError(
            f"no fixed point after {limit} rewrites: the rules {arrow} undo each other's work",
            next((r.source.span for r in self.rules if r.name == names[0] and r.source), None),
            expected="rules that make something smaller: nodes, operations, parameters",
            hint=f"last at {where.site or 'the top of the model'}; add a condition that decreases, such as "
            "`macs(rhs) < macs(lhs)`, or give `limit n` after `until stable`; `tdsl prove --together` "
            "shows the loop on a graph of a few nodes",
        )


def _made_by(node: fx.Node, rule: Rule) -> bool:
    """Whether this rule made the node: what was approximated once is not approximated again."""
    made: Rewrite | None = node.meta.get(REWRITE)
    return made is not None and made.rule == rule.name


def _rarest(pattern: Pattern, nodes: dict[Any, list[fx.Node]]) -> tuple[int, tuple[Term, ...]]:
    """The operand below the first root with the fewest graph nodes: how many, and the way up to the root."""
    counts = [sum(len(nodes.get(t, ())) for t in targets_of(way[0])) for way in pattern.ways]
    least = min(range(len(counts)), key=counts.__getitem__)
    return counts[least], pattern.ways[least]


def _climb(path: tuple[Term, ...], nodes: dict[Any, list[fx.Node]]) -> set[fx.Node]:
    """Nodes that can stand for the last term of `path`, reached through users from those of the first."""
    current: set[fx.Node] = {n for t in targets_of(path[0]) for n in nodes.get(t, ())}
    for term in path[1:]:
        targets = targets_of(term)
        current = {user for node in current for user in node.users if user.target in targets}
    return current


def _period(names: Sequence[str]) -> list[str]:
    """The shortest sequence of which the end of `names` is a repetition; empty when there is none."""
    for length in range(1, len(names) // 3 + 1):
        tail: Iterable[tuple[str, str]] = zip(names[-2 * length :], names[-3 * length :], strict=False)
        if all(a == b for a, b in tail):
            return list(names[-length:])
    return []
