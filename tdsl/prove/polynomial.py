"""Sizes as expressions: integer polynomials in variables and in quotients rounded down.

Two expressions are the same where their normal forms are; quotients have normal forms of their own, with what
is a multiple of the denominator taken out and a quotient of a quotient made one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import cached_property

Number = int | Fraction
Monomial = tuple[str, ...]
"""Variables and quotients in the order of their texts, each as often as its power says."""


class Quotient(str):
    """⌊numerator / denominator⌋, by its text, so that it takes the place of a variable."""

    numerator: Polynomial
    denominator: Polynomial

    @staticmethod
    def of(numerator: Polynomial, denominator: Polynomial) -> Quotient:
        """The quotient, as a variable."""
        made = Quotient(f"(({numerator}) div ({denominator}))")
        made.numerator, made.denominator = numerator, denominator
        return made


class Fresh(str):
    """A variable that what something is solved for is written in; it has the value of what it replaces."""

    original: str

    @staticmethod
    def of(original: str) -> Fresh:
        """A variable for a quotient without remainder, or for a size that is 1 or that of another one."""
        made = Fresh(f"{original}!")
        made.original = original
        return made


class Join(str):
    """What sizes broadcast to: the one that is not 1, where all that are not 1 are the same."""

    members: tuple[Polynomial, ...]

    @staticmethod
    def of(members: Iterable[Polynomial]) -> Polynomial:
        """What these broadcast to, as far as is seen: equal ones count once, a 1 not at all."""
        distinct = {str(member): member for x in members for member in members_of(x)}
        distinct.pop("1", None)
        if len(distinct) < 2:
            return next(iter(distinct.values()), Polynomial.constant(1))
        numbers = [member for member in distinct.values() if member.value is not None]
        if numbers:
            return numbers[0]
        made = Join(f"broadcast({', '.join(sorted(distinct))})")
        made.members = tuple(distinct[text] for text in sorted(distinct))
        return Polynomial.variable(made)


def members_of(x: Polynomial) -> tuple[Polynomial, ...]:
    """The sizes that a broadcast one is made of, or itself."""
    atom = next(iter(x.atoms), None) if len(x.terms) == 1 else None
    return atom.members if isinstance(atom, Join) and x.terms == {(atom,): 1} else (x,)


class Polynomial:
    """A sum of monomials with rational coefficients, none of them zero."""

    def __init__(self, terms: Mapping[Monomial, Number]) -> None:
        self.terms = {m: c for m, c in terms.items() if c}

    @staticmethod
    def constant(value: Number) -> Polynomial:
        """A number."""
        return Polynomial({(): value})

    @staticmethod
    def variable(name: str) -> Polynomial:
        """A variable or a quotient."""
        return Polynomial({(name,): 1})

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self.terms)
        for monomial, coefficient in other.terms.items():
            terms[monomial] = terms.get(monomial, 0) + coefficient
        return Polynomial(terms)

    def __neg__(self) -> Polynomial:
        return Polynomial({m: -c for m, c in self.terms.items()})

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + -other

    def __mul__(self, other: Polynomial) -> Polynomial:
        terms: dict[Monomial, Number] = {}
        for first, a in self.terms.items():
            for second, b in other.terms.items():
                monomial = tuple(sorted(first + second)) if first and second else first + second
                terms[monomial] = terms.get(monomial, 0) + a * b
        return Polynomial(terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.terms == other.terms

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def value(self) -> Number | None:
        """The number that this is; `None` where it depends on a variable."""
        if not self.terms:
            return 0
        return self.terms.get(()) if len(self.terms) == 1 else None

    @cached_property
    def variables(self) -> frozenset[str]:
        """The variables in it, those inside quotients too."""
        found: set[str] = set()
        for atom in self.atoms:
            if isinstance(atom, Quotient):
                found |= atom.numerator.variables | atom.denominator.variables
            elif isinstance(atom, Join):
                found |= {name for member in atom.members for name in member.variables}
            else:
                found.add(atom)
        return frozenset(found)

    @cached_property
    def atoms(self) -> frozenset[str]:
        """Variables and quotients of its monomials."""
        return frozenset(atom for monomial in self.terms for atom in monomial)

    @cached_property
    def whole(self) -> Polynomial:
        """A positive multiple of it with whole coefficients of no common divisor."""
        if not self.terms:
            return self
        scale = math.lcm(*(Fraction(c).denominator for c in self.terms.values()))
        shared = math.gcd(*(int(c * scale) for c in self.terms.values()))
        return Polynomial({m: int(c * scale) // shared for m, c in self.terms.items()})

    def at(self, values: Mapping[str, int]) -> Number:
        """Its value. Raises `ZeroDivisionError`."""
        return sum(c * math.prod(_atom_at(a, values) for a in m) for m, c in self.terms.items())

    @cached_property
    def text(self) -> str:
        """As an expression of the language."""
        parts: list[str] = []
        for monomial in sorted(self.terms, key=lambda m: (not m, m)):
            coefficient = self.terms[monomial]
            size = abs(coefficient)
            factors = [*([str(size)] if size != 1 or not monomial else []), *monomial]
            sign = "-" if coefficient < 0 else "+" if parts else ""
            parts.append(f"{sign} {' * '.join(factors)}" if parts else f"{sign}{' * '.join(factors)}")
        return " ".join(parts) or "0"

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def _atom_at(atom: str, values: Mapping[str, int]) -> int:
    if atom in values:
        return values[atom]
    if isinstance(atom, Fresh):
        return _atom_at(atom.original, values)
    if isinstance(atom, Quotient):
        return int(atom.numerator.at(values) // atom.denominator.at(values))
    if isinstance(atom, Join):
        return max(int(member.at(values)) for member in atom.members)
    raise KeyError(atom)


def substituted(
    x: Polynomial, known: Mapping[str, Polynomial], positive: Callable[[Polynomial], bool]
) -> Polynomial:
    """x with polynomials for variables, and for quotients."""
    if not known or not any(name in known for name in x.variables | x.atoms):
        return x
    result = Polynomial({})
    for monomial, coefficient in x.terms.items():
        product = Polynomial.constant(coefficient)
        for atom in monomial:
            product = product * _atom_with(atom, known, positive)
        result = result + product
    return result


def _atom_with(
    atom: str, known: Mapping[str, Polynomial], positive: Callable[[Polynomial], bool]
) -> Polynomial:
    if atom in known:
        return known[atom]
    if isinstance(atom, Join):
        members = [substituted(member, known, positive) for member in atom.members]
        return Join.of(members)
    if not isinstance(atom, Quotient):
        return Polynomial.variable(atom)
    numerator = substituted(atom.numerator, known, positive)
    denominator = substituted(atom.denominator, known, positive)
    if numerator is atom.numerator and denominator is atom.denominator:
        return Polynomial.variable(atom)
    return quotient(numerator, denominator, positive)


def quotient(
    numerator: Polynomial, denominator: Polynomial, positive: Callable[[Polynomial], bool]
) -> Polynomial:
    """⌊numerator / denominator⌋. Raises `ZeroDivisionError` where the denominator is seen to be zero.

    Multiples of the denominator are taken out, and ⌊(⌊a / b⌋ + t) / c⌋ is ⌊(a + t·b) / (b·c)⌋ where b and c
    are positive.
    """
    if not denominator.terms:
        raise ZeroDivisionError(f"{numerator} by zero")
    scale = math.lcm(*(Fraction(c).denominator for p in (numerator, denominator) for c in p.terms.values()))
    sign = -1 if all(c < 0 for c in denominator.terms.values()) else 1
    factor = Polynomial.constant(scale * sign)
    numerator, denominator = numerator * factor, denominator * factor
    taken, rest = _divided(numerator, denominator)
    inner = [atom for atom in rest.atoms if isinstance(atom, Quotient)]
    if len(inner) == 1 and rest.terms.get((inner[0],)) == 1 and sum(inner[0] in m for m in rest.terms) == 1:
        below = inner[0].denominator
        if positive(below) and positive(denominator):
            others = rest - Polynomial.variable(inner[0])
            return taken + quotient(inner[0].numerator + others * below, below * denominator, positive)
    shared = math.gcd(*(int(c) for p in (rest, denominator) for c in p.terms.values()))
    divisor = denominator.value
    if divisor is not None:  # the numbers in the numerator matter only down to what the others divide
        shared = math.gcd(*(int(c) for m, c in rest.terms.items() if m), int(divisor))
        offset = int(rest.terms.get((), 0)) // shared
        rest = Polynomial({**{m: int(c) // shared for m, c in rest.terms.items() if m}, (): offset})
        denominator = Polynomial.constant(int(divisor) // shared)
    elif shared > 1:
        rest, denominator = (
            Polynomial({m: int(c) // shared for m, c in p.terms.items()}) for p in (rest, denominator)
        )
    if denominator.value == 1:
        return taken + rest
    if rest.value is not None and divisor is not None:
        return taken + Polynomial.constant(int(rest.value) // int(denominator.value or 1))
    if not rest.terms:
        return taken
    return taken + Polynomial.variable(Quotient.of(rest, denominator))


def _divided(numerator: Polynomial, denominator: Polynomial) -> tuple[Polynomial, Polynomial]:
    """Multiples of the denominator in the numerator, and what is left; coefficients are whole."""
    lead = max(denominator.terms, key=lambda m: (len(m), m))
    divisor = int(denominator.terms[lead])
    taken, rest, left = Polynomial({}), numerator, Polynomial({})
    while rest.terms:
        monomial = max(rest.terms, key=lambda m: (len(m), m))
        coefficient = int(rest.terms[monomial])
        share = _without(monomial, lead)
        times = coefficient // divisor if share is not None else 0
        if share is None or not times:
            term = Polynomial({monomial: coefficient})
            left, rest = left + term, rest - term
            continue
        part = Polynomial({share: times})
        taken = taken + part
        rest = rest - part * denominator
        if coefficient % divisor:  # what is left of the term stays
            term = Polynomial({monomial: rest.terms[monomial]})
            left, rest = left + term, rest - term
    return taken, left


def _without(monomial: Monomial, factor: Monomial) -> Monomial | None:
    rest = list(monomial)
    for atom in factor:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest)
