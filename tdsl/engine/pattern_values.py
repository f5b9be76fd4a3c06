"""Whether a value of a graph is what a pattern asks for: an operator, a number, a type."""

from __future__ import annotations

from typing import Any

from torch import fx

from tdsl.engine.pattern import ELLIPSIS, Apply, Literal, Type
from tdsl.engine.sizes import dtype_named, same, same_value, sizes_of


def has_type(value: Any, type_: Type, env: dict[str, Any]) -> bool:
    """Whether `value` is as written; sizes named for the first time are added to `env`."""
    if type_.const and not (is_node(value) and value.op == "get_attr"):
        return False
    if type_.dtype is not None and not dtype_named(value, type_.dtype):
        return False
    if type_.dims is None:
        return True
    sizes, dims = sizes_of(value), list(type_.dims)
    if sizes is None:
        return False
    if ELLIPSIS in dims:
        dots = dims.index(ELLIPSIS)
        extra = len(sizes) - (len(dims) - 1)
        if extra < 0:
            return False
        sizes = (*sizes[:dots], *sizes[dots + extra :])
        del dims[dots]
    return len(sizes) == len(dims) and all(
        same(size, dim if isinstance(dim, int) else env.setdefault(dim, size))
        for size, dim in zip(sizes, dims, strict=True)
    )


def is_node(value: Any) -> bool:
    """Whether `value` is computed in the graph, rather than a number."""
    return isinstance(value, fx.Node)


def applies(term: Apply, value: Any) -> bool:
    """Whether `value` is a node of one of the term's operators."""
    return is_node(value) and value.op == term.op and value.target in term.targets


def equals(literal: Literal, value: Any, first: Any) -> bool:
    """Whether an attribute has the literal's value, axes counted as the operator's normal form does."""
    expected = literal.value
    if literal.param is not None:
        operand = first[0] if isinstance(first, list | tuple) and first else first
        sizes = sizes_of(operand)
        expected = literal.param.canonical(expected, None if sizes is None else len(sizes))
    alike = type(value) is type(expected) or not (literal.exact and isinstance(expected, int | float))
    return alike and same_value(value, expected)


def same_operators(one: Any, other: Any) -> bool:
    """Whether what an operator variable stands for, a node or the links of a chain, is the same twice."""
    links, others = (value if isinstance(value, tuple) else (value,) for value in (one, other))
    return len(links) == len(others) and all(map(_same_operator, links, others))


def _same_operator(node: fx.Node, known: fx.Node) -> bool:
    """Whether two nodes are one operator with the same attributes; operands may differ."""
    return (
        node.target is known.target
        and node.kwargs == known.kwargs
        and len(node.args) == len(known.args)
        and all(
            same_value(a, b) or (is_node(a) and is_node(b))
            for a, b in zip(node.args, known.args, strict=True)
        )
    )
