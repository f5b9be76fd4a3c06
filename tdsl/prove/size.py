"""Sizes that stand for every number: arithmetic on them, and conditions that a path decides.

A `Size` takes the place of an integer in the laws of shape. Comparing sizes makes a `Condition`; asking
whether it holds asks the `Path`, which knows what was decided before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tdsl.ops.laws import UndecidedCondition, UndecidedSize
from tdsl.prove.assumptions import ONE, Assumptions, Kind
from tdsl.prove.polynomial import Join, Number, Polynomial, members_of

FINEST = 1 << 10
"""Largest denominator of a float that is taken for the fraction it is."""


@dataclass(frozen=True)
class Decision:
    """A condition that followed from nothing, and what it was taken to be."""

    x: Polynomial
    kind: Kind
    outcome: bool

    def holds_at(self, values: Mapping[str, int]) -> bool:
        """Whether it is so for these values of the variables. Raises `ZeroDivisionError`."""
        value = self.x.at(values)
        return (value == 0 if self.kind == "zero" else value >= 0) == self.outcome

    def __str__(self) -> str:
        sign = {("zero", True): "==", ("zero", False): "!=", ("least", True): ">=", ("least", False): "<"}
        return f"{self.x} {sign[self.kind, self.outcome]} 0"


@dataclass(frozen=True)
class Fit:
    """That two sizes broadcast with each other."""

    x: Polynomial
    y: Polynomial

    def holds_at(self, values: Mapping[str, int]) -> bool:
        """Whether they do for these values of the variables. Raises `ZeroDivisionError`."""
        x, y = self.x.at(values), self.y.at(values)
        return x == y or 1 in (x, y)

    def __str__(self) -> str:
        return f"{self.x} broadcasts with {self.y}"


class Path:
    """One way through the conditions that both sides of a rule ask about.

    The first decisions are `forced`; those that follow are as at `values`, an instance.
    """

    def __init__(self, positive: Collection[str], values: Mapping[str, int], forced: Sequence[bool]) -> None:
        self.known = Assumptions(positive)
        self.values = dict(values)
        self.forced = forced
        self.decisions: list[Decision] = []
        self.taken: list[Decision | Fit] = []
        """What the left side takes for granted: it matches nothing else."""
        self.matching = True
        """Whether the left side or a condition is evaluated, not what has to follow from them."""
        self.counted = ""
        """A size of which only one value was looked at."""

    def decide(self, x: Polynomial, kind: Kind) -> bool:
        """Whether x is zero (not negative), as far as it follows, or else as it is taken to be."""
        found = self.known.known(x, kind)
        while found is None and self._apart(x):
            found = self.known.known(x, kind)
        if found is not None:
            return found
        value = self._here(x)
        outcome = value == 0 if kind == "zero" else value >= 0
        if not self.matching and self.known.implies(x, kind, outcome, value):
            return outcome
        at = len(self.decisions)
        outcome = self.forced[at] if at < len(self.forced) else outcome
        self.decisions.append(Decision(x, kind, outcome))
        self._add(x, kind, outcome)
        return outcome

    def _here(self, x: Polynomial) -> Number:
        """x at the instance; 0 where it is not defined there, which is elsewhere on this path."""
        try:
            return x.at(self.values)
        except ZeroDivisionError:
            return 0

    def _apart(self, x: Polynomial) -> bool:
        """Decide which member of a broadcast size in x is not 1; whether that told something."""
        before = self.known.normal(x)
        join = next((atom for atom in sorted(before.atoms) if isinstance(atom, Join)), None)
        if join is None:
            return False
        first, second = join.members[:2]
        if not self.decide(first - second, "zero") and not self.decide(first - ONE, "zero"):
            self._add(second - ONE, "zero", True)
        return self.known.normal(x) != before

    def join(self, x: Polynomial, y: Polynomial) -> Polynomial | None:
        """What two sizes broadcast to; `None` where they do not."""
        x, y = self.known.normal(x), self.known.normal(y)
        for first in members_of(x):
            for second in members_of(y):
                fit = self.known.fit(first, second)
                if fit is None and self.matching:
                    self.taken.append(Fit(first, second))
                    self.known.fitting.append((first, second))
                elif fit is None:
                    fit = self.decide(first - second, "zero")
                    fit = fit or self.decide(first - ONE, "zero") or self.decide(second - ONE, "zero")
                if fit is False:
                    return None
        return self.known.normal(Join.of((x, y)))

    def require(self, x: Polynomial, kind: Kind) -> bool:
        """As `decide`; on the left side what does not follow is assumed."""
        if not self.matching:
            return self.decide(x, kind)
        found = self.known.known(x, kind)
        if found is None:
            self.taken.append(Decision(x, kind, True))
            self._add(x, kind, True)
        return found is not False

    def _add(self, x: Polynomial, kind: Kind, outcome: bool) -> None:
        self.known.add(x, kind, outcome)


class Size(UndecidedSize):
    """A size as an expression."""

    __slots__ = ("path", "x")

    def __init__(self, path: Path, x: Polynomial) -> None:
        self.path = path
        self.x = x

    def _made(self, x: Polynomial) -> Any:
        value = x.value
        return int(value) if value is not None and value == int(value) else Size(self.path, x)

    def __add__(self, other: Any) -> Any:
        y = _polynomial(other)
        return NotImplemented if y is None else self._made(self.x + y)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        y = _polynomial(other)
        return NotImplemented if y is None else self._made(self.x - y)

    def __rsub__(self, other: Any) -> Any:
        y = _polynomial(other)
        return NotImplemented if y is None else self._made(y - self.x)

    def __mul__(self, other: Any) -> Any:
        y = _polynomial(other)
        return NotImplemented if y is None else self._made(self.x * y)

    __rmul__ = __mul__

    def __neg__(self) -> Any:
        return self._made(-self.x)

    def __pos__(self) -> Any:
        return self

    def __pow__(self, exponent: Any) -> Any:
        if not isinstance(exponent, int) or not 0 <= exponent <= 8:
            return NotImplemented
        result = Polynomial.constant(1)
        for _ in range(exponent):
            result = result * self.x
        return self._made(result)

    def __truediv__(self, other: Any) -> Any:
        y = _polynomial(other)
        if y is None or not y.value:
            return NotImplemented
        return self._made(self.x * Polynomial.constant(1 / Fraction(y.value)))

    def __floordiv__(self, other: Any) -> Any:
        y = _polynomial(other)
        return NotImplemented if y is None else self._divided(self.x, y)

    def __rfloordiv__(self, other: Any) -> Any:
        y = _polynomial(other)
        return NotImplemented if y is None else self._divided(y, self.x)

    def __mod__(self, other: Any) -> Any:
        y = _polynomial(other)
        return NotImplemented if y is None else self._remainder(self.x, y)

    def __rmod__(self, other: Any) -> Any:
        y = _polynomial(other)
        return NotImplemented if y is None else self._remainder(y, self.x)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __floor__(self) -> Any:
        return self._divided(self.x, Polynomial.constant(1))

    def __ceil__(self) -> Any:
        return -(-self // 1)

    def _divided(self, x: Polynomial, y: Polynomial) -> Any:
        if self.path.decide(y, "zero"):
            raise ZeroDivisionError(f"{x} by {y}")
        return self._made(self.path.known.divided(x, y))

    def _remainder(self, x: Polynomial, y: Polynomial) -> Any:
        quotient = _polynomial(self._divided(x, y))
        assert quotient is not None
        return self._made(x - y * quotient)

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def __eq__(self, other: object) -> Any:
        y = _polynomial(other)
        return False if y is None else _condition(self.path, self.x - y, "zero")

    def __ne__(self, other: object) -> Any:
        y = _polynomial(other)
        return True if y is None else ~_condition(self.path, self.x - y, "zero")

    def __ge__(self, other: Any) -> Any:
        y = _polynomial(other)
        return NotImplemented if y is None else _condition(self.path, self.x - y, "least")

    def __le__(self, other: Any) -> Any:
        y = _polynomial(other)
        return NotImplemented if y is None else _condition(self.path, y - self.x, "least")

    def __gt__(self, other: Any) -> Any:
        y = _polynomial(other)
        return NotImplemented if y is None else ~_condition(self.path, y - self.x, "least")

    def __lt__(self, other: Any) -> Any:
        y = _polynomial(other)
        return NotImplemented if y is None else ~_condition(self.path, self.x - y, "least")

    __hash__ = None  # type: ignore[assignment]

    def joined(self, other: Any) -> Any:
        """What this size and another one broadcast to; `None` where they do not."""
        y = _polynomial(other)
        found = self.path.join(self.x, y) if y is not None else None
        return self._made(found) if found is not None else None

    def __bool__(self) -> bool:
        return not self.path.decide(self.x, "zero")

    def __index__(self) -> int:
        """The number that it is here: something is counted by it, and other numbers are not looked at."""
        value = int(self.x.at(self.path.values))
        x = self.x - Polynomial.constant(value)
        if self.path.known.known(x, "zero") is None:
            self.path.counted = self.path.counted or str(self.x)
            self.path.require(x, "zero")
        return value

    def __str__(self) -> str:
        return str(self.path.known.normal(self.x))

    __repr__ = __str__


class Condition(UndecidedCondition):
    """That an expression is zero, or not negative, or that it is not so."""

    def __init__(self, path: Path, x: Polynomial, kind: Kind, outcome: bool = True) -> None:
        self.path, self.x, self.kind, self.outcome = path, x, kind, outcome

    def __bool__(self) -> bool:
        return self.path.decide(self.x, self.kind) is self.outcome

    def __invert__(self) -> Condition:
        return Condition(self.path, self.x, self.kind, not self.outcome)

    def assumed(self) -> bool:
        """Whether it holds; on the left side it does from now on, unless it cannot."""
        if self.outcome:
            return self.path.require(self.x, self.kind)
        if self.kind == "least":  # not x ≥ 0 is -x - 1 ≥ 0
            return self.path.require(-self.x - Polynomial.constant(1), "least")
        return bool(self)


def _condition(path: Path, x: Polynomial, kind: Kind) -> Condition:
    return Condition(path, x.whole, kind)


def _polynomial(value: Any) -> Polynomial | None:
    if isinstance(value, Size):
        return value.x
    if isinstance(value, int):
        return Polynomial.constant(value)
    if isinstance(value, float) and value == value and abs(value) < FINEST:
        ratio = Fraction(value)
        return Polynomial.constant(ratio) if ratio.denominator <= FINEST else None
    return None
