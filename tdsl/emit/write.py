"""Writes an ONNX model whole or not at all, its weights straight from where they are."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np
import onnx

from tdsl.emit.outside import Array, Emitted, copy_of
from tdsl.errors import TdslError
from tdsl.files import whole

LIMIT = 2**31 - 2**20
"""Bytes from which on protobuf cannot hold a model in one piece, with a margin for its frame."""

PAGE = 4096
"""Bytes of a page of memory, on most systems."""

Piece = bytes | Array


def check(model: Emitted) -> None:
    """ONNX's full check, with shape inference, of a model of any size; its weights are not copied.

    A failure is a bug in emission and raises `onnx.checker.ValidationError` or an inference error.
    """
    onnx.checker.check_model(model.with_weights_as_inputs(), full_check=True)


def size(model: Emitted) -> int:
    """Bytes of the file that holds the model and its weights."""
    return sum(_length(piece) for piece in _model(model))


def save(model: onnx.ModelProto | Emitted, path: str | PathLike[str], *, limit: int = LIMIT) -> None:
    """Write `model` to `path`; a model of `limit` bytes or more as a small file beside `<name>.data`.

    The file that was there before is replaced only when the new one is complete on the disk.

    Raises:
        TdslError: the directory is missing or not writable, or the disk is full. Nothing is left behind.
    """
    target = Path(path)
    directory = target.parent
    if not directory.is_dir():
        raise TdslError(f"cannot write {target}: there is no directory {directory}")
    if target.is_dir():
        raise TdslError(
            f"cannot write {target}: it is a directory", expected="a file name such as model.onnx"
        )
    emitted = Emitted.of(model) if isinstance(model, onnx.ModelProto) else model
    try:
        if size(emitted) < limit:
            with whole(target) as part, part.open("wb") as file:
                for piece in _model(emitted):
                    file.write(_bytes(piece))
        else:
            _save_with_data(emitted, target)
    except OSError as error:
        raise TdslError(
            f"cannot write {target}: {error.strerror or error}",
            hint="free space on the disk or choose another path; nothing was left behind",
        ) from None


def _save_with_data(model: Emitted, target: Path) -> None:
    """The weights in `<name>.data`, the rest in `target`: both complete before either takes its place."""
    data = target.with_name(target.name + ".data")
    with whole(target) as file_part, whole(data) as data_part:
        write_apart(model, file_part, data_part, data.name)


def write_apart(model: Emitted, file: Path, data: Path, location: str) -> None:
    """Write the weights to `data`, which the model in `file` looks for at `location`.

    Each begins on a page, as the format advises, so that a reader can map it into memory. Raises `OSError`.
    """
    slim = onnx.ModelProto()
    slim.CopyFrom(model.proto)
    with data.open("wb") as beside:
        for tensor in slim.graph.initializer:
            if tensor.name not in model.weights:
                continue
            values = model.weights[tensor.name]
            beside.seek(-(-beside.tell() // PAGE) * PAGE)
            place = {"location": location, "offset": beside.tell(), "length": values.nbytes}
            del tensor.external_data[:]
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            beside.write(_bytes(values))
    file.write_bytes(slim.SerializeToString(deterministic=True))


# ---------------------------------------------------------------- the wire format of protobuf
#
# A message is its fields, one after the other by number; one that holds bytes or a message is its number and
# kind, its length, and its content. Those that hold weights are written here, so that a weight goes from its
# tensor to the file; all else is left to protobuf.

_LENGTH_DELIMITED = 2


def _model(model: Emitted) -> Iterator[Piece]:
    """What `SerializeToString` gives for the model with its weights in it, piece by piece."""
    number = onnx.ModelProto.GRAPH_FIELD_NUMBER
    yield copy_of(model.proto, lambda field: field < number).SerializeToString(deterministic=True)
    yield from _field(number, list(_graph(model)))
    yield copy_of(model.proto, lambda field: field > number).SerializeToString(deterministic=True)


def _graph(model: Emitted) -> Iterator[Piece]:
    number = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
    graph = model.proto.graph
    yield copy_of(graph, lambda field: field < number).SerializeToString(deterministic=True)
    for tensor in graph.initializer:
        yield from _field(number, list(_tensor(tensor, model.weights.get(tensor.name))))
    yield copy_of(graph, lambda field: field > number).SerializeToString(deterministic=True)


def _tensor(tensor: onnx.TensorProto, values: Array | None) -> Iterator[Piece]:
    if values is None:
        yield tensor.SerializeToString(deterministic=True)
        return
    head = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    yield head.SerializeToString(deterministic=True)
    yield from _field(onnx.TensorProto.RAW_DATA_FIELD_NUMBER, [values])


def _field(number: int, content: list[Piece]) -> Iterator[Piece]:
    yield _varint(number << 3 | _LENGTH_DELIMITED) + _varint(sum(map(_length, content)))
    yield from content


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.nbytes


def _bytes(piece: Piece) -> bytes | memoryview:
    """A piece as it is written; a weight that is a turned view is laid out here, and no longer than that."""
    return piece if isinstance(piece, bytes) else np.ascontiguousarray(piece).data


def _varint(value: int) -> bytes:
    """A number in groups of seven bits, the lowest first; the eighth bit says that more follow."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
