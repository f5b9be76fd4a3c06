"""Comparisons of numbers as bounds on polynomials in sizes: what always holds, what never, what not together.

`m * n > 4` bounds the polynomial m·n from below. Two bounds on one polynomial may leave nothing between
them; one bound may be decided by what its parts can be (a size is no negative number). Nothing is solved:
bounds on different polynomials say nothing about each other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from tdsl.lang import tree
from tdsl.lang.kinds import Kind
from tdsl.lang.kinds_of_names import Kinds
from tdsl.lang.terms import flat
from tdsl.lang.vocabulary import COSTS

Monomial = tuple[str, ...]
"""A product of parts that are not taken apart, in the order of their texts; none of them: the constant 1."""

OPPOSITE: Mapping[str, str] = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
"""The comparison that holds where another one does not."""

_TURNED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_LARGEST_POWER = 8
_MOST_PRODUCTS = 1000

_NOT_NEGATIVE = frozenset(
    {
        *COSTS,
        *("len", "rank_of", "size_along", "unit_width", "abs", "sqrt"),
        *("norm", "defect", "relative_error", "numerical_rank", "energy_rank", "sparsity", "multiplications"),
    }
)
"""Functions whose values are no negative numbers."""

_WHOLE = COSTS | {"len", "rank_of", "size_along", "unit_width", "numerical_rank"}
"""Functions whose values are whole numbers."""


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from `least` to `most`, both included, whole ones only or all."""

    least: float | Fraction = -math.inf
    most: float | Fraction = math.inf
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """`polynomial sign limit`, the polynomial without a constant and its first coefficient 1."""

    polynomial: tuple[tuple[Monomial, Fraction], ...]
    sign: str
    limit: Fraction
    within: Range
    """What the polynomial can be anyway."""

    @property
    def always(self) -> bool:
        """Whether it holds whatever the sizes are."""
        return not _meets(OPPOSITE[self.sign], self.limit, self.within)

    @property
    def never(self) -> bool:
        """Whether it holds for no sizes."""
        return not _meets(self.sign, self.limit, self.within)


def _meets(sign: str, limit: Fraction, within: Range) -> bool:
    """Whether some number in a range stands so to the limit."""
    least, most = within.least, within.most
    match sign:
        case "<":
            return least < limit
        case "<=":
            return least <= limit
        case ">":
            return most > limit
        case ">=":
            return most >= limit
        case "==":
            return least <= limit <= most and (not within.whole or limit.denominator == 1)
        case _:
            return not least == limit == most


class Polynomials:
    """Comparisons of one rule as bounds."""

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        self.ranges: dict[str, Range] = {}

    def bound(self, sign: str, left: tree.Expr, right: tree.Expr) -> Bound | None:
        """`left sign right` as a bound; `None` where a side may be something else than a number."""
        if not (self._is_number(left) and self._is_number(right)):
            return None
        try:
            difference = _sum(self._of(left), self._of(right), -1)
        except OverflowError:  # an infinite number, or too many products
            return None
        limit = -difference.pop((), Fraction(0))
        terms = sorted(difference.items())
        if not terms:
            return Bound((), sign, limit, Range(Fraction(0), Fraction(0), whole=False))
        first = terms[0][1]
        scaled = tuple((monomial, factor / first) for monomial, factor in terms)
        turned = _TURNED[sign] if first < 0 else sign
        return Bound(scaled, turned, limit / first, self._range(scaled))

    def _is_number(self, expr: tree.Expr) -> bool:
        kind = self.kinds.of(expr)
        return bool(kind) and kind in Kind.NUMBER | Kind.TRUTH and Kind.NUMBER in kind

    # ------------------------------------------------------------ expressions

    def _of(self, expr: tree.Expr) -> dict[Monomial, Fraction]:
        match expr:
            case tree.Constant(value=int() | float() as value):
                return {(): Fraction(value)} if value else {}
            case tree.Unary(operator="-", operand=operand):
                return _sum({}, self._of(operand), -1)
            case tree.Binary(operator="+", left=left, right=right):
                return _sum(self._of(left), self._of(right), 1)
            case tree.Binary(operator="-", left=left, right=right):
                return _sum(self._of(left), self._of(right), -1)
            case tree.Binary(operator="*", left=left, right=right):
                return _product(self._of(left), self._of(right))
            case tree.Binary(operator="**", left=left, right=tree.Constant(value=int(power))):
                if 0 < power <= _LARGEST_POWER:
                    return functools.reduce(_product, [self._of(left)] * power)
            case tree.Call(callee="rank_of", arguments=(tree.Argument(value=tree.Name(id=name)),)):
                if (rank := self.kinds.ranks.get(name)) is not None and rank.exact:
                    return {(): Fraction(rank.least)} if rank.least else {}
        return {(self._part(expr),): Fraction(1)}

    def _part(self, expr: tree.Expr) -> str:
        """The text of what is not taken apart, whose range is entered."""
        text = flat(expr)
        self.ranges.setdefault(text, self._range_of_part(expr))
        return text

    def _range_of_part(self, expr: tree.Expr) -> Range:
        match expr:
            case tree.Name(id=name) if self.kinds.is_size(name):
                return Range(Fraction(0), whole=True)
            case tree.Name(id=name):
                return Range(whole=name in self.kinds.whole)
            case tree.Binary(operator="%", left=left, right=tree.Constant(value=int(modulus))) if modulus > 0:
                whole = self._is_whole(left)
                return Range(Fraction(0), Fraction(modulus - 1 if whole else modulus), whole)
            case tree.Call(callee="rank_of", arguments=(tree.Argument(value=tree.Name(id=name)),)):
                known = self.kinds.ranks.get(name)
                return Range(Fraction(known.least if known else 0), whole=True)
            case tree.Call(callee=callee):
                least = Fraction(0) if callee in _NOT_NEGATIVE else -math.inf
                return Range(least, whole=callee in _WHOLE)
            case _:
                return Range()

    def _is_whole(self, expr: tree.Expr) -> bool:
        polynomial = self._of(expr)
        return self._range(tuple(polynomial.items())).whole

    def _range(self, polynomial: tuple[tuple[Monomial, Fraction], ...]) -> Range:
        least: float | Fraction = Fraction(0)
        most: float | Fraction = Fraction(0)
        whole = True
        for monomial, factor in polynomial:
            parts = [self.ranges[text] for text in monomial]
            whole = whole and factor.denominator == 1 and all(part.whole for part in parts)
            one = parts[0] if len(parts) == 1 else Range()
            if len(parts) != 1 and all(part.least >= 0 for part in parts):
                one = Range(Fraction(0) if parts else Fraction(1), math.inf if parts else Fraction(1))
            ends = (one.least * factor, one.most * factor)
            least, most = least + min(ends), most + max(ends)
        return Range(least, most, whole)


def _sum(
    left: Mapping[Monomial, Fraction], right: Mapping[Monomial, Fraction], factor: int
) -> dict[Monomial, Fraction]:
    result = dict(left)
    for monomial, value in right.items():
        total = result.pop(monomial, Fraction(0)) + factor * value
        if total:
            result[monomial] = total
    return result


def _product(
    left: Mapping[Monomial, Fraction], right: Mapping[Monomial, Fraction]
) -> dict[Monomial, Fraction]:
    if len(left) * len(right) > _MOST_PRODUCTS:
        raise OverflowError("too many products")
    result: dict[Monomial, Fraction] = {}
    for one, a in left.items():
        for other, b in right.items():
            monomial = tuple(sorted((*one, *other)))
            result[monomial] = result.get(monomial, Fraction(0)) + a * b
    return {monomial: value for monomial, value in result.items() if value}


# ---------------------------------------------------------------- several bounds


@dataclass
class Bounds:
    """What a conjunction leaves of each polynomial, and the comparison that says so."""

    left: dict[tuple[tuple[Monomial, Fraction], ...], list[tuple[Bound, str]]] = field(default_factory=dict)

    def copy(self) -> Bounds:
        """The same bounds, to which others are added."""
        return Bounds({polynomial: list(known) for polynomial, known in self.left.items()})

    def add(self, bound: Bound, words: str) -> str | None:
        """Take in one more, called so in messages; where an earlier one excludes it, what that is called."""
        known = self.left.setdefault(bound.polynomial, [])
        for other, earlier in known:
            if _exclude(bound, other):
                return earlier
        known.append((bound, words))
        return None


def _exclude(one: Bound, other: Bound) -> bool:
    """Whether two bounds on one polynomial leave nothing."""
    first, second = _left_by(one), _left_by(other)
    if {one.sign, other.sign} == {"==", "!="}:
        return one.limit == other.limit
    if "!=" in (one.sign, other.sign):
        return False
    least, most = max(first.least, second.least), min(first.most, second.most)
    open_ends = [b.limit for b in (one, other) if b.sign in ("<", ">") and not b.within.whole]
    return least > most or (least == most and least in open_ends)


def _left_by(bound: Bound) -> Range:
    """What a bound leaves, ends of `<` and `>` included where not all numbers are whole."""
    limit, whole = bound.limit, bound.within.whole
    match bound.sign:
        case "<":
            return Range(most=math.ceil(limit) - 1 if whole else limit, whole=whole)
        case "<=":
            return Range(most=math.floor(limit) if whole else limit, whole=whole)
        case ">":
            return Range(math.floor(limit) + 1 if whole else limit, whole=whole)
        case ">=":
            return Range(math.ceil(limit) if whole else limit, whole=whole)
        case "==":
            return Range(limit, limit, whole)
        case _:
            return Range(whole=whole)
