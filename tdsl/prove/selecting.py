"""Variables whose values select from other tensors, and from how many places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tdsl.lang import tree
from tdsl.lang.bind import bind
from tdsl.lang.instance import Instance
from tdsl.lang.shapes import UnknownValueError
from tdsl.ops import Operator
from tdsl.ops.shapes import ShapeMismatch

_ARRANGING = frozenset(
    {"expand", "flip", "index", "index_select", "permute", "reshape", "roll", "squeeze", "unsqueeze"}
)
"""Operators between an index and the one that it selects for: they give values of their first operand."""


def selecting_variables(instance: Instance) -> Iterator[tuple[str, int]]:
    """The variables whose values select, with the number of places they select from."""
    for node in instance.resolved.matched_calls:
        operator = instance.resolved.vocabulary.operators.get(node.callee)
        if operator is None or not operator.selects:
            continue
        bound = bind(node, operator)
        for name, kind in operator.selects.items():
            written = bound.get(name)
            for place, each in enumerate(written if isinstance(written, tuple) else (written,)):
                inner = each.value if isinstance(each, tree.Splat) else each
                while isinstance(inner, tree.Call) and inner.callee in _ARRANGING and inner.arguments:
                    inner = inner.arguments[0].value
                if isinstance(inner, tree.Name | tree.Declared):
                    variable = inner.id if isinstance(inner, tree.Name) else inner.name
                    yield variable, 2 if kind == "mask" else _length(instance, operator, bound, place)


def _length(instance: Instance, operator: Operator, bound: Mapping[str, Any], place: int) -> int:
    """How long the axis is that an index selects from: `dim`, or its place in a list of indices."""
    try:
        source = instance.shapes.value(bound[operator.operands[0].name])
        dim = instance.shapes.value(bound["dim"]) if "dim" in bound else place
        return int(source.shape[dim])
    except (UnknownValueError, ShapeMismatch, AttributeError, IndexError, TypeError, KeyError):
        raise UnknownValueError("what an index selects from is not known") from None
