"""Linear recurrences h_t = a_t · h_{t-1} + b_t of all steps at once, without division (Kogge & Stone, 1973).

Steps are along the first axis. Where the factor is one constant, the states are a product with the Toeplitz
matrix of its powers (the convolution form of a diagonal state space; Gu et al., 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tdsl.engine.stage import stage
from tdsl.engine.staged import Constant, Value
from tdsl.engine.workspace import Workspace
from tdsl.ops import OPERATORS

LONGEST = 128
"""Steps up to which a product with a matrix of powers is faster than a scan, measured in onnxruntime."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """h_t = factor_t · h_{t-1} + added_t, element by element."""

    work: Workspace
    factor: Any
    """[steps, …], or, where it is `steady`, one value or number for all steps."""
    steady: bool
    added: Any
    """[steps, *state]."""
    start: Any
    """The state [*state] before the first step; `None` for zeros."""
    with_start: bool
    """Whether the start is the first of the states."""

    def values(self) -> Any:
        """The states, [steps, *state]."""
        if self.start is None:
            return self._scanned(self.factor, self.added)
        rank = len(self._shape(self.added))
        first = self._call("unsqueeze", x=self.start, dim=-rank)
        added = self._call("concat", tensors=[first, self.added], dim=-rank)
        factor = self.factor if self.steady else self._shifted(self.factor, 1, 1.0)
        states = self._scanned(factor, added)
        if self.with_start:
            return states
        return self._call("slice", x=states, dim=-rank, start=1, end=int(self._shape(added)[0]))

    def _scanned(self, factor: Any, added: Any) -> Any:
        steps = int(self._shape(added)[0])
        powers = self._powers(steps) if self.steady else None
        if powers is not None:
            return self._product(powers, added)
        distance = 1
        while distance < steps:
            earlier = self._earlier(added, distance, 0.0)
            added = self._call("add", x=added, y=self._call("mul", x=factor, y=earlier))
            distance *= 2
            if distance < steps:
                before = factor if self.steady else self._earlier(factor, distance // 2, 1.0)
                known = isinstance(factor, int | float)
                factor = factor**2 if known else self._call("mul", x=factor, y=before)
        return added

    # ------------------------------------------------------------ one constant factor

    def _powers(self, steps: int) -> Tensor | None:
        """The factor's powers as matrices [steps, steps], or [n, steps, steps] along the last axis of the
        state; `None` where a scan is better, or powers would grow.
        """
        factor = self.factor
        if isinstance(factor, int | float):
            base = torch.tensor([float(factor)], dtype=torch.float64)
        elif self.work.is_const(factor):
            base = self.work.evaluate(factor).reshape(-1)
            wide = list(self._shape(factor))
            if len(base) > 1 and wide[-1] != len(base):
                return None
        else:
            return None
        if steps > LONGEST or bool((base.abs() > 1).any()):
            return None
        apart = torch.arange(steps)[:, None] - torch.arange(steps)
        powers = base[:, None, None] ** apart.clamp_min(0)
        powers = torch.where(apart >= 0, powers, 0.0)
        return powers[0] if len(base) == 1 else powers

    def _product(self, powers: Tensor, added: Any) -> Any:
        """The states as products of powers with what is added."""
        shape = list(self._shape(added))
        steps, rank = shape[0], len(shape)
        known = Constant(powers, _dtype(self.work, added), "powers")
        if powers.ndim == 2:
            flat = self._call("reshape", x=added, shape=[steps, -1])
            return self._call("reshape", x=self._call("matmul", x=known, y=flat), shape=shape)
        width = shape[-1]
        order = [rank - 1, *range(rank - 1)]
        moved = self._call("permute", x=added, dims=order)
        flat = self._call("reshape", x=moved, shape=[width, steps, -1])
        states = self._call("matmul", x=known, y=flat)
        states = self._call("reshape", x=states, shape=[width, *shape[:-1]])
        return self._call("permute", x=states, dims=[*range(1, rank), 0])

    # ------------------------------------------------------------ terms

    def _earlier(self, value: Any, distance: int, fill: float) -> Any:
        """The values so many steps before; `fill` where there are none."""
        shape = self._shape(value)
        kept = self._call("slice", x=value, dim=-len(shape), start=0, end=int(shape[0]) - distance)
        return self._shifted(kept, distance, fill)

    def _shifted(self, value: Any, distance: int, fill: float) -> Any:
        """So many more steps in front, of one number."""
        border = [0, 0] * (len(self._shape(value)) - 1) + [distance, 0]
        return self._call("pad", x=value, pad=border, mode="constant", value=fill)

    def _call(self, name: str, **arguments: Any) -> Any:
        return stage(self.work, OPERATORS[name], arguments)

    def _shape(self, value: Any) -> Sequence[Any]:
        described = self.work.val(value) if isinstance(value, Value) else None
        assert isinstance(described, Tensor)
        return described.shape


def _dtype(work: Workspace, value: Any) -> torch.dtype:
    described = work.val(value)
    assert isinstance(described, Tensor)
    return described.dtype
