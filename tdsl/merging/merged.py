"""What comes out of a merge: the weights, how each was found, how far the outputs are from each model's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, fx


@dataclass(frozen=True, slots=True)
class MergedWeight:
    """One weight, with its bias where both were found together."""

    name: str
    method: str
    """`gram`, `kronecker`, `fisher` or `average`."""
    parameters: int
    steps: int
    """Of the conjugate gradient method; 0 where the answer has a closed form."""
    residual: float
    """Of the system that was solved, relative to its residual at the average."""
    objective: float
    """What the weight loses by its own measure, relative to the average: 1 where it is the average."""


@dataclass(frozen=True, slots=True)
class TaskErrors:
    """Relative errors of outputs to those of one model, on the samples of that model."""

    model: str
    merged: float
    average: float
    """Of the plain average of all weights."""
    nearest: float
    """Of the other model that does best there; infinite for a single model."""
    nearest_model: str


@dataclass(frozen=True)
class Merged:
    """One model made of several."""

    module: fx.GraphModule
    """Called like the models; its weights are its own."""
    weights: Mapping[str, Tensor]
    """By their paths in the captured graph."""
    state: Mapping[str, Tensor]
    """A state dict of the first model, for `load_state_dict`."""
    method: str
    rows: tuple[MergedWeight, ...]
    """The weights in which the models differ."""
    equal: int
    """How many weights are bit by bit the same in all of them, and stay so."""
    tasks: tuple[TaskErrors, ...]
    """For each model with samples."""
    warnings: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """The report as plain data; numbers that are infinite are absent."""
        rows = [asdict(row) for row in self.rows]
        tasks = [{k: v for k, v in asdict(t).items() if v not in ("", float("inf"))} for t in self.tasks]
        return {
            "method": self.method,
            "weights": rows,
            "equal": self.equal,
            "tasks": tasks,
            "warnings": list(self.warnings),
        }
