"""Weights whose rows and columns are (place, channel), a finite group permuting the places: found and fitted.

What is alike is read off the weight (`detect`) and closed under products (`coherent`), the commutant is
written in its irreducible spaces (`isotypic`), and the nearest weight that commutes is a mean over classes.
The group itself is not needed: a place may also change its sign, and no order of the places is known.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tdsl.symmetry.finite.coherent import Classes, closed, drawn
from tdsl.symmetry.finite.detect import EXACT, comes_again, labels
from tdsl.symmetry.finite.isotypic import Component, common
from tdsl.symmetry.finite.orbits import entry_orbits
from tdsl.symmetry.finite.products import matrix_product
from tdsl.symmetry.group import cyclic, dihedral
from tdsl.symmetry.representation import Representation, regular

MOST_PLACES = 640
"""Groups that move more places than this are not looked for."""
MOST_UNEVEN = 64
"""Nor those that move more, and more on one side, unless their numbers divide and many look alike."""
DOZENS = 48
"""Pairs of places among which some have to be alike then."""
MOST_NEARLY = 64
"""Nor where a weight is only near to one that commutes."""
MOST_LISTED = 16
"""Groups of at most so many elements are tried where the nearest weight of any group is asked for."""
SEED = 0x150


@dataclass(frozen=True, slots=True)
class Fitted:
    """The mean of a weight over classes of pairs of places."""

    near: Tensor
    """[rows, columns, p, q]: the nearest weight that commutes."""
    kept: float
    """Its Frobenius norm."""
    lost: float
    """That of the rest."""


@dataclass(frozen=True)
class Places:
    """Places that a group permutes, and the weights on them that commute with it."""

    classes: Classes

    @property
    def rows(self) -> int:
        """How many places the rows have."""
        return self.classes.between.shape[0]

    @property
    def columns(self) -> int:
        """How many places the columns have."""
        return self.classes.between.shape[1]

    @functools.cached_property
    def components(self) -> tuple[tuple[Component, Component], ...]:
        """The irreducible spaces of columns and rows that are the same; none where they do not add up."""
        random = torch.Generator().manual_seed(SEED)
        between = drawn(self.classes.between, random)
        inner, out = (
            (drawn(classes, random), drawn(classes, random))
            for classes in (self.classes.inner, self.classes.out)
        )
        found = common(between, inner, out)
        return found if sum(_numbers(*pair) for pair in found) == self.classes.count else ()

    @property
    def numbers(self) -> int:
        """How many numbers a weight that commutes has, for each pair of channels."""
        return self.classes.count

    @property
    def products(self) -> int:
        """How many products of channels a weight needs."""
        return sum(_products(inner, out) for inner, out in self.components)

    def fit(self, blocks: Tensor) -> Fitted:
        """The nearest weight that commutes to one of shape [rows, columns, p, q]."""
        flat = blocks.reshape(self.rows * self.columns, -1)
        names = self.classes.between.flatten()
        signs = names.sign().to(torch.float64)[:, None]
        names = names.abs()
        counts = torch.bincount(names, minlength=self.numbers + 1).clamp(min=1)
        total = flat.new_zeros(self.numbers + 1, flat.shape[1]).index_add_(0, names, flat * signs)
        near = (total / counts[:, None])[names] * signs
        kept, lost = (float(torch.linalg.vector_norm(one)) for one in (near, flat - near))
        return Fitted(near.reshape(blocks.shape), kept, lost)

    def parameters(self, near: Tensor) -> Tensor:
        """The numbers of a weight that commutes. [rows, columns, p, q] → [f, p, q], f as in `products`."""
        rows, columns, p, q = near.shape
        flat = near.reshape(rows, -1)
        found = []
        for inner, out in self.components:
            units = len(inner.units)
            part = (out.copies[:, :, 0] @ flat).reshape(-1, columns, p * q)  # the first row of each space
            seen = torch.einsum("lnc,jnv->jlvc", part, inner.copies[:, :, :units])
            found.append(torch.einsum("jlvc,vu->jluc", seen, inner.units[:, 0, :units].inverse()))
        return torch.cat([one.reshape(-1, p, q) for one in found])

    def matching(self) -> Tensor | None:
        """The place of the columns that each row is matched with, by a class that does so; [rows] int64."""
        if self.rows != self.columns:
            return None
        names = self.classes.between
        counts = torch.bincount(names.abs().flatten())
        for name in (counts == self.rows).nonzero().flatten().tolist():
            for here in (names == name, names == -name):
                if bool((here.sum(0) == 1).all()) and bool((here.sum(1) == 1).all()):
                    found: Tensor = here.to(torch.int64).argmax(1)
                    return found
        return None


def _numbers(inner: Component, out: Component) -> int:
    return len(inner.copies) * len(out.copies) * len(inner.units)


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


def find_places(weight: Tensor, *, channels_last: bool, nearly: bool = False) -> list[Places]:
    """Ways in which a finite group may permute places of the rows and columns of a weight [m, n].

    As many places on both sides are looked for first; others only where there are none. Nothing is certain
    yet: a few channels have been looked at, and `Places.fit` says what is true of the weight. `nearly` looks
    for weights that are near to one that commutes.
    """
    found: list[Places] = []
    for alike in (True, False):
        for rows, columns in _sizes(*weight.shape, alike=alike, nearly=nearly):
            blocks = blocks_of(weight, rows, columns, channels_last=channels_last)
            most, least = max(rows, columns), min(rows, columns)
            if not alike and most > MOST_UNEVEN and (most % least or not _few_kinds(blocks)):
                continue
            seen = labels(blocks, nearly)
            classes = closed(seen) if seen is not None else None
            if classes is not None:
                found.append(Places(classes))
        if found:
            break
    return found


def _sizes(rows: int, columns: int, *, alike: bool, nearly: bool) -> Iterator[tuple[int, int]]:
    """Numbers of places of both sides, the same or different ones."""
    most = MOST_NEARLY if nearly else MOST_PLACES
    out, inner = ([d for d in range(2, most + 1) if n % d == 0] if n else [] for n in (rows, columns))
    return (pair for pair in itertools.product(out, inner) if (pair[0] == pair[1]) == alike)


def _few_kinds(blocks: Tensor) -> bool:
    """Whether of some dozen numbers of the first row or column of places one comes again."""
    lines = (blocks[0, :, 0], blocks[:, 0, :, 0])
    return any(comes_again(line[:DOZENS, 0], line[:DOZENS, -1], EXACT) for line in lines)


def listed_places(weight: Tensor) -> list[Places]:
    """The cyclic and dihedral groups, on themselves, whose order divides both sides of a weight."""
    found = []
    for order in range(2, MOST_LISTED + 1):
        if weight.numel() and weight.shape[0] % order == weight.shape[1] % order == 0:
            groups = [cyclic(order), *([dihedral(order // 2)] if order % 2 == 0 and order > 4 else [])]
            found += [places_of(rho, rho) for rho in map(regular, groups)]
    return found


def places_of(rho_out: Representation, rho_in: Representation) -> Places:
    """The places of two permutation representations."""
    return Places(
        Classes(
            *(
                entry_orbits(left, right) + 1
                for left, right in ((rho_out, rho_in), (rho_out, rho_out), (rho_in, rho_in))
            )
        )
    )
