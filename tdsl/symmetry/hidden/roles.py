"""What every operator does with the units of a group: each by itself, a weighted sum, or all at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import fx

from tdsl.ops.spec import Operator
from tdsl.ops.targets import operator_of
from tdsl.symmetry.hidden.infer import Inference
from tdsl.symmetry.hidden.layout import Atom, atoms_in
from tdsl.symmetry.hidden.pins import Pin

Axis = tuple[fx.Node, int]
"""An axis of a weight."""

_MOVES = frozenset(
    ["reshape", "permute", "expand", "squeeze", "unsqueeze", "contiguous", "detach", "concat", "dropout"]
)
_CONSUMERS = {
    "linear": ("x", "weight", 1),
    "matmul": ("x", "y", -2),
    "addmm": ("x", "weight", 0),
    **{f"conv{n}d": ("x", "weight", 1) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": ("x", "weight", 0) for n in (1, 2, 3)},
}
"""Operators that sum over the units: the operand that has them, the weight, and its axis."""

_POSITIONS = ("avg_pool", "max_pool", "adaptive_", "upsample_")
_PER_CHANNEL = frozenset(["batch_norm", "instance_norm", "prelu"])
_LAST_AXES = frozenset(["layer_norm", "rms_norm"])


@dataclass(slots=True)
class Roles:
    """The nodes that a group passes, and the axes of weights that it has in each role."""

    carried: list[fx.Node] = field(default_factory=list)
    """Each unit by itself, in graph order: what makes them, and what is done to them."""
    consumers: list[fx.Node] = field(default_factory=list)
    """A weighted sum over the units."""
    summed: set[Axis] = field(default_factory=set)
    """Axes of weights along which units are summed."""
    own: set[Axis] = field(default_factory=set)
    """Axes of weights that have something of its own for each unit."""
    refused: Pin | None = None
    """What sees several units at once, and is no weighted sum."""


def roles_of(inference: Inference, atom: int) -> Roles:
    """Follow the units of one group through the graph."""
    found = Roles()
    for node in inference.module.graph.nodes:
        if node.op != "call_function" or not touches(inference, node, atom):
            continue
        op = operator_of(node.target)
        reason = _role(inference, node, op, atom, found)
        if reason is not None:
            found.refused = found.refused or Pin(node, reason)
    both = found.summed & found.own
    if both and found.refused is None:
        node, _ = next(iter(both))
        found.refused = Pin(node, "the same weight makes units and sums over them")
    return found


def places_of(inference: Inference, node: Any, atom: int) -> list[int]:
    """The axes of a value in which the units are."""
    if not isinstance(node, fx.Node):
        return []
    return [i for i, layout in enumerate(inference.axes(node)) if atom in set(atoms_in(layout))]


def argument(node: fx.Node, op: Operator, name: str) -> Any:
    """What a call gives for a parameter."""
    position = next(i for i, param in enumerate(op.params) if param.name == name)
    if position < len(node.args):
        return node.args[position]
    return node.kwargs.get(name, op.params[position].default)


def touches(inference: Inference, node: fx.Node, atom: int) -> bool:
    """Whether the units are in an operand or a result of a node."""
    return any(_has(inference, value, atom) for value in (node, *node.all_input_nodes))


def _has(inference: Inference, node: fx.Node, atom: int) -> bool:
    value = inference.values.get(node)
    listed = [value] if isinstance(value, tuple) else value or []
    resolve = inference.system.resolve
    return any(atom in set(atoms_in(resolve(layout))) for axes in listed for layout in axes)


def _role(inference: Inference, node: fx.Node, op: Operator | None, atom: int, found: Roles) -> str | None:
    """Note the role of a node; the reason where it has none that could be kept."""
    if op is None or op.results != 1:
        return f"{op.name if op else node.target} may treat the units together"
    summed = _sums(inference, node, op, atom)
    if summed is not None:
        found.consumers.append(node)
        found.summed.add(summed)
        weight, _ = summed
        rest = [operand for operand in node.all_input_nodes if operand is not weight]
        # The result may have the units again: x + W·x, with W's rows bound to the same group.
        if not places_of(inference, node, atom):
            return None
        others = [n for n in rest if n is not argument(node, op, _CONSUMERS[op.name][0])]
        found.carried.append(node)
        found.own |= {(weight, i) for i in places_of(inference, weight, atom) if (weight, i) != summed}
        found.own |= {(n, i) for n in others if n.op == "get_attr" for i in places_of(inference, n, atom)}
        return None
    if not _each_by_itself(inference, node, op, atom):
        return f"{op.name} treats the units together"
    found.carried.append(node)
    for operand in node.all_input_nodes:
        if operand.op == "get_attr":
            found.own |= {(operand, i) for i in places_of(inference, operand, atom)}
    return None


def _sums(inference: Inference, node: fx.Node, op: Operator, atom: int) -> Axis | None:
    """The axis of the weight along which a node sums the units, if it does just that."""
    if op.name not in _CONSUMERS:
        return None
    x_name, weight_name, axis = _CONSUMERS[op.name]
    x, weight = argument(node, op, x_name), argument(node, op, weight_name)
    if not isinstance(weight, fx.Node) or weight.op != "get_attr" or not isinstance(x, fx.Node):
        return None
    rank = len(inference.axes(weight))
    at = axis % rank if rank > 1 else 0
    channel = len(inference.axes(x)) - 1
    if op.name.startswith("conv"):
        if argument(node, op, "groups") != 1:
            return None
        channel -= rank - 2
    if at not in places_of(inference, weight, atom) or channel not in places_of(inference, x, atom):
        return None
    return (weight, at) if places_of(inference, x, atom) == [channel] else None


def _each_by_itself(inference: Inference, node: fx.Node, op: Operator, atom: int) -> bool:
    """Whether each unit of the result depends on nothing but the same unit of the operands."""
    name, first = op.name, node.args[0] if node.args else None
    if name == "addmm":
        first = argument(node, op, "x")
    inside, outside = places_of(inference, first, atom), places_of(inference, node, atom)
    if op.pointwise or op.elementwise or name in _MOVES:
        return bool(outside)
    if name in _PER_CHANNEL:
        return outside == [1]
    if name == "embedding":
        return outside == [len(inference.axes(node)) - 1]
    if op.reduces:
        rank = len(inference.axes(first)) if isinstance(first, fx.Node) else 0
        dims = argument(node, op, "dim")
        named = [dims] if isinstance(dims, int) else dims
        return bool(named) and not {dim % rank for dim in named} & set(inside)
    if name.startswith(_POSITIONS):
        return bool(inside) and inside == outside
    if name in _LAST_AXES:
        rank = len(inference.axes(node))
        return all(i < rank - len(argument(node, op, "shape")) for i in outside)
    if name.startswith("conv"):
        groups = argument(node, op, "groups")
        if groups == 1:
            return not inside and outside == [len(inference.axes(node)) - _spatial(inference, node, op) - 1]
        return inside == outside and depthwise(inference, node, op, atom)
    if name in ("linear", "addmm", "matmul"):
        return not inside and len(outside) == 1
    return False


def _spatial(inference: Inference, node: fx.Node, op: Operator) -> int:
    return len(inference.axes(argument(node, op, "weight"))) - 2


def depthwise(inference: Inference, node: fx.Node, op: Operator, atom: int) -> bool:
    """Whether a convolution has one filter for each unit, so that there are as many groups as units."""
    weight = argument(node, op, "weight")
    whole = inference.axes(weight)[0]
    return whole == Atom(atom) and inference.system.size(whole) == argument(node, op, "groups")
