"""Hand-written passes that look at each node once; what they replace is applied and entered here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from tdsl.engine.driver import Scope
from tdsl.engine.edit import Editor
from tdsl.engine.journal import Journal
from tdsl.engine.passes import GraphPass
from tdsl.engine.rule import Replacement, Rule
from tdsl.engine.staged import CannotStage
from tdsl.engine.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Change:
    """Outputs of a graph, their staged values, and the operators that go; `saved_*` as in the journal."""

    outputs: tuple[fx.Node, ...]
    values: tuple[Any, ...]
    matched: tuple[fx.Node, ...]
    saved_nodes: int = 0
    saved_parameters: int | None = 0
    saved_macs: int | None = 0
    details: Mapping[str, Any] = field(default_factory=dict)
    entered: tuple[fx.Node, ...] = ()
    """What the journal says was replaced, where that is less than `matched`."""


class SweepPass(GraphPass):
    """One sweep over the nodes of a typed graph, each asked for a change around it."""

    @abstractmethod
    def at(self, work: Workspace, node: fx.Node) -> Change | None:
        """The change around a node; `None`, or `CannotStage` raised, where there is none."""

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """One sweep over the nodes that were there before it."""
        work = Workspace(module)
        if not work.typed:
            return 0
        editor = Editor(work)
        count = 0
        for node in list(module.graph.nodes):
            if journal.full:
                break
            if node._erased or (scope is not None and not scope(node)):
                continue
            try:
                change = self.at(work, node)
                if change is None:
                    continue
                rule = Rule(self.name, ())
                editor.apply(
                    Replacement(rule, change.outputs, change.values, change.matched), journal.next_number
                )
            except CannotStage:
                continue
            journal.note(
                self.name,
                change.outputs[0],
                change.entered or change.matched,
                saved_nodes=change.saved_nodes,
                saved_parameters=change.saved_parameters,
                saved_macs=change.saved_macs,
                details=change.details,
            )
            count += 1
        if count:
            module.graph.lint()
        return count


def with_unneeded(gone: Iterable[fx.Node], keep: Collection[fx.Node] = ()) -> set[fx.Node]:
    """Nodes that go, and the operators before them that nothing else needs; `keep` stays."""
    going = set(gone)
    graph = next(iter(going)).graph
    for node in reversed(list(graph.nodes)):
        free = node.op == "call_function" and node not in going and node not in keep
        if free and node.users and going.issuperset(node.users):
            going.add(node)
    return going
