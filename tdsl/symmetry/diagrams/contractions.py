"""Products of tensors contracted with δ and ε, which turn as a tensor does because of what they are made of.

Every polynomial in vectors and tensors that is invariant under O(n) is a combination of complete contractions
with δ, under SO(n) with at most one ε besides (Weyl, 1939); with axes left over they are tensors again.
`contractions` lists those of one degree, each once, and none that is a combination of those before it: for
small n many are.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.symmetry.diagrams.brauer import Matching, determinants, matchings
from tdsl.symmetry.diagrams.jellyfish import signed_orders

MOST_POINTS = 10
"""More axes in all have too many diagrams: 945 pairings of ten."""

PRIME = 2**31 - 1
"""Values at random whole numbers are compared modulo this one, so that nothing is rounded."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Kind:
    """A tensor that may be contracted: how many axes it has, and whether their order matters."""

    order: int
    symmetric: bool = False


@dataclass(frozen=True)
class Contraction:
    """A product of tensors, some of their axes contracted; `diagram` has the axes left over first."""

    factors: tuple[str, ...]
    orders: tuple[int, ...]
    diagram: Matching
    n: int

    @property
    def degree(self) -> int:
        """How many factors there are."""
        return len(self.factors)

    @property
    def parity(self) -> int:
        """The sign that it takes up under a reflection, beside that of a tensor: −1 with an ε, else 1."""
        return -1 if self.diagram.free else 1

    @cached_property
    def _labels(self) -> list[str]:
        """A letter for each point."""
        letters = iter(_LETTERS)
        found = [""] * self.diagram.points
        for pair in self.diagram.pairs:
            letter = next(letters)
            for place in pair:
                found[place] = letter
        for place in self.diagram.free:
            found[place] = next(letters)
        return found

    def _terms(self) -> tuple[str, list[str], str]:
        """The letters of the result, of every factor, and of ε."""
        labels, at = self._labels, self.diagram.outputs
        terms = []
        for order in self.orders:
            terms.append("".join(labels[at : at + order]))
            at += order
        return "".join(labels[: self.diagram.outputs]), terms, "".join(labels[p] for p in self.diagram.free)

    @property
    def text(self) -> str:
        """`A_ab A_ab`, `ε_abc x_a y_b z_c`; a result with axes as `[a] A_ab x_b`."""
        output, terms, symbol = self._terms()
        words = [f"{name}_{term}" if term else name for name, term in zip(self.factors, terms, strict=True)]
        head = [f"[{output}]"] if output else []
        return " ".join([*head, *([f"ε_{symbol}"] if symbol else []), *words])

    def apply(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The value for tensors [..., n, …] by name, which may have leading axes in common. [..., n, …]"""
        output, terms, symbol = self._terms()
        waiting = [_traced(tensors[name], term) for name, term in zip(self.factors, terms, strict=True)]
        if symbol:
            waiting.append((levi_civita(self.n).to(waiting[0][0]), symbol))
        value, letters = waiting.pop(0)
        while waiting:
            near = next((i for i, (_, own) in enumerate(waiting) if set(own) & set(letters)), 0)
            value, letters = _contracted(value, letters, *waiting.pop(near))
        lead = value.ndim - len(letters)
        places = []
        for place, letter in enumerate(output):
            if letter in output[place + 1 :]:  # both ends of a δ are left over: it is written out
                value = value[..., None, None] * torch.eye(self.n).to(value)
                letters += 2 * letter
            places.append(letters.index(letter) if letter not in output[:place] else letters.rindex(letter))
        return value.permute(*range(lead), *(lead + place for place in places))


def _traced(tensor: Tensor, term: str) -> tuple[Tensor, str]:
    """A factor whose axes with one letter are summed over their diagonal."""
    for letter in {one for one in term if term.count(one) > 1}:
        first, second = (place - len(term) for place in (term.index(letter), term.rindex(letter)))
        tensor = tensor.diagonal(dim1=first, dim2=second).sum(-1)
        term = term.replace(letter, "")
    return tensor, term


def _contracted(first: Tensor, own: str, second: Tensor, other: str) -> tuple[Tensor, str]:
    """Two tensors, and their letters, as one product of matrices over the letters that both have."""
    shared = [letter for letter in own if letter in other]
    kept, new = ([one for one in letters if one not in shared] for letters in (own, other))
    left = _matrix(first, own, kept, shared)
    product = left @ _matrix(second, other, shared, new)
    n = first.shape[-1] if own else second.shape[-1] if other else 1
    return product.reshape(*product.shape[:-2], *(n for _ in (*kept, *new))), "".join((*kept, *new))


def _matrix(tensor: Tensor, letters: str, rows: Sequence[str], columns: Sequence[str]) -> Tensor:
    """A tensor as matrices [..., entries of some axes, entries of the others]."""
    lead = tensor.ndim - len(letters)
    order = [*range(lead), *(lead + letters.index(one) for one in (*rows, *columns))]
    n = tensor.shape[-1] if letters else 1
    return tensor.permute(order).reshape(*tensor.shape[:lead], n ** len(rows), n ** len(columns))


def levi_civita(n: int) -> Tensor:
    """ε, which is the sign of its n indices as a permutation. [n, …, n], float64."""
    found = torch.zeros((n,) * n, dtype=torch.float64)
    order, signs = signed_orders(n)
    found[tuple(order.T)] = signs.to(torch.float64)
    return found


def contractions(
    family: str, n: int, kinds: Mapping[str, Kind], degree: int, outputs: int = 0
) -> list[Contraction]:
    """Independent contractions of `degree` factors, one or more, with `outputs` axes left over.

    `family` is "O", or "SO", which adds those with an ε. Raises `TdslError` for others, without factors, and
    where there are more than `MOST_POINTS` axes in all.
    """
    if degree < 1:
        raise TdslError(f"{degree} factors are no product", expected="a degree of at least 1")
    if family not in ("O", "SO"):
        raise TdslError(f"contractions with δ and ε belong to O(n) and SO(n), not to {family}(n)")
    found: list[Contraction] = []
    for factors in itertools.combinations_with_replacement(kinds, degree):
        orders = tuple(kinds[name].order for name in factors)
        points = sum(orders) + outputs
        if points > MOST_POINTS:
            raise TdslError(
                f"{' · '.join(factors)} and {outputs} axes left over have {points} axes",
                expected=f"{MOST_POINTS} at most",
            )
        own = matchings(points - outputs, outputs)
        if family == "SO" and points >= n and (points - n) % 2 == 0:
            own += determinants(n, points - outputs, outputs)
        seen: set[object] = set()
        for diagram in own:
            one = Contraction(factors, orders, diagram, n)
            key = _canonical(one, [kinds[name].symmetric for name in factors])
            if key not in seen and not _vanishes(one, kinds):
                seen.add(key)
                found.append(one)
    return _independent(found, kinds, n)


def _canonical(one: Contraction, symmetric: Sequence[bool]) -> object:
    """Equal for contractions that differ by the order of equal factors, and of axes that are alike."""
    owner: list[tuple[int, int]] = [(-1, i) for i in range(one.diagram.outputs)]
    for factor, order in enumerate(one.orders):
        owner += [(factor, 0 if symmetric[factor] else axis) for axis in range(order)]
    alike: dict[str, list[int]] = {}
    for place, name in enumerate(one.factors):
        alike.setdefault(name, []).append(place)

    def renamed(order: Mapping[int, int]) -> tuple[object, ...]:
        named = [(order.get(factor, factor), axis) for factor, axis in owner]
        edges = Counter(tuple(sorted((named[a], named[b]))) for a, b in one.diagram.pairs)
        ends = Counter(named[p] for p in one.diagram.free)
        return tuple(sorted(edges.items())), tuple(sorted(ends.items()))

    return min(renamed(order) for order in _orders(list(alike.values())))


def _orders(groups: Sequence[Sequence[int]]) -> Iterator[dict[int, int]]:
    for chosen in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield {
            old: new
            for group, order in zip(groups, chosen, strict=True)
            for old, new in zip(group, order, strict=True)
        }


def _vanishes(one: Contraction, kinds: Mapping[str, Kind]) -> bool:
    """Whether ε meets two axes that are alike, of one symmetric tensor or of two equal vectors."""
    at = one.diagram.outputs
    met: Counter[object] = Counter()
    for place, (name, order) in enumerate(zip(one.factors, one.orders, strict=True)):
        for axis in range(order):
            if at + axis in one.diagram.free:
                met[name if order == 1 else place if kinds[name].symmetric else (place, axis)] += 1
        at += order
    return any(count > 1 for count in met.values())


def _independent(found: Sequence[Contraction], kinds: Mapping[str, Kind], n: int) -> list[Contraction]:
    """Those of which none is a combination of the ones before it, as polynomials in all entries."""
    if not found:
        return []
    random = torch.Generator().manual_seed(0)
    samples = 2 * len(found) + 8
    tensors = {}
    for name, kind in kinds.items():
        drawn = torch.randint(-3, 4, (samples, *(n,) * kind.order), generator=random).to(torch.float64)
        if kind.symmetric and kind.order > 1:
            axes = range(1, kind.order + 1)
            drawn = sum(
                (drawn.permute(0, *order) for order in itertools.permutations(axes)), torch.zeros_like(drawn)
            )
        tensors[name] = drawn
    kept, echelon = [], _Echelon()
    for one in found:
        values = one.apply(tensors).flatten().to(torch.int64).numpy()
        if echelon.adds(values):
            kept.append(one)
    return kept


class _Echelon:
    """Rows modulo a prime, each reduced by those before it."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, NDArray[np.int64]]] = []

    def adds(self, row: NDArray[np.int64]) -> bool:
        """Whether a row is no combination of the known ones; it is known from then on."""
        left = row % PRIME
        for pivot, known in self._rows:
            left = (left - left[pivot] * known) % PRIME
        places = np.flatnonzero(left)
        if not len(places):
            return False
        pivot = int(places[0])
        self._rows.append((pivot, left * pow(int(left[pivot]), -1, PRIME) % PRIME))
        return True


def without_symbols(first: Contraction, second: Contraction) -> list[tuple[int, Contraction]]:
    """The product of two complete contractions, each with an ε, as one with δ alone: signs and terms.

    ε·ε is the determinant of δ (n! terms). Raises `TdslError` for what has no ε, or axes left over.
    """
    if not first.diagram.free or not second.diagram.free or first.diagram.outputs or second.diagram.outputs:
        raise TdslError("only two complete contractions, each with an ε, are one without")
    ahead = first.diagram.points
    pairs = [*first.diagram.pairs, *((a + ahead, b + ahead) for a, b in second.diagram.pairs)]
    order, signs = signed_orders(first.n)
    found = []
    for places, sign in zip(order.tolist(), signs.tolist(), strict=True):
        joined = [
            (a, second.diagram.free[place] + ahead)
            for a, place in zip(first.diagram.free, places, strict=True)
        ]
        diagram = Matching(tuple(sorted([*pairs, *joined])), ahead + second.diagram.points, 0)
        made = Contraction(first.factors + second.factors, first.orders + second.orders, diagram, first.n)
        found.append((int(sign), made))
    assert len(found) == math.factorial(first.n)
    return found
