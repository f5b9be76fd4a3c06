"""Edits of an ONNX graph that keep what is known of sizes, and where a node came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tdsl.emit.sizes import Sizes


class Editor:
    """A graph under edit."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.sizes = Sizes(model)
        self._constants: dict[tuple[tuple[int, ...], int], ir.Value] = {}

    def constant(self, numbers: Sequence[int], rank: int = 1) -> ir.Value:
        """An initializer of whole numbers: a list, or one number without an axis at `rank` 0."""
        key = (tuple(numbers), rank)
        if key not in self._constants:
            array = np.array(numbers, np.int64).reshape((-1,) * rank)
            name = "_".join(["sizes", *map(str, numbers)]).replace("-", "m")
            self._constants[key] = self.stored(name, array)
        return self._constants[key]

    def stored(self, name: str, array: NDArray[Any]) -> ir.Value:
        """A new initializer of that name, numbered where the name is taken."""
        free, taken = name, 0
        while free in self.graph.initializers:
            taken += 1
            free = f"{name}_{taken}"
        tensor = ir.tensor(array)
        value = ir.Value(name=free, const_value=tensor)
        value.shape, value.type = ir.Shape(array.shape), ir.TensorType(tensor.dtype)
        self.graph.register_initializer(value)
        return value

    def put(
        self,
        place: ir.Node,
        kind: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, int | Sequence[int] | ir.Attr] | None = None,
        *,
        like: ir.Value | None = None,
    ) -> ir.Value:
        """A new operator before `place`, of the same origin; its result has the type and shape of `like`."""
        node = ir.node(kind, inputs, attributes or {}, metadata_props=dict(place.metadata_props))
        result = node.outputs[0]
        first = inputs[0]
        if (typed := like if like is not None else first) is not None:
            result.type = typed.type
        if like is not None and like.shape is not None:
            result.shape = ir.Shape(list(like.shape))
        self.graph.insert_before(place, node)
        self.sizes.visit(node)
        return result

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Let everyone who reads `old` read `new`; what only `old` needed goes."""
        node, name = old.producer(), old.name
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        if node is not None:
            self.drop(node)
        if new.producer() is not None and name is not None and old.producer() is node:
            new.name = name

    def drop(self, node: ir.Node) -> None:
        """Remove a node whose results nobody reads, and what only it needed."""
        waiting = [node]
        while waiting:
            one = waiting.pop()
            if one.graph is None or any(o.uses() or o.is_graph_output() for o in one.outputs):
                continue
            sources = [value.producer() for value in one.inputs if value is not None]
            self.graph.remove(one, safe=True)
            waiting += [source for source in sources if source is not None and source.graph is self.graph]


def only_use(value: ir.Value) -> ir.Node | None:
    """The node that alone reads `value`; `None` if there are several or it is a result of the graph."""
    readers = [use.node for use in value.uses()]
    return readers[0] if len(readers) == 1 and not value.is_graph_output() else None


def number_of(value: ir.Value | None) -> float | None:
    """The number that a value is, known now; `None` for several, or what is not known."""
    known = None if value is None else value.const_value
    return None if known is None or known.size != 1 else float(known.numpy().item())


def is_op(node: ir.Node | None, *kinds: str) -> bool:
    """Whether `node` is one of these operators of ONNX's own."""
    return node is not None and node.domain == "" and node.op_type in kinds
