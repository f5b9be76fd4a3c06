"""The steps of a loop that tracing unrolled, as one term with the steps along a new first axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from tdsl.passes.layout.scan import Recurrence
from torch import Tensor, fx

from tdsl.engine.sizes import same, same_shape
from tdsl.engine.stage import stage
from tdsl.engine.staged import Staged, Value
from tdsl.engine.workspace import Workspace
from tdsl.ops import OPERATORS, Operator
from tdsl.ops.targets import operator_of

ZEROS = ("zeros", "zeros_like", "new_zeros")
FIRST_ONLY = ("linear", "layer_norm", "softmax", "log_softmax", "unsqueeze", "squeeze", "sum", "mean", "amax")
"""Operators of which the first operand may differ from step to step, and which count axes from the last."""


class NotAlikeError(Exception):
    """The steps do not do the same."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Values of which each is computed from the one before, and all of them with the steps in front."""

    nodes: tuple[fx.Node, ...]
    value: Any


class Lifter:
    """What a graph computes step by step, computed for all steps together."""

    def __init__(self, work: Workspace) -> None:
        self.work = work
        self.chains: list[Chain] = []
        self._known: dict[tuple[Any, ...], Any] = {}
        self._open: set[Any] = set()

    def lifted(self, steps: Sequence[Any]) -> Any:
        """The values of all steps in one tensor, [steps, …]. Raises `NotAlikeError`."""
        key = tuple(steps)
        if key not in self._known:
            if len(key) < 2 or not self._open.isdisjoint(key):  # a step of the loop needs what it computes
                raise NotAlikeError
            self._open.update(key)
            try:
                self._known[key] = self._lifted(key)
            finally:
                self._open.difference_update(key)
        return self._known[key]

    def _lifted(self, steps: tuple[Any, ...]) -> Any:
        if not all(isinstance(node, fx.Node) and isinstance(node.meta.get("val"), Tensor) for node in steps):
            raise NotAlikeError
        taken = self._taken(steps)
        if taken is not None:
            return taken
        ops = {node.target for node in steps if node.op == "call_function"}
        if self._follows(steps[1], steps[0]) is not None:
            return self._chain(steps)
        op = operator_of(steps[0].target) if steps[0].op == "call_function" else None
        if len(ops) != 1 or op is None or op.random or any(node.op != "call_function" for node in steps):
            raise NotAlikeError
        return self._same_call(steps, op)

    def call(self, name: str, **arguments: Any) -> Any:
        """An operator on staged values."""
        return stage(self.work, OPERATORS[name], arguments)

    # ------------------------------------------------------------ slices of one value

    def _taken(self, steps: tuple[fx.Node, ...]) -> Any:
        """The value that the steps are taken from along some axis, one after the other, or `None`."""
        places = [_place(node) for node in steps]
        if any(place is None for place in places):
            return None
        source, axis, first = places[0]  # type: ignore[misc]
        if any(place != (source, axis, first + t) for t, place in enumerate(places)):
            return None
        shape = source.meta["val"].shape
        value: Any = source
        axis %= len(shape)
        if not same(len(steps), shape[axis]):
            value = self.call("slice", x=value, dim=axis - len(shape), start=first, end=first + len(steps))
        if axis == 0:
            return value
        dims = [axis, *(i for i in range(len(shape)) if i != axis)]
        return self.call("permute", x=value, dims=dims)

    # ------------------------------------------------------------ one operator for all steps

    def _same_call(self, steps: tuple[fx.Node, ...], op: Operator) -> Any:
        first = steps[0]
        if any(node.kwargs != first.kwargs or len(node.args) != len(first.args) for node in steps):
            raise NotAlikeError
        columns = list(zip(*(node.args for node in steps), strict=True))
        varying = [i for i, column in enumerate(columns) if not self._constant(column)]
        if not varying or not self._allows(op, first, varying):
            raise NotAlikeError
        rank = first.meta["val"].ndim
        args: list[Any] = [column[0] for column in columns]
        for i in varying:
            args[i] = self.lifted(columns[i])
            if op.pointwise or op.elementwise:
                args[i] = self.aligned(args[i], rank)
        if op.name == "reshape":
            args[1] = [len(steps), *args[1]]
        return Staged(first.target, tuple(args), dict(first.kwargs))

    def _constant(self, column: Sequence[Any]) -> bool:
        """Whether an argument is the same at all steps; rewrites may have left a copy of a weight each."""
        first = column[0]
        if all(one == first for one in column):
            return True
        if not all(isinstance(one, fx.Node) and one.op == "get_attr" for one in column):
            return False
        value = self.work.tensor(first)
        return all(torch.equal(value, self.work.tensor(one)) for one in column)

    @staticmethod
    def _allows(op: Operator, node: fx.Node, varying: list[int]) -> bool:
        """Whether a new first axis of the operands that vary is one of the result."""
        if op.pointwise or op.elementwise:
            return True
        if varying != [0]:
            return False
        if op.name == "matmul":
            right = node.args[1]
            return isinstance(right, fx.Node) and right.meta["val"].ndim == 2
        if op.name in ("sum", "mean", "amax"):
            return isinstance(node.args[1], list | tuple | int) and node.args[1] != []
        return op.name in FIRST_ONLY or op.name == "reshape"

    def aligned(self, value: Any, rank: int) -> Any:
        """[steps, …] with axes of size 1 behind the first one, so that `rank` axes follow it."""
        shape = list(self.shape(value))
        missing = rank + 1 - len(shape)
        if missing <= 0:
            return value
        return self.call("reshape", x=value, shape=[shape[0], *[1] * missing, *shape[1:]])

    def shape(self, value: Any) -> Sequence[Any]:
        """The sizes of a value."""
        described = self.work.val(value) if isinstance(value, Value) else None
        assert isinstance(described, Tensor)
        return described.shape

    # ------------------------------------------------------------ each step from the one before

    def _chain(self, steps: tuple[fx.Node, ...]) -> Any:
        """Values h_t = a_t · h_{t-1} + b_t of all steps."""
        links = [self._follows(node, before) for before, node in pairwise(steps)]
        if any(link is None or link.path != links[0].path for link in links):
            raise NotAlikeError
        start = _link(steps[0], links[0].path) if links[0] is not None else None
        shape = steps[0].meta["val"].shape
        if not all(same_shape(node.meta["val"].shape, shape) for node in steps):
            raise NotAlikeError
        whole = [start, *links] if start is not None and self._may_start(start, shape) else links
        try:
            value = self._solved(steps, whole, start.before if whole is not links and start else steps[0])
        except NotAlikeError:
            if whole is links:
                raise
            value = self._solved(steps, links, steps[0])
        self.chains.append(Chain(steps, value))
        return value

    def _may_start(self, start: Any, shape: Any) -> bool:
        """Whether what a first step goes on from is a state like the others."""
        before = start.before
        return _is_zero(self.work, before) or (
            isinstance(before, fx.Node)
            and same_shape(before.meta["val"].shape, shape)
            and start.factor is not before
        )

    def _solved(self, steps: tuple[fx.Node, ...], links: Sequence[Any], before: Any) -> Any:
        """The chain from the state before the first link on, which is one of the steps or comes before."""
        rank = steps[0].meta["val"].ndim
        factors = [link.factor for link in links]
        steady = self._constant(factors)
        added = self.aligned(self.lifted([link.added for link in links]), rank)
        factor = factors[0] if steady else self.aligned(self.lifted(factors), rank)
        shape = [len(links), *steps[0].meta["val"].shape]
        if not same_shape(self.shape(added), shape):
            added = self.call("expand", x=added, shape=shape)
        inside = len(links) < len(steps)
        start = None if _is_zero(self.work, before) and not inside else before
        return Recurrence(self.work, factor, steady, added, start, inside).values()

    def _follows(self, node: Any, before: Any) -> Any:
        """How a value is computed from the one before: the link whose state that is, or `None`."""
        for path in _PATHS:
            link = _link(node, path)
            if link is not None and link.before is before:
                return link
        return None


@dataclass(frozen=True, slots=True)
class _Link:
    """factor · before + added."""

    factor: Any
    before: Any
    added: Any
    path: tuple[int, int | None]
    """Which operand of the sum the product is, and which of that the state; `None` without product."""


_PATHS: tuple[tuple[int, int | None], ...] = ((0, 1), (0, 0), (1, 1), (1, 0), (0, None), (1, None))


def _link(node: Any, path: tuple[int, int | None]) -> _Link | None:
    """A sum read along a path; `None` where there is no such sum."""
    if _name(node) != "add" or node.kwargs or len(node.args) < 2 or node.args[2:] not in ((), (1,)):
        return None
    place, inner = path
    part, added = node.args[place], node.args[1 - place]
    if inner is None:
        return _Link(1.0, part, added, path)
    if _name(part) != "mul" or part.kwargs:
        return None
    return _Link(part.args[1 - inner], part.args[inner], added, path)


def _place(node: fx.Node) -> tuple[fx.Node, int, int] | None:
    """What a value is a slice of: source, axis (from the last), position."""
    if _name(node) == "select":
        source, axis, index = node.args[:3]
    elif _name(node) == "getitem" and _name(node.args[0]) == "unbind":
        source, axis = node.args[0].args[:2]  # type: ignore[union-attr]
        index = node.args[1]
    else:
        return None
    if not isinstance(source, fx.Node) or not isinstance(axis, int) or not isinstance(index, int):
        return None
    size = source.meta["val"].shape[axis]
    return (source, axis, index) if isinstance(size, int) and 0 <= index < size else None


def _is_zero(work: Workspace, value: Any) -> bool:
    if _name(value) in ZEROS:
        return True
    return isinstance(value, fx.Node) and value.op == "get_attr" and not bool(work.tensor(value).any())


def _name(node: Any) -> str:
    op = operator_of(node.target) if isinstance(node, fx.Node) and node.op == "call_function" else None
    return op.name if op is not None else ""


def stacked(root: fx.Node) -> tuple[tuple[Any, ...], int] | None:
    """The values that a node puts side by side along a new axis, and that axis from the last."""
    name = _name(root)
    if name not in ("stack", "concat") or not isinstance(root.args[0], list | tuple):
        return None
    parts, axis = tuple(root.args[0]), root.args[1] if len(root.args) > 1 else 0
    rank = root.meta["val"].ndim
    axis = axis if axis < 0 else axis - rank  # type: ignore[operator]
    if name == "stack":
        return parts, axis  # type: ignore[return-value]
    if not all(_name(part) == "unsqueeze" and part.args[1] in (axis, axis + rank) for part in parts):
        return None
    return tuple(part.args[0] for part in parts), axis  # type: ignore[return-value]
