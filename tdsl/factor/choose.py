"""The automatic choice: which structure a weight has, tried one after the other.

`recognise` asks every decomposition that is listed for the weight's number of axes, at an error that may not
be exceeded, and takes the one whose factors hold the fewest numbers. A weight without structure has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from tdsl.factor.block_train import DECLARED as SLICES
from tdsl.factor.butterfly import DECLARED as BUTTERFLIES
from tdsl.factor.circulant import DECLARED as CIRCULANTS
from tdsl.factor.conv import DECLARED as CHANNELS
from tdsl.factor.cp import DECLARED as RANK_ONE
from tdsl.factor.declare import Decomposition
from tdsl.factor.diagonal_blocks import DECLARED as DIAGONALS
from tdsl.factor.grouped import DECLARED as GROUPED
from tdsl.factor.kronecker import DECLARED as KRONECKERS
from tdsl.factor.low_rank_sparse import DECLARED as ENTRIES
from tdsl.factor.matrix import DECLARED as LOW_RANK
from tdsl.factor.matrix import checked
from tdsl.factor.network import DECLARED as NETWORKS
from tdsl.factor.network import sought
from tdsl.factor.rank import Error, UnreachableRankError
from tdsl.factor.sum_of_two import DECLARED as SUMS

CANDIDATES: Mapping[int, tuple[Decomposition, ...]] = MappingProxyType(
    {
        2: (*DIAGONALS, *CIRCULANTS, *LOW_RANK, *SLICES, *KRONECKERS, *BUTTERFLIES, *SUMS, *ENTRIES),
        **dict.fromkeys((3, 4, 5), (*CHANNELS, *GROUPED, *RANK_ONE)),
    }
)
"""What is tried, by the number of axes of the weight; between equally small ones the first is taken."""
GENERAL = 2
"""A network is asked for last, and has to hold so many times fewer numbers than a structure with a name."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """A structure that a weight has: the decomposition, its factors, what they hold and lose."""

    decomposition: Decomposition
    factors: tuple[Tensor, ...]
    numbers: int
    """How many numbers the factors hold, indices included; fewer than the weight."""
    error: float
    """Relative error of the weight that the factors stand for."""

    @property
    def name(self) -> str:
        """The decomposition as the language calls it."""
        return self.decomposition.name


def recognise(
    weight: Tensor, tolerance: float = 1e-6, candidates: Sequence[Decomposition] | None = None
) -> Recognised | None:
    """The structure with the fewest numbers at a relative error of `tolerance` at most; `None` without one.

    `candidates` are tried instead of those of `CANDIDATES` for the weight's number of axes. Raises
    `TdslError` for a weight that is complex or not finite, and for a tolerance outside [0, 1).
    """
    exact, rule = checked(weight), Error(tolerance)
    tried = CANDIDATES.get(exact.ndim, ()) if candidates is None else candidates
    best: Recognised | None = None
    for decomposition in tried:
        if decomposition.moments or decomposition.form(exact.ndim) is None:
            continue
        try:
            factors = decomposition.function(exact, rule)
        except UnreachableRankError:
            continue
        numbers = sum(factor.numel() for factor in factors)
        if numbers >= (exact.numel() if best is None else best.numbers):
            continue
        error = decomposition.relative_error(exact, decomposition.promise(*factors))
        if error <= max(tolerance, _rounding(exact)):
            best = Recognised(decomposition, factors, numbers, error)
    if candidates is None and exact.ndim == 2 and exact.numel():
        return _network(exact, rule, exact.numel() if best is None else best.numbers // GENERAL) or best
    return best


def _network(weight: Tensor, rule: Error, below: int) -> Recognised | None:
    """A tensor network of fewer numbers than that."""
    (decomposition,) = NETWORKS
    cores = sought(weight, rule, below)
    if cores is None:
        return None
    error = decomposition.relative_error(weight, decomposition.promise(*cores))
    return Recognised(decomposition, cores, sum(core.numel() for core in cores), error)


def _rounding(weight: Tensor) -> float:
    """The relative error that an exact decomposition may show in float64."""
    return float(torch.finfo(torch.float64).eps * max(1, *weight.shape))
