"""Nodes put into an FX graph and taken out of it, for the price of the tables that list them.

`Graph.create_node` searches the arguments of every node for symbolic sizes, `Graph.erase_node` looks up what
it removes several times. What a rewrite makes holds no such size and what it erases has no user, so both are
done here on the graph's own tables: its linked list, its names, its index by target. A module that was asked
to tell of changes (`GraphModule._register_create_node_hook`) is changed through the methods that do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import fx


def insert_after(
    place: fx.Node, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], stem: str | None
) -> fx.Node:
    """A new node behind `place`, named after `stem` or else its target; the arguments are not checked."""
    graph = place.graph
    if _hears(graph, "_create_node_hooks"):
        with graph.inserting_after(place):
            return graph.create_node(kind, target, args, kwargs, stem)
    names = graph._graph_namespace
    name = names.create_name(stem or graph._target_to_str(target), None)
    node = fx.Node(graph, name, kind, target, args, kwargs)
    names.associate_name_with_obj(name, node)
    place.append(node)
    graph._find_nodes_lookup_table.insert(node)
    graph._len += 1
    return node


def erase(nodes: Iterable[fx.Node]) -> int:
    """Erase those of `nodes` that nothing uses any more, users before operands; returns how many."""
    count = 0
    for node in sorted(nodes, reverse=True):
        if node.users or node._erased:
            continue
        graph = node.graph
        count += 1
        if _hears(graph, "_erase_node_hooks"):
            graph.erase_node(node)
            continue
        graph._find_nodes_lookup_table.remove(node)
        node._remove_from_list()
        object.__setattr__(node, "_erased", True)  # `Node.__setattr__` would look for it in the index again
        node._update_args_kwargs((), {})
        graph._len -= 1
    return count


def keep_names(graph: fx.Graph, other: fx.Graph) -> None:
    """Let no new node of `graph` have a name that a node of `other` has or had."""
    names, given = graph._graph_namespace, other._graph_namespace
    names._used_names.update(given._used_names)
    for stem, count in given._base_count.items():
        names._base_count[stem] = max(count, names._base_count.get(stem, 0))


def listens(module: fx.GraphModule) -> bool:
    """Whether a module has been asked to tell of nodes that are made and erased."""
    return any(_hears(module.graph, hooks) for hooks in ("_create_node_hooks", "_erase_node_hooks"))


def _hears(graph: fx.Graph, hooks: str) -> bool:
    """Whether the module that owns a graph has been asked to tell of changes."""
    return bool(getattr(graph._owning_module, hooks, None))
