"""In which order the rows and columns of a weight are the places of a group, whose order nobody knows.

The group permutes rows and columns, so that rows of one orbit have the same numbers, each in its own order,
and their sums and sizes say so in one pass. An orbit of as many rows as the group has elements names these:
where a number of its first row comes again in another row is where that element takes its column. Orbits of
fewer rows or columns, down to those that no element moves, are read as if they were as large, each row or
column at several places.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tdsl.symmetry.finite.detect import EXACT, lines_alike

MOST_ELEMENTS = 64
"""Groups of more elements are not looked for without an order."""
TRIES = 3
"""Orbits that may name the elements."""
SEED = 0x0DE5

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Orders:
    """Rows and columns of a weight as (place, channel), a place for each element of a group."""

    rows: Tensor
    """[d, p] int64: the row that stands at each place."""
    columns: Tensor
    """[d, q] int64: the column."""

    @property
    def places(self) -> Tensor:
        """The first place of each row among d·p. [m] int64"""
        return torch.from_numpy(np.unique(self.rows.numpy(), return_index=True)[1])

    def lifted(self, weight: Tensor) -> Tensor:
        """The weight of what stands at the places. [m, n, s] → [d·p, d·q, s]

        The numbers of a column that stands at several places are shared out among these.
        """
        columns = self.columns.flatten()
        shares = 1 / torch.bincount(columns)[columns].to(weight.dtype)
        return weight[self.rows.flatten()][:, columns] * shares[:, None]


def unlifted(placed: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """The weight of which the rows and columns stand at places. [d·p, d·q, s] → [m, n, s]

    `rows` [m] are the first place of each row, `columns` [d·q] the column at each place, whose numbers are
    added up (`Orders.places`, `Orders.columns`).
    """
    stands = columns[:, None] == torch.arange(int(columns.max()) + 1)
    return torch.einsum("iks,kj->ijs", placed[rows % len(placed)], stands.to(placed.dtype))


def find_orders(weight: Tensor) -> Orders | None:
    """How a finite group may permute rows and columns of matrices [m, n, s], all s alike; `None` for none.

    Whether the weight commutes with such a group is not said: the orders are those in which it would.
    """
    random = torch.Generator().manual_seed(SEED)
    mix = torch.randn(weight.shape[2], generator=random, dtype=torch.float64)
    exact = weight.to(torch.float64)
    mixed = exact @ mix if weight.shape[2] > 1 else exact[..., 0]
    size = float(torch.linalg.vector_norm(mixed)) / math.sqrt(max(1, mixed.numel()))
    if not size:
        return None
    rows, columns = map(_orbits, lines_alike(mixed, signed=True))
    if not rows or not columns:
        return None
    elements = max(*rows, *columns)
    if elements > MOST_ELEMENTS or any(elements % count for count in (*rows, *columns)):
        return None
    numbers: Numbers = (mixed / size).numpy()
    if elements in rows:
        found = next(_orders(numbers, rows, columns, elements), None)
        return None if found is None else Orders(*map(torch.from_numpy, found))
    found = next(_orders(numbers.T, columns, rows, elements), None)
    return None if found is None else Orders(*map(torch.from_numpy, found[::-1]))


def _orbits(alike: Tensor) -> dict[int, Places]:
    """Rows of one name, by how many they are; none where no two have one. [m] → size: [orbits, size]

    Each orbit is in order, and orbits are by their first row.
    """
    names = alike.numpy().copy()
    names[names == 0] = len(names) + 1 + np.arange((names == 0).sum())  # rows of zeros stay where they are
    order = np.argsort(names, kind="stable")
    starts = np.flatnonzero(np.diff(names[order], prepend=-1))
    if len(starts) == len(names):
        return {}
    found: dict[int, list[Places]] = {}
    for orbit in sorted(np.split(order, starts[1:]), key=lambda orbit: int(orbit[0])):
        found.setdefault(len(orbit), []).append(orbit)
    return {size: np.stack(orbits) for size, orbits in found.items()}


def _orders(
    numbers: Numbers, rows: dict[int, Places], columns: dict[int, Places], elements: int
) -> Iterator[tuple[Places, Places]]:
    """Rows [d, p] and columns [d, q] at the places, by orbits of rows that name the elements."""
    for named in rows[elements][:TRIES]:
        across = _followed(numbers[named], columns)
        if across is None:
            continue
        mix = np.random.default_rng(SEED).standard_normal(across.shape[1])
        seen = np.stack([numbers[:, places] @ mix for places in across])
        down = _followed(seen / float(np.sqrt(np.mean(seen**2))), rows)
        if down is not None:
            yield down, across


def _followed(seen: Numbers, orbits: dict[int, Places]) -> Places | None:
    """Where each element takes the first of an orbit that can be told from the others. [d, n] → [d, orbits]

    `seen` has in each row the numbers of the first one, moved by an element.
    """
    found: list[Places] = []
    for size, members in orbits.items():
        values = seen[:, members]  # [d, orbits, size]
        order = np.argsort(values, axis=-1)
        values = np.take_along_axis(values, order, -1)
        if float(np.abs(values - values[0]).max()) > EXACT:
            return None
        steps = np.diff(values[0], axis=-1) > 2 * EXACT  # [orbits, size - 1]
        edge = np.ones((len(members), 1), dtype=bool)
        apart = np.concatenate([edge, steps], 1) & np.concatenate([steps, edge], 1)
        if not apart.any(1).all():
            return None
        ranks = np.argsort(order[0], axis=-1)  # of each member in the first row
        first = np.take_along_axis(apart, ranks, -1).argmax(1)
        rank = np.take_along_axis(ranks, first[:, None], -1)
        taken = np.take_along_axis(order, rank[None].repeat(len(seen), 0), -1)[..., 0]
        moved = np.take_along_axis(members[None].repeat(len(seen), 0), taken[..., None], -1)[..., 0]
        if not (np.sort(moved, 0) == members.T.repeat(len(seen) // size, 0)).all():
            return None
        found.append(moved)
    whole = np.concatenate(found, 1)
    return whole[:, np.argsort(whole.min(0), kind="stable")]
