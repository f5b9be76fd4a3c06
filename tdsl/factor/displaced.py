"""Whether a weight may commute with permutations, for many of them by one product.

‖W·g·v − g·W·v‖² is ‖W·g − g·W‖² in the mean over random signs v (Hutchinson, 1990), and that norm is at most
twice the distance from W to the weights that commute with g. One pass over W answers for many permutations,
and refuses what commutes but for an entry, before anything is projected.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tdsl.factor.rank import RankRule
from tdsl.factor.splits import enough

SIGNS = 7.0
"""How many times the norm of a matrix its product with random signs has, in one of 10¹⁰ draws."""

Orders = tuple[Tensor, Tensor]
"""The order in which a permutation takes rows [m], and columns [n]."""


def displacements(weight: Tensor, orders: Sequence[Orders]) -> list[float]:
    """‖W·g·v − g·W·v‖ of a few permutations; v are random signs, the same at every call. [m, n], float64."""
    if not orders:
        return []
    random = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (weight.shape[1],), generator=random).to(weight.dtype) * 2 - 1
    vectors = torch.stack([signs, *(signs[columns] for _, columns in orders)], 1)
    image, *images = (weight @ vectors).unbind(1)
    return [
        float(torch.linalg.vector_norm(one - image[rows]))
        for one, (rows, _) in zip(images, orders, strict=True)
    ]


def allowed(rule: RankRule, norm: float, displacement: float) -> bool:
    """Whether `rule` may be content at the distance that a displacement shows, of a weight of that norm."""
    least = min(norm, displacement / 2 / SIGNS)
    return enough(rule, (norm**2 - least**2) ** 0.5, least)
