"""A model apart from its weights: what is checked, run and written needs no copy of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from tdsl.emit.duplicates import Shared
from tdsl.provenance import Origin

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

SMALL = 1024
"""Tensors of fewer bytes stay in the model: they are shapes and axes that its reader needs."""


@dataclass(slots=True)
class Emitted:
    """An ONNX model whose large weights stand beside it.

    `proto` names them as initializers whose data is elsewhere; `weights` has them by name, turned views too.
    They share memory with what they were made from: a module changed in place changes what was emitted of it.
    """

    proto: onnx.ModelProto
    weights: dict[str, Array] = field(default_factory=dict)
    places: Mapping[str, Origin] = field(default_factory=dict)
    """Where the nodes of `proto` stand in the user's model, by name, as far as that is known."""
    shared: tuple[Shared, ...] = ()
    """Large weights of the module that stand for others with the same bits."""

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Emitted:
        """A model that has its weights in it, taken apart; they share memory with it."""
        weights: dict[str, Array] = {}

        def leave(tensor: onnx.TensorProto, graph: onnx.GraphProto) -> None:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            weights[tensor.name] = np.frombuffer(tensor.raw_data, dtype).reshape(tuple(tensor.dims))
            graph.initializer.append(outside(tensor.name, tensor.data_type, tensor.dims))

        def large(tensor: onnx.TensorProto) -> bool:
            return len(tensor.raw_data) >= SMALL and tensor.data_type != onnx.TensorProto.BFLOAT16

        return cls(_apart(model, large, leave), weights)

    @classmethod
    def of_ir(cls, model: ir.Model) -> Emitted:
        """The same of onnxscript's representation, whose weights mostly are those of the module."""
        weights: dict[str, Array] = {}
        for name, value in model.graph.initializers.items():
            tensor = value.const_value
            if tensor is None or tensor.dtype in _INSIDE or tensor.nbytes < SMALL:
                continue
            weights[name] = tensor.numpy()
            value.const_value = ir.ExternalTensor(
                f"{name}.bin", None, None, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
            )
        return cls(ir.serde.serialize_model(model), weights)

    def whole(self) -> onnx.ModelProto:
        """The model with copies of its weights in it."""
        model = onnx.ModelProto()
        model.CopyFrom(self.proto)
        for tensor in model.graph.initializer:
            if tensor.name in self.weights:
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")
                tensor.raw_data = self.weights[tensor.name].tobytes()
        return model

    def with_weights_as_inputs(self) -> onnx.ModelProto:
        """The model with its large initializers as inputs: what has to be checked of it is the same."""

        def leave(tensor: onnx.TensorProto, graph: onnx.GraphProto) -> None:
            kind = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            graph.input.append(kind)

        return _apart(self.proto, lambda tensor: tensor.name in self.weights, leave)

    def replace(self, tensor: onnx.TensorProto, name: str, values: Array) -> None:
        """Put other values under another name in the place of an initializer of `proto`."""
        self.weights.pop(tensor.name, None)
        if values.nbytes < SMALL:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))
        else:
            self.weights[name] = values
            data_type = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
            tensor.CopyFrom(outside(name, data_type, values.shape))


_INSIDE = (ir.DataType.BFLOAT16, ir.DataType.STRING)
"""Element types that no array of numpy can hand over."""


def outside(name: str, data_type: int, dims: Iterable[int]) -> onnx.TensorProto:
    """An initializer whose numbers are handed to the session beside the model."""
    tensor = onnx.TensorProto(name=name, data_type=data_type, dims=dims)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=f"{name}.bin")
    return tensor


def _apart(
    model: onnx.ModelProto,
    large: Callable[[onnx.TensorProto], bool],
    leave: Callable[[onnx.TensorProto, onnx.GraphProto], None],
) -> onnx.ModelProto:
    """A copy of everything but the large initializers, of which `leave` is told."""
    slim = copy_of(model, lambda number: number != _GRAPH)
    slim.graph.CopyFrom(copy_of(model.graph, lambda number: number != _INITIALIZER))
    for tensor in model.graph.initializer:
        if large(tensor):
            leave(tensor, slim.graph)
        else:
            slim.graph.initializer.add().CopyFrom(tensor)
    return slim


_GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER
_INITIALIZER = onnx.GraphProto.INITIALIZER_FIELD_NUMBER


Message = TypeVar("Message", onnx.ModelProto, onnx.GraphProto)


def copy_of(message: Message, wanted: Callable[[int], bool]) -> Message:
    """A copy of the fields of a message whose numbers are wanted."""
    copy = type(message)()
    for field_, value in message.ListFields():
        if not wanted(field_.number):
            continue
        if hasattr(value, "extend"):
            getattr(copy, field_.name).extend(value)
        elif hasattr(value, "CopyFrom"):
            getattr(copy, field_.name).CopyFrom(value)
        else:
            setattr(copy, field_.name, value)
    return copy
