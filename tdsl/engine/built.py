"""What a declared term of the language builds its operators with."""

from __future__ import annotations

import operator
from typing import Any

import torch

from tdsl.engine.arithmetic import apply, constant_of
from tdsl.engine.frame import Frame
from tdsl.engine.narrowing import narrowed
from tdsl.engine.staged import CannotStage, Constant, Staged


class StagedTerms:
    """Terms of a graph, for a function that builds one."""

    def __init__(self, frame: Frame, values: list[Any], label: str) -> None:
        self.frame = frame
        self.values = values
        self.label = label

    def __call__(self, operator: str, *arguments: Any) -> Any:
        """The operator on its arguments, staged."""
        return apply(self.frame, operator, *arguments)

    def known(self, value: Any) -> torch.Tensor:
        """The values of a constant. Raises `CannotStage` for what is computed at run time."""
        if not self.frame.work.is_const(value):
            raise CannotStage(f"{self.label} needs a constant, not a value computed at run time")
        return self.frame.work.evaluate(value)

    def constant(self, values: torch.Tensor) -> Constant:
        """A constant in the element type of the first argument, where it holds numbers."""
        return constant_of(self.frame, self.values, values, self.label)

    def shape(self, value: Any) -> tuple[Any, ...]:
        """The sizes of a value, whole numbers where they are known."""
        return tuple(self.frame.work.val(value).shape)

    def narrower(self, value: Any, selection: Any) -> Any:
        """A value with the hidden units along its last axis that are selected, the others not made."""
        made, units = narrowed(value, self.known(selection), self.frame.work)
        taken = self.frame.taken
        taken += [node for node in units.nodes if node not in self.frame.nodes and node not in taken]
        return made

    def split(self, value: Any, sizes: list[int], dim: int) -> list[Any]:
        """A value in parts of these sizes along an axis."""
        parts = apply(self.frame, "split", value, sizes, dim)
        return [Staged(operator.getitem, (parts, place), {}) for place in range(len(sizes))]
