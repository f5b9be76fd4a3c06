"""What generated matchers call: trees of an associative operator, repeated elements, equal attributes."""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from tdsl.engine.pattern import Apply
from tdsl.engine.sizes import same_value, sizes_of
from tdsl.ops import Param

MAX_LEAVES = 64
"""Most operands of an associative tree that are tried; larger trees do not match."""


REQUIRED_KEYWORD: Any = object()
"""Default of a keyword argument that must be written in the graph."""


def same_attributes(a: fx.Node, b: fx.Node) -> bool:
    """Whether two nodes of one operator have the same attributes (the arguments that are no nodes)."""
    return len(a.args) == len(b.args) and all(
        isinstance(x, fx.Node) == isinstance(y, fx.Node) and (isinstance(x, fx.Node) or same_value(x, y))
        for x, y in zip(a.args, b.args, strict=True)
    )


def same_chain(a: Any, b: Any) -> bool:
    """Whether two chains (a node is a chain of one) are the same operators in the same order."""
    links, others = (chain if isinstance(chain, tuple) else (chain,) for chain in (a, b))
    return len(links) == len(others) and all(
        x.target is y.target and x.kwargs == y.kwargs and same_attributes(x, y)
        for x, y in zip(links, others, strict=True)
    )


def is_plain(value: Any) -> bool:
    """Whether `repr` of a value is Python that gives it back, so that it may stand in the generated text."""
    if isinstance(value, list | tuple):
        return all(is_plain(v) for v in value)
    return value is None or type(value) in (int, str, bool) or (type(value) is float and math.isfinite(value))


def depends_on_rank(param: Param, value: Any) -> bool:
    """Whether the normal form of some axes depends on how many there are."""
    axes = value if isinstance(value, list | tuple) else [value]
    in_order = param.kind != "dims" or len(axes) == 1
    return param.kind in ("dim", "newdim", "dims", "axes") and not (
        in_order and all(type(a) is not int or a < 0 for a in axes)
    )


def rank_of_first(arguments: tuple[Any, ...]) -> int | None:
    """Number of axes of an operator's first operand (of the first one in a list), if known."""
    first = arguments[0] if arguments else None
    sizes = sizes_of(first[0] if isinstance(first, list | tuple) and first else first)
    return None if sizes is None else len(sizes)


def operands_of_tree(root: fx.Node, target: Any) -> tuple[list[Any], list[fx.Node]]:
    """Leaves and inner nodes of the tree of `target` nodes under `root`, left to right.

    An inner node belongs to the tree if it is used once, and there. Too large a tree has no leaves.
    """
    leaves: list[Any] = []
    inner: list[fx.Node] = []
    stack: list[Any] = [root]
    while stack:
        value = stack.pop()
        if (
            isinstance(value, fx.Node)
            and value.target is target
            and not value.kwargs
            and (value is root or len(value.users) == 1)
        ):
            inner.append(value)
            left, right = value.args
            if left is right:
                leaves.extend((left, right))
            else:
                stack.extend((right, left))
        else:
            leaves.append(value)
        if len(leaves) > MAX_LEAVES:
            return [], []
    return leaves, inner


def operands_of_each(values: Any, each: Apply) -> tuple[list[Any], list[fx.Node]]:
    """Operands and nodes when every one of `values` is `each` applied to one operand, else nothing.

    The attributes must be the same throughout, and no node may be used elsewhere.
    """
    operands: list[Any] = []
    nodes: list[fx.Node] = []
    for value in values:
        if not (
            isinstance(value, fx.Node)
            and value.target in each.targets
            and len(value.users) == 1
            and value not in nodes
            and (not nodes or (value.target is nodes[0].target and value.args[1:] == nodes[0].args[1:]))
            and (not nodes or value.kwargs == nodes[0].kwargs)
        ):
            return [], []
        operands.append(value.args[0])
        nodes.append(value)
    return operands, nodes
