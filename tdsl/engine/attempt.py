"""Rewrites that are worth it only together: tried on a copy, and kept where they leave less.

Moving an action (a flip, a permutation) past an operator gains nothing by itself; it gains where the action
then cancels, is absorbed or dies. So the steps of an `attempt` run on a copy first. Their rewrites fall into
groups, each of which builds on nodes of its own. Where every group leaves fewer operators, the copy takes the
place of the graph. Else those groups that do are carried out, the others never happened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import fx

from tdsl.engine.census import copied
from tdsl.engine.driver import Scope
from tdsl.engine.journal import Applied, Journal
from tdsl.engine.nodes import keep_names, listens
from tdsl.engine.sizes import elements_at_example
from tdsl.engine.weights import take_over

Run = Callable[[fx.GraphModule, Journal, Scope | None], int]
"""Carries out the steps on a module, at the nodes of a scope; returns the number of rewrites."""


def attempted(module: fx.GraphModule, journal: Journal, run: Run, scope: Scope | None = None) -> int:
    """Of what `run` does, carry out in place what leaves fewer operators; returns the number of rewrites.

    Operators may not write more elements than before, at the traced example where sizes are dynamic.
    """
    if journal.full:
        return 0
    trial, log = copied(module), Journal(entries=list(journal.entries), measure=journal.measure)
    keep_names(trial.graph, module.graph)
    count = run(trial, log, scope)
    done = log.entries[len(journal.entries) :]
    groups = _groups(done)
    paying = [names for saved, names in groups if saved > 0]
    if not paying:
        return 0
    together = set[str]().union(*paying)
    whole = len(paying) == len(groups)
    if whole and _is_less(trial, module):
        if journal.limit is None and not listens(module):
            take_over(module, trial)
            journal.entries += done
            return count
    elif whole or not _pays(module, journal, run, together, scope):
        together = _one_by_one(module, journal, run, paying, scope)
    return run(module, journal, _within(module, together, scope)) if together else 0


def _one_by_one(
    module: fx.GraphModule, journal: Journal, run: Run, groups: Sequence[set[str]], scope: Scope | None
) -> set[str]:
    """Names of the nodes at which rewriting pays where what one group writes more outweighs another."""
    kept: set[str] = set()
    for names in groups if len(groups) > 1 else ():
        if _pays(module, journal, run, kept | names, scope):
            kept |= names
    return kept


def _pays(module: fx.GraphModule, journal: Journal, run: Run, names: set[str], scope: Scope | None) -> bool:
    """Whether rewriting at these nodes leaves fewer operators, which write no more elements."""
    trial = copied(module)
    run(trial, Journal(entries=list(journal.entries), measure=False), _within(module, names, scope))
    return _is_less(trial, module)


def _is_less(after: fx.GraphModule, before: fx.GraphModule) -> bool:
    (fewer, written), (operators, elements) = _cost(after), _cost(before)
    return fewer < operators and written <= elements


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
        largest = max(met, key=lambda group: (len(members[group]), -group), default=number)
        names = own.union(*(members.pop(group) for group in met if group != largest))
        members.setdefault(largest, set()).update(names)
        saved[largest] = entry.saved_nodes + sum(saved.pop(group, 0) for group in {largest, *met})
        group_of.update(dict.fromkeys(names, largest))
    return [(saved[group], members[group]) for group in members]


def _cost(module: fx.GraphModule) -> tuple[int, int]:
    """How many operators there are, and how many elements they write."""
    operators = [node for node in module.graph.nodes if node.op == "call_function"]
    return len(operators), sum(elements_at_example(node.meta.get("val")) for node in operators)
