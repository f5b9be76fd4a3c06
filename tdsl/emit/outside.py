"""A model apart from its weights: what is checked and what is run need no copy of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]

SMALL = 1024
"""Tensors of fewer bytes stay in the model: they are shapes and axes that its reader needs."""


def with_weights_outside(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The model with its large initializers left outside, and these, by name, as onnxruntime takes them."""
    weights: dict[str, Array] = {}

    def leave(tensor: onnx.TensorProto, graph: onnx.GraphProto) -> None:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        weights[tensor.name] = np.frombuffer(tensor.raw_data, dtype).reshape(tuple(tensor.dims))
        graph.initializer.append(outside(tensor.name, tensor.data_type, tensor.dims))

    return _apart(model, leave), weights


def with_weights_as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large initializers as inputs: what has to be checked of it is the same."""

    def leave(tensor: onnx.TensorProto, graph: onnx.GraphProto) -> None:
        kind = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        graph.input.append(kind)

    return _apart(model, leave)


def outside(name: str, data_type: int, dims: Iterable[int]) -> onnx.TensorProto:
    """An initializer whose numbers are handed to the session beside the model."""
    tensor = onnx.TensorProto(name=name, data_type=data_type, dims=dims)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=f"{name}.bin")
    return tensor


def _apart(
    model: onnx.ModelProto, leave: Callable[[onnx.TensorProto, onnx.GraphProto], None]
) -> onnx.ModelProto:
    """A copy of everything but the large initializers, of which `leave` is told."""
    slim = onnx.ModelProto()
    _copy_fields(model, slim, but="graph")
    _copy_fields(model.graph, slim.graph, but="initializer")
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < SMALL or tensor.data_type == onnx.TensorProto.BFLOAT16:
            slim.graph.initializer.add().CopyFrom(tensor)
        else:
            leave(tensor, slim.graph)
    return slim


def _copy_fields(source: onnx.ModelProto | onnx.GraphProto, target: object, but: str) -> None:
    for field, value in source.ListFields():
        if field.name == but:
            continue
        if hasattr(value, "CopyFrom") and not hasattr(value, "extend"):
            getattr(target, field.name).CopyFrom(value)
        elif hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        else:
            setattr(target, field.name, value)
