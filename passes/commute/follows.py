"""What an operator reads beside what is acted on, changed so that it is acted on alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from tdsl.engine.staged import Constant, Staged
from tdsl.engine.workspace import Workspace
from tdsl.factor.actions import keeps_groups
from tdsl.ops import Operator
from tdsl.ops.recurrent import GATES
from tdsl.ops.targets import operator_of
from tdsl.symmetry.action import Action, action
from tdsl.symmetry.along import Along, along, inverse, permutes
from tdsl.symmetry.along import apply as apply_along
from tdsl.symmetry.element import Permutation
from tdsl.symmetry.transfer_dense import inner

CHANNELS = frozenset({"batch_norm", "instance_norm", "group_norm", "prelu"})
"""Operators with numbers for each channel, the second axis of what they read."""

LAST = frozenset({"layer_norm", "rms_norm"})
"""Operators with numbers for each element of the axes that they normalise, the last ones."""

BROADCAST = frozenset({"where", "masked_fill", "pow"})
"""Operators that broadcast their operands, though they are not elementwise in the table."""

LAYERS = {"linear": (-1, 1), "conv1d": (-2, 1), "conv2d": (-3, 1), "conv3d": (-4, 1)}
"""The axis that a layer reads its channels along, and writes them; the axis of its weight that sees them."""

GROUPED = {**LAYERS, **{f"conv_transpose{n}d": (-n - 1, 0) for n in (1, 2, 3)}}
"""Layers that may read channels in groups, transposed ones too."""


@dataclass(frozen=True)
class Follow:
    """What a call reads instead of some operands, and how inference has to see its operands."""

    values: Mapping[fx.Node, Any] = field(default_factory=dict)
    acting: Mapping[fx.Node, Action] = field(default_factory=dict)
    """What acts on operands, where that is another action than was found."""
    alike: frozenset[fx.Node] = frozenset()
    """Constants that follow the first operand whatever acts on it: they may be taken for equal numbers."""
    layers: tuple[fx.Node, ...] = ()
    """Nodes that are read nowhere else, and made anew."""
    after: Action | None = None
    """What acts on the result beside what inference says, where weights were put in another order for it."""


def followers(work: Workspace, node: fx.Node, acting: Mapping[fx.Node, Action]) -> Iterator[Follow]:
    """Operands as they are, where no weight sees what is acted on; then one after another made to follow."""
    operator = operator_of(node.target)
    if operator is None:
        return
    first = node.args[0]
    moving = acting.get(first) if isinstance(first, fx.Node) else None
    own = [one for one in node.all_input_nodes if one.op == "get_attr" and len(one.users) == 1]
    name = operator.name
    if name in GROUPED and moving is not None and moving.part(moving.rank + GROUPED[name][0]) is not None:
        if name != "linear" and node.args[6] != 1:
            yield from _in_groups(work, node, moving, own)
        elif name in LAYERS:
            yield from _absorbed(work, node, moving, own)
        return
    yield Follow()
    if name in CHANNELS | LAST and moving is not None:
        yield from _numbers(work, name, moving, own)
    elif name == "attention":
        yield from _mask(work, node, acting, own)
    elif name in GATES and moving is not None:
        yield from _features(work, node, moving, own)
    elif operator.elementwise or name in BROADCAST:
        yield from _constants(work, node, acting, own)
    if operator.elementwise or name in ("concat", "stack"):
        yield from _last_layers(work, node, acting)


def _absorbed(work: Workspace, node: fx.Node, moving: Action, own: Sequence[fx.Node]) -> Iterator[Follow]:
    """Channels that a layer reads, taken into its weight: W'·x = W·(ρ·x)."""
    source, weight = node.args[0], node.args[1]
    operator = operator_of(node.target)
    assert operator is not None and isinstance(source, fx.Node) and isinstance(weight, fx.Node)
    axis, seen = LAYERS[operator.name]
    if weight not in own:
        return
    element = moving.part(moving.rank + axis)
    values = inner(work.evaluate(weight), element, seen)
    rest = action(moving.rank, {a: e for a, e in moving.parts if a != moving.rank + axis})
    yield Follow({weight: _constant(work, weight, values)}, {source: rest})


def _in_groups(work: Workspace, node: fx.Node, moving: Action, own: Sequence[fx.Node]) -> Iterator[Follow]:
    """Channels whose order keeps groups together: the groups of the result are in that order, too."""
    source, weight, bias, *_, groups = node.args[:7]
    operator = operator_of(node.target)
    assert operator is not None and isinstance(source, fx.Node) and isinstance(groups, int)
    axis, seen = GROUPED[operator.name]
    element = moving.part(moving.rank + axis)
    read = [one for one in (weight, bias) if isinstance(one, fx.Node)]
    if element is None or not permutes(element) or any(one not in own for one in read):
        return
    order = torch.tensor(element.places)
    if not keeps_groups(order, groups):
        return
    outputs = node.meta["val"].shape[axis]
    blocks = order.reshape(groups, -1)[:, 0] // (len(order) // groups)
    written = (blocks[:, None] * (outputs // groups) + torch.arange(outputs // groups)).flatten()
    old = work.evaluate(read[0])
    rows = old.unflatten(0, (groups, -1)).transpose(1, 1 + seen)  # [group, channel, output, …]
    rows = rows.flatten(0, 1)[order.argsort()].unflatten(0, (groups, -1))
    values = {read[0]: rows.transpose(1, 1 + seen).flatten(0, 1)}
    values.update({one: work.evaluate(one)[written.argsort()] for one in read[1:]})
    rest = action(moving.rank, {a: e for a, e in moving.parts if a != moving.rank + axis})
    after = action(moving.rank, {moving.rank + axis: along(Permutation(tuple(written.tolist())))})
    constants = {one: _constant(work, one, made) for one, made in values.items()}
    yield Follow(constants, {source: rest}, after=after)


def _numbers(work: Workspace, name: str, moving: Action, own: Sequence[fx.Node]) -> Iterator[Follow]:
    """Numbers of a normalisation: for each channel, or for each of the last axes."""
    values = {}
    for one in own:
        old = work.evaluate(one)
        first = 1 if name in CHANNELS else moving.rank - old.ndim
        parts = {axis: e for axis in range(old.ndim) if (e := moving.part(axis + first)) is not None}
        if old.numel() > 1 and parts and all(permutes(e) for e in parts.values()):
            values[one] = _back(work, one, old, parts)
    if values:
        yield Follow(values, alike=frozenset(values))


def _constants(
    work: Workspace, node: fx.Node, acting: Mapping[fx.Node, Action], own: Sequence[fx.Node]
) -> Iterator[Follow]:
    """Constants that are broadcast to the same shape as what is acted on, axes aligned from the last."""
    rank = node.meta["val"].ndim
    total: dict[int, Along] = {}
    for moving in acting.values():
        total.update({axis + rank - moving.rank: element for axis, element in moving.parts})
    yield from _aligned(work, rank, total, own)


def _aligned(
    work: Workspace, rank: int, total: Mapping[int, Along], own: Sequence[fx.Node]
) -> Iterator[Follow]:
    values, moves = {}, {}
    for one in own:
        old = work.evaluate(one)
        parts = {
            axis: element
            for axis in range(old.ndim)
            if (element := total.get(axis + rank - old.ndim)) is not None and element.size == old.shape[axis]
        }
        if parts and (old.is_floating_point() or all(permutes(e) for e in parts.values())):
            values[one] = _back(work, one, old, parts)
            moves[one] = action(old.ndim, parts)
    if values:
        yield Follow(values, moves)


def _mask(
    work: Workspace, node: fx.Node, acting: Mapping[fx.Node, Action], own: Sequence[fx.Node]
) -> Iterator[Follow]:
    """A mask [..., queries, keys]: queries and what is before them as the queries, keys as the keys."""
    query, key, *others = node.args
    mask = others[1] if len(others) > 1 else None
    if not isinstance(mask, fx.Node) or mask not in own:
        return
    rank = node.meta["val"].ndim
    total: dict[int, Along] = {}
    if isinstance(query, fx.Node) and query in acting:
        total.update({axis: element for axis, element in acting[query].parts if axis != rank - 1})
    if isinstance(key, fx.Node) and key in acting:
        tokens = acting[key].part(acting[key].rank - 2)
        total.update({} if tokens is None else {rank - 1: tokens})
    yield from _aligned(work, rank, total, [mask])


def _features(work: Workspace, node: fx.Node, moving: Action, own: Sequence[fx.Node]) -> Iterator[Follow]:
    """Features that a recurrent layer reads, taken into its first weights."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    element, size = moving.part(moving.rank - 1), source.meta["val"].shape[-1]
    if element is None:
        return
    lists = [one for one in node.args if isinstance(one, list | tuple)]
    read: list[fx.Node] = [one for some in lists for one in some if isinstance(one, fx.Node)]
    weights = [one for one in read if one.op == "get_attr" and one.meta["val"].ndim == 2]
    both = node.args[-2] is True  # directions
    readers = weights[: 4 if both else 2 : 2]
    shapes = {tuple(one.meta["val"].shape) for one in readers}
    if len(shapes) != 1 or any(one not in own for one in readers) or readers[0].meta["val"].shape[1] != size:
        return
    values = {one: _constant(work, one, inner(work.evaluate(one), element, 1)) for one in readers}
    rest = action(moving.rank, {a: e for a, e in moving.parts if a != moving.rank - 1})
    yield Follow(values, {source: rest})


def _last_layers(work: Workspace, node: fx.Node, acting: Mapping[fx.Node, Action]) -> Iterator[Follow]:
    """Operands that are not acted on and come from a layer, which gives them acted on as the others are."""
    moving = next(iter(acting.values()))
    values, moves, layers = {}, {}, []
    for one in node.all_input_nodes:
        if one in acting or one.op != "call_function" or len(one.users) > 1:
            continue
        if not isinstance(one.meta.get("val"), Tensor) or one.meta["val"].ndim != moving.rank:
            continue
        made = _from_layer(work, one, moving)
        if made is None:
            return
        values[one], moves[one] = made[0], moving
        layers += made[1]
    if values:
        yield Follow(values, moves, layers=tuple(layers))


def _from_layer(work: Workspace, node: fx.Node, moving: Action) -> tuple[Any, list[fx.Node]] | None:
    """A value as it was before it was acted on along the channels of the layer that it comes from."""
    operator = operator_of(node.target)
    if operator is None or len(node.users) > 1:
        return None
    if operator.name in LAYERS:
        axis = LAYERS[operator.name][0]
        weight, bias, *others = node.args[1:]
        read = [one for one in (weight, bias) if one is not None]
        if moving.parts[0][0] != moving.rank + axis or len(moving.parts) > 1 or moving.reorders:
            return None
        if operator.name != "linear" and others[-1] != 1:
            return None
        if any(not isinstance(w, fx.Node) or w.op != "get_attr" or len(w.users) > 1 for w in read):
            return None
        part = {0: moving.parts[0][1]}
        if work.val(weight).shape[0] != part[0].size:
            return None
        made = {w: _back(work, w, work.evaluate(w), part) for w in read if isinstance(w, fx.Node)}
        instead: dict[fx.Node, Any] = dict(made)
        args = fx.node.map_arg(node.args, lambda one: instead.get(one, one))
        return Staged(node.target, tuple(args), dict(node.kwargs)), [node]
    before = _before(operator, node, moving)
    if before is None or len(node.all_input_nodes) != 1:
        return None
    below = _from_layer(work, node.all_input_nodes[0], before)
    if below is None:
        return None
    args = fx.node.map_arg(node.args, lambda one: below[0])
    return Staged(node.target, tuple(args), dict(node.kwargs)), [node, *below[1]]


def _before(operator: Operator, node: fx.Node, moving: Action) -> Action | None:
    """What acts on the operand, where `moving` acts on the result; `None` where that is not known."""
    where: dict[int, int]  # axis of the result → axis of the operand
    axes: Any = node.args[1] if len(node.args) > 1 else None
    if operator.pointwise and moving.permutes:
        where = {axis: axis for axis in range(moving.rank)}
    elif operator.name == "permute":
        where = {place: axis % moving.rank for place, axis in enumerate(axes)}
    elif operator.name == "unsqueeze":
        at = axes % moving.rank
        where = {axis: axis - (axis > at) for axis in range(moving.rank) if axis != at}
    else:
        return None
    if moving.reorders or any(axis not in where for axis, _ in moving.parts):
        return None
    return action(len(where), {where[axis]: element for axis, element in moving.parts})


def _back(work: Workspace, node: fx.Node, values: Tensor, parts: Mapping[int, Along]) -> Constant:
    """The constant as it was before it was acted on."""
    for axis, element in parts.items():
        values = apply_along(inverse(element), values, axis)
    return _constant(work, node, values)


def _constant(work: Workspace, node: fx.Node, values: Tensor) -> Constant:
    return Constant(values, work.tensor(node).dtype, origin=node)


__all__ = ["Follow", "followers"]
