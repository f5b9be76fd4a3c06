"""A linear action fitted to features: whether those of moved inputs are a matrix times those of the inputs.

For features y of x and y' of ρ·x, A with y' ≈ A·y is fitted on some pairs and judged on others, so that as
many features as pairs prove nothing. Features that do not vary fit any action, and are no evidence: what
varies of y' must be explained, beyond what its mean explains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tdsl.errors import TdslError

HELD_OUT = 0.25
"""Share of the pairs that a fit is judged on."""

SMALL = 1e-6
"""Singular values below this share of the largest are none; features that vary less do not vary."""

Verdict = Literal["acts", "does not act", "vacuous"]


@dataclass(frozen=True, slots=True)
class LearnedAction:
    """A fitted action, and how good it is on pairs that it was not fitted to."""

    matrix: Tensor
    """A, [d, d], float64."""
    residual: float
    """‖y' - A·y‖ over the deviation of y' from its mean, on held-out pairs."""
    control: float
    """The same for pairs that do not belong together: near 1 or above."""
    spread: float
    """How much features vary: the deviation of y' from its mean, over its size."""

    def verdict(self, tolerance: float) -> Verdict:
        """Whether the features are acted on, given the largest residual that is accepted."""
        if self.spread <= SMALL or self.control <= 10 * tolerance:
            return "vacuous"
        return "acts" if self.residual <= tolerance else "does not act"


def learned_action(features: Tensor, moved: Tensor, seed: int = 0) -> LearnedAction:
    """Fit A with `moved` ≈ `features`·Aᵀ; both [n, d], row i of the one for x_i, of the other for ρ·x_i.

    Raises `TdslError` for features of other shapes, some that are no finite numbers, or too few pairs to
    judge anything.
    """
    if features.ndim != 2 or features.shape != moved.shape:
        raise TdslError(
            f"features of shapes {list(features.shape)} and {list(moved.shape)}", expected="[n, d] twice"
        )
    for name, values in (("features", features), ("moved features", moved)):
        if not values.isfinite().all():
            raise TdslError(
                f"{int((~values.isfinite()).sum())} of {values.numel()} {name} are no finite numbers",
                expected="features of which a matrix can be fitted",
            )
    count, width = features.shape
    kept = count - max(1, round(HELD_OUT * count))
    if kept <= width:
        raise TdslError(
            f"{count} pairs do not determine an action on {width} features",
            expected=f"more than {int(width / (1 - HELD_OUT)) + 2}",
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    before, after = (value.detach().to(torch.float64)[order] for value in (features, moved))
    matrix = (torch.linalg.pinv(before[:kept], rtol=SMALL) @ after[:kept]).T
    mean = after.mean(0)
    expected = before[kept:] @ matrix.T
    size = float((after[kept:] - mean).norm())
    scale = float(after.norm()) / count**0.5 or 1.0
    spread = float((after - mean).norm()) / count**0.5 / scale
    off = float((after[kept:] - expected).norm())
    wrong = float((after[kept:].roll(1, 0) - expected).norm()) if count - kept > 1 else 0.0
    return LearnedAction(matrix, off / (size or 1.0), wrong / (size or 1.0), spread)
