"""How a factorization, a predicate on weights or a rank rule is declared, beside its implementation.

A module of this room names what it offers in a tuple `DECLARED`; `table` collects them. A decomposition is
a promise and a function that keeps it: the prover substitutes the promise for the weight, the engine calls
the function, the tests hold each function to its promise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.parts import missed_squares

Dims = tuple[str, ...]
"""A shape as dimension text: `("T", "r", "1", "1")`."""


@dataclass(frozen=True, slots=True)
class Form:
    """Shapes of a decomposition for one number of axes of its operand."""

    operand: Dims
    results: tuple[Dims, ...]


@dataclass(frozen=True, slots=True)
class Decomposition:
    """A weight as several: `function(weight, *moments, *ranks)` returns factors, `promise` rebuilds it."""

    kind: ClassVar[str] = "decomposition"

    name: str
    params: tuple[str, ...]
    """Argument names, the weight first; `?` marks an optional one."""
    results: int
    """How many factors it returns; 0 when that depends on its arguments."""
    function: Callable[..., tuple[Tensor, ...]]
    promise_text: str
    """The promise in the notation of the language, in the names of `forms`."""
    promise: Callable[..., Tensor]
    """The weight that the factors stand for, from the factors alone."""
    forms: tuple[Form, ...]
    """One for each number of axes that the weight may have."""
    source: str
    """Author and year of the method."""
    doc: str
    moments: tuple[Form, ...] = ()
    """Shapes of the data statistics that `function` takes between the weight and the ranks, in that order.

    One form for each number of axes of the weight, its `results` the statistics: `[m, n] -> [n, n]`.
    """
    roles: tuple[str, ...] = ()
    """What each factor is: `"dense"` (of all by default), `"selection"` (its rows are distinct unit vectors),
    `"permutation"` (a list of distinct places),
    `"labels"` (whole numbers, of which it matters which are equal)."""
    bound: Callable[..., Decomposition] | None = None
    """The decomposition for the arguments of one call after the weight, where they shape the promise."""
    metric: Callable[..., float] | None = None
    """`metric(difference, *moments)`: the squared error that the factors make small; by default Frobenius."""
    of_outputs: bool = False
    """Whether the statistics are of what the weight computes: `metric` is then asked about a map E of outputs
    where E·W is the difference."""
    by_rows: bool = False
    """Whether some rows of the first factor, with the others whole, stand for these rows of the weight."""
    of_any_type: bool = False
    """Whether `function` takes a weight as it is stored: in float64 it is twice as large beside it."""

    @property
    def factor_roles(self) -> tuple[str, ...]:
        """The role of each factor."""
        return self.roles or ("dense",) * self.results

    def at(self, *arguments: Any) -> Decomposition:
        """This decomposition for the arguments of one call, those after the weight."""
        return self if self.bound is None else self.bound(*arguments)

    def form(self, axes: int) -> Form | None:
        """The shapes for a weight of that many axes; `None` when it takes no such weight."""
        return next((form for form in self.forms if len(form.operand) == axes), None)

    def relative_error(self, weight: Tensor, rebuilt: Tensor, *moments: Tensor) -> float:
        """The error of `rebuilt` relative to `weight`, in the metric of this decomposition.

        Raises `TdslError` when the shapes differ.
        """
        if weight.shape != rebuilt.shape:
            raise TdslError(
                f"{self.name} rebuilds a weight of shape {list(rebuilt.shape)}",
                expected=f"the shape of the weight, {list(weight.shape)}",
            )
        missed, total = self.squares(weight, weight - rebuilt, *moments)
        return math.sqrt(missed / total) if total > 0 else (math.inf if missed > 0 else 0.0)

    def missed_squares(
        self, weight: Tensor, factors: Sequence[Tensor], *moments: Tensor
    ) -> tuple[float, float]:
        """`squares` of what the factors miss of a weight, which may be as it is stored."""
        if self.by_rows and self.metric is None:
            first, *others = factors
            return missed_squares(weight, lambda rows: self.promise(first[rows], *others))
        difference = self.promise(*factors)
        torch.sub(weight, difference, out=difference)  # one large tensor less
        return self.squares(weight, difference, *moments)

    def squares(self, weight: Tensor, difference: Tensor, *moments: Tensor) -> tuple[float, float]:
        """The squared sizes of a difference and of the weight it is one of, in the metric."""
        if self.of_outputs:
            both = torch.cat([difference, weight])
            maps = torch.linalg.lstsq(weight.T, both.T, driver="gelsy").solution.T
            difference, weight = maps.split(len(weight))
        return self._squared(difference, *moments), self._squared(weight, *moments)

    def _squared(self, difference: Tensor, *moments: Tensor) -> float:
        if self.metric is None:
            return float(torch.linalg.vector_norm(difference)) ** 2
        return max(0.0, float(self.metric(difference, *moments)))


@dataclass(frozen=True, slots=True)
class CompileTimeFunction:
    """A function on weights known at compile time, or a rank rule."""

    name: str
    kind: Literal["number", "predicate", "tensor", "rank", "group", "space"]
    params: tuple[str, ...]
    """Argument names; `?` marks an optional one."""
    function: Callable[..., Any]
    doc: str
    results: int = 1
    exact: Callable[..., Any] | None = None
    """The same over the prime field, where that can tell: `exact(k, *arguments)` with `k` an algebra and its
    arrays for weights."""
    family: str = ""
    """A name of `tdsl.prove.facts.FAMILIES`: weights drawn so have the property, mostly."""
    of_any_type: bool = False
    """Whether weights are given as they are stored: it says the same of any type, and float64 takes time."""


class Terms(Protocol):
    """Builds terms of a right side: in a graph, or where a rule is proved on values."""

    def __call__(self, operator: str, *arguments: Any) -> Any:
        """The operator of that name on its arguments, in the order of its signature."""
        ...

    def known(self, value: Any) -> Tensor:
        """The values of a constant."""
        ...

    def constant(self, values: Tensor) -> Any:
        """A constant of these values; numbers in the element type of the model."""
        ...

    def shape(self, value: Any) -> tuple[Any, ...]:
        """The sizes of a value, whole numbers where they are known."""
        ...

    def narrower(self, value: Any, selection: Any) -> Any:
        """A value [..., n] with what `selection` [k, n] has of its last axis; no other units are made."""
        ...

    def split(self, value: Any, sizes: list[int], dim: int) -> list[Any]:
        """A value in parts of these sizes along an axis."""
        ...


@dataclass(frozen=True, slots=True)
class TermFunction:
    """A term of a right side whose operators depend on the values of constants.

    `function(terms, *arguments)` builds it, the arguments being values of the graph, constants among them.
    """

    kind: ClassVar[str] = "term"

    name: str
    params: tuple[str, ...]
    """Argument names; `?` marks an optional one."""
    function: Callable[..., Any]
    shape: Callable[..., tuple[int, ...]]
    """The shape of the term from those of the arguments that are tensors, and from the others as they are.

    Raises `ValueError` where they do not fit."""
    doc: str
    results: int = 1


def forms(*texts: str) -> tuple[Form, ...]:
    """`[m, n] -> [m, r], [r, n]`, once for each number of axes."""

    def dims(text: str) -> tuple[Dims, ...]:
        shapes = text.strip()[1:-1].split("], [")
        return tuple(tuple(dim.strip() for dim in shape.split(",")) for shape in shapes)

    parts = (text.split("->") for text in texts)
    return tuple(Form(dims(operand)[0], dims(results)) for operand, results in parts)
