"""Products of functions on the sphere as products of their values at points.

The coefficients of f·g in spherical harmonics are T[i, j, k] = ∫ Y_i Y_j Y_k, the Gaunt tensor (Gaunt, 1929;
Luo, Chen & Krishnapriyan, 2024). A rule of points p and weights w that integrates polynomials of that degree
exactly gives Σ_p w_p Y_i(p) Y_j(p) Y_k(p): a sum of one rank-one term for each point. Rules are those of
Lebedev and Laikov (1999), and beyond them Gauss–Legendre latitudes with equal steps of longitude.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tdsl.factor.bilinear_search import Array, Factors, distance

_NOTHING = 1e-10
_SIGNS = 4000
"""Entries from which signs are read; all of them are compared at the end."""


def degree_of(size: int) -> int | None:
    """The degree L of which there are `size` = (L + 1)² spherical harmonics."""
    root = math.isqrt(size)
    return root - 1 if root and root * root == size else None


def harmonics(degree: int, points: Array) -> Array:
    """Real spherical harmonics up to a degree at unit vectors. [3, P] → [P, (L + 1)²], the orders of a degree
    from −l to l.
    """
    from scipy.special import sph_harm_y_all

    polar, azimuth = np.arccos(np.clip(points[2], -1, 1)), np.arctan2(points[1], points[0])
    values = sph_harm_y_all(degree, degree, polar, azimuth)  # [L + 1, 2·L + 1, P]
    columns = []
    for level in range(degree + 1):
        for order in range(-level, level + 1):
            wave = values[level, abs(order)] * (math.sqrt(2) if order else 1)
            columns.append((wave.imag if order < 0 else wave.real) * (-1) ** order)
    return np.stack(columns, axis=1)


def sphere_rule(degree: int) -> tuple[Array, Array]:
    """Points [3, P] and weights [P] that integrate polynomials up to a degree over the sphere, P the fewest
    of the rules known.
    """
    from scipy.integrate import lebedev_rule

    order = degree + 1 - degree % 2
    for least in range(max(3, order), 132, 2):  # not every order has a rule
        try:
            points, weights = lebedev_rule(least)
        except NotImplementedError:
            continue
        if points.shape[1] <= _latitudes(degree) * (degree + 1):
            return points, weights
        break
    heights, own = np.polynomial.legendre.leggauss(_latitudes(degree))
    angles = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
    around = np.sqrt(1 - heights**2)
    points = np.stack(
        [
            np.outer(around, np.cos(angles)).ravel(),
            np.outer(around, np.sin(angles)).ravel(),
            np.repeat(heights, len(angles)),
        ]
    )
    return points, np.repeat(own, len(angles)) * 2 * np.pi / len(angles)


def _latitudes(degree: int) -> int:
    return degree // 2 + 1


def grid_terms(shape: tuple[int, int, int]) -> Factors | None:
    """The Gaunt tensor of that shape as one term for each point; `None` for sizes that are no (L + 1)²."""
    degrees = [degree_of(size) for size in shape]
    known = [degree for degree in degrees if degree is not None]
    if len(known) < 3:
        return None
    points, weights = sphere_rule(sum(known))
    first, second, third = (harmonics(degree, points).T for degree in known)
    return first, second, third * weights


def gaunt_terms(tensor: Array, tolerance: float) -> Factors | None:
    """`tensor` as one term for each point, where it is the Gaunt tensor up to a factor for each index.

    The factors cover every normalisation and sign of the harmonics and weights of paths that are a product
    a(l₁)·b(l₂)·c(l₃). `None` for any other tensor: one with a path of odd l₁ + l₂ + l₃, or without one of the
    even ones.
    """
    shape = (tensor.shape[0], tensor.shape[1], tensor.shape[2])
    terms = grid_terms(shape)
    if terms is None or not tensor.any():
        return None
    gaunt: Array = np.einsum("ip,jp,kp->ijk", *terms)
    there = np.abs(gaunt) > _NOTHING
    if (np.abs(tensor[there]) <= _NOTHING * np.abs(tensor).max()).any():
        return None
    if np.abs(tensor[~there]).max(initial=0.0) > tolerance * np.abs(tensor).max():
        return None
    ratio = tensor[there] / gaunt[there]
    places = np.argwhere(there) + np.cumsum((0, *shape[:2]))  # in one list of the indices of all axes
    logarithms = _solved(places, np.log(np.abs(ratio)), sum(shape))
    picked = np.linspace(0, len(places) - 1, min(_SIGNS, len(places))).astype(int)
    signs = _signs(places[picked], ratio[picked] < 0, sum(shape))
    scales = np.split(np.exp(logarithms) * np.where(signs, -1.0, 1.0), np.cumsum(shape[:2]))
    first, second, third = (scale[:, None] * term for scale, term in zip(scales, terms, strict=True))
    factors = first, second, third
    return factors if distance(tensor, factors) <= tolerance else None


def _solved(places: NDArray[np.int64], values: Array, count: int) -> Array:
    """The unknowns whose sums over the places are the values, in the sense of least squares."""
    normal = np.zeros((count, count))
    right = np.zeros(count)
    for column in places.T:
        np.add.at(right, column, values)
        for other in places.T:
            np.add.at(normal, (column, other), 1.0)
    return np.asarray(np.linalg.lstsq(normal, right, rcond=None)[0], dtype=np.float64)


def _signs(places: NDArray[np.int64], negative: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Unknown bits whose sums at the places are given, by elimination; free ones are 0."""
    rows: dict[int, int] = {}  # by the leading unknown; the bit after all of them is the right side
    for place, bit in zip(places.tolist(), negative.tolist(), strict=True):
        row = int(bit) << count
        for unknown in place:
            row ^= 1 << unknown
        for leading in sorted(rows):
            if row >> leading & 1:
                row ^= rows[leading]
        coefficients = row & ((1 << count) - 1)
        if coefficients:
            rows[(coefficients & -coefficients).bit_length() - 1] = row
    bits = np.zeros(count, dtype=bool)
    for leading in sorted(rows, reverse=True):
        rest = rows[leading] >> (leading + 1)
        value = rows[leading] >> count & 1
        for unknown in range(leading + 1, count):
            value ^= (rest >> (unknown - leading - 1) & 1) & int(bits[unknown])
        bits[leading] = bool(value)
    return bits
