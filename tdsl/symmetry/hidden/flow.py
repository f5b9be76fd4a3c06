"""What the laws of axes are written with: the call of an operator, its operands' axes, its results' sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tdsl.ops.spec import Operator
from tdsl.symmetry.hidden.layout import UNIT, Axes, Layout
from tdsl.symmetry.hidden.relation import Letter, Named, Relation, relate
from tdsl.symmetry.hidden.sizes import Sizes
from tdsl.symmetry.hidden.system import System

Value = Axes | list[Axes]
"""The axes of a tensor, or of each of several."""

Law = Callable[["Call"], "Value | None"]
"""From a call to the axes of its results; `None` where the law does not cover this use."""

AXIS_LAWS: dict[str, Law] = {}
"""Operator → how it carries the permutations of its operands; the facts of the table cover the others."""


def axis_law(*names: str) -> Callable[[Law], Law]:
    """Declare the law of these operators."""

    def declare(function: Law) -> Law:
        for name in names:
            AXIS_LAWS[name] = function
        return function

    return declare


@dataclass(slots=True)
class Call:
    """One node with its operator: operands by name as axes, attributes by name as they are."""

    node: fx.Node
    operator: Operator
    arguments: dict[str, Any]
    system: System
    sizes: Sizes
    relations: list[Relation]

    def axes(self, name: str) -> Axes:
        """The axes of an operand; those of a number are none."""
        value = self.arguments.get(name)
        return value if isinstance(value, tuple) else ()

    def given(self, name: str) -> bool:
        """Whether a tensor is given for this operand."""
        return isinstance(self.arguments.get(name), tuple)

    def operands(self) -> list[Axes]:
        """The axes of every operand that is a tensor, in order."""
        found: list[Axes] = []
        for param in self.operator.operands:
            value = self.arguments.get(param.name)
            if isinstance(value, tuple):
                found.append(value)
            elif isinstance(value, list):
                found.extend(item for item in value if isinstance(item, tuple))
        return found

    def dims(self, name: str = "dim", rank: int | None = None) -> list[int] | None:
        """The axes that an attribute names, from the front; `None` where it names none (or all)."""
        value = self.arguments.get(name)
        count = len(self.axes(self.operator.params[0].name)) if rank is None else rank
        if value is None:
            return None
        listed = [value] if isinstance(value, int) else list(value)
        return [axis % max(count, 1) for axis in listed]

    def shapes(self) -> list[tuple[int, ...]]:
        """The sizes of the results."""
        value = self.node.meta["val"]
        listed = value if isinstance(value, (list, tuple)) else [value]
        return [self.sizes.shape(item) for item in listed if isinstance(item, torch.Tensor)]

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the first result."""
        return self.shapes()[0]

    def relate(self, *tensors: Named) -> dict[Letter, Layout]:
        """Unify axes by their letters; returns the layout of each letter."""
        found = relate(self.system, tensors)
        self.relations.append(found)
        return found.letters

    def broadcast(self, operands: Sequence[Axes], kept: int = 0) -> Axes:
        """The operands aligned from the last axis; the last `kept` axes of each are left out."""
        named = [
            (axes[: len(axes) - kept], range(kept - len(axes), 0)) for axes in operands if len(axes) >= kept
        ]
        rank = max((len(letters) for _, letters in named), default=0)
        letters = self.relate(*named)
        return tuple(letters.get(i, UNIT) for i in range(-rank, 0))

    def pin(self, layout: Layout, reason: str) -> None:
        """This operator sees the order of the axis."""
        self.system.pin(layout, reason)

    def pinned(self, size: int, reason: str) -> Layout:
        """An axis of the result whose order matters."""
        return self.system.pinned(size, reason)

    def along(self, axes: Axes, dims: Sequence[int], reason: str | None = None) -> Axes:
        """The tensor, whose elements along `dims` are looked at together; in order, where a reason is given.

        Permutations of the other axes may no longer depend on these.
        """
        rest = [i for i in range(len(axes)) if i not in dims]
        self.relate((axes, range(len(axes))), (tuple(axes[i] for i in rest), rest))
        if reason is not None:
            for i in dims:
                self.pin(axes[i], reason)
        return axes
