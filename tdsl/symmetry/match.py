"""Solving for the action on a layer's output: which filter each transformed filter is.

W' = σ·W is solved for σ, W' being the weight as the transformed input sees it. A permutation is found by
sorting random projections of the filters (tied filters have tied projections), and, where ties are only
approximate, by the nearest filters in a few random projections; signs likewise, by |projections|; a matrix by
least squares. What is left, ‖W' - σ·W‖ / ‖W‖, certifies whatever was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tdsl.symmetry.along import Along, Monomial, along
from tdsl.symmetry.element import Linear, Permutation
from tdsl.symmetry.transfer import Residual, distance

PROJECTIONS = 16
"""Random directions in which filters are compared when their ties are approximate."""

LARGEST_ASSIGNMENT = 2048
"""More filters are assigned by nearest neighbours only."""

LARGEST_MATRIX = 1024
"""More filters are not asked for a matrix, whose condition would take long to find."""

HOPELESS = 0.8
"""Where the nearest filters are this far away, by projections, no assignment would be a law."""

SHARPEST = 1e6
"""A least-squares action of a larger condition number is none."""


@dataclass(frozen=True, slots=True)
class Match:
    """An action σ on filters with W' ≈ σ·W, and how near it is."""

    element: Along
    residual: Residual


def matched(moved: Tensor, weight: Tensor, *, signs: bool = False, matrix: bool = False) -> Match:
    """σ with `moved` ≈ σ·`weight`, both [filters, entries]: the nearest permutation that was found.

    With `signs`, one with signs where no permutation fits; with `matrix`, any matrix where neither does and
    the filters are independent, so that σ is unique.
    """
    best = _permuted(moved, weight)
    if best.residual.exact:
        return best
    if signs:
        signed = _signed(moved, weight)
        if signed is not None and signed.residual.norm < best.residual.norm:
            best = signed
    if matrix and not best.residual.exact:
        linear = _linear(moved, weight)
        if linear is not None and linear.residual.norm < 0.1 * best.residual.norm:
            best = linear
    return best


def _directions(entries: int, count: int) -> Any:
    return np.random.default_rng(0).standard_normal((entries, count)).astype(np.float32)


def _permuted(moved: Tensor, weight: Tensor) -> Match:
    count, entries = weight.shape
    directions = torch.from_numpy(_directions(entries, PROJECTIONS)).to(weight.dtype)
    here, there = weight @ directions, moved @ directions
    places = torch.empty(count, dtype=torch.int64)
    places[torch.argsort(there[:, 0], stable=True)] = torch.argsort(here[:, 0], stable=True)
    residual = distance(moved, weight[places])
    nearest = None if residual.exact else _assigned(there, here)
    if nearest is not None:
        other = distance(moved, weight[nearest])
        if other.norm < residual.norm:
            places, residual = nearest, other
    return Match(along(Permutation(tuple(places.tolist()))), residual)


def _assigned(there: Tensor, here: Tensor) -> Tensor | None:
    """For each filter there one of here, all different, near in every projection; `None` if none is near."""
    far = torch.cdist(there.to(torch.float64), here.to(torch.float64))
    closest, nearest = far.min(1)
    if float(closest.norm()) > HOPELESS * float(there.norm()):
        return None
    if len(torch.unique(nearest)) == len(nearest):
        return nearest
    if len(nearest) <= LARGEST_ASSIGNMENT:
        from scipy.optimize import linear_sum_assignment

        _, columns = linear_sum_assignment(far.numpy())
        return torch.from_numpy(columns)
    return _greedy(far)


def _greedy(far: Tensor) -> Tensor:
    places = torch.full((len(far),), -1, dtype=torch.int64)
    free = torch.ones(len(far), dtype=torch.bool)
    for row in torch.argsort(far.min(1).values).tolist():
        column = int(torch.where(free, far[row], torch.inf).argmin())
        places[row], free[column] = column, False
    return places


def _signed(moved: Tensor, weight: Tensor) -> Match | None:
    """A permutation with signs: filters are compared by products of projections, which lose the sign."""
    directions = torch.from_numpy(_directions(weight.shape[1], PROJECTIONS)).to(weight.dtype)
    here, there = weight @ directions, moved @ directions
    even_here, even_there = (torch.cat([v.abs(), v[:, :1] * v], 1) for v in (here, there))
    places = _assigned(even_there, even_here)
    if places is None:
        return None
    same = (there * here[places]).sum(1)
    scales = torch.where(same < 0, -1.0, 1.0).to(torch.float64)
    element = along(Monomial(tuple(places.tolist()), tuple(scales.tolist())))
    return Match(element, distance(moved, weight[places] * scales.to(weight.dtype)[:, None]))


def _linear(moved: Tensor, weight: Tensor) -> Match | None:
    """The matrix of least squares, where the filters are independent: else many matrices would do."""
    count, entries = weight.shape
    if count > entries or count > LARGEST_MATRIX:
        return None
    wide, target = weight.to(torch.float64), moved.to(torch.float64)
    spread = torch.linalg.svdvals(wide)
    if float(spread[-1]) <= float(spread[0]) / SHARPEST:
        return None
    found = torch.linalg.lstsq(wide.T, target.T).solution.T
    if float(torch.linalg.cond(found)) > SHARPEST:
        return None
    residual = distance((found @ wide).to(weight.dtype), moved)
    return Match(along(Linear(found)), residual)
