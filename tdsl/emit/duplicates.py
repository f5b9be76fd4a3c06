"""One initializer for each content, found without a copy of the weights."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

import numpy as np
import onnx_ir as ir


def share_equal_weights(model: ir.Model) -> None:
    """Let initializers of one type, shape and content be one, in place; contents are compared by hash."""
    for graph in model.graphs():
        alike: dict[Hashable, list[ir.Value]] = {}
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and not value.is_graph_input() and not value.is_graph_output():
                alike.setdefault((tensor.dtype, tuple(tensor.shape)), []).append(value)
        for values in alike.values():
            if len(values) > 1:
                _merge(graph, values)


def _merge(graph: ir.Graph, values: list[ir.Value]) -> None:
    first: dict[bytes, ir.Value] = {}
    for value in values:
        kept = first.setdefault(_content(value.const_value), value)
        if kept is not value:
            ir.convenience.replace_all_uses_with(value, kept)
            del graph.initializers[value.name]  # type: ignore[arg-type]


def _content(tensor: ir.TensorProtocol | None) -> bytes:
    """What tells contents of one type and shape apart."""
    assert tensor is not None
    if tensor.dtype == ir.DataType.STRING:
        return repr(tensor.numpy().tolist()).encode()
    entries = np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8)
    return hashlib.blake2b(entries.data).digest()
