"""A canonical order of what may be permuted: two models that differ by a permutation become the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import fx

from tdsl.capture.normal import weights_of
from tdsl.symmetry.hidden.groups import AxisGroup, axis_groups, with_weights
from tdsl.symmetry.hidden.permuting import Indices
from tdsl.symmetry.hidden.units import Rows, blocks_of, dependents_first, rows

if TYPE_CHECKING:
    from tdsl.capture import Captured


@dataclass(frozen=True)
class Canonical:
    """A model in canonical order: the same function, its weights, and what was permuted, in this order."""

    module: fx.GraphModule
    weights: dict[str, torch.Tensor]
    permutations: tuple[tuple[AxisGroup, Indices], ...]


def canonical(model: Captured | fx.GraphModule) -> Canonical:
    """Sort the units of every group of a captured model by the norm of all their weights, largest first.

    Of equal norms the larger weights decide; units whose weights are the same numbers keep their order. The
    norms do not depend on the order within other groups, so neither does the result. Raises `TdslError`
    where the graph has no shapes.
    """
    module = model if isinstance(model, fx.GraphModule) else model.module
    groups = axis_groups(module)
    free = frozenset(group.atom for group in groups)
    weights = weights_of(module)
    done: list[tuple[AxisGroup, Indices]] = []
    for group in dependents_first(groups):
        permutation = group.identity()
        for block in blocks_of(group):
            # Sorted, the numbers of a unit are added in the same order whatever the other groups' order is.
            found = np.sort(rows(group, weights, block, free), axis=1)
            norms = np.sort(found**2, axis=1).sum(axis=1)
            permutation[block] = _largest_first(norms, found)
        weights |= group.permute(permutation, weights)
        done.append((group, permutation))
    return Canonical(with_weights(module, weights), weights, tuple(done))


def _largest_first(norms: Indices, found: Rows) -> Indices:
    """The units by norm; those of equal norms by their sorted weights, then as they stood."""
    order = np.argsort(-norms, kind="stable")
    ranked = norms[order]
    start = 0
    for end in range(1, len(order) + 1):
        if end < len(order) and ranked[end] == ranked[start]:
            continue
        if end - start > 1:
            tied = order[start:end]
            order[start:end] = sorted(tied, key=lambda unit: tuple(-found[unit]))
        start = end
    return order
