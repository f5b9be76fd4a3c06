"""One initializer for each content, turned ones too, found without a copy of the weights.

Tables that were trained together may be stored apart: an embedding and the output layer that is a copy of it,
or its transpose (Press & Wolf, 2017). Bits decide; what is merely close stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

LARGE = 1024
"""Bytes from which on a copy is worth an operator that turns it, and a word."""
LOOKED_AT = 64
"""Entries by which most matrices are told apart before all are compared."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A weight that the file does not hold, having another one with the same bits."""

    name: str
    reader: ir.Node | None
    """An operator that reads it."""
    source: str
    turned: bool
    """Whether it is the transpose of the other one."""
    nbytes: int


def share_equal_weights(model: ir.Model) -> tuple[Shared, ...]:
    """Let initializers of one content be one, in place, and say which large ones were.

    A transpose becomes an operator on the other one, which runtimes carry out when they load the file.
    """
    shared: list[Shared] = []
    for graph in model.graphs():
        alike: dict[Hashable, list[ir.Value]] = {}
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and not value.is_graph_input() and not value.is_graph_output():
                alike.setdefault((tensor.dtype, tuple(tensor.shape)), []).append(value)
        for values in alike.values():
            if len(values) > 1:
                shared += _merge(graph, values)
        shared += _turn(graph)
    return tuple(one for one in shared if one.nbytes >= LARGE)


def _merge(graph: ir.Graph, values: list[ir.Value]) -> Iterator[Shared]:
    first: dict[bytes, ir.Value] = {}
    for value in values:
        kept = first.setdefault(_content(value.const_value), value)
        if kept is not value:
            yield _shared(value, kept, turned=False)
            ir.convenience.replace_all_uses_with(value, kept)
            del graph.initializers[value.name]  # type: ignore[arg-type]


def _turn(graph: ir.Graph) -> Iterator[Shared]:
    """Matrices that are transposes of others; a table that rows are looked up in stays as it is."""
    matrices = [value for value in graph.initializers.values() if _is_large_matrix(value)]
    matrices.sort(key=lambda value: not any(use.node.op_type == "Gather" for use in value.uses()))
    kept: list[ir.Value] = []
    for value in matrices:
        source = next((one for one in kept if _are_transposes(one, value)), None)
        if source is None:
            kept.append(value)
            continue
        yield _shared(value, source, turned=True)
        name = value.name
        assert name is not None
        node = ir.node("Transpose", [source], {"perm": [1, 0]}, name=f"{name}.turned")
        result = node.outputs[0]
        result.shape, result.type = value.shape, value.type
        ir.convenience.replace_all_uses_with(value, result)
        del graph.initializers[name]
        result.name = name
        graph.insert_before(graph[0], node)


def _shared(value: ir.Value, source: ir.Value, *, turned: bool) -> Shared:
    assert value.const_value is not None
    reader = next((use.node for use in value.uses()), None)
    return Shared(value.name or "", reader, source.name or "", turned, value.const_value.nbytes)


def _is_large_matrix(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or value.is_graph_input() or value.is_graph_output():
        return False
    return tensor.dtype != ir.DataType.STRING and len(tensor.shape) == 2 and tensor.nbytes >= LARGE


def _are_transposes(one: ir.Value, other: ir.Value) -> bool:
    """Whether two matrices have the same bits, the axes of one exchanged."""
    first, second = one.const_value, other.const_value
    assert first is not None and second is not None
    if first.dtype != second.dtype or tuple(first.shape) != tuple(second.shape)[::-1]:
        return False
    bits = np.dtype(f"u{first.nbytes // first.size}") if first.nbytes % first.size == 0 else None
    if bits is None:  # packed
        return False
    left, right = (np.asarray(tensor.numpy()).view(bits) for tensor in (first, second))
    rows, columns = (np.linspace(0, size - 1, LOOKED_AT).astype(np.int64) for size in left.shape)
    if not np.array_equal(left[rows, columns], right[columns, rows]):
        return False
    return bool(np.array_equal(left, right.T))


def _content(tensor: ir.TensorProtocol | None) -> bytes:
    """What tells contents of one type and shape apart."""
    assert tensor is not None
    if tensor.dtype == ir.DataType.STRING:
        return repr(tensor.numpy().tolist()).encode()
    entries = np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8)
    return hashlib.blake2b(entries.data).digest()
