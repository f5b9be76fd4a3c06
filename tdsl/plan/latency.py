"""What an operator costs on this machine: timed in onnxruntime, alone, at its exact shapes, on one thread.

Timings are kept in a table by operator, shapes and attributes, so that each is measured once; a table that
was written on another device (`tdsl profile`) takes the place of this machine.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from torch import fx

from tdsl.emit.outside import Array, Emitted, outside
from tdsl.emit.runtime import session
from tdsl.engine.staged import Constant, Filled, Staged, Workspace, map_values, tensors_in
from tdsl.errors import TdslError
from tdsl.files import whole
from tdsl.ops.targets import operator_of

FORMAT = "tdsl-profile/1"
SHORTEST = 2e-3
"""Seconds that one timing lasts at least."""
TIMINGS = 7
"""Timings of which the median counts."""
OUTLIERS = 1
"""As many of the fastest and of the slowest are left out where it is asked how much they differ."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """What is known of an operand: its sizes, its element type, and whether it is a constant."""

    sizes: tuple[int, ...]
    dtype: torch.dtype
    const: bool

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}{list(self.sizes)}{' const' if self.const else ''}"


@dataclass(frozen=True, slots=True)
class Step:
    """One operator with the shapes of its operands and its attributes, as the graph calls it."""

    name: str
    arguments: tuple[tuple[str, Any], ...]
    result: tuple[int, ...]

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={_shown(value)}" for name, value in self.arguments if value is not None)
        return f"{self.name}({shown}) -> {list(self.result)}"


class Timing(NamedTuple):
    """Seconds of one call: the median of several timings, and by how much these differ from one another."""

    seconds: float
    spread: float = 0.0


@dataclass
class LatencyTable:
    """Seconds for each step, measured when first asked for unless the table is `fixed`."""

    seconds: dict[str, float] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    """By how much the timings of a step differed; nothing is known of one that is not here."""
    machine: str = ""
    fixed: bool = False

    def of(self, steps: Iterable[Step]) -> float:
        """The time of some steps, one after the other.

        Raises `TdslError` for a step that a fixed table does not have.
        """
        return sum(self._one(step) for step in steps)

    def gain(self, before: Iterable[Step], after: Iterable[Step]) -> float:
        """The time that is saved by some steps in place of others; 0 where chance might show as much.

        Spreads of single steps are independent, so that their squares add up.
        """
        old, new = list(before), list(after)
        gained = self.of(old) - self.of(new)
        noise = math.hypot(*(self.spread.get(str(step), 0.0) for step in (*old, *new)))
        return gained if abs(gained) > noise else 0.0

    def _one(self, step: Step) -> float:
        key = str(step)
        if key not in self.seconds:
            if self.fixed:
                raise TdslError(
                    f"the profile has no entry for {key}",
                    hint="run `tdsl profile` with the same model and pipeline on that device",
                )
            self.seconds[key], self.spread[key] = measure(step)
        return self.seconds[key]

    @classmethod
    def read(cls, path: Path) -> LatencyTable:
        """The table of a file that `write` made. Raises `TdslError` for any other file."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["format"] != FORMAT:
                raise ValueError(record["format"])
            seconds = {str(key): float(value) for key, value in record["seconds"].items()}
            spread = {str(key): float(value) for key, value in record.get("spread", {}).items()}
            return cls(seconds, spread, str(record["machine"]), fixed=True)
        except OSError as reason:
            raise TdslError(f"cannot read {path}: {reason.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TdslError(f"{path} is no profile", expected="a file written by `tdsl profile`") from None

    def write(self, path: Path) -> None:
        """Write the table as JSON, whole or not at all."""
        tables = {"seconds": dict(sorted(self.seconds.items())), "spread": dict(sorted(self.spread.items()))}
        record = {"format": FORMAT, "machine": self.machine, **tables}
        with whole(path) as part:
            part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


# ---------------------------------------------------------------- from a graph


def steps_of(work: Workspace, values: Iterable[fx.Node | Staged]) -> list[Step]:
    """The steps of graph nodes or staged terms that take time when the file runs."""
    found = []
    for value in values:
        op = operator_of(value.target)
        val = work.val(value)
        if op is None or not isinstance(val, torch.Tensor):
            continue
        args = dict(zip((p.name for p in op.params), value.args, strict=False)) | value.kwargs
        arguments = tuple((name, _described(work, argument)) for name, argument in args.items())
        found.append(Step(op.name, arguments, _numbers(val.shape)))
    return found


def _described(work: Workspace, value: Any) -> Any:
    if isinstance(value, fx.Node | Constant | Filled | Staged):
        val = work.val(value)
        if not isinstance(val, torch.Tensor):
            return int(val) if isinstance(val, torch.SymInt | int) else None
        return Tensor(_numbers(val.shape), val.dtype, work.is_const(value))
    if tensors_in(value):
        return [_described(work, item) for item in value]
    return _plain(map_values(value, lambda part: part))


def _numbers(sizes: Iterable[Any]) -> tuple[int, ...]:
    """Sizes as numbers, dynamic ones as in the traced example."""
    return tuple(int(size.node.hint) if isinstance(size, torch.SymInt) else int(size) for size in sizes)


def _plain(value: Any) -> Any:
    if isinstance(value, torch.SymInt):
        return int(value.node.hint)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)


# ---------------------------------------------------------------- measuring


def measure(step: Step) -> Timing:
    """Seconds that onnxruntime takes for one step, on one thread.

    A step that has no graph of its own here (data movement, shapes, an element-by-element function) is
    charged for the bytes that it reads and writes.
    """
    runner = single_operator(step)
    if runner is None:
        return Timing(_traffic(step) * _seconds_per_byte())
    generator = np.random.default_rng(0)
    feeds = {
        edge.name: generator.standard_normal(edge.shape).astype(np.float32)
        if edge.type == "tensor(float)"
        else np.zeros(edge.shape, dtype=np.int64)
        for edge in runner.get_inputs()
    }
    return timed(lambda: runner.run(None, feeds))


def timed(call: Any) -> Timing:
    """Seconds of one call, from `TIMINGS` timings of `SHORTEST` seconds or more each."""
    call()
    start = time.perf_counter()
    call()
    repeats = max(1, math.ceil(SHORTEST / max(time.perf_counter() - start, 1e-9)))
    timings = []
    for _ in range(TIMINGS):
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        timings.append((time.perf_counter() - start) / repeats)
    timings.sort()
    return Timing(statistics.median(timings), timings[-1 - OUTLIERS] - timings[OUTLIERS])


def single_operator(step: Step) -> onnxruntime.InferenceSession | None:
    """A session of this operator alone, for those that weights belong to; `None` for others."""
    given = dict(step.arguments)
    build = _BUILDERS.get(step.name)
    if build is None or any(
        isinstance(v, Tensor) and v.dtype not in (torch.float32, torch.int64) for v in given.values()
    ):
        return None
    graph = _Graph()
    build(graph, given)
    return graph.session(step.result)


class _Graph:
    """An ONNX graph under construction. Its weights stay outside, so that a session need not copy them."""

    def __init__(self) -> None:
        self.inputs: list[onnx.ValueInfoProto] = []
        self.weights: dict[str, Array] = {}
        self.nodes: list[onnx.NodeProto] = []

    def operand(self, name: str, tensor: Tensor) -> str:
        if tensor.const:
            values = np.random.default_rng(1).standard_normal(tensor.sizes, dtype=np.float32)
            values *= np.float32(0.05)
            self.weights[name] = values
        else:
            kind = TensorProto.INT64 if tensor.dtype == torch.int64 else TensorProto.FLOAT
            self.inputs.append(helper.make_tensor_value_info(name, kind, tensor.sizes))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def session(self, result: tuple[int, ...]) -> onnxruntime.InferenceSession:
        output = helper.make_tensor_value_info("out", TensorProto.FLOAT, result)
        weights = [outside(name, TensorProto.FLOAT, w.shape) for name, w in self.weights.items()]
        graph = helper.make_graph(self.nodes, "step", self.inputs, [output], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        return session(Emitted(model, self.weights))


def _linear(graph: _Graph, given: dict[str, Any]) -> None:
    weight = given["weight"]
    turned = Tensor(weight.sizes[::-1], weight.dtype, weight.const)
    product = graph.node(
        "MatMul",
        [graph.operand("x", given["x"]), graph.operand("weight", turned)],
        "out" if given.get("bias") is None else "product",
    )
    if given.get("bias") is not None:
        graph.node("Add", [product, graph.operand("bias", given["bias"])], "out")


def _matmul(graph: _Graph, given: dict[str, Any]) -> None:
    graph.node("MatMul", [graph.operand("x", given["x"]), graph.operand("y", given["y"])], "out")


def _embedding(graph: _Graph, given: dict[str, Any]) -> None:
    names = [graph.operand("weight", given["weight"]), graph.operand("indices", given["indices"])]
    graph.node("Gather", names, "out", axis=0)


def _conv(graph: _Graph, given: dict[str, Any]) -> None:
    names = [graph.operand("x", given["x"]), graph.operand("weight", given["weight"])]
    if given.get("bias") is not None:
        names.append(graph.operand("bias", given["bias"]))
    axes = len(given["weight"].sizes) - 2
    padding = _per_axis(given.get("padding", 0), axes)
    graph.node(
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


def _traffic(step: Step) -> int:
    """Bytes that a step reads and writes."""
    tensors = [v for _, v in step.arguments if isinstance(v, Tensor)]
    tensors += [
        v for _, many in step.arguments if isinstance(many, list) for v in many if isinstance(v, Tensor)
    ]
    read = sum(math.prod(t.sizes) * t.dtype.itemsize for t in tensors)
    return read + 4 * math.prod(step.result)


_PER_BYTE: list[float] = []


def _seconds_per_byte() -> float:
    """Time of a byte read or written by an element-by-element operator, measured once (Add of 1 MB)."""
    if not _PER_BYTE:
        graph = _Graph()
        size = Tensor((2**18,), torch.float32, False)
        graph.node("Add", [graph.operand("x", size), graph.operand("y", size)], "out")
        runner = graph.session(size.sizes)
        feeds = {name: np.ones(size.sizes, dtype=np.float32) for name in ("x", "y")}
        _PER_BYTE.append(timed(lambda: runner.run(None, feeds)).seconds / (3 * 2**20))
    return _PER_BYTE[0]
