"""Memory that was freed, returned to the system.

The C library of Linux keeps what large temporary tensors leave behind, in pieces between what still lives:
after one decomposition that is more than all weights. Planning alternates between large and small needs.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def give_back() -> None:
    """Return freed memory to the system, where its C library can (glibc); elsewhere nothing happens."""
    _trim()(0)


@contextmanager
def returning() -> Iterator[None]:
    """Meanwhile tensors of `LARGE` bytes or more go back to the system as soon as they are freed (glibc).

    Afterwards the C library keeps what it comes to keep by itself in a process that frees large tensors; an
    environment that sets its thresholds is left as it is.
    """
    global _depth
    if _TOLD & os.environ.keys():
        yield
        return
    _depth += 1
    try:
        _keep(LARGE, LARGE)
        yield
    finally:
        _depth -= 1
        if not _depth:
            _keep(*_USUAL)


LARGE = 2**20
_USUAL = 32 * 2**20, 64 * 2**20
"""What glibc comes to by itself at the most, for blocks with pages of their own and for what is kept."""
_TOLD = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""Parameters of `mallopt`."""
_depth = 0


def _keep(apart: int, kept: int) -> None:
    """Blocks of `apart` bytes get pages of their own, and no more than `kept` free bytes stay at the end."""
    try:
        change = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return
    change(_MMAP_THRESHOLD, apart)
    change(_TRIM_THRESHOLD, kept)


@functools.cache
def _trim() -> Callable[[int], object]:
    try:
        found: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
        return found
    except (OSError, TypeError, AttributeError):
        return lambda keep: None
