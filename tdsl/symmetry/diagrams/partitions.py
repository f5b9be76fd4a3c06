"""Set partitions: the diagrams of S(n) (Maron et al., 2019; for n < k + l, Godfrey et al., 2023).

Two bases span the same maps. A *diagram* is 1 where points of one block have equal indices; an *orbit* is 1
where in addition points of different blocks have different ones. A diagram is the sum of the orbits of all
partitions that are as coarse or coarser; Möbius inversion on the lattice of partitions (Rota, 1964) leads
back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from tdsl.symmetry.diagrams.diagram import Labels, as_matrix, block, diagonal, empty


@dataclass(frozen=True, slots=True)
class Partition:
    """The diagram of a set partition of l + k points."""

    labels: Labels
    """The block of each point, outputs first, as a restricted growth string."""
    outputs: int

    @property
    def inputs(self) -> int:
        """How many axes its operand has: k."""
        return len(self.labels) - self.outputs

    @property
    def text(self) -> str:
        """`{out1 in1} {out2} {in2}`."""
        return " ".join(block(points, self.outputs) for points in blocks(self.labels)) or "{}"

    def dense(self, n: int) -> Tensor:
        """1 where the points of each block have equal indices. [n^l, n^k], float64."""
        whole = empty(len(self.labels), n)
        diagonal(whole, self.labels).fill_(1)
        return as_matrix(whole, self.outputs, n)


def set_partitions(points: int, most: int) -> list[Labels]:
    """Every partition of `points` points in a row into at most `most` blocks, the coarsest first."""
    found: list[Labels] = [()] if most > 0 or points == 0 else []
    for _ in range(points):
        found = [
            (*labels, label) for labels in found for label in range(min(most, max(labels, default=-1) + 2))
        ]
    return found


def partition_diagrams(n: int, inputs: int, outputs: int) -> list[Partition]:
    """The basis of the maps of order k → l that commute with S(n): partitions into at most n blocks."""
    return [Partition(labels, outputs) for labels in set_partitions(inputs + outputs, n)]


def partition_count(points: int, most: int) -> int:
    """How many partitions into at most `most` blocks there are."""
    return sum(stirling(points, count) for count in range(min(points, most) + 1))


def stirling(points: int, count: int) -> int:
    """How many partitions of `points` points into exactly `count` blocks there are."""
    found = [1] + [0] * count  # of no points: into no blocks, one
    for _ in range(points):
        found = [0, *(found[i - 1] + i * found[i] for i in range(1, count + 1))]
    return found[count] if count >= 0 else 0


def blocks(labels: Labels) -> list[list[int]]:
    """The points of each block, in the order of the labels."""
    found: list[list[int]] = [[] for _ in range(size(labels))]
    for place, label in enumerate(labels):
        found[label].append(place)
    return found


def size(labels: Labels) -> int:
    """How many blocks a partition has."""
    return max(labels, default=-1) + 1


def coarser(labels: Labels) -> Iterator[tuple[Labels, int]]:
    """Every partition whose blocks are unions of blocks of `labels`, itself first, with its Möbius number.

    The number is μ(labels, coarser) = Π (−1)^(p − 1) (p − 1)! over the blocks, each of which joins p blocks.
    """
    count = size(labels)
    for joined in reversed(set_partitions(count, count)):
        sign = 1
        for together in blocks(joined):
            sign *= (-1) ** (len(together) - 1) * math.factorial(len(together) - 1)
        yield tuple(joined[label] for label in labels), sign


def orbit_length(labels: Labels, n: int) -> int:
    """How many index tuples the orbit of a partition has: n (n − 1) … (n − b + 1) for b blocks."""
    return math.perm(n, size(labels))


def orbit(labels: Labels, n: int) -> Tensor:
    """1 where points have equal indices exactly if they share a block: an axis of size n for each point."""
    whole = empty(len(labels), n)
    for joined, sign in coarser(labels):
        diagonal(whole, joined).add_(sign)
    return whole
