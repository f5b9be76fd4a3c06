"""Emitted models with planted weights, stored by a scheme and run by onnxruntime."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from tdsl.emit import Emitted, session, size
from tdsl.emit.moments import Samples
from tdsl.emit.runtime import run
from tdsl.emit.storage import Storage, store
from tdsl.engine.storing import storage_step
from tdsl.lang import parse

X = "x"


def product(weight: np.ndarray) -> Emitted:
    """y = x·W with W [n, m] in the file."""
    return _model(
        [helper.make_node("MatMul", [X, "w"], ["y"], "product")],
        {"w": weight},
        ["b", len(weight)],
        ["b", weight.shape[1]],
    )


def convolution(weight: np.ndarray) -> Emitted:
    """A convolution with padding and a stride."""
    node = helper.make_node("Conv", [X, "w"], ["y"], "convolution", pads=[1, 0, 1, 2], strides=[2, 1])
    return _model([node], {"w": weight}, ["b", weight.shape[1], 9, 8], ["b", len(weight), None, None])


def table(weight: np.ndarray) -> Emitted:
    """Rows looked up by number."""
    node = helper.make_node("Gather", ["w", X], ["y"], "table")
    return _model([node], {"w": weight}, ["b"], ["b", weight.shape[1]], TensorProto.INT64)


def _model(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    read: list[Any],
    written: list[Any],
    kind: int = TensorProto.FLOAT,
) -> Emitted:
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info(X, kind, read)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, written)],
        [numpy_helper.from_array(weight.astype(np.float32), name) for name, weight in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return Emitted.of(model)


@dataclass
class Outcome:
    """What came of storing: the summary, sizes of the file, the outputs before and after."""

    storage: Storage
    before: int
    after: int
    expected: np.ndarray
    found: np.ndarray
    model: Emitted

    @property
    def error(self) -> float:
        """Relative error of the output."""
        return float(np.linalg.norm(self.found - self.expected) / np.linalg.norm(self.expected))


def stored(
    model: Emitted, written: str, x: np.ndarray, calibration: list[np.ndarray] | None = None
) -> Outcome:
    """Store as `quantize` says in the notation of the language; run both files on x."""
    [pipeline] = parse(f"pipeline p {{ quantize {written} }}").items
    step = storage_step(pipeline.steps[0], {})
    given = {X: torch.from_numpy(x)}
    expected, before = run(session(model), given)["y"], size(model)
    samples = Samples([{X: torch.from_numpy(one)} for one in calibration]) if calibration else None
    storage = store(model, step.scheme, step.arguments, samples)
    onnx.checker.check_model(model.whole(), full_check=True)
    found = run(session(model), given)["y"]
    return Outcome(storage, before, size(model), expected, found, model)


def optimised(model: Emitted) -> list[str]:
    """The operators that onnxruntime is left with."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 4
        whole = model.whole().SerializeToString()
        onnxruntime.InferenceSession(whole, options, providers=["CPUExecutionProvider"])
        return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers, the same every time."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def correlated(count: int, n: int, rank: int = 8, seed: int = 5) -> np.ndarray:
    """Vectors most of whose size lies in few directions. → [count, n]"""
    random = np.random.default_rng(seed)
    directions = np.random.default_rng(77).standard_normal((rank, n))
    return (
        random.standard_normal((count, rank)) @ directions + 0.1 * random.standard_normal((count, n))
    ).astype(np.float32)
