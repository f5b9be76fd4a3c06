"""Values of a model laid aside until they are looked at again: some in memory, others in a temporary file.

What one sample leaves behind can be more than all weights, and plans look at one place after the other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import IO, Any

import torch
from torch import Tensor

from tdsl.errors import TdslError

Fetch = Callable[[], Any]
"""Gives back what was put aside."""


class Shelf:
    """Room for values: the first `room` bytes stay in memory, everything beyond goes to a file."""

    def __init__(self, room: int) -> None:
        self._left = room
        self._file: IO[bytes] | None = None

    def put(self, value: Any) -> Fetch:
        """Lay a value aside; what is not a tensor stays where it is.

        Raises `TdslError` where no file can be written.
        """
        if not isinstance(value, Tensor):
            return lambda: value
        size = value.numel() * value.element_size()
        if size <= self._left:
            self._left -= size
            return lambda: value
        dtype, shape = value.dtype, value.shape
        bits = value.detach().contiguous().reshape(-1).view(torch.uint8)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  (gone with the shelf)
            file = self._file
            start = file.seek(0, 2)
            file.write(bits.numpy().data)
        except OSError as reason:
            raise TdslError(
                f"cannot write to a temporary file: {reason.strerror}",
                hint="values of the model are laid aside there: the folder that TMPDIR names needs more room",
            ) from None
        return lambda: _read(file, start, size).view(dtype).reshape(shape)


def _read(file: IO[bytes], start: int, size: int) -> Tensor:
    found = torch.empty(size, dtype=torch.uint8)
    file.seek(start)
    file.readinto(found.numpy().data)  # type: ignore[attr-defined]
    return found
