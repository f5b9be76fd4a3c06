"""Few rank-one terms for a small tensor, by damped least squares from many starts.

The number of terms that z = Σ T[i, j, k] x_i y_j needs is the tensor rank of T: 3 for the complex product,
7 for that of 2×2 matrices (Strassen, 1969), 8 for quaternions (Howell & Lafon, 1975). Small tensors show
theirs to the method of Levenberg and Marquardt from random starts (Tomasi & Bro, 2006). What it converges to
is a certificate, what it does not converge to is none. Everything is deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Factors = tuple[Array, Array, Array]
"""One matrix [size, terms] for each of three axes."""

LARGEST = 150
"""Entries of a tensor that is searched: 5 × 5 × 5 takes a second, 8 × 8 × 8 would take minutes."""
STARTS = 12
"""Random starts for each number of terms."""
FIRST = 64
"""The first seed: the third start from here leads quaternions to small fractions, as one in fifty does."""
ITERATIONS = 250
CANCELLING = 100.0
"""Terms whose squared norms add up to more than this many times that of the tensor are none: they approach it
as they grow, without ever being equal to it (de Silva & Lim, 2008)."""
_CONVERGED = 1e-13
_SPREAD = 0.7


def product(factors: Sequence[Array]) -> Array:
    """Σ_r a_r ⊗ b_r ⊗ c_r. [I, R], [J, R], [K, R] → [I, J, K]."""
    found: Array = np.einsum("ir,jr,kr->ijk", *factors)
    return found


def distance(tensor: Array, factors: Sequence[Array]) -> float:
    """‖tensor − product‖ / ‖tensor‖."""
    return float(np.linalg.norm(product(factors) - tensor) / np.linalg.norm(tensor))


def fewest_terms(tensor: Array, most: int, tolerance: float) -> Factors | None:
    """Factors of the fewest terms found, at most `most`, whose distance is within `tolerance`.

    Numbers of terms are tried from the generic rank of such a tensor on: upwards until one is enough, then
    downwards while it is. `None` for a tensor of more than `LARGEST` entries, and where nothing is found.
    """
    if tensor.size > LARGEST or most < 1 or not tensor.any():
        return None
    least = max(np.linalg.matrix_rank(_unfolded(tensor, axis)) for axis in range(3))
    generic = math.ceil(tensor.size / (sum(tensor.shape) - 2))
    best = None
    for terms in range(min(max(least, generic), most), most + 1):
        if (best := next(solutions(tensor, terms, tolerance), None)) is not None:
            break
    while best is not None and (terms := best[0].shape[1] - 1) >= least:
        fewer = next(solutions(tensor, terms, tolerance), None)
        if fewer is None:
            break
        best = fewer
    return best


def solutions(tensor: Array, terms: int, tolerance: float, starts: int = STARTS) -> Iterator[Factors]:
    """Factors of so many terms within `tolerance`, one for each random start that leads to some."""
    scale = float(np.abs(tensor).max())
    goal = tensor / scale
    size = float(np.square(goal).sum())
    for seed in range(FIRST, FIRST + starts):
        generator = np.random.default_rng((seed, terms))
        start = [_SPREAD * generator.standard_normal((length, terms)) for length in tensor.shape]
        first, second, third = refined(goal, start)
        lengths = np.prod([np.square(factor).sum(0) for factor in (first, second, third)], axis=0)
        if _squared(goal, (first, second, third)) <= tolerance**2 * size and (
            lengths.sum() <= CANCELLING * size
        ):
            yield first, second, scale * third


def refined(
    tensor: Array,
    start: Sequence[Array],
    free: Sequence[NDArray[np.bool_]] | None = None,
    *,
    iterations: int = ITERATIONS,
    pull: float = 0.1,
) -> list[Array]:
    """A local minimum of ‖product − tensor‖² near `start`, over the entries that are `free` (all by default).

    `pull` is the weight of ‖factors‖², which keeps terms from growing against each other; it fades with the
    error, so that the limit is that of the error alone.
    """
    shapes = [factor.shape for factor in start]
    entries = np.concatenate([factor.ravel() for factor in start])
    moving = (
        np.ones(len(entries), dtype=bool) if free is None else np.concatenate([mask.ravel() for mask in free])
    )
    damping, error = 1.0, _squared(tensor, _split(entries, shapes))
    for _ in range(iterations):
        if error <= _CONVERGED**2 * np.square(tensor).sum():
            break
        pull = min(pull, 0.1 * error / max(1.0, float(entries @ entries)))
        slope = _jacobian(_split(entries, shapes))[:, moving]
        missed = (product(_split(entries, shapes)) - tensor).ravel()
        normal, gradient = slope.T @ slope, slope.T @ missed + pull * entries[moving]
        goal = error + pull * float(entries @ entries)
        for _ in range(8):
            step = np.linalg.solve(normal + (damping + pull) * np.eye(len(normal)), -gradient)
            trial = entries.copy()
            trial[moving] += step
            found = _squared(tensor, _split(trial, shapes))
            reached = found + pull * float(trial @ trial)
            if reached < goal:
                break
            damping = max(4 * damping, 1e-8)
        else:
            break
        entries, error, damping = trial, found, max(damping / 5, 1e-14)
        if goal - reached < 1e-6 * goal and error > 1e-6 * np.square(tensor).sum():
            break  # a local minimum that is none of the whole
    return _split(entries, shapes)


def _split(entries: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(entries, ends), shapes, strict=True)]


def _squared(tensor: Array, factors: Sequence[Array]) -> float:
    return float(np.square(product(factors) - tensor).sum())


def _jacobian(factors: Sequence[Array]) -> Array:
    """Derivatives of the product by every entry of the factors. → [I·J·K, (I + J + K)·R]."""
    first, second, third = factors
    count = len(first) * len(second) * len(third)
    one, two, three = (np.eye(len(factor)) for factor in factors)
    parts = (
        np.einsum("pi,jr,kr->ijkpr", one, second, third),
        np.einsum("ir,pj,kr->ijkpr", first, two, third),
        np.einsum("ir,jr,pk->ijkpr", first, second, three),
    )
    return np.concatenate([part.reshape(count, -1) for part in parts], axis=1)


def _unfolded(tensor: Array, axis: int) -> Array:
    return np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
