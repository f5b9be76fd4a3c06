"""Two checkpoints of one architecture, the second permuted until its units are those of the first.

Weight matching by coordinate descent over the groups (Ainsworth, Hayase, Srinivasa, "Git Re-Basin", 2022),
started from what is known already (inputs, outputs, groups that are aligned) with sorted weights where the
order is not known yet; or one assignment by correlations of activations (Li et al., 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from tdsl.capture.normal import weights_of
from tdsl.symmetry.hidden.activations import Activations
from tdsl.symmetry.hidden.alike import require_alike
from tdsl.symmetry.hidden.groups import (
    AxisGroup,
    Weights,
    hidden_symmetry,
    with_weights,
)
from tdsl.symmetry.hidden.layout import atoms_in
from tdsl.symmetry.hidden.permuting import Indices
from tdsl.symmetry.hidden.units import Rows, blocks_of, dependents_first, rows

if TYPE_CHECKING:
    from tdsl.capture import Captured

SWEEPS = 100
"""Sweeps of the coordinate descent at most; it ends when one changes nothing."""

MARGIN = 0.5
"""A unit is matched when it is at most so far from its partner, beside its distance to any other unit."""


@dataclass(frozen=True, slots=True)
class GroupAlignment:
    """One group before and after: distances are relative to the weights of the first model."""

    group: AxisGroup
    matched: float
    """Share of units that are clearly their partner's: near it, beside all others (`MARGIN`)."""
    before: float
    after: float


@dataclass(frozen=True)
class Alignment:
    """The second model with its units in the order of the first: the same function as before."""

    module: fx.GraphModule
    weights: dict[str, torch.Tensor]
    permutations: tuple[tuple[AxisGroup, Indices], ...]
    """What was permuted, one after the other."""
    groups: tuple[GroupAlignment, ...]
    before: float
    """Relative distance of all weights, before: |a - b| / |a|."""
    after: float
    """And after: what no permutation that was found explains."""


def align(
    a: Captured | fx.GraphModule,
    b: Captured | fx.GraphModule,
    inputs: Sequence[tuple[Any, ...]] | None = None,
    fixed: frozenset[str] = frozenset(),
) -> Alignment:
    """Permute the hidden units of `b` so that its weights come as close as possible to those of `a`.

    With `inputs`, a list of tuples with what the model takes, units are matched by the correlation of what
    they compute, otherwise by their weights. Groups with a weight that is `fixed` stay as they are. Both are
    captured models of one architecture. Raises `TdslError` where the two graphs differ.
    """
    first, second = (model if isinstance(model, fx.GraphModule) else model.module for model in (a, b))
    own, other = weights_of(first), weights_of(second)
    require_alike(first, second, own, other)
    symmetry = hidden_symmetry(first)
    groups = dependents_first(group for group in symmetry.groups if not fixed & set(group.axes))
    search = _Search(own, dict(other), groups)
    if inputs is None:
        search.start()
    else:
        search.by_activations(Activations(symmetry.inference, groups), first, second, inputs)
    if inputs is None:
        search.descend()
    changed = search.weights
    report = tuple(_compared(group, own, other, changed) for group in symmetry.groups)
    return Alignment(
        with_weights(second, changed),
        changed,
        tuple(search.done),
        report,
        _distance(own, other),
        _distance(own, changed),
    )


class _Search:
    """The weights of the second model as permuted so far."""

    def __init__(self, own: Weights, weights: dict[str, torch.Tensor], groups: list[AxisGroup]) -> None:
        self.own = own
        self.weights = weights
        self.groups = groups
        self.done: list[tuple[AxisGroup, Indices]] = []

    def start(self) -> None:
        """Each group once, those first whose weights touch most of what has its order already."""
        unknown = {group.atom for group in self.groups}
        rest = list(self.groups)
        while rest:
            ready = [g for g in rest if not (set(g.over) & unknown)] or rest
            group = max(ready, key=lambda g: _known(g, self.own, frozenset(unknown - {g.atom})))
            rest.remove(group)
            unknown.discard(group.atom)
            self.step(group, frozenset(unknown))

    def descend(self) -> None:
        """Group by group until no assignment improves any of them."""
        for _ in range(SWEEPS):
            changes = [self.step(group, frozenset()) for group in self.groups]
            if not any(changes):
                return

    def by_activations(
        self,
        activations: Activations,
        first: fx.GraphModule,
        second: fx.GraphModule,
        inputs: Sequence[tuple[Any, ...]],
    ) -> None:
        """One assignment for each group, in an order in which groups come before their dependents."""
        values = activations.run(first, inputs)
        unknown = {group.atom for group in self.groups}
        for group in self.groups:
            unknown.discard(group.atom)
            if group.atom not in activations.sources:
                self.step(group, frozenset(unknown))
                continue
            current = activations.run(with_weights(second, self.weights), inputs)
            permutation = group.identity()
            for block in blocks_of(group):
                a, b = (activations.rows(group, found, block) for found in (values, current))
                assert a is not None and b is not None
                permutation[block] = assignment(_standard(a) @ _standard(b).T)
            self.apply(group, permutation)

    def step(self, group: AxisGroup, unknown: frozenset[int]) -> bool:
        """Assign the units of one group; whether that changed anything."""
        permutation = group.identity()
        for block in blocks_of(group):
            a, b = (rows(group, weights, block, unknown) for weights in (self.own, self.weights))
            permutation[block] = assignment(a @ b.T)
        return self.apply(group, permutation, only_nearer=not unknown)

    def apply(self, group: AxisGroup, permutation: Indices, only_nearer: bool = False) -> bool:
        """Permute; a group that stands on two axes of one weight may get farther away by its assignment."""
        if np.array_equal(permutation, group.identity()):
            return False
        changed = group.permute(permutation, self.weights)
        if only_nearer:
            own = {path: self.own[path] for path in changed}
            if _distance(own, changed) >= _distance(own, self.weights):
                return False
        self.weights |= changed
        self.done.append((group, permutation))
        return True


def assignment(similarity: Rows) -> Indices:
    """For each unit of the first model the one of the second, so that the sum of similarities is largest.

    The order is left as it is where that is as good as any (Jonker, Volgenant, 1987, as in scipy).
    """
    from scipy.optimize import linear_sum_assignment

    _, columns = linear_sum_assignment(similarity, maximize=True)
    same = np.trace(similarity)
    best = similarity[np.arange(len(columns)), columns].sum()
    if best - same <= 1e-12 * np.abs(similarity).sum(axis=1).max(initial=0.0):
        return np.arange(len(columns))
    return np.asarray(columns, dtype=np.int64)


def _known(group: AxisGroup, weights: Weights, unknown: frozenset[int]) -> float:
    """The share of a group's numbers that stand at places whose order is known."""
    known = total = 0
    for path, axes in group.axes.items():
        size = weights[path].numel()
        total += size
        if not any(unknown & set(atoms_in(layout)) for layout in axes):
            known += size
    return known / max(total, 1)


def _standard(values: Rows) -> Rows:
    """Rows of mean 0 and norm 1; those that do not vary are 0."""
    centred = values - values.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    scaled: Rows = np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0)
    return scaled


def _compared(group: AxisGroup, own: Weights, before: Weights, after: Weights) -> GroupAlignment:
    matched = 0
    for block in blocks_of(group):
        a, b = (rows(group, weights, block) for weights in (own, after))
        squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
        # The difference itself where it matters: the expression above is rounded.
        near = np.linalg.norm(a - b, axis=1)
        np.fill_diagonal(squares, np.inf)
        others = np.sqrt(np.maximum(squares.min(axis=1), 0.0))
        matched += int((near <= MARGIN * others).sum())
    paths = list(group.axes)
    return GroupAlignment(
        group,
        matched / (group.size * max(1, int(np.prod(group.over_sizes, dtype=np.int64)))),
        _distance({path: own[path] for path in paths}, before),
        _distance({path: own[path] for path in paths}, after),
    )


def _distance(own: Weights, other: Weights) -> float:
    """|a - b| / |a| over all weights that are not integers."""
    apart = size = 0.0
    for path, tensor in own.items():
        if tensor.is_floating_point() and bool(torch.isfinite(tensor).all()):
            apart += float((tensor.double() - other[path].double()).square().sum())
            size += float(tensor.double().square().sum())
    return float(np.sqrt(apart / size)) if size else 0.0
