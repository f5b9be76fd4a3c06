"""Values of a model laid aside until they are looked at again: some in memory, others in a temporary file.

What one sample leaves behind can be more than all weights, and so can the sums that calibration keeps; plans
look at one place after the other. The file has no name: it is gone with the shelf, however a run ends.
"""

from __future__ import annotations

import errno
import io
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tdsl.errors import TdslError

Fetch = Callable[[], Any]
"""Gives back what was put aside."""


class Shelf:
    """Room for values: the first `room` bytes stay in memory, everything beyond goes to a file."""

    def __init__(self, room: int) -> None:
        self._left = room
        self._file: _File | None = None

    def put(self, value: Any) -> Fetch:
        """Lay a value aside; what is not a tensor stays where it is.

        Raises `TdslError` where no file can be written.
        """
        if not isinstance(value, Tensor):
            return lambda: value
        if self._stays(value.numel() * value.element_size()):
            return lambda: value
        dtype, shape = value.dtype, value.shape
        place = self._place(value.numel() * value.element_size())
        place.write(value)
        return lambda: place.read(dtype).reshape(shape)

    def drawer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Drawer:
        """A tensor that will be taken out and changed many times; zeros at first."""
        size = dtype.itemsize * torch.Size(shape).numel()
        return Drawer(shape, dtype, None if self._stays(size) else self._place(size))

    def _stays(self, size: int) -> bool:
        """Whether so many bytes are kept in memory, and if so that they are."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def _place(self, size: int) -> _Place:
        if self._file is None:
            self._file = _File()
        return self._file.place(size)


class Drawer:
    """One tensor on a shelf: taken out, changed in place, put back."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, place: _Place | None) -> None:
        self.shape = torch.Size(shape)
        self._dtype = dtype
        self._place = place
        self._held = torch.zeros(shape, dtype=dtype) if place is None else None
        self._written = False

    def take(self) -> Tensor:
        """The tensor; whoever changes it puts it back."""
        if self._held is not None:
            return self._held
        assert self._place is not None
        if not self._written:
            return torch.zeros(self.shape, dtype=self._dtype)
        return self._place.read(self._dtype).reshape(self.shape)

    def back(self, value: Tensor) -> None:
        """Put in what was taken out. Raises `TdslError` where the file cannot be written."""
        if self._place is not None:
            self._place.write(value)
            self._written = True


class _File:
    """A temporary file that has no name, and how much of it is taken."""

    def __init__(self) -> None:
        with _telling():
            self.file: io.FileIO = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (closed below)
        weakref.finalize(self, self.file.close)  # with the last value that is laid aside in it
        self.end = 0

    def place(self, size: int) -> _Place:
        """Room for so many bytes more."""
        self.end += size
        return _Place(self, self.end - size, size)


class _Place:
    """Some bytes of a file."""

    def __init__(self, file: _File, start: int, size: int) -> None:
        self.file, self.start, self.size = file, start, size

    def write(self, value: Tensor) -> None:
        """The numbers of a tensor, row by row. Raises `TdslError` where there is no room for them."""
        bits = memoryview(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        done = 0
        with _telling():
            self.file.file.seek(self.start)
            while done < self.size:
                done += self.file.file.write(bits[done:])

    def read(self, dtype: torch.dtype) -> Tensor:
        """The numbers as a vector."""
        found = torch.empty(self.size, dtype=torch.uint8)
        bits = memoryview(found.numpy().data)
        done = 0
        with _telling():
            self.file.file.seek(self.start)
            while done < self.size:
                got = self.file.file.readinto(bits[done:])
                if not got:
                    raise OSError(errno.EIO, "it ends before what was laid aside does")
                done += got
        return found.view(dtype)


@contextmanager
def _telling() -> Iterator[None]:
    """Say what to do about a file that cannot be written or read."""
    try:
        yield
    except OSError as reason:
        raise TdslError(
            f"cannot write to a temporary file: {reason.strerror}",
            hint="values of the model are laid aside there: the folder that TMPDIR names needs more room",
        ) from None
