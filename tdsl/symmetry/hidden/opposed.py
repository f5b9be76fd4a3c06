"""Which values of a hidden axis a scaling multiplies, and which it divides.

Where two values meet along the axis, one is scaled and the other divided, so that A·D and D⁻¹·B keep their
product. A value that meets itself would need both: a Gram matrix, an embedding that is the output layer.
"""

from __future__ import annotations

import itertools
from typing import Any

from torch import fx

from tdsl.ops.targets import operator_of
from tdsl.symmetry.hidden.infer import Inference
from tdsl.symmetry.hidden.roles import places_of, touches

_CONTRACT = frozenset({"linear", "addmm", "matmul", "baddbmm", "einsum", "attention"})


class _Sides:
    """Values that are scaled alike or oppositely, as trees with a sign on every edge."""

    def __init__(self) -> None:
        self.above: dict[Any, tuple[Any, int]] = {}

    def root(self, value: Any) -> tuple[Any, int]:
        """The value that stands for all that are tied to it, and the sign towards it."""
        sign = 1
        while value in self.above:
            value, step = self.above[value]
            sign *= step
        return value, sign

    def tie(self, one: Any, other: Any, sign: int) -> bool:
        """Scale both alike (1) or oppositely (−1). Whether that agrees with what was tied before."""
        (first, here), (second, there) = self.root(one), self.root(other)
        if first == second:
            return here * there == sign
        self.above[first] = (second, here * there * sign)
        return True


def both_at_once(inference: Inference, atom: int) -> fx.Node | None:
    """The first operator at which a scaling of the axis would have to multiply and to divide one value."""
    sides = _Sides()
    calls = inference.module.graph.nodes
    touching = (n for n in calls if n.op == "call_function" and touches(inference, n, atom))
    return next((n for n in touching if not all(sides.tie(*t) for t in _ties(inference, n, atom))), None)


def _ties(inference: Inference, node: fx.Node, atom: int) -> list[tuple[Any, Any, int]]:
    """Which values around an operator are scaled alike, and which oppositely."""
    operands: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), operands.append)  # one that is there twice, twice
    counts = [(one, len(places_of(inference, one, atom))) for one in operands]
    inside = len(places_of(inference, node, atom))
    if inside > 1 or any(count > 1 and one.op != "get_attr" for one, count in counts):
        return [(node, node, -1)]  # scaled along two axes of one value
    having = [_key(one) for one, count in counts if count == 1]
    operator = operator_of(node.target)
    name = operator.name if operator is not None else ""
    if name in _CONTRACT or name.startswith("conv"):
        if not inside:
            return [(one, other, -1) for one, other in itertools.pairwise(having)]
        if any(count > 1 for _, count in counts):  # W of D·W·D⁻¹ reads one side and makes the other
            return []
        return [(one, node, 1) for one in having]
    factors = {_key(one) for one in operands if one.op == "get_attr"} if name in ("mul", "div") else set()
    return [(one, node, 1) for one in having if one not in factors] if inside else []


def _key(value: fx.Node) -> Any:
    """A weight by its name, however often the graph reads it."""
    return value.target if value.op == "get_attr" else value
