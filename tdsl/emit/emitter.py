"""Emission: a rewritten graph module → an ONNX model with the user's names and its history."""

from __future__ import annotations

import onnx
from torch import fx

from tdsl.capture.captured import Captured
from tdsl.emit.export import optimise, quiet, to_onnx
from tdsl.emit.metadata import annotate
from tdsl.emit.outside import Emitted
from tdsl.emit.program import settled_program
from tdsl.emit.tidy import forget_inner_shapes, tidy
from tdsl.emit.write import check


def emit(
    captured: Captured,
    module: fx.GraphModule | None = None,
    *,
    opset: int | None = None,
    metadata: bool = False,
) -> onnx.ModelProto:
    """`module`, or the model as captured, as a checked ONNX model. The same inputs give the same bytes.

    Arguments and errors are those of `emit_apart`.
    """
    return emit_apart(captured, module, opset=opset, metadata=metadata).whole()


def emit_apart(
    captured: Captured,
    module: fx.GraphModule | None = None,
    *,
    opset: int | None = None,
    metadata: bool = False,
) -> Emitted:
    """`module`, or the model as captured, as a checked ONNX model that shares its weights.

    `module` is `captured.module` after rewriting: same inputs, same outputs. `opset` is the operator set,
    torch's choice by default; with `metadata` every node tells its source and keeps the exporter's notes.

    Raises:
        TdslError: an operator has no ONNX form, or the opset is not available.
    """
    module = captured.module if module is None else module
    nodes = {node.name: node for node in module.graph.nodes}
    with quiet():
        program = settled_program(captured, module)
    model = to_onnx(program, nodes, opset)
    optimise(model)
    shared = tidy(model, captured)
    places = annotate(model, nodes, everything=metadata)
    if not metadata:
        forget_inner_shapes(model)
    model.producer_name, model.producer_version = "tdsl", None
    emitted = Emitted.of_ir(model)
    emitted.places, emitted.shared = places, shared
    check(emitted)
    return emitted
