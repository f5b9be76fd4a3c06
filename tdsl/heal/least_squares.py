"""Recovery without labels or gradients: factors re-solved by least squares, layer by layer in order.

The original and the rewritten model run side by side. At each rewritten value the last factor is the
solution of a ridge regression from what the rewritten model feeds it to what the original computes there,
so that it also makes up for the errors of the layers before it. Where the factors are two linear maps both
are solved at once: reduced-rank regression (Izenman, 1975). A solution is kept when it is better on batches
that it was not fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from tdsl.heal.sites import Site, sites_of
from tdsl.plan.calibrate import Data
from tdsl.plan.execute import Batch, Execution

RIDGES = (1e-3, 1e-2, 1e-1)
"""Weights to try for the distance to the present factor, in means of the features' second moments."""
JUDGES = 6
"""One in this many batches judges a solution instead of taking part in it."""


@dataclass(frozen=True, slots=True)
class Healed:
    """One value before and after: relative errors to the original's, on the batches that judge."""

    site: str
    node: str
    before: float
    after: float


def least_squares(
    module: fx.GraphModule,
    reference: fx.GraphModule,
    data: Data,
    approximate: Collection[str],
    progress: Callable[[str], None] = lambda stage: None,
) -> list[Healed]:
    """Re-solve the factors that the rules named `approximate` left in `module`, in place.

    `reference` is the module before these rewrites. Every batch is run through both once, all of them in
    step, so memory holds what is alive at one point of the graph.
    """
    sites = sites_of(module, reference, approximate)
    if not sites or not data.batches:
        return []
    kept = {site.target for site in sites}
    beside = {site.beside for site in sites if site.beside is not None}
    pairs = [
        _Pair(batch, data.execution(module, batch, beside), data.execution(reference, batch, kept))
        for batch in data.batches
    ]
    healed = []
    for number, site in enumerate(sites, start=1):
        progress(f"heal: {number} of {len(sites)}")
        for pair in pairs:
            pair.ours.advance(site.node)
            pair.theirs.advance(site.target.next)
        healed.append(_solve(module, site, pairs, data))
        for pair in pairs:
            if site.beside is not None:
                pair.ours.release(site.beside)
            if all(other.target is not site.target for other in sites[number:]):
                pair.theirs.release(site.target)
    return healed


@dataclass(frozen=True, slots=True)
class _Pair:
    """One batch in both models."""

    batch: Batch
    ours: Execution
    theirs: Execution


def _solve(module: fx.GraphModule, site: Site, pairs: Sequence[_Pair], data: Data) -> Healed:
    judges = pairs[JUDGES - 1 :: JUDGES] or pairs
    fitted = [p for i, p in enumerate(pairs) if (i + 1) % JUDGES] or list(pairs)
    total = _Normal.of(site, fitted, data)
    judged = _Normal.of(site, judges, data) if judges is not pairs else total
    present = site.factors(module)
    best, before = present, judged.error(present.joined)
    after = before
    for ridge in RIDGES:
        for solution in site.solutions(present, total.features, total.products, ridge):
            error = judged.error(solution.joined)
            if error < after:
                best, after = solution, error
    if best is not present:
        best.store(module, site)
        for pair in pairs:
            site.refresh(module, pair.ours)
    return Healed(site.path, site.node.name, before, after)


@dataclass(frozen=True, slots=True)
class _Normal:
    """Sums over rows of features x (a 1 appended) and targets y: x·xᵀ, y·xᵀ, ‖y − mean‖²."""

    features: Tensor
    products: Tensor
    squares: float
    count: int

    @classmethod
    def of(cls, site: Site, pairs: Sequence[_Pair], data: Data) -> _Normal:
        features = products = None
        squares = 0.0
        count = 0
        sums = None
        for pair in pairs:
            x, y = site.rows(pair.ours, pair.theirs, data, pair.batch)
            x, y = torch.nn.functional.pad(x.double(), (0, 1), value=1.0), y.double()
            features = x.T @ x if features is None else features.addmm_(x.T, x)
            products = y.T @ x if products is None else products.addmm_(y.T, x)
            sums = y.sum(0) if sums is None else sums + y.sum(0)
            squares += float(y.square().sum())
            count += len(x)
        assert features is not None and products is not None and sums is not None
        return cls(features, products, squares - float((sums.square() / max(count, 1)).sum()), count)

    def error(self, weight: Tensor) -> float:
        """Relative error of weight·x for y (weight with the bias as its last column), about the mean."""
        explained = float((weight @ self.features * weight).sum()) - 2 * float((weight * self.products).sum())
        squares = explained + self._squares_about_zero()
        return math.sqrt(max(0.0, squares) / self.squares) if self.squares > 0 else 0.0

    def _squares_about_zero(self) -> float:
        mean = self.products[:, -1]
        return self.squares + float((mean.square() / max(self.count, 1)).sum())
