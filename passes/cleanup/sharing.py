"""Common subexpressions and dead code: facts about the whole graph, not about one place in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from tdsl.engine.census import macs_of
from tdsl.engine.driver import Scope
from tdsl.engine.journal import Journal
from tdsl.engine.passes import GraphPass, graph_pass
from tdsl.engine.weights import prune_weights
from tdsl.engine.workspace import Workspace
from tdsl.ops.targets import operator_of


@graph_pass
class CommonSubexpressions(GraphPass):
    """Compute once what is computed twice from the same operands with the same attributes."""

    name = "cleanup.common_subexpressions"

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """Share in one sweep: operands come first, so equal subtrees meet bottom up."""
        work = Workspace(module)
        first: dict[Any, fx.Node] = {}
        count = 0
        for node in list(module.graph.nodes):
            if node.op != "call_function" or not _pure(node) or (scope is not None and not scope(node)):
                continue
            key = _key((node.target, node.args, tuple(sorted(node.kwargs.items()))))
            known = first.setdefault(key, node)
            if known is node:
                continue
            if journal.full:
                break
            journal.note(
                self.name,
                node,
                saved_nodes=1,
                saved_macs=macs_of(work, (node,)),
                created=(known,),
                through=node.all_input_nodes,
            )
            node.replace_all_uses_with(known)
            module.graph.erase_node(node)
            count += 1
        if count:
            module.graph.lint()
        return count


@graph_pass
class DeadCode(GraphPass):
    """Remove what no output needs, and the weights that nothing reads."""

    name = "cleanup.dead_code"

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """Erase unused nodes, users first; model inputs stay, for they are the signature."""
        work = Workspace(module)
        count = 0
        for node in reversed(list(module.graph.nodes)):
            unused = not node.users and node.op in ("call_function", "get_attr")
            if not unused or not (node.op == "get_attr" or _pure(node)) or journal.full:
                continue
            if node.op == "call_function":
                journal.note(
                    self.name,
                    node,
                    saved_nodes=1,
                    saved_parameters=None,
                    saved_macs=macs_of(work, (node,)),
                )
                count += 1
            module.graph.erase_node(node)
        prune_weights(module)
        return count


def _pure(node: fx.Node) -> bool:
    """Whether a node has no effect and no randomness, so that it may be shared or dropped."""
    op = operator_of(node.target)
    if op is not None:
        return not op.random
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return node.target.__module__ == "_operator" if callable(node.target) else False
    return not schema.is_mutable and torch.Tag.nondeterministic_seeded not in node.target.tags


def _key(value: Any) -> Any:
    """A hashable form in which `1`, `1.0` and `True` stay apart, and `0.0` and `-0.0` do."""
    if isinstance(value, list | tuple):
        return (type(value).__name__, *(_key(item) for item in value))
    if isinstance(value, dict):
        return tuple((k, _key(v)) for k, v in sorted(value.items()))
    if isinstance(value, slice):
        return ("slice", _key(value.start), _key(value.stop), _key(value.step))
    if isinstance(value, float):
        return ("float", value.hex())
    return value if isinstance(value, fx.Node) else (type(value).__name__, value)
