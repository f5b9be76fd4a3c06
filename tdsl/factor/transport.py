"""Hidden units merged by optimal transport: each target is an average of units with activations near its own.

The plan moves the mass of all h units to k of them at least cost, the mean squared distance of activations,
with an entropic term (Sinkhorn: Cuturi, 2013; for widths of networks DOTResize, 2025). Distances follow from
the second moment alone. A target has the mass of the units that are nearest to it, so that equal units merge
whole.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.factor.moment import checked_moment

SOFTNESS = 0.02
"""The entropic term, as a share of the mean distance of a unit to its target."""
SWEEPS = 200
TOLERANCE = 1e-4
"""The plan is found when masses are met this well, relatively."""


def merging(moment: Tensor, targets: Tensor) -> Tensor:
    """What each target is an average of. Second moment [h, h] of the units, numbers of targets [k] → [k, h].

    Rows sum to one. Raises `TdslError` for what is no moment.
    """
    second = checked_moment(moment, len(moment), "units")
    squares = second.diagonal()
    cost = (squares[:, None] + squares[targets] - 2 * second[:, targets]).clamp_min(0)
    nearest = cost.argmin(1)
    nearest[targets] = torch.arange(len(targets))  # of equal units the first one would take all
    reached = cost.gather(1, nearest[:, None]).mean()
    masses = torch.bincount(nearest, minlength=len(targets)).double() / len(second)
    soft = float(SOFTNESS * reached)
    if not soft:
        plan = torch.zeros_like(cost)
        plan[torch.arange(len(second)), nearest] = 1.0
        return (plan / plan.sum(0)).T
    return _plan(cost / soft, masses)


def _plan(cost: Tensor, masses: Tensor) -> Tensor:
    """The entropic plan from equal masses to `masses` [k], by Sinkhorn's iteration in logs. → [k, h]."""
    units = len(cost)
    own = torch.full(
        (units,), -torch.tensor(float(units), dtype=torch.float64).log().item(), dtype=torch.float64
    )
    wanted = masses.log()
    rows = torch.zeros(units, dtype=torch.float64)
    columns = torch.zeros(len(masses), dtype=torch.float64)
    for _ in range(SWEEPS):
        rows = own - torch.logsumexp(columns - cost, dim=1)
        met = torch.logsumexp(rows[:, None] - cost, dim=0)
        if float((met + columns - wanted).abs().max()) < TOLERANCE:
            break
        columns = wanted - met
    return torch.softmax(rows[:, None] - cost, dim=0).T
