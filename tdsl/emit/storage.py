"""Storing weights in fewer bytes: each large one as a scheme of `quantize` says, put together at load.

What a scheme writes are arrays and operators on constants; onnxruntime folds them when it loads the model, so
that the file is smaller and the computation stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch.onnx._constants import ONNX_DEFAULT_OPSET

from tdsl.emit.export import OLDEST_OPSET
from tdsl.emit.moments import Asked, Samples, moments
from tdsl.emit.outside import Array, Emitted
from tdsl.emit.reads import Reading, readings
from tdsl.errors import Span, TdslError
from tdsl.quantise.declare import Packed, Recipe, Scheme, Stored, Weight

SMALLEST = 256
"""Weights with fewer elements stay as they are: a node costs about as many bytes as they would save."""


@dataclass(frozen=True, slots=True)
class StoredWeight:
    """One weight in fewer bytes: its name, a node that reads it, bytes before and after, the relative error.

    The error is that of the layer's output on the samples where `by_data` says so, else of the weight.
    """

    name: str
    reader: str
    before: int
    after: int
    error: float
    how: str
    by_data: bool


@dataclass(frozen=True, slots=True)
class Storage:
    """What one `quantize` step did to a file."""

    scheme: str
    lossy: bool
    weights: tuple[StoredWeight, ...]
    arrays: frozenset[str] = frozenset()
    """Names of what stands in the file for these weights."""

    @property
    def error(self) -> float:
        """The largest error of a weight."""
        return max((one.error for one in self.weights), default=0.0)

    @property
    def saved_bytes(self) -> int:
        """By how much the file became smaller."""
        return sum(one.before - one.after for one in self.weights)


def store(
    model: Emitted,
    scheme: Scheme,
    arguments: Mapping[str, Any],
    samples: Samples | None = None,
    besides: Collection[str] = (),
    takes: Callable[[str], bool] = lambda path: True,
) -> Storage:
    """Store the large float32 weights of `model` by a scheme, in place; those stay that do not get smaller.

    With samples a scheme that takes data into account knows what each layer is applied to. Arrays named in
    `besides` are no weights: what other schemes have left stands there. `takes` says whether the layers of a
    module, by its path, are to be stored so.
    """
    before_that = {tensor.name for tensor in model.proto.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    done: list[StoredWeight] = []
    for tensor, weight, reader in _weights(model, scheme, samples, besides, takes):
        stored = scheme.store(weight, **arguments)
        if stored is None or stored.recipe.nbytes >= weight.values.nbytes:
            continue
        if stored.error > arguments.get("error", np.inf):
            continue
        name, before, after = tensor.name, weight.values.nbytes, stored.recipe.nbytes
        by_data = weight.moment is not None
        done.append(StoredWeight(name, reader, before, after, stored.error, stored.how, by_data))
        nodes += _written(model, tensor, stored)
    put_first(model.proto, nodes)
    made = {tensor.name for tensor in model.proto.graph.initializer} - before_that
    return Storage(scheme.name, scheme.lossy, tuple(done), frozenset(made))


def require_opset(name: str, least: int, span: Span | None, asked: int | None) -> int | None:
    """The operator set to emit, `None` for that which torch chooses, where a scheme needs at `least` one.

    Raises `TdslError` where the one that is asked for is too old.
    """
    if asked is not None and OLDEST_OPSET <= asked < least:  # older ones there are not, whatever is stored
        raise TdslError(
            f"opset {asked} has no form for weights stored as {name}",
            span,
            expected=f"opset {least} or newer",
        )
    return least if asked is None and least > ONNX_DEFAULT_OPSET else asked


def _weights(
    model: Emitted,
    scheme: Scheme,
    samples: Samples | None,
    besides: Collection[str],
    takes: Callable[[str], bool],
) -> Iterator[tuple[onnx.TensorProto, Weight, str]]:
    """The weights that may be stored otherwise, each with a node that reads it."""
    known, readers = readings(model.proto), _readers(model.proto)
    found: list[tuple[onnx.TensorProto, Asked | None]] = []
    for tensor in model.proto.graph.initializer:
        values = model.weights.get(tensor.name)
        if values is None or values.dtype != np.float32 or values.size < SMALLEST or tensor.name in besides:
            continue
        if not takes(_path(model, readers.get(tensor.name, ""))):
            continue
        if not scheme.lossy or np.isfinite(values).all():
            found.append((tensor, _asked(known[tensor.name], values) if scheme.by_data else None))

    def of(tensor: onnx.TensorProto, moment: Array | None) -> tuple[onnx.TensorProto, Weight, str]:
        values = model.weights[tensor.name]
        reader = readers.get(tensor.name, "")
        maps = [one for one in known[tensor.name] if one is not None]
        if not maps:
            return tensor, Weight(values), reader
        products, looked_up = (
            all(one is not None and one.use == use for one in known[tensor.name])
            for use in ("product", "look-up")
        )
        return tensor, Weight(values, maps[0].rows_first, moment, products, looked_up), reader

    left = list(found)
    if samples is not None:
        for some in moments(model, samples, [asked for _, asked in found if asked is not None]):
            for tensor, asked in found:
                if asked in some:
                    left.remove((tensor, asked))
                    yield of(tensor, some[asked])
    for tensor, _ in left:
        yield of(tensor, None)


def _readers(model: onnx.ModelProto) -> dict[str, str]:
    """The first node that reads each value, past those that only turn it."""
    found: dict[str, str] = {}
    for node in reversed(model.graph.node):
        for name in node.input:
            turned = node.op_type == "Transpose" and node.output[0] in found
            found[name] = found[node.output[0]] if turned else node.name
    return found


def _path(model: Emitted, node: str) -> str:
    """The path of the module that a node stands in; empty where that is not known."""
    place = model.places.get(node)
    return place.module if place else ""


def _asked(read: Sequence[Reading | None], values: Array) -> Asked | None:
    """What a weight is applied to, if it is to one value alone."""
    if len(read) != 1 or read[0] is None or not read[0].applied_to:
        return None
    outputs = values.shape[0] if read[0].rows_first else values.shape[-1]
    return Asked(read[0].applied_to, values.size // outputs, read[0].patches)


def _written(model: Emitted, tensor: onnx.TensorProto, stored: Stored) -> list[onnx.NodeProto]:
    """The nodes that put a weight together; the first array of the recipe takes its initializer's place."""
    name, recipe = tensor.name, stored.recipe
    initializers = model.proto.graph.initializer
    for number, (key, array) in enumerate(recipe.arrays.items()):
        target = tensor if number == 0 else initializers.add()
        if isinstance(array, Packed):
            model.weights.pop(target.name, None)
            target.CopyFrom(_four_bits(f"{name}.{key}", array))
        elif number == 0:
            model.replace(tensor, f"{name}.{key}", array)
        else:
            model.replace(target, f"{name}.{key}", array)
    if not recipe.by_row:
        return _nodes(name, recipe, name)
    graph = model.proto.graph
    every = list(graph.node)
    del graph.node[:]
    for node in every:
        graph.node.extend(_looked_up(name, recipe, node) if name in node.input else [node])
    return []


def _looked_up(name: str, recipe: Recipe, look_up: onnx.NodeProto) -> list[onnx.NodeProto]:
    """In the place of a look-up of rows: one of the rows of each array, which become those of the weight."""
    rows = look_up.output[0]
    look_ups = [
        helper.make_node(
            "Gather", [f"{name}.{key}", look_up.input[1]], [f"{rows}.{key}"], f"{rows}.{key}.node"
        )
        for key in recipe.arrays
    ]
    return [*look_ups, *_nodes(rows, recipe, rows)]


def _nodes(name: str, recipe: Recipe, result: str) -> list[onnx.NodeProto]:
    """The steps on arrays whose names begin with `name`; the last one computes `result`."""
    last = recipe.steps[-1].result

    def named(key: str) -> str:
        return result if key == last else f"{name}.{key}"

    return [
        helper.make_node(
            step.operator, list(map(named, step.inputs)), [named(step.result)], f"{named(step.result)}.node",
            **step.attributes,
        )
        for step in recipe.steps
    ]  # fmt: skip


def _four_bits(name: str, packed: Packed) -> onnx.TensorProto:
    """An array of codes, two in each byte, the first of them in the lower half."""
    codes = packed.codes.reshape(-1).astype(np.uint8) & 0xF
    if codes.size % 2:
        codes = np.append(codes, np.uint8(0))
    kind = TensorProto.INT4 if packed.signed else TensorProto.UINT4
    data = (codes[0::2] | codes[1::2] << 4).astype(np.uint8).tobytes()
    return TensorProto(name=name, data_type=kind, dims=packed.codes.shape, raw_data=data)


def put_first(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Insert nodes before those of a model, in place."""
    every = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(every)
