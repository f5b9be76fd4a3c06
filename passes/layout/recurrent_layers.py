"""Stacked recurrent layers, one operator each: what rules say of a layer then holds of every one of them.

Files have one operator for each layer anyway. How many weights belong to a layer depends on its options, and
each layer has results of its own, so that no rule can say this.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import getitem
from typing import Any

from torch import fx

from tdsl.engine.passes import graph_pass
from tdsl.engine.stage import stage
from tdsl.engine.staged import Staged, parts_of
from tdsl.engine.sweep import Change, SweepPass, with_unneeded
from tdsl.engine.workspace import Workspace
from tdsl.ops import OPERATORS, Operator
from tdsl.ops.recurrent import GATES
from tdsl.ops.targets import operator_of


@graph_pass
class RecurrentLayers(SweepPass):
    """An operator of several recurrent layers, perhaps in both directions, as one operator for each layer."""

    name = "layout.recurrent_layers"

    def at(self, work: Workspace, node: fx.Node) -> Change | None:
        """The layers of a stack, as they are at inference: nothing is dropped between them."""
        op = operator_of(node.target) if node.op == "call_function" else None
        if op is None or op.name not in GATES:
            return None
        given: dict[str, Any] = dict(zip((p.name for p in op.params), node.args, strict=True))
        layers = given["num_layers"]
        takers = [user for user in node.users if user.target is getitem]
        if layers < 2 or given["train"] or len(takers) < len(node.users):
            return None
        results = _layer_by_layer(work, op, given)
        last = [taker for taker in takers if taker.args[1] == 0]
        states = [taker for taker in takers if taker.args[1] != 0]
        values = [_item(results[-1], 0) for _ in last]
        for taker in states:
            parts = [_item(result, taker.args[1]) for result in results]
            values.append(stage(work, OPERATORS["concat"], {"tensors": parts, "dim": -3}))
        return Change(
            (*last, *states),
            tuple(values),
            tuple(sorted(with_unneeded((node, *takers), keep=_read(values)))),
            saved_nodes=-(layers - 1),
            details={"layers": layers},
        )


def _layer_by_layer(work: Workspace, op: Operator, given: dict[str, Any]) -> list[Staged]:
    """Every layer, which reads the outputs of the one before."""
    layers, directions = given["num_layers"], 1 + bool(given["bidirectional"])
    each = len(given["weights"]) // layers
    x = given["x"]
    found = []
    for layer in range(layers):
        own = {
            **given,
            "x": x,
            "weights": given["weights"][layer * each : (layer + 1) * each],
            "num_layers": 1,
            "dropout": 0.0,
        }
        for name in ("state", "states"):
            if name in given:
                own[name] = _rows(work, given[name], layer * directions, directions)
        result = stage(work, op, own)
        found.append(result)
        x = _item(result, 0)
    return found


def _rows(work: Workspace, states: Any, first: int, count: int) -> Any:
    """The initial states of one layer, of those of all. [layers · directions, batch, width]"""
    if isinstance(states, Sequence):
        return [_rows(work, state, first, count) for state in states]
    op = operator_of(states.target) if states.op == "call_function" else None
    if op is not None and op.name == "zeros":
        return Staged(states.target, ([count, *states.args[0][1:]], *states.args[1:]), dict(states.kwargs))
    return stage(work, OPERATORS["slice"], {"x": states, "dim": -3, "start": first, "end": first + count})


def _read(values: Sequence[Any]) -> set[fx.Node]:
    """What the layers read."""
    return {part for part in parts_of(values) if isinstance(part, fx.Node)}


def _item(result: Staged, index: Any) -> Staged:
    return Staged(getitem, (result, index), {})
