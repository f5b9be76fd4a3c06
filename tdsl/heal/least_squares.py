"""Recovery without labels or gradients: factors re-solved by least squares, layer by layer in order.

The original and the rewritten model run side by side. At each rewritten value the last factor is the
solution of a ridge regression from what the rewritten model feeds it to what the original computes there,
so that it also makes up for the errors of the layers before it. Where the factors are two linear maps both
are solved at once: reduced-rank regression (Izenman, 1975). A solution is kept when it is better on batches
that it was not fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from tdsl.heal.damping import DAMPINGS
from tdsl.heal.sites import Site, sites_of
from tdsl.memory import give_back
from tdsl.plan.calibrate import ROOM, Data
from tdsl.plan.execute import Batch, Execution
from tdsl.plan.shelf import Fetch, Shelf

AMOUNTS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Energies to try, in means of the features', below which a direction counts as weak: the best on batches
that judge is taken.
"""
PIECE = 2**20
"""Numbers that are widened at once."""
JUDGES = 6
"""One in this many batches, or the last of fewer, judges a solution instead of taking part in it."""


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
    damping: str = "ridge",
    memory: int = ROOM,
    progress: Callable[[str], None] = lambda stage: None,
) -> list[Healed]:
    """Re-solve the factors that the rules named `approximate` left in `module`, in place.

    `reference` is the module before these rewrites, `damping` one of `DAMPINGS`. Every batch is run through
    both once, all of them in step. As many samples run at once as hold about `memory` bytes of values, the
    others wait meanwhile: what they hold at that point of the graph is laid aside, as much in memory.
    """
    sites = sites_of(module, reference, approximate)
    if not sites or not data.batches:
        return []
    kept = {site.target for site in sites}
    beside = {site.beside for site in sites if site.beside is not None}
    pairs = [
        _Pair(
            part,
            number % min(JUDGES, max(2, len(data.batches))) == 0,
            data.execution(module, part, beside),
            data.execution(reference, part, kept),
        )
        for number, batch in enumerate(data.batches, start=1)
        for part in data.pieces(batch, memory, reference, kept)
    ]
    healed = []
    for number, site in enumerate(sites, start=1):
        progress(f"heal: {number} of {len(sites)}")
        give_back()
        later = sites[number] if number < len(sites) else None
        fitted, judging = _Normal(), _Normal()
        shelf = Shelf(memory)
        for pair in pairs:
            pair.resume()
            pair.ours.advance(site.node)
            pair.theirs.advance(site.target.next)
            (judging if pair.judges else fitted).add(site, pair, data)
            if all(other.target is not site.target for other in sites[number:]):
                pair.theirs.release(site.target)
            if site.beside is not None:
                pair.ours.release(site.beside)
            if later is not None:  # where less may be alive than here
                pair.theirs.advance(later.target.next)
                pair.rest(shelf)
            else:
                pair.end()
        solved, found = _solve(module, site, fitted, judging if judging.count else fitted, damping)
        healed.append(found)
        if solved:
            for pair in pairs:
                pair.changed.append(site)
    return healed


class _Pair:
    """One batch, or a part of one, in both models; whether it `judges`."""

    def __init__(self, batch: Batch, judges: bool, ours: Execution, theirs: Execution) -> None:
        self.batch, self.judges = batch, judges
        self.ours, self.theirs = ours, theirs
        self.changed: list[Site] = []
        """The sites that were solved while this waited."""
        self._aside: list[tuple[Execution, dict[fx.Node, Fetch]]] = []

    def rest(self, shelf: Shelf) -> None:
        """Wait, with all values but the weights laid aside."""
        for run in (self.ours, self.theirs):
            mine = [node for node in run.values if node.op != "get_attr"]
            self._aside.append((run, {node: shelf.put(run.values.pop(node)) for node in mine}))

    def end(self) -> None:
        """Forget all values: nothing is looked at any more."""
        self.ours.values.clear()
        self.theirs.values.clear()

    def resume(self) -> None:
        """Have all values again, those that the solved factors change computed anew."""
        for run, aside in self._aside:
            run.values.update((node, fetch()) for node, fetch in aside.items())
        self._aside.clear()
        for site in self.changed:
            site.refresh(self.ours.module, self.ours)
        self.changed.clear()


def _solve(
    module: fx.GraphModule, site: Site, fitted: _Normal, judged: _Normal, damping: str
) -> tuple[bool, Healed]:
    """Put the best factors into `module`; whether they are new ones."""
    present = site.factors(module)
    best, before = present, judged.error(present.joined)
    after = before
    for amount in AMOUNTS:
        damped = DAMPINGS[damping](amount)
        for solution in site.solutions(present, fitted.features, fitted.products, damped):
            error = judged.error(solution.joined)
            if error < after:
                best, after = solution, error
    if best is not present:
        best.store(module, site)
    return best is not present, Healed(site.path, site.node.name, before, after)


class _Normal:
    """Sums over rows of features x (a 1 appended) and targets y: x·xᵀ, y·xᵀ, ‖y‖² about the mean."""

    def __init__(self) -> None:
        self.features = torch.zeros(0, 0, dtype=torch.float64)
        self.products = torch.zeros(0, 0, dtype=torch.float64)
        self.total = 0.0
        self.count = 0

    def add(self, site: Site, pair: _Pair, data: Data) -> None:
        """The rows of one batch, some at a time."""
        x, y = site.rows(pair.ours, pair.theirs, data, pair.batch)
        if not self.count:
            self.features = torch.zeros(x.shape[1] + 1, x.shape[1] + 1, dtype=torch.float64)
            self.products = torch.zeros(y.shape[1], x.shape[1] + 1, dtype=torch.float64)
        self.count += len(x)
        at_once = max(1, PIECE // (x.shape[1] + y.shape[1]))
        for some, wanted in zip(torch.split(x, at_once), torch.split(y, at_once), strict=True):
            features = torch.nn.functional.pad(some.double(), (0, 1), value=1.0)
            exact = wanted.double()
            self.features.addmm_(features.T, features)
            self.products.addmm_(exact.T, features)
            self.total += float(torch.linalg.vector_norm(exact)) ** 2

    @property
    def squares(self) -> float:
        """‖y − mean‖²."""
        return self.total - float((self.products[:, -1].square() / max(self.count, 1)).sum())

    def error(self, weight: Tensor) -> float:
        """Relative error of weight·x for y (weight with the bias as its last column), about the mean."""
        explained = float((weight @ self.features * weight).sum()) - 2 * float((weight * self.products).sum())
        return math.sqrt(max(0.0, explained + self.total) / self.squares) if self.squares > 0 else 0.0
