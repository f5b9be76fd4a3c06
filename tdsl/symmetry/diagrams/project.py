"""The nearest map that commutes with a group, as coefficients of diagrams, and how far away it is.

The distance is the certificate: zero, up to rounding, exactly for the maps that commute (for a compact group;
of Sp(n), the maps that commute are a space all the same, and this is the distance to it).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tdsl.symmetry.diagrams.bases import basis
from tdsl.symmetry.diagrams.brauer import Matching, coordinates
from tdsl.symmetry.diagrams.diagram import Diagram, diagonal
from tdsl.symmetry.diagrams.jellyfish import Jellyfish
from tdsl.symmetry.diagrams.partitions import Partition, coarser, orbit_length

AT_ONCE = 1 << 22
"""Entries of a weight that are looked at together, where it has several output channels."""


@dataclass(frozen=True, slots=True)
class Projection:
    """A weight as Σ_d λ_d ⊗ D_d + rest."""

    diagrams: Sequence[Diagram]
    coefficients: Tensor
    """λ, a matrix of channels for each diagram. [d, C_out, C_in], float64."""
    kept: float
    """The Frobenius norm of the part that commutes."""
    lost: float
    """The Frobenius norm of the rest."""

    @property
    def residual(self) -> float:
        """The distance to the maps that commute, relative to the weight; 0 for a weight of zeros."""
        return self.lost / math.hypot(self.kept, self.lost) if self.lost else 0.0


def by_channel(weight: Tensor, n: int, k: int, l: int, *, channels_last: bool) -> Tensor:  # noqa: E741
    """The view of a weight with an axis for each channel and each point.

    [m, n_in] → [C_out, n, …, n, C_in, n, …, n], with l and k axes of size n. Channels run fastest among the
    indices of a row and of a column, or slowest. Raises `RuntimeError` where n^l does not divide m, or n^k
    not n_in.
    """
    rows, columns = weight.shape
    sizes = ([n] * l, [n] * k)
    outer = [*sizes[0], rows // n**l] if channels_last else [rows // n**l, *sizes[0]]
    inner = [*sizes[1], columns // n**k] if channels_last else [columns // n**k, *sizes[1]]
    split = torch.unflatten(torch.unflatten(weight, 1, inner), 0, outer)
    return split.movedim((l, l + 1 + k), (0, l + 1)) if channels_last else split


def project(weight: Tensor, family: str, n: int, k: int, l: int) -> Projection:  # noqa: E741
    """The orthogonal projection on the maps of order k → l that commute with a group.

    [C_out, n, …, C_in, n, …] as from `by_channel`. Output channels are looked at some at a time, which takes
    little memory. For S(n) coefficients are means over orbits (Reynolds), inverted
    by Möbius; for the others they solve the Gram matrix of the diagrams. Raises what `basis` raises.
    """
    diagrams = basis(family, n, k, l)
    step = max(1, AT_ONCE // max(1, weight[0].numel())) if len(weight) else 1
    found, lost, total = [], 0.0, 0.0
    for rows in torch.split(weight, step):
        rest = rows.to(torch.float64, copy=True).movedim(l + 1, 1)  # C_out, C_in, and the points
        total += float(torch.linalg.vector_norm(rest)) ** 2
        found.append(_taken_out(rest, diagrams, n))
        lost += float(torch.linalg.vector_norm(rest)) ** 2
    coefficients = (
        torch.cat(found, 1)
        if found
        else torch.zeros(len(diagrams), 0, weight.shape[l + 1], dtype=torch.float64)
    )
    return Projection(diagrams, coefficients, math.sqrt(max(0.0, total - lost)), math.sqrt(lost))


def _taken_out(rest: Tensor, diagrams: Sequence[Diagram], n: int) -> Tensor:
    """The coefficients of the diagrams in `rest` [C_out, C_in, n, …], which loses that part.

    → [d, C_out, C_in].
    """
    partitions = [d for d in diagrams if isinstance(d, Partition)]
    matchings = [d for d in diagrams if isinstance(d, Matching)]
    signs = [d for d in diagrams if isinstance(d, Jellyfish)]
    found = [*_means(rest, partitions, n)]
    if matchings:
        products = torch.stack([_product(rest, d, n) for d in matchings])
        found += coordinates(products, matchings, n).unbind()
    # An orbit of S(n) has as many even as odd entries: signs are orthogonal to partitions, and to each other.
    found += [_product(rest, d, n) / math.factorial(n) for d in signs]
    for diagram, coefficient in zip(diagrams, found, strict=True):
        _add(rest, diagram, -coefficient, n)
    return torch.stack(found) if found else rest.new_zeros(0, *rest.shape[:2])


def _means(rest: Tensor, partitions: Sequence[Partition], n: int) -> list[Tensor]:
    """The coefficients of the partitions, [C_out, C_in] each: means over their orbits, inverted."""
    totals = {d.labels: _sum(diagonal(rest, d.labels, 2)) for d in partitions}
    found = {labels: torch.zeros_like(total) for labels, total in totals.items()}
    for labels in totals:
        joined = [(one, number) for one, number in coarser(labels) if one in totals]
        mean = sum(number * totals[one] for one, number in joined) / orbit_length(labels, n)
        for one, number in joined:
            found[one] = found[one] + number * mean
    return [found[d.labels] for d in partitions]


def _sum(entries: Tensor) -> Tensor:
    """The sum over all axes but the first two."""
    return entries.sum(tuple(range(2, entries.ndim))) if entries.ndim > 2 else entries.clone()


def _product(rest: Tensor, diagram: Matching | Jellyfish, n: int) -> Tensor:
    """The inner product with a diagram, for each pair of channels. [C_out, C_in, n, …] → [C_out, C_in]."""
    places, values = diagram.entries(n)
    return rest.flatten(2)[..., places] @ values if rest.ndim > 2 else rest * values


def _add(whole: Tensor, diagram: Diagram, coefficient: Tensor, n: int) -> None:
    """Add a diagram, with a coefficient for each pair of channels, to `whole` [C_out, C_in, n, …]."""
    if isinstance(diagram, Partition):
        view = diagonal(whole, diagram.labels, 2)
        view += coefficient[(...,) + (None,) * (view.ndim - 2)]
    elif isinstance(diagram, Matching | Jellyfish):
        points = diagram.inputs + diagram.outputs
        places, values = diagram.entries(n)
        if points:
            at = torch.unravel_index(places, (n,) * points)
            whole[(..., *at)] += coefficient[..., None] * values  # type: ignore[index]
        else:
            whole += coefficient * values
