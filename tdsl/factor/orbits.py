"""Orbits of permutations on the entries of a weight: patterns of equal indices, one diagram for each.

Groups of axes are permuted each by itself, all axes of a group alike. Two positions are in one orbit exactly
if the same axes have equal indices; a diagram is one where its axes do and others may (Maron et al., 2019).
So the diagrams that are one at an orbit are read off bits, and means over orbits become coefficients of
diagrams by a triangular system, which is Möbius inversion on the lattice of partitions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tdsl.factor.memo import memoised
from tdsl.factor.orbit_probe import Layout
from tdsl.symmetry.diagrams.diagram import Labels, numbered

AT_ONCE = 1 << 22
"""Entries of a weight that are looked at together, where it has several output channels."""


def patterns(sizes: Sequence[int], groups: Sequence[int]) -> Tensor:
    """Which axes have equal indices at each position, a bit for each pair of axes of one group. [size, …]"""
    found = torch.zeros(tuple(sizes), dtype=torch.int64)
    for bit, (one, other) in enumerate(_pairs(groups)):
        shape = [1] * len(sizes)
        shape[one], shape[other] = sizes[one], sizes[other]
        equal = torch.eye(sizes[one], dtype=torch.int64).reshape(shape)
        found = found.bitwise_or(equal.bitwise_left_shift(bit))
    return found


def pattern_of(labels: Sequence[int], groups: Sequence[int]) -> int:
    """The bits of the axes that have equal labels."""
    return sum(1 << bit for bit, (a, b) in enumerate(_pairs(groups)) if labels[a] == labels[b])


def incidence(found: Tensor, wanted: Tensor) -> Tensor:
    """Whether patterns have all the equalities that are wanted. [o], [d] → [o, d]"""
    return found[:, None].bitwise_and(wanted).eq(wanted)


def _pairs(groups: Sequence[int]) -> list[tuple[int, int]]:
    return [
        (one, other)
        for one, other in itertools.combinations(range(len(groups)), 2)
        if groups[one] == groups[other]
    ]


@memoised
def nearest(weight: Tensor, layout: Layout) -> tuple[list[tuple[Labels, ...]], Tensor, float]:
    """The nearest weight that is the same all along orbits, as coefficients of diagrams, and the distance.

    [m, n_in] → diagrams, each as a partition of the axes of every group, outputs first; [d, p, q] their
    coefficients, float64; the Frobenius norm of the rest.
    """
    outputs, inputs = layout.sizes
    axes = [place for place, group in enumerate(layout.groups) for _ in range(group.outputs)]
    axes += [place for place, group in enumerate(layout.groups) for _ in range(group.inputs)]
    sizes = (*outputs, *inputs)
    kinds, ids, counts = torch.unique(
        patterns(sizes, axes).flatten(), return_inverse=True, return_counts=True
    )
    view = layout.view(weight)
    step = max(1, AT_ONCE // max(1, view[0].numel()))
    means, lost = [], 0.0
    for part in torch.split(view, step):
        entries = part.flatten(2).movedim(2, 0).reshape(len(ids), -1)
        total = entries.new_zeros(len(kinds), entries.shape[1]).index_add(0, ids, entries)
        mean = total / counts[:, None]
        lost += float(torch.linalg.vector_norm(entries - mean[ids])) ** 2
        means.append(mean.reshape(len(kinds), *part.shape[:2]))
    mean = torch.cat(means, 1)
    system = incidence(kinds, kinds).to(torch.float64)
    coefficients = torch.linalg.solve(system, mean.flatten(1)).reshape(mean.shape)
    first = torch.zeros(len(kinds), dtype=torch.int64).index_copy(
        0, ids.flip(0), torch.arange(len(ids) - 1, -1, -1)
    )
    places = torch.unravel_index(first, sizes) if sizes else ()
    digits = [[int(digit[orbit]) for digit in places] for orbit in range(len(kinds))]
    labels = [
        tuple(
            numbered([index for index, axis in zip(row, axes, strict=True) if axis == place])
            for place in range(len(layout.groups))
        )
        for row in digits
    ]
    return labels, coefficients, math.sqrt(lost)
