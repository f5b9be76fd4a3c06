"""Walking the syntax tree without knowing its node types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from tdsl.errors import TdslError
from tdsl.lang import tree

DEEPEST = 64
"""Levels of nesting a file may have, so that everything that walks its tree may recurse."""


_PARTS: dict[type[tree.Node], tuple[str, ...]] = {}


def _parts(node: tree.Node) -> tuple[str, ...]:
    kind = type(node)
    if kind not in _PARTS:
        _PARTS[kind] = tuple(f.name for f in fields(node) if f.name != "span")
    return _PARTS[kind]


def children(node: tree.Node) -> Iterator[tree.Node]:
    """The nodes directly below `node`, in the order they were written."""
    for name in _parts(node):
        value = getattr(node, name)
        if isinstance(value, tree.Node):
            yield value
        elif isinstance(value, tuple):
            yield from (part for part in value if isinstance(part, tree.Node))


def walk(node: tree.Node) -> Iterator[tree.Node]:
    """`node` and everything below it, in the order it was written."""
    stack = [node]
    while stack:
        top = stack.pop()
        yield top
        for name in reversed(_parts(top)):
            value = getattr(top, name)
            if isinstance(value, tree.Node):
                stack.append(value)
            elif isinstance(value, tuple):
                stack.extend(part for part in reversed(value) if isinstance(part, tree.Node))


def refuse_deep_nesting(root: tree.Node) -> None:
    """Raise a `TdslError` where something is nested more than `DEEPEST` levels deep."""
    stack: list[tuple[tree.Node, int]] = [(root, 0)]
    while stack:
        node, depth = stack.pop()
        if depth > DEEPEST:
            raise TdslError(
                f"this is nested more than {DEEPEST} levels deep",
                node.span,
                hint="name the parts in `where`, or write several rules",
            )
        stack.extend((child, depth + 1) for child in children(node))
