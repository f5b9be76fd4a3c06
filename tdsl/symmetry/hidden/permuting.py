"""One permutation carried out on a weight: every place of its atom, in every axis, block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product as combinations

import numpy as np
import torch

from tdsl.symmetry.hidden.layout import (
    Atom,
    Axes,
    Choice,
    Layout,
    Prod,
    Sum,
    atoms_in,
    plain_factors,
    selectors_in,
    size_in,
)

Indices = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class Permuter:
    """Permutes weights along one atom; `over` are the atoms its permutation depends on.

    `permutation` has one axis for each of `over`, and the indices last: place i takes what was at
    `permutation[…, i]`.
    """

    def __init__(
        self, atom: int, over: Sequence[int], permutation: Indices, sizes: Mapping[int, int]
    ) -> None:
        self.atom = atom
        self.over = tuple(over)
        self.permutation = permutation
        self.sizes = sizes

    def apply(self, tensor: torch.Tensor, axes: Axes) -> torch.Tensor:
        """The weight, whose axes are as given, permuted."""
        for axis, layout in enumerate(axes):
            if self.atom in set(atoms_in(layout)):
                tensor = self._along(tensor, axes, axis)
        return tensor

    def _along(self, tensor: torch.Tensor, axes: Axes, axis: int) -> torch.Tensor:
        wanted = {*self.over, *selectors_in(axes[axis])}
        own = set(plain_factors(axes[axis]))
        hosts = {
            number: other
            for other, layout in enumerate(axes)
            if other != axis
            for number in plain_factors(layout)
            if number in wanted - own
        }
        if not hosts:
            source = torch.from_numpy(self.source(axes[axis], {}))
            return tensor.index_select(axis, source.to(tensor.device))
        result = tensor.clone()
        for values in combinations(*(range(self.sizes[number]) for number in hosts)):
            coordinates = dict(zip(hosts, values, strict=True))
            index: list[Indices] = [np.arange(size) for size in tensor.shape]
            for number, value in coordinates.items():
                other = hosts[number]
                places = self.coordinate(axes[other], number)
                index[other] = index[other][places[index[other]] == value]
            target = _crossed(index)
            index[axis] = self.source(axes[axis], coordinates)
            result[target] = tensor[_crossed(index)]
        return result

    def coordinate(self, layout: Layout, number: int) -> Indices:
        """Which index of an atom, a plain factor of the axis, each place of the axis has."""
        if isinstance(layout, Atom):
            return np.arange(self.sizes[number])
        assert isinstance(layout, Prod)
        found = np.zeros(1, np.int64)
        for part in layout.parts:
            size = size_in(part, self.sizes)
            if number in plain_factors(part):
                found = (found[:, None] + self.coordinate(part, number)[None, :]).ravel()
            else:
                found = np.repeat(found, size)
        return found

    def source(self, layout: Layout, coordinates: Mapping[int, int]) -> Indices:
        """For each place of the axis the one whose element it takes."""
        if isinstance(layout, Atom):
            if layout.number != self.atom:
                return np.arange(self.sizes[layout.number])
            found: Indices = self.permutation[tuple(coordinates[number] for number in self.over)]
            return found
        if isinstance(layout, Choice):
            return self.source(layout.parts[coordinates[layout.selector]], coordinates)
        if isinstance(layout, Sum):
            parts, start = [], 0
            for part in layout.parts:
                parts.append(self.source(part, coordinates) + start)
                start += size_in(part, self.sizes)
            return np.concatenate(parts)
        return self._product(layout, coordinates)

    def _product(self, layout: Prod, coordinates: Mapping[int, int]) -> Indices:
        wanted = [part.number for part in layout.parts if isinstance(part, Atom) and part.number in self.over]
        sizes = [size_in(part, self.sizes) for part in layout.parts]
        result = np.arange(int(np.prod(sizes, dtype=np.int64))).reshape(sizes)
        whole = result.copy()
        for values in combinations(*(range(self.sizes[number]) for number in wanted)):
            here = {**coordinates, **dict(zip(wanted, values, strict=True))}
            places: list[Indices] = []
            sources: list[Indices] = []
            for part, size in zip(layout.parts, sizes, strict=True):
                fixed = isinstance(part, Atom) and part.number in wanted
                own = np.array([here[part.number]]) if fixed else np.arange(size)  # type: ignore[union-attr]
                places.append(own)
                sources.append(own if fixed else self.source(part, here))
            result[np.ix_(*places)] = whole[np.ix_(*sources)]
        return result.ravel()


def _crossed(index: list[Indices]) -> tuple[torch.Tensor, ...]:
    """Places along each axis as an index of all combinations."""
    return torch.meshgrid(*(torch.from_numpy(places.copy()) for places in index), indexing="ij")
