"""Whether two graphs are one architecture: the same weights, the same operators with the same attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from tdsl.errors import TdslError
from tdsl.ops.targets import operator_of
from tdsl.provenance import origin


def require_alike(
    first: fx.GraphModule,
    second: fx.GraphModule,
    own: Mapping[str, torch.Tensor],
    other: Mapping[str, torch.Tensor],
    names: tuple[str, str] = ("the first model", "the second"),
) -> None:
    """Raise `TdslError` at the first difference between two graphs, whose weights are `own` and `other`."""
    missing = sorted(set(own) ^ set(other))
    if missing:
        raise TdslError(
            f"the models have different weights: {', '.join(missing[:3])}"
            + (" …" if len(missing) > 3 else "")
            + f" {'is' if len(missing) == 1 else 'are'} in one of them only",
            expected="two checkpoints of one architecture",
        )
    for path, tensor in own.items():
        if tensor.shape != other[path].shape:
            raise TdslError(
                f"{path} is {list(tensor.shape)} in {names[0]} and {list(other[path].shape)} in {names[1]}",
                expected="two checkpoints of one architecture",
            )
    difference = _first_difference(first, second, names)
    if difference is not None:
        raise TdslError(
            f"the models have the same weights, but not the same graph: {difference}",
            expected="two checkpoints of one architecture",
        )


def _first_difference(first: fx.GraphModule, second: fx.GraphModule, names: tuple[str, str]) -> str | None:
    """In words, the first operator that differs; weights may be read in any order."""
    graphs = [[n for n in module.graph.nodes if n.op != "get_attr"] for module in (first, second)]
    places: list[dict[fx.Node, object]] = [{}, {}]
    for place, nodes in zip(places, graphs, strict=True):
        place.update({node: i for i, node in enumerate(nodes)})
    for place, module in zip(places, (first, second), strict=True):
        place.update({node: str(node.target) for node in module.graph.find_nodes(op="get_attr")})
    for a, b in zip(*graphs, strict=False):
        if a.op != b.op or (a.op == "call_function" and a.target is not b.target):
            return f"{_called(a)} in {names[0]} is {_called(b)} in {names[1]}"
        ours, theirs = (
            _plain((node.args, node.kwargs), place) for node, place in zip((a, b), places, strict=True)
        )
        if ours != theirs:
            changed = _changed(a, b, places)
            return f"{_called(a)} has {changed[0]} in {names[0]} and {changed[1]} in {names[1]}"
    if len(graphs[0]) != len(graphs[1]):
        longer = 0 if len(graphs[0]) > len(graphs[1]) else 1
        extra = graphs[longer][min(map(len, graphs))]
        return f"{_called(extra)} is in {names[longer]} only"
    return None


def _plain(value: Any, places: Mapping[fx.Node, object]) -> Any:
    """Arguments with nodes as their places, and sizes that are symbols as one word."""
    if isinstance(value, fx.Node):
        return ("node", places[value])
    if isinstance(value, (list, tuple)):
        return tuple(_plain(one, places) for one in value)
    if isinstance(value, dict):
        return {name: _plain(one, places) for name, one in value.items()}
    return "size" if isinstance(value, (torch.SymInt, torch.SymFloat)) else value


def _changed(a: fx.Node, b: fx.Node, places: list[dict[fx.Node, object]]) -> tuple[str, str]:
    """The first argument of two calls of one operator that differs, in both."""
    op = operator_of(a.target) if a.op == "call_function" else None
    for i, (ours, theirs) in enumerate(zip(a.args, b.args, strict=False)):
        if _plain(ours, places[0]) != _plain(theirs, places[1]):
            name = f"{op.params[i].name} = " if op is not None and i < len(op.params) else ""
            return f"{name}{ours}", f"{name}{theirs}"
    return f"{len(a.args)} arguments {a.kwargs}", f"{len(b.args)} {b.kwargs}"


def _called(node: fx.Node) -> str:
    """A node in words: its operator, and where it stands in the user's code."""
    op = operator_of(node.target) if node.op == "call_function" else None
    name = op.name if op is not None else node.name
    where = origin(node)
    at = f" at {where.source}" if where.source else ""
    return f"{name} in {where.module}{at}" if where.module else f"{name}{at}"
