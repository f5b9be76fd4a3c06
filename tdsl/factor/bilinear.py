"""Constant bilinear maps z_k = Σ T[i, j, k] x_i y_j by few multiplications: z = C·((A·x) ∘ (B·y)).

The multiplications are as many as T has rank-one terms. They come from whatever gives the fewest: the
pairs of indices that occur at all, points on the sphere where T is a Gaunt tensor (`bilinear_grid`), or a
search (`bilinear_search`) whose result is made an identity of small fractions where that is possible
(`bilinear_round`).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from tdsl.factor.bilinear_grid import gaunt_terms
from tdsl.factor.bilinear_round import identity
from tdsl.factor.bilinear_search import Array, Factors, fewest_terms
from tdsl.factor.cp import cp
from tdsl.factor.declare import CompileTimeFunction, Decomposition, forms
from tdsl.factor.matrix import checked
from tdsl.factor.memo import memoised
from tdsl.factor.rank import Error, Fixed, allowed_error, as_rank_rule

EXACT = 1e-10
"""Relative distance within which terms stand for a tensor of float64."""
_ASKED_EXACTLY = 1e-7
"""A rule that allows less than this asks for the tensor itself."""


def bilinear(tensor: Tensor, rank: object) -> tuple[Tensor, Tensor, Tensor]:
    """The fewest multiplications by which a constant bilinear map is computed (Strassen, 1969).

    [a, b, c] → first [r, a], second [r, b], third [c, r] whose terms, for each r the product of a row, a row
    and a column, add up to the tensor. A rule that allows no error is met within 1e-10 or the rounding of
    the narrowest type that holds the entries, and exactly where they are small fractions; other rules as
    `cp` meets them. Raises `TdslError` for what is no finite tensor of three axes.
    """
    exact, rule = checked(tensor, ndim=3), as_rank_rule(rank)
    if not exact.numel():
        a, b, c = exact.shape
        return exact.new_zeros(0, a), exact.new_zeros(0, b), exact.new_zeros(c, 0)
    whole = _whole(exact)
    if allowed_error(rule, math.inf) <= _ASKED_EXACTLY or (
        isinstance(rule, Fixed) and rule.rank >= len(whole[0])
    ):
        return whole
    first, middle, last = cp(exact, rule)  # its axes are outputs, inputs and positions
    approximate = last.squeeze(2).T, first.squeeze(2), middle.squeeze(1).T
    fewer = isinstance(rule, Fixed) or len(approximate[0]) < len(whole[0])
    return approximate if fewer else whole


def multiplications(tensor: Tensor) -> int:
    """How many multiplications `bilinear` needs for the tensor itself."""
    return len(bilinear(tensor, Error(EXACT))[0])


def bilinear_product(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """The tensor of the terms. [r, a], [r, b], [c, r] → [a, b, c]."""
    return torch.einsum("ra,rb,cr->abc", first, second, third)


def rounding(tensor: Tensor) -> float:
    """What entries may be off by, relatively: `EXACT`, or ε of the narrowest type that holds them all."""
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        if torch.equal(tensor.to(dtype).double(), tensor):
            return torch.finfo(dtype).eps
    return EXACT


@memoised
def _whole(tensor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The fewest terms found that stand for the tensor."""
    values: Array = tensor.numpy()
    # Small whole numbers are in every type; what is known of them is that they are exact.
    tolerance = min(rounding(tensor), torch.finfo(torch.float32).eps)
    best = occurring_pairs(values)
    on_points = gaunt_terms(values, tolerance)
    if on_points is not None and on_points[0].shape[1] < best[0].shape[1]:
        best = on_points
    searched = fewest_terms(values, best[0].shape[1] - 1, tolerance)
    if searched is not None:
        best = identity(values, searched[0].shape[1]) or searched
    first, second, third = (torch.from_numpy(np.ascontiguousarray(factor)) for factor in best)
    return first.T.contiguous(), second.T.contiguous(), third


def occurring_pairs(tensor: Array) -> Factors:
    """A term for every pair of indices at which something is not zero, of the two axes that have fewest.

    An identity for any tensor: two factors pick, the third one holds the entries. At least one term.
    """
    best: Factors | None = None
    for axis in (2, 1, 0):
        others = [other for other in range(3) if other != axis]
        places = np.argwhere(tensor.any(axis=axis))
        if len(places) == 0:
            places = np.zeros((1, 2), dtype=int)
        if best is not None and len(places) >= best[0].shape[1]:
            continue
        factors: list[Array] = [np.empty(0)] * 3
        for other, column in zip(others, places.T, strict=True):
            factors[other] = np.eye(tensor.shape[other])[:, column]
        factors[axis] = np.moveaxis(tensor, axis, 0)[:, places[:, 0], places[:, 1]]
        best = (factors[0], factors[1], factors[2])
    assert best is not None
    return best


DECLARED = (
    Decomposition(
        name="bilinear",
        params=("T", "rank"),
        results=3,
        function=bilinear,
        promise_text="T[i, j, k] ≈ Σ_r first[r, i] · second[r, j] · third[k, r]",
        promise=bilinear_product,
        forms=forms("[T, S, k] -> [r, T], [r, S], [k, r]"),
        source="Strassen, 1969; Smirnov, 2013; on the sphere Luo, Chen & Krishnapriyan, 2024",
        doc="A constant bilinear map by few multiplications: C·((A·x) ∘ (B·y)).",
    ),
    CompileTimeFunction(
        "multiplications",
        "number",
        ("T",),
        multiplications,
        "How many multiplications the constant bilinear map of a tensor [a, b, c] takes.",
    ),
)
