"""A value with fewer of its hidden units, made by narrower weights: what `narrowed(c, P)` stands for.

P·c along the last axis is a selection, which could be carried out where c is read. Where the units are hidden
(`tdsl.symmetry.hidden`: heads of attention, in one weight or several, with shared keys, rotations and masks
between), and each is computed by itself up to there, what makes the others can be left out instead.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx

from tdsl.engine.frame import Variant
from tdsl.engine.sizes import value_of
from tdsl.engine.staged import CannotStage, Constant, Staged, map_values
from tdsl.engine.workspace import Workspace
from tdsl.ops.spec import Operator
from tdsl.ops.targets import operator_of
from tdsl.symmetry.hidden.infer import Inference, infer
from tdsl.symmetry.hidden.layout import (
    Atom,
    Axes,
    Choice,
    Layout,
    atoms_in,
    factors,
    selectors_in,
    size_in,
    terms,
)
from tdsl.symmetry.hidden.roles import argument
from tdsl.symmetry.hidden.units import places_in

_CUTS = frozenset(["select", "unbind", "slice"])
_MOVES = _CUTS | {"reshape", "permute", "expand", "squeeze", "unsqueeze", "contiguous", "detach", "dropout"}
_MOVES |= {"concat", "stack", "split"}
"""Moves of elements that are followed along an axis which gets shorter."""
_NORMALISED = frozenset(["layer_norm", "rms_norm"])


@dataclass(frozen=True, eq=False)
class Units:
    """The hidden units along the last axis of a value, and the operators that make them and nothing else."""

    atom: int
    count: int
    width: int
    """Neighbouring numbers of the last axis that belong to one unit."""
    inference: Inference
    nodes: tuple[fx.Node, ...]
    """The operators that have the units, in graph order."""
    weights: tuple[fx.Node, ...]
    """The weights that have them, but for the one that reads the value."""
    reader: fx.Node


def units_of(value: Any, work: Workspace) -> Units:
    """The outermost hidden units along the last axis of a node that one operator reads.

    Raises `CannotStage` with the operator that is in the way: it sees several units at once, or reads them
    beside that one, or tells them apart.
    """
    if not isinstance(value, fx.Node) or not work.typed:
        raise CannotStage("hidden units are those of a value of the model")
    if len(value.users) != 1:
        raise CannotStage(f"{value.name} has another reader")
    inference = _inference(work)
    axes = inference.axes(value)
    parts = [part for part in factors(axes[-1]) if inference.system.size(part) > 1] if axes else []
    if not parts or not isinstance(parts[0], Atom):
        raise CannotStage(f"the last axis of {value.name} has no units that are alike")
    atom = parts[0].number
    pin = inference.system.pin_of(atom)
    if pin is not None:
        raise CannotStage(f"the units of {value.name} are told apart: {pin}")
    if any(inference.system.size(Atom(number)) > 1 for number in inference.system.over(atom)):
        raise CannotStage(f"the units of {value.name} belong to blocks")
    (reader,) = value.users
    having = [node for node in inference.module.graph.nodes if _has(inference, node, atom)]
    found = Units(
        atom,
        inference.system.size(parts[0]),
        prod(map(inference.system.size, parts[1:])),
        inference,
        tuple(node for node in having if node.op != "get_attr"),
        tuple(node for node in having if node.op == "get_attr" and reader not in node.users),
        reader,
    )
    for node in found.nodes:
        _require_apart(found, node)
    _require_alone(found, value)
    return found


def narrowed(value: fx.Node, kept: Tensor, work: Workspace) -> tuple[Staged, Units]:
    """The value with the units that `kept` [k, e] selects, and what makes all of them now.

    Raises `CannotStage` where these are no whole units, and as `units_of` does.
    """
    units = units_of(value, work)
    rows = kept.argmax(1).reshape(-1, units.width) if len(kept) % units.width == 0 else None
    if rows is None or bool(
        (rows != rows[:, :1] + torch.arange(units.width)).any() | (rows[:, 0] % units.width).any()
    ):
        raise CannotStage(f"units of {units.width} numbers cannot be cut")
    chosen = [int(row) // units.width for row in rows[:, 0]]
    return _Narrower(units, work, chosen).term(value), units


def replaced_beside(variant: Variant, env: Mapping[str, Any], work: Workspace) -> list[fx.Node]:
    """The operators that a match of a rule replaces beside those that its left side says."""
    found: list[fx.Node] = []
    for name in variant.narrows:
        with contextlib.suppress(CannotStage):
            found += units_of(env.get(name), work).nodes
    return found


class _Narrower:
    """Builds the operators of some units anew, for those of them that are chosen."""

    def __init__(self, units: Units, work: Workspace, chosen: list[int]) -> None:
        self.units = units
        self.work = work
        self.chosen = chosen
        found = {
            n
            for node in (*units.nodes, *units.weights)
            for axes in _values(units.inference, node)
            for n in _atoms(axes)
        }
        self.before = {n: units.inference.system.size(Atom(n)) for n in found}
        self.after = {**self.before, units.atom: len(chosen)}
        self._made: dict[fx.Node, Any] = {weight: self._weight(weight) for weight in units.weights}
        for node in units.nodes:
            args, kwargs = self._arguments(node)
            self._made[node] = Staged(node.target, *map_values((args, kwargs), self._replaced))

    def term(self, node: fx.Node) -> Staged:
        """What takes the place of one of the operators."""
        made: Staged = self._made[node]
        return made

    def _replaced(self, value: Any) -> Any:
        return self._made.get(value, value) if isinstance(value, fx.Node) else value

    def _weight(self, weight: fx.Node) -> Constant:
        values = self.work.evaluate(weight)
        for axis, layout in enumerate(self.units.inference.axes(weight)):
            if self.units.atom in set(atoms_in(layout)):
                places = torch.from_numpy(places_in(layout, self.units.atom, self.before))
                stays = torch.ones(values.shape[axis], dtype=torch.bool)
                stays[places.reshape(-1)] = False
                stays[places[self.chosen].reshape(-1)] = True
                values = values.index_select(axis, stays.nonzero()[:, 0])
        return Constant(values, self.work.tensor(weight).dtype, "narrowed", weight)

    def _arguments(self, node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of an operator, sizes that are written out those of the units that are chosen."""
        op = operator_of(node.target)
        assert op is not None
        given = {param.name: argument(node, op, param.name) for param in op.params}
        written: dict[str, Any] = {}
        if op.name in ("reshape", "expand"):
            written["shape"] = self._sizes(given["shape"], self.units.inference.axes(node))
        elif op.name == "split":
            parts = _values(self.units.inference, node)
            along = [axes[given["dim"] % len(axes)] for axes in parts]
            written["sizes"] = self._sizes(given["sizes"], along)
        elif op.name == "slice" and isinstance(given["x"], fx.Node):
            axes = self.units.inference.axes(given["x"])
            layout = axes[given["dim"] % len(axes)]
            if self.units.atom in set(atoms_in(layout)):
                written |= {end: self._boundary(given[end], layout) for end in ("start", "end")}
        args = tuple(written.get(p.name, a) for p, a in zip(op.params, node.args, strict=False))
        kwargs = {name: written.get(name, value) for name, value in node.kwargs.items()}
        return args, kwargs

    def _sizes(self, sizes: Any, layouts: Any) -> list[Any]:
        found = []
        for size, layout in zip(sizes, layouts, strict=True):
            if self.units.atom not in set(atoms_in(layout)) or size == -1:
                found.append(size)
            elif isinstance(size, int):
                found.append(size_in(layout, self.after))
            else:
                found.append(value_of(size) // self.units.count * len(self.chosen))
        return found

    def _boundary(self, place: Any, layout: Layout) -> Any:
        """Where a cut between two parts of an axis comes to be."""
        before = after = 0
        for part in (*terms(layout), None):
            if place == before:
                return after
            if part is not None:
                before, after = before + size_in(part, self.before), after + size_in(part, self.after)
        if not isinstance(place, int) or place > before:
            return place  # beyond the end, wherever that is
        raise CannotStage("a slice cuts through the units")


# ---------------------------------------------------------------- what keeps units together


def _require_alone(units: Units, value: fx.Node) -> None:
    """Raise `CannotStage` where something beside the reader of the value has to do with the units."""
    inside = {*units.nodes, *units.weights}
    if units.reader in inside:
        raise CannotStage(f"{units.reader.name} has the units that it reads")
    for node in (*units.nodes, *units.weights):
        for user in node.users:
            if user not in inside and (user is not units.reader or node is not value):
                raise CannotStage(f"{user.name} reads {node.name}, which has the units, too")


def _require_apart(units: Units, node: fx.Node) -> None:
    """Raise `CannotStage` unless an operator computes each unit from nothing but that unit."""
    op = operator_of(node.target)
    if op is None or not _evenly(units, node) or not _apart(units, node, op):
        raise CannotStage(f"{op.name if op else node.target} at {node.name} may see several units at once")


def _evenly(units: Units, node: fx.Node) -> bool:
    """Whether axes that are others at each index of a second axis (stacked queries, keys and values) stay as
    long as one another, in values; in a weight such an axis is not followed.
    """
    inference, atom = units.inference, units.atom
    for one in (node, *node.all_input_nodes):
        for layout in (layout for axes in _values(inference, one) for layout in axes):
            if atom not in set(_atoms((layout,))) or not selectors_in(layout):
                continue
            sizes = {n: 1 if n == atom else inference.system.size(Atom(n)) for n in _atoms((layout,))}
            cases = [layout.parts] if isinstance(layout, Choice) else []
            lengths = {size_in(part, sizes) for parts in cases for part in parts}
            if one.op == "get_attr" or atom in selectors_in(layout) or len(lengths) != 1:
                return False
    return True


def _apart(units: Units, node: fx.Node, op: Operator) -> bool:
    def inside(name: str) -> set[int]:
        """The axes, from behind, of an operand that have the units."""
        return _places(units, argument(node, op, name))

    outside = _places(units, node)
    if op.name == "getitem" or op.pointwise or op.elementwise:
        return True
    if op.name in _MOVES:
        if op.name not in _CUTS:
            return True
        rank = len(units.inference.axes(node.args[0]))  # type: ignore[arg-type]
        return op.name == "slice" or argument(node, op, "dim") % rank - rank not in inside("x")
    if op.name in ("softmax", "log_softmax"):
        rank = len(units.inference.axes(node))
        return argument(node, op, "dim") % rank - rank not in outside
    if op.name in _NORMALISED:
        normalised = len(argument(node, op, "shape"))
        return all(axis < -normalised for axis in outside | inside("x"))
    if op.name == "linear":
        return not inside("x") & {-1} and (outside != {-1} or inside("weight") == {-2})
    if op.name == "matmul":
        return not inside("x") & {-1} and not inside("y") & {-2}
    if op.name == "attention":
        operands = [inside(name) for name in ("query", "key", "value", "mask")] + [outside]
        return all(axis < -2 for axes in operands for axis in axes)
    if op.reduces:
        dims, rank = argument(node, op, "dim"), len(units.inference.axes(node.args[0]))  # type: ignore[arg-type]
        named = [dims] if isinstance(dims, int) else dims
        return bool(named) and not {dim % rank - rank for dim in named} & inside("x")
    return False


def _places(units: Units, value: Any) -> set[int]:
    """The axes of an operand, counted from behind, that have the units."""
    if not isinstance(value, fx.Node):
        return set()
    return {
        i - len(axes)
        for axes in _values(units.inference, value)
        for i, layout in enumerate(axes)
        if units.atom in set(atoms_in(layout))
    }


# ---------------------------------------------------------------- the axes of a graph

_KNOWN: weakref.WeakKeyDictionary[Workspace, tuple[list[Any], Inference]] = weakref.WeakKeyDictionary()


def _inference(work: Workspace) -> Inference:
    """What the axes of the graph are made of, as it is now."""
    state = [part for node in work.module.graph.nodes for part in (node, node.args, node.kwargs)]
    known = _KNOWN.get(work)
    if (
        known is None
        or len(known[0]) != len(state)
        or any(a is not b for a, b in zip(known[0], state, strict=True))
    ):
        known = _KNOWN[work] = state, infer(work.module)
    return known[1]


def _values(inference: Inference, node: fx.Node) -> list[Axes]:
    """The axes of every tensor that a node is."""
    value = inference.values.get(node)
    listed = [value] if isinstance(value, tuple) else value or []
    return [tuple(map(inference.system.resolve, axes)) for axes in listed]


def _atoms(axes: Axes) -> Iterator[int]:
    for layout in axes:
        yield from atoms_in(layout)
        yield from selectors_in(layout)


def _has(inference: Inference, node: fx.Node, atom: int) -> bool:
    return any(atom in set(_atoms(axes)) for axes in _values(inference, node))
