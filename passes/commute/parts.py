"""Parts of what was put together, and what is put together from one value."""

from __future__ import annotations

from typing import Any

from tdsl.passes.commute.moves import each_node, replaced
from torch import fx

from tdsl.engine.driver import Scope
from tdsl.engine.journal import Journal
from tdsl.engine.passes import GraphPass, graph_pass
from tdsl.engine.sizes import same_shape
from tdsl.engine.stage import stage
from tdsl.engine.staged import CannotStage
from tdsl.engine.workspace import Workspace
from tdsl.ops import OPERATORS
from tdsl.ops.targets import calls, operator_of

FOLDS = ("mean", "amax", "amin")
"""Folds that are the same of a value and of that value repeated."""

PARTS = ("select", "slice", "reshape", "stack", "index", *FOLDS)

WHOLES = ("concat", "stack", "index_select")


@graph_pass
class Parts(GraphPass):
    """Take parts from the piece that they are in, and a value that is stacked on itself for a repeated one.

    `select` or `slice` of a `concat` or `stack`, along its axis, is one of the pieces or a part of one;
    `select` of places that a constant names, along their axis, is the place that it names there.
    What is joined or stacked of one value alone is that value repeated, for which means and extremes have no
    use. Places counted down from the last one to the first are a reflection. Sizes and places along the axis
    have to be numbers.
    """

    name = "commute.parts"

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """Every such part once, operands first."""
        if not any(calls(node, *WHOLES, "arange") for node in module.graph.nodes):
            return 0

        def act(work: Workspace, node: fx.Node) -> bool:
            return calls(node, *PARTS) and (scope is None or scope(node)) and _taken(work, node, journal)

        return each_node(module, journal, act)


def _taken(work: Workspace, node: fx.Node, journal: Journal) -> bool:
    """The node without what was put together for it; whether that was possible."""
    whole: Any = node.args[0]
    try:
        if calls(node, "index"):
            value = _reversed(work, node)
        elif calls(node, "stack"):
            value = _repeated(work, node)
        elif calls(whole, "stack") and calls(node, "select"):
            value = _piece_of_stack(node, whole)
        elif calls(whole, "index_select") and calls(node, "select"):
            value = _named_place(work, node, whole)
        elif calls(whole, "concat"):
            take = _rows if calls(node, "reshape") else _folded if calls(node, *FOLDS) else _part_of_concat
            value = take(work, node, whole)
        else:
            return False
    except CannotStage:
        return False
    matched = (node, whole) if calls(whole, *WHOLES) else (node,)
    return value is not None and replaced(work, Parts.name, (node,), (value,), matched, journal)


def _reversed(work: Workspace, node: fx.Node) -> Any:
    """A value whose places along one axis are counted down, as its mirror image."""
    source: Any = node.args[0]
    indices: Any = node.args[1]
    named = [axis for axis, one in enumerate(indices) if one is not None]
    if len(named) != 1 or not calls(indices[named[0]], "arange"):
        return None
    numbers = indices[named[0]].args
    size = source.meta["val"].shape[named[0]]
    if any(not isinstance(one, int) for one in (*numbers, size)) or size == 0:
        return None
    if range(*numbers) != range(size - 1, -1, -1):
        return None
    dims = [named[0] - source.meta["val"].ndim]
    return stage(work, OPERATORS["flip"], {"x": source, "dims": dims})


def _repeated(work: Workspace, node: fx.Node) -> Any:
    """A value stacked on itself, as that value repeated along a new axis."""
    pieces: Any = node.args[0]
    if len(set(pieces)) > 1 or len(pieces) < 2:
        return None
    one = stage(work, OPERATORS["unsqueeze"], {"x": pieces[0], "dim": node.args[1]})
    return stage(work, OPERATORS["expand"], {"x": one, "shape": list(node.meta["val"].shape)})


def _piece_of_stack(node: fx.Node, whole: fx.Node) -> Any:
    """The piece that a place along the axis of a stack is."""
    pieces: Any = whole.args[0]
    _, axis, place = node.args
    if axis != whole.args[1] or not isinstance(place, int) or not -len(pieces) <= place < len(pieces):
        return None
    return pieces[place]


def _named_place(work: Workspace, node: fx.Node, whole: fx.Node) -> Any:
    """The place of a value that stands at a place of the constant which names them."""
    source, axis = whole.args[:2]
    index: Any = whole.args[2]
    place = node.args[2]
    if node.args[1] != axis or not isinstance(place, int) or index.op != "get_attr":
        return None
    named = int(work.tensor(index)[place])
    return stage(work, OPERATORS["select"], {"x": source, "dim": axis, "index": named})


def _part_of_concat(work: Workspace, node: fx.Node, whole: fx.Node) -> Any:
    """The part of one piece that places along the axis of a concatenation are."""
    pieces: Any = whole.args[0]
    axis: Any = whole.args[1]
    if node.args[1] != axis:
        return None
    sizes = [one.meta["val"].shape[axis] for one in pieces]
    if any(not isinstance(size, int) for size in sizes):
        return None
    numbers: Any = node.args[2:]
    if any(not isinstance(one, int) for one in numbers):
        return None
    selected = calls(node, "select")
    places = range(sum(sizes))
    places = places[numbers[0] : numbers[0] + 1 or None] if selected else places[slice(*numbers)]
    first = 0
    for piece, size in zip(pieces, sizes, strict=True):
        if places and first <= places[0] and places[-1] < first + size:
            start = places[0] - first
            if selected:
                return stage(work, OPERATORS["select"], {"x": piece, "dim": axis, "index": start})
            part = {"x": piece, "dim": axis, "start": start, "end": places[-1] - first + 1}
            return stage(work, OPERATORS["slice"], {**part, "step": places.step})
        first += size
    return None


def _rows(work: Workspace, node: fx.Node, whole: fx.Node) -> Any:
    """One value joined with itself along the first axis, each time a row of what that is seen as."""
    pieces: Any = whole.args[0]
    sizes: Any = node.args[1]
    shape = pieces[0].meta["val"].shape
    if whole.args[1] != -whole.meta["val"].ndim or len(set(pieces)) > 1:
        return None
    if any(not isinstance(size, int) for size in (*sizes, *shape)):
        return None
    place = next((place for place, size in enumerate(sizes) if size != 1), len(sizes))
    if place == len(sizes) or sizes[place] != len(pieces):
        return None
    row, rest = pieces[0], [*sizes[:place], *sizes[place + 1 :]]
    if not same_shape(shape, rest):
        row = stage(work, OPERATORS["reshape"], {"x": row, "shape": rest})
    return stage(work, OPERATORS["stack"], {"tensors": [row] * len(pieces), "dim": place - len(sizes)})


def _folded(work: Workspace, node: fx.Node, whole: fx.Node) -> Any:
    """A fold along which one value was joined with itself, of that value."""
    pieces: Any = whole.args[0]
    dims: Any = node.args[1]
    rank = whole.meta["val"].ndim
    if len(set(pieces)) > 1 or (
        dims is not None and whole.args[1] not in [dim % rank - rank for dim in dims]
    ):
        return None
    operator = operator_of(node.target)
    assert operator is not None
    names = [param.name for param in operator.params]
    return stage(work, operator, {**dict(zip(names, node.args, strict=False)), **node.kwargs, "x": pieces[0]})


__all__ = ["Parts"]
