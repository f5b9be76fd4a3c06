"""What rotations do to spherical harmonics, and the products of harmonics that commute with them.

Real harmonics, the orders of a degree from −l to l (`tdsl.factor.bilinear_grid.harmonics`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tdsl.factor.bilinear_grid import harmonics, sphere_rule

Array = NDArray[np.float64]
_NOTHING = 1e-9


def wigner(degree: int, rotation: Array) -> Array:
    """The matrix D with Y(R·p) = D·Y(p) for harmonics of one degree (Wigner, 1931). [3, 3] → [2l+1, 2l+1]."""
    points, weights = sphere_rule(2 * degree + 2)
    own = slice(degree * degree, (degree + 1) ** 2)
    before, after = (harmonics(degree, p)[:, own] for p in (points, rotation @ points))
    return np.asarray(after.T @ (weights[:, None] * before), dtype=np.float64)


def clebsch_gordan(first: int, second: int, third: int) -> Array:
    """The product of two degrees into a third that commutes with rotations. → [2l₁+1, 2l₂+1, 2l₃+1], norm 1.

    Up to a factor there is one (Schur's lemma); it is what two rotations in general position leave alone.
    Raises `ValueError` where there is none: l₃ outside |l₁ − l₂| … l₁ + l₂.
    """
    if not abs(first - second) <= third <= first + second:
        raise ValueError(f"degrees {first} and {second} have no product of degree {third}")
    maps = []
    for turn in _TURNS:
        one, two, three = (wigner(degree, turn) for degree in (first, second, third))
        whole = np.kron(np.kron(one, two), three)
        maps.append(whole - np.eye(len(whole)))
    _, values, directions = np.linalg.svd(np.concatenate(maps))
    assert values[-1] < _NOTHING and (len(values) == 1 or values[-2] > 1e-3)
    return np.asarray(directions[-1].reshape(2 * first + 1, 2 * second + 1, 2 * third + 1), dtype=np.float64)


def _turn(axis: int, angle: float) -> Array:
    """A rotation about one of the axes."""
    one, two = (other for other in range(3) if other != axis)
    found = np.eye(3)
    found[one, one] = found[two, two] = np.cos(angle)
    found[one, two], found[two, one] = -np.sin(angle), np.sin(angle)
    return found


_TURNS = (_turn(0, 1.0) @ _turn(2, 0.7), _turn(1, 1.3) @ _turn(0, 0.4))
"""Two rotations that generate a dense subgroup."""
