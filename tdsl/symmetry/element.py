"""One group element on one axis: an index permutation or a matrix, with compose and inverse.

An index permutation p takes x to x[p], so that (p·x)[i] = x[p[i]]; a matrix Q takes x to Q·x.
`first.then(second)` acts with `first` and then with `second`, in the order of a model.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from tdsl.errors import TdslError


@dataclass(frozen=True, slots=True)
class Permutation:
    """Places along an axis in another order: x ↦ x[places]."""

    places: tuple[int, ...]

    def __post_init__(self) -> None:
        if sorted(self.places) != list(range(len(self.places))):
            raise TdslError(
                f"{list(self.places)} is no permutation",
                expected=f"each of 0 … {len(self.places) - 1} once",
            )

    @property
    def size(self) -> int:
        """How many places there are."""
        return len(self.places)

    def then(self, other: Permutation) -> Permutation:
        """First this, then the other."""
        return Permutation(tuple(self.places[i] for i in other.places))

    def inverse(self) -> Permutation:
        """What undoes it."""
        back = [0] * len(self.places)
        for i, place in enumerate(self.places):
            back[place] = i
        return Permutation(tuple(back))

    def matrix(self) -> Tensor:
        """The matrix P with P·x = x[places]. [n, n], float64."""
        return torch.eye(self.size, dtype=torch.float64)[list(self.places)]

    def apply(self, x: Tensor, axis: int = -1) -> Tensor:
        """`x` moved along an axis."""
        return x.index_select(axis, torch.tensor(self.places))

    @property
    def is_identity(self) -> bool:
        """Whether nothing moves."""
        return self.places == tuple(range(len(self.places)))


@dataclass(frozen=True, slots=True)
class Linear:
    """An invertible matrix on an axis: x ↦ Q·x. Equal when equal to 1e-9."""

    values: Tensor = field(compare=False)

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[0] != self.values.shape[1]:
            raise TdslError(f"a matrix of shape {list(self.values.shape)} acts on no axis", expected="[n, n]")
        object.__setattr__(self, "values", self.values.to(torch.float64))

    @property
    def size(self) -> int:
        """How long the axis is."""
        return len(self.values)

    def then(self, other: Linear) -> Linear:
        """First this, then the other."""
        return Linear(other.values @ self.values)

    def inverse(self) -> Linear:
        """What undoes it."""
        return Linear(torch.linalg.inv(self.values))

    def matrix(self) -> Tensor:
        """Itself. [n, n], float64."""
        return self.values

    def apply(self, x: Tensor, axis: int = -1) -> Tensor:
        """`x` with the matrix applied along an axis."""
        moved = x.movedim(axis, -1)
        return (moved @ self.values.to(x.dtype).T).movedim(-1, axis)

    @property
    def is_identity(self) -> bool:
        """Whether it is the unit matrix, up to rounding."""
        return bool(torch.allclose(self.values, torch.eye(self.size, dtype=torch.float64), rtol=0, atol=1e-9))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Linear) or other.size != self.size:
            return False
        return bool(torch.allclose(self.values, other.values, rtol=0, atol=1e-9))

    def __hash__(self) -> int:
        return hash(self.size)


Element: TypeAlias = Permutation | Linear


def key(element: Element) -> tuple[int, ...]:
    """The same for equal elements, be they given as a permutation or as a matrix (rounded to six digits)."""
    if isinstance(element, Permutation):
        return element.places
    matrix = element.matrix()
    places = matrix.argmax(1).tolist()
    if torch.allclose(matrix, torch.eye(len(matrix), dtype=torch.float64)[places], rtol=0, atol=1e-9):
        return tuple(places)
    return tuple(torch.round(matrix * 1e6).to(torch.int64).flatten().tolist())


def block_diagonal(blocks: Sequence[Tensor]) -> Tensor:
    """Square matrices along the diagonal of a larger one."""
    whole: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return whole


def then(first: Element, second: Element) -> Element:
    """First one element, then another, on the same axis; a matrix when either is one."""
    if isinstance(first, Permutation) and isinstance(second, Permutation):
        return first.then(second)
    return Linear(second.matrix() @ first.matrix())


def identity(size: int) -> Permutation:
    """The element that leaves an axis of that size alone."""
    return Permutation(tuple(range(size)))


def kronecker(elements: Sequence[Element]) -> Element:
    """Elements on several axes as one on the flattened axis, the first of them running slowest."""

    def both(left: Element, right: Element) -> Element:
        if isinstance(left, Permutation) and isinstance(right, Permutation):
            return Permutation(tuple(i * right.size + j for i in left.places for j in right.places))
        return Linear(torch.kron(left.matrix().contiguous(), right.matrix().contiguous()))

    start: Element = identity(1)
    return functools.reduce(both, elements, start)


def direct_sum(elements: Sequence[Element]) -> Element:
    """Elements on consecutive pieces of one axis."""
    if all(isinstance(one, Permutation) for one in elements):
        places: list[int] = []
        for one in elements:
            assert isinstance(one, Permutation)
            start = len(places)
            places.extend(start + i for i in one.places)
        return Permutation(tuple(places))
    return Linear(block_diagonal([one.matrix() for one in elements]))
