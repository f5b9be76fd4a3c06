"""A weight matrix as a low-rank matrix plus a few entries anywhere.

Which entries stand apart from a low-rank matrix, and of which rank it is, principal component pursuit finds
without being told either; alternating projections then fit both parts to one another. Where an error is
allowed, a plain truncation and the largest entries of what it leaves compete with that. Everything is
computed in float64; factors are float64, places int64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked, decompose, select_rank
from tdsl.factor.memo import memoised
from tdsl.factor.rank import Auto, RankRule, Tiled, allowed_error, as_rank_rule

PURSUIT = 60
"""Most steps of the pursuit; where there are two parts it takes about twenty."""
FEASIBLE = 1e-6
"""Relative distance between the weight and the two parts at which the pursuit has found both supports."""
REWEIGHTED = 40
"""Turns of a fit of least absolute deviations: residuals from all to a share of 1e-12 of a row."""
GROWTH = 1.5
"""By how much the pursuit's penalty grows from step to step."""
SWEEPS = 300
"""Most turns of the alternation."""
CLOSE = 1e-15
"""Relative error at which nothing is left to gain."""
FEW_SWEEPS = 10
"""Turns after which the number of entries is chosen again."""
WORTH = 1e-3
"""The number is settled when choosing it again saves less than this share."""
GAIN = 1e-2
"""The alternation stops when five turns gain less than this share of the error."""
APART = 6.0
"""Entries beyond so many deviations of the others are no part of the low rank."""
NEGLIGIBLE = 1e-12
"""Entries below this share of the largest one are rounding."""
DEVIATION = 0.6745
"""The median size of normal numbers, in standard deviations."""


class Prices(NamedTuple):
    """What the parts cost, in any unit."""

    line: float
    """A number of a low-rank factor."""
    entry: float
    """A number at a place, the place included."""


NUMBERS = Prices(1, 2)
"""A place is a number, too."""


class Parts(NamedTuple):
    """left·right plus what is left of the weight at some places; r may be 0, and so may k."""

    left: Tensor
    """[m, r]"""
    right: Tensor
    """[r, n]"""
    places: Tensor
    """Distinct places in the flattened weight, ascending, int64. [k]"""

    def price(self, prices: Prices) -> float:
        """What both parts cost together."""
        lines = self.left.numel() + self.right.numel()
        return prices.line * lines + prices.entry * len(self.places)


def low_rank_plus_entries(weight: Tensor, rank: object) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """U·V plus entries anywhere (Candès et al., 2011; Zhou & Tao, 2011).

    [m, n] → U [m, r], V [r, n], values [k], their places in the flattened matrix [k], ascending. `rank` is
    anything `as_rank_rule` takes. Where it bounds the error, r and k are those of the fewest numbers, places
    counted; either may be 0. A number of terms, a ratio and `auto()` give r, and the entries are those that
    stand apart from the rest. Raises `TdslError` for a weight that is no finite matrix,
    `UnreachableRankError` for no such rank.
    """
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    while isinstance(rule, Tiled):  # no product is computed of these
        rule = rule.rule
    bounded = rule.spectral and not isinstance(rule, Auto)
    parts = fewest(exact, rule) if bounded else _standing_apart(exact, rule)
    values = (exact - parts.left @ parts.right).flatten()[parts.places]
    return parts.left, parts.right, values, parts.places


def entries_product(left: Tensor, right: Tensor, values: Tensor, places: Tensor) -> Tensor:
    """The sum. [m, r], [r, n], [k], [k] → [m, n]."""
    low = left @ right
    return low.flatten().index_add(0, places, values).reshape(low.shape)


# ---------------------------------------------------------------- the choice of both sizes


@memoised
def fewest(weight: Tensor, rule: RankRule, prices: Prices = NUMBERS) -> Parts:
    """The cheapest parts within the error that `rule` allows.

    The entries alone always are within it. They compete with what the pursuit finds, and with truncations to
    1, 2, 4, … terms, of which the cheapest is improved by turns.
    """
    rows, columns = weight.shape
    best = _entries_for(weight, weight.new_zeros(rows, 0), weight.new_zeros(0, columns), rule)
    most = int(best.price(prices) / (prices.line * (rows + columns))) if weight.numel() else 0
    if not most:
        return best
    whole = decompose(weight)
    rank = 1
    while rank < min(most, len(whole.values)):
        left, right = whole.left[:, :rank] * whole.values[:rank], whole.right[:rank]
        tried = _entries_for(weight, left, right, rule)
        if tried.price(prices) < best.price(prices):
            best = tried
        rank *= 2
    pursuit = pursued(weight, max(FEASIBLE, allowed_error(rule) / 2))
    if pursuit is not None:
        for parts in (pursuit, _shortened(pursuit, rule.share(2))):
            fitted = alternated(weight, parts, FEW_SWEEPS)
            tried = _entries_for(weight, fitted.left, fitted.right, rule)
            if tried.price(prices) < best.price(prices):
                best = tried
    return _improved(weight, best, rule, prices)


def _shortened(parts: Parts, rule: RankRule) -> Parts:
    """The terms that `rule` keeps of a low-rank part whose factors carry its singular values."""
    values = parts.left.norm(dim=0) * parts.right.norm(dim=1)
    rank = rule.select(values, len(values))
    return Parts(parts.left[:, :rank], parts.right[:rank], parts.places)


def _entries_for(weight: Tensor, left: Tensor, right: Tensor, rule: RankRule) -> Parts:
    """The fewest entries beside a low-rank part that `rule` is content with."""
    rest = (weight - left @ right).flatten()
    order = rest.abs().argsort(descending=True, stable=True)
    sizes = rest[order].abs()
    # What is lost where so many are kept, summed from the smallest up.
    lost = torch.cat([sizes.square().flip(0).cumsum(0).flip(0), sizes.new_zeros(1)])
    enough = lost <= allowed_error(rule) ** 2 * weight.square().sum()
    count = int(enough.int().argmax())
    return Parts(left, right, order[:count].sort().values)


def _improved(weight: Tensor, parts: Parts, rule: RankRule, prices: Prices) -> Parts:
    """Fewer entries within what `rule` allows, as the low-rank part is fitted to what they leave."""
    if not len(parts.places) or not parts.left.shape[1]:
        return parts
    turns = FEW_SWEEPS
    while True:
        fitted = alternated(weight, parts, turns)
        better = _entries_for(weight, fitted.left, fitted.right, rule)
        if len(better.places) > len(parts.places):
            return parts
        gain = parts.price(prices) - better.price(prices)
        parts = better if gain else fitted
        if turns == SWEEPS and gain <= WORTH * parts.price(prices):
            return parts
        turns = FEW_SWEEPS if gain > WORTH * parts.price(prices) else SWEEPS


def _standing_apart(weight: Tensor, rule: RankRule) -> Parts:
    """As many terms as `rule` says of what the pursuit leaves, and the entries that stand apart from them."""
    found = pursued(weight)
    clean = weight if found is None else _without(weight, alternated(weight, found))
    whole = decompose(clean)
    rank = select_rank(rule, whole.values, (len(weight), weight.shape[1]))
    left, right = whole.left[:, :rank] * whole.values[:rank], whole.right[:rank]
    rest = (weight - left @ right).flatten().abs()
    if not len(rest):
        return Parts(left, right, torch.zeros(0, dtype=torch.int64))
    least = max(APART / DEVIATION * float(rest.median()), NEGLIGIBLE * float(weight.abs().max()))
    return alternated(weight, Parts(left, right, (rest > least).nonzero()[:, 0]))


# ---------------------------------------------------------------- both parts by turns


def alternated(weight: Tensor, parts: Parts, turns: int = SWEEPS) -> Parts:
    """Parts of the same sizes, each fitted to the other by turns; the error never rises (Zhou & Tao, 2011).

    The low-rank part is the best one of its span, which the weight without the entries turns towards its
    leading directions; the entries are the largest ones of what that leaves.
    """
    left, right, places = parts
    total = float(weight.norm())
    errors: list[float] = []
    for turn in range(turns if right.numel() and total else 0):
        rest = _without(weight, Parts(left, right, places))
        left = torch.linalg.qr(rest @ right.T).Q
        right = left.T @ rest
        missed = (weight - left @ right).flatten()
        if len(places):
            places = missed.abs().topk(len(places), sorted=False).indices
            missed = missed.index_fill(0, places, 0.0)
        errors.append(float(missed.norm()))
        if errors[-1] <= CLOSE * total or (turn >= 5 and errors[-6] - errors[-1] <= GAIN * errors[-6]):
            break
    return Parts(*_balanced(left, right), places.sort().values)


def _without(weight: Tensor, parts: Parts) -> Tensor:
    """The weight less its entries: at their places stands what the low-rank part has there."""
    low = parts.left @ parts.right
    return weight.flatten().index_copy(0, parts.places, low.flatten()[parts.places]).reshape(low.shape)


def _balanced(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The same product, both factors carrying the root of its singular values."""
    if not right.numel() or not left.numel():
        return left, right
    inner, triangle = torch.linalg.qr(left)
    turned, values, across = torch.linalg.svd(triangle @ right, full_matrices=False)
    root = values.sqrt()
    return (inner @ turned) * root, root[:, None] * across


@memoised
def pursued(weight: Tensor, feasible: float = FEASIBLE) -> Parts | None:
    """The parts that principal component pursuit finds, which are the only ones where both stand out.

    min ‖L‖∗ + λ·‖S‖₁ with L + S = W and λ = 1 / √max(m, n) (Candès et al., 2011), by augmented Lagrangians
    (Lin et al., 2010), until their sum is within the relative distance `feasible` of W: parts closer than
    that would take up its noise. `None` where L would hold as many numbers as W.
    """
    wide = weight if len(weight) <= weight.shape[1] else weight.T
    total = float(wide.norm())
    if not total:
        return None
    rows, columns = wide.shape
    trade = 1 / math.sqrt(columns)
    largest = float(torch.linalg.matrix_norm(wide, 2))
    dual = wide / max(largest, float(wide.abs().max()) / trade)
    penalty = 1.25 / largest
    entries = torch.zeros_like(wide)
    rank = 0
    for _ in range(PURSUIT):
        shifted = wide - entries + dual / penalty
        squares, vectors = torch.linalg.eigh(shifted @ shifted.T)
        values = squares.clamp_min(0).sqrt()
        kept = values > 1 / penalty
        rank = int(kept.sum())
        if rank * (rows + columns) >= wide.numel():
            return None
        shrunk = 1 - 1 / (penalty * values[kept])
        low = (vectors[:, kept] * shrunk) @ (vectors[:, kept].T @ shifted)
        apart = wide - low + dual / penalty
        entries = apart.sign() * (apart.abs() - trade / penalty).clamp_min(0)
        missed = wide - low - entries
        if float(missed.norm()) <= feasible * total:
            break
        dual = dual + penalty * missed
        penalty *= GROWTH
    if not rank:
        return None
    found = decompose(low if wide is weight else low.T)
    left, right = found.left[:, :rank] * found.values[:rank], found.right[:rank]
    dense = entries if wide is weight else entries.T
    apart = dense.abs() > NEGLIGIBLE * float(weight.abs().max())
    least = max(3 * feasible * total / math.sqrt(weight.numel()), NEGLIGIBLE * float(weight.abs().max()))
    left, apart = _lines_given_back(weight, left, right, apart, least)
    across, apart = _lines_given_back(weight.T, right.T, left.T, apart.T, least)
    return Parts(left, across.T, apart.T.flatten().nonzero()[:, 0])


def _lines_given_back(
    weight: Tensor, left: Tensor, right: Tensor, apart: Tensor, least: float
) -> tuple[Tensor, Tensor]:
    """Rows that are mostly entries, as the low rank has them where that leaves fewer above `least`.

    A row much larger than the others costs more in the norm of the low rank than in that of the entries. The
    span of the rows is known from the others, and in it the row of least absolute deviations (Ke & Kanade,
    2005), which no norm of the low rank makes smaller. [m, n], [m, r], [r, n], [m, n] → [m, r], [m, n].
    """
    counts = apart.sum(1)
    rows = (2 * counts > weight.shape[1]).nonzero()[:, 0]
    if not len(rows):
        return left, apart
    fitted = _least_absolute(weight[rows], right)
    standing = (weight[rows] - fitted @ right).abs() > least
    fewer = standing.sum(1) < counts[rows]
    rows = rows[fewer]
    return left.index_copy(0, rows, fitted[fewer]), apart.index_copy(0, rows, standing[fewer])


def _least_absolute(rows: Tensor, right: Tensor) -> Tensor:
    """x with the least |rows − x·right|, by weights that are 1 / what is left. [k, n], [r, n] → [k, r]."""
    scale = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    fitted: Tensor = rows @ torch.linalg.pinv(right)
    for turn in range(REWEIGHTED):
        rest = (rows - fitted @ right).abs()
        root = torch.maximum(rest, scale * max(0.5**turn, NEGLIGIBLE)).rsqrt()
        weighted = (right * root[:, None]).transpose(1, 2)  # [k, n, r]
        fitted = torch.linalg.lstsq(weighted, (rows * root)[..., None]).solution[..., 0]
    return fitted


DECLARED = (
    Decomposition(
        name="low_rank_plus_entries",
        params=("W", "rank"),
        results=4,
        function=low_rank_plus_entries,
        promise_text="W ≈ U @ V, and values at places of it",
        promise=entries_product,
        roles=("dense", "dense", "dense", "permutation"),
        forms=forms("[M, N] -> [M, r], [r, N], [c], [c]"),
        source="Candès, Li, Ma & Wright, 2011; by turns Zhou & Tao, 2011 (GoDec)",
        doc="A matrix of rank r plus entries anywhere, with their places in the flattened matrix.",
    ),
)
