"""Bags of equally many ids in normal form: looked-up rows, and their sum, mean or maximum.

`nn.EmbeddingBag` flattens a table of ids [b, n] and says where each bag begins. ONNX has no such operator,
the exporter writes a loop over bags, and rules would see neither the lookup nor the fold.
"""

from __future__ import annotations

from collections.abc import Callable
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

    Ids that are weighed, or that count for nothing (`padding_idx`), stay as they are.
    """
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target not in _BAGS:
            continue
        weight, flat, offsets, _, mode, _, weights, last, padding = _arguments(node)
        read = [user for user in node.users if user.users]
        if any(user.target is not getitem or user.args[1] != 0 for user in read):
            continue
        ids = _table(flat, offsets)
        if ids is None or weights is not None or last or (padding is not None and padding >= 0):
            continue
        for user in read:
            with graph.inserting_before(user):
                rows = graph.call_function(aten.embedding.default, (weight, ids))
            rows.meta = {**node.meta, "val": aten.embedding.default(weight.meta["val"], ids.meta["val"])}
            user.target, user.args = _FOLDS[mode], (rows, [-2], False)
            respell(user)


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
