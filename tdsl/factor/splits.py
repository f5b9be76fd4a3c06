"""Sizes as products: the ways in which the axes of a matrix split into digits, and the choice of one.

A structured factorization of W [m, n] exists for each way to write m and n as products, and each way has
factors of its own size. What all of them share is here: the divisors, and which way a rank rule prefers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tdsl.factor.rank import RankRule, lost_energy

NEGLIGIBLE = 1e-9
"""Relative errors below this are equally small when ways are compared."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to split the axes, at the ranks that a rule chose for it."""

    sizes: tuple[int, ...]
    """What the factorization calls its sizes."""
    ranks: tuple[int, ...]
    numbers: int
    """How many numbers the factors hold."""
    error: float
    """Relative Frobenius error, measured or estimated."""


def best(rule: RankRule, ways: Iterable[Way], dense: int) -> Way | None:
    """The way that `rule` asks for; `None` of none.

    A rule that bounds the error (`energy`, `error`, `auto`) asks for the fewest numbers. A number of terms
    or a ratio asks for the smallest error, among the ways that hold fewer numbers than the `dense` weight.
    """
    known = list(ways)
    if rule.spectral:
        return min(known, key=lambda way: (way.numbers, way.error, way.sizes), default=None)
    saving = [way for way in known if way.numbers < dense] or known
    return min(
        saving,
        key=lambda way: (way.error if way.error > NEGLIGIBLE else 0.0, way.numbers, way.sizes),
        default=None,
    )


def enough(rule: RankRule, kept: float, lost: float) -> bool:
    """Whether `rule` is content with a part of that norm, `lost` being the norm of the rest."""
    return rule.select(torch.tensor([kept, lost], dtype=torch.float64), 1) <= 1


def error_of(singular_values: Tensor, rank: int) -> float:
    """The relative Frobenius error of keeping the first `rank` of these."""
    return float(lost_energy(singular_values)[min(rank, len(singular_values))].sqrt())


@functools.cache
def divisors(number: int) -> tuple[int, ...]:
    """The divisors of a positive number, ascending."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return tuple(sorted({*small, *(number // d for d in small)}))


def spread(count: int, most: int) -> list[int]:
    """At most `most` indices below `count`, evenly spread."""
    return list(range(count)) if count <= most else [i * count // most for i in range(most)]
