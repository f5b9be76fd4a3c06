"""Whether a value of a graph is what a pattern asks for: an operator or a number."""

from __future__ import annotations

from typing import Any

from torch import fx

from tdsl.engine.pattern import Apply, Literal
from tdsl.engine.sizes import same_value, sizes_of


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
