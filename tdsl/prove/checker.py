"""What tensors are made of when a rule is evaluated: the part that the two checkers have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from tdsl.factor.declare import CompileTimeFunction, Decomposition
from tdsl.lang.shapes import Shaped
from tdsl.ops import Operator


@dataclass(frozen=True, eq=False)
class Known(Shaped):
    """A tensor whose values are known to a checker."""

    value: Any = None
    dtype: str = "f32"
    exact: str = "f32"
    """The narrowest element type that is known to hold the values."""
    degree: int = 1
    """A bound of its degree as a polynomial (numerator and denominator) in what was drawn."""


class Checker(Protocol):
    """What tensors are made of, and how operators act on them."""

    def draw(self, shape: Sequence[int], dtype: str, kind: str, bound: int) -> Known:
        """A random tensor: `"dense"`, `"selection"` (distinct unit rows), `"index"` (below the bound).

        Or an index with a structure: `"permutation"`, `"segments"` (in order, equally long where that fits),
        `"labels"` (small whole numbers, often equal).
        """

    def structured(self, shape: Sequence[int], family: str) -> Known:
        """A weight with a structure, where the checker knows one of that name."""

    def filled(self, shape: Sequence[int], value: float) -> Known:
        """A tensor of one number."""

    def apply(self, operator: Operator, arguments: Mapping[str, Any]) -> Any:
        """The operator on complete arguments: `Known`, or a tuple. Raises `NoMeaning`."""

    def unnamed(self, name: str, operator: Operator, arguments: Mapping[str, Any]) -> Any:
        """An operator variable of a whole class: any function of that class."""

    def rebuilt(self, declared: Decomposition, factors: Sequence[Known]) -> Known:
        """The weight that factors stand for."""

    def function(self, declared: CompileTimeFunction, values: Sequence[Any]) -> Any:
        """A function of weights. Raises `UnknownValueError` where the checker cannot tell."""

    def plain(self, value: Known) -> Tensor:
        """Whole numbers as a tensor of int64."""

    def constant(self, values: Tensor) -> Known:
        """A constant of small whole numbers."""

    def numbered(self, shape: Sequence[int], first: int) -> Known:
        """The numbers from `first` on, in order."""

    def rearranged(self, places: Known, values: Known, shapes: Sequence[Sequence[int]]) -> list[Known]:
        """Tensors whose elements, counted through all of them, have `values[i]` at number `places[i]`."""

    def solved(self, unknowns: Sequence[Known], residual: Any) -> list[Known] | None:
        """Random values of the unknowns for which the residual, affine in them jointly, is zero."""
