"""Rewrites that are worth it only together: tried on a copy, and kept where they leave less.

Moving an action (a flip, a permutation) past an operator gains nothing by itself; it gains where the action
then cancels, is absorbed or dies. So the steps of an `attempt` run on a copy first. Their rewrites fall into
groups, each of which builds on nodes of its own; a group that leaves fewer operators is carried out, the
others never happened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import fx

from tdsl.engine.census import copied
from tdsl.engine.driver import Scope
from tdsl.engine.journal import Applied, Journal
from tdsl.engine.sizes import elements_at_example

Run = Callable[[fx.GraphModule, Journal, Scope | None], int]
"""Carries out the steps on a module, at the nodes of a scope; returns the number of rewrites."""


def attempted(module: fx.GraphModule, journal: Journal, run: Run, scope: Scope | None = None) -> int:
    """Of what `run` does, carry out in place what leaves fewer operators; returns the number of rewrites.

    Operators may not write more elements than before, at the traced example where sizes are dynamic.
    """
    if journal.full:
        return 0
    allowed = _worthwhile(module, journal, run, scope)
    return run(module, journal, _within(module, allowed, scope)) if allowed else 0


def _worthwhile(module: fx.GraphModule, journal: Journal, run: Run, scope: Scope | None) -> set[str]:
    """Names of the nodes at which rewriting pays."""
    groups = [names for saved, names in _groups(_tried(module, journal, run, scope)[1]) if saved > 0]
    together = set[str]().union(*groups)
    if not groups or _pays(module, journal, run, together, scope):
        return together
    kept: set[str] = set()  # what one group writes more outweighs another: each by itself, then
    for names in groups:
        if _pays(module, journal, run, kept | names, scope):
            kept |= names
    return kept


def _pays(module: fx.GraphModule, journal: Journal, run: Run, names: set[str], scope: Scope | None) -> bool:
    """Whether rewriting at these nodes leaves fewer operators, which write no more elements."""
    after, _ = _tried(module, journal, run, _within(module, names, scope))
    (operators, elements), (fewer, written) = _cost(module), _cost(after)
    return fewer < operators and written <= elements


def _tried(
    module: fx.GraphModule, journal: Journal, run: Run, scope: Scope | None
) -> tuple[fx.GraphModule, list[Applied]]:
    """What becomes of a copy, and by which rewrites."""
    trial, log = copied(module), Journal(entries=list(journal.entries), measure=False)
    run(trial, log, scope)
    return trial, log.entries[len(journal.entries) :]


def _within(module: fx.GraphModule, names: set[str], scope: Scope | None) -> Scope:
    """The nodes of that name, and whatever is not in the module yet."""
    others = {node.name for node in module.graph.nodes} - names
    return lambda node: node.name not in others and (scope is None or scope(node))


def _groups(entries: Sequence[Applied]) -> list[tuple[int, set[str]]]:
    """Rewrites that share nodes: the operators each group saves, and the nodes that it replaces."""
    group_of: dict[str, int] = {}
    saved: dict[int, int] = {}
    members: dict[int, set[str]] = {}
    for number, entry in enumerate(entries):
        own = {*entry.replaced, *entry.created}
        met = {group_of[name] for name in (*own, *entry.through) if name in group_of}
        saved[number] = entry.saved_nodes + sum(saved.pop(group) for group in met)
        members[number] = own.union(*(members.pop(group) for group in met))
        group_of.update(dict.fromkeys(members[number], number))
    return [(saved[number], members[number]) for number in saved]


def _cost(module: fx.GraphModule) -> tuple[int, int]:
    """How many operators there are, and how many elements they write."""
    operators = [node for node in module.graph.nodes if node.op == "call_function"]
    return len(operators), sum(elements_at_example(node.meta.get("val")) for node in operators)
