"""Weights between tensors that commute with a group whose diagrams have signs, found without being told.

Rotations SO(n) know the determinant, Sp(n) its form, even permutations A(n) the sign (Brauer, 1937;
Pearce-Crump, 2023). Such a weight is a sum of few fixed matrices of zeros and signs, each with a mix of
channels: W = Σ_d D_d ⊗ K_d. Group, n and orders are read off the shape of the weight; of each that the shape
allows, one element is tried by one product, what passes is projected, and the distance is the certificate.
What O(n) or S(n) explain is for `diagrams`. Everything is computed and returned in float64.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, TermFunction, Terms, forms
from tdsl.factor.displaced import allowed
from tdsl.factor.matrix import checked
from tdsl.factor.rank import RankRule, as_rank_rule
from tdsl.factor.splits import Way, best, divisors, enough
from tdsl.symmetry.diagrams import dimension
from tdsl.symmetry.diagrams.project import by_channel, project

MOST_POINTS = 6
"""Largest k + l."""
LARGEST = 4096
"""Entries of a matrix D_d at most: they are stored, and multiplied with."""
FEW_PLACES = 32
"""At fewer places than this, and than channels, these stand side by side to be mixed."""
ROUNDING = 1e-7
"""The part of a weight, relatively, that a diagram may have by rounding to float32."""

Factors = tuple[Tensor, Tensor]


def signed_diagrams(weight: Tensor, rank: object) -> Factors:
    """The nearest weight that commutes with SO(n), Sp(n) or A(n), and has diagrams with signs; channels last.

    [m, n_in] → D [d, o, i] of zeros and signs, K [d, p, q] with m = o·p and n_in = i·q, o and i powers of n.
    `rank` is anything `as_rank_rule` takes; where it bounds the error, the group with the fewest numbers that
    keeps the bound is taken, otherwise the one of the smallest error; of none d = o = i = 1. Raises
    `TdslError` for a weight that is no finite matrix.
    """
    return _factors(weight, rank, channels_last=True)


def signed_diagrams_planes(weight: Tensor, rank: object) -> Factors:
    """As `signed_diagrams`, with the entries of a channel side by side."""
    return _factors(weight, rank, channels_last=False)


def signed_diagrams_product(places: Tensor, mixes: Tensor) -> Tensor:
    """Σ_d D_d ⊗ K_d. [d, o, i], [d, p, q] → [o·p, i·q]."""
    (_, o, i), (_, p, q) = places.shape, mixes.shape
    return torch.einsum("doi,dpq->opiq", places, mixes).reshape(o * p, i * q)


def signed_diagrams_planes_product(places: Tensor, mixes: Tensor) -> Tensor:
    """Σ_d K_d ⊗ D_d. [d, o, i], [d, p, q] → [p·o, q·i]."""
    return signed_diagrams_product(mixes, places)


@dataclass(frozen=True, slots=True)
class _Group:
    """A group of a family on the indices of l output axes and k input axes."""

    family: str
    n: int
    k: int
    l: int  # noqa: E741

    def numbers(self, weight: Tensor) -> int:
        """How many numbers the factors of a weight hold."""
        entries: int = self.n ** (self.k + self.l)
        return _dimension(self.family, self.n, self.k, self.l) * (weight.numel() // entries + entries)


_dimension = functools.cache(dimension)


def _groups(rows: int, columns: int) -> Iterator[_Group]:
    """The groups whose diagrams have signs for axes that the sizes of a weight allow."""
    for points in range(2, MOST_POINTS + 1):
        for k in range(points + 1):
            l = points - k  # noqa: E741
            common = math.gcd(rows if l else 0, columns if k else 0)
            for n in (n for n in divisors(common) if n >= 2 and n**points <= LARGEST):
                if rows % n**l or columns % n**k:
                    continue
                if n <= points and (points - n) % 2 == 0:
                    yield _Group("SO", n, k, l)
                if n % 2 == 0 and points % 2 == 0 and max(k, l) > 1:
                    yield _Group("Sp", n, k, l)
                if 3 <= n <= points + 1:
                    yield _Group("A", n, k, l)


def _factors(weight: Tensor, rank: object, *, channels_last: bool) -> Factors:
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    norm = float(torch.linalg.vector_norm(exact))
    fewer = [one for one in _groups(*exact.shape) if norm and one.numbers(exact) < exact.numel()]
    fewer.sort(key=lambda one: one.numbers(exact))
    ways: list[Way] = []
    known: list[Factors] = []
    for one in _likely(exact, norm, fewer, rule, channels_last) if rule.spectral else fewer:
        found = project(by_channel(exact, one.n, one.k, one.l, channels_last=channels_last), *_of(one))
        if not found.kept or not enough(rule, found.kept, found.lost):
            continue
        places = torch.stack([diagram.dense(one.n) for diagram in found.diagrams])
        sizes = torch.linalg.vector_norm(places, dim=(1, 2)) * found.coefficients.norm(dim=(1, 2))
        counting = sizes > ROUNDING * norm
        if not (places[counting] < 0).any():
            continue  # what O(n) or S(n) explain
        known.append((places[counting], found.coefficients[counting]))
        numbers = sum(part.numel() for part in known[-1])
        ways.append(Way((len(known) - 1,), (1,), numbers, found.lost / norm))
        if rule.spectral:
            break
    chosen = best(rule, ways, exact.numel())
    if chosen is None:
        return torch.ones(1, 1, 1, dtype=torch.float64), exact[None]
    return known[chosen.sizes[0]]


def _of(group: _Group) -> tuple[str, int, int, int]:
    return group.family, group.n, group.k, group.l


def _likely(
    weight: Tensor, norm: float, groups: list[_Group], rule: RankRule, channels_last: bool
) -> list[_Group]:
    """Those groups of which an element displaces the weight by no more than `rule` allows.

    ‖W·ρ(g)·v − ρ(g)·W·v‖ with random signs v, as in `displaced`: g is orthogonal.
    """
    if not groups:
        return []
    random = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (weight.shape[1],), generator=random).to(weight.dtype) * 2 - 1
    elements = [_element(one, random) for one in groups]
    moved = [
        _moved(signs, element, one.k, channels_last) for element, one in zip(elements, groups, strict=True)
    ]
    image, *images = (weight @ torch.stack([signs, *moved], 1)).unbind(1)
    found = []
    for one, element, there in zip(groups, elements, images, strict=True):
        shown = float(torch.linalg.vector_norm(there - _moved(image, element, one.l, channels_last)))
        if allowed(rule, norm, shown):
            found.append(one)
    return found


def _element(group: _Group, random: torch.Generator) -> Tensor:
    """An orthogonal matrix [n, n] of the group: a rotation, an even cycle, or one that keeps the form."""
    n = group.n
    if group.family == "A":
        cycle = n if n % 2 else n - 1
        return torch.eye(n, dtype=torch.float64)[[*range(1, cycle), 0, *range(cycle, n)]]
    drawn = torch.randn(2, n, n, generator=random, dtype=torch.float64)
    if group.family == "SO":
        rotation: Tensor = torch.linalg.qr(drawn[0])[0]
        rotation[0] *= torch.sign(torch.linalg.det(rotation))
        return rotation
    # Unitary matrices of n / 2 complex coordinates, in pairs of real ones.
    unitary = torch.view_as_real(torch.linalg.qr(torch.complex(*drawn[:, ::2, ::2]))[0])
    one = torch.eye(2, dtype=torch.float64)
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    return torch.einsum("rcu,uij->ricj", unitary, torch.stack([one, turn])).reshape(n, n)


def _moved(value: Tensor, element: Tensor, axes: int, channels_last: bool) -> Tensor:
    """A vector of axes and channels with the element acting on each axis."""
    n = len(element)
    moved = value.reshape(*[n] * axes, -1) if channels_last else value.reshape(-1, *[n] * axes)
    for axis in range(axes):
        place = axis if channels_last else axis + 1
        moved = torch.tensordot(element, moved, ([1], [place])).movedim(0, place)
    return moved.flatten()


# ---------------------------------------------------------------- as operators


def kronecker_sum(terms: Terms, x: Any, places: Any, mixes: Any) -> Any:
    """Σ_d D_d ⊗ K_d applied to x [..., i·q], D [d, o, i], K [d, p, q]. → [b, o, p], b as many as x has rows.

    Places or channels are mixed first, whichever takes fewer multiplications.
    """
    (d, o, i), (_, p, q) = terms.known(places).shape, terms.known(mixes).shape
    rows = terms("reshape", x, [-1, i, q])
    if o * q * (i + p) <= i * p * (q + o):
        side = terms("reshape", terms("permute", places, [1, 0, 2]), [o * d, i])
        mixed = terms("matmul", side, rows)
        mixed = terms("reshape", mixed, [-1, o, d * q]) if d > 1 else mixed
        return terms("linear", mixed, terms("reshape", terms("permute", mixes, [1, 0, 2]), [p, d * q]))
    mixed = terms("linear", rows, terms("reshape", mixes, [d * p, q]))
    mixed = terms("reshape", mixed, [-1, i * d, p]) if d > 1 else mixed
    return terms("matmul", terms("reshape", terms("permute", places, [1, 2, 0]), [o, i * d]), mixed)


def kronecker_sum_planes(terms: Terms, x: Any, places: Any, mixes: Any) -> Any:
    """Σ_d K_d ⊗ D_d applied to x [..., q·i]. → [b, p, o]

    Few places are taken behind the channels: a product for each row of x would be narrow.
    """
    (_, o, i), (_, p, q) = terms.known(places).shape, terms.known(mixes).shape
    if max(o, i) >= min(FEW_PLACES, p, q):
        return kronecker_sum(terms, x, mixes, places)
    columns = terms("permute", terms("reshape", x, [-1, q, i]), [0, 2, 1])
    return terms("permute", kronecker_sum(terms, columns, places, mixes), [0, 2, 1])


def _shape(x: Sequence[int], places: Sequence[int], mixes: Sequence[int]) -> tuple[int, ...]:
    """The shape of `kronecker_sum`. Raises `ValueError` where the sizes do not fit."""
    if places[0] != mixes[0] or x[-1] != places[2] * mixes[2]:
        raise ValueError(f"matrices {list(places)} and {list(mixes)}, applied to a value of shape {list(x)}")
    return math.prod(x[:-1]), places[1], mixes[1]


def _planes_shape(x: Sequence[int], places: Sequence[int], mixes: Sequence[int]) -> tuple[int, ...]:
    return _shape(x, mixes, places)


_FORMS = forms("[M, N] -> [d, o, i], [d, p, q]")
_SOURCE = "Brauer, 1937; Pearce-Crump, 2023 (jellyfish)"

DECLARED = (
    Decomposition(
        name="signed_diagrams",
        params=("W", "rank"),
        results=2,
        function=signed_diagrams,
        promise_text="W[(g, a), (h, c)] ≈ Σ_d D[d, g, h] · K[d, a, c]",
        promise=signed_diagrams_product,
        forms=_FORMS,
        source=_SOURCE,
        doc="A layer between tensors that commutes with SO(n), Sp(n) or A(n) and has signs, channels last.",
    ),
    Decomposition(
        name="signed_diagrams_planes",
        params=("W", "rank"),
        results=2,
        function=signed_diagrams_planes,
        promise_text="W[(a, g), (c, h)] ≈ Σ_d D[d, g, h] · K[d, a, c]",
        promise=signed_diagrams_planes_product,
        forms=_FORMS,
        source=_SOURCE,
        doc="A layer between tensors that commutes with SO(n), Sp(n) or A(n) and has signs, channels first.",
    ),
    TermFunction(
        "kronecker_sum",
        ("x", "D", "K"),
        kronecker_sum,
        _shape,
        "The sum of D[d] ⊗ K[d] applied to x [..., i·q] → [b, o, p].",
    ),
    TermFunction(
        "kronecker_sum_planes",
        ("x", "D", "K"),
        kronecker_sum_planes,
        _planes_shape,
        "The same with the entries of a channel side by side.",
    ),
)
