"""Takes away the boxes that `torch.export` puts around blocks whose context means nothing at inference.

`with torch.no_grad():` and `with torch.autocast(…, enabled=False):` become calls of a submodule, through
which no pattern sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import getitem
from typing import Any

import torch
from torch import fx

_GRAD = torch.ops.higher_order.wrap_with_set_grad_enabled
_AUTOCAST = torch.ops.higher_order.wrap_with_autocast


def inline_contexts(gm: fx.GraphModule) -> None:
    """Put the nodes of such blocks, nested ones too, in place of their calls."""
    while True:
        calls = [node for node in gm.graph.nodes if node.op == "call_function" and _body(node) is not None]
        if not calls:
            return
        for node in calls:
            _inline(gm, node)


def _body(node: fx.Node) -> int | None:
    """The position of the block among the arguments, if its context has no effect on values."""
    if node.target is _GRAD:
        return 1
    if node.target is _AUTOCAST and node.args[2] is False:
        return 4
    return None


def _inline(gm: fx.GraphModule, node: fx.Node) -> None:
    position = _body(node)
    assert position is not None
    reference = node.args[position]
    assert isinstance(reference, fx.Node)
    body: Any = getattr(gm, str(reference.target))
    mapping = dict(zip(body.graph.find_nodes(op="placeholder"), node.args[position + 1 :], strict=True))
    for inner in body.graph.find_nodes(op="get_attr"):  # a block inside this one
        setattr(gm, f"{reference.target}_{inner.target}", getattr(body, str(inner.target)))
    with gm.graph.inserting_before(node):
        results = gm.graph.graph_copy(body.graph, mapping)
    for inner, copied in mapping.items():
        if inner.op == "get_attr" and isinstance(copied, fx.Node):
            copied.target = f"{reference.target}_{inner.target}"
    _replace_results(gm.graph, node, results)
    gm.graph.erase_node(node)
    if not reference.users:
        gm.graph.erase_node(reference)


def _replace_results(graph: fx.Graph, node: fx.Node, results: Any) -> None:
    if not isinstance(results, Sequence):
        node.replace_all_uses_with(results)
        return
    for user in list(node.users):
        index = user.args[1]
        assert user.target is getitem and isinstance(index, int)
        user.replace_all_uses_with(results[index])
        graph.erase_node(user)
