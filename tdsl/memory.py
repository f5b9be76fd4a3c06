"""Memory that was freed, returned to the system.

The C library of Linux keeps what large temporary tensors leave behind, in pieces between what still lives:
after one decomposition that is more than all weights. Planning alternates between large and small needs.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


def give_back() -> None:
    """Return freed memory to the system, where its C library can (glibc); elsewhere nothing happens."""
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], object]:
    try:
        found: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
        return found
    except (OSError, TypeError, AttributeError):
        return lambda keep: None
