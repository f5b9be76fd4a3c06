"""Results remembered by the content of the tensors they were computed from, within a bound of memory.

The same weight is asked for many ranks, by many rules, from many copies of a graph; its bits are what
identifies it. An object's identity would miss the copies and miss a change made in place.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

P = ParamSpec("P")
R = TypeVar("R")

Digest = tuple[str, tuple[int, ...], bytes]
"""Dtype, shape and a hash of the bits of a tensor."""


_KNOWN: MutableMapping[Tensor, tuple[int, Digest]] = WeakIdKeyDictionary()
"""Digests of the tensors that are alive, each with the version of its content."""


def digest(tensor: Tensor) -> Digest:
    """What identifies the content of `tensor`: equal exactly when dtype, shape and bits are.

    The bits of one object are read again when its content has another version, which every operation of
    torch that writes into it counts.
    """
    if tensor.is_inference():
        return _hashed(tensor)
    known = _KNOWN.get(tensor)
    if known is None or known[0] != tensor._version:
        known = _KNOWN[tensor] = (tensor._version, _hashed(tensor))
    return known[1]


def _hashed(tensor: Tensor) -> Digest:
    bits = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return (
        str(tensor.dtype),
        tuple(tensor.shape),
        hashlib.blake2b(bits.numpy().data, digest_size=16).digest(),
    )


class Memory:
    """A map that forgets the least recently used entries beyond `capacity` bytes of tensors.

    The latest entry is kept whatever its size, so that one large weight is factorized once for many ranks.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._used = 0

    def __len__(self) -> int:
        return len(self._entries)

    def recall(self, key: Hashable, compute: Callable[[], R]) -> R:
        """The value under `key`, computed when it is not there."""
        if key in self._entries:
            self._entries.move_to_end(key)
            value: R = self._entries[key][0]
            return value
        value = compute()
        size = _bytes(value)
        self._entries[key] = (value, size)
        self._used += size
        while self._used > self.capacity and len(self._entries) > 1:
            self._used -= self._entries.popitem(last=False)[1][1]
        return value

    @contextmanager
    def limited(self, capacity: int) -> Iterator[None]:
        """Keep no more than `capacity` bytes meanwhile, where that is less."""
        before, self.capacity = self.capacity, min(self.capacity, capacity)
        try:
            yield
        finally:
            self.capacity = before

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._used = 0


MEMORY = Memory(capacity=512 * 2**20)
"""Shared by every memoised function of this room."""


def memoised(function: Callable[P, R]) -> Callable[P, R]:
    """`function` computed once for each content of its arguments (tensors, and hashable values).

    Callers share the result and must not write into it.
    """

    @functools.wraps(function)
    def remembered(*args: P.args, **kwargs: P.kwargs) -> R:
        named = sorted(kwargs.items())
        key = (function, *map(_key, args), *((name, _key(value)) for name, value in named))
        return MEMORY.recall(key, lambda: function(*args, **kwargs))

    return remembered


def _key(value: object) -> Hashable:
    """Distinguishes 1, 1.0 and True, which are equal as keys."""
    return digest(value) if isinstance(value, Tensor) else (type(value), value)


def _bytes(value: object) -> int:
    """Memory that the tensors in `value` take, and a little for anything else."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return sum(map(_bytes, value))
    return 64
