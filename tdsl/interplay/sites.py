"""Where rules fire in a graph, and the graph after one of them has fired at one place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import fx

from tdsl.engine.census import copied
from tdsl.engine.edit import Editor
from tdsl.engine.rule import Replacement, Rule
from tdsl.engine.staged import CannotStage
from tdsl.engine.workspace import Workspace
from tdsl.errors import TdslError


@dataclass(frozen=True, slots=True)
class Site:
    """A rule and the node at which it fires, by its name in the graph, with all it matches there."""

    rule: Rule
    variant: int
    root: str
    matched: frozenset[str]


def sites(module: fx.GraphModule, rules: Sequence[Rule]) -> Iterator[Site]:
    """Every place at which one of `rules` fires, the first match there."""
    work = Workspace(module)
    for rule in rules:
        for i, roots in enumerate(rule.roots):
            for node in module.graph.nodes:
                found = _match(rule, i, node, work) if node.target in roots else None
                if found is not None:
                    yield Site(rule, i, node.name, frozenset(n.name for n in found.matched))


def after(module: fx.GraphModule, site: Site) -> fx.GraphModule | None:
    """A copy of the graph in which the rule has fired at that site; `None` where it could not."""
    result = copied(module)
    work = Workspace(result)
    node = next(n for n in result.graph.nodes if n.name == site.root)
    found = _match(site.rule, site.variant, node, work)
    if found is None:
        return None
    try:
        Editor(work).apply(found, 1)
    except CannotStage:
        return None
    result.graph.lint()
    return result


def _match(rule: Rule, variant: int, node: fx.Node, work: Workspace) -> Replacement | None:
    try:
        return rule.attempt(rule.variants[variant], work)(node)
    except TdslError:
        return None
