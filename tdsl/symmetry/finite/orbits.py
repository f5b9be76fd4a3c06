"""Orbits of a permutation group on the entries of a matrix or tensor, from its generators alone."""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.symmetry.components import components
from tdsl.symmetry.element import Permutation
from tdsl.symmetry.representation import Representation


def entry_orbits(rho_out: Representation, rho_in: Representation) -> Tensor:
    """The orbit of each entry of a weight [m, n] under both permutation representations of one group.

    → [m, n] int64, orbits numbered as they first occur in reading order. A weight commutes with the group
    exactly when it is constant on them: their number is the dimension of the commutant. Tensors of several
    axes are matrices of powers (`representation.power`). Raises `TdslError` for what does not permute.
    """
    if not (rho_out.permutes and rho_in.permutes):
        raise TdslError(
            f"{rho_out.name} or {rho_in.name} does not permute the places of its axis",
            expected="permutation representations, whose orbits can be followed",
            hint="`reynolds` averages over matrices too",
        )
    places = torch.arange(rho_out.size * rho_in.size).reshape(rho_out.size, rho_in.size)
    images = []
    for out, inner in zip(rho_out.generators, rho_in.generators, strict=True):
        assert isinstance(out, Permutation) and isinstance(inner, Permutation)
        if not (out.is_identity and inner.is_identity):
            images.append(places[list(out.places)][:, list(inner.places)].reshape(-1))
    return components(places.numel(), images).reshape(places.shape)


def orbit_means(values: Tensor, orbits: Tensor) -> Tensor:
    """The mean of `values` over each orbit; of values that are all equal, bitwise that value.

    [...], [...] int64 → [number of orbits] float64.
    """
    flat, labels = values.reshape(-1).to(torch.float64), orbits.reshape(-1)
    count = int(labels.max()) + 1 if labels.numel() else 0
    first = torch.empty(count, dtype=torch.float64)
    first[labels.flip(0)] = flat.flip(0)
    away = torch.zeros(count, dtype=torch.float64).index_add_(0, labels, flat - first[labels])
    return first + away / torch.bincount(labels, minlength=count)
