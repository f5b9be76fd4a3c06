"""Actions spelt out in a graph: orders of places, factors, orthogonal matrices. Read off, and built anew."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from tdsl.engine.edit import Editor
from tdsl.engine.journal import Journal
from tdsl.engine.rule import Replacement, Rule
from tdsl.engine.sizes import compare, same_shape
from tdsl.engine.stage import stage
from tdsl.engine.staged import CannotStage, Constant
from tdsl.engine.workspace import Workspace
from tdsl.ops import OPERATORS, Operator
from tdsl.ops.targets import operator_of
from tdsl.symmetry.action import Action, action, flipped, rolled, same
from tdsl.symmetry.along import Along, Monomial, Turn, along
from tdsl.symmetry.element import Linear, Permutation

WIDEST = 4096
"""Matrices of more rows are not looked at."""

ORTHOGONAL = 1e-6
"""Largest defect ‖QᵀQ − I‖ / ‖Q‖ of an orthogonal matrix: what float32 leaves of one."""

FACTORS = (1e-6, 1e6)
"""Factors of other sizes stay where they are."""


@dataclass(frozen=True)
class Held:
    """A constant of the graph that holds an order of places, factors or a matrix, and what reads it."""

    element: Along
    node: fx.Node
    operator: Operator


def action_of(work: Workspace, node: fx.Node) -> tuple[fx.Node, Action] | None:
    """The value that a node acts on, and how: flips, rolls, selects all places, shuffles, scales or rotates.

    Along axes of known size. `None` for any other node. A matrix that is orthogonal as far as its type allows
    stands for the nearest one that is.
    """
    operator = operator_of(node.target) if node.op == "call_function" else None
    value = node.meta.get("val")
    if operator is None or operator.name not in _READERS or not isinstance(value, Tensor):
        return None
    if any(compare("==", size, 0) for size in value.shape):
        return None
    return _READERS[operator.name](work, node, operator)


def _selected(work: Workspace, node: fx.Node, operator: Operator) -> tuple[fx.Node, Action] | None:
    source, index = node.args[0], node.args[2]
    if not isinstance(source, fx.Node) or not isinstance(index, fx.Node) or index.op != "get_attr":
        return None
    axis: Any = node.args[1]
    shape = source.meta["val"].shape
    order = work.asked(_order, index, shape[axis]) if isinstance(shape[axis], int) else None
    return None if order is None else (source, action(len(shape), {axis: order}))


def _order(places: Tensor, size: int) -> Permutation | None:
    """Numbers of places that name each place of an axis once."""
    if places.shape != (size,):
        return None
    order = tuple((places % size).tolist())
    return Permutation(order) if len(set(order)) == size else None


def _shuffled(work: Workspace, node: fx.Node, operator: Operator) -> tuple[fx.Node, Action] | None:
    """Channels seen as groups of members, member by member."""
    source, groups = node.args
    shape = node.meta["val"].shape
    channels: Any = shape[1]
    if not isinstance(source, fx.Node) or not isinstance(channels, int):
        return None
    order = torch.arange(channels).reshape(groups, -1).T.flatten()
    return source, action(len(shape), {1: Permutation(tuple(order.tolist()))})


def _turned(work: Workspace, node: fx.Node, operator: Operator) -> tuple[fx.Node, Action] | None:
    source, shape = node.args[0], node.meta["val"].shape
    dims: Any = node.args[-1]
    if not isinstance(source, fx.Node) or not dims or any(not isinstance(shape[dim], int) for dim in dims):
        return None
    if operator.name == "flip":
        return source, flipped(shape, dims)
    shifts: Any = node.args[1]
    return source, rolled(shape, shifts, dims)


def _scaled(work: Workspace, node: fx.Node, operator: Operator) -> tuple[fx.Node, Action] | None:
    """A factor for each place along one axis, or one for all places of the last axis."""
    pairs = [(node.args[0], node.args[1])]
    if operator.name == "mul":
        pairs.append((node.args[1], node.args[0]))
    shape = node.meta["val"].shape
    for source, factor in pairs:
        if not isinstance(source, fx.Node) or source.op == "get_attr" or not len(shape):
            continue
        if not isinstance(source.meta["val"], Tensor):  # a size, which factors are computed from
            continue
        if not same_shape(source.meta["val"].shape, shape) or not node.meta["val"].is_floating_point():
            continue
        last, divides = shape[-1] if isinstance(shape[-1], int) else None, operator.name == "div"
        found = None
        if isinstance(factor, fx.Node) and factor.op == "get_attr":
            found = work.asked(_factors, factor, last, divides)
        elif isinstance(factor, int | float) and not isinstance(factor, bool):
            found = _factor(float(factor), last, divides)
        if found is not None and isinstance(shape[found[0]], int):
            return source, action(len(shape), {found[0]: found[1]})
    return None


def _factors(values: Tensor, last: int | None, divides: bool) -> tuple[int, Monomial] | None:
    """The axis, counted from the last, along which factors differ, and the factors; see `_factor` for one."""
    long = [axis for axis, size in enumerate(values.shape) if size != 1]
    if len(long) > 1 or not values.is_floating_point():
        return None
    if not long:
        return _factor(float(values), last, divides)
    numbers = values.flatten().double()
    sizes = numbers.abs()
    if not bool(((sizes >= FACTORS[0]) & (sizes <= FACTORS[1])).all()):
        return None
    scales = (1 / numbers if divides else numbers).tolist()
    return long[0] - values.ndim, Monomial(tuple(range(len(scales))), tuple(scales))


@functools.lru_cache(maxsize=64)
def _factor(number: float, last: int | None, divides: bool) -> tuple[int, Monomial] | None:
    """One factor for all places of the last axis, which has `last` places."""
    if last is None or not FACTORS[0] <= abs(number) <= FACTORS[1]:
        return None
    return -1, Monomial(tuple(range(last)), (1 / number if divides else number,) * last)


def _rotated(work: Workspace, node: fx.Node, operator: Operator) -> tuple[fx.Node, Action] | None:
    """x·Wᵀ or x·W of a square matrix W."""
    source, weight, *others = node.args
    if any(others) or not isinstance(source, fx.Node) or not isinstance(weight, fx.Node):
        return None
    if weight.op != "get_attr" or source.op == "get_attr":
        return None
    shape = weight.meta["val"].shape
    if len(shape) != 2 or shape[0] != shape[1] or not 1 < shape[0] <= WIDEST:
        return None
    element = work.asked(_rotation_by, weight, operator.name != "linear")
    return None if element is None else (source, action(node.meta["val"].ndim, {-1: element}))


def _rotation_by(weight: Tensor, transposed: bool) -> Linear | None:
    """The orthogonal matrix that is nearest to a square one, where that is as near as its type allows."""
    for rows in (weight[:1], weight):  # most weights differ in their first row
        lengths = rows.double().square().sum(1)
        if bool(((lengths - 1).abs() > 1e-4).any()):
            return None
    matrix = weight.double()
    unit = torch.eye(len(matrix), dtype=torch.float64)
    if float((matrix.T @ matrix - unit).norm()) > ORTHOGONAL * float(matrix.norm()):
        return None
    left, _, right = torch.linalg.svd(matrix)
    nearest = left @ right
    return Linear(nearest.T if transposed else nearest)


_READERS = {
    "index_select": _selected,
    "channel_shuffle": _shuffled,
    "flip": _turned,
    "roll": _turned,
    "mul": _scaled,
    "div": _scaled,
    "linear": _rotated,
    "matmul": _rotated,
}


def held_by(node: fx.Node, acting: Action) -> list[Held]:
    """The constant that a node which acts along one axis reads."""
    operator = operator_of(node.target)
    if operator is None or operator.name == "div" or len(acting.parts) != 1:
        return []
    constants = [one for one in node.all_input_nodes if one.op == "get_attr"]
    return [Held(acting.parts[0][1], one, operator) for one in constants]


def moved(work: Workspace, value: Any, acting: Action, held: Sequence[Held] = ()) -> Any:
    """A value acted on: factors, flips, rolls and orders of places along its axes, then an order of the axes.

    A matrix only along the last axis. Constants that the graph holds already are read there.
    """
    rank = acting.rank
    flips, rolls, orders = [], [], []
    for axis, element in acting.parts:
        if isinstance(element, Linear):
            value = _rotation(work, value, element, held)
            continue
        if isinstance(element, Monomial):
            back = Permutation(element.places).inverse().places
            value = _multiple(work, value, axis - rank, [element.scales[place] for place in back], held)
            element = along(Permutation(element.places))
        if isinstance(element, Permutation):
            orders.append((axis - rank, element))
        elif isinstance(element, Turn):
            mirrored = element.mirrored or element.is_flip
            shift = (element.start - element.size + 1 if mirrored else -element.start) % element.size
            flips += [axis - rank] if mirrored else []
            rolls += [(shift, axis - rank)] if shift else []
    if flips:
        value = stage(work, OPERATORS["flip"], {"x": value, "dims": flips})
    if rolls:
        shifts, dims = zip(*rolls, strict=True)
        value = stage(work, OPERATORS["roll"], {"x": value, "shifts": list(shifts), "dims": list(dims)})
    for axis, order in orders:
        there = next((one.node for one in held if one.element == order), None)
        places = Constant(torch.tensor(order.places), torch.int64, "places") if there is None else there
        value = stage(work, OPERATORS["index_select"], {"x": value, "dim": axis, "index": places})
    if acting.reorders:
        value = stage(work, OPERATORS["permute"], {"x": value, "dims": list(acting.order)})
    return value


def _rotation(work: Workspace, value: Any, element: Linear, held: Sequence[Held]) -> Any:
    there = next((one for one in held if _equal(one.element, element)), None)
    if there is None:
        weight = Constant(element.values, work.val(value).dtype, "rotation")
        return stage(work, OPERATORS["linear"], {"x": value, "weight": weight})
    names = [param.name for param in there.operator.operands[:2]]
    return stage(work, there.operator, dict(zip(names, (value, there.node), strict=True)))


def _multiple(work: Workspace, value: Any, axis: int, scales: Sequence[float], held: Sequence[Held]) -> Any:
    """A value times a number for each place along an axis."""
    factor: Any = scales[0]
    if len(set(scales)) > 1:
        sizes = [len(scales)] + [1] * (-axis - 1)
        wanted = Monomial(tuple(range(len(scales))), tuple(scales))
        there = next((one.node for one in held if one.element == wanted), None)
        factor = there if there is not None and list(there.meta["val"].shape) == sizes else None
        if factor is None:
            numbers = torch.tensor(scales, dtype=torch.float64).reshape(sizes)
            factor = Constant(numbers, work.val(value).dtype, "factors")
    return stage(work, OPERATORS["mul"], {"x": value, "y": factor})


def each_node(module: fx.GraphModule, journal: Journal, act: Callable[[Workspace, fx.Node], bool]) -> int:
    """Act on every node that is there now, operands first, until the journal is full. → how often one changed

    Nothing is done where the shapes of the graph are not known.
    """
    work = Workspace(module)
    count = 0
    if not work.typed:
        return count
    for node in list(module.graph.nodes):
        if journal.full:
            break
        if not node._erased:
            count += act(work, node)
    if count:
        module.graph.lint()
    return count


def replaced(
    work: Workspace,
    name: str,
    outputs: tuple[fx.Node, ...],
    values: tuple[Any, ...],
    matched: tuple[fx.Node, ...],
    journal: Journal,
) -> bool:
    """Put values in the place of outputs, and note it under the name of a pass; whether that was possible."""
    replacement = Replacement(Rule(name, ()), outputs, values, matched)
    try:
        edit = Editor(work).apply(replacement, journal.next_number)
    except CannotStage:
        return False
    made = sum(node.op != "get_attr" for node in edit.created)
    journal.note(name, matched[0], matched, saved_nodes=edit.erased - made, created=edit.created)
    return True


def _equal(first: Along, second: Along) -> bool:
    return first.size == second.size and same(action(1, {0: first}), action(1, {0: second}))


__all__ = ["Held", "action_of", "each_node", "held_by", "moved", "replaced"]
