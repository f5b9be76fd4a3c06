"""How many terms of a decomposition are in the data: as many as come out again when the data are disturbed.

A fit that is not convex finds some terms for any number of them. Those that describe structure are found
again from other starting points and beside other noise, those that describe noise are not, and two that
share one are told apart differently each time. So the decomposition is repeated on disturbed data, terms
that belong together are collected in clusters, and the largest number of terms counts whose clusters are all
compact and apart (Alexandrov et al., 2013, for nonnegative matrices). It has no meaning where terms are
unique whatever the data are, as singular vectors are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tdsl.factor.rank_one import rebuilt

Fit = Callable[[Tensor, int, int], Sequence[Tensor]]
"""Factors [Iₙ, terms] of a sum of rank-one terms near a tensor, from starting points that a seed draws."""

RUNS = 5
"""Disturbed copies that are decomposed, beside the data themselves."""
FEW = 2
"""Copies after which a number of terms is given up that is far from stable."""
COMPACT = 0.8
"""The least mean silhouette of a cluster of terms that are the same; of terms of noise it is near 0."""
HOPELESS = 0.5
LEAST_NOISE = 1e-3
"""Noise relative to the data that is added at least, so that terms which share one are told apart."""
STARTS = 2
"""Fits of the data themselves, of which the closest counts."""
STRANDED = 1.1
"""A fit that leaves this many times as much of its data as the best one does not count."""
SEED = 0x57AB


def stable_rank(data: Tensor, fit: Fit, most: int) -> int:
    """The largest number of terms, `most` at most, that disturbed data agree on; 0 where they agree on none.

    `data` is a float64 tensor of any shape. The noise that is added is normal, as strong as what the fit
    leaves of the data: a term of noise drowns in it, a term above the noise does not.
    """
    if not data.any():
        return 0
    return next((terms for terms in range(most, 0, -1) if _is_stable(data, fit, terms)), 0)


def silhouettes(fits: Sequence[Sequence[Tensor]]) -> Tensor:
    """How compact, and how far from the others, each term's cluster is over several fits. → [terms].

    `fits` are factors [Iₙ, terms] of the same data. The terms of each fit are matched to those of the first;
    the distance of two terms is 1 minus their cosine, that of a lone cluster from another one is 1. The value
    of a cluster is the mean silhouette of its members (Rousseeuw, 1987): 1 at best, 0 where clusters mix.
    """
    from scipy.optimize import linear_sum_assignment

    units = [[torch.nn.functional.normalize(factor, dim=0) for factor in factors] for factors in fits]
    aligned = [units[0]]
    for unit in units[1:]:
        order = torch.from_numpy(linear_sum_assignment(-_cosines(units[0], unit).numpy())[1])
        aligned.append([factor[:, order] for factor in unit])
    distances = torch.stack([1 - torch.stack([_cosines(a, b) for b in aligned]) for a in aligned])
    within = distances.diagonal(dim1=2, dim2=3).sum(1) / max(1, len(aligned) - 1)
    apart = distances.mean(1)
    apart.diagonal(dim1=1, dim2=2).fill_(1.0)  # of its own cluster, which is none of the others
    nearest = apart.amin(2).clamp_max(1.0)
    silhouette: Tensor = (nearest - within) / nearest.maximum(within).clamp_min(1e-300)
    return silhouette.mean(0)


def _is_stable(data: Tensor, fit: Fit, terms: int) -> bool:
    """Whether every one of so many terms comes out again."""
    own = min((fit(data, terms, seed) for seed in range(STARTS)), key=lambda found: _left(data, found))
    freedom = max(1, data.numel() - terms * (sum(data.shape) - data.ndim + 1))
    least = LEAST_NOISE * float(data.norm()) / math.sqrt(data.numel())
    noise = max(_left(data, own) / math.sqrt(freedom), least)
    generator = torch.Generator().manual_seed(SEED)
    found: list[tuple[float, Sequence[Tensor]]] = []
    for run in range(1, RUNS + 1):
        disturbed = data + noise * torch.randn(data.shape, generator=generator, dtype=torch.float64)
        factors = fit(disturbed, terms, STARTS + run)
        found.append((_left(disturbed, factors), factors))
        if run == FEW and _agreement(own, found) < HOPELESS:
            return False
    return _agreement(own, found) >= COMPACT


def _agreement(own: Sequence[Tensor], found: Sequence[tuple[float, Sequence[Tensor]]]) -> float:
    """The least silhouette of a term, without the fits that ended in a local optimum: they leave more."""
    bound = STRANDED * min(left for left, _ in found)
    good = [factors for left, factors in found if left <= bound]
    return float(silhouettes([own, *good]).min()) if 2 * len(good) >= len(found) else 0.0


def _left(data: Tensor, factors: Sequence[Tensor]) -> float:
    return float((data - rebuilt(factors)).norm())


def _cosines(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """The cosine of every rank-one term of one fit to every one of another, from factors of unit columns."""
    return math.prod((a.T @ b for a, b in zip(one, other, strict=True)), start=torch.ones(()).double())
