"""Weights whose rows and columns are (place, channel), a finite group permuting the places: found and fitted.

The group is read off the weight (`detect`), the commutant is written in its irreducible spaces
(`isotypic`), and the nearest weight that commutes is a projection onto an orthogonal basis of it.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tdsl.symmetry.element import Permutation, then
from tdsl.symmetry.finite.commutant import commutant_dimension
from tdsl.symmetry.finite.detect import labels, sampled, symmetries
from tdsl.symmetry.finite.isotypic import Component, shared_components
from tdsl.symmetry.finite.products import component_basis, matrix_product
from tdsl.symmetry.group import cyclic, dihedral
from tdsl.symmetry.representation import Representation, regular

MOST_PLACES = 64
"""Groups that permute more places than this are not looked for."""
MOST_LISTED = 16
"""Groups of at most so many elements are tried where the nearest weight of any group is asked for."""
WORDS = 4
"""Elements of a group by which weights are refused before they are projected."""
LARGEST_COMMUTANT = 1024
"""Commutants of more dimensions are left alone: a group so small has few places."""


@dataclass(frozen=True, slots=True)
class Places:
    """Places that a group permutes, and the weights on them that commute with it."""

    rows: int
    columns: int
    components: tuple[tuple[Component, Component], ...]
    """The irreducible spaces of columns and rows that are the same."""
    basis: Tensor
    """[f, rows, columns]: an orthogonal basis of the commutant, component by component."""
    words: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()
    """What a few elements of the group do: where they take each row and each column from."""

    @property
    def products(self) -> int:
        """How many products of channels a weight needs."""
        return sum(_products(inner, out) for inner, out in self.components)

    @property
    def larger(self) -> Component | None:
        """The one component that is no line: where it is real, and each other one a single line."""
        large = [pair for pair in self.components if pair[0].dimension > 1]
        lines = [pair for pair in self.components if pair[0].dimension == 1]
        single = all(len(one.copies) == 1 for pair in lines for one in pair)
        return large[0][0] if len(large) == 1 and lines and single and large[0][0].kind == "real" else None

    def fit(self, blocks: Tensor) -> tuple[Tensor, float, float]:
        """The projection of a weight, [rows, columns, p, q].

        → its parameters [f, p, q], and the Frobenius norms of what is kept and lost.
        """
        entries = blocks.reshape(self.rows * self.columns, -1)
        basis = self.basis.reshape(-1, len(entries))
        parameters = (basis / basis.square().sum(1, keepdim=True)) @ entries
        near = basis.T @ parameters
        kept, lost = float(near.norm()), float((entries - near).norm())
        return parameters.reshape(-1, *blocks.shape[2:]), kept, lost


def _products(inner: Component, out: Component) -> int:
    units = len(inner.units)
    few = {1: 1, 2: 3, 4: 8}[units]
    return few * len(matrix_product(inner.dimension // units, len(inner.copies), len(out.copies)))


def blocks_of(weight: Tensor, rows: int, columns: int, *, channels_last: bool) -> Tensor:
    """The weight by places and channels. [rows·p, columns·q] → [rows, columns, p, q]."""
    p, q = weight.shape[0] // rows, weight.shape[1] // columns
    if channels_last:
        return weight.reshape(rows, p, columns, q).transpose(1, 2)
    return weight.reshape(p, rows, q, columns).permute(1, 3, 0, 2)


def find_places(weight: Tensor, *, channels_last: bool) -> list[Places]:
    """Ways in which a finite group may permute places of the rows and columns of a weight [m, n].

    As many places on both sides are looked for first; others only where there are none. Nothing is certain
    yet: a few channels have been looked at, and `Places.fit` says what is true of the weight.
    """
    numbers = [[d for d in range(2, MOST_PLACES + 1) if n % d == 0] if n else [] for n in weight.shape]
    pairs = sorted(itertools.product(*numbers), key=lambda pair: (pair[0] != pair[1], pair))
    found: list[Places] = []
    for alike, group in itertools.groupby(pairs, key=lambda pair: pair[0] == pair[1]):
        for rows, columns in group:
            seen = labels(sampled(blocks_of(weight, rows, columns, channels_last=channels_last)))
            both = symmetries(seen) if seen is not None else None
            one = places_of(*both) if both is not None else None
            if one is not None:
                found.append(one)
        if alike and found:
            break
    return found


def listed_places(weight: Tensor) -> list[Places]:
    """The cyclic and dihedral groups, on themselves, whose order divides both sides of a weight."""
    found = []
    for order in range(2, MOST_LISTED + 1):
        if weight.numel() and weight.shape[0] % order == weight.shape[1] % order == 0:
            groups = [cyclic(order), *([dihedral(order // 2)] if order % 2 == 0 and order > 4 else [])]
            for rho in map(regular, groups):
                one = places_of(rho, rho)
                if one is not None:
                    found.append(one)
    return found


def places_of(rho_out: Representation, rho_in: Representation) -> Places | None:
    """The places of two permutation representations; `None` where the group is too small to be of use."""
    if commutant_dimension(rho_out, rho_in) > LARGEST_COMMUTANT:
        return None
    same = rho_out.generators == rho_in.generators
    components = shared_components(rho_in, rho_in if same else rho_out)
    if not components:
        return None
    basis = torch.cat([component_basis(inner, out) for inner, out in components])
    return Places(rho_out.size, rho_in.size, components, basis, tuple(_words(rho_out, rho_in)))


def _words(
    rho_out: Representation, rho_in: Representation
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """A few products of all generators, in random orders."""
    draw = random.Random(0)
    pairs = list(zip(rho_out.generators, rho_in.generators, strict=True))
    for _ in range(WORDS if pairs else 0):
        draw.shuffle(pairs)
        out, inner = (functools.reduce(then, side) for side in zip(*pairs, strict=True))
        if isinstance(out, Permutation) and isinstance(inner, Permutation):
            yield out.places, inner.places
