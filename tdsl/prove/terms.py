"""Terms that a function of a right side builds, evaluated at once on the values of an instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from tdsl.prove.checker import Known

if TYPE_CHECKING:
    from tdsl.prove.values import Values


class InstanceTerms:
    """Terms on the values of an instance, for a function that builds one: `tdsl.factor.declare.Terms`."""

    def __init__(self, values: Values) -> None:
        self.values = values

    def __call__(self, operator: str, *arguments: Any) -> Any:
        """The result of an operator of the language."""
        op = self.values.vocabulary.operators[operator]
        given = {
            p.name: self.values.argument(value, p) for p, value in zip(op.params, arguments, strict=False)
        }
        return self.values.apply(op, given)

    def known(self, value: Any) -> Tensor:
        """The values of a constant."""
        return self.values.checker.plain(value)

    def constant(self, values: Tensor) -> Known:
        """A constant of these values."""
        return self.values.checker.constant(values)

    def shape(self, value: Known) -> tuple[int, ...]:
        """The sizes of a value."""
        return tuple(value.shape)

    def narrower(self, value: Known, selection: Known) -> Any:
        """What `selection` [k, n] has of the last axis of a value [..., n]."""
        return self("linear", value, selection)

    def split(self, value: Known, sizes: list[int], dim: int) -> list[Known]:
        """Parts of these sizes along an axis."""
        return list(self("split", value, sizes, dim))
