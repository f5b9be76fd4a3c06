"""What a call is applied to when the values of all copies are joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from tdsl.passes.merge.call_regions import Bundle, Calls, Region
from torch import fx

from tdsl.engine.staged import CannotStage
from tdsl.ops import Operator
from tdsl.ops.targets import operator_of

RESHAPE = torch.ops.aten.reshape.default
Repeat = Callable[[fx.Node, int, int], Any]
"""Makes so many copies of what all copies share, along an axis."""


class Place(NamedTuple):
    """Where copies lie: along an axis, each `outer` times, before what it has there itself.

    Values that are joined have `outer` 1; a reshape of [tokens, batch] to rows makes it the number of tokens.
    """

    axis: int
    outer: int = 1


def calls_before(calls: Calls, region: Region, bundle: Bundle) -> list[Bundle]:
    """The bundles and entries that a bundle is applied to."""
    ways = zip(*(calls.operands(node) for node in bundle), strict=True)
    known = {*region.bundles, *region.entries}
    return [way for way in ways if way in known]


def arguments_of(
    calls: Calls,
    region: Region,
    bundle: Bundle,
    made: Mapping[Bundle, Any],
    copies: int,
    places: Mapping[Bundle, Place],
    grown: int | None,
    repeat: Repeat,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the call on joined values; sizes that are written out grow along the axis.

    What all copies share is repeated along an axis, `grown`, if there is one: first states of a recurrent
    layer, a token put before the others.
    """
    node = bundle[0]
    ways = iter(list(zip(*(calls.operands(one) for one in bundle), strict=True)))
    before = calls_before(calls, region, bundle)
    operator = operator_of(node.target)

    def shared(one: fx.Node) -> Any:
        if grown is None or not before:
            return one
        size = before[0][0].meta["val"].shape[places[before[0]].axis]
        return repeat(one, grown, copies) if _is_of_a_copy(operator, one, grown, size) else one

    def value(one: fx.Node) -> Any:
        way = None if one in calls.constant else next(ways)
        return made[way] if way is not None and way in made else shared(one)

    args, kwargs = mapped(node.args, value), mapped(dict(node.kwargs), value)
    if operator is None or not before:
        return tuple(args), kwargs
    listed = list(args)
    for i, param in enumerate(operator.params[: len(listed)]):
        if param.kind in ("shape", "spread") and isinstance(listed[i], list | tuple):
            listed[i] = _grown(node, before[0][0].meta["val"].shape, places[before[0]], listed[i], copies)
    return tuple(listed), kwargs


def growing(calls: Calls, region: Region, bundle: Bundle, place: Place) -> list[int]:
    """The axes along which something that all copies share may have to be repeated for them."""
    known = {*region.bundles, *region.entries}
    ways = zip(*(calls.operands(node) for node in bundle), strict=True)
    shared = [way[0] for way in ways if way not in known]
    shared += [one for one in bundle[0].all_input_nodes if one in calls.constant]
    val = calls_before(calls, region, bundle)[0][0].meta["val"]
    if not shared or not isinstance(val, torch.Tensor):
        return []
    size = val.shape[place.axis]
    operator = operator_of(bundle[0].target)
    return [axis for axis in (0, 1) if any(_is_of_a_copy(operator, one, axis, size) for one in shared)]


def _is_of_a_copy(operator: Operator | None, one: fx.Node, axis: int, size: int) -> bool:
    """Whether something shared has the size of a copy along an axis, and is no weight of a layer."""
    val = one.meta.get("val")
    if operator is None or not isinstance(val, torch.Tensor) or val.ndim <= axis or val.shape[axis] != size:
        return False
    return one.op != "get_attr" or operator.elementwise or operator.name == "concat"


def repeats(rank: int, axis: int, copies: int) -> list[int]:
    """How often a value is repeated along each axis."""
    return [copies if place == axis else 1 for place in range(rank)]


def mapped(value: Any, change: Callable[[fx.Node], Any]) -> Any:
    """`value` with every node replaced, in the order in which `Calls.operands` lists them."""
    if isinstance(value, fx.Node):
        return change(value)
    if isinstance(value, tuple):
        return tuple(mapped(one, change) for one in value)
    if isinstance(value, list):
        return [mapped(one, change) for one in value]
    if isinstance(value, dict):
        return {name: mapped(one, change) for name, one in value.items()}
    return value


def _grown(
    node: fx.Node, before: Sequence[int], place: Place, sizes: Sequence[Any], copies: int
) -> list[Any]:
    """The sizes that a reshape or an expand of joined values is asked for."""
    operator = operator_of(node.target)
    wanted = list(node.meta["val"].shape)
    if operator is not None and operator.name == "expand":
        axis = place.axis + len(wanted) - len(before)
        if before[place.axis] != wanted[axis]:
            raise CannotStage("copies are spread along the axis on which they lie")
    elif operator is not None and operator.name == "reshape":
        axis = _digit(before, place, wanted)
    else:
        return list(sizes)
    wanted[axis] *= copies
    return wanted


def _digit(before: Sequence[int], place: Place, sizes: Sequence[int]) -> int:
    """The axis of a reshaped value that holds the copies.

    It is the first that begins with them. Where the axes behind them stay, so do copies behind other places:
    [tokens, 1, d] to [tokens, d] makes rows of them.
    """
    ahead = prod(before[: place.axis]) * place.outer
    holding = [
        axis
        for axis, size in enumerate(sizes)
        if (first := prod(sizes[:axis])) and ahead % first == 0 and size % (ahead // first) == 0
    ]
    if not holding:
        raise CannotStage("the axis of the copies is torn apart")
    behind = list(before[place.axis + 1 :])
    rows = [axis for axis in holding if list(sizes[axis + 1 :]) == behind]
    leading = [axis for axis in holding if prod(sizes[:axis]) == ahead]
    return ((rows if ahead > 1 else []) + leading + holding)[0]
