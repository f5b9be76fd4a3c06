"""Which values of a graph are bilinear in two others, for every element of a batch alike, and by what tensor.

Two values and the number of their leading axes are given. From there on every operator is evaluated on all
pairs of basis vectors at once, in float64: a value is known as its coefficients [a, b, *features], where the
axes of the batch have made room for a basis of the first value and one of the second, of size 1 for what does
not depend on them. An operator that would look into the batch, or add what is not of one kind, gives nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from tdsl.engine.staged import CannotStage
from tdsl.engine.workspace import Workspace
from tdsl.ops.targets import operator_of

LARGEST = 2**22
"""Coefficients of one value, at most."""
FIRST, SECOND = 1, 2
"""Kinds of values, as bits: linear in the first or the second, bilinear with both, constant with none."""

MOVES = frozenset(
    ("slice", "select", "split", "unbind", "getitem", "reshape", "permute", "unsqueeze", "squeeze", "expand")
)
"""Operators that leave every number as it is."""
_SUMS = frozenset({"add", "sub", "concat", "stack"})
_PRODUCTS = frozenset({"mul", "matmul", "einsum", "linear"})
_OTHERS = frozenset({"neg", "sum", "div"})


@dataclass(frozen=True, slots=True)
class Form:
    """Coefficients of a value: a constant's are its own shape, others' [a or 1, b or 1, *features]."""

    values: Any
    """A tensor, or a tuple of them for an operator of several results."""
    kind: int


class Forms:
    """The forms of values that depend on two given ones and on constants alone, computed when asked for."""

    def __init__(self, work: Workspace, first: fx.Node, second: fx.Node, leading: int) -> None:
        self.work = work
        self.leading = leading
        self.batch = tuple(first.meta["val"].shape[:leading])
        self.known: dict[fx.Node, Form | None] = {}
        for node, kind in ((first, FIRST), (second, SECOND)):
            sizes = node.meta["val"].shape[leading:]
            count = math.prod(sizes)
            basis = torch.eye(count, dtype=torch.float64).reshape(count, *sizes)
            self.known[node] = Form(basis.unsqueeze(1 if kind == FIRST else 0), kind)

    def of(self, node: fx.Node) -> Form | None:
        """The form of a value whose operands were asked for before it."""
        if node not in self.known:
            try:
                self.known[node] = self._computed(node)
            except (RuntimeError, IndexError, ValueError, TypeError, CannotStage):
                self.known[node] = None  # the operator is not one of the last axes alone
        return self.known[node]

    def _computed(self, node: fx.Node) -> Form | None:
        if node.op == "get_attr":
            return Form(self.work.evaluate(node), 0)
        operator = operator_of(node.target) if node.op == "call_function" else None
        name = operator.name if operator is not None else ""
        if name not in MOVES | _SUMS | _PRODUCTS | _OTHERS or node.kwargs:
            return None
        operands = [self.of(part) for part in node.all_input_nodes]
        kinds = [form.kind for form in operands if form is not None]
        if len(kinds) < len(operands) or not operands:
            return None
        if not any(kinds):
            return Form(_call(node, self._substituted(node.args)), 0)
        kind = _kind(name, [self._kind_of(part) for part in _places(node)])
        if kind is None or not self._keeps_batch(node, name):
            return None
        values = _call(node, self._arguments(node, name))
        return Form(values, kind) if self._fits(node, values) else None

    def _kind_of(self, part: Any) -> int:
        """The kind of an operand; a number is a constant."""
        form = self.known.get(part) if isinstance(part, fx.Node) else None
        return 0 if form is None else form.kind

    def _keeps_batch(self, node: fx.Node, name: str) -> bool:
        """Whether an operator that aligns its operands by their last axes leaves the batch alone."""
        varying = [part for part in _places(node) if self._kind_of(part)]
        ranks = {part.meta["val"].ndim for part in varying if isinstance(part.meta.get("val"), Tensor)}
        if name == "einsum":
            return self._is_over_features(node)
        if name == "linear":
            return varying == [node.args[0]] and (len(node.args) < 3 or node.args[2] is None)
        if name == "div" and self._kind_of(node.args[1]):
            return False
        if name == "expand":
            return ranks == {node.meta["val"].ndim}
        if name not in ("mul", "div", "add", "sub", "matmul"):
            return True
        features = max(ranks) - self.leading
        constants = [self.known[part] for part in _places(node) if not self._kind_of(part)]
        reach = max(features, 2) if name == "matmul" else features  # a matrix multiplies every row alike
        within = all(form is not None and _without_batch(form.values).ndim <= reach for form in constants)
        least = 2 if name == "matmul" and (len(varying) == 2 or varying[0] is node.args[1]) else 0
        return len(ranks) == 1 and within and features >= least + (name == "matmul" and not least)

    def _is_over_features(self, node: fx.Node) -> bool:
        """Whether the leading axes of an einsum's operands, and of its result, are the batch and no more."""
        left, _, right = str(node.args[0]).partition("->")
        for term, part in zip(left.split(","), _places(node), strict=True):
            dotted, axes = term.startswith("..."), part.meta["val"].ndim
            if dotted != bool(self._kind_of(part)) or (dotted and axes != self.leading + len(term) - 3):
                return False
        return right.startswith("...")

    def _arguments(self, node: fx.Node, name: str) -> list[Any]:
        """The arguments: coefficients for values, attributes for two leading axes in place of the batch's."""
        room = self.leading
        args: list[Any] = self._substituted(node.args)
        if name in ("mul", "div"):
            args[:2] = [
                _without_batch(value) if isinstance(value, Tensor) and not self._kind_of(part) else value
                for value, part in zip(args[:2], node.args[:2], strict=True)
            ]
        if name in ("reshape", "expand"):
            sizes = list(node.meta["val"].shape)
            if any(a is not b and a != b for a, b in zip(sizes[:room], self.batch, strict=False)):
                raise CannotStage("the batch has another shape")
            args[1] = [*args[0].shape[:2], *sizes[room:]]
        elif name == "permute":
            if list(args[1][:room]) != list(range(room)):
                raise CannotStage("axes of the batch move")
            args[1] = [0, 1, *(axis - room + 2 for axis in args[1][room:])]
        elif name in ("concat", "stack"):
            args[0] = _spread(args[0])
        for position, argument in enumerate(args):
            if operator_of(node.target).params[position].kind in ("dim", "newdim", "dims", "axes"):  # type: ignore[union-attr]
                self._require_features(node, name, argument)
        return args

    def _substituted(self, value: Any) -> Any:
        """Arguments with values in the places of nodes."""
        if isinstance(value, fx.Node):
            form = self.known[value]
            assert form is not None
            return form.values
        return [self._substituted(item) for item in value] if isinstance(value, list | tuple) else value

    def _require_features(self, node: fx.Node, name: str, axes: Any) -> None:
        many = [axes] if isinstance(axes, int) else axes
        operand = next(part for part in node.all_input_nodes)
        form = self.known[operand]
        assert form is not None
        value = form.values[0] if isinstance(form.values, tuple | list) else form.values
        least = value.ndim - 2 + (name in ("unsqueeze", "stack"))
        if many is None or any(not -least <= axis < 0 for axis in many):
            raise CannotStage("an axis of the batch")

    def _fits(self, node: fx.Node, values: Any) -> bool:
        """Whether results have the features that the graph's have."""
        val = node.meta.get("val")
        if isinstance(values, tuple | list):
            return bool(sum(value.numel() for value in values) <= LARGEST)
        if not isinstance(val, Tensor) or not isinstance(values, Tensor) or values.numel() > LARGEST:
            return False
        batch = tuple(val.shape[: self.leading])
        if len(batch) != self.leading or any(
            a is not b and a != b for a, b in zip(batch, self.batch, strict=True)
        ):
            return False
        return list(values.shape[2:]) == list(val.shape[self.leading :])


def _call(node: fx.Node, arguments: list[Any]) -> Any:
    """The operator of a node on other arguments."""
    assert callable(node.target)
    return node.target(*arguments)


def _places(node: fx.Node) -> list[Any]:
    """The operands as they stand, one that stands twice twice; numbers among them."""
    parts: list[Any] = []
    for value in node.args:
        parts.extend(value if isinstance(value, list | tuple) else [value])
    return [part for part in parts if isinstance(part, fx.Node)]


def _kind(name: str, kinds: Sequence[int]) -> int | None:
    """The kind of a result, `None` where it is not homogeneous in each of the two."""
    if name in _PRODUCTS:
        total = 0
        for kind in kinds:
            if total & kind:
                return None
            total |= kind
        return total
    if name in _SUMS:
        return kinds[0] if len(set(kinds)) == 1 and len(kinds) > (name in ("add", "sub")) else None
    return kinds[0]


def _spread(parts: Sequence[Tensor]) -> list[Tensor]:
    """Coefficients of one kind, the bases of all of them the same."""
    bases = [max(part.shape[axis] for part in parts) for axis in range(2)]
    return [part.expand(*bases, *part.shape[2:]) for part in parts]


def _without_batch(constant: Tensor) -> Tensor:
    """A constant without leading axes of size 1, so that it does not reach the axes of the batch."""
    sizes = list(constant.shape)
    while len(sizes) > 1 and sizes[0] == 1:
        sizes.pop(0)
    return constant.reshape(sizes)
