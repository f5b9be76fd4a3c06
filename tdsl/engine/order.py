"""Questions about the order of a graph, answered inside a window of it rather than by a walk to its end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import fx

from tdsl.engine.staged import parts_of, tensors_in


def reaches(sources: Iterable[fx.Node], targets: Iterable[fx.Node]) -> bool:
    """Whether any of `targets` is computed from any of `sources` (a node is computed from itself)."""
    wanted = set(sources)
    if not wanted:
        return False
    earliest = min(wanted)
    stack = [node for node in targets if not node < earliest]
    seen = set(stack)
    while stack:
        node = stack.pop()
        if node in wanted:
            return True
        for operand in node.all_input_nodes:
            if operand not in seen and not operand < earliest:
                seen.add(operand)
                stack.append(operand)
    return False


def disconnected(outputs: tuple[fx.Node, ...], env: Mapping[str, Any]) -> bool:
    """Whether no output, and nothing that the right side may read, is computed from another output."""
    for i, output in enumerate(outputs):
        others = [operand for other in outputs[:i] + outputs[i + 1 :] for operand in other.all_input_nodes]
        if reaches([output], others):
            return False
    inputs = [node for value in env.values() for node in _nodes(value)]
    return not reaches(outputs, [node for node in inputs if node not in outputs])


def in_turn(outputs: Sequence[fx.Node], values: Sequence[Any]) -> bool:
    """Whether outputs can be replaced one after the other, though some are computed from others.

    Each value must be computed from what stands before the output that it replaces: then nothing that it
    reads comes from its own output or a later one, and what comes from an earlier one is there.
    """
    return all(
        part.op == "get_attr" or part < output
        for output, value in zip(outputs, values, strict=True)
        for part in parts_of([value])
        if isinstance(part, fx.Node)
    )


def by_place(nodes: Iterable[fx.Node]) -> list[fx.Node]:
    """Nodes in the order of their graph."""
    return sorted(nodes, key=_Order)


def _nodes(value: Any) -> list[fx.Node]:
    return [part for part in tensors_in(value) if isinstance(part, fx.Node)]


def dependents_before(sources: Iterable[fx.Node], point: fx.Node) -> list[fx.Node]:
    """Nodes before `point` that are computed from `sources`, in graph order, the sources excluded."""
    found: set[fx.Node] = set()
    stack = list(sources)
    while stack:
        for user in stack.pop().users:
            if user not in found and user < point:
                found.add(user)
                stack.append(user)
    return by_place(found)


def shorten_keys(graph: fx.Graph, node: fx.Node) -> None:
    """Number the nodes of a graph anew where the key that says where `node` stands has grown too long.

    FX keeps order by tuples: what is put before a node just made has a key one longer, and n such insertions
    cost n². A key of √n numbers is as dear as its share of the renumbering.
    """
    length = len(node._sort_key)
    if length > SHORT_KEY and length > math.isqrt(SHORT_KEY * len(graph.nodes)):
        for place, each in enumerate(graph.nodes):
            object.__setattr__(each, "_sort_key", (place,))


SHORT_KEY = 64
"""Keys of so many numbers are never shortened."""


class _Order:
    """Sort key of a node: its place in the graph."""

    __slots__ = ("node",)

    def __init__(self, node: fx.Node) -> None:
        self.node = node

    def __lt__(self, other: _Order) -> bool:
        return bool(self.node < other.node)
