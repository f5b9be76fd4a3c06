"""Diagrams taken apart: what they contract, what they write, and where.

A diagram takes a diagonal of its operand, sums over the blocks of input axes alone, and writes the result to
a diagonal of its output, the same along blocks of output axes alone (Godfrey et al., 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tdsl.symmetry.diagrams.diagram import Labels, numbered

Blocks = tuple[int, ...]
"""Some blocks of a partition, in an order that matters."""


@dataclass(frozen=True, slots=True)
class Diagrams:
    """Diagrams on axes of given sizes."""

    outputs: tuple[int, ...]
    """The size of each output axis."""
    inputs: tuple[int, ...]
    groups: tuple[int, ...]
    """The group of each axis, of output axes and then of input axes."""
    labels: tuple[tuple[Labels, Labels], ...]
    """The blocks of output axes and of input axes, for each diagram; a block is in one group of axes."""


def joined(*structure: Tensor) -> Diagrams:
    """The diagrams on all axes, from three tensors for each group of axes: [d, l], [d, k], [n]."""
    groups = [structure[i : i + 3] for i in range(0, len(structure), 3)]
    outputs: list[int] = []
    inputs: list[int] = []
    before: list[int] = []
    after: list[int] = []
    labels: list[tuple[list[int], list[int]]] = [([], []) for _ in groups[0][0]]
    for place, (out, into, indices) in enumerate(groups):
        before += [place] * out.shape[1]
        after += [place] * into.shape[1]
        outputs += [len(indices)] * out.shape[1]
        inputs += [len(indices)] * into.shape[1]
        apart = 1 + max((label for pair in labels for part in pair for label in part), default=-1)
        for known, one, other in zip(labels, out.tolist(), into.tolist(), strict=True):
            known[0].extend(apart + label for label in one)
            known[1].extend(apart + label for label in other)
    pairs = tuple((tuple(out), tuple(into)) for out, into in labels)
    return Diagrams(tuple(outputs), tuple(inputs), (*before, *after), pairs)


@dataclass(frozen=True, slots=True)
class Contraction:
    """A diagonal of the operand, summed over the blocks that are not kept."""

    partition: Labels
    """The blocks of input axes, numbered as they come."""
    kept: Blocks
    """Which blocks the value has an axis for, ascending."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A contraction with its axes in the order in which the output has them."""

    contraction: Contraction
    order: Blocks
    """Which axis of the contraction comes at each place."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is written: a diagonal of the output, along some of its blocks."""

    partition: Labels
    along: Blocks
    """The blocks that the value has an axis for, ascending."""


def parts(out: Labels, into: Labels) -> tuple[Place, Feature]:
    """A diagram as what it contracts and where it is written."""
    through = set(out) & set(into)
    sources, targets = numbered(into), numbered(out)
    kept = tuple(sorted({b for b, label in zip(sources, into, strict=True) if label in through}))
    along = tuple(sorted({b for b, label in zip(targets, out, strict=True) if label in through}))
    labels = [into[sources.index(block)] for block in kept]
    order = tuple(labels.index(out[targets.index(block)]) for block in along)
    return Place(targets, along), Feature(Contraction(sources, kept), order)


def is_finer(one: Labels, other: Labels) -> bool:
    """Whether every block of `one` lies in a block of `other`."""
    return len(set(zip(one, other, strict=True))) == max(one, default=-1) + 1
