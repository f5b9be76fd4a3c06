"""Bags of equally many ids in normal form: looked-up rows, and their sum, mean or maximum.

`nn.EmbeddingBag` flattens a table of ids [b, n] and says where each bag begins. ONNX has no such operator,
the exporter writes a loop over bags, and rules would see neither the lookup nor the fold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import statically_known_true

from tdsl.ops.targets import calls

aten = torch.ops.aten

_BAGS = (aten.embedding_bag.padding_idx, aten.embedding_bag.default)
_FOLDS = (aten.sum.dim_IntList, aten.mean.dim, aten.amax.default)
"""What the mode of a bag means."""


def look_up_bags(graph: fx.Graph, respell: Callable[[fx.Node], None]) -> None:
    """Write lookups of bags that begin at every n-th id as lookups of rows and folds.

    Rows are weighed, and those that count for nothing (`padding_idx`) are zeros; the largest of rows some of
    which do not count stay as they are.
    """
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target not in _BAGS:
            continue
        weight, flat, offsets, _, mode, _, weights, last, padding = _arguments(node)
        read = [user for user in node.users if user.users]
        if any(user.target is not getitem or user.args[1] != 0 for user in read):
            continue
        ids = _table(flat, offsets)
        padded = padding is not None and padding >= 0
        weighed = _beside(ids, weights)
        if ids is None or last or (padded and mode == 2) or (weights is not None and weighed is None):
            continue
        for user in read:
            made = _Made(graph, user, node)
            rows = made(aten.embedding.default, weight, ids)
            if weighed is not None:
                rows = made(aten.mul.Tensor, rows, made(aten.unsqueeze.default, weighed, -1))
            if padded:
                none = made(aten.unsqueeze.default, made(aten.eq.Scalar, ids, padding), -1)
                rows = made(aten.masked_fill.Scalar, rows, none, 0)
            if padded and mode == 1:
                dtype = rows.meta["val"].dtype
                some = made(aten.ne.Scalar, ids, padding)
                count = made(aten.sum.dim_IntList, some, [-1], True, dtype=dtype)
                total = made(aten.sum.dim_IntList, rows, [-2], False)
                user.target, user.args = aten.div.Tensor, (total, made(aten.clamp.default, count, 1))
            else:
                user.target, user.args = _FOLDS[mode], (rows, [-2], False)
            for one in made.nodes:
                respell(one)
            respell(user)


@dataclass
class _Made:
    """Calls made before a node, in the place of another one; with their values."""

    graph: fx.Graph
    before: fx.Node
    instead: fx.Node
    nodes: list[fx.Node] = field(default_factory=list)

    def __call__(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        with self.graph.inserting_before(self.before):
            node = self.graph.call_function(target, args, kwargs)
        values = fx.node.map_arg((args, kwargs), lambda one: one.meta["val"])
        node.meta = {**self.instead.meta, "val": target(*values[0], **values[1])}
        self.nodes.append(node)
        return node


def _beside(ids: fx.Node | None, weights: Any) -> fx.Node | None:
    """The weights [b, n] that are flattened beside the ids; `None` where there are no such."""
    source = weights.args[0] if ids is not None and calls(weights, "reshape") else None
    val = source.meta.get("val") if isinstance(source, fx.Node) else None
    if ids is None or not isinstance(val, Tensor) or val.ndim != 2:
        return None
    same = all(
        statically_known_true(one == other)
        for one, other in zip(val.shape, ids.meta["val"].shape, strict=True)
    )
    return source if same else None


def _arguments(node: fx.Node) -> list[Any]:
    """The nine arguments of a lookup of bags, defaults filled in."""
    defaults = (None, None, None, False, 0, False, None, False, None)
    given = dict(zip(range(9), node.args, strict=False))
    names = [argument.name for argument in aten.embedding_bag.padding_idx._schema.arguments]
    return [node.kwargs.get(name, given.get(i, defaults[i])) for i, name in enumerate(names)]


def _table(flat: Any, offsets: Any) -> fx.Node | None:
    """The ids [b, n] that are flattened, if a bag begins with every row of them."""
    ids = flat.args[0] if calls(flat, "reshape") else None
    val = ids.meta.get("val") if isinstance(ids, fx.Node) else None
    if (
        not isinstance(val, Tensor)
        or val.ndim != 2
        or flat.meta["val"].ndim != 1
        or not calls(offsets, "arange")
    ):
        return None
    start, _, step = (*offsets.args, 1)[:3]
    size = val.shape[1]
    if start != 0 or not isinstance(size, int) or size < 1 or step != size:
        return None
    return ids if statically_known_true(offsets.meta["val"].shape[0] == val.shape[0]) else None
