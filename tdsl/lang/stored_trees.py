"""Syntax trees as plain data, which JSON takes: what is parsed once is read again in a tenth of the time."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from tdsl.errors import Source, Span
from tdsl.lang import tree

_KINDS = [kind for kind in vars(tree).values() if isinstance(kind, type) and issubclass(kind, tree.Node)]
_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}
_PARTS = [tuple(f.name for f in fields(kind) if f.name != "span") for kind in _KINDS]
_TUPLE = -1


def plain_tree(value: Any) -> Any:
    """A node as a list: the number of its kind, where it stands (four numbers), its parts.

    A tuple is a list after `_TUPLE`; texts, numbers, truths and `None` stay what they are.
    """
    if isinstance(value, tree.Node):
        number, span = _NUMBERS[type(value)], value.span
        place = (span.line, span.column, span.end_line, span.end_column)
        return [number, *place, *(plain_tree(getattr(value, part)) for part in _PARTS[number])]
    if isinstance(value, tuple):
        return [_TUPLE, *map(plain_tree, value)]
    return value


def tree_of(plain: Any, source: Source) -> Any:
    """What `plain_tree` made a list of, in a text.

    Raises `TypeError`, `ValueError` or `LookupError` where it is no such list.
    """
    if type(plain) is not list:
        return plain
    number = plain[0]
    if number == _TUPLE:
        return tuple([tree_of(part, source) if type(part) is list else part for part in plain[1:]])
    _, line, column, end_line, end_column, *rest = plain
    parts: list[Any] = [tree_of(part, source) if type(part) is list else part for part in rest]
    return _KINDS[number](*parts, span=Span(source, line, column, end_line, end_column))
