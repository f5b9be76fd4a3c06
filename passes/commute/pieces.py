"""Values put together from pieces: axes of all pieces in one order, parts of one value in another order."""

from __future__ import annotations

import operator as python_operator
from collections.abc import Sequence
from typing import Any

from tdsl.passes.commute.follows import LAYERS
from tdsl.passes.commute.moves import each_node, moved, replaced
from torch import fx

from tdsl.engine.driver import Scope
from tdsl.engine.journal import Journal
from tdsl.engine.passes import GraphPass, graph_pass
from tdsl.engine.stage import stage
from tdsl.engine.workspace import Workspace
from tdsl.ops import OPERATORS, Operator
from tdsl.ops.targets import calls, operator_of
from tdsl.symmetry.action import action
from tdsl.symmetry.along import along
from tdsl.symmetry.element import Permutation

JOINING = ("concat", "stack")


@graph_pass
class Pieces(GraphPass):
    """Put pieces together first and permute axes afterwards; take parts of a value for an order of places.

    `concat(permute(x, p), permute(y, p), …)`, or a `stack`, is a permutation of the axes of what is put
    together. Parts of one value, each place once, that are put together along the axis they were taken along
    are that value with its places in another order: a flip, a roll, any permutation. Other rules bring
    both to their ends, so run it in an `attempt`. The two parts of a `split` that change places are taken for
    a roll beside a layer that takes it, and nowhere else: a file says them in fewer operators. Places have to
    be numbers.
    """

    name = "commute.pieces"

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """Every concatenation and stack once, operands first."""
        if not any(calls(node, *JOINING) for node in module.graph.nodes):
            return 0

        def act(work: Workspace, node: fx.Node) -> bool:
            if not calls(node, *JOINING) or not (scope is None or scope(node)):
                return False
            return _permuted_after(work, node, journal) or _reordered(work, node, journal)

        return each_node(module, journal, act)


def _operator(node: fx.Node) -> Operator:
    found = operator_of(node.target)
    assert found is not None
    return found


def _permuted_after(work: Workspace, node: fx.Node, journal: Journal) -> bool:
    """One permutation of the axes in the place of one for each piece."""
    pieces: Any = node.args[0]
    if len(pieces) < 2 or not all(calls(one, "permute") for one in pieces):
        return False
    order: Any = pieces[0].args[1]
    if any(list(one.args[1]) != list(order) for one in pieces[1:]):
        return False
    rank = node.meta["val"].ndim
    at: Any = node.args[1]
    at %= rank
    if calls(node, "stack"):
        dim = at
        order = [*order[:at], None, *order[at:]]
        order = [at if one is None else one + (one >= at) for one in order]
    else:
        dim = order[at]
    operator = _operator(node)
    names = [param.name for param in operator.params[:2]]
    plain = [one.args[0] for one in pieces]
    together = stage(work, operator, dict(zip(names, (plain, dim - rank), strict=True)))
    value = stage(work, OPERATORS["permute"], {"x": together, "dims": list(order)})
    matched = (node, *dict.fromkeys(pieces))
    return replaced(work, Pieces.name, (node,), (value,), matched, journal)


def _reordered(work: Workspace, node: fx.Node, journal: Journal) -> bool:
    """Parts of one value, each place once, as the value in another order."""
    pieces: Any = node.args[0]
    axis: Any = node.args[1]
    parts = [_part(one, axis, stacked=calls(node, "stack")) for one in pieces]
    if len(parts) < 2 or any(part is None for part in parts):
        return False
    found = [part for part in parts if part is not None]
    source = found[0][0]
    size = source.meta["val"].shape[axis]
    places = [place for _, those, _ in found for place in those]
    if any(one is not source for one, _, _ in found) or not isinstance(size, int):
        return False
    if sorted(places) != list(range(size)) or places == list(range(size)):
        return False
    halves = len(pieces) == 2 and all(calls(through[-1], "split") for _, _, through in found)
    if halves and not (_gives(source, axis) or all(_reads(user, node, axis) for user in node.users)):
        return False
    rank = source.meta["val"].ndim
    value = moved(work, source, action(rank, {axis % rank: along(Permutation(tuple(places)))}))
    matched = tuple(dict.fromkeys((node, *(one for _, _, through in found for one in through))))
    return replaced(work, Pieces.name, (node,), (value,), matched, journal)


def _gives(node: fx.Node, axis: int) -> bool:
    """Whether a layer gives a value and can give its channels, along that axis, in another order."""
    return _is_layer(node) and LAYERS[_operator(node).name][0] == axis


def _reads(node: fx.Node, value: fx.Node, axis: int) -> bool:
    """Whether a layer reads a value and can read its channels, along that axis, in another order."""
    return _is_layer(node) and LAYERS[_operator(node).name][0] == axis and node.args[0] is value


def _is_layer(node: fx.Node) -> bool:
    """A layer in one group whose weight is read nowhere else."""
    if not calls(node, *LAYERS):
        return False
    weight = node.args[1]
    grouped = not calls(node, "linear") and node.args[6] != 1
    return isinstance(weight, fx.Node) and weight.op == "get_attr" and len(weight.users) == 1 and not grouped


Part = tuple[fx.Node, Sequence[int], tuple[fx.Node, ...]]
"""The value that a node is a part of along an axis, the places of the part, and the nodes between."""


def _part(node: Any, axis: int, *, stacked: bool) -> Part | None:
    """What a node is a part of, where that is known."""
    if not isinstance(node, fx.Node) or node.op != "call_function":
        return None
    if node.target is python_operator.getitem:
        whole: Any = node.args[0]
        number: Any = node.args[1]
        if stacked and calls(whole, "unbind") and whole.args[1] == axis:
            return whole.args[0], [number], (node, whole)
        if not stacked and calls(whole, "split") and whole.args[2] == axis:
            sizes = whole.args[1]
            if all(isinstance(size, int) for size in sizes):
                first = sum(sizes[:number])
                return whole.args[0], range(first, first + sizes[number]), (node, whole)
        return None
    if stacked and calls(node, "select"):
        source, dim, place = node.args
        if dim == axis and isinstance(source, fx.Node) and isinstance(place, int):
            size = source.meta["val"].shape[axis]
            return (source, [place % size], (node,)) if isinstance(size, int) else None
    if not stacked and calls(node, "slice"):
        source, dim, start, end, step = node.args
        numbers = (start, end, step)
        if dim == axis and isinstance(source, fx.Node) and all(isinstance(one, int) for one in numbers):
            size = source.meta["val"].shape[axis]
            return (source, range(size)[slice(*numbers)], (node,)) if isinstance(size, int) else None
    return None


__all__ = ["Pieces"]
