"""An ONNX model in float64: every narrow float in it widened, so that rounding hides nothing."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

NARROW = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_TYPE_ATTRIBUTES = frozenset({"to", "dtype", "stash_type"})
"""Attributes that name an element type."""


def widened_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model, its weights loaded, in which every narrow float is a double.

    Whether there are kernels for it is another matter: onnxruntime has them for some operators only.
    """
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    _widen_graph(wide.graph)
    for function in wide.functions:
        _widen_nodes(function.node)
    return wide


def _widen_graph(graph: onnx.GraphProto) -> None:
    for weight in graph.initializer:
        _widen_tensor(weight)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in NARROW:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del graph.value_info[:]
    _widen_nodes(graph.node)


def _widen_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i in NARROW:
                attribute.i = TensorProto.DOUBLE
            if attribute.HasField("t"):
                _widen_tensor(attribute.t)
            if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                _as_tensor(attribute)
            for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _widen_graph(graph)


def _as_tensor(attribute: onnx.AttributeProto) -> None:
    """A constant that was written as numbers, as a tensor of doubles."""
    values = np.array(attribute.f if attribute.name == "value_float" else list(attribute.floats), np.float64)
    attribute.CopyFrom(onnx.helper.make_attribute("value", numpy_helper.from_array(values)))


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in NARROW:
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), name))
