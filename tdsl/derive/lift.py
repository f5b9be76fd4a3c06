"""Numbers that may be sizes: both sides of a rule with variables in the places of numbers in lists."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from tdsl.derive.wording import Side
from tdsl.engine.unparse import NOWHERE
from tdsl.lang import tree


def lifted(lhs: Side, rhs: Side, values: Mapping[str, int], most: int = 64) -> Iterator[tuple[Side, Side]]:
    """Both sides with numbers in lists replaced by variables that have these values, in every way.

    Ways in which different variables stand for different numbers come first.
    """
    places = list(_places((lhs, rhs)))
    choices = [[n for n, v in values.items() if v == number] for number in places]
    open_ = [i for i, names in enumerate(choices) if names]
    ways = itertools.islice(itertools.product(*(choices[i] for i in open_)), most)
    for way in sorted(ways, key=lambda names: -len(set(names))):
        chosen = dict(zip(open_, way, strict=True))
        yield _replaced((lhs, rhs), chosen)


def _places(value: Any, inside: bool = False) -> Iterator[int]:
    """The whole numbers in lists, in order."""
    if isinstance(value, tree.Constant) and inside and isinstance(value.value, int):
        yield value.value
    parts: Sequence[Any] = ()
    if isinstance(value, tuple):
        parts = value
    elif isinstance(value, tree.Node):
        parts = [getattr(value, f.name) for f in fields(value) if f.name != "span"]
    for part in parts:
        yield from _places(part, inside or isinstance(value, tree.ListOf))


def _replaced(value: Any, chosen: Mapping[int, str]) -> Any:
    counter = itertools.count()

    def visit(part: Any, inside: bool) -> Any:
        if isinstance(part, tree.Constant) and inside and isinstance(part.value, int):
            name = chosen.get(next(counter))
            return part if name is None else tree.Name(id=name, span=NOWHERE)
        inside = inside or isinstance(part, tree.ListOf)
        if isinstance(part, tuple):
            return tuple(visit(item, inside) for item in part)
        if isinstance(part, tree.Node):
            names = [f.name for f in fields(part) if f.name != "span"]
            return replace(part, **{name: visit(getattr(part, name), inside) for name in names})
        return part

    return visit(value, False)
