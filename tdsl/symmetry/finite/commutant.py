"""The commutant: weights W with ρ_out(g)·W = W·ρ_in(g) for every g, and the projection onto it.

The projection of a finite group is the mean of ρ_out(g)⁻¹·W·ρ_in(g) (Reynolds): a mean over orbits of
entries where both sides permute, over elements elsewhere. A continuous group is projected onto the null
space of what its generators and its Lie algebra ask. Everything is computed and returned in float64.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.symmetry.element import Element, Linear, Permutation
from tdsl.symmetry.finite.orbits import entry_orbits, orbit_means
from tdsl.symmetry.representation import Representation

SEED = 0x5EED
LARGEST_BASIS = 2**27
"""Numbers that a basis may hold."""
LARGEST_SYSTEM = 1024
"""Entries of a weight whose constraints are solved as one system (continuous groups)."""
NULL = 1e-9
"""Singular values of the constraints below this share of the largest are zero."""


def reynolds(weight: Tensor, rho_out: Representation, rho_in: Representation) -> Tensor:
    """The projection of a weight [m, n] onto what commutes with the group: [m, n], float64.

    Idempotent; orthogonal (the nearest such weight in the Frobenius norm) where both representations are.
    Raises `TdslError` when sizes or groups differ, and for a finite group of matrices that is too large
    to be listed.
    """
    _same_group(rho_out, rho_in)
    if tuple(weight.shape) != (rho_out.size, rho_in.size):
        raise TdslError(
            f"a weight of shape {list(weight.shape)} does not lead from {rho_in.name} to {rho_out.name}",
            expected=f"[{rho_out.size}, {rho_in.size}]",
        )
    exact = weight.detach().to(device="cpu", dtype=torch.float64)
    if rho_out.permutes and rho_in.permutes:
        orbits = entry_orbits(rho_out, rho_in)
        return orbit_means(exact, orbits)[orbits]
    if rho_out.group.finite:
        total = torch.zeros_like(exact)
        images = list(zip(rho_out.images(), rho_in.images(), strict=True))
        for out, inner in images:
            total += _between(out.inverse(), exact, inner)
        return total / len(images)
    basis = commutant_basis(rho_out, rho_in)
    return torch.einsum("dmn,d->mn", basis, torch.einsum("dmn,mn->d", basis, exact))


def defect(weight: Tensor, rho_out: Representation, rho_in: Representation) -> float:
    """The largest ‖ρ_out(g)·W − W·ρ_in(g)‖ / ‖W‖ over generators g and the Lie algebra; 0 of no weight."""
    exact = weight.detach().to(device="cpu", dtype=torch.float64)
    pairs = [(a.matrix(), b.matrix()) for a, b in zip(rho_out.generators, rho_in.generators, strict=True)]
    pairs += list(zip(rho_out.algebra, rho_in.algebra, strict=True))
    norm = float(exact.norm())
    return max((float((a @ exact - exact @ b).norm()) / norm for a, b in pairs), default=0.0) if norm else 0.0


def commutant_dimension(rho_out: Representation, rho_in: Representation) -> int:
    """How many independent weights [m, n] commute with the group: orbits, or a sum over characters."""
    _same_group(rho_out, rho_in)
    if rho_out.permutes and rho_in.permutes:
        orbits = entry_orbits(rho_out, rho_in)
        return int(orbits.max()) + 1 if orbits.numel() else 0
    if rho_out.group.finite:
        images = list(zip(rho_out.images(), rho_in.images(), strict=True))
        traces = [_trace(out.inverse()) * _trace(inner) for out, inner in images]
        return round(sum(traces) / len(images))
    return len(commutant_basis(rho_out, rho_in))


def commutant_basis(rho_out: Representation, rho_in: Representation) -> Tensor:
    """An orthonormal basis of the weights [m, n] that commute with the group: [d, m, n], float64.

    One constant on each orbit where both sides permute. Raises `TdslError` when groups differ, and where
    the basis does not fit.
    """
    _same_group(rho_out, rho_in)
    shape = (rho_out.size, rho_in.size)
    if not rho_out.group.finite:
        return _null_space(rho_out, rho_in)
    count = commutant_dimension(rho_out, rho_in)
    if count * shape[0] * shape[1] > LARGEST_BASIS:
        raise TdslError(
            f"a basis of {count} weights of shape {list(shape)} is too large to be listed",
            expected=f"at most {LARGEST_BASIS} numbers",
            hint="`reynolds` projects without a basis; `entry_orbits` names the orbits",
        )
    if rho_out.permutes and rho_in.permutes:
        orbits = entry_orbits(rho_out, rho_in)
        sizes = torch.bincount(orbits.reshape(-1), minlength=count).to(torch.float64)
        basis = torch.zeros(count, *shape, dtype=torch.float64)
        return basis.scatter_(0, orbits[None], sizes.rsqrt()[orbits][None])
    random = torch.Generator().manual_seed(SEED)
    drawn = [torch.randn(shape, generator=random, dtype=torch.float64) for _ in range(count)]
    if not drawn:
        return torch.zeros(0, *shape, dtype=torch.float64)
    spanned = torch.stack([reynolds(one, rho_out, rho_in).reshape(-1) for one in drawn], 1)
    found: Tensor = torch.linalg.qr(spanned).Q.T.reshape(count, *shape)
    return found


def _null_space(rho_out: Representation, rho_in: Representation) -> Tensor:
    """As `commutant_basis`, of any group; two random elements of a Lie algebra speak for all of it."""
    rows, columns = rho_out.size, rho_in.size
    if rows * columns > LARGEST_SYSTEM:
        raise TdslError(
            f"weights of shape [{rows}, {columns}] are too large to be solved for what commutes with"
            f" {rho_out.group.name}",
            expected=f"at most {LARGEST_SYSTEM} entries, or a finite group",
        )
    pairs = [(a.matrix(), b.matrix()) for a, b in zip(rho_out.generators, rho_in.generators, strict=True)]
    random = torch.Generator().manual_seed(SEED)
    for _ in range(min(2, len(rho_out.algebra))):
        weights = torch.randn(len(rho_out.algebra), generator=random, dtype=torch.float64)
        left, right = (
            torch.einsum("a,aij->ij", weights, torch.stack(rho.algebra)) for rho in (rho_out, rho_in)
        )
        pairs.append((left, right))
    eye_out, eye_in = (torch.eye(n, dtype=torch.float64) for n in (rows, columns))
    system = [torch.kron(a.contiguous(), eye_in) - torch.kron(eye_out, b.T.contiguous()) for a, b in pairs]
    if not system:
        return torch.eye(rows * columns, dtype=torch.float64).reshape(-1, rows, columns)
    _, values, right = torch.linalg.svd(torch.cat(system))
    found: Tensor = right[values <= NULL * max(1.0, float(values[0]))].reshape(-1, rows, columns)
    return found


def _between(left: Element, weight: Tensor, right: Element) -> Tensor:
    """left · weight · right, permutations by moving entries."""
    found = left.apply(weight, 0)
    if isinstance(right, Permutation):
        return found.index_select(1, torch.tensor(right.inverse().places))
    return found @ right.matrix()


@functools.singledispatch
def _trace(element: Element) -> float:
    raise TypeError(element)


@_trace.register
def _(element: Permutation) -> float:
    return float(sum(place == i for i, place in enumerate(element.places)))


@_trace.register
def _(element: Linear) -> float:
    return float(element.matrix().trace())


def _same_group(rho_out: Representation, rho_in: Representation) -> None:
    if rho_out.group != rho_in.group:
        raise TdslError(
            f"{rho_out.name} and {rho_in.name} are representations of two groups",
            expected="one group acting on both sides",
        )
