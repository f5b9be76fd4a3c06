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

import numpy as np
import torch
from torch import Tensor

from tdsl.symmetry.finite.coherent import FEWER, Classes, closed, drawn
from tdsl.symmetry.finite.detect import EXACT, Corners, labels, places_alike
from tdsl.symmetry.finite.isotypic import Component, common
from tdsl.symmetry.finite.orbits import entry_orbits
from tdsl.symmetry.finite.products import matrix_product
from tdsl.symmetry.group import cyclic, dihedral
from tdsl.symmetry.representation import Representation, regular

MOST_PLACES = 640
"""Groups that move more places than this are not looked for."""
MOST_UNEVEN = 64
"""Where there are more, and more on one side, a corner of the weight has to come again first."""
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


@dataclass(frozen=True, slots=True)
class Candidate:
    """Places of a weight, the norm of the nearest weight that commutes, and that of the rest."""

    places: Places
    kept: float
    lost: float


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

    def fewer(self) -> Iterator[tuple[int, int]]:
        """Numbers of places that these may be, each with several channels that the group leaves apart."""
        parts = [
            len(np.unique(classes.diagonal().numpy())) for classes in (self.classes.out, self.classes.inner)
        ]
        for p, q in itertools.product(range(1, parts[0] + 1), range(1, parts[1] + 1)):
            if p * q > 1 and self.rows % p == 0 and self.columns % q == 0:
                yield self.rows // p, self.columns // q

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


def find_places(
    weight: Tensor,
    *,
    channels_last: bool,
    uneven: Corners | None = None,
    lines: tuple[Tensor, Tensor] | None = None,
    within: frozenset[tuple[int, int]] | None = None,
) -> Iterator[Candidate]:
    """Ways in which a finite group may permute places of rows and columns of a weight [m, n], fewest first.

    As many places on both sides are looked for, or different numbers of them where the corners of the weight
    are given, `within` those that are listed. `lines` are names of rows and columns that tell apart what no
    group moves (`lines_alike`); without them weights are looked for that are only near to one that commutes.
    Channels at places of a group are taken for places as well only where more is alike then.
    """
    known: list[Places] = []
    nearly = lines is None
    moved = _Moved(lines, channels_last)
    for rows, columns in _sizes(*weight.shape, alike=uneven is None, nearly=nearly):
        if within is not None and (rows, columns) not in within:
            continue
        if not moved.enough(rows, columns):
            continue
        if uneven is not None:
            again = uneven.come_again(rows, columns, channels_last=channels_last)
            if max(rows, columns) > MOST_UNEVEN and not again:
                continue
            if any(
                rows % places.rows
                or columns % places.columns
                or again <= uneven.come_again(places.rows, places.columns, channels_last=channels_last)
                for places in known
            ):
                continue
        blocks = blocks_of(weight, rows, columns, channels_last=channels_last)
        seen = labels(blocks, nearly)
        if seen is None or any(_same_group(places, seen) for places in known):
            continue
        classes = closed(seen)
        if classes is None:
            continue
        found = Places(classes)
        fitted = found.fit(blocks)
        if not nearly and fitted.lost <= EXACT * fitted.kept:
            known.append(found)
        yield Candidate(found, fitted.kept, fitted.lost)


class _Moved:
    """How many kinds of places rows and columns have, which bounds how many classes pairs of them are."""

    def __init__(self, lines: tuple[Tensor, Tensor] | None, channels_last: bool) -> None:
        self.lines, self.channels_last = lines, channels_last
        self.kinds: dict[tuple[int, int], int] = {}

    def enough(self, rows: int, columns: int) -> bool:
        """Whether a group that moves so many places may leave few classes of pairs."""
        if self.lines is None:
            return True
        kinds = 1
        for side, (names, places) in enumerate(zip(self.lines, (rows, columns), strict=True)):
            key = side, places
            if key not in self.kinds:
                self.kinds[key] = places_alike(names, places, channels_last=self.channels_last)
            kinds *= self.kinds[key]
        return kinds <= FEWER * rows * columns


def _sizes(rows: int, columns: int, *, alike: bool, nearly: bool) -> list[tuple[int, int]]:
    """Numbers of places of both sides, the same or different ones."""
    most = MOST_NEARLY if nearly else MOST_PLACES
    out, inner = ([d for d in range(2, most + 1) if n % d == 0] if n else [] for n in (rows, columns))
    pairs = (pair for pair in itertools.product(out, inner) if (pair[0] == pair[1]) == alike)
    return sorted(pairs, key=lambda pair: pair[0] * pair[1])


def _same_group(known: Places, seen: Tensor) -> bool:
    """Whether labels of channels taken for places as well are hardly fewer than for a group that is known."""
    (rows, left), (columns, right) = divmod(seen.shape[0], known.rows), divmod(seen.shape[1], known.columns)
    if left or right:
        return False
    return len(np.unique(seen.abs().numpy())) > FEWER * known.numbers * rows * columns


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
