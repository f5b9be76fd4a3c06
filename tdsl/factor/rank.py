"""Rank rules: how many terms of a factorization to keep, decided from the singular values.

A rule sees the singular values in descending order and the break-even rank, and answers a number. What a
`.tdsl` file can say for a rank (`64`, `50%`, `energy(0.95)`) becomes a rule in `as_rank_rule`.

A rank is at least 1 unless the matrix has an empty side: factors with an empty axis help nobody.
Singular values below the rounding of the largest one count as zero.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.declare import CompileTimeFunction

FINEST = 8
"""Tiles that a rank may at least be made of, where it has as many terms."""
_EPSILON = torch.finfo(torch.float64).eps


class UnreachableRankError(TdslError):
    """A rank that this matrix does not have; for a rule tried on many layers, simply no match."""


class RankRule(Protocol):
    """A way to choose the rank of a truncation."""

    @property
    def spectral(self) -> bool:
        """Whether the answer depends on the singular values; without it their number and `limit` decide."""
        ...

    def select(self, singular_values: Tensor, limit: int, *, aspect: float = 1.0) -> int:
        """The rank to keep, of `len(singular_values)` at most.

        `singular_values` descend (float64); `limit` is the break-even rank, the largest one at which the
        factors hold fewer numbers than what they replace; `aspect` is the matrix's shorter side over its
        longer one. Raises `UnreachableRankError` when the matrix has no such rank.
        """
        ...

    def share(self, parts: int) -> RankRule:
        """The rule for each of `parts` truncations whose squared errors add up, so that all of them
        together keep this rule's promise.
        """
        ...


def break_even(rows: int, columns: int) -> int:
    """The largest rank r with r·(rows + columns) < rows·columns: beyond it two factors save nothing."""
    return max(0, (rows * columns - 1) // (rows + columns)) if rows and columns else 0


def lost_energy(singular_values: Tensor) -> Tensor:
    """The squared relative Frobenius error of the best rank-r approximation, r = 0 … k. [k] → [k + 1].

    Summed from the smallest value up, so that a small loss keeps its digits.
    """
    values = _significant(singular_values)
    largest = values.max() if len(values) else 0
    if largest:
        values = values / largest
    lost = values.square().flip(0).cumsum(0).flip(0)
    lost = torch.cat([lost, lost.new_zeros(1)])
    return lost / lost[0] if lost[0] else lost


def select_by_gains(rule: RankRule, gains: Tensor, limit: int) -> int:
    """The number of terms that `rule` keeps of a nested family that is no spectrum.

    `gains` [k] say what each term takes off the squared error, in the order of the family, in which the
    error of keeping r terms is the sum of the gains after them. `limit` is what a ratio is a share of.
    """
    return rule.select(gains.clamp_min(0).sqrt(), limit)


def _significant(singular_values: Tensor) -> Tensor:
    """The singular values with those at the level of rounding set to zero."""
    if not len(singular_values):
        return singular_values
    floor = len(singular_values) * _EPSILON * singular_values.max()
    return singular_values.where(singular_values > floor, 0.0)


def _smallest_with_tail(singular_values: Tensor, fraction: float) -> int:
    """The smallest rank whose discarded energy is at most `fraction` of the whole."""
    if not len(singular_values):
        return 0
    enough = lost_energy(singular_values) <= fraction
    return max(1, int(enough.int().argmax()))


@dataclass(frozen=True, slots=True)
class Fixed:
    """Exactly `rank`."""

    rank: int
    spectral: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise TdslError(f"a rank of {self.rank} keeps nothing", expected="a rank of at least 1")

    def select(self, singular_values: Tensor, limit: int, *, aspect: float = 1.0) -> int:
        """`rank`, or `UnreachableRankError` beyond the matrix's shorter side."""
        most = len(singular_values)
        if self.rank > most:
            raise UnreachableRankError(
                f"rank {self.rank} asked of a matrix whose rank is at most {most}",
                expected=f"a rank from 1 to {most}" if most else "a matrix without an empty side",
                hint="a ratio (`50%`) or `energy(0.95)` adapts to the size of each layer",
            )
        return self.rank

    def share(self, parts: int) -> Fixed:
        """A number is the same number for each part."""
        return self


@dataclass(frozen=True, slots=True)
class Ratio:
    """That fraction of the break-even rank, rounded down: `Ratio(0.5)` keeps about half the numbers.

    The break-even rank, and not the shorter side, so that the ratio is the size left whatever the shape.
    """

    fraction: float
    spectral: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _require_fraction("ratio", self.fraction, hint="a number of terms is an integer: `64`, not `64.0`")

    def select(self, singular_values: Tensor, limit: int, *, aspect: float = 1.0) -> int:
        """⌊fraction · limit⌋, at least 1."""
        most = len(singular_values)
        # The nudge undoes the rounding of a product such as 0.29 · 100 = 28.999…
        return min(most, max(1, math.floor(self.fraction * limit * (1 + 4 * _EPSILON))))

    def share(self, parts: int) -> Ratio:
        """A ratio is the same ratio for each part."""
        return self


@dataclass(frozen=True, slots=True)
class Energy:
    """The smallest rank that keeps at least `kept` of the squared Frobenius norm."""

    kept: float
    spectral: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require_fraction("energy", self.kept, hint="energy is the share of the squared norm that is kept")

    def select(self, singular_values: Tensor, limit: int, *, aspect: float = 1.0) -> int:
        """The smallest r with Σ_{i>r} σᵢ² ≤ (1 − kept) · Σ σᵢ²."""
        return _smallest_with_tail(singular_values, 1 - self.kept)

    def share(self, parts: int) -> Energy:
        """Each part may lose its share of the energy."""
        return Energy(1 - (1 - self.kept) / parts)


@dataclass(frozen=True, slots=True)
class Error:
    """The smallest rank whose relative Frobenius error is at most `bound`."""

    bound: float
    spectral: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not _is_number(self.bound) or not 0 <= self.bound < 1:
            raise TdslError(
                f"error({self.bound!r}) is no relative error",
                expected="a relative error from 0 up to, not including, 1",
                hint="1% is written `error(1%)` or `error(0.01)`",
            )

    def select(self, singular_values: Tensor, limit: int, *, aspect: float = 1.0) -> int:
        """The smallest r with Σ_{i>r} σᵢ² ≤ bound² · Σ σᵢ²."""
        return _smallest_with_tail(singular_values, self.bound**2)

    def share(self, parts: int) -> Error:
        """Squared errors add up."""
        return Error(self.bound / math.sqrt(parts))


@dataclass(frozen=True, slots=True)
class Auto:
    """As many terms as stand out of white noise of unknown level (Gavish & Donoho, 2014).

    Where none does, the matrix is not low rank plus noise, and the answer is every term (dense), which
    no break-even test accepts: noise is left alone instead of being truncated to nothing. The noise level
    is read off the median singular value, so at most half of the terms can be found.
    """

    spectral: ClassVar[bool] = True

    def select(self, singular_values: Tensor, limit: int, *, aspect: float = 1.0) -> int:
        """The number of σᵢ above ω(aspect) · median(σ); all of them when none is."""
        values = _significant(singular_values)
        if not len(values):
            return 0
        if not values[0]:
            return 1
        found = int((values > noise_threshold(aspect) * values.quantile(0.5)).sum())
        return found or len(values)

    def share(self, parts: int) -> Auto:
        """The threshold is each matrix's own."""
        return self


@dataclass(frozen=True, slots=True)
class Stable:
    """As many terms as come out again when the weight is disturbed (Alexandrov et al., 2013): `stability`.

    Of `most` terms at most. For sums of terms that singular values say nothing about (`cp`); where no number
    of terms is stable the answer is every term, as of `Auto`.
    """

    most: int = 16
    spectral: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.most, int) or isinstance(self.most, bool) or self.most < 1:
            raise TdslError(
                f"stable({self.most!r}) is no number of terms",
                expected="the largest number of terms to look for, an integer from 1 up",
            )

    def select(self, singular_values: Tensor, limit: int, *, aspect: float = 1.0) -> int:
        """Raises `TdslError`: singular vectors are unique, so that disturbing them tells nothing."""
        raise TdslError(
            "stable() is no rank of a decomposition that singular values decide",
            expected="it with `cp` or `cp_separable`; `auto()` finds what stands out of noise here",
        )

    def share(self, parts: int) -> Stable:
        """Stability is each tensor's own."""
        return self


@dataclass(frozen=True, slots=True)
class Tiled:
    """What `rule` chooses, rounded to a multiple of the tile that a machine computes at once.

    To the nearest multiple, upwards in the middle, and never to 0. Rounding alone crosses neither the
    break-even rank nor the matrix's own: there the largest multiple that fits is taken, and where not even
    one fits, the rank stays as it is. A tile is halved until `fit` of them fit into the break-even rank:
    of 32 numbers a head, 28 may be right. A bound of the rule on the error holds to half a tile.
    """

    rule: RankRule
    multiple: int
    fit: int = FINEST

    def __post_init__(self) -> None:
        object.__setattr__(self, "rule", as_rank_rule(self.rule))
        if not isinstance(self.multiple, int) or isinstance(self.multiple, bool) or self.multiple < 1:
            raise TdslError(f"tiled({self.multiple!r}) is no size of a tile", expected="an integer from 1 up")

    @property
    def spectral(self) -> bool:
        """That of the rule inside."""
        return self.rule.spectral

    def select(self, singular_values: Tensor, limit: int, *, aspect: float = 1.0) -> int:
        """The multiple nearest to what the rule selects."""
        rank = self.rule.select(singular_values, limit, aspect=aspect)
        tile = self.tile(limit)
        most = max(rank, min(len(singular_values), limit))
        rounded = min(max(tile, (rank + tile // 2) // tile * tile), most // tile * tile)
        return rounded or rank

    def tile(self, limit: int) -> int:
        """The multiple to round to where the break-even rank is `limit`."""
        tile = self.multiple
        while tile > 1 and tile * self.fit > limit:
            tile = (tile + 1) // 2
        return tile

    def share(self, parts: int) -> Tiled:
        """The rule's own share, rounded."""
        return Tiled(self.rule.share(parts), self.multiple, self.fit)


def allowed_error(rule: RankRule, unspoken: float = 0.0) -> float:
    """The relative error that a rule allows; `unspoken` where it speaks of none."""
    match rule:
        case Energy(kept=kept):
            return math.sqrt(1 - kept)
        case Error(bound=bound):
            return bound
        case Tiled(rule=inner):
            return allowed_error(inner, unspoken)
        case _:
            return unspoken


@functools.cache
def noise_threshold(aspect: float) -> float:
    """ω(β): the optimal hard threshold in medians of the singular values, β = shorter / longer side.

    ω(β) = λ(β) / √μ, with μ the median of the Marchenko–Pastur law of ratio β (Gavish & Donoho, 2014).
    """
    if not 0 < aspect <= 1:
        raise ValueError(f"an aspect is in (0, 1], not {aspect}")
    optimal = math.sqrt(2 * (aspect + 1) + 8 * aspect / (aspect + 1 + math.sqrt(aspect**2 + 14 * aspect + 1)))
    # With x = 1 + β − 2·√β·cos θ the law on [(1 − √β)², (1 + √β)²] has a smooth density in θ.
    angles = torch.linspace(0, math.pi, 200_001, dtype=torch.float64)
    middle = (angles[1:] + angles[:-1]) / 2
    density = middle.sin().square() / (1 + aspect - 2 * math.sqrt(aspect) * middle.cos())
    mass = density.cumsum(0) / density.sum()
    angle = angles[1 + int(torch.searchsorted(mass, 0.5))]
    median = 1 + aspect - 2 * math.sqrt(aspect) * math.cos(angle)
    return optimal / math.sqrt(median)


def as_rank_rule(value: object) -> RankRule:
    """What a `.tdsl` file says for a rank as a rule: `64`, `50%` (a float), or a rule already."""
    match value:
        case Fixed() | Ratio() | Energy() | Error() | Auto() | Stable() | Tiled():
            return value
        case int() if not isinstance(value, bool):
            return Fixed(value)
        case float():
            return Ratio(value)
        case _:
            raise TdslError(
                f"{value!r} is no rank",
                expected="a number (`64`), a ratio (`50%`), `energy(0.95)`, `error(1%)`, `auto()` or "
                "`tiled(50%, 8)`",
            )


def _require_fraction(what: str, value: float, *, hint: str) -> None:
    if not _is_number(value) or not 0 < value <= 1:
        raise TdslError(
            f"{what}({value!r}) is out of range",
            expected="more than 0, at most 1 (`50%` is 0.5)",
            hint=hint,
        )


def _is_number(value: object) -> bool:
    """A `.tdsl` file may put anything between the parentheses."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


DECLARED = (
    CompileTimeFunction(
        "energy", "rank", ("kept",), Energy, "The smallest rank that keeps that share of the energy."
    ),
    CompileTimeFunction(
        "ratio", "rank", ("fraction",), Ratio, "That fraction of the break-even rank, rounded down."
    ),
    CompileTimeFunction(
        "error", "rank", ("bound",), Error, "The smallest rank within that relative Frobenius error."
    ),
    CompileTimeFunction(
        "auto", "rank", (), Auto, "As many terms as stand out of white noise (Gavish & Donoho, 2014)."
    ),
    CompileTimeFunction(
        "stable", "rank", ("most?",), Stable, "As many terms of a `cp` as disturbed data agree on."
    ),
    CompileTimeFunction(
        "tiled", "rank", ("rule", "multiple"), Tiled, "What the rule chooses, rounded to a multiple."
    ),
)
