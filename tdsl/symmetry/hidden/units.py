"""The units of an axis group: what each of them has in the weights, as one row of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product as combinations
from typing import Any

import numpy as np
import torch

from tdsl.symmetry.hidden.groups import AxisGroup, Weights
from tdsl.symmetry.hidden.layout import (
    Atom,
    Choice,
    Layout,
    Prod,
    Sum,
    atoms_in,
    plain_factors,
    selectors_in,
    size_in,
)
from tdsl.symmetry.hidden.permuting import Indices, Permuter

Rows = np.ndarray[tuple[int, int], np.dtype[np.float64]]
"""One row for each unit."""


def blocks_of(group: AxisGroup) -> Iterator[tuple[int, ...]]:
    """The places at each of which the group has a permutation of its own; `()` for a plain group."""
    yield from combinations(*(range(size) for size in group.over_sizes))


def rows(
    group: AxisGroup, weights: Weights, block: tuple[int, ...], unknown: frozenset[int] = frozenset()
) -> Rows:
    """What each unit has in all members, in float64, in an order that is the same for every unit.

    Along atoms that are `unknown` the numbers are sorted, so that permutations of those change nothing.
    """
    parts = [
        part
        for path, axes in group.axes.items()
        if weights[path].is_floating_point()
        for axis, layout in enumerate(axes)
        if group.atom in set(atoms_in(layout)) and not any(map(selectors_in, axes))
        for part in [_Part(group, axes, axis, block).rows(weights[path], unknown)]
    ]
    return np.concatenate(parts, axis=1) if parts else np.zeros((group.size, 0))


class _Part:
    """One axis of one weight, in one block."""

    def __init__(self, group: AxisGroup, axes: tuple[Layout, ...], axis: int, block: tuple[int, ...]) -> None:
        self.atom = group.atom
        self.sizes = group.sizes
        self.axes = axes
        self.axis = axis
        self.coordinates: Mapping[int, int] = dict(zip(group.over, block, strict=True))
        self.shape = Permuter(group.atom, (), group.identity(), group.sizes)

    def rows(self, tensor: torch.Tensor, unknown: frozenset[int]) -> Rows:
        values = np.moveaxis(tensor.detach().double().cpu().numpy(), self.axis, 0)
        places = places_in(self.axes[self.axis], self.atom, self.sizes, self.coordinates)
        others = [self.kept(layout, tensor.shape[i]) for i, layout in enumerate(self.axes) if i != self.axis]
        found = values[np.ix_(places.ravel(), *others)].reshape(places.shape[0], -1)
        if not unknown or not any(unknown & set(atoms_in(layout)) for layout in self.axes):
            return np.asarray(found, dtype=np.float64)
        labels = [self.labels(self.axes[self.axis], unknown | {self.atom})[places[0]]]
        rest = [layout for i, layout in enumerate(self.axes) if i != self.axis]
        labels += [self.labels(layout, unknown)[kept] for layout, kept in zip(rest, others, strict=True)]
        mixed = np.zeros(1, np.int64)
        for label in labels:
            mixed = (mixed[:, None] * (int(label.max(initial=0)) + 1) + label[None, :]).ravel()
        order = np.lexsort((found, np.broadcast_to(mixed, found.shape)), axis=-1)
        return np.take_along_axis(found, order, axis=1)

    def kept(self, layout: Layout, size: int) -> Indices:
        """The places of another axis that belong to this block."""
        result = np.arange(size)
        if self.atom in set(atoms_in(self.axes[self.axis])):
            own = set(plain_factors(layout))
            inside = set(atoms_in(self.axes[self.axis]))
            for number, value in self.coordinates.items():
                if number in own - inside:
                    result = result[self.shape.coordinate(layout, number)[result] == value]
        return result

    def labels(self, layout: Layout, unknown: frozenset[int]) -> Indices:
        """A number for each place of an axis, equal where only unknown coordinates differ."""
        if isinstance(layout, Atom):
            size = self.sizes[layout.number]
            return np.zeros(size, np.int64) if layout.number in unknown else np.arange(size)
        if isinstance(layout, (Sum, Choice)):
            parts, start = [], 0
            for part in layout.parts:
                parts.append(self.labels(part, unknown) + start)
                start = int(parts[-1].max(initial=0)) + 1
            return np.concatenate(parts)
        result = np.zeros(1, np.int64)
        for part in layout.parts:
            own = self.labels(part, unknown)
            result = (result[:, None] * (int(own.max(initial=0)) + 1) + own[None, :]).ravel()
        return result


def places_in(
    layout: Layout, atom: int, sizes: Mapping[int, int], coordinates: Mapping[int, int] | None = None
) -> Indices:
    """The places along an axis of every unit of an atom, one row for each; some other atoms may be fixed."""
    if isinstance(layout, Atom):
        return np.arange(sizes[atom])[:, None]
    if isinstance(layout, Sum):
        found, start = [], 0
        for part in layout.parts:
            if atom in set(atoms_in(part)):
                found.append(places_in(part, atom, sizes, coordinates) + start)
            start += size_in(part, sizes)
        return np.concatenate(found, axis=1)
    assert isinstance(layout, Prod)
    result = np.zeros((1, 1), np.int64)
    seen = False
    for part in layout.parts:
        size = size_in(part, sizes)
        if atom in set(atoms_in(part)) and not seen:
            own, seen = places_in(part, atom, sizes, coordinates), True
        elif isinstance(part, Atom) and coordinates is not None and part.number in coordinates:
            own = np.array([[coordinates[part.number]]])
        else:
            own = np.arange(size)[None, :]
        units = max(result.shape[0], own.shape[0])
        result = (result[:, :, None] * size + own[:, None, :]).reshape(units, -1)
    return result


def dependents_first(groups: Any) -> list[AxisGroup]:
    """The groups in an order in which each comes after those that its permutation depends on."""
    rest, found = list(groups), list[AxisGroup]()
    while rest:
        waiting = {group.atom for group in rest}
        ready = [group for group in rest if not waiting & (set(group.over) - {group.atom})] or rest[:1]
        found.append(ready[0])
        rest.remove(ready[0])
    return found
