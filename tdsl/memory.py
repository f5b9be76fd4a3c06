"""Memory that was freed, returned to the system.

The C library of Linux keeps what large temporary tensors leave behind, in pieces between what still lives:
after one decomposition that is more than all weights. Planning alternates between large and small needs.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

Made = TypeVar("Made")


def give_back() -> None:
    """Return freed memory to the system, where its C library can (glibc); elsewhere nothing happens.

    With it goes what `forget_packed` gives back.
    """
    forget_packed()
    _trim()(0)


def forget_packed() -> None:
    """Return what the library of matrix products (MKL) has kept to pack its operands into.

    It keeps some megabytes for each of the functions that large matrices went through.
    """
    _packing()()


LARGE = 2**17
"""Bytes of a large tensor: smaller ones are left between others where they are freed."""


@contextmanager
def returning(large: int = LARGE) -> Iterator[None]:
    """Meanwhile tensors of `large` bytes or more go back to the system as soon as they are freed (glibc).

    Afterwards the C library keeps what it comes to keep by itself in a process that frees large tensors; an
    environment that sets its thresholds is left as it is.
    """
    if _TOLD & os.environ.keys():
        yield
        return
    _wanted.append(large)
    try:
        _keep(large, LARGE)
        yield
    finally:
        _wanted.pop()
        _keep(*((_wanted[-1], LARGE) if _wanted else _USUAL))


@contextmanager
def uncollected() -> Iterator[None]:
    """Meanwhile Python looks for no garbage in circles.

    For what makes very many small objects that stay: looking through them again and again takes longer than
    making them.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def without_remains(make: Callable[[], Made]) -> Made:
    """What `make` returns; what it takes and frees on the way goes back to the system at once (glibc).

    For code of others that needs many large blocks in turn. It runs in a thread of its own, because there the
    C library has no freed blocks to take before it asks for pages.
    """
    give_back()
    with returning(_SMALL), ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()


_USUAL = 32 * 2**20, 64 * 2**20
"""What glibc comes to by itself at the most, for blocks with pages of their own and for what is kept."""
_SMALL = 2**16
"""Bytes from which on a block has pages of its own where nothing is to remain."""
_TOLD = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""Parameters of `mallopt`."""
_wanted: list[int] = []
"""What is asked for, innermost last."""


def _keep(apart: int, kept: int) -> None:
    """Blocks of `apart` bytes get pages of their own, and no more than `kept` free bytes stay at the end."""
    try:
        change = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return
    change(_MMAP_THRESHOLD, apart)
    change(_TRIM_THRESHOLD, kept)


@functools.cache
def _packing() -> Callable[[], object]:
    """MKL's own `mkl_free_buffers`, by the name that it has inside torch."""
    try:
        library = next(Path(sys.modules["torch"].__file__ or "").parent.glob("lib/libtorch_cpu.so"))
        found: Callable[[], object] = ctypes.CDLL(str(library)).mkl_serv_free_buffers
        return found
    except (KeyError, StopIteration, OSError, AttributeError):
        return lambda: None


@functools.cache
def _trim() -> Callable[[int], object]:
    try:
        found: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
        return found
    except (OSError, TypeError, AttributeError):
        return lambda keep: None
