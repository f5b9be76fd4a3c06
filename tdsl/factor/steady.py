"""Layers whose outputs hardly vary, as their mean: of a weight all that is left, or the weight as it is.

A bias is one more column of the weight, for an input that is always 1, and the moment is that of inputs with
that 1 (`homogeneous`). Then the squared size of a weight is the mean square of the outputs, and that of the
difference to a constant is their variance. Everything is computed and returned in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked
from tdsl.factor.moment import checked_moment, input_error
from tdsl.factor.rank import as_rank_rule
from tdsl.factor.splits import enough


def steady(weight: Tensor, moment: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """What a layer needs of its inputs, and its constant (calibrated constant folding; Gokden, 2025).

    M [m, n + 1], the bias last, S [n + 1, n + 1] the second moment of (x, 1) → Z [m, n], c [m] with
    M ≈ [Z, c]. Where `rank`, anything `as_rank_rule` takes, is content with an error of
    √(variance / mean square), Z is 0 and c the mean of the outputs; else they are the weight and the bias.
    Raises `TdslError` for a weight that is no finite matrix, and for no moment of its inputs.
    """
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    known = checked_moment(moment, exact.shape[1], of="inputs and a constant 1")
    constant = torch.zeros_like(exact)
    constant[:, -1] = exact @ known[:, -1] / known[-1, -1]
    kept, lost = (max(0.0, input_error(part, known)) ** 0.5 for part in (constant, exact - constant))
    found = constant if kept > 0 and enough(rule, kept, lost) else exact
    return found[:, :-1], found[:, -1]


def joined(inputs: Tensor, constant: Tensor) -> Tensor:
    """A weight with its bias as the last column. [m, n], [m] → [m, n + 1]."""
    return torch.cat([inputs, constant[:, None]], 1)


DECLARED = (
    Decomposition(
        name="steady",
        params=("W", "S", "rank"),
        results=2,
        function=steady,
        promise_text="W ≈ [Z, c], Z zero or all of W but its last column",
        promise=joined,
        forms=forms("[m, n] -> [m, q], [m]"),
        source="after Gokden, 2025",
        doc="A layer with its bias as the last column; where outputs hardly vary, their mean alone.",
        moments=forms("[m, n] -> [n, n]"),
        metric=input_error,
    ),
)
