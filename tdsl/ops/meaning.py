"""What operators compute, exactly: their meanings over any ring that an `Algebra` supplies.

A meaning is a function `meaning(k, **arguments)`: operands are arrays of the algebra (lists of them for
`tensors`, `None` for absent ones, plain numbers for `value` operands that are numbers), attributes their
canonical values. It returns the result, or a tuple of results. Functions that are no rational functions are
oracles: one fixed random function each, so that what holds for them holds for every function.

Operators need no meaning of their own where a fact says it all: data movement, a pointwise function, a linear
map of one operand whose coefficients the kernel tells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Array = Any
"""An array of the algebra: it has a `shape`, `reshape`, `transpose` and basic slicing."""

Meaning = Callable[..., Any]

MEANINGS: dict[str, Meaning] = {}
"""Name of an operator → its meaning."""


def meaning(function: Meaning) -> Meaning:
    """Register the meaning of the operator called as the function, a trailing underscore left out."""
    MEANINGS[function.__name__.rstrip("_")] = function
    return function


class Algebra(Protocol):
    """Exact arithmetic on arrays, with broadcasting."""

    def number(self, value: float) -> Array:
        """A number as an array without axes."""

    def filled(self, shape: Sequence[int], value: float) -> Array:
        """An array of one number throughout."""

    def add(self, x: Array, y: Array) -> Array:
        """x + y."""

    def subtract(self, x: Array, y: Array) -> Array:
        """x - y."""

    def multiply(self, x: Array, y: Array) -> Array:
        """x · y."""

    def divide(self, x: Array, y: Array) -> Array:
        """x / y; undefined where y has a zero."""

    def negative(self, x: Array) -> Array:
        """-x."""

    def power(self, x: Array, exponent: int) -> Array:
        """x to a whole power."""

    def total(self, x: Array, axes: Sequence[int], keepdims: bool = False) -> Array:
        """The sum along axes."""

    def matmul(self, x: Array, y: Array) -> Array:
        """The product of (stacks of) matrices."""

    def einsum(self, equation: str, *operands: Array) -> Array:
        """The sum of products that the equation names."""

    def concat(self, parts: Sequence[Array], axis: int) -> Array:
        """The parts behind each other along an axis."""

    def windows(
        self,
        x: Array,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        border: Any,
    ) -> Array:
        """Sliding windows over the last axes, `border` outside. [..., *size] → [..., *out, *kernel]."""

    def oracle(
        self, name: str, *operands: Array, attributes: Sequence[Any] = (), positive: bool = False
    ) -> Array:
        """A function of the elements of the operands of which nothing is known but the name, and the sign."""

    def powers(self, x: Array, axes: Sequence[int]) -> Array:
        """exp(x), or that over a number for each row along the axes: of use where only ratios count."""

    def settled(self, name: str, x: Array) -> Array:
        """A function of the elements that leaves its own values alone."""

    def choose(self, mask: Array, x: Array, y: Array) -> Array:
        """x where the mask is not zero, y elsewhere."""

    def equal(self, x: Array, y: Array) -> Array:
        """1 where the elements are equal, 0 elsewhere."""

    def less(self, x: Array, y: Array) -> Array:
        """1 where x comes before y in a random order in which negation reverses, 0 elsewhere."""

    def greatest(self, x: Array, axes: Sequence[int], keepdims: bool = False) -> Array:
        """The last of the elements along axes in that order."""
