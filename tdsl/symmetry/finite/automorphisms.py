"""The automorphism group of a graph, by generators.

Colour refinement splits the vertices by what they see around them; fixing one vertex after another and
refining again leads to a partition into single vertices. Going back up that chain, each vertex of the cell
in which a vertex was fixed is tried as its image (McKay, 1981): the automorphisms found are strong
generators along the chain of stabilisers, and the order is the product of the orbits (Sims, 1970).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.symmetry.components import components
from tdsl.symmetry.element import Permutation
from tdsl.symmetry.finite.hashes import mixed
from tdsl.symmetry.group import Group

MOST_REFINEMENTS = 20_000
"""Graphs on which refinement helps so little that more are needed are given up."""

Colours = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def automorphisms(adjacency: Tensor) -> Group:
    """The permutations P of vertices with P·A·Pᵀ = A, for a matrix A [n, n] of any real type.

    Weights, directions and loops count, each by its value. The group knows its order. Raises `TdslError`
    for what is no square matrix, and for a graph on which the search would take too long.
    """
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1] or not len(adjacency):
        raise TdslError(f"a matrix of shape {list(adjacency.shape)} is no adjacency", expected="[n, n]")
    return _Search(adjacency).group()


class _Search:
    """One graph: which pairs of vertices look alike, and how often colours were refined."""

    def __init__(self, adjacency: Tensor) -> None:
        values = adjacency.detach().cpu().to(torch.float64).numpy()
        self.size = len(values)
        kinds = np.unique(values, return_inverse=True)[1].reshape(values.shape)
        both = kinds * (int(kinds.max()) + 1) + kinds.T
        self.edges = np.unique(both, return_inverse=True)[1].reshape(both.shape).astype(np.int64)
        self.refinements = 0

    def group(self) -> Group:
        """Generators along the chain of stabilisers, deepest first."""
        base, partitions = self._chain()
        generators: list[Permutation] = []
        order = 1
        for depth in reversed(range(len(base))):
            start, colours = base[depth], partitions[depth]
            orbits = _orbits(self.size, generators)
            failed: list[int] = []
            for candidate in np.flatnonzero(colours == colours[start]).tolist():
                if orbits[candidate] in {orbits[start], *(orbits[v] for v in failed)}:
                    continue
                pair = np.stack([_fixed(colours, start), _fixed(colours, candidate)])
                found = self._mapping(pair, base[depth + 1 :])
                if found is None:  # nor does any vertex of its orbit
                    failed.append(candidate)
                else:
                    generators.append(found)
                    orbits = _orbits(self.size, generators)
            order *= orbits.count(orbits[start])
        return Group(
            f"aut({self.size} vertices)",
            self.size,
            tuple(f"g{i}" for i in range(len(generators))),
            tuple(generators),
            known_order=order,
        )

    def _chain(self) -> tuple[list[int], list[Colours]]:
        """Vertices that, fixed one after another, leave nothing to move; and the colours before each."""
        colours = self._refined(np.zeros((1, self.size), dtype=np.int64))
        base: list[int] = []
        partitions: list[Colours] = []
        while True:
            assert colours is not None  # one colouring agrees with itself
            cells = np.bincount(colours[0])
            if cells.max() == 1:
                return base, partitions
            vertex = int(np.flatnonzero(cells[colours[0]] == cells.max())[0])
            base.append(vertex)
            partitions.append(colours[0])
            colours = self._refined(_fixed(colours[0], vertex)[None])

    def _mapping(self, pair: Colours, base: list[int]) -> Permutation | None:
        """An automorphism that takes the colours `pair[0]` to `pair[1]`; `None` when there is none."""
        refined = self._refined(pair)
        if refined is None:
            return None
        ours, theirs = refined
        waiting = [v for v in base if int((ours == ours[v]).sum()) > 1]
        if not waiting:
            image = np.empty(self.size, dtype=np.int64)
            image[np.argsort(ours)] = np.argsort(theirs)
            if (self.edges[image][:, image] == self.edges).all():
                return Permutation(tuple(image.tolist()))
            return None
        vertex = waiting[0]
        for candidate in np.flatnonzero(theirs == ours[vertex]).tolist():
            next_pair = np.stack([_fixed(ours, vertex), _fixed(theirs, candidate)])
            found = self._mapping(next_pair, waiting[1:])
            if found is not None:
                return found
        return None

    def _refined(self, colourings: Colours) -> Colours | None:
        """Colourings [k, n] refined alike until vertices of one colour see the same; `None` when they part.

        What a vertex sees is a sum of hashes: two sights of one hash leave a partition coarser, never wrong.
        """
        while True:
            self.refinements += 1
            if self.refinements > MOST_REFINEMENTS:
                raise TdslError(
                    f"the automorphisms of this graph of {self.size} vertices are not found in"
                    f" {MOST_REFINEMENTS} steps",
                    expected="a graph whose vertices can be told apart by what is around them",
                    hint="give the group by generators, if they are known",
                )
            width = int(colourings.max()) + 1
            sights = mixed(self.edges[None] * width + colourings[:, None, :]).sum(2, dtype=np.uint64)
            names = np.unique(mixed(sights + mixed(colourings)), return_inverse=True)[1]
            finer = names.reshape(colourings.shape).astype(np.int64)
            counts = [np.bincount(one, minlength=int(finer.max()) + 1) for one in finer]
            if any((one != counts[0]).any() for one in counts[1:]):
                return None
            if finer.max() + 1 == width:
                return finer
            colourings = finer


def _fixed(colours: Colours, vertex: int) -> Colours:
    """The colours with one vertex told from all others."""
    found = colours.copy()
    found[vertex] = int(colours.max()) + 1
    return found


def _orbits(size: int, generators: list[Permutation]) -> list[int]:
    """The orbit of every vertex, by number."""
    return components(size, [torch.tensor(g.places) for g in generators]).tolist()
