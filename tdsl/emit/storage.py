"""Storing weights in fewer bytes: float16 in the file, float32 in the computation.

Each large weight becomes a float16 initializer behind a `Cast`, which onnxruntime folds when it loads the
model: the file is half as large, the latency stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST = 256
"""Weights with fewer elements stay as they are: a node costs about as many bytes as they would save."""

LARGEST_ERROR = 1e-3
"""A weight whose relative Frobenius error in float16 is larger stays in float32 (tiny or huge values)."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored in fewer bytes: how many weights, the bytes saved, the worst relative error."""

    weights: int
    saved_bytes: int
    error: float


def store_f16(model: onnx.ModelProto) -> Stored:
    """Store the large float32 weights of `model` as float16, in place."""
    casts: list[onnx.NodeProto] = []
    saved, worst = 0, 0.0
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < SMALLEST or max(values.max(), -values.min()) > np.finfo(np.float16).max:
            continue
        half = values.astype(np.float16)
        norm = _norm(values)
        lost = _norm(values - half.astype(np.float32))  # float32 holds the difference exactly
        error = lost / norm if norm else 0.0
        if error > LARGEST_ERROR:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.f16"))
        casts.append(helper.make_node("Cast", [f"{name}.f16"], [name], f"{name}.f32", to=TensorProto.FLOAT))
        saved += half.nbytes
        worst = max(worst, error)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return Stored(len(casts), saved, worst)


def _norm(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    """The Frobenius norm, summed in float64 without a copy in it."""
    flat = values.reshape(-1)
    return float(np.sqrt(np.einsum("i,i->", flat, flat, dtype=np.float64)))
