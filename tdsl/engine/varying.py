"""Sizes that vary, in conditions: what needs numbers that are known now, and what is surely false.

Python would take the size of the traced example for a size that varies, and hold the model to it. And a
predicate answers no where it does not hold for every size, which is not to say that it holds for none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from tdsl.engine.frame import Frame
from tdsl.engine.sizes import compare, sizes_of
from tdsl.engine.staged import CannotStage
from tdsl.engine.statistics import STATISTICS

NUMBERS: Mapping[str, tuple[int, ...]] = {
    "sqrt": (0,),
    "log2": (0,),
    "inverse": (0,),
    "compose": (0, 1),
    "exchange": (0, 1, 2),
    "sources": (0, 1),
    "remaining": (0, 1),
    "standing": (0, 1),
    "unpermuted": (1,),
    "entries": (1,),
    "apart": (0, 1),
    "covers": (0, 1),
    "reflected": (1,),
    "sizes": (1,),
    "aligned": (1,),
    "kept": (2,),
    "size_along": (1,),
    "is_identity": (0,),
    **dict.fromkeys(STATISTICS, (1,)),
    "frequency": (1,),
}
"""Which arguments of built-in functions are axes, permutations, or numbers of which roots are taken."""


def require_numbers(name: str, values: Sequence[Any], places: Sequence[int]) -> None:
    """Raise `CannotStage` for a size that varies among the arguments of `name` at these places."""
    for place in places:
        size = next(_varying(values[place]), None) if place < len(values) else None
        if size is not None:
            raise CannotStage(f"{name} needs numbers, and the size {size} varies")


def _varying(value: Any) -> Iterator[Any]:
    """The symbolic numbers in an argument."""
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _varying(entry)
    elif isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
        yield value


# ---------------------------------------------------------------- what is surely false


def _not_all_equal(_: Frame, values: Any, value: Any) -> bool:
    many = values if isinstance(values, list | tuple) else [values]
    return any(compare("!=", entry, value) for entry in many)


def _not_square(_: Frame, value: Any) -> bool:
    sizes = value if isinstance(value, list | tuple) else sizes_of(value)
    return sizes is None or any(compare("!=", size, sizes[-1]) for size in sizes[-2:])


def _not_broadcasts_to(frame: Frame, value: Any, sizes: Any) -> bool:
    own = () if isinstance(value, int | float) else sizes_of(frame.work.val(value))
    if own is None or sizes is None:
        return False
    pairs = zip(reversed(own), reversed(sizes), strict=False)
    return len(own) > len(sizes) or any(compare("!=", a, 1) and compare("!=", a, b) for a, b in pairs)


SURELY_NOT: Mapping[str, Callable[..., bool]] = {
    "all_equal": _not_all_equal,
    "square": _not_square,
    "broadcasts_to": _not_broadcasts_to,
}
"""What `not` means in front of predicates on sizes: that they hold for no size."""
