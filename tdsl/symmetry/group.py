"""Groups by generators: finite ones by permutations or matrices, classical ones with their Lie algebra.

A law that holds for the generators holds for the group, so that everything here speaks of a few elements;
those of a finite group are listed as words in the generators, shortest first.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.symmetry.components import components
from tdsl.symmetry.element import (
    Element,
    Linear,
    Permutation,
    block_diagonal,
    direct_sum,
    identity,
    key,
    then,
)

Word = tuple[int, ...]
"""A product of generators, by their places; the first acts first."""

MOST_ELEMENTS = 10_000
"""Larger finite groups are not listed."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group with its defining representation on R^degree.

    Generators of a continuous group are those that its Lie algebra does not reach: a reflection, for O(n).
    """

    name: str
    degree: int
    names: tuple[str, ...]
    """A name for each generator."""
    generators: tuple[Element, ...]
    """What each generator does to R^degree."""
    algebra: tuple[Tensor, ...] = field(default=(), compare=False)
    """A basis of the Lie algebra, [degree, degree] each; empty for a finite group."""
    known_order: int | None = field(default=None, compare=False)
    family: str = field(default="", compare=False)
    """The name of the family in `makers.CONSTRUCTORS` that it belongs to, if any."""
    moved: tuple[int, ...] = ()
    """Where elements are affine maps x ↦ A·x + t as matrices [[A, t], [0, 1]]: the sizes of t."""
    whole: bool = False
    """Whether t consists of whole numbers, infinitely many."""
    draw: Callable[[torch.Generator], Tensor] | None = field(default=None, compare=False)
    """A random element, where words and exponentials would not be what is wanted."""

    @property
    def finite(self) -> bool:
        """Whether it has finitely many elements."""
        return not self.algebra and not self.whole

    @property
    def order(self) -> int | None:
        """How many elements there are; `None` for infinitely many. Raises `TdslError` beyond counting."""
        if not self.finite:
            return None
        if self.known_order is not None:
            return self.known_order
        if all(isinstance(one, Permutation) for one in self.generators):
            from sympy.combinatorics import Permutation as Sympy
            from sympy.combinatorics import PermutationGroup

            moving = [Sympy(list(g.places)) for g in self.generators if isinstance(g, Permutation)]
            return int(PermutationGroup(moving).order()) if moving else 1
        return len(self.elements())

    def elements(self, most: int = MOST_ELEMENTS) -> tuple[tuple[Word, Element], ...]:
        """Every element as a word and by what it does to R^degree, the identity first, shorter words earlier.

        Raises `TdslError` for an infinite group and for one of more than `most` elements.
        """
        if not self.finite:
            raise TdslError(f"{self.name} has infinitely many elements", expected="a finite group")
        return _elements(self, most)

    def image(self, word: Word, generators: Sequence[Element], size: int) -> Element:
        """What a word does where the generators do `generators` to an axis of that size."""
        start: Element = identity(size)
        return functools.reduce(then, (generators[i] for i in word), start)

    def sample(self, count: int, seed: int = 0) -> list[Tensor]:
        """Random elements as matrices [degree, degree]: long words, times exponentials of the Lie algebra.

        A group that has its own way to draw (`draw`) is asked for them.
        """
        random = torch.Generator().manual_seed(seed)
        if self.draw is not None:
            return [self.draw(random) for _ in range(count)]
        found = []
        for _ in range(count):
            matrix = torch.eye(self.degree, dtype=torch.float64)
            for one in self.generators:
                if bool(torch.randint(2, (), generator=random)):
                    matrix = one.matrix() @ matrix
            if self.algebra:
                weights = torch.randn(len(self.algebra), generator=random, dtype=torch.float64)
                step = torch.einsum("a,aij->ij", weights, torch.stack(self.algebra))
                matrix = torch.linalg.matrix_exp(step) @ matrix
            elif self.generators:
                for place in torch.randint(
                    len(self.generators), (4 * self.degree,), generator=random
                ).tolist():
                    matrix = self.generators[place].matrix() @ matrix
            found.append(matrix)
        return found


@functools.lru_cache(maxsize=32)
def _elements(group: Group, most: int) -> tuple[tuple[Word, Element], ...]:
    found: list[tuple[Word, Element]] = [((), identity(group.degree))]
    known = {key(found[0][1])}
    for word, element in found:  # grows while it is walked: breadth first
        for place, generator in enumerate(group.generators):
            product = then(element, generator)
            if key(product) not in known:
                if len(found) >= most:
                    raise TdslError(
                        f"{group.name} has more than {most} elements",
                        expected="a smaller group, or an infinite one",
                    )
                known.add(key(product))
                found.append(((*word, place), product))
    return tuple(found)


# ---------------------------------------------------------------- constructors


def cyclic(n: int) -> Group:
    """The cyclic group of order n on n places in a ring; `r` shifts by one."""
    positive("cyclic", n)
    return Group(
        f"cyclic({n})", n, ("r",), (Permutation(tuple((i + 1) % n for i in range(n))),), known_order=n
    )


def dihedral(n: int) -> Group:
    """The symmetries of a regular n-gon, of order 2n, on its corners; `r` turns, `s` mirrors."""
    positive("dihedral", n)
    turn = Permutation(tuple((i + 1) % n for i in range(n)))
    mirror = Permutation(tuple(-i % n for i in range(n)))
    if n > 2:
        return Group(f"dihedral({n})", n, ("r", "s"), (turn, mirror), known_order=2 * n)
    return generated(
        [direct_sum([turn, identity(2)]), direct_sum([identity(n), Permutation((1, 0))])], f"dihedral({n})"
    )


def symmetric(n: int) -> Group:
    """All permutations of n places, S(n), by a transposition and a cycle."""
    positive("S", n)
    swap = Permutation((1, 0, *range(2, n)) if n > 1 else (0,))
    cycle = Permutation(tuple((i + 1) % n for i in range(n)))
    return Group(f"S({n})", n, ("swap", "cycle"), (swap, cycle), (), math.factorial(n), "S")


def alternating(n: int) -> Group:
    """The even permutations of n places, A(n), by the cycles (0 1 k)."""
    positive("A", n)

    def cycle(k: int) -> Permutation:
        places = list(range(n))
        places[0], places[1], places[k] = 1, k, 0
        return Permutation(tuple(places))

    generators = tuple(cycle(k) for k in range(2, n))
    names = tuple(f"c{k}" for k in range(2, n))
    return Group(f"A({n})", n, names, generators, (), max(1, math.factorial(n) // 2), "A")


def orthogonal(n: int) -> Group:
    """O(n): rotations and a reflection."""
    positive("O", n)
    mirror = torch.eye(n, dtype=torch.float64)
    mirror[0, 0] = -1
    return Group(f"O({n})", n, ("mirror",), (Linear(mirror),), _skew(n), 2 if n == 1 else None, "O")


def special_orthogonal(n: int) -> Group:
    """SO(n): rotations."""
    positive("SO", n)
    return Group(f"SO({n})", n, (), (), _skew(n), 1 if n == 1 else None, "SO")


def symplectic(n: int) -> Group:
    """Sp(n), n even: the matrices S with Sᵀ·J·S = J, where J pairs places 2i and 2i + 1."""
    positive("Sp", n)
    if n % 2:
        raise TdslError(f"Sp({n}) does not exist", expected="an even number of dimensions")
    form = block_diagonal([torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)] * (n // 2))
    algebra = []
    for i in range(n):
        for j in range(i, n):  # J⁻¹·(a symmetric matrix)
            even = torch.zeros(n, n, dtype=torch.float64)
            even[i, j] = even[j, i] = 1
            algebra.append(-form @ even)
    return Group(f"Sp({n})", n, (), (), tuple(algebra), None, "Sp")


def generated(generators: Sequence[Element], name: str = "") -> Group:
    """What permutations or matrices of one size generate. Raises `TdslError` when sizes differ."""
    sizes = {one.size for one in generators}
    if len(sizes) != 1:
        raise TdslError(
            f"generators act on spaces of sizes {sorted(sizes)}", expected="at least one, and all of one size"
        )
    names = tuple(f"g{i}" for i in range(len(generators)))
    shown = name or f"generated({len(generators)} of {generators[0].size} places)"
    return Group(shown, generators[0].size, names, tuple(generators))


def product(first: Group, second: Group) -> Group:
    """The direct product, on the sum of both spaces."""
    left, right = identity(first.degree), identity(second.degree)
    generators = (
        *(direct_sum([g, right]) for g in first.generators),
        *(direct_sum([left, g]) for g in second.generators),
    )
    algebra = (
        *(
            block_diagonal([a, torch.zeros(second.degree, second.degree, dtype=a.dtype)])
            for a in first.algebra
        ),
        *(
            block_diagonal([torch.zeros(first.degree, first.degree, dtype=a.dtype), a])
            for a in second.algebra
        ),
    )
    names = (*(f"{n}₁" for n in first.names), *(f"{n}₂" for n in second.names))
    orders = first.known_order, second.known_order
    order = orders[0] * orders[1] if orders[0] is not None and orders[1] is not None else None
    return Group(
        f"{first.name} × {second.name}",
        first.degree + second.degree,
        names,
        generators,
        algebra,
        known_order=order,
    )


def wreath(inner: Group, outer: Group) -> Group:
    """The wreath product on outer.degree blocks: `inner` inside each of them, `outer` permutes the blocks.

    Raises `TdslError` for a continuous group, and when `outer` does not permute.
    """
    if not inner.finite or not all(isinstance(g, Permutation) for g in outer.generators):
        raise TdslError(
            f"{inner.name} ≀ {outer.name} is not supported",
            expected="a finite group inside, permutations outside",
        )
    width, blocks = inner.degree, outer.degree
    orbits = _orbits(outer)
    generators: list[Element] = []
    names: list[str] = []
    for start in orbits:  # one block of each orbit: the others are its conjugates
        for name, g in zip(inner.names, inner.generators, strict=True):
            generators.append(direct_sum([g if b == start else identity(width) for b in range(blocks)]))
            names.append(f"{name}[{start}]")
    for name, g in zip(outer.names, outer.generators, strict=True):
        assert isinstance(g, Permutation)
        generators.append(Permutation(tuple(b * width + i for b in g.places for i in range(width))))
        names.append(name)
    order = None
    if inner.known_order is not None and outer.known_order is not None:
        order = inner.known_order**blocks * outer.known_order
    return Group(
        f"{inner.name} ≀ {outer.name}", width * blocks, tuple(names), tuple(generators), known_order=order
    )


def _orbits(group: Group) -> list[int]:
    """The least place of each orbit of a permutation group."""
    labels = components(
        group.degree, [torch.tensor(g.places) for g in group.generators if isinstance(g, Permutation)]
    )
    least: dict[int, int] = {}
    for place, label in enumerate(labels.tolist()):
        least.setdefault(label, place)
    return list(least.values())


def _skew(n: int) -> tuple[Tensor, ...]:
    found = []
    for i, j in combinations(range(n), 2):
        one = torch.zeros(n, n, dtype=torch.float64)
        one[i, j], one[j, i] = -1, 1
        found.append(one)
    return tuple(found)


def positive(name: str, n: int) -> None:
    """Raise `TdslError` for what is no size of a group."""
    if not isinstance(n, int) or n < 1:
        shown = n if isinstance(n, int | float) else "…"
        raise TdslError(f"{name}({shown}) does not exist", expected="a whole number of at least 1")
