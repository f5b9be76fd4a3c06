"""Fields of several sizes: channels on the group itself, on its cosets, or on a single place.

A permutation action whose orbits have several sizes is a direct sum, and what is equivariant is one dense map
for each irreducible space, with as many copies of it as all fields of each side have together (Schur, 1905;
Weiler & Cesa, 2019). Each orbit is a quotient of the group, so that its copies are those of the group's own
that are constant along it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tdsl.symmetry.finite.isotypic import Component

NOTHING = 1e-6
"""A copy of which less than this is left beside others is a combination of them."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Channels in kinds: those of a kind stand at the same places together."""

    kinds: Tensor
    """[q] int64: the kind of each channel."""
    stands: tuple[Tensor, ...]
    """For each kind which of its numbers stands at each place of the group, [d] int64."""

    def first(self, kind: int) -> Tensor:
        """The first place at which each number of a kind stands. → [numbers] int64"""
        return torch.from_numpy(np.unique(self.stands[kind].numpy(), return_index=True)[1])

    def channels(self, kind: int) -> Tensor:
        """The channels of a kind. → [of q] int64"""
        return (self.kinds == kind).nonzero().flatten()


def fields_of(order: Tensor) -> Fields:
    """Kinds of channels, from what stands at each place of each. [d, q] int64 → `Fields`"""
    found: dict[bytes, int] = {}
    kinds: list[int] = []
    stands: list[Tensor] = []
    for column in order.T.numpy():
        first, inverse = np.unique(column, return_index=True, return_inverse=True)[1:]
        pattern = np.argsort(np.argsort(first))[inverse]  # numbers in the order in which they come
        key = pattern.tobytes()
        if key not in found:
            found[key] = len(stands)
            stands.append(torch.from_numpy(pattern))
        kinds.append(found[key])
    return Fields(torch.tensor(kinds, dtype=torch.int64), tuple(stands))


def copies_in(component: Component, stands: Tensor) -> Component:
    """The copies of an irreducible space in a field, of those on the group. `stands` [d] as in `Fields`.

    They are orthonormal, and the group acts on each by the same matrices as on the given ones.
    """
    numbers = int(stands.max()) + 1
    if numbers == len(stands):
        return component
    onto = torch.nn.functional.one_hot(stands, numbers).to(torch.float64).T
    size = component.dimension**0.5
    kept: list[Tensor] = []
    for copy in component.copies:
        rest = onto @ copy
        for _ in range(2):  # once leaves what rounding makes of it
            for turned in [known @ unit for known in kept for unit in component.units]:
                rest = rest - turned * ((turned * rest).sum() / component.dimension)
        length = float(rest.norm())
        if length > NOTHING * size:
            kept.append(rest * (size / length))
    copies = torch.stack(kept) if kept else component.copies.new_zeros(0, numbers, component.dimension)
    return Component(copies, component.units)
