"""A workspace for many candidates at one site: what they have in common is computed once, and cheaply."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from tdsl.engine.staged import Constant, Staged
from tdsl.engine.statistics import Statistics
from tdsl.engine.workspace import Workspace
from tdsl.factor.memo import MEMORY
from tdsl.memory import give_back
from tdsl.ops.targets import operator_of


class Remembering(Workspace):
    """A workspace that widens each weight once, until it is told to forget.

    A product with a vector is computed from the right: (W − U·V)·x takes no product of matrices.
    """

    def __init__(self, module: fx.GraphModule, statistics: Statistics) -> None:
        super().__init__(module)
        self.statistics = statistics
        self._wide: dict[fx.Node, Tensor] = {}

    def evaluate(self, value: Any) -> Tensor:
        """The values of a constant, in float64 when it is floating point."""
        if isinstance(value, fx.Node):
            if value not in self._wide:
                self._wide[value] = super().evaluate(value)
            return self._wide[value]
        if _operator(value) == "matmul":
            vector = self.evaluate(value.args[1])
            if vector.dim() == 1:
                return self._applied(value.args[0], vector)
            return self.evaluate(value.args[0]) @ vector
        return super().evaluate(value)

    def _applied(self, matrix: Any, vector: Tensor) -> Tensor:
        """The product of a matrix, which may be a sum or product of others, and a vector."""
        match _operator(matrix):
            case "matmul":
                return self._applied(matrix.args[0], self._applied(matrix.args[1], vector))
            case "sub":
                return self._applied(matrix.args[0], vector) - self._applied(matrix.args[1], vector)
            case _:
                return self.evaluate(matrix) @ vector

    def forget(self) -> None:
        """Free what was widened, and what was computed from it."""
        self._wide.clear()
        MEMORY.clear()
        give_back()


def _operator(value: Any) -> str | None:
    """The operator of a staged term whose operands all have one shape law: plain tensors, nothing else."""
    if not isinstance(value, Staged) or value.kwargs or len(value.args) != 2:
        return None
    if not all(isinstance(part, fx.Node | Constant | Staged) for part in value.args):
        return None
    found = operator_of(value.target)
    return found.name if found is not None else None
