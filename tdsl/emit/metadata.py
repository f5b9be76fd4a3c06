"""What an ONNX node says of its origin: the rules that made it, and the module and line it goes back to.

`tdsl.rules` is written on every node that a rule made; `tdsl.source` on request for every node, since in a
small file it is a large share of the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from torch import fx

from tdsl.emit.program import NODE_ID
from tdsl.provenance import Origin, origins_of, provenance, rules_of
from tdsl.provenance import origin as place_of

RULES, SOURCE = "tdsl.rules", "tdsl.source"
_STACK = "pkg.torch.onnx.stack_trace"


def annotate(model: ir.Model, nodes: Mapping[str, fx.Node], *, everything: bool) -> dict[str, Origin]:
    """Replace the exporter's metadata by ours; with `everything`, keep its own beside the sources.

    `nodes` are the rewritten graph's nodes by name. Returns where the nodes of the model stand in the user's,
    by name, as far as that is known.
    """
    places: dict[str, Origin] = {}
    by_producer = {id(node): _origin(node, nodes) for node in model.graph}
    for node in model.graph:
        origin = by_producer[id(node)] or _neighbour(node, by_producer)
        node.metadata_props.pop(_STACK, None)
        if not everything:
            node.metadata_props.clear()
        if origin is None:
            continue
        places[node.name or ""] = place_of(origin)
        rules = rules_of(provenance(origin))
        if rules:
            node.metadata_props[RULES] = " > ".join(rules)
        if everything or rules:
            source = source_of(origin)
            if source:
                node.metadata_props[SOURCE] = source
    if not everything:
        _clear_values(model)
    return places


def source_of(node: fx.Node) -> str:
    """`encoder.layer.0 model.py:31`, of every captured node that this one stands for; empty if unknown."""
    origins = origins_of(provenance(node))
    texts = [" ".join(part for part in (o.module, o.source) if part) for o in origins]
    return "; ".join(dict.fromkeys(text for text in texts if text))


def _origin(node: ir.Node, nodes: Mapping[str, fx.Node]) -> fx.Node | None:
    """The graph node that `node` was translated from, by its mark or by the name of its result."""
    mark = node.metadata_props.get(_STACK, "")
    if mark.startswith(NODE_ID):
        return nodes.get(mark.removeprefix(NODE_ID))
    for output in node.outputs:
        name = output.name or ""
        found = nodes.get(name) or nodes.get(name.partition("__")[0])
        if found is not None:
            return found
    return None


def _neighbour(node: ir.Node, known: Mapping[int, fx.Node | None]) -> fx.Node | None:
    """The origin of the first node that reads the result: what a fused or derived node was made for."""
    for output in node.outputs:
        for user, _ in output.uses():
            found = known.get(id(user))
            if found is not None:
                return found
    return None


def _clear_values(model: ir.Model) -> None:
    """Drop what the exporter notes on values and on the graph."""
    graph = model.graph
    graph.metadata_props.clear()
    model.metadata_props.clear()
    values = [*graph.inputs, *graph.outputs, *graph.initializers.values()]
    for value in [*values, *(output for node in graph for output in node.outputs)]:
        value.metadata_props.clear()
    for node in graph:
        node.doc_string = None
