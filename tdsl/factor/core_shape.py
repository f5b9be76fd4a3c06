"""The shape of a Tucker core: the ranks that keep most energy within a budget of numbers.

The tails of the spectra of the unfoldings enclose the squared error of a truncation: it is at least the
largest of them and at most their sum (De Lathauwer, De Moor & Vandewalle, 2000). The ranks with the least
sum are found exactly, by trying all of them but one, which the budget then determines (the packing problem of
Ghadiri, Fahrbach, Fu & Mirrokni, 2023, who solve it as an integer program for many axes).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.rank import lost_energy


def core_shape(
    spectra: Sequence[Tensor], sizes: Sequence[int], budget: int, volume: int = 1
) -> tuple[int, ...]:
    """The ranks r with volume·∏ rₙ + Σ sizesₙ·rₙ <= budget that lose least of the spectra's energy together.

    `spectra` are the singular values of the unfoldings of one tensor, descending, `sizes` the lengths of
    their axes; `volume` counts the numbers of the axes that are not factorized. A rank never exceeds what the
    other axes can feed (the product of the other ranks and `volume`); of equally good shapes the one with
    fewest numbers is chosen. Where nothing fits, every rank is 1. Raises `TdslError` unless there is one
    spectrum for every size.
    """
    if not spectra or len(spectra) != len(sizes):
        raise TdslError(
            f"{len(spectra)} spectra for {len(sizes)} axes", expected="one spectrum for each axis"
        )
    if not all(len(values) for values in spectra):
        return (0,) * len(sizes)
    lost = [lost_energy(values) for values in spectra]
    longest = max(range(len(sizes)), key=lambda axis: len(spectra[axis]))
    others = [axis for axis in range(len(sizes)) if axis != longest]
    ranks = _tried([len(spectra[axis]) for axis in others])
    fed = volume * ranks.prod(1)
    spent = (ranks * torch.tensor([sizes[axis] for axis in others], dtype=torch.int64)).sum(1)
    last = (budget - spent).div(fed + sizes[longest], rounding_mode="floor")
    last = last.minimum(fed).clamp_max(len(spectra[longest]))
    allowed = (last >= 1) & (ranks.square() <= (fed * last)[:, None]).all(1)
    if not allowed.any():
        return (1,) * len(sizes)
    ranks, last = ranks[allowed], last[allowed]
    last = last.minimum(_enough(lost[longest]))
    total = lost[longest][last]
    for column, axis in enumerate(others):
        total = total + lost[axis][ranks[:, column]]
    best = total == total.min()
    ranks, last = ranks[best], last[best]
    numbers = fed[allowed][best] * last + spent[allowed][best] + sizes[longest] * last
    chosen = int(numbers.argmin())
    found = dict(zip(others, ranks[chosen].tolist(), strict=True)) | {longest: int(last[chosen])}
    return tuple(found[axis] for axis in range(len(sizes)))


def _tried(counts: Sequence[int]) -> Tensor:
    """Every combination of ranks from 1 to those counts, a row each; one empty row for no counts."""
    ranges = [torch.arange(1, count + 1) for count in counts]
    if len(ranges) == 1:
        return ranges[0][:, None]
    return torch.cartesian_prod(*ranges) if ranges else torch.zeros(1, 0, dtype=torch.int64)


def _enough(lost: Tensor) -> Tensor:
    """The smallest rank at which nothing is lost, at least 1."""
    return (lost <= 0).int().argmax().clamp_min(1)
