"""A region called once on the values of all copies, joined along an axis: whether that is the same.

The copies are joined along an axis of what goes in, the first if that is possible. It is followed through the
region by exchanging the copies: where every operator lets that pass for any weights, along one axis, the
copies stay apart, or an operator treats all of them alike and still mixes them (a softmax along the axis, a
batch norm that takes its statistics there). So operators that do more than map or move single elements are
also run in float64, on values joined and apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from operator import getitem
from typing import Any

import torch
from tdsl.passes.merge.call_arguments import (
    RESHAPE,
    Place,
    arguments_of,
    calls_before,
    growing,
    mapped,
    repeats,
)
from tdsl.passes.merge.call_probe import Probe
from tdsl.passes.merge.call_regions import Bundle, Calls, Region
from torch import fx

from tdsl.engine.staged import CannotStage, Staged
from tdsl.engine.workspace import Workspace
from tdsl.errors import TdslError
from tdsl.symmetry.action import Action, action
from tdsl.symmetry.along import permutes
from tdsl.symmetry.element import Permutation
from tdsl.symmetry.infer import Step, infer

REPEAT = torch.ops.aten.repeat.default
COPIES = (1, 0, 2, 3)
"""How copies change places: no shift and no mirror image of four places."""


@dataclass(frozen=True)
class Axes:
    """Where the copies of each value lie, and what must stay as it is, with reasons."""

    place: Mapping[Bundle, Place]
    refused: Mapping[Bundle, str]
    grown: Mapping[Bundle, int] = field(default_factory=dict)
    """The axis along which a call's operands are repeated that all copies share, where they have to be."""
    entry: int = 0
    """The axis along which what goes in is joined."""


def axes_of(work: Workspace, calls: Calls, region: Region) -> Axes:
    """Where the copies of a region lie when they are joined along the axis that fewest calls refuse.

    The first axis is taken where it is as good as any; otherwise it is said why not.
    """
    first = _joined_along(work, calls, region, 0)
    if not first.refused:
        return first
    shared = min((ways[0].meta["val"].ndim for ways in region.entries), default=1)
    others = [_joined_along(work, calls, region, axis) for axis in range(1, shared)]
    best = min((first, *others), key=lambda axes: len(axes.refused))
    if best.entry:
        return best
    refused = {}
    for bundle, reason in first.refused.items():
        also = [f"axis {one.entry}: {one.refused[bundle]}" for one in others if bundle in one.refused]
        refused[bundle] = "; ".join([reason, *also])
    return replace(first, refused=refused)


def _joined_along(work: Workspace, calls: Calls, region: Region, axis: int) -> Axes:
    """Follow the axis of the copies through a region; whatever comes behind a refused call is not judged."""
    joined = _Joined(work, calls, region, len(COPIES), axis)
    start = Place(axis)
    acting: list[Action | None] = [_exchange(ways[0].meta["val"].shape, start) for ways in region.entries]
    refused = dict(joined.refused)
    places: dict[Bundle, Place] = dict.fromkeys(region.entries, start)
    if joined.nodes:
        try:
            inferred = infer(joined.module, [*acting, *[None] * joined.still])
        except TdslError as why:
            return Axes(places, dict.fromkeys(region.bundles, why.message), entry=axis)
        for bundle, node in joined.nodes.items():
            if any(one not in places for one in calls_before(calls, region, bundle)):
                continue
            step = inferred.steps.get(node)
            if step is None and node.target is getitem:
                source = inferred.steps.get(node.all_input_nodes[0])
                found = source.actions[int(node.args[1])] if source is not None else None  # type: ignore[arg-type]
            elif step is None or not _passes(step, bundle in joined.grown):
                refused[bundle] = step.reason if step is not None and step.reason else _NO_LAW
                continue
            else:
                found = step.action
            place = _where(bundle[0].meta["val"], node.meta["val"], found)
            if place is None:
                refused[bundle] = _NOWHERE
            elif bundle in region.exits and place.outer != 1:
                refused[bundle] = "the copies of what is used elsewhere do not lie side by side"
            else:
                places[bundle] = place
    probe = Probe(work, calls, region, places, joined.grown)
    for bundle in region.bundles:
        if bundle in places and (reason := probe.mixes(bundle)):
            refused[bundle] = reason
    return Axes(places, refused, joined.grown, axis)


def _passes(step: Step, repeated: bool) -> bool:
    """Whether copies change places for any weights, what is repeated for them aside."""
    return step.strength == "structural" or (repeated and step.strength == "weights" and not step.worst)


_NO_LAW = "copies cannot change places there for any weights"
_NOWHERE = "the copies do not lie along one axis of the result"


def joined_values(calls: Calls, region: Region, axes: Axes) -> dict[Bundle, Staged]:
    """The region once, on the entries of all copies joined: a staged value for each bundle.

    Raises `CannotStage` where an operator refuses the joined values.
    """

    def repeat(one: fx.Node, axis: int, copies: int) -> Staged:
        return Staged(REPEAT, (one, repeats(one.meta["val"].ndim, axis, copies)), {})

    made: dict[Bundle, Any] = {
        ways: Staged(torch.ops.aten.cat.default, (list(ways), axes.entry), {}) for ways in region.entries
    }
    for bundle in region.bundles:
        grown = axes.grown.get(bundle)
        arguments = arguments_of(calls, region, bundle, made, region.copies, axes.place, grown, repeat)
        made[bundle] = Staged(bundle[0].target, *arguments)
    return {bundle: made[bundle] for bundle in region.bundles}


# ---------------------------------------------------------------- on four copies


class _Joined:
    """The region on so many copies of the first one's entries, as a graph of its own with shapes."""

    def __init__(self, work: Workspace, calls: Calls, region: Region, copies: int, along: int) -> None:
        self.nodes: dict[Bundle, fx.Node] = {}
        self.refused: dict[Bundle, str] = {}
        self.grown: dict[Bundle, int] = {}
        self.still = 0
        graph = fx.Graph()
        made: dict[Bundle, Any] = {}
        places: dict[Bundle, Place] = {}
        copied: dict[fx.Node, fx.Node] = {}
        mode = work.mode()
        assert mode is not None
        for number, ways in enumerate(region.entries):
            val = ways[0].meta["val"]
            made[ways], places[ways] = graph.placeholder(f"entry{number}"), Place(along)
            sizes = [size * copies if axis == along else size for axis, size in enumerate(val.shape)]
            with mode:
                made[ways].meta["val"] = torch.empty(sizes, dtype=val.dtype)
        own = {*region.entries, *region.bundles}
        shared = dict.fromkeys(
            way[0]
            for bundle in region.bundles
            for way in zip(*(calls.operands(node) for node in bundle), strict=True)
            if way not in own
        )
        for one in shared:
            copied[one] = graph.placeholder(f"shared{self.still}")
            copied[one].meta["val"] = one.meta["val"]
            self.still += 1

        def known(one: fx.Node) -> fx.Node:
            return _copy(graph, copied, one)

        def repeat(one: fx.Node, axis: int, copies: int) -> fx.Node:
            args = (known(one), repeats(one.meta["val"].ndim, axis, copies))
            node = graph.create_node("call_function", REPEAT, args)
            node.meta["val"] = work.infer(REPEAT, args, {})
            return node

        def call(bundle: Bundle, grown: int | None) -> tuple[fx.Node, int]:
            """The call on joined values, and the axis on which they lie. Raises `CannotStage`."""
            args, kwargs = arguments_of(calls, region, bundle, made, copies, places, grown, repeat)
            args, kwargs = tuple(mapped(args, known)), mapped(kwargs, known)
            val = work.infer(bundle[0].target, args, kwargs)
            axis = _grew(bundle[0].meta["val"], val, copies)
            if axis is None:
                raise CannotStage(_NOWHERE)
            node = graph.create_node("call_function", bundle[0].target, args, kwargs)
            node.meta["val"] = val
            return node, axis

        for bundle in region.bundles:
            before = calls_before(calls, region, bundle)
            if any(one not in made for one in before):
                continue  # behind a call that is refused
            if not before:
                self.refused[bundle] = "all copies are the same call of the same values"
                continue
            attempts: list[int | None] = [None, *growing(calls, region, bundle, places[before[0]])]
            for grown in attempts:
                there = len(graph.nodes)
                try:
                    node, axis = call(bundle, grown)
                    joined = {made[way]: way for way in before}
                    if len(attempts) > 1 and not _keeps(work, node, joined, places):
                        raise CannotStage(_NO_LAW)
                except CannotStage as why:
                    self.refused.setdefault(bundle, str(why))
                    for one in reversed(list(graph.nodes)[there:]):
                        graph.erase_node(one)
                    for one in [one for one, copy in copied.items() if copy._erased]:
                        del copied[one]
                    continue
                self.refused.pop(bundle, None)
                if grown is not None:
                    self.grown[bundle] = grown
                self.nodes[bundle] = made[bundle] = node
                places[bundle] = Place(axis, _outer(before[0], places[before[0]], bundle, axis))
                break
        graph.output(tuple(self.nodes.values()))
        self.module = fx.GraphModule(work.module, graph)


def _copy(graph: fx.Graph, copied: dict[fx.Node, fx.Node], node: fx.Node) -> fx.Node:
    """A node in another graph, with what it needs; what is there already as it is."""
    if node.graph is graph:
        return node
    if node not in copied:
        inputs = {one: _copy(graph, copied, one) for one in node.all_input_nodes}
        copied[node] = graph.node_copy(node, inputs.__getitem__)
    return copied[node]


def _keeps(
    work: Workspace, node: fx.Node, joined: Mapping[fx.Node, Bundle], places: Mapping[Bundle, Place]
) -> bool:
    """Whether copies may change places at a single call, given the joined values that it reads."""
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    acting: list[Action | None] = []
    for one, bundle in joined.items():
        copied[one] = graph.placeholder(f"joined{len(copied)}")
        copied[one].meta["val"] = one.meta["val"]
        acting.append(_exchange(bundle[0].meta["val"].shape, places[bundle]))
    call = _copy(graph, copied, node)
    graph.output(call)
    try:
        step = infer(fx.GraphModule(work.module, graph), acting).steps.get(call)
    except TdslError:  # what is shared has another size than the law asks for
        return False
    return step is not None and _passes(step, True)


def _outer(source: Bundle, place: Place, bundle: Bundle, axis: int) -> int:
    """How many places of the axis come before the copies in a result, if an operator lets them stay."""
    if bundle[0].target is not RESHAPE:
        return place.outer
    before, after = source[0].meta["val"].shape, bundle[0].meta["val"].shape
    return int(prod(before[: place.axis]) * place.outer // prod(after[:axis]))


def _grew(one: Any, several: Any, copies: int) -> int | None:
    """The axis that has grown, of the first result where there are several."""
    if isinstance(one, list | tuple):
        return _grew(one[0], several[0], copies) if one else None
    before, after = tuple(one.shape), tuple(several.shape)
    if len(before) != len(after):
        return None
    grown = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    if len(grown) != 1 or after[grown[0]] != copies * before[grown[0]]:
        return None
    return grown[0]


def _exchange(shape: Sequence[int], place: Place) -> Action:
    """Copies that change places, of a value of this shape in each copy."""
    size = shape[place.axis]
    inner = size // place.outer
    order = torch.arange(size * len(COPIES)).reshape(place.outer, len(COPIES), inner)
    moved = order[:, list(COPIES)].flatten().tolist()
    return action(len(shape), {place.axis: Permutation(tuple(moved))})


def _where(one: Any, several: Any, acting: Action | None) -> Place | None:
    """Where the copies of a result lie, if that they change places is all that acts on it."""
    axis = _grew(one, several, len(COPIES))
    part = acting.part(axis) if axis is not None and acting is not None else None
    if axis is None or part is None or not permutes(part):
        return None
    shape = tuple((one[0] if isinstance(one, list | tuple) else one).shape)
    inner = part.places[0]  # type: ignore[union-attr]  # the first two copies change places
    if not inner or shape[axis] % inner:
        return None
    place = Place(axis, shape[axis] // inner)
    return place if acting == _exchange(shape, place) else None
