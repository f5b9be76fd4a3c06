"""Units that are equal up to a positive factor, behind functions that such a factor passes (ReLU)."""

from __future__ import annotations

import torch
from torch import fx

from tdsl.capture.normal import attribute
from tdsl.ops.targets import operator_of
from tdsl.symmetry.hidden.groups import AxisGroup
from tdsl.symmetry.hidden.infer import Inference
from tdsl.symmetry.hidden.layout import Atom
from tdsl.symmetry.hidden.roles import Roles

PASSES = frozenset(
    [
        "relu",
        "leaky_relu",
        "abs",
        "neg",
        "reshape",
        "permute",
        "squeeze",
        "unsqueeze",
        "contiguous",
        "detach",
        "dropout",
    ]
)
"""Operators with f(s·x) = s·f(x) for every s > 0."""

_POOLS = ("max_pool", "avg_pool", "adaptive_avg", "upsample_", "mean", "sum", "amax", "amin")
_MAKERS = ("linear", "addmm", "conv1d", "conv2d", "conv3d")


def passes_scale(node: fx.Node) -> bool:
    """Whether an operator of one operand gives s times as much for s times as much, s > 0."""
    op = operator_of(node.target)
    return op is not None and (op.name in PASSES or op.name.startswith(_POOLS))


def parallel_classes(inference: Inference, group: AxisGroup, roles: Roles) -> dict[int, tuple[int, float]]:
    """Units that are a positive multiple of an earlier one: that one, and the factor; empty where none may.

    A factor counts only if it reproduces the incoming weights bit by bit.
    """
    makers = [node for node in roles.carried if _makes(node)]
    if len(makers) != 1 or not all(passes_scale(node) for node in roles.carried if node not in makers):
        return {}
    rows: list[torch.Tensor] = []
    for weight, axis in sorted(roles.own, key=lambda item: (item[0].name, item[1])):
        if weight not in makers[0].all_input_nodes or inference.axes(weight)[axis] != Atom(group.atom):
            return {}
        values = attribute(inference.module, str(weight.target)).detach()
        rows.append(values.movedim(axis, 0).reshape(values.shape[axis], -1))
    if len({row.dtype for row in rows}) != 1:
        return {}
    incoming = torch.cat(rows, dim=1)
    found: dict[int, tuple[int, float]] = {}
    keepers: list[int] = []
    for unit in range(len(incoming)):
        pair = next((p for p in ((k, _factor(incoming[k], incoming[unit])) for k in keepers) if p[1]), None)
        if pair is None:
            keepers.append(unit)
        else:
            found[unit] = (pair[0], float(pair[1] or 0.0))
    return found


def _makes(node: fx.Node) -> bool:
    op = operator_of(node.target)
    return op is not None and op.name in _MAKERS


def _factor(keeper: torch.Tensor, unit: torch.Tensor) -> float | None:
    """The positive number that makes the one row the other, if there is one."""
    places = keeper.nonzero()
    if not len(places):
        return None
    at = int(places[keeper[places].abs().argmax()])
    factor = float(unit[at].double() / keeper[at].double())
    if factor <= 0 or not torch.isfinite(torch.tensor(factor)):
        return None
    return factor if torch.equal((factor * keeper.double()).to(unit.dtype), unit) else None
