"""Perfect matchings: the diagrams of O(n), SO(n) and Sp(n) (Brauer, 1937; as layers, Pearce-Crump, 2023).

O(n) has a δ for each pair of points. SO(n) has in addition diagrams in which n points are free and carry
the Levi-Civita symbol ε. Sp(n), n even, has the symplectic form ω, blocks [[0, 1], [−1, 0]] on the diagonal,
for two points of one row, and δ across. For small n the diagrams are dependent; inner products, which are ± a
power of n for each pair of diagrams, tell which.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tdsl.symmetry.diagrams.diagram import as_matrix, block, filled, point
from tdsl.symmetry.diagrams.jellyfish import signed_orders

DEPENDENT = 1e-9
"""A squared distance this small, to the span of others, is rounding: true ones are 1 / n^4 at least."""

Pairs = tuple[tuple[int, int], ...]
"""Disjoint pairs of points, the smaller point first, ascending."""


@dataclass(frozen=True)
class Matching:
    """The diagram of disjoint pairs of l + k points; points that are in none are free, and carry ε."""

    pairs: Pairs
    points: int
    outputs: int
    symplectic: bool = False
    """Whether two points of one row carry ω, as for Sp(n), or δ, as for O(n) and SO(n)."""

    @property
    def inputs(self) -> int:
        """How many axes its operand has: k."""
        return self.points - self.outputs

    @cached_property
    def free(self) -> tuple[int, ...]:
        """The points that are in no pair, ascending."""
        paired = {p for pair in self.pairs for p in pair}
        return tuple(p for p in range(self.points) if p not in paired)

    @property
    def text(self) -> str:
        """`{out1 in1} {out2 in2}`; `ω(in1 in2)` for a symplectic form, `ε(out1 in1 in2)` for free points."""
        words = []
        if self.free:
            words.append(f"ε({' '.join(point(p, self.outputs) for p in self.free)})")
        for pair in self.pairs:
            name = block(pair, self.outputs)
            words.append(f"ω({name[1:-1]})" if self.carries_form(pair) else name)
        return " ".join(words) or "{}"

    def carries_form(self, pair: tuple[int, int]) -> bool:
        """Whether the pair carries ω."""
        return self.symplectic and (pair[0] < self.outputs) == (pair[1] < self.outputs)

    def entries(self, n: int) -> tuple[Tensor, Tensor]:
        """Where the map is not zero, in a row of n^(l + k) entries, and its values there, all ± 1.

        Raises `ValueError` where the number of free points is not n, and for ω with an odd n.
        """
        if self.free and len(self.free) != n:
            raise ValueError(f"{len(self.free)} free points have no Levi-Civita symbol for n = {n}")
        if n % 2 and any(map(self.carries_form, self.pairs)):
            raise ValueError(f"the symplectic form needs an even n, not {n}")
        index = torch.arange(n)
        steps = [n ** (self.points - 1 - p) for p in range(self.points)]
        places, values = torch.zeros((), dtype=torch.int64), torch.ones((), dtype=torch.float64)
        for first, second in self.pairs:
            form = self.carries_form((first, second))
            other = index ^ 1 if form else index
            places = places[..., None] + index * steps[first] + other * steps[second]
            values = values[..., None] * (1 - 2 * (index % 2) if form else torch.ones_like(index))
        if self.free:
            order, signs = signed_orders(n)
            places = places[..., None] + order @ torch.tensor([steps[p] for p in self.free])
            values = values[..., None] * signs
        return places.flatten(), values.flatten()

    def dense(self, n: int) -> Tensor:
        """The map as a matrix [n^l, n^k], float64. Raises what `entries` raises."""
        return as_matrix(filled(self.entries(n), self.points, n), self.outputs, n)


def perfect_matchings(points: Sequence[int]) -> Iterator[Pairs]:
    """Every way to pair the points off, (k − 1)!! of them for an even number k and none for an odd one."""
    if not points:
        yield ()
        return
    first = points[0]
    for place in range(1, len(points)):
        for rest in perfect_matchings([*points[1:place], *points[place + 1 :]]):
            yield ((first, points[place]), *rest)


def matchings(inputs: int, outputs: int, *, symplectic: bool = False) -> list[Matching]:
    """The spanning set of the maps of order k → l that commute with O(n), or with Sp(n)."""
    points = inputs + outputs
    return [Matching(pairs, points, outputs, symplectic) for pairs in perfect_matchings(range(points))]


def determinants(n: int, inputs: int, outputs: int) -> list[Matching]:
    """What SO(n) has besides matchings: n of the points free."""
    points = inputs + outputs
    found = []
    for free in itertools.combinations(range(points), n):
        rest = [p for p in range(points) if p not in free]
        found += [Matching(pairs, points, outputs) for pairs in perfect_matchings(rest)]
    return found


# ---------------------------------------------------------------- inner products


def inner_product(first: Matching, second: Matching, n: int) -> int:
    """Σ of the products of their entries: ± n^loops, times n! where both have free points.

    Pairs of both together are loops, and paths between free points. A loop is a trace of products of 1 and ω;
    a path that joins two free points of one diagram contracts ε with δ, which is zero.
    """
    if len(first.free) != len(second.free):
        return 0
    partners = (_partners(first), _partners(second))
    seen: set[int] = set()
    value = 1
    ends = []
    for start in first.free:
        place, side = start, 1
        while (step := partners[side].get(place)) is not None:
            seen.add(place)
            place, side = step[0], 1 - side
        seen.add(place)
        if side == 0 or place not in second.free:
            return 0
        ends.append(second.free.index(place))
    if ends:
        inversions = sum(a > b for a, b in itertools.combinations(ends, 2))
        value = math.factorial(n) * (-1 if inversions % 2 else 1)
    for start in range(first.points):
        if start in seen:
            continue
        place, side, sign, turns = start, 0, 1, 0
        while side or place not in seen:
            seen.add(place)
            place, turn = partners[side][place]
            turns += abs(turn)
            sign *= turn or 1
            side = 1 - side
        value *= n * sign * (-1) ** (turns // 2)
    return value


def _partners(diagram: Matching) -> dict[int, tuple[int, int]]:
    """The other point of each point's pair, with ±1 for ω from here to there and 0 for δ."""
    found = {}
    for one, other in diagram.pairs:
        form = int(diagram.carries_form((one, other)))
        found[one] = (other, form)
        found[other] = (one, -form)
    return found


def gram(diagrams: Sequence[Matching], n: int) -> Tensor:
    """The inner products of diagrams of one order. [d, d], float64."""
    rows = [[float(inner_product(a, b, n)) for b in diagrams] for a in diagrams]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(diagrams), len(diagrams))


def independent(diagrams: Sequence[Matching], n: int) -> list[Matching]:
    """The diagrams, all of one order, of which none is a combination of those before it."""
    products = gram(diagrams, n)
    lengths = products.diagonal().sqrt()
    products = products / torch.outer(lengths, lengths)
    kept: list[int] = []
    triangle = torch.zeros(0, 0, dtype=torch.float64)  # the Cholesky factor of the products of what is kept
    for place in range(len(diagrams)):
        row = torch.linalg.solve_triangular(triangle, products[kept, place, None], upper=False).T
        rest = 1 - row.square().sum()
        if rest > DEPENDENT:
            below = torch.cat([row, rest.sqrt().reshape(1, 1)], 1)
            triangle = torch.cat([torch.nn.functional.pad(triangle, (0, 1)), below])
            kept.append(place)
    return [diagrams[place] for place in kept]


def coordinates(products: Tensor, diagrams: Sequence[Matching], n: int) -> Tensor:
    """The coefficients of independent diagrams from inner products with them. [d, …] → [d, …], float64."""
    known = gram(diagrams, n)
    lengths = known.diagonal().sqrt()
    scaled = (products.flatten(1) if products.ndim > 1 else products[:, None]) / lengths[:, None]
    found = torch.linalg.solve(known / torch.outer(lengths, lengths), scaled) / lengths[:, None]
    return torch.reshape(found, products.shape)
