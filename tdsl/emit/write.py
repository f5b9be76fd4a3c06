"""Writes an ONNX model whole or not at all."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import onnx

from tdsl.emit.outside import SMALL, with_weights_as_inputs
from tdsl.errors import TdslError
from tdsl.files import whole

LIMIT = 2**31 - 2**20
"""Bytes from which on protobuf cannot hold a model in one piece, with a margin for its frame."""


def check(model: onnx.ModelProto) -> None:
    """ONNX's full check, with shape inference, of a model of any size; its weights are not copied.

    A failure is a bug in emission and raises `onnx.checker.ValidationError` or an inference error.
    """
    onnx.checker.check_model(with_weights_as_inputs(model), full_check=True)


def save(model: onnx.ModelProto, path: str | PathLike[str], *, limit: int = LIMIT) -> None:
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
    try:
        if model.ByteSize() < limit:
            with whole(target) as file:
                file.write_bytes(model.SerializeToString(deterministic=True))
        else:
            _save_with_data(model, target)
    except OSError as error:
        raise TdslError(
            f"cannot write {target}: {error.strerror or error}",
            hint="free space on the disk or choose another path; nothing was left behind",
        ) from None


def _save_with_data(model: onnx.ModelProto, target: Path) -> None:
    """The weights in `<name>.data`, the rest in `target`: both complete before either takes its place."""
    slim = onnx.ModelProto()
    data = target.with_name(target.name + ".data")
    slim.CopyFrom(model)
    with whole(target) as file_part, whole(data) as data_part:
        with data_part.open("wb") as file:
            for tensor in slim.graph.initializer:
                size = len(tensor.raw_data)
                if size >= SMALL:
                    onnx.external_data_helper.set_external_data(tensor, data.name, file.tell(), size)
                    file.write(tensor.raw_data)
                    tensor.ClearField("raw_data")
        file_part.write_bytes(slim.SerializeToString(deterministic=True))
