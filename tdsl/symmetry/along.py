"""What one group element does along one axis of a tensor, in a normal form in which equal ones compare equal.

A `Turn` is all that flips and rolls make (an element of the dihedral group of the axis); a `Permutation` is
any other order of the places; a `Monomial` permutes and scales; a `Linear` is any matrix. `along` brings
whatever is given into the first of these forms that holds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.symmetry.element import Linear, Permutation

CLOSE = 1e-12
"""Entries of a matrix that differ by no more are one number."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Places of a ring shifted, and mirrored: (g·x)[i] = x[(start ± i) mod size], minus when `mirrored`."""

    size: int
    start: int
    mirrored: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise TdslError(f"an axis of size {self.size} has no places", expected="a positive size")
        object.__setattr__(self, "start", self.start % self.size)
        if self.size < 3:  # a mirror image is a shift
            object.__setattr__(self, "mirrored", False)

    @property
    def places(self) -> tuple[int, ...]:
        """Which place each entry comes from."""
        sign = -1 if self.mirrored else 1
        return tuple((self.start + sign * i) % self.size for i in range(self.size))

    def then(self, other: Turn) -> Turn:
        """First this, then the other."""
        sign = -1 if self.mirrored else 1
        return Turn(self.size, self.start + sign * other.start, self.mirrored != other.mirrored)

    def inverse(self) -> Turn:
        """What undoes it."""
        return Turn(self.size, self.start if self.mirrored else -self.start, self.mirrored)

    @property
    def is_flip(self) -> bool:
        """Whether first and last change places, and so on inwards."""
        return self.mirrored_as(self.size) and self.size > 1

    def mirrored_as(self, size: int) -> bool:
        """Whether this, on an axis of `size`, would be the flip of it."""
        return self.start == size - 1 and (self.mirrored or size < 3)


@dataclass(frozen=True, slots=True)
class Monomial:
    """Places in another order, each scaled: (g·x)[i] = scales[i] · x[places[i]], no scale zero."""

    places: tuple[int, ...]
    scales: tuple[float, ...]

    def __post_init__(self) -> None:
        Permutation(self.places)
        if len(self.scales) != len(self.places) or not all(self.scales):
            raise TdslError("a scaling needs one number for each place, none of them zero")

    @property
    def size(self) -> int:
        """How many places there are."""
        return len(self.places)

    def inverse(self) -> Monomial:
        """What undoes it."""
        back = Permutation(self.places).inverse().places
        return Monomial(back, tuple(1 / self.scales[i] for i in back))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Monomial) or other.places != self.places:
            return False
        return all(
            abs(a - b) <= CLOSE * max(abs(a), abs(b)) for a, b in zip(self.scales, other.scales, strict=True)
        )

    def __hash__(self) -> int:
        return hash(self.places)


Along: TypeAlias = Turn | Permutation | Monomial | Linear


def flip(size: int) -> Turn:
    """The order of the places reversed."""
    return Turn(size, size - 1, True)


def roll(size: int, shift: int) -> Turn:
    """Every place moved on by `shift`, the last ones to the front."""
    return Turn(size, -shift)


def still(size: int) -> Turn:
    """Nothing moves."""
    return Turn(size, 0)


def along(element: Along) -> Along:
    """The normal form: a turn, else a permutation, else a monomial, else a matrix."""
    if isinstance(element, Linear):
        matrix = element.values
        places = matrix.abs().argmax(1).tolist()
        scales = matrix[range(len(places)), places]
        rest = matrix.clone()
        rest[range(len(places)), places] = 0
        if sorted(places) != list(range(len(places))) or float(rest.abs().max()) > CLOSE * float(
            scales.abs().max()
        ):
            return element
        element = Monomial(tuple(places), tuple(scales.tolist()))
    if isinstance(element, Monomial):
        if any(abs(scale - 1) > CLOSE for scale in element.scales):
            return element
        element = Permutation(element.places)
    if isinstance(element, Permutation):
        places = list(element.places)
        for mirrored in (False, True):
            turn = Turn(len(places), places[0], mirrored)
            if turn.places == element.places:
                return turn
    return element


def then(first: Along, second: Along) -> Along:
    """First one, then the other, in normal form. Raises `TdslError` when their sizes differ."""
    if first.size != second.size:
        raise TdslError(f"axes of sizes {first.size} and {second.size} are not one axis")
    if isinstance(first, Turn) and isinstance(second, Turn):
        return first.then(second)
    if isinstance(first, Linear) or isinstance(second, Linear):
        return along(Linear(matrix(second) @ matrix(first)))
    places = tuple(first.places[i] for i in second.places)
    if isinstance(first, Monomial) or isinstance(second, Monomial):
        a, b = scales(first), scales(second)
        return along(Monomial(places, tuple(scale * a[i] for scale, i in zip(b, second.places, strict=True))))
    return along(Permutation(places))


def inverse(element: Along) -> Along:
    """What undoes it, in normal form."""
    return along(element.inverse())


def scales(element: Turn | Permutation | Monomial) -> tuple[float, ...]:
    """What each place is multiplied by."""
    return element.scales if isinstance(element, Monomial) else (1.0,) * element.size


def matrix(element: Along) -> Tensor:
    """The matrix that acts on the axis. [n, n], float64."""
    if isinstance(element, Linear):
        return element.values
    rows = torch.eye(element.size, dtype=torch.float64)[list(element.places)]
    return torch.tensor(scales(element), dtype=torch.float64)[:, None] * rows


def apply(element: Along, x: Tensor, axis: int) -> Tensor:
    """`x` acted on along an axis. Raises `TdslError` when that axis has another size."""
    if x.shape[axis] != element.size:
        raise TdslError(
            f"an axis of size {x.shape[axis]} is not one of size {element.size}",
            hint="quarter turns and transposes exchange sizes: what they generate needs squares",
        )
    if isinstance(element, Linear):
        return element.apply(x, axis)
    if isinstance(element, Turn):
        moved = x.flip(axis) if element.mirrored else x
        shift = element.start - (element.size - 1) if element.mirrored else -element.start
        return moved.roll(shift, axis) if shift % element.size else moved
    moved = x.index_select(axis, torch.tensor(element.places))
    if isinstance(element, Permutation):
        return moved
    shape = [1] * x.ndim
    shape[axis] = element.size
    return moved * torch.tensor(element.scales, dtype=torch.float64).to(x.dtype).reshape(shape)


def is_still(element: Along) -> bool:
    """Whether nothing moves."""
    normal = along(element)
    return isinstance(normal, Turn) and normal.start == 0 and not normal.mirrored


def permutes(element: Along) -> bool:
    """Whether it only changes the order of the places."""
    return isinstance(element, Turn | Permutation)


def keeps_signs(element: Along) -> bool:
    """Whether it does no more than move places and multiply them by positive numbers."""
    return permutes(element) or (isinstance(element, Monomial) and all(scale > 0 for scale in element.scales))


def is_orthogonal(element: Along) -> bool:
    """Whether lengths stay as they are, up to 1e-9."""
    if permutes(element):
        return True
    if isinstance(element, Monomial):
        return all(abs(abs(scale) - 1) <= 1e-9 for scale in element.scales)
    unit = torch.eye(element.size, dtype=torch.float64)
    return bool(torch.allclose(matrix(element).T @ matrix(element), unit, rtol=0, atol=1e-9))


def transposed_inverse(element: Along) -> Along:
    """What must act on the other side of an inner product for it to stay as it is."""
    if permutes(element):
        return element
    if isinstance(element, Monomial):
        return along(Monomial(element.places, tuple(1 / scale for scale in element.scales)))
    return along(Linear(torch.linalg.inv(matrix(element)).T))


def word(element: Along, axis: str) -> str:
    """A short text: `flip(H)`, `roll(W, 3)`, `permute(C)`, `scale(C)`, `matrix(-1)`."""
    match along(element):
        case Turn() as turn if turn.is_flip:
            return f"flip({axis})"
        case Turn() as turn:
            shift = (turn.start + 1 if turn.mirrored else -turn.start) % turn.size
            rolled = f"roll({axis}, {shift if 2 * shift <= turn.size else shift - turn.size})"
            return f"flip({axis}) · {rolled}" if turn.mirrored else rolled
        case Permutation():
            return f"permute({axis})"
        case Monomial() as monomial if all(scale > 0 for scale in monomial.scales):
            return f"scale({axis})"
        case Monomial() as monomial if all(abs(scale) == 1 for scale in monomial.scales):
            return f"signs({axis})"
        case _:
            return f"matrix({axis})"
