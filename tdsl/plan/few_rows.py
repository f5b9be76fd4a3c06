"""Second moments of few rows: drawn towards what each feature does alone, as far as left-out rows tell.

Of fewer rows than features a moment is singular, and of a few times as many its smallest directions are far
too small: a weight that is fitted to it looks perfect on these rows and on no others. Correlations that the
rows show by chance are damped by the share under which each row is likeliest when it is left out. Where rows
lie in a subspace that others confirm, nothing is damped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tdsl.engine.statistics import STATISTICS, Answers, Request
from tdsl.memory import give_back
from tdsl.plan.calibrate import named
from tdsl.plan.packed import Packed, square

ENOUGH = 4
"""Rows a feature beyond which a moment is taken as it is."""
SHARES = (0.0, *torch.logspace(-8, 0, 49, dtype=torch.float64).tolist())
"""Shares of a moment's correlations to try taking away."""
_SMALLEST = 1e-10
"""What stands for a share of zero where a singular moment is to be inverted."""


@dataclass(frozen=True, slots=True)
class Scarce:
    """A value of whose moments the rows are few."""

    value: str
    rows: int
    features: int

    @property
    def needed(self) -> int:
        """How many rows would do."""
        return ENOUGH * self.features


def scarce(answers: Answers) -> list[Scarce]:
    """The values with few rows for their features, those that lack most first, each once.

    Gradients are left out: errors are weighed by them, and nothing is fitted to them.
    """
    few = (r for r in _few(answers) if r.kind != "gradient_moment")
    found = {Scarce(named(r), answers.rows[r], r.size): None for r in few}
    return sorted(found, key=lambda one: (one.rows / one.features, -one.features))


def told(found: Sequence[Scarce]) -> str:
    """A line on the values with few rows, for a report."""
    worst, most = found[0], max(one.needed for one in found)
    others = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return (
        f"few rows of calibration data: {worst.rows} for the {worst.features} features of {worst.value}"
        f"{others}; chance correlations are damped and candidates are tried on samples that fitted nothing, "
        f"but {most} rows would be needed to fit as well as these rules can"
    )


def shrunk(answers: Answers) -> Answers:
    """The same answers, second moments of few rows with their correlations damped (`shrinkage`)."""
    few = set(_few(answers))
    if not few:
        return answers
    assert isinstance(answers.values, Packed)
    stored = answers.values.stored
    fetches = {r: _Damped(r, fetch, answers.rows[r]) if r in few else fetch for r, fetch in stored.items()}
    return Answers(Packed(fetches), answers.rows)


@torch.no_grad()
def shrinkage(moment: Tensor, rows: int) -> float:
    """The share s at which (1 − s)·C + s·diag(C) is likeliest for rows that it is not computed from.

    C [n, n] over that many rows → 0 … 1. Each row is left out once, in closed form: its distance to the
    others is replaced by the mean one, so that eigenvalues are all that is needed (Theiler, 2012; after
    Hoffbeck & Landgrebe, 1996). Features that are always zero do not count.
    """
    scale = moment.diagonal().clamp_min(0).double().sqrt()
    kept = scale > 0
    if rows < 2 or not kept.any():
        return 1.0
    scaled = moment.double()[kept][:, kept] / torch.outer(scale[kept], scale[kept])
    seen = torch.linalg.eigvalsh(scaled).clamp_min(0)
    best, least = 1.0, float("inf")
    for share in SHARES:
        taken = max(share, _SMALLEST)
        weight = (1 - taken) / (rows - 1)
        mixed = rows * weight * seen + taken
        distance = float((seen / mixed).sum())
        left = 1 - weight * distance
        if left <= 0:  # a row that is left out is infinitely far
            continue
        unlikely = float(mixed.log().sum()) + math.log(left) + distance / left
        if unlikely < least:
            best, least = share, unlikely
    return best


class _Damped:
    """Fetches a triangle, with its entries beside the diagonal damped; by how much is computed once."""

    def __init__(self, request: Request, fetch: Callable[[], Tensor], rows: int) -> None:
        self.request, self.fetch, self.rows = request, fetch, rows
        self.share: float | None = None

    def __call__(self) -> Tensor:
        packed, size = self.fetch(), self.request.size
        if self.share is None:
            free = self.rows - (self.request.kind == "covariance")  # the mean takes one
            self.share = shrinkage(square(packed, size), free)
            give_back()
        if not self.share:
            return packed
        diagonal = torch.arange(size) * size - torch.arange(size) * (torch.arange(size) - 1) // 2
        damped = packed * (1 - self.share)
        damped[diagonal] = packed[diagonal]
        return damped


def _few(answers: Answers) -> Iterator[Request]:
    for request, rows in answers.rows.items():
        if STATISTICS[request.kind][1] == 2 and rows < ENOUGH * request.size:
            yield request
