"""The size n at which a weight commutes with a group, found without being told.

Sizes whose powers divide those of the weight are tried, the largest first. Where the error has a bound, a few
entries decide for nearly every weight: what commutes still does so when it is cut down to some of the n
indices, with the same diagrams, and the part cannot be further away than the whole. What is left is
projected, and the distance is the certificate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tdsl.factor.rank import RankRule
from tdsl.factor.splits import Way, best, divisors, enough
from tdsl.symmetry.diagrams import dimension
from tdsl.symmetry.diagrams.project import Projection, by_channel, project

SAMPLE = 64
"""Rows and columns of the entries that are looked at first."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A weight [m, n_in] as the nearest one that commutes with the group of that size."""

    size: int
    projection: Projection


def fitted(
    weight: Tensor,
    family: str,
    k: int,
    l: int,  # noqa: E741
    rule: RankRule,
    *,
    channels_last: bool,
) -> Fit | None:
    """The size that `rule` prefers, above 1, for maps of order k → l that commute with S(n) or O(n).

    [m, n_in], float64, n^l dividing m and n^k dividing n_in. A rule that bounds the error takes the largest
    size that keeps the bound, another one that of the smallest error; `None` where there is none.
    """
    total = float(torch.linalg.vector_norm(weight))
    known: dict[int, Fit] = {}
    ways: list[Way] = []
    for size in reversed(sizes(weight.shape[0], weight.shape[1], k, l)):
        view = by_channel(weight, size, k, l, channels_last=channels_last)
        if rule.spectral and not plausible(view, total, family, k, l, rule):
            continue
        found = project(view, family, size, k, l)
        if enough(rule, found.kept, found.lost):
            known[size] = Fit(size, found)
            numbers = dimension(family, size, k, l) * (weight.numel() // size ** (k + l))
            ways.append(Way((size,), (1,), numbers, found.residual))
            if rule.spectral:
                break
    chosen = best(rule, ways, weight.numel())
    return known[chosen.sizes[0]] if chosen else None


def sizes(rows: int, columns: int, k: int, l: int) -> list[int]:  # noqa: E741
    """The n above 1 with n^l dividing `rows` and n^k dividing `columns`, ascending."""
    common = math.gcd(rows if l else 0, columns if k else 0)
    return [n for n in (divisors(common) if common else ()) if n > 1 and not (rows % n**l or columns % n**k)]


def plausible(view: Tensor, total: float, family: str, k: int, l: int, rule: RankRule) -> bool:  # noqa: E741
    """Whether a few entries allow that a weight commutes within the bound of `rule`.

    The view is that of `by_channel`, `total` the norm of the whole weight.
    """
    part = view
    for axis in range(view.ndim):
        outer = axis <= l
        points = l if outer else k
        items = (
            min(view.shape[1 if outer else -1], max(2, round(SAMPLE ** (1 / (points + 1))))) if points else 1
        )
        channel = axis in (0, l + 1)
        kept = min(view.shape[axis], max(1, SAMPLE // items**points)) if channel else items
        part = part.narrow(axis, 0, kept) if kept == view.shape[axis] else _spread(part, axis, kept)
    size = part.shape[1] if l else part.shape[-1]
    lost = project(part, family, size, k, l).lost
    return enough(rule, math.sqrt(max(0.0, total**2 - lost**2)), lost)


def _spread(tensor: Tensor, axis: int, count: int) -> Tensor:
    """The view of `count` evenly spread entries along an axis."""
    step = tensor.shape[axis] // count
    return tensor[(slice(None),) * axis + (slice(0, step * count, step),)]
