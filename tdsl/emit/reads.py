"""Who reads a weight of an ONNX model, and which linear map it is to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import onnx
from onnx import helper


@dataclass(frozen=True, slots=True)
class Patches:
    """How a convolution without groups reads its input: what `im2col` needs."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """A weight as one reader sees it; `applied_to` names the value whose last axis it maps, if one does."""

    node: str
    rows_first: bool
    use: Literal["", "product", "look-up"] = ""
    """Whether it is the right operand of a product of matrices, or a table looked up by its first axis."""
    applied_to: str = ""
    patches: Patches | None = None
    """Of a convolution, whose patches of `applied_to` are what it maps."""


def readings(model: onnx.ModelProto) -> dict[str, list[Reading | None]]:
    """By the name of each initializer those that read it; `None` for a reader to whom it is no linear map."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    users: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            users.setdefault(name, []).append((node, index))

    def of(name: str, shape: Sequence[int]) -> list[Reading | None]:
        found: list[Reading | None] = []
        for node, index in users.get(name, ()):
            if node.op_type == "Transpose" and len(shape) == 2 and _attributes(node).get("perm") == [1, 0]:
                found += [_turned(one) for one in of(node.output[0], shape[::-1])]
            else:
                reader = _READERS.get((node.op_type, index)) if node.domain in ("", "ai.onnx") else None
                found.append(reader(node, shape) if reader else None)
        return found

    elsewhere = [value.name for value in model.graph.output]
    elsewhere += [name for node in model.graph.node for name in _inside(node)]
    found = {name: of(name, shape) for name, shape in shapes.items()}
    for name in elsewhere:
        if name in found:
            found[name].append(None)
    return found


def _inside(node: onnx.NodeProto) -> Iterator[str]:
    """What the nodes in the branches or the body of a node read."""
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from inner.input
                yield from _inside(inner)


def _turned(reading: Reading | None) -> Reading | None:
    if reading is None:
        return None
    return Reading(reading.node, not reading.rows_first, "", reading.applied_to, reading.patches)


def _attributes(node: onnx.NodeProto) -> Mapping[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _right_operand(node: onnx.NodeProto, shape: Sequence[int]) -> Reading | None:
    if len(shape) < 2:
        return None
    plain = len(shape) == 2
    return Reading(node.name, False, "product" if plain else "", node.input[0] if plain else "")


def _left_operand(node: onnx.NodeProto, shape: Sequence[int]) -> Reading | None:
    return Reading(node.name, True) if len(shape) == 2 else None


def _gemm(node: onnx.NodeProto, shape: Sequence[int]) -> Reading:
    known = _attributes(node)
    applied_to = "" if known.get("transA", 0) else node.input[0]
    return Reading(node.name, bool(known.get("transB", 0)), applied_to=applied_to)


def _convolution(node: onnx.NodeProto, shape: Sequence[int]) -> Reading:
    known = _attributes(node)
    kernel = tuple(shape[2:])
    axes = len(kernel)
    padded = known.get("auto_pad", b"NOTSET") in (b"NOTSET", b"")
    if known.get("group", 1) != 1 or axes not in (1, 2) or not padded:
        return Reading(node.name, True)
    patches = Patches(
        kernel,
        tuple(known.get("strides", (1,) * axes)),
        tuple(known.get("dilations", (1,) * axes)),
        tuple(known.get("pads", (0,) * (2 * axes))),
    )
    return Reading(node.name, True, applied_to=node.input[0], patches=patches)


def _transposed_convolution(node: onnx.NodeProto, shape: Sequence[int]) -> Reading:
    return Reading(node.name, True)  # by the axis of its inputs


def _table(node: onnx.NodeProto, shape: Sequence[int]) -> Reading | None:
    by_rows = len(shape) >= 2 and _attributes(node).get("axis", 0) == 0
    return Reading(node.name, True, "look-up") if by_rows else None


_READERS: Mapping[tuple[str, int], Callable[[onnx.NodeProto, Sequence[int]], Reading | None]] = {
    ("MatMul", 0): _left_operand,
    ("MatMul", 1): _right_operand,
    ("Gemm", 1): _gemm,
    ("Conv", 1): _convolution,
    ("ConvTranspose", 1): _transposed_convolution,
    ("Gather", 0): _table,
}
"""The readers to whom a weight is a linear map, by operator and place among its inputs."""
