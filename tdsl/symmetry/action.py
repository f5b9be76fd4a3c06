"""What one group element does to a tensor: something along each of its axes, then another order of the axes.

All that a tensor of known rank can undergo axis by axis is of this form (flips, rolls, rotations by a quarter
turn, channel permutations, scalings, matrices, tensor powers, transpositions), and the form is normal: two
actions are equal exactly when they do the same. Behind it may stand a translation: x ↦ A·x + offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.symmetry.along import (
    Along,
    Turn,
    along,
    apply,
    flip,
    inverse,
    is_still,
    matrix,
    permutes,
    roll,
    still,
    then,
    word,
)
from tdsl.symmetry.element import Element


@dataclass(frozen=True, slots=True)
class Offset:
    """A tensor that is added, of size 1 along axes on which it is the same. Equal when equal to 1e-9."""

    values: Tensor = field(compare=False)

    def __post_init__(self) -> None:
        values = self.values.to(torch.float64)
        for axis in range(values.ndim):
            first = values.narrow(axis, 0, 1)
            if torch.allclose(values, first.expand_as(values), rtol=0, atol=1e-9):
                values = first
        object.__setattr__(self, "values", values)

    @property
    def is_zero(self) -> bool:
        """Whether nothing is added."""
        return float(self.values.abs().max()) <= 1e-9

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Offset) or other.values.shape != self.values.shape:
            return False
        return bool(torch.allclose(self.values, other.values, rtol=0, atol=1e-9))

    def __hash__(self) -> int:
        return hash(tuple(self.values.shape))


@dataclass(frozen=True, slots=True)
class Action:
    """An element on tensors of `rank` axes: `parts` act on axes of x, then axis j is axis `order[j]`.

    `parts` hold (axis from the front, element), sorted, without those that move nothing; `offset` is added at
    the end, and broadcast. Build it with the functions below, which normalise.
    """

    rank: int
    parts: tuple[tuple[int, Along], ...]
    order: tuple[int, ...]
    offset: Offset | None = None

    def part(self, axis: int) -> Along | None:
        """What acts on an axis of the tensor it takes; `None` for nothing."""
        return dict(self.parts).get(axis)

    @property
    def is_identity(self) -> bool:
        """Whether it does nothing."""
        return not self.parts and not self.reorders and self.offset is None

    @property
    def reorders(self) -> bool:
        """Whether axes change places."""
        return self.order != tuple(range(self.rank))

    @property
    def permutes(self) -> bool:
        """Whether every element of the result is an element of the tensor."""
        return self.offset is None and all(permutes(element) for _, element in self.parts)

    @property
    def touched(self) -> frozenset[int]:
        """Axes of the tensor on which something acts, or which change places."""
        moved = (axis for place, axis in enumerate(self.order) if place != axis)
        return frozenset((*(axis for axis, _ in self.parts), *moved))

    def then(self, other: Action) -> Action:
        """First this, then the other. Raises `TdslError` when they act on different tensors."""
        if other.rank != self.rank:
            raise TdslError(f"tensors of {self.rank} axes are not tensors of {other.rank}")
        parts = dict(self.parts)
        for place, element in other.parts:
            axis = self.order[place]
            parts[axis] = then(parts[axis], element) if axis in parts else element
        shift = None if self.offset is None else other.linear.apply_wide(self.offset.values)
        if other.offset is not None:
            shift = other.offset.values if shift is None else shift + other.offset.values
        return action(self.rank, parts, [self.order[place] for place in other.order], shift)

    def inverse(self) -> Action:
        """What undoes it."""
        back = [0] * self.rank
        for place, axis in enumerate(self.order):
            back[axis] = place
        parts = {back[axis]: inverse(element) for axis, element in self.parts}
        undone = action(self.rank, parts, back)
        if self.offset is None:
            return undone
        return translated(undone, -undone.apply_wide(self.offset.values))

    @property
    def linear(self) -> Action:
        """The same without what is added."""
        return self if self.offset is None else Action(self.rank, self.parts, self.order)

    def apply_wide(self, x: Tensor) -> Tensor:
        """As `apply`, of a tensor that is the same along its axes of size 1, which are written out first."""
        sizes = {axis: element.size for axis, element in self.parts}
        return self.apply(x.expand([sizes.get(axis, size) for axis, size in enumerate(x.shape)]))

    def apply(self, x: Tensor) -> Tensor:
        """`x` acted on. Raises `TdslError` when it has another number of axes, or an axis another size."""
        if x.ndim != self.rank:
            raise TdslError(f"a tensor of {x.ndim} axes is none of {self.rank}")
        moved = reduce(lambda value, part: apply(part[1], value, part[0]), self.parts, x)
        placed = moved.permute(self.order) if self.reorders else moved
        return placed if self.offset is None else placed + self.offset.values.to(placed.dtype)

    def on_weight(self, weight: Tensor, axes: Mapping[int, int]) -> Tensor:
        """The action on the axes of a weight that see the tensor: `axes` maps an axis of it to the weight's.

        Orders of places that know only the direction of an axis, flips, act on a kernel of any size; a roll
        leaves it alone. Raises `TdslError` for an action that a kernel of another size cannot follow.
        """
        if self.offset is not None:
            raise TdslError(f"no weight follows {self}: it adds to the tensor")
        moved = weight
        for axis, element in self.parts:
            if axis not in axes:
                continue
            size = weight.shape[axes[axis]]
            moved = apply(element if element.size == size else resized(element, size), moved, axes[axis])
        places = list(range(weight.ndim))
        for axis, seen in axes.items():
            if self.order[axis] in axes:
                places[seen] = axes[self.order[axis]]
            elif self.order[axis] != axis:
                raise TdslError(f"axis {axis} changes places with one that the weight does not have")
        return moved.permute(places)

    def restricted(self, axes: Iterable[int]) -> Action:
        """The part on these axes alone. Raises `TdslError` when they change places with others."""
        kept = set(axes)
        if any((place in kept) != (axis in kept) for place, axis in enumerate(self.order)):
            raise TdslError("some of these axes change places with others")
        order = [axis if place in kept else place for place, axis in enumerate(self.order)]
        return action(self.rank, {a: e for a, e in self.parts if a in kept}, order)

    def text(self, names: Sequence[str] = ()) -> str:
        """In words: `rot90(H, W)`, `flip(W) · permute(C)`, what acts first to the left; `1` for nothing."""
        shown = list(names) or [str(axis - self.rank) for axis in range(self.rank)]
        parts = dict(self.parts)
        swapped = [axis for place, axis in enumerate(self.order) if place != axis]
        moved = ""
        if len(swapped) == 2:
            first, second = sorted(swapped)
            turns = [a for a in swapped if a in parts and parts[a] == flip(parts[a].size)]
            if len(turns) == 1 and len(parts.keys() & set(swapped)) == 1:
                del parts[turns[0]]
                pair = (first, second) if turns[0] == second else (second, first)
                moved = f"rot90({shown[pair[0]]}, {shown[pair[1]]})"
            else:
                moved = f"transpose({shown[first]}, {shown[second]})"
        elif swapped:
            moved = f"permute({', '.join(shown[axis] for axis in self.order)})"
        words = [word(element, shown[axis]) for axis, element in sorted(parts.items())]
        found = " · ".join([*words, *([moved] if moved else [])])
        return found or "1" if self.offset is None else f"{found or 'x'} + translation"

    def __str__(self) -> str:
        return self.text()


def action(
    rank: int,
    parts: Mapping[int, Along | Element],
    order: Sequence[int] | None = None,
    offset: Tensor | None = None,
) -> Action:
    """An action in normal form; axes may count from the last. Raises `TdslError` for axes there are not.

    `offset` is added at the end; its axes are aligned from the last, as in broadcasting.
    """
    found: dict[int, Along] = {}
    for axis, element in parts.items():
        if not -rank <= axis < rank:
            raise TdslError(f"there is no axis {axis} in a tensor of {rank}")
        normal = along(element)
        if not is_still(normal):
            found[axis % rank] = normal
    places = tuple(range(rank)) if order is None else tuple(axis % rank for axis in order)
    if sorted(places) != list(range(rank)):
        raise TdslError(f"{list(order or ())} is no order of {rank} axes")
    made = Action(rank, tuple(sorted(found.items())), places)
    return made if offset is None else translated(made, offset)


def translated(acting: Action, offset: Tensor) -> Action:
    """The same action, and then `offset` added. Raises `TdslError` when it has more axes than the tensor."""
    if offset.ndim > acting.rank:
        raise TdslError(f"a tensor of {offset.ndim} axes is added to one of {acting.rank}")
    total = Offset(offset.reshape((1,) * (acting.rank - offset.ndim) + tuple(offset.shape)))
    linear = acting.linear
    return linear if total.is_zero else Action(linear.rank, linear.parts, linear.order, total)


def identity_on(rank: int) -> Action:
    """The action that does nothing."""
    return Action(rank, (), tuple(range(rank)))


def flipped(shape: Sequence[int], axes: Iterable[int]) -> Action:
    """`flip(x, axes)` for tensors of that shape."""
    return action(len(shape), {axis % len(shape): flip(shape[axis]) for axis in axes})


def rolled(shape: Sequence[int], shifts: Sequence[int], axes: Sequence[int]) -> Action:
    """`roll(x, shifts, axes)` for tensors of that shape."""
    made = identity_on(len(shape))
    for shift, axis in zip(shifts, axes, strict=True):
        made = made.then(action(len(shape), {axis: roll(shape[axis], shift)}))
    return made


def transposed(rank: int, order: Sequence[int]) -> Action:
    """`permute(x, order)`."""
    return action(rank, {}, order)


def rotated(shape: Sequence[int], turns: int, first: int, second: int) -> Action:
    """`rot90(x, turns, (first, second))` for tensors of that shape."""
    rank = len(shape)
    first, second = first % rank, second % rank
    swap = list(range(rank))
    swap[first], swap[second] = second, first
    match turns % 4:
        case 0:
            return identity_on(rank)
        case 1:
            return action(rank, {second: flip(shape[second])}, swap)
        case 2:
            return flipped(shape, (first, second))
        case _:
            return action(rank, {first: flip(shape[first])}, swap)


def alike(rank: int, element: Along | Element, axes: Iterable[int]) -> Action:
    """The same element on several axes: a tensor power."""
    return action(rank, {axis % rank: element for axis in axes})


def resized(element: Along, size: int) -> Along:
    """The same change of direction on an axis of another size: a flip stays one, a roll leaves it alone.

    Raises `TdslError` for what is no flip or roll.
    """
    if not isinstance(element, Turn):
        raise TdslError(f"{word(element, '-1')} of {element.size} places means nothing for {size}")
    return flip(size) if element.mirrored or element.is_flip else still(size)


def same(first: Action, second: Action, tolerance: float = 1e-9) -> bool:
    """Whether both do the same, matrices up to a tolerance."""
    if first == second:
        return True
    if first.rank != second.rank or first.order != second.order or first.offset != second.offset:
        return False
    for axis in {a for a, _ in (*first.parts, *second.parts)}:
        one, two = first.part(axis), second.part(axis)
        size = (one or two).size  # type: ignore[union-attr]  # one of them acts
        unit = torch.eye(size, dtype=torch.float64)
        left = unit if one is None else matrix(one)
        right = unit if two is None else matrix(two)
        if left.shape != right.shape or float((left - right).abs().max()) > tolerance:
            return False
    return True
