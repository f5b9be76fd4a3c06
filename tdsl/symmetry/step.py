"""What an element of a group does at one node of a graph, and at all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import getitem
from typing import Any, Literal

from torch import fx

from tdsl.symmetry.action import Action

Strength = Literal["structural", "weights", "measured", "inside", "approximate", "broken", "unknown"]
"""For any weights; for these; on what was measured; not alone, and on what was measured together with what
follows (squares, which a sum adds up); for these up to a residual; not; nothing is known of the operands."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one generator does at one node."""

    node: fx.Node
    sources: tuple[fx.Node, ...]
    """Its operands that depend on the input."""
    inputs: tuple[Action | None, ...]
    """What acts on each of them."""
    actions: tuple[Action | None, ...]
    """What acts on each result; `None` where nothing is known."""
    strength: Strength
    residual: float = 0.0
    """Of the weights against the law: relative Frobenius norm."""
    worst: float = 0.0
    """The entry that is furthest off, over the root mean square of the entries."""
    reason: str = ""
    """Why the action does not pass."""
    nominal: bool = False
    """Whether something upstream broke, so that what acts here only would."""

    @property
    def action(self) -> Action | None:
        """What acts on the first result."""
        return self.actions[0]

    @property
    def passes(self) -> bool:
        """Whether the action passes, exactly or approximately."""
        return self.strength not in ("broken", "unknown")


@dataclass(frozen=True)
class Inference:
    """One generator on every node that depends on the inputs, in order; outputs last."""

    steps: Mapping[fx.Node, Step]
    outputs: tuple[Action | None, ...]
    """What acts on each tensor output; `None` where it is not known."""

    @property
    def broken(self) -> Step | None:
        """The first node at which the action does not pass."""
        return next((step for step in self.steps.values() if step.strength == "broken"), None)

    @property
    def strength(self) -> Strength:
        """The weakest law on the way: that of the whole function."""
        order: tuple[Strength, ...] = (
            "unknown",
            "broken",
            "approximate",
            "inside",
            "measured",
            "weights",
            "structural",
        )
        found = {step.strength for step in self.steps.values()}
        return next((one for one in order if one in found), "structural")

    @property
    def residual(self) -> float:
        """The largest residual of a layer whose weights are tied up to it."""
        return max((step.residual for step in self.steps.values() if step.passes), default=0.0)


def results_read(node: fx.Node, count: int) -> tuple[bool, ...]:
    """Whether anything reads each of `count` results of a node; the first one counts as read."""
    if count == 1 or any(user.target is not getitem for user in node.users):
        return (True,) * count
    taken = {user.args[1] for user in node.users if user.users}
    return tuple(place == 0 or place in taken for place in range(count))


@dataclass
class Known:
    """What is known of a node: its action (`None`: not known), or its value where it is constant."""

    actions: tuple[Action | None, ...]
    constant: Any = None
    is_constant: bool = False
    nominal: bool = False
