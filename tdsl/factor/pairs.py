"""Weights on pairs of indices (matrices, relations, second-order tensors) that commute with a group.

Inputs and outputs are arrays [n, n] with channels. Under O(n) three maps commute, the identity, the transpose
and the trace put on the diagonal (Brauer, 1937); under S(n) fifteen, in which diagonals, sums of rows and of
columns, the trace and the total are put back on the diagonal, along rows, along columns or everywhere (Maron
et al., 2019). n is found (`commuting`). Everything is computed and returned in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tdsl.factor.commuting import fitted
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked
from tdsl.factor.rank import as_rank_rule
from tdsl.symmetry.diagrams.diagram import Labels
from tdsl.symmetry.diagrams.partitions import Partition

MATCHINGS: tuple[Labels, ...] = ((0, 0, 1, 1), (0, 1, 0, 1), (0, 1, 1, 0))
"""The partitions of two output and two input points into pairs: trace, identity and transpose."""
FULL: tuple[Labels, ...] = ((0, 1, 0, 1), (0, 1, 1, 0))
"""Identity and transpose."""
VECTORS: tuple[tuple[Labels, ...], ...] = (
    ((0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0)),
    ((0, 1, 0, 0), (0, 1, 0, 2), (0, 1, 2, 0)),
    ((0, 1, 1, 1), (0, 1, 1, 2), (0, 1, 2, 1)),
)
"""To the diagonal, the rows and the columns: from the diagonal, the sums of rows and those of columns."""
SCALARS: tuple[tuple[Labels, ...], ...] = (
    ((0, 0, 1, 1), (0, 0, 1, 2)),
    ((0, 1, 2, 2), (0, 1, 2, 3)),
)
"""To the diagonal and to all entries: from the trace and the total."""


def rotatable_pairs(weight: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """The nearest weight on pairs of n indices, channels last, that commutes with O(n).

    [m, n_in] → K [3, p, q], indices [n] with m = n²·p and n_in = n²·q: the coefficients of trace, identity
    and transpose. `rank` is anything `as_rank_rule` takes; where it bounds the error, n is the largest that
    keeps the bound (1 always does), otherwise that of the smallest error. Raises `TdslError` for a weight
    that is no finite matrix.
    """
    exact = checked(weight, ndim=2)
    found = fitted(exact, "O", 2, 2, as_rank_rule(rank), channels_last=True)
    if found is None:
        none = torch.zeros_like(exact)
        return torch.stack([none, exact, none]), torch.arange(1)
    return found.projection.coefficients, torch.arange(found.size)


def rotatable_pairs_product(coefficients: Tensor, indices: Tensor) -> Tensor:
    """The weight of these coefficients. [3, p, q], [n] → [n²·p, n²·q]."""
    return _product(MATCHINGS, coefficients, len(indices))


def exchangeable_pairs(weight: Tensor, rank: object) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The nearest weight on pairs of n items, channels last, that commutes with S(n).

    [m, n_in] → F [2, p, q], V [3, p, 3, q], S [2, p, 2, q], items [n] with m = n²·p and n_in = n²·q: F for
    identity and transpose; V to the diagonal, the rows and the columns from the diagonal and the sums of rows
    and columns; S to the diagonal and to everything from the trace and the total. `rank` as in
    `rotatable_pairs`, and what is raised. For n below 4 some of the fifteen are zero.
    """
    exact = checked(weight, ndim=2)
    found = fitted(exact, "S", 2, 2, as_rank_rule(rank), channels_last=True)
    if found is None:
        return (*_in_groups({FULL[0]: exact}, exact.shape), torch.arange(1))
    known = dict(zip(found.projection.diagrams, found.projection.coefficients, strict=True))
    named = {d.labels: each for d, each in known.items() if isinstance(d, Partition)}
    return (*_in_groups(named, found.projection.coefficients.shape[1:]), torch.arange(found.size))


def exchangeable_pairs_product(full: Tensor, vectors: Tensor, scalars: Tensor, items: Tensor) -> Tensor:
    """The weight of these coefficients. [2, p, q], [3, p, 3, q], [2, p, 2, q], [n] → [n²·p, n²·q]."""
    labels = [*FULL, *(one for row in VECTORS for one in row), *(one for row in SCALARS for one in row)]
    return _product(
        labels,
        torch.cat([full, vectors.transpose(1, 2).flatten(0, 1), scalars.transpose(1, 2).flatten(0, 1)]),
        len(items),
    )


def _in_groups(known: Mapping[Labels, Tensor], sizes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """The coefficients of partitions as F, V and S, zeros for those that are not there."""
    zeros = torch.zeros((), dtype=torch.float64).expand(*sizes)

    def grouped(rows: Sequence[Sequence[Labels]]) -> Tensor:
        return torch.stack([torch.stack([known.get(one, zeros) for one in row], 1) for row in rows])

    return torch.stack([known.get(one, zeros) for one in FULL]), grouped(VECTORS), grouped(SCALARS)


def _product(diagrams: Sequence[Labels], coefficients: Tensor, n: int) -> Tensor:
    """Σ_d of a diagram for the indices, times its coefficients for the channels. [d, p, q] → [n²·p, n²·q]."""
    _, height, width = coefficients.shape
    whole = torch.zeros(n * n, height, n * n, width, dtype=coefficients.dtype)
    for labels, coefficient in zip(diagrams, coefficients, strict=True):
        places = Partition(labels, 2).dense(n).to(coefficients.dtype)
        whole = whole + places[:, None, :, None] * coefficient[:, None, :]
    return whole.reshape(n * n * height, n * n * width)


DECLARED = (
    Decomposition(
        name="rotatable_pairs",
        params=("W", "rank"),
        results=2,
        function=rotatable_pairs,
        promise_text="W[(h, i, k), (j, l, c)] ≈ K[0, k, c]·δ[h, i]·δ[j, l] + K[1, k, c]·δ[h, j]·δ[i, l] "
        "+ K[2, k, c]·δ[h, l]·δ[i, j]",
        promise=rotatable_pairs_product,
        forms=forms("[S, M] -> [3, p, q], [i]"),
        source="Brauer, 1937; as layers Pearce-Crump, 2023",
        doc="A layer on matrices that commutes with O(n): trace, identity and transpose.",
        roles=("dense", "permutation"),
    ),
    Decomposition(
        name="exchangeable_pairs",
        params=("W", "rank"),
        results=4,
        function=exchangeable_pairs,
        promise_text="W ≈ F of identity and transpose, V of diagonal, rows and columns, S of trace and total",
        promise=exchangeable_pairs_product,
        forms=forms("[S, M] -> [2, p, q], [3, p, 3, q], [2, p, 2, q], [i]"),
        source="Maron et al., 2019 (invariant graph networks)",
        doc="A layer on pairs of items that treats all items alike: fifteen kinds of sums and copies.",
        roles=("dense", "dense", "dense", "permutation"),
    ),
)
