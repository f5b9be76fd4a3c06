"""Rank-one terms whose entries are small fractions, and which equal a tensor exactly, not within rounding.

A tensor with more than one decomposition has families of them, and the families pass through some of simple
numbers: entries of two factors are held at 0, 1 or −1 one after the other, nearest first, and the others are
solved anew (Johnson & McLoughlin, 1986; Smirnov, 2013). The third factor follows from the other two. Whether
the result is an identity is decided in exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from tdsl.factor.bilinear_search import Array, Factors, product, refined, solutions

Place = tuple[int, int, int]
"""Factor, row and column of an entry."""

SIMPLE = np.array([0.0, 1.0, -1.0])
"""What entries of the first two factors are held at."""
PARTS = 8
"""Entries of the third factor are multiples of 1/8, which float64 holds exactly."""
PATIENCE = 4
"""After so many entries in a row that cannot be held the family has no more freedom."""
STARTS = 96
"""Random starts from which an identity is looked for: one in fifty leads to one of quaternions."""
_STEPS = 25
_SOLVED = 1e-11
_LARGEST = 16.0


def identity(tensor: Array, terms: int) -> Factors | None:
    """Factors of so many terms that equal the tensor in exact arithmetic, `None` where none are found.

    Those of a tensor whose entries are not multiples of 1/8 of the largest are not looked for.
    """
    parts = tensor / np.abs(tensor).max() * PARTS
    if not np.array_equal(parts, np.round(parts)):
        return None
    found = (rounded(tensor, factors) for factors in solutions(tensor, terms, _SOLVED, STARTS))
    return next((factors for factors in found if factors is not None), None)


def rounded(tensor: Array, factors: Factors) -> Factors | None:
    """Factors of as many terms that equal the tensor exactly; `None` where none are reached from `factors`.

    The first two are of 0 and ±1, the third of multiples of 1/8 times the largest entry of the tensor.
    """
    scale = float(np.abs(tensor).max())
    goal = tensor / scale
    state = [np.array(factor) for factor in factors]
    state[2] /= scale
    first, second = _normalised(state)
    free = [np.ones(factor.shape, dtype=bool) for factor in state]
    for factor, mask in zip((first, second), free, strict=False):
        mask[np.abs(factor).argmax(0), np.arange(factor.shape[1])] = False  # 1 already: the scale of a term
    skipped: set[Place] = set()
    missed = 0
    while missed < PATIENCE and (place := _nearest(state, free, skipped)) is not None:
        axis, row, column = place
        numbers = SIMPLE[np.argsort(np.abs(SIMPLE - state[axis][row, column]), kind="stable")]
        free[axis][row, column] = False
        for number in numbers[:2]:
            if (held := _held(goal, state, free, place, float(number))) is not None:
                state, missed = held, 0
                break
        else:
            free[axis][row, column] = True
            skipped.add(place)
            missed += 1
    first, second, _ = state
    if not (np.isin(first, SIMPLE).all() and np.isin(second, SIMPLE).all()):
        return None
    pairs = np.einsum("ir,jr->ijr", first, second).reshape(-1, first.shape[1])
    third = np.linalg.lstsq(pairs, goal.reshape(len(pairs), -1), rcond=None)[0].T
    exact = first, second, scale * np.round(third * PARTS) / PARTS
    return exact if is_identity(tensor, exact) else None


def is_identity(tensor: Array, factors: Sequence[Array]) -> bool:
    """Whether the terms add up to the tensor in exact arithmetic, not a bit of it missing."""
    first, second, third = ([[Fraction(value) for value in row] for row in f.tolist()] for f in factors)
    for i, one in enumerate(first):
        for j, two in enumerate(second):
            pairs = [a * b for a, b in zip(one, two, strict=True)]
            for k, three in enumerate(third):
                total = sum((p * c for p, c in zip(pairs, three, strict=True) if p and c), Fraction(0))
                if total != Fraction(float(tensor[i, j, k])):
                    return False
    return True


def _normalised(state: list[Array]) -> list[Array]:
    """The first two factors, their columns' largest entries made 1; the third takes what they had."""
    for factor in state[:2]:
        places = np.abs(factor).argmax(0), np.arange(factor.shape[1])
        largest = factor[places]
        factor /= largest
        state[2] *= largest
        factor[places] = 1.0
    return state[:2]


def _nearest(state: Sequence[Array], free: Sequence[NDArray[np.bool_]], skipped: set[Place]) -> Place | None:
    """The free entry of the first two factors that is nearest to a simple number."""
    places = [
        (float(np.abs(SIMPLE - state[axis][row, column]).min()), (axis, row, column))
        for axis in range(2)
        for row, column in np.argwhere(free[axis]).tolist()
        if (axis, row, column) not in skipped
    ]
    return min(places)[1] if places else None


def _held(
    goal: Array, state: Sequence[Array], free: Sequence[NDArray[np.bool_]], place: Place, number: float
) -> list[Array] | None:
    """The factors with an entry held at a number, the free ones solved anew; `None` where there are none."""
    axis, row, column = place
    trial = [factor.copy() for factor in state]
    trial[axis][row, column] = number
    trial = refined(goal, trial, free, iterations=_STEPS, pull=0.0)
    solved = np.linalg.norm(product(trial) - goal) <= _SOLVED * np.linalg.norm(goal)
    return trial if solved and max(float(np.abs(f).max()) for f in trial) <= _LARGEST else None
