"""What is known of sizes, and what follows from it: equations, inequalities, and what is not zero.

Equations are solved for a variable where one has the coefficient ±1 and is nowhere else in them.
Inequalities follow where they are sums of known ones with positive coefficients (Farkas, 1902), found by
linear programming over monomials and verified in exact arithmetic. An answer is a proof; no answer means
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Literal

from tdsl.prove.polynomial import (
    Fresh,
    Join,
    Monomial,
    Number,
    Polynomial,
    Quotient,
    members_of,
    quotient,
    substituted,
)

Kind = Literal["zero", "least"]
"""A polynomial is zero, or not negative."""

ONE = Polynomial.constant(1)
MOST_ROWS = 96


class Contradiction(Exception):
    """What is assumed holds for no sizes."""


class Assumptions:
    """Conditions that hold together. Variables are whole numbers; those in `positive` are 1 at least."""

    def __init__(self, positive: Iterable[str] = ()) -> None:
        self.positive = set(positive)
        self.solved: dict[str, Polynomial] = {}
        """Variables and quotients with what they are equal to, in terms of the others."""
        self.zero: list[Polynomial] = []
        self.least: list[Polynomial] = []
        self.apart: list[Polynomial] = []
        """What is not zero."""
        self.fitting: list[tuple[Polynomial, Polynomial]] = []
        """Sizes that broadcast with each other."""

    # ------------------------------------------------------------ normal forms

    def normal(self, x: Polynomial) -> Polynomial:
        """x with what is known of its variables put in."""
        while True:
            after = substituted(x, self.solved, self.is_positive)
            if after is x or after == x:
                return after
            x = after

    def cleared(self, x: Polynomial) -> Polynomial:
        """A positive multiple of the normal form of x, or a part of it that has its sign."""
        x = self.normal(x).whole
        shared: Monomial | None = None
        for monomial in x.terms:
            shared = monomial if shared is None else _shared(shared, monomial)
            if not shared:
                return x
        taken = tuple(atom for atom in shared or () if atom in self.positive or isinstance(atom, Join))
        return Polynomial({_without(m, taken): c for m, c in x.terms.items()}) if taken else x

    def divided(self, numerator: Polynomial, denominator: Polynomial) -> Polynomial:
        """⌊numerator / denominator⌋."""
        numerator, denominator = self.normal(numerator), self.normal(denominator)
        if self._at_least(numerator) and self._at_least(denominator - numerator - ONE):
            return Polynomial({})
        return quotient(numerator, denominator, self.is_positive)

    def is_positive(self, x: Polynomial) -> bool:
        """Whether x is seen to be 1 at least."""
        return self._at_least(x - ONE)

    # ------------------------------------------------------------ answers

    def known(self, x: Polynomial, kind: Kind) -> bool | None:
        """Whether x is zero (not negative), as far as that is seen at once; else `None`."""
        x = self.cleared(x)
        if x.value is not None:
            return x.value == 0 if kind == "zero" else x.value >= 0
        if kind == "least":
            if self._at_least(x):
                return True
            return False if self._at_least(-x - ONE) else None
        if any(x == y or x == -y for y in self.zero):
            return True
        if any(x == y or x == -y for y in self.apart):
            return False
        return False if self._at_least(x - ONE) or self._at_least(-x - ONE) else None

    def implies(self, x: Polynomial, kind: Kind, outcome: bool, sign: Number) -> bool:
        """Whether it follows that x is zero (not negative), or that it is not: x has the sign, if any."""
        x = self.cleared(x)
        if kind == "least":
            return self._follows(x if outcome else -x - ONE)
        if not outcome:
            return self._follows((x if sign > 0 else -x) - ONE)
        return self._follows(x) and self._follows(-x)

    def fit(self, x: Polynomial, y: Polynomial) -> bool | None:
        """Whether sizes broadcast with each other; `None` where that is not seen."""
        x, y = self.normal(x), self.normal(y)
        pairs = [self._fit(a, b) for a in members_of(x) for b in members_of(y)]
        return False if False in pairs else None if None in pairs else True

    def _fit(self, x: Polynomial, y: Polynomial) -> bool | None:
        if x == y or ONE in (x, y) or (x, y) in self.fitting or (y, x) in self.fitting:
            return True
        return False if x.value is not None and y.value is not None else None

    def impossible(self) -> bool:
        """Whether what is assumed is seen to hold for no sizes."""
        return _is_sum(Polynomial.constant(-1), self._rows(Polynomial({})))

    def _at_least(self, x: Polynomial) -> bool:
        """Whether x is seen to be 0 at least."""
        return self._nonnegative(x) or any(self._nonnegative(x - y) for y in self.least)

    def _follows(self, x: Polynomial) -> bool:
        """Whether x is 0 at least because it is a sum of what is."""
        return _is_sum(x, _relevant(x, self._rows(x)))

    def _nonnegative(self, x: Polynomial) -> bool:
        """Whether every term is, those of positive variables counted with their least value."""
        least: Number = 0
        for monomial, coefficient in x.terms.items():
            if not monomial:
                least += coefficient
            elif all(atom in self.positive or isinstance(atom, Join) for atom in monomial):
                if coefficient < 0:
                    return False
                least += coefficient
            elif coefficient < 0 or not all(self._atom_nonnegative(atom) for atom in monomial):
                return False
        return least >= 0

    def _atom_nonnegative(self, atom: str) -> bool:
        if atom in self.positive or isinstance(atom, Join):
            return True
        own = Polynomial.variable(atom)
        if any(own == y for y in self.least):
            return True
        if isinstance(atom, Quotient):
            return self._is_said(atom.numerator) and self._is_said(atom.denominator - ONE)
        return False

    def _is_said(self, x: Polynomial) -> bool:
        """Whether x is 0 at least by itself, or but for a number by one assumption."""
        if self._nonnegative(x):
            return True
        return any((x - y).value is not None and (x - y).terms.get((), 0) >= 0 for y in self.least)

    def _rows(self, goal: Polynomial) -> list[Polynomial]:
        """Everything that is not negative and may matter to the goal."""
        rows = [*self.least]
        for equation in self.zero:
            rows += [equation, -equation]
        atoms = {a for p in (goal, *rows) for a in p.atoms}
        for atom in sorted(atoms):
            if isinstance(atom, Quotient) and self.is_positive(atom.denominator):
                left = atom.numerator - atom.denominator * Polynomial.variable(atom)
                rows += [left, atom.denominator - ONE - left]
        known = {a for a in atoms if self._atom_nonnegative(a)}
        factors = [Polynomial.variable(a) for a in sorted(known)]
        rows += factors
        rows += [Polynomial.variable(a) - ONE for a in sorted(known & self.positive)]
        if any(len(m) > 1 for p in (goal, *rows) for m in p.terms):
            rows += [row * factor for row in rows[:30] for factor in factors[:6]]
        return rows[:MOST_ROWS]

    # ------------------------------------------------------------ assumptions

    def add(self, x: Polynomial, kind: Kind, outcome: bool = True) -> None:
        """Assume that x is zero (not negative), or that it is not. Raises `Contradiction` where it cannot."""
        try:
            self._add(x, kind, outcome)
        except ZeroDivisionError:  # a quotient was made where its denominator is not zero
            raise Contradiction from None

    def _add(self, x: Polynomial, kind: Kind, outcome: bool) -> None:
        x = self.cleared(x)
        if self.known(x, kind) is (not outcome):
            raise Contradiction
        if kind == "least":
            x = x if outcome else -x - ONE
            if self._at_least(-x):
                self._solve(x)
            else:
                self.least.append(x)
        elif not outcome:
            self.apart.append(x)
            self._sharpen()
        elif x.terms:
            self._solve(x)

    def _sharpen(self) -> None:
        """What is not negative and not zero is positive."""
        for i, row in enumerate(self.least):
            if any(row == x or row == -x for x in self.apart):
                self.least[i] = row - ONE

    def _solve(self, x: Polynomial) -> None:
        for atom in x.atoms:  # a remainder that is zero: the quotient is a number of its own
            if not isinstance(atom, Quotient):
                continue
            exact = atom.numerator - atom.denominator * Polynomial.variable(atom)
            if exact in (x, -x):
                times = Fresh.of(atom)
                if self._nonnegative(atom.numerator - ONE) and self.is_positive(atom.denominator):
                    self.positive.add(times)
                self._put(atom, Polynomial.variable(times))
                x = self.normal(x)
                break
        if self._spread(x):
            return
        for monomial in sorted(x.terms, key=lambda m: (m != () and m[0] in self.positive, m), reverse=False):
            if len(monomial) != 1 or abs(x.terms[monomial]) != 1 or isinstance(monomial[0], Quotient):
                continue
            name = monomial[0]
            rest = x - Polynomial({monomial: x.terms[monomial]})
            if name not in rest.variables | rest.atoms:
                self._put(name, -rest if x.terms[monomial] == 1 else rest)
                return
        self.zero.append(x)

    def _spread(self, x: Polynomial) -> bool:
        """Solve broadcast(m, v) = v for v: it is broadcast(m, v'), where v' is any size that fits m."""
        for atom in x.atoms:
            if not isinstance(atom, Join):
                continue
            for member in atom.members:
                name = next(iter(member.variables), "")
                others = [m for m in atom.members if m is not member]
                plain = member == Polynomial.variable(name) and name in self.positive
                if not plain or any(name in m.variables for m in others):
                    continue
                if x in (Polynomial.variable(atom) - member, member - Polynomial.variable(atom)):
                    fresh = Fresh.of(name)
                    free = Polynomial.variable(fresh)
                    self.positive.add(fresh)
                    self._put(name, Join.of((*others, free)))
                    self.fitting += [(m, free) for m in others]
                    return True
        return False

    def _put(self, name: str, value: Polynomial) -> None:
        self.solved[name] = value
        if name in self.positive:
            self.positive.discard(name)
            self.least.append(value - ONE)
        self.solved = {n: self.normal(v) for n, v in self.solved.items()}
        self.least = [y for y in map(self.cleared, self.least) if not _is_constant(y, 0)]
        zero, self.zero = self.zero, []
        for x in map(self.cleared, zero):
            if _is_constant(x, None):
                raise Contradiction
            if x.terms:
                self.zero.append(x)
        self.apart = [self.cleared(y) for y in self.apart]
        fitting = [(self.normal(x), self.normal(y)) for x, y in self.fitting]
        self.fitting = [(a, b) for x, y in fitting for a in members_of(x) for b in members_of(y)]
        if any(
            x.value != y.value and 1 not in (x.value, y.value) for x, y in self.fitting if x.value and y.value
        ):
            raise Contradiction
        if any(not y.terms for y in self.apart):
            raise Contradiction


def _shared(first: Monomial, second: Monomial) -> Monomial:
    """What two monomials have in common."""
    rest = list(second)
    found = []
    for atom in first:
        if atom in rest:
            rest.remove(atom)
            found.append(atom)
    return tuple(found)


def _without(monomial: Monomial, factor: Monomial) -> Monomial:
    rest = list(monomial)
    for atom in factor:
        rest.remove(atom)
    return tuple(rest)


def _is_constant(x: Polynomial, least: int | None) -> bool:
    """Whether x is a number that says nothing (`least`), or one that is not zero. Raises `Contradiction`."""
    if x.value is None:
        return False
    if least is None:
        return x.value != 0
    if x.value < least:
        raise Contradiction
    return True


def _relevant(goal: Polynomial, rows: list[Polynomial]) -> list[Polynomial]:
    """The rows that have monomials in common with the goal, or with another such row."""
    reached = {m for m in goal.terms if m}
    found: list[Polynomial] = []
    waiting = list(rows)
    while True:
        more = [row for row in waiting if any(m in reached for m in row.terms)]
        if not more:
            return found
        found += more
        waiting = [row for row in waiting if not any(m in reached for m in row.terms)]
        reached.update(m for row in more for m in row.terms if m)


def _is_sum(goal: Polynomial, rows: list[Polynomial]) -> bool:
    """Whether goal = c + Σ λᵢ·rowᵢ with c, λᵢ ≥ 0. The numbers of the linear program are verified exactly."""
    import numpy as np
    from scipy.optimize import linprog

    for monomial, coefficient in goal.terms.items():  # something has to give each of its terms
        if monomial and not any(row.terms.get(monomial, 0) * coefficient > 0 for row in rows):
            return False
    if not rows:
        return goal.value is not None and goal.value >= 0
    places: dict[Monomial, int] = {}
    for p in (goal, *rows):
        for monomial in p.terms:
            if monomial:
                places.setdefault(monomial, len(places))
    matrix = np.zeros((len(places), len(rows)))
    constants = np.zeros(len(rows))
    for j, row in enumerate(rows):
        for monomial, coefficient in row.terms.items():
            if monomial:
                matrix[places[monomial], j] = float(coefficient)
            else:
                constants[j] = float(coefficient)
    wanted = np.array([float(goal.terms.get(m, 0)) for m in places])
    found = linprog(constants, A_eq=matrix, b_eq=wanted, bounds=(0, None), method="highs-ds")
    if found.status != 0 or found.fun > float(goal.terms.get((), 0)) + 1e-9:
        return False
    rest = goal
    for weight, row in zip(found.x, rows, strict=True):
        share = Fraction(float(weight)).limit_denominator(64)
        if share:
            rest = rest - row * Polynomial.constant(share)
    return rest.value is not None and rest.value >= 0
