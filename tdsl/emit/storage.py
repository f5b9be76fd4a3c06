"""Storing weights in fewer bytes: float16 in the file, float32 in the computation.

Each large weight becomes a float16 initializer behind a `Cast`, which onnxruntime folds when it loads the
model: the file is half as large, the latency stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from tdsl.emit.outside import Array, Emitted

SMALLEST = 256
"""Weights with fewer elements stay as they are: a node costs about as many bytes as they would save."""

PART = 2**16
"""Entries whose error is summed at once."""

LARGEST_ERROR = 1e-3
"""A weight whose relative Frobenius error in float16 is larger stays in float32 (tiny or huge values)."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored in fewer bytes: how many weights, the bytes saved, the worst relative error."""

    weights: int
    saved_bytes: int
    error: float


def store_f16(model: Emitted) -> Stored:
    """Store the large float32 weights of `model` as float16, in place."""
    casts: list[onnx.NodeProto] = []
    saved, worst = 0, 0.0
    for tensor in model.proto.graph.initializer:
        values = model.weights.get(tensor.name)
        if values is None or values.dtype != np.float32 or values.size < SMALLEST:
            continue
        if max(values.max(), -values.min()) > np.finfo(np.float16).max:
            continue
        half = values.astype(np.float16, order="C")
        error = _lost(values, half)
        if error > LARGEST_ERROR:
            continue
        name = tensor.name
        model.replace(tensor, f"{name}.f16", half)
        casts.append(helper.make_node("Cast", [f"{name}.f16"], [name], f"{name}.f32", to=TensorProto.FLOAT))
        saved += half.nbytes
        worst = max(worst, error)
    put_first(model.proto, casts)
    return Stored(len(casts), saved, worst)


def put_first(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Insert nodes before those of a model, in place."""
    every = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(every)


def _lost(values: Array, half: Array) -> float:
    """The relative Frobenius error of a weight in float16, summed in float64 part by part."""
    lost = whole = 0.0
    full, narrow = values.reshape(-1), half.reshape(-1)
    for start in range(0, full.size, PART):
        part = full[start : start + PART].astype(np.float64)
        whole += float(part @ part)
        part -= narrow[start : start + PART]
        lost += float(part @ part)
    return math.sqrt(lost / whole) if whole else 0.0
