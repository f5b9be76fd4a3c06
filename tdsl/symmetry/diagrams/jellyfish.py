"""What commutes with A(n) and not with S(n) (Pearce-Crump, 2023, "Jellyfish").

An even permutation can move any b different indices to any others as long as n − b ≥ 2: then two of the
others are free to be exchanged. Only partitions into n − 1 or n blocks have orbits that fall into two halves.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from tdsl.symmetry.diagrams.diagram import Labels, as_matrix, block, filled
from tdsl.symmetry.diagrams.partitions import blocks, set_partitions, size, stirling


@dataclass(frozen=True, slots=True)
class Jellyfish:
    """The signs of a partition into n − 1 or n blocks; zero where two blocks have equal indices."""

    labels: Labels
    outputs: int

    @property
    def inputs(self) -> int:
        """How many axes its operand has: k."""
        return len(self.labels) - self.outputs

    @property
    def text(self) -> str:
        """`sign of ({out1 in1} {out2})`."""
        inner = " ".join(block(points, self.outputs) for points in blocks(self.labels))
        return f"sign of ({inner})"

    def entries(self, n: int) -> tuple[Tensor, Tensor]:
        """Where the map is not zero, in a row of n^(l + k) entries, and its values there, all ± 1.

        A value is the sign of the permutation that takes the blocks to their indices; n − 1 indices leave one
        place for the last. Raises `ValueError` where n is not the number of blocks or one more.
        """
        count = size(self.labels)
        if n - count not in (0, 1):
            raise ValueError(f"{count} blocks have no sign among {n} indices")
        order, signs = signed_orders(n)
        steps = torch.tensor([n ** (len(self.labels) - 1 - p) for p in range(len(self.labels))])
        return order[:, list(self.labels)] @ steps, signs

    def dense(self, n: int) -> Tensor:
        """The map as a matrix [n^l, n^k], float64. Raises what `entries` raises."""
        return as_matrix(filled(self.entries(n), len(self.labels), n), self.outputs, n)


def signed_orders(n: int) -> tuple[Tensor, Tensor]:
    """Every permutation of 0 … n − 1 and its sign. [n!, n] of int64, [n!] of float64."""
    orders = list(itertools.permutations(range(n)))
    signs = [-1.0 if sum(a > b for a, b in itertools.combinations(order, 2)) % 2 else 1.0 for order in orders]
    return torch.tensor(orders).reshape(len(orders), n), torch.tensor(signs, dtype=torch.float64)


def jellyfish_diagrams(n: int, inputs: int, outputs: int) -> list[Jellyfish]:
    """What is added to the basis of S(n) for A(n): a sign for each partition into n − 1 or n blocks."""
    if n < 2:
        return []
    found = set_partitions(inputs + outputs, n)
    return [Jellyfish(labels, outputs) for labels in found if size(labels) >= n - 1]


def jellyfish_count(n: int, points: int) -> int:
    """How many there are."""
    return stirling(points, n) + stirling(points, n - 1) if n >= 2 else 0
