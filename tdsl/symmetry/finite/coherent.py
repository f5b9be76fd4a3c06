"""Pairs of places in classes that are closed under products: the symmetry of a matrix of labels.

What commutes with a group is the same, up to a sign, along the orbits of pairs of places. Orbits are found
without the group: two pairs are told apart when sums over paths through a third place differ, until nothing
changes (Weisfeiler & Leman, 1968). The matrices that are constant on the classes are then an algebra that
transposition maps to itself (Higman, 1975), which is all that irreducible spaces need.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tdsl.symmetry.finite.hashes import mixed

SEED = 0xC0_4E
FEWER = 0.7
"""Classes are at most this share of the pairs that are not nothing; a mirror has half as many."""
LARGEST = 2**19
"""Random whole numbers are below this, so that sums over 2000 paths are exact in float64."""

Labels = NDArray[np.int64]
"""Classes of pairs of places, numbered from 1 with a sign; 0 where there is nothing."""


@dataclass(frozen=True, slots=True)
class Classes:
    """Closed classes of pairs (row, column), and of pairs of rows and of columns."""

    between: Tensor
    """[a, b] int64, numbered from 1; entries of opposite sign are opposite, and 0 is nothing."""
    out: Tensor
    """[a, a]."""
    inner: Tensor
    """[b, b]."""

    @property
    def count(self) -> int:
        """How many classes of pairs (row, column) there are."""
        return int(self.between.abs().max())


def closed(labels: Tensor) -> Classes | None:
    """The coarsest closed classes that tell apart what `labels` [a, b] do; signs as in `Classes`.

    `None` where hardly two pairs are alike.
    """
    between: Labels = labels.numpy()
    rows, columns = between.shape
    out, inner = np.zeros((rows, rows), np.int64), np.zeros((columns, columns), np.int64)
    random = np.random.default_rng(SEED)
    counts: tuple[int, ...] = ()
    while True:
        one, other = (_drawn(between, random) for _ in range(2))
        (left, left_too), (right, right_too) = (
            tuple(_drawn(classes, random) for _ in range(2)) for classes in (out, inner)
        )
        first, second = one.T @ other, one @ other.T
        inner = _refined(inner, [first, first.T, right, right.T, right @ right_too])
        out = _refined(out, [second, second.T, left, left.T, left @ left_too])
        between = _refined(between, [left @ one, one @ right])
        before, counts = counts, tuple(int(np.abs(classes).max()) for classes in (between, out, inner))
        if counts[0] > FEWER * np.count_nonzero(between):
            return None
        if counts == before:
            return Classes(*(torch.from_numpy(classes) for classes in (between, out, inner)))


def drawn(classes: Tensor, random: torch.Generator) -> Tensor:
    """A random matrix that is constant on the classes, up to their signs. → float64"""
    values = torch.randn(int(classes.abs().max()) + 1, generator=random, dtype=torch.float64)
    return values[classes.abs()] * classes.sign()


def _drawn(classes: Labels, random: np.random.Generator) -> NDArray[np.float64]:
    """The same of whole numbers."""
    values = random.integers(-LARGEST, LARGEST, int(np.abs(classes).max()) + 1).astype(np.float64)
    found: NDArray[np.float64] = values[np.abs(classes)] * np.sign(classes)
    return found


def _refined(classes: Labels, sights: list[NDArray[np.float64]]) -> Labels:
    """Classes told apart by whole numbers that change sign with them, where they had none also found."""
    signs = np.sign(classes)
    for sight in sights:
        signs = np.where(signs == 0, np.sign(sight).astype(np.int64), signs)
    keys = np.abs(classes).astype(np.uint64)
    for sight in sights:
        keys = mixed(keys) + (sight * signs).astype(np.int64).view(np.uint64)
    keys = np.where(signs == 0, np.uint64(0), mixed(keys) | np.uint64(1))
    known, names = np.unique(keys, return_inverse=True)
    start = 0 if known[0] == 0 else 1
    found: Labels = (names.reshape(classes.shape) + start) * signs
    return found
