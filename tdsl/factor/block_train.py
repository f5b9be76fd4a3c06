"""Factorizations of a weight matrix into two block-diagonal factors and a transpose: low-rank slices.

Outputs are pairs (o, t) and inputs pairs (i, s), o and i being blocks. Every slice of W with o and i fixed is
a matrix of rank r, so that

    W[(o, t), (i, s)] = Σ_r second[o, i, r, t] · first[i, s, o, r]

costs one small product for each i and one for each o. A `Layout` says which of a pair runs fastest: whether
slices are made of neighbours, or of every i-th column and every o-th row. Everything is computed and
returned in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked
from tdsl.factor.memo import memoised
from tdsl.factor.rank import RankRule, UnreachableRankError, as_rank_rule, break_even
from tdsl.factor.splits import Way, best, divisors, error_of, spread

LONGEST = 128
"""Longest short side of a slice; beyond it the blocks are low-rank matrices in their own right."""
SAMPLED = 8
"""So many slices are looked at before all of them are."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Whether the rows, the columns of a block are neighbours: o, i the slower index of its pair."""

    rows: bool
    columns: bool

    def slices(self, weight: Tensor, inputs: int, outputs: int) -> Tensor:
        """[m, n] → [o, i, t, s]."""
        rows, columns = (size // parts for size, parts in zip(weight.shape, (outputs, inputs), strict=True))
        upper = (outputs, rows) if self.rows else (rows, outputs)
        lower = (inputs, columns) if self.columns else (columns, inputs)
        order = (*((0, 1) if self.rows else (1, 0)), *((2, 3) if self.columns else (3, 2)))
        o, t, i, s = order
        return weight.reshape(*upper, *lower).permute(o, i, t, s)

    def matrix(self, slices: Tensor) -> Tensor:
        """[o, i, t, s] → [m, n]."""
        outputs, inputs, rows, columns = slices.shape
        upper, lower = ((0, 2) if self.rows else (2, 0)), ((1, 3) if self.columns else (3, 1))
        return slices.permute(*upper, *lower).reshape(outputs * rows, inputs * columns)


INTERLEAVED = Layout(rows=True, columns=False)
"""Neighbouring rows, every i-th column: the layout of Monarch matrices and of A ⊗ B."""
CONTIGUOUS = Layout(rows=True, columns=True)
"""Neighbours both: the matrix is cut into blocks, each of low rank."""
STRIDED = Layout(rows=False, columns=False)
"""Every o-th row, every i-th column: the layout of the discrete Fourier transform."""


def block_tt(weight: Tensor, rank: object, blocks: object = None) -> tuple[Tensor, Tensor]:
    """A block tensor-train (Qiu et al., 2024), of rank 1 a Monarch matrix (Dao et al., 2022).

    As `low_rank_slices`, of neighbouring rows and every i-th column. A Kronecker product has rank 1.
    """
    return low_rank_slices(weight, rank, INTERLEAVED, blocks)


def low_rank_blocks(weight: Tensor, rank: object, blocks: object = None) -> tuple[Tensor, Tensor]:
    """Every block of W truncated to rank r: `low_rank_slices` of neighbouring rows and columns."""
    return low_rank_slices(weight, rank, CONTIGUOUS, blocks)


def strided_blocks(weight: Tensor, rank: object, blocks: object = None) -> tuple[Tensor, Tensor]:
    """Every o-th row and i-th column truncated to rank r together: `low_rank_slices` of a Fourier transform.

    A discrete Fourier transform, as a matrix of real numbers, has rank 2 (Cooley & Tukey, 1965).
    """
    return low_rank_slices(weight, rank, STRIDED, blocks)


def low_rank_slices(
    weight: Tensor, rank: object, layout: Layout, blocks: object = None
) -> tuple[Tensor, Tensor]:
    """Every slice of W truncated to rank r, which is optimal in the Frobenius norm: slices are disjoint.

    [m, n] → first [i, s, o, r], second [o, i, r, t] with n = i·s and m = o·t. `rank` is anything
    `as_rank_rule` takes and speaks of all slices together; `blocks` is [i, o]. Without it the divisors of m
    and n are searched: for the fewest numbers where the rule bounds the error, for the smallest error where
    it does not. Raises `TdslError` for a weight that is no finite matrix and for blocks that do not divide
    it, `UnreachableRankError` where m or n has no divisor.
    """
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    chosen = _search(exact, rule, layout) if blocks is None else _divided(exact, blocks)
    slices = layout.slices(exact, *chosen)
    left, values, right = torch.linalg.svd(slices, full_matrices=False)
    kept = _select(rule, values.square().sum((0, 1)).sqrt(), slices)
    root = values[..., :kept].sqrt()
    second = left[..., :kept] * root[..., None, :]  # o, i, t, r
    first = right[..., :kept, :] * root[..., None]  # o, i, r, s
    return first.permute(1, 3, 0, 2).contiguous(), second.transpose(2, 3).contiguous()


def _product(layout: Layout) -> Callable[[Tensor, Tensor], Tensor]:
    def product(first: Tensor, second: Tensor) -> Tensor:
        """The matrix of two factors. [i, s, o, r], [o, i, r, t] → [m, n]."""
        return layout.matrix(torch.einsum("isor,oirt->oits", first, second))

    return product


block_tt_product = _product(INTERLEAVED)
low_rank_blocks_product = _product(CONTIGUOUS)
strided_blocks_product = _product(STRIDED)


# ---------------------------------------------------------------- the search for blocks


class _Spectrum(NamedTuple):
    values: Tensor
    """Root of the sum of squares of the k-th singular values of all slices."""
    slices: Tensor


@memoised
def _search(weight: Tensor, rule: RankRule, layout: Layout) -> tuple[int, int]:
    """The numbers of blocks [i, o] that `rule` prefers for a float64 matrix.

    A way whose sampled slices need more than the break-even rank is not looked at further, unless every
    way is like that. Raises `UnreachableRankError` where there is no way at all.
    """
    rows, columns = weight.shape
    ways = [
        (i, o)
        for i in divisors(columns)[1:]
        for o in divisors(rows)[1:]
        if 1 < min(columns // i, rows // o) <= LONGEST
    ]
    sampled = [(_way(rule, weight, way, layout, sample=True), way) for way in ways]
    hopeful = [way for found, way in sampled if found is not None and found.numbers < rows * columns]
    measured = [_way(rule, weight, way, layout, sample=False) for way in hopeful]
    known = [way for way in measured if way] or [found for found, _ in sampled if found]
    chosen = best(rule, known, rows * columns)
    if chosen is None:
        raise UnreachableRankError(
            f"a matrix of shape {[rows, columns]} has no slices of that rank",
            expected="sizes that are products, 768 and not 769",
        )
    inputs, outputs = chosen.sizes
    return inputs, outputs


def _way(
    rule: RankRule, weight: Tensor, blocks: tuple[int, int], layout: Layout, *, sample: bool
) -> Way | None:
    """The rank that `rule` chooses at these numbers of blocks, and what it costs; `None` for no such rank."""
    values, slices = _spectrum(weight, blocks, layout, sample=sample)
    (rows, columns), (inputs, outputs) = weight.shape, blocks
    try:
        rank = _select(rule, values, slices)
    except UnreachableRankError:
        return None
    return Way(blocks, (rank,), rank * (columns * outputs + rows * inputs), error_of(values, rank))


def _spectrum(weight: Tensor, blocks: tuple[int, int], layout: Layout, *, sample: bool) -> _Spectrum:
    """The singular values of all slices together; those of a sample by way of its Gram matrices."""
    slices = layout.slices(weight, *blocks)
    if not sample:
        return _Spectrum(torch.linalg.svdvals(slices).square().sum((0, 1)).sqrt(), slices)
    places = spread(slices.shape[0] * slices.shape[1], SAMPLED)
    few = torch.stack([slices[divmod(place, slices.shape[1])] for place in places])
    tall = few if few.shape[1] >= few.shape[2] else few.transpose(1, 2)
    energies = torch.linalg.eigvalsh(tall.transpose(1, 2) @ tall).clamp_min(0)
    return _Spectrum(energies.sum(0).flip(0).sqrt(), slices)


def _select(rule: RankRule, values: Tensor, slices: Tensor) -> int:
    rows, columns = slices.shape[2:]
    return rule.select(values, break_even(rows, columns), aspect=min(rows, columns) / max(rows, columns))


def _divided(weight: Tensor, blocks: object) -> tuple[int, int]:
    rows, columns = weight.shape
    match blocks:
        case [int(inputs), int(outputs)] if inputs > 0 and outputs > 0:
            if columns % inputs == 0 and rows % outputs == 0:
                return inputs, outputs
    raise TdslError(
        f"the blocks {blocks!r} do not divide a matrix of shape {[rows, columns]}",
        expected="[blocks of inputs, blocks of outputs]",
    )


_FORMS = forms("[M, N] -> [i, s, o, r], [o, i, r, t]")
_PARAMS = ("W", "rank", "blocks?")

DECLARED = (
    Decomposition(
        name="block_tt",
        params=_PARAMS,
        results=2,
        function=block_tt,
        promise_text="W[(o, t), (s, i)] ≈ Σ_r second[o, i, r, t] · first[i, s, o, r]",
        promise=block_tt_product,
        forms=_FORMS,
        source="Dao et al., 2022 (Monarch, rank 1); Qiu et al., 2024 (block tensor-train)",
        doc="A matrix as two block-diagonal ones with a transpose between: a Monarch matrix of rank r.",
    ),
    Decomposition(
        name="low_rank_blocks",
        params=_PARAMS,
        results=2,
        function=low_rank_blocks,
        promise_text="W[(o, t), (i, s)] ≈ Σ_r second[o, i, r, t] · first[i, s, o, r]",
        promise=low_rank_blocks_product,
        forms=_FORMS,
        source="Eckart & Young, 1936, for each block",
        doc="A matrix cut into blocks, each of them of rank r.",
    ),
    Decomposition(
        name="strided_blocks",
        params=_PARAMS,
        results=2,
        function=strided_blocks,
        promise_text="W[(t, o), (s, i)] ≈ Σ_r second[o, i, r, t] · first[i, s, o, r]",
        promise=strided_blocks_product,
        forms=_FORMS,
        source="Cooley & Tukey, 1965; Eckart & Young, 1936, for each slice",
        doc="A matrix whose every o-th row and i-th column make a matrix of rank r (Fourier: 2).",
    ),
)
