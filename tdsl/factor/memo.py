"""Results remembered by the content of the tensors they were computed from, within a bound of memory.

The same weight is asked for many ranks, by many rules, from many copies of a graph; its bits are what
identifies it. An object's identity would miss the copies and miss a change made in place. What the bound has
no room for is laid aside, where there is a place for it, if computing it again takes longer than reading it.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakIdKeyDictionary

P = ParamSpec("P")
R = TypeVar("R")

Digest = tuple[str, tuple[int, ...], bytes]
"""Dtype, shape and a hash of the bits of a tensor."""


Fetch = Callable[[], Any]
"""Gives back what was laid aside."""
Put = Callable[[Any], Fetch]
"""Lays a tensor aside; what is none stays where it is."""

READ = 200 * 2**20
"""Bytes a second that are laid aside and read again at least: what is computed faster is not worth it."""
ASIDE = 16
"""Bytes that are laid aside at most, in capacities."""

_KNOWN: MutableMapping[Tensor, tuple[int, Digest]] = WeakIdKeyDictionary()
"""Digests of the tensors that are alive, each with the version of its content."""


def digest(tensor: Tensor) -> Digest:
    """What identifies the content of `tensor`: equal exactly when dtype, shape and bits are.

    The bits of one object are read again when its content has another version, which every operation of
    torch that writes into it counts, through views too. A reshaped tensor has the bits of the other.
    """
    if tensor.is_inference():
        return _hashed(tensor)
    whole = tensor._base
    if whole is not None and _same_numbers(tensor, whole):
        return str(tensor.dtype), tuple(tensor.shape), digest(whole)[2]
    known = _KNOWN.get(tensor)
    if known is None or known[0] != tensor._version:
        known = _KNOWN[tensor] = (tensor._version, _hashed(tensor))
    return known[1]


def _same_numbers(view: Tensor, whole: Tensor) -> bool:
    """Whether a view has all numbers of another tensor in their order, perhaps in another shape."""
    plain = not (view.is_conj() or view.is_neg()) and view.is_contiguous() and whole.is_contiguous()
    return plain and view.dtype == whole.dtype and view.numel() == whole.numel()


def _hashed(tensor: Tensor) -> Digest:
    bits = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return (
        str(tensor.dtype),
        tuple(tensor.shape),
        hashlib.blake2b(bits.numpy().data, digest_size=16).digest(),
    )


class _Entry(NamedTuple):
    """A value, the bytes that it takes, and whether reading it is faster than computing it again."""

    value: Any
    size: int
    costly: bool


class Memory:
    """A map that keeps `capacity` bytes of tensors, those used last, and forgets others or lays them aside.

    The latest entry is kept whatever its size, so that one large weight is factorized once for many ranks.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._used = 0
        self._place: Callable[[], Put] | None = None
        self._put: Put | None = None
        self._aside: dict[Hashable, tuple[Fetch, int]] = {}
        self._used_aside = 0

    def __len__(self) -> int:
        return len(self._entries)

    def recall(self, key: Hashable, compute: Callable[[], R]) -> R:
        """The value under `key`, computed when it is neither here nor aside."""
        if key in self._entries:
            self._entries.move_to_end(key)
            value: R = self._entries[key].value
            return value
        if key in self._aside:
            fetch, size = self._aside[key]
            value, costly = fetch(), True
        else:
            start = time.perf_counter()
            value = compute()
            size = _bytes(value)
            costly = time.perf_counter() - start > size / READ
        self._entries[key] = _Entry(value, size, costly)
        self._used += size
        while self._used > self.capacity and len(self._entries) > 1:
            self._leave(*self._entries.popitem(last=False))
        return value

    def _leave(self, key: Hashable, entry: _Entry) -> None:
        """Forget an entry, or lay it aside."""
        self._used -= entry.size
        if not entry.costly or key in self._aside or self._place is None:
            return
        if self._used_aside + entry.size > ASIDE * self.capacity:
            return
        if self._put is None:
            self._put = self._place()
        self._aside[key] = _laid_aside(entry.value, self._put), entry.size
        self._used_aside += entry.size

    @contextmanager
    def limited(self, capacity: int, place: Callable[[], Put] | None = None) -> Iterator[None]:
        """Keep no more than `capacity` bytes meanwhile, where that is less.

        What goes beyond is laid aside by what `place` makes, asked again after each `clear`.
        """
        before, known = self.capacity, self._place
        self.capacity, self._place = min(self.capacity, capacity), place
        try:
            yield
        finally:
            self._forget_aside()
            self.capacity, self._place = before, known

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._used = 0
        self._forget_aside()

    def _forget_aside(self) -> None:
        self._aside.clear()
        self._put = None
        self._used_aside = 0


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


def _laid_aside(value: Any, put: Put) -> Fetch:
    """How to get back a value whose tensors were laid aside."""
    leaves, form = pytree.tree_flatten(value)
    fetches = [_tensor_aside(leaf, put) if isinstance(leaf, Tensor) else put(leaf) for leaf in leaves]
    return lambda: pytree.tree_unflatten([fetch() for fetch in fetches], form)


def _tensor_aside(tensor: Tensor, put: Put) -> Fetch:
    """The tensor comes back with its axes in memory as they were, and its digest if that was known."""
    order = sorted(range(tensor.dim()), key=lambda axis: -tensor.stride()[axis])
    inverse = [order.index(axis) for axis in range(tensor.dim())]
    known = _KNOWN.get(tensor)
    valid = known is not None and known[0] == tensor._version
    fetch = put(tensor.permute(order))

    def back() -> Tensor:
        found: Tensor = fetch().permute(inverse)
        if known is not None and valid:
            _KNOWN[found] = (found._version, known[1])
        return found

    return back


def _bytes(value: object) -> int:
    """Memory that the tensors in `value` take, and a little for anything else."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return sum(map(_bytes, value))
    return 64
