"""What a diagram is, whatever the group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

Labels = tuple[int, ...]
"""A set partition of points in a row: the block of each point; blocks are numbered as they come."""


class Diagram(Protocol):
    """A linear map from tensors of `inputs` axes to tensors of `outputs` axes, of any one size n.

    Points are numbered outputs first: 0 … outputs − 1, then the inputs.
    """

    @property
    def outputs(self) -> int:
        """How many axes its result has: l."""
        ...

    @property
    def inputs(self) -> int:
        """How many axes its operand has: k."""
        ...

    @property
    def text(self) -> str:
        """The diagram in words, for messages: `{out1 in1} {out2 in2}`."""
        ...

    def dense(self, n: int) -> Tensor:
        """The map as a matrix [n^l, n^k], float64."""
        ...


def point(index: int, outputs: int) -> str:
    """The name of a point: `out1` or `in1`."""
    return f"out{index + 1}" if index < outputs else f"in{index - outputs + 1}"


def block(points: Iterable[int], outputs: int) -> str:
    """Points that belong together, by name."""
    return "{" + " ".join(point(p, outputs) for p in points) + "}"


def numbered(labels: Sequence[int]) -> Labels:
    """The same partition with blocks numbered as they come."""
    known: dict[int, int] = {}
    return tuple(known.setdefault(label, len(known)) for label in labels)


def diagonal(tensor: Tensor, labels: Sequence[int], first: int = 0) -> Tensor:
    """The view of the entries at which axes with equal labels have equal indices; one axis for each label.

    `labels` are those of the axes from `first` on; the axes around them stay where they are. Writing into
    the view writes into the tensor.
    """
    count = max(labels, default=-1) + 1
    last = first + len(labels)
    sizes = [0] * count
    strides = [0] * count
    for axis, label in zip(range(first, last), labels, strict=True):
        sizes[label] = tensor.shape[axis]
        strides[label] += tensor.stride(axis)
    return tensor.as_strided(
        (*tensor.shape[:first], *sizes, *tensor.shape[last:]),
        (*tensor.stride()[:first], *strides, *tensor.stride()[last:]),
        tensor.storage_offset(),
    )


def empty(points: int, n: int) -> Tensor:
    """Zeros with an axis of size n for each point, float64."""
    return torch.zeros((n,) * points, dtype=torch.float64)


def filled(entries: tuple[Tensor, Tensor], points: int, n: int) -> Tensor:
    """The tensor of given values at given places, in a row of n^points, and zeros. [n, …], float64."""
    places, values = entries
    whole = empty(points, n)
    whole.reshape(-1)[places] = values
    return whole


def as_matrix(tensor: Tensor, outputs: int, n: int) -> Tensor:
    """A tensor with an axis for each point as the matrix of the map. [n, …] → [n^l, n^k]."""
    return tensor.reshape(n**outputs, -1)
