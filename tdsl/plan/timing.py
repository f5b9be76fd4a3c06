"""What a step adds to a file, timed in onnxruntime at its exact shapes, on one thread.

What a run of a session costs whatever is in it, and what brings images into the blocked layout of
convolutions and back, happens once in a file, not at each operator: it is left out.
"""

from __future__ import annotations

import functools
import math
import statistics
import time
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

from tdsl.emit.outside import Array, Emitted, outside
from tdsl.emit.runtime import session
from tdsl.plan.steps import Step, Tensor

SHORTEST = 2e-3
"""Seconds that one timing lasts at least."""
TIMINGS = 7
"""Timings at most, of which the faster half counts: what else a machine does only ever slows one down."""
FEWEST, ALIKE = 3, 0.01
"""So many, and always an odd number, are enough where the faster half differ by this share or less."""
LEAST = 1e-7
"""Seconds that a step takes at least, whatever timings say."""
_clock = time.thread_time if hasattr(time, "CLOCK_THREAD_CPUTIME_ID") else time.perf_counter
"""A run on one thread is in the thread that calls it: where its own time is known, that is what counts."""


class Timing(NamedTuple):
    """Seconds of one call: the median of several timings, and by how much these differ from one another."""

    seconds: float
    spread: float = 0.0


def measure(step: Step) -> Timing:
    """Seconds that one step adds to a file that onnxruntime runs on one thread.

    For a convolution that is what a second one beside it adds, their sum being part of it as in a residual
    network; of other operators it is their time less that of a run without work. A step that has no graph of
    its own here (data movement, shapes, an element-by-element function) is charged for the bytes that it
    reads and writes.
    """
    alone = _measured(step, 1)
    if alone is None:
        return Timing(_traffic(step) * _seconds_per_byte())
    if step.name not in _BLOCKED:
        return Timing(max(alone.seconds - _seconds_per_run(), LEAST), alone.spread)
    pair = _measured(step, 2)
    assert pair is not None
    return Timing(max(pair.seconds - alone.seconds, LEAST), math.hypot(alone.spread, pair.spread))


def _measured(step: Step, copies: int) -> Timing | None:
    """Seconds of a run of that many copies of a step; `None` as in `copies_of`."""
    runner = copies_of(step, copies)
    if runner is None:
        return None
    generator = np.random.default_rng(0)
    feeds = {
        edge.name: generator.standard_normal(edge.shape).astype(np.float32)
        if edge.type == "tensor(float)"
        else np.zeros(edge.shape, dtype=np.int64)
        for edge in runner.get_inputs()
    }
    return timed(lambda: runner.run(None, feeds))


def timed(call: Any) -> Timing:
    """Seconds of one call, from timings of `SHORTEST` seconds or more each: as many as agree (`ALIKE`)."""
    call()
    start = _clock()
    call()
    repeats = max(1, math.ceil(SHORTEST / max(_clock() - start, 1e-9)))
    timings: list[float] = []
    while True:
        start = _clock()
        for _ in range(repeats):
            call()
        timings.append((_clock() - start) / repeats)
        fast = sorted(timings)[: len(timings) // 2 + 1]
        found = Timing(statistics.median(fast), fast[-1] - fast[0])
        agree = len(timings) % 2 and len(timings) >= FEWEST and found.spread <= ALIKE * found.seconds
        if agree or len(timings) == TIMINGS:
            return found


def copies_of(step: Step, copies: int = 1) -> onnxruntime.InferenceSession | None:
    """A session of the sum of some copies of this operator on the same operands, their weights apart.

    `None` for operators that weights do not belong to.
    """
    given = dict(step.arguments)
    build = _BUILDERS.get(step.name)
    if build is None or any(
        isinstance(v, Tensor) and v.dtype not in (torch.float32, torch.int64) for v in given.values()
    ):
        return None
    graph = _Graph()
    last = ""
    for copy in range(copies):
        graph.copy = copy
        made = build(graph, given)
        last = graph.node("Add", [last, made], f"sum{copy}") if last else made
    return graph.session(step.result, last)


class _Graph:
    """An ONNX graph under construction. Its weights stay outside, so that a session need not copy them."""

    def __init__(self) -> None:
        self.inputs: dict[str, onnx.ValueInfoProto] = {}
        self.weights: dict[str, Array] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.copy = 0
        """The number of the copy under construction: weights and results are its own, inputs are shared."""

    def operand(self, name: str, tensor: Tensor) -> str:
        if tensor.const:
            name = f"{name}{self.copy}"
            self.weights[name] = np.resize(_numbers(self.copy), tensor.sizes)
        else:
            kind = TensorProto.INT64 if tensor.dtype == torch.int64 else TensorProto.FLOAT
            self.inputs[name] = helper.make_tensor_value_info(name, kind, tensor.sizes)
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        output = f"{output}{self.copy}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def session(self, result: tuple[int, ...], name: str) -> onnxruntime.InferenceSession:
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, result)
        weights = [outside(name, TensorProto.FLOAT, w.shape) for name, w in self.weights.items()]
        graph = helper.make_graph(self.nodes, "step", list(self.inputs.values()), [output], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        return session(Emitted(model, self.weights))


@functools.cache
def _numbers(copy: int) -> Array:
    """Numbers that weights repeat: small ones, and others for each copy."""
    drawn = np.random.default_rng(1 + copy).standard_normal(4099, dtype=np.float32)
    return drawn * np.float32(0.05)


def _linear(graph: _Graph, given: dict[str, Any]) -> str:
    weight = given["weight"]
    turned = Tensor(weight.sizes[::-1], weight.dtype, weight.const)
    product = graph.node(
        "MatMul", [graph.operand("x", given["x"]), graph.operand("weight", turned)], "product"
    )
    if given.get("bias") is None:
        return product
    return graph.node("Add", [product, graph.operand("bias", given["bias"])], "out")


def _matmul(graph: _Graph, given: dict[str, Any]) -> str:
    return graph.node("MatMul", [graph.operand("x", given["x"]), graph.operand("y", given["y"])], "out")


def _embedding(graph: _Graph, given: dict[str, Any]) -> str:
    names = [graph.operand("weight", given["weight"]), graph.operand("indices", given["indices"])]
    return graph.node("Gather", names, "out", axis=0)


def _conv(graph: _Graph, given: dict[str, Any]) -> str:
    names = [graph.operand("x", given["x"]), graph.operand("weight", given["weight"])]
    if given.get("bias") is not None:
        names.append(graph.operand("bias", given["bias"]))
    axes = len(given["weight"].sizes) - 2
    padding = _per_axis(given.get("padding", 0), axes)
    return graph.node(
        "Conv",
        names,
        "out",
        strides=_per_axis(given.get("stride", 1), axes),
        pads=padding * 2,
        dilations=_per_axis(given.get("dilation", 1), axes),
        group=given.get("groups", 1),
    )


def _per_axis(value: Any, axes: int) -> list[int]:
    return list(value) if isinstance(value, list | tuple) else [value] * axes


_BUILDERS = {
    "linear": _linear,
    "matmul": _matmul,
    "embedding": _embedding,
    "conv1d": _conv,
    "conv2d": _conv,
    "conv3d": _conv,
}
"""How the operators that hold weights look in ONNX, by their names in the language."""
_BLOCKED = ("conv1d", "conv2d", "conv3d")
"""Those that onnxruntime computes in a layout of its own."""


def _traffic(step: Step) -> int:
    """Bytes that a step reads and writes."""
    tensors = [v for _, v in step.arguments if isinstance(v, Tensor)]
    tensors += [
        v for _, many in step.arguments if isinstance(many, list) for v in many if isinstance(v, Tensor)
    ]
    read = sum(math.prod(t.sizes) * t.dtype.itemsize for t in tensors)
    return read + 4 * math.prod(step.result)


@functools.cache
def _seconds_per_byte() -> float:
    """Time of a byte read or written by an element-by-element operator, measured once (Add of 1 MB)."""
    return (_adding(2**18) - _seconds_per_run()) / (3 * 2**20)


@functools.cache
def _seconds_per_run() -> float:
    """Time of a run of a session that adds two numbers, measured once."""
    return _adding(1)


def _adding(count: int) -> float:
    """Seconds of a run that adds two tensors of that many numbers."""
    graph, size = _Graph(), Tensor((count,), torch.float32, False)
    total = graph.node("Add", [graph.operand("x", size), graph.operand("y", size)], "out")
    runner = graph.session(size.sizes, total)
    feeds = {name: np.ones(size.sizes, dtype=np.float32) for name in ("x", "y")}
    return timed(lambda: runner.run(None, feeds)).seconds
