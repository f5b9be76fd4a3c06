"""One call of a region on all copies at once: the region on values joined along an axis, and whether that is the same.

The copies are joined along the first axis of what goes in. It is followed through the region by exchanging the
copies: where every operator lets that pass for any weights, along one axis, the copies stay apart, or an operator
treats all of them alike and still mixes them (a softmax along the axis, a batch norm that takes its statistics
there). So operators that do more than map or move single elements are also run in float64, on values joined and
apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx

from tdsl.engine.staged import CannotStage, Staged, Workspace
from tdsl.ops.targets import operator_of
from tdsl.passes.merge.call_regions import Bundle, Calls, Region
from tdsl.symmetry.action import Action, action
from tdsl.symmetry.element import Permutation
from tdsl.symmetry.infer import infer

COPIES = (1, 0, 2, 3)
"""How copies change places: no shift and no mirror image of four places."""
CLOSE = 1e-9
"""Largest difference of values in float64, relative to the largest of them."""


@dataclass(frozen=True)
class Axes:
    """The axis along which the copies of each value lie side by side, and what must stay as it is, with reasons."""

    axis: Mapping[Bundle, int]
    refused: Mapping[Bundle, str]


def axes_of(work: Workspace, calls: Calls, region: Region) -> Axes:
    """Follow the axis of the copies through a region; whatever comes behind a refused call is not judged."""
    joined = _Joined(work, calls, region, len(COPIES))
    acting: list[Action | None] = [
        _exchange(ways[0].meta["val"].shape, 0, len(COPIES)) for ways in region.entries
    ]
    refused = dict(joined.refused)
    axis: dict[Bundle, int] = dict.fromkeys(region.entries, 0)
    if joined.nodes:
        inferred = infer(joined.module, [*acting, *[None] * joined.still])
        for bundle, node in joined.nodes.items():
            if any(one not in axis for one in calls_before(calls, region, bundle)):
                continue
            step = inferred.steps.get(node)
            if step is None and node.target is getitem:
                source = inferred.steps.get(node.all_input_nodes[0])
                found = source.actions[int(node.args[1])] if source is not None else None  # type: ignore[arg-type]
            elif step is None or step.strength != "structural":
                refused[bundle] = step.reason if step is not None and step.reason else _NO_LAW
                continue
            else:
                found = step.action
            place = _where(bundle[0].meta["val"], node.meta["val"], found)
            if place is None:
                refused[bundle] = "the copies do not lie along one axis of the result"
            else:
                axis[bundle] = place
    probe = _Probe(work, calls, region, axis)
    for bundle in region.bundles:
        if bundle in axis and (reason := probe.mixes(bundle)):
            refused[bundle] = reason
    return Axes(axis, refused)


_NO_LAW = "copies cannot change places there for any weights"


def calls_before(calls: Calls, region: Region, bundle: Bundle) -> list[Bundle]:
    """The bundles and entries that a bundle is applied to."""
    ways = zip(*(calls.operands(node) for node in bundle), strict=True)
    known = {*region.bundles, *region.entries}
    return [way for way in ways if way in known]


def joined_values(
    work: Workspace, calls: Calls, region: Region, axis: Mapping[Bundle, int]
) -> dict[Bundle, Staged]:
    """The region once, on the entries of all copies joined: a staged value for each bundle.

    Raises `CannotStage` where an operator refuses the joined values.
    """
    made: dict[Bundle, Any] = {
        ways: Staged(torch.ops.aten.cat.default, (list(ways), 0), {}) for ways in region.entries
    }
    for bundle in region.bundles:
        arguments = _arguments(calls, region, bundle, made, region.copies, axis)
        made[bundle] = Staged(bundle[0].target, *arguments)
    return {bundle: made[bundle] for bundle in region.bundles}


# ---------------------------------------------------------------- one call on several copies


def _arguments(
    calls: Calls,
    region: Region,
    bundle: Bundle,
    made: Mapping[Bundle, Any],
    copies: int,
    axis: Mapping[Bundle, int],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the call on joined values; sizes that are written out grow along the axis."""
    node = bundle[0]
    ways = iter(list(zip(*(calls.operands(one) for one in bundle), strict=True)))

    def value(one: fx.Node) -> Any:
        if one in calls.constant:
            return one
        return made.get(next(ways), one)

    args, kwargs = _mapped(node.args, value), _mapped(dict(node.kwargs), value)
    before = calls_before(calls, region, bundle)
    operator = operator_of(node.target)
    if operator is None or not before:
        return tuple(args), kwargs
    listed = list(args)
    for i, param in enumerate(operator.params[: len(listed)]):
        if param.kind in ("shape", "spread") and isinstance(listed[i], list | tuple):
            listed[i] = _grown(node, before[0][0].meta["val"].shape, axis[before[0]], listed[i], copies)
    return tuple(listed), kwargs


def _mapped(value: Any, change: Callable[[fx.Node], Any]) -> Any:
    """`value` with every node replaced, in the order in which `Calls.operands` lists them."""
    if isinstance(value, fx.Node):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_mapped(one, change) for one in value)
    if isinstance(value, list):
        return [_mapped(one, change) for one in value]
    if isinstance(value, dict):
        return {name: _mapped(one, change) for name, one in value.items()}
    return value


def _grown(node: fx.Node, before: Sequence[int], axis: int, sizes: Sequence[Any], copies: int) -> list[Any]:
    """The sizes that a reshape or an expand of joined values is asked for.

    Copies are the first digit of their axis: in the result they are that of the first axis which has as many
    elements before it, and of the same one, counted from the last, where sizes are spread.
    """
    operator = operator_of(node.target)
    wanted = list(node.meta["val"].shape)
    if operator is not None and operator.name == "expand":
        place = axis + len(wanted) - len(before)
        if before[axis] != wanted[place]:
            raise CannotStage("copies are spread along the axis on which they lie")
    elif operator is not None and operator.name == "reshape":
        ahead = prod(before[:axis])
        place = next((i for i in range(len(wanted)) if prod(wanted[:i]) == ahead), -1)
        if place < 0:
            raise CannotStage("the axis of the copies is torn apart")
    else:
        return list(sizes)
    wanted[place] *= copies
    return wanted


class _Joined:
    """The region on so many copies of the first one's entries, as a graph of its own with shapes."""

    def __init__(self, work: Workspace, calls: Calls, region: Region, copies: int) -> None:
        self.nodes: dict[Bundle, fx.Node] = {}
        self.refused: dict[Bundle, str] = {}
        self.still = 0
        graph = fx.Graph()
        made: dict[Bundle, Any] = {}
        axis: dict[Bundle, int] = {}
        copied: dict[fx.Node, fx.Node] = {}
        mode = work.mode()
        assert mode is not None
        for number, ways in enumerate(region.entries):
            val = ways[0].meta["val"]
            made[ways], axis[ways] = graph.placeholder(f"entry{number}"), 0
            with mode:
                made[ways].meta["val"] = torch.empty((val.shape[0] * copies, *val.shape[1:]), dtype=val.dtype)
        known = set(region.entries) | set(region.bundles)
        shared = dict.fromkeys(
            way[0]
            for bundle in region.bundles
            for way in zip(*(calls.operands(node) for node in bundle), strict=True)
            if way not in known
        )
        for one in shared:
            copied[one] = graph.placeholder(f"shared{self.still}")
            copied[one].meta["val"] = one.meta["val"]
            self.still += 1
        for bundle in region.bundles:
            before = calls_before(calls, region, bundle)
            if any(one not in made for one in before):
                continue  # behind a call that is refused
            try:
                if not before:
                    raise CannotStage("all copies are the same call of the same values")
                args, kwargs = _arguments(calls, region, bundle, made, copies, axis)
                args, kwargs = (_mapped(a, lambda one: self._copy(graph, copied, one)) for a in (args, kwargs))
                val = work.infer(bundle[0].target, tuple(args), kwargs)
            except CannotStage as why:
                self.refused[bundle] = str(why)
                continue
            node = graph.call_function(bundle[0].target, tuple(args), kwargs)
            node.meta["val"] = val
            place = _grew(bundle[0].meta["val"], val, copies)
            if place is None:
                self.refused[bundle] = "the copies do not lie along one axis of the result"
                continue
            self.nodes[bundle] = made[bundle] = node
            axis[bundle] = place
        graph.output(tuple(self.nodes.values()))
        self.module = fx.GraphModule(work.module, graph)

    def _copy(self, graph: fx.Graph, copied: dict[fx.Node, fx.Node], node: fx.Node) -> fx.Node:
        """A constant or a shared value in the new graph; what is there already as it is."""
        if node.graph is graph:
            return node
        if node not in copied:
            inputs = {one: self._copy(graph, copied, one) for one in node.all_input_nodes}
            copied[node] = graph.node_copy(node, inputs.__getitem__)
        return copied[node]


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


def _exchange(shape: Sequence[int], axis: int, copies: int) -> Action:
    """Copies that change places, of a value of this shape in each copy."""
    size = shape[axis]
    places = [copy * size + i for copy in COPIES[:copies] for i in range(size)]
    return action(len(shape), {axis: Permutation(tuple(places))})


def _where(one: Any, several: Any, acting: Action | None) -> int | None:
    """The axis along which the copies of a result lie, if that is all that acts on it."""
    place = _grew(one, several, len(COPIES))
    if place is None or acting is None:
        return None
    first = one[0] if isinstance(one, list | tuple) else one
    return place if acting == _exchange(tuple(first.shape), place, len(COPIES)) else None


# ---------------------------------------------------------------- joined and apart


class _Probe:
    """Runs single operators on random values of two copies, joined and apart."""

    def __init__(self, work: Workspace, calls: Calls, region: Region, axis: Mapping[Bundle, int]) -> None:
        self.work, self.calls, self.region, self.axis = work, calls, region, axis

    def mixes(self, bundle: Bundle) -> str:
        """Why the operator does not keep copies apart; empty where it does."""
        node = bundle[0]
        operator = operator_of(node.target)
        if operator is None or operator.pointwise or operator.elementwise or operator.moves:
            return ""  # elements are mapped or moved one by one
        before = calls_before(self.calls, self.region, bundle)
        generator = torch.Generator().manual_seed(0)
        copies: list[dict[Bundle, Any]] = [
            {way: _drawn(way[0].meta["val"], generator) for way in before} for _ in range(2)
        ]
        both = {way: torch.cat([copy[way] for copy in copies], self.axis[way]) for way in before}
        shared: dict[fx.Node, Any] = {}

        def known(value: Any) -> Any:
            if not isinstance(value, fx.Node):
                return value
            if value not in shared:
                shared[value] = self._constant(value, generator)
            return shared[value]

        results = []
        for values, count in ((copies[0], 1), (copies[1], 1), (both, 2)):
            args, kwargs = _arguments(self.calls, self.region, bundle, values, count, self.axis)
            args, kwargs = _mapped(list(args), known), _mapped(kwargs, known)
            try:
                with torch.no_grad():
                    made = node.target(*args, **kwargs)  # type: ignore[operator]
            except (RuntimeError, ValueError, IndexError) as why:
                return f"it cannot be tried in float64: {str(why).splitlines()[0]}"
            results.append(list(made) if isinstance(made, list | tuple) else [made])
        for first, second, whole in zip(*results, strict=True):
            if not _same(torch.cat([first, second], self.axis[bundle]), whole):
                return f"{operator.name} mixes the copies"
        return ""

    def _constant(self, node: fx.Node, generator: torch.Generator) -> Any:
        """The value of a constant in float64; a random one for what all copies share."""
        if node not in self.calls.constant:
            return _drawn(node.meta["val"], generator)
        if node.op == "get_attr":
            return self.work.evaluate(node)
        args = _mapped(list(node.args), lambda one: self._constant(one, generator))
        kwargs = _mapped(dict(node.kwargs), lambda one: self._constant(one, generator))
        return node.target(*args, **kwargs)  # type: ignore[operator]


def _drawn(like: Tensor, generator: torch.Generator) -> Tensor:
    """Random values of that shape: normal ones in float64, truth values, or 0 and 1 (indices that every table has)."""
    sizes = tuple(like.shape)
    if like.dtype.is_floating_point:
        return torch.randn(sizes, generator=generator, dtype=torch.float64)
    return torch.randint(0, 2, sizes, generator=generator).to(like.dtype)


def _same(apart: Tensor, joined: Tensor) -> bool:
    if apart.shape != joined.shape:
        return False
    if not apart.dtype.is_floating_point:
        return bool(torch.equal(apart, joined))
    scale = float(apart.abs().max()) if apart.numel() else 0.0
    return bool(torch.allclose(apart, joined, rtol=0, atol=CLOSE * max(scale, 1.0), equal_nan=True))
