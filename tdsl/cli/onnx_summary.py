"""What is in an ONNX file: its signature, its operators by number, its weights by element type."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import onnx

from tdsl.report import units


@dataclass(frozen=True, slots=True)
class Weights:
    """The initializers of one element type."""

    dtype: str
    tensors: int
    elements: int


@dataclass(frozen=True, slots=True)
class Summary:
    """An ONNX file at a glance; inputs and outputs are written `name: float32[batch, 8]`."""

    producer: str
    opset: int
    bytes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: tuple[tuple[str, int], ...]
    weights: tuple[Weights, ...]
    metadata: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Summary:
        """The summary of a model; `bytes` leaves out weights kept in other files that were not loaded."""
        operators = Counter(node.op_type for node in model.graph.node)
        weights: dict[str, list[int]] = {}
        for tensor in model.graph.initializer:
            weights.setdefault(_dtype(tensor.data_type), []).append(math.prod(tensor.dims))
        stored = {value.name for value in model.graph.initializer}
        return cls(
            producer=f"{model.producer_name} {model.producer_version}".strip(),
            opset=next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0),
            bytes=model.ByteSize(),
            inputs=tuple(_edge(value) for value in model.graph.input if value.name not in stored),
            outputs=tuple(_edge(value) for value in model.graph.output),
            operators=tuple(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
            weights=tuple(Weights(name, len(sizes), sum(sizes)) for name, sizes in sorted(weights.items())),
            metadata=tuple(sorted((item.key, item.value) for item in model.metadata_props)),
        )

    def record(self) -> dict[str, Any]:
        """The summary as plain data."""
        return {**asdict(self), "operators": dict(self.operators), "metadata": dict(self.metadata)}

    def text(self) -> str:
        """The summary for people."""
        nodes = sum(count for _, count in self.operators)
        made = f", made by {self.producer}" if self.producer else ""
        lines = [f"ONNX opset {self.opset}, {units.of_bytes(self.bytes)}{made}"]
        lines += [f"input   {edge}" for edge in self.inputs]
        lines += [f"output  {edge}" for edge in self.outputs]
        lines += ["", f"{nodes} node{'' if nodes == 1 else 's'}"]
        lines += [f"  {count:>5}  {name}" for name, count in self.operators]
        lines += ["", "weights"] if self.weights else ["", "no weights"]
        for item in self.weights:
            tensors = f"{item.tensors} tensor{'' if item.tensors == 1 else 's'}"
            lines.append(f"  {item.dtype:<8}  {units.count(item.elements):>7} elements in {tensors}")
        lines += ["", "metadata"] if self.metadata else []
        lines += [
            f"  {key}: {value if len(value) <= 72 else value[:72] + '…'}" for key, value in self.metadata
        ]
        return "\n".join(lines) + "\n"


def _dtype(code: int) -> str:
    """`float32` for ONNX's FLOAT, and so on."""
    name = str(onnx.TensorProto.DataType.Name(code)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def _edge(value: onnx.ValueInfoProto) -> str:
    if not value.type.HasField("tensor_type"):
        return f"{value.name}: not a tensor"
    tensor = value.type.tensor_type
    sizes = [
        dim.dim_param or (str(dim.dim_value) if dim.HasField("dim_value") else "?")
        for dim in tensor.shape.dim
    ]
    return f"{value.name}: {_dtype(tensor.elem_type)}[{', '.join(sizes)}]"
