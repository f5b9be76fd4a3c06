"""Isotypic components of a finite representation by orthogonal matrices, real throughout.

The eigenspaces of a random symmetric element of the commutant are irreducible; a random element of the
commutant takes one of them to another by a multiple of an isometry where they are equivalent, and to nothing
where they are not (Schur; Murota, Kanno, Kojima & Kojima, 2010). Copies are aligned by these isometries, so
that every group element acts on all of them by one matrix. What commutes with an irreducible space is a real
division algebra: numbers, complex numbers or quaternions (Frobenius, 1878). Draws are fixed, numbers float64.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.symmetry.finite.commutant import reynolds
from tdsl.symmetry.representation import Representation

SEED = 0x150
APART = 1e-10
"""Eigenvalues closer than this, relatively to the largest, belong to one eigenspace."""
NOTHING = 1e-8
"""Maps smaller than this, relatively, are zero."""

Kind = Literal["real", "complex", "quaternionic"]


@dataclass(frozen=True, slots=True)
class Component:
    """All copies of one irreducible space."""

    copies: Tensor
    """[copies, n, d]: orthonormal columns; every group element acts on each copy by the same d × d matrix."""
    units: Tensor
    """[t, d, d]: what commutes with the irreducible action, the identity first: t = 1, 2 or 4.

    The basis is such that they multiply from the left the d/t numbers of the division algebra.
    """

    @property
    def kind(self) -> Kind:
        """The type of the irreducible space."""
        kinds: dict[int, Kind] = {1: "real", 2: "complex", 4: "quaternionic"}
        return kinds[len(self.units)]

    @property
    def dimension(self) -> int:
        """The dimension d of one copy."""
        return int(self.copies.shape[2])

    @property
    def numbered(self) -> Tensor:
        """The copies with their basis as numbers of the division algebra. → [copies, n, d/t, t]"""
        return self.copies.reshape(*self.copies.shape[:2], -1, len(self.units))


def isotypic(rho: Representation) -> tuple[Component, ...]:
    """The components of a finite representation by orthogonal matrices, smaller irreducible spaces first.

    Raises `TdslError` for a continuous group and for matrices that are not orthogonal.
    """
    return tuple(component for component, _ in shared_components(rho, rho))


def shared_components(
    rho_in: Representation, rho_out: Representation
) -> tuple[tuple[Component, Component], ...]:
    """The components that two representations of one group have in common, each with one action on both.

    A weight of their commutant is a sum of out.copies[l] · (units[u] · w[l, j, u]) · in.copies[j]ᵀ.
    Raises what `isotypic` raises.
    """
    for rho in (rho_in, rho_out):
        _orthogonal(rho)
    random = torch.Generator().manual_seed(SEED)

    def draw(out: Representation, inner: Representation) -> Tensor:
        size = torch.randn(out.size, inner.size, generator=random, dtype=torch.float64)
        return reynolds(size, out, inner)

    between = draw(rho_out, rho_in)
    theirs = (draw(rho_out, rho_out), draw(rho_out, rho_out)) if rho_out is not rho_in else None
    return common(between, (draw(rho_in, rho_in), draw(rho_in, rho_in)), theirs)


Draws = tuple[Tensor, Tensor]
"""Two random matrices [n, n] of an algebra that transposition maps to itself."""


def common(between: Tensor, inner: Draws, out: Draws | None) -> tuple[tuple[Component, Component], ...]:
    """The irreducible spaces that columns and rows share, of random matrices that commute with a group.

    `between` [m, n] leads from the one to the other; `out` is `None` where both are the same space.
    """
    ours = _components(*inner)
    if out is None:
        return tuple((one, one) for one in ours)
    found = []
    theirs = _components(*out)
    size = float(between.norm())
    for one in ours:
        for other in theirs:
            onto = other.copies[0].T @ between @ one.copies[0]
            if other.dimension == one.dimension and float(onto.norm()) > NOTHING * size:
                turned = onto * (one.dimension**0.5 / float(onto.norm()))
                found.append((one, Component(other.copies @ turned, one.units)))
    return tuple(found)


def _components(mixed: Tensor, moving: Tensor) -> list[Component]:
    """The components on which an algebra acts, smaller irreducible spaces first."""
    values, vectors = torch.linalg.eigh(mixed + mixed.T)
    largest = max(float(values.abs().max()), 1e-300) if len(values) else 1.0
    gaps = (values.diff() > APART * largest).nonzero().flatten() + 1
    bounds = [0, *gaps.tolist(), len(values)]
    spaces = [
        (slice(start, end), vectors[:, start:end])
        for start, end in itertools.pairwise(bounds)
        if end > start and float(values[start:end].abs().max()) > NOTHING * largest
    ]
    moved = vectors.T @ moving @ vectors
    size = float(moving.norm())
    classes: list[tuple[slice, list[Tensor]]] = []
    for places, space in spaces:
        for first, known in classes:
            onto = moved[places, first]
            length = float(onto.norm())
            if known[0].shape == space.shape and length > NOTHING * size:
                known.append(space @ (onto * (space.shape[1] ** 0.5 / length)))
                break
        else:
            classes.append((places, [space]))
    components = [_in_division_basis(torch.stack(copies), mixed, moving) for _, copies in classes]
    return sorted(components, key=lambda one: (one.dimension, len(one.units), len(one.copies)))


def _in_division_basis(copies: Tensor, mixed: Tensor, moving: Tensor) -> Component:
    """The units of an irreducible space, and its basis as numbers of the algebra that they span."""
    first, size = copies[0], copies.shape[2]
    units = [torch.eye(size, dtype=torch.float64)]
    for draw in (moving, mixed):
        inner = first.T @ draw @ first
        rest = (inner - inner.T) / 2
        for unit in units[1:]:
            rest = rest - unit * ((rest * unit).sum() / size)
        if float(rest.norm()) > NOTHING * max(float(draw.norm()), 1e-300):
            units.append(rest * (size**0.5 / float(rest.norm())))
    if len(units) == 1:
        return Component(copies, torch.stack(units))
    if len(units) == 3:
        units.append(units[1] @ units[2])
    columns: list[Tensor] = []
    for place in range(size):
        start = torch.zeros(size, dtype=torch.float64)
        start[place] = 1
        for column in columns:
            start = start - column * (column @ start)
        if len(columns) < size and float(start.norm()) > 0.5 / size:
            start = start / start.norm()
            for column in columns:
                start = start - column * (column @ start)
            columns += [unit @ (start / start.norm()) for unit in units]
    basis = torch.stack(columns, 1)
    return Component(copies @ basis, torch.stack([basis.T @ unit @ basis for unit in units]))


def _orthogonal(rho: Representation) -> None:
    if not rho.group.finite:
        raise TdslError(f"{rho.group.name} is not finite", expected="a finite group")
    for g in rho.generators:
        matrix = g.matrix()
        if not torch.allclose(matrix @ matrix.T, torch.eye(rho.size, dtype=torch.float64), rtol=0, atol=1e-9):
            raise TdslError(
                f"{rho.name} is not orthogonal",
                expected="orthogonal matrices or permutations",
                hint="average the inner product over the group and change to an orthonormal basis of it",
            )
