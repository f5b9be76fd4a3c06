"""Butterfly factorization of a weight matrix: a chain of sparse factors, as in fast transforms.

Outputs are written in digits o₁ … o_L and inputs in digits i₁ … i_L, the last one running fastest. Factor l
replaces one input digit by one output digit:

    F_l [o₁ ⋯ o_{l-1}, i_{l+1} ⋯ i_L, i_l, o_l]

so that each costs little where digits are small: with all of them 2, L · 2n numbers instead of n². A matrix
is such a chain exactly when, for every l, its slices of fixed o₁ … o_l and i_{l+1} … i_L have rank one; the
factors are found by splitting at the middle again and again (Zheng, Riccietti & Gribonval, 2023).
Everything is computed and returned in float64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked
from tdsl.factor.memo import memoised
from tdsl.factor.rank import RankRule, UnreachableRankError, as_rank_rule
from tdsl.factor.splits import Way, best, divisors, enough, spread

SAMPLED = 8
"""So many slices are looked at before all of them are."""
POWER_ITERATIONS = 4

Split = tuple[int, int]
"""Sizes of the leading digits of outputs and of the trailing digits of inputs that are fixed in a slice."""


def butterfly(weight: Tensor, rank: object) -> tuple[Tensor, Tensor, Tensor]:
    """A chain of three butterfly factors (Le Magoarou & Gribonval, 2016; Zheng et al., 2023).

    [m, n] → F₁ [i₂, i₃, i₁, o₁], F₂ [o₁, i₃, i₂, o₂], F₃ [o₁, o₂, i₃, o₃] with the digits of m and n.
    `rank` is anything `as_rank_rule` takes; where it bounds the error, the digits with the fewest numbers
    are taken (digits of 1 are always exact), and a rank can only be 1, at the digits of the smallest error.
    Raises `TdslError` for a weight that is no finite matrix, `UnreachableRankError` for another rank.
    """
    exact = checked(weight, ndim=2)
    outputs, inputs = _digits(exact, as_rank_rule(rank))
    first, second, third = chain(exact, outputs, inputs)
    a, b, _ = outputs
    _, j, k = inputs
    return first.reshape(j, k, -1, a), second, third.reshape(a, b, k, -1)


def butterfly_product(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """The matrix of three factors. [i₂, i₃, i₁, o₁], [o₁, i₃, i₂, o₂], [o₁, o₂, i₃, o₃] → [m, n]."""
    whole = torch.einsum("jkia,akjb,abkc->abcijk", first, second, third)
    return whole.flatten(0, 2).flatten(1)


def chain(weight: Tensor, outputs: Sequence[int], inputs: Sequence[int]) -> tuple[Tensor, ...]:
    """The butterfly factors of given digits, exact where there are any (Zheng et al., 2023).

    [m, n] → F_l [o₁ ⋯ o_{l-1}, i_{l+1} ⋯ i_L, i_l, o_l], l = 1 … L. Raises `TdslError` when the digits
    do not multiply to the sizes, or are not equally many.
    """
    exact = checked(weight, ndim=2)
    if len(outputs) != len(inputs) or (math.prod(outputs), math.prod(inputs)) != tuple(exact.shape):
        raise TdslError(
            f"digits {list(outputs)} and {list(inputs)} of a matrix of shape {list(exact.shape)}",
            expected="equally many digits that multiply to its sizes",
        )
    return tuple(f[0] for f in _factors(exact[None], tuple(outputs), tuple(inputs)))


def _factors(batch: Tensor, outputs: tuple[int, ...], inputs: tuple[int, ...]) -> list[Tensor]:
    """The factors of each matrix of a batch. [z, m, n] → [z, o₁ ⋯ o_{l-1}, i_{l+1} ⋯ i_L, i_l, o_l]."""
    count, levels = len(batch), len(outputs)
    if levels == 1:
        return [batch.transpose(1, 2)[:, None, None]]
    middle = levels // 2
    produced, consumed = math.prod(outputs[:middle]), math.prod(inputs[:middle])
    slices = batch.reshape(count, produced, -1, consumed, math.prod(inputs[middle:])).permute(0, 1, 4, 2, 3)
    left, values, right = torch.linalg.svd(slices, full_matrices=False)
    root = values[..., :1].sqrt()
    entering = (right[..., 0, :] * root).permute(0, 2, 1, 3)  # z, inputs kept, produced, consumed
    leaving = (left[..., 0] * root).permute(0, 1, 3, 2)  # z, produced, outputs to come, inputs kept
    early = _factors(entering.flatten(0, 1), outputs[:middle], inputs[:middle])
    late = _factors(leaving.flatten(0, 1), outputs[middle:], inputs[middle:])
    first = [f.reshape(count, -1, *f.shape[1:]).movedim(1, 3).flatten(2, 3) for f in early]
    return first + [f.reshape(count, produced * f.shape[1], *f.shape[2:]) for f in late]


# ---------------------------------------------------------------- the search for digits


@memoised
def _digits(weight: Tensor, rule: RankRule) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The three digits of outputs and of inputs that `rule` prefers."""
    rows, columns = weight.shape
    part = rule.share(2)
    splits = [(o, i) for o in divisors(rows) for i in divisors(columns)]
    feasible = {split: error for split in splits if (error := _single(weight, split, part)) is not None}
    ways = [
        _way(weight, early, late, feasible)
        for early, late in itertools.product(feasible, repeat=2)
        if late[0] % early[0] == 0 and early[1] % late[1] == 0
    ]
    chosen = best(rule, ways, rows * columns)
    if chosen is None:
        raise UnreachableRankError(
            "a butterfly factor has slices of rank 1", expected="1, `energy(0.95)` or `error(1%)` for a rank"
        )
    a, ab, k, jk = chosen.sizes
    return (a, ab // a, rows // ab), (columns // jk, jk // k, k)


def _way(weight: Tensor, early: Split, late: Split, errors: dict[Split, float]) -> Way:
    """Fixed are (a, j·k) in the slices that the first factor reads, (a·b, k) in those of the last one."""
    rows, columns = weight.shape
    (a, jk), (ab, k) = early, late
    numbers = a * columns + ab * jk + rows * k
    return Way((a, ab, k, jk), (1, 1), numbers, (errors[early] ** 2 + errors[late] ** 2) ** 0.5)


def _single(weight: Tensor, split: Split, rule: RankRule) -> float | None:
    """The error of slices of rank one, if `rule` is content with it; a sample is looked at first."""
    (rows, columns), (o, i) = weight.shape, split
    slices = weight.reshape(o, rows // o, columns // i, i).permute(0, 3, 1, 2)
    if 1 in slices.shape[2:]:
        return 0.0
    flat = slices.flatten(0, 1)
    if rule.spectral and not enough(rule, *_parts(flat[spread(len(flat), SAMPLED)])):
        return None
    kept, lost = _parts(flat)
    return lost / math.hypot(kept, lost) if kept and enough(rule, kept, lost) else None


def _parts(slices: Tensor) -> tuple[float, float]:
    """Norms of the part of rank one of a batch of matrices, and of the rest, by power iteration.

    Exact for slices of rank one, from above for others.
    """
    largest = slices.norm(dim=2).argmax(1)
    right = slices[torch.arange(len(slices)), largest][:, :, None]
    for _ in range(POWER_ITERATIONS):
        right = slices.transpose(1, 2) @ (slices @ _unit(right))
    right = _unit(right)
    kept = slices @ right
    return float(kept.norm()), float((slices - kept @ right.transpose(1, 2)).norm())


def _unit(vectors: Tensor) -> Tensor:
    """Columns of length one; zero where they are zero. [z, n, 1] → [z, n, 1]."""
    length: Tensor = vectors.norm(dim=1, keepdim=True)
    return vectors / length.where(length > 0, 1.0)


DECLARED = (
    Decomposition(
        name="butterfly",
        params=("W", "rank"),
        results=3,
        function=butterfly,
        promise_text="W[o, i] ≈ F₁[i₂, i₃, i₁, o₁] · F₂[o₁, i₃, i₂, o₂] · F₃[o₁, o₂, i₃, o₃]",
        promise=butterfly_product,
        forms=forms("[M, N] -> [i2, i3, i1, o1], [o1, i3, i2, o2], [o1, o2, i3, o3]"),
        source="Le Magoarou & Gribonval, 2016; Zheng, Riccietti & Gribonval, 2023",
        doc="A matrix as a chain of three sparse factors, as in fast transforms.",
    ),
)
