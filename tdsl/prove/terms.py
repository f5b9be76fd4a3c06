"""Terms that a function of a right side builds, evaluated at once on the values of an instance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from tdsl.prove.checker import Checker, Known


class InstanceTerms:
    """Terms on the values of an instance, for a function that builds one: `tdsl.factor.declare.Terms`."""

    def __init__(self, checker: Checker, apply: Callable[[str, Sequence[Any]], Any]) -> None:
        self.checker = checker
        self.apply = apply
        """The result of the operator of a name on operands in the order of its signature."""

    def __call__(self, operator: str, *arguments: Any) -> Any:
        """The result of an operator of the language."""
        return self.apply(operator, arguments)

    def known(self, value: Any) -> Tensor:
        """The values of a constant."""
        return self.checker.plain(value)

    def constant(self, values: Tensor) -> Known:
        """A constant of these values."""
        return self.checker.constant(values)

    def shape(self, value: Known) -> tuple[int, ...]:
        """The sizes of a value."""
        return tuple(value.shape)

    def narrower(self, value: Known, selection: Known) -> Any:
        """What `selection` [k, n] has of the last axis of a value [..., n]."""
        return self("linear", value, selection)

    def split(self, value: Known, sizes: list[int], dim: int) -> list[Known]:
        """Parts of these sizes along an axis."""
        return list(self("split", value, sizes, dim))
