"""Which weights of one shape belong together: those that take fewer numbers with shared bases than apart.

Weights are joined by average linkage on the principal angles between their dominant subspaces (Björck &
Golub, 1973): first those that span nearly the same. Then, from the leaves up, every branch of that tree is
shared as a whole where this takes fewer numbers than the best that was found for its two halves, a weight
alone costing what it takes dense or at its own best rank. A branch is not tried where a lower bound says that
it cannot pay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tdsl.factor.matrix import decompose, from_gram
from tdsl.factor.shared import Layer, Shared, shared_factors


@dataclass(frozen=True)
class Alone:
    """A weight by itself: the rank that it needs, and the spaces that it then reads and writes."""

    layer: Layer
    rank: int
    out: Tensor
    """Orthonormal columns, [m, rank]."""
    into: Tensor
    """Orthonormal columns, [n, rank]."""

    @classmethod
    def of(cls, layer: Layer, error: float) -> Alone:
        """At a relative error in the metric of the inputs, best possible (Eckart & Young, 1936)."""
        found = decompose(layer.seen)
        lost = (
            found.values.square().flip(0).cumsum(0).flip(0)
        )  # what is lost with this value and all after it
        rank = max(1, int((lost > error**2).sum()))
        out = found.left[:, :rank]
        return cls(layer, rank, out, torch.linalg.qr((out.T @ layer.weight).T)[0])

    @property
    def numbers(self) -> int:
        """What it takes: all entries, or two factors where these are fewer."""
        m, n = self.layer.weight.shape
        return min(m * n, self.rank * (m + n))

    def overlap(self, other: Alone) -> float:
        """Mean squared cosine of the principal angles, of outputs or inputs, whichever are nearer. → 0 … 1.

        Per direction of the larger space: everything lies in the space of a weight of full rank.
        """
        most = max(self.rank, other.rank)
        spaces = ((self.out, other.out), (self.into, other.into))
        return max(float((a.T @ b).square().sum()) / most for a, b in spaces)


@dataclass(frozen=True)
class Family:
    """Weights that are shared, or one that is not."""

    members: tuple[int, ...]
    shared: Shared | None
    reason: str = ""
    """Why a weight is left alone."""


def families(layers: Sequence[Layer], error: float, macs: float = 1.0) -> list[Family]:
    """How weights of one shape are best shared, no layer beyond a relative `error` (`shared_factors`).

    Every weight is in one family, in the order of their first members.
    """
    return _Tree(layers, error, macs).families()


@dataclass(frozen=True)
class _Tree:
    layers: Sequence[Layer]
    error: float
    macs: float

    @cached_property
    def alone(self) -> list[Alone]:
        return [Alone.of(layer, self.error) for layer in self.layers]

    def families(self) -> list[Family]:
        """The best cut of the tree."""
        if len(self.layers) == 1:
            return [Family((0,), None, "no other weight has its shape")]
        count = len(self.layers)
        best = [(self.alone[i].numbers, [Family((i,), None)]) for i in range(count)]
        grams = [layer.seen @ layer.seen.T for layer in self.layers]
        for left, right in self._merges():
            gram = grams[left] + grams[right]
            apart = best[left][0] + best[right][0]
            parts = [*best[left][1], *best[right][1]]
            members = tuple(sorted(i for family in parts for i in family.members))
            least = self._least(members, gram)
            shared = None
            if least is not None and least < apart:
                own = [self.layers[i] for i in members]
                shared = shared_factors(own, self.error, self.macs, wanted=apart)
            grams.append(gram)
            if shared is not None and shared.numbers < apart:
                best.append((shared.numbers, [Family(members, shared)]))
                continue
            how = f"{shared.numbers} numbers" if shared else f"at least {least} numbers"
            if least is None or (shared is None and least < apart):
                how = "more operations than are allowed"
            reason = f"sharing with {len(members) - 1} more takes {how}, staying apart {apart} numbers"
            best.append((apart, [_with_reason(family, reason) for family in parts]))
        return sorted(best[-1][1], key=lambda family: family.members)

    def _merges(self) -> list[tuple[int, int]]:
        """Pairs to join; the i-th makes the branch of number `len(layers) + i`."""
        from scipy.cluster.hierarchy import linkage

        count = len(self.layers)
        distances = [
            1 - self.alone[i].overlap(self.alone[j]) for i in range(count) for j in range(i + 1, count)
        ]
        tree = linkage(np.array(distances).clip(0, None), "average")
        return [(int(left), int(right)) for left, right in tree[:, :2]]

    def _least(self, members: Sequence[int], gram: Tensor) -> int | None:
        """Numbers that shared factors take at least; `None` where they take too many operations in any case.

        Outputs need the rank that all need together: where each layer may lose ε², all of them lose no more
        than so many times that. And no rank is below that of a layer alone.
        """
        m, n = self.layers[0].weight.shape
        values = from_gram(gram)[1].square()
        lost = values.flip(0).cumsum(0).flip(0)
        single = max(self.alone[i].rank for i in members)
        joint = max(single, int((lost > len(members) * self.error**2 * (1 + 1e-9)).sum()))
        found = []
        for bases, core in (
            (m * joint + single * n, joint * single),
            (single * n, m * single),  # inputs alone are shared
            (m * joint, joint * n),
        ):
            if bases + core <= self.macs * m * n:
                found.append(bases + len(members) * core)
        return min(found, default=None)


def _with_reason(family: Family, reason: str) -> Family:
    """A weight that is alone remembers why the nearest others did not take it in."""
    alone = family.shared is None and not family.reason
    return Family(family.members, None, reason) if alone else family
