"""A weight as a sparse matrix times a dense one: every output mixes a few of k directions.

Codes, the columns of the sparse factor, begin as the rotation of singular vectors that has the largest fourth
powers. Where these span a space with a sparse basis, least absolute values find it; elsewhere codes and
directions are fitted by turns. Everything is computed in float64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked, decompose, select_rank
from tdsl.factor.memo import memoised
from tdsl.factor.moment import input_error, whitened
from tdsl.factor.rank import Auto, RankRule, Tiled, allowed_error, as_rank_rule, break_even

ENTRY = 1.25
"""What a code costs in numbers: `quantize sparse` stores its place in a byte beside four."""
DIRECTIONS = (1.25, 1.5, 2.0, 3.0)
"""Directions that are tried, in ranks of the same size."""
SHARES = (0.3, 0.6, 0.85)
"""Of the error allowed, what truncation may take before codes lose theirs."""
FINEST = 1e-3
"""Relative error that a fit by turns comes near to."""
MOST = 64
"""Codes of a row at most: a pursuit takes as many steps."""
TRIED, FITTED = 6, 60
"""Turns of a first look, and most turns of a fit."""
GAIN = 3e-3
"""A fit ends when five turns gain less than this share of its error."""
STEPS = 300
"""Most steps of a rotation."""
STEADY = 1e-9
"""The relative gain of a step at which a rotation stands still."""
HEAVY = 6.0
"""Mean fourth power over squared mean square from which codes may be sparse; of normal numbers it is 3."""
ROUNDS, REWEIGHTED = 6, 100
"""Most rounds for a sparse basis, and reweighted fits of a column in one."""
ZERO = 1e-7
"""Codes below this share of their column's norm are none."""
APART = 0.1
"""What a column must have outside of the span of sparser ones, to be no mixture of them."""
FLOOR = 1e-12
"""The share of a column's largest value below which all weigh alike; it comes down to that by halves."""
SETTLED = 1e-12
"""The relative change of a reweighted fit that ends it."""
DENSER = 1.3
"""Times the median number of codes from which a column may be a mixture of sparser ones."""
SEED = 0x7D51


class Coded(NamedTuple):
    """Codes [m, k], mostly zero, times directions [k, n]."""

    codes: Tensor
    directions: Tensor

    @property
    def price(self) -> float:
        """Numbers, with the places of codes."""
        return self.directions.numel() + ENTRY * int(self.codes.count_nonzero())


def dense_sparse(weight: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """Codes times directions, of least error in the Frobenius norm (Chand et al., 2023, DSFormer).

    [m, n] → S [m, k], mostly zeros, D [k, n] with W ≈ S·D. `rank` is anything `as_rank_rule` takes: where it
    bounds the error, both have the fewest numbers, places counted; otherwise as many as factors of that rank
    would have. Where codes do not pay, the factors are those of a truncation, none of them sparse. Raises
    `TdslError` for a weight that is no finite matrix, `UnreachableRankError` for no such rank.
    """
    exact = checked(weight, ndim=2)
    return _factors(exact, exact, rank)


def whitened_dense_sparse(weight: Tensor, moment: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """The same, of least mean squared error of the outputs.

    W [m, n], C [n, n] the second moment of the inputs → S [m, k], D [k, n]. Codes are chosen on W·L with
    C = L·Lᵀ; directions are the least-squares fit of W, which is that of W·L. Raises `TdslError` as
    `dense_sparse` does, and for a C that is no moment of n inputs.
    """
    return _factors(checked(weight, ndim=2), whitened(weight, moment), rank)


def _factors(weight: Tensor, seen: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    rule = as_rank_rule(rank)
    while isinstance(rule, Tiled):  # directions are no tiles: codes are stored one by one
        rule = rule.rule
    codes = _codes(seen, rule)
    codes = codes[:, codes.any(0)] if codes.any() else codes[:, :1]
    return codes, _directions(codes, weight)


@memoised
def _codes(seen: Tensor, rule: RankRule) -> Tensor:
    """The codes that `rule` asks for. [m, n] → [m, k]"""
    whole = decompose(seen)
    rank = select_rank(rule, whole.values, (seen.shape[0], seen.shape[1]))
    plain = whole.left[:, :rank]
    if not rank or not float(whole.values[0]) or rank > break_even(*seen.shape):
        return plain
    truncation = Coded(plain, whole.values[:rank, None] * whole.right[:rank])
    if rule.spectral and not isinstance(rule, Auto):
        return _fewest(seen, rule, truncation).codes
    return _of_size(seen, truncation).codes


# ---------------------------------------------------------------- of a given size, of a given error


def _of_size(seen: Tensor, truncation: Coded) -> Coded:
    """Codes and directions of as many numbers as a truncation, which lose less; else the truncation."""
    rows, columns = seen.shape
    rank = truncation.codes.shape[1]
    size = rank * (rows + columns)
    sparse = _sparse_basis(seen, truncation)
    if sparse is not None:
        return sparse
    tried = []
    for times in DIRECTIONS:
        count = min(round(times * rank), *seen.shape)
        each = int((size - count * columns) / (ENTRY * rows))
        if 1 <= each <= min(MOST, count / ENTRY):
            tried.append((_fit(seen, _rotated(seen, count), each, TRIED), each))
    if not tried:
        return truncation
    best, each = min(tried, key=lambda found: _error(seen, found[0]))
    best = _fit(seen, best, each, FITTED)
    return best if _error(seen, best) < _error(seen, truncation) else truncation


def _fewest(seen: Tensor, rule: RankRule, truncation: Coded) -> Coded:
    """Codes and directions of fewest numbers within the error that `rule` allows."""
    sparse = _sparse_basis(seen, truncation)
    if sparse is not None and _error(seen, sparse) <= allowed_error(rule):
        return sparse
    best, price = truncation, float(truncation.codes.numel() + truncation.directions.numel())
    if allowed_error(rule) < FINEST:
        return best
    values = decompose(seen).values
    lost = values.square().flip(0).cumsum(0).flip(0).sqrt() / values.norm()
    for share in SHARES:
        count = int((lost <= share * allowed_error(rule)).int().argmax())
        if not lost[-1] <= share * allowed_error(rule) or count * seen.shape[1] >= price:
            continue
        most = int((price - count * seen.shape[1]) / (ENTRY * len(seen)))
        found = _within(seen, _rotated(seen, count), min(most, count, MOST), allowed_error(rule))
        if found is not None and found.price < price:
            best, price = found, found.price
    return best


def _within(seen: Tensor, start: Coded, most: int, allowed: float) -> Coded | None:
    """A fit of fewest codes in a row, at most `most`, within an error; `None` where they are not enough."""
    low, high, best = 0, most, None  # none are not enough
    while high - low > 1 or best is None:
        middle = high if best is None else (low + high) // 2
        found = _fit(seen, start, middle, FITTED, allowed) if middle else start
        if middle and _error(seen, found) <= allowed:
            high, best = middle, found
        elif best is None:
            return None
        else:
            low = middle
    return best


def _error(seen: Tensor, found: Coded) -> float:
    return float((seen - found.codes @ found.directions).norm() / seen.norm())


# ---------------------------------------------------------------- by turns


def _rotated(seen: Tensor, count: int) -> Coded:
    """The first singular vectors, turned to sparse columns, and their directions."""
    codes = decompose(seen).left[:, :count]
    codes = codes @ _quartimax(codes)
    return Coded(codes, codes.T @ seen)


def _fit(seen: Tensor, start: Coded, each: int, turns: int, enough: float = 0.0) -> Coded:
    """`each` codes in a row, by turns with the directions (method of optimal directions; Engan et al., 1999).

    It ends at the relative error `enough`.
    """
    found, errors = start, [math.inf]
    for turn in range(turns):
        codes = _pursued(seen, found.directions, each)
        found = Coded(codes, _directions(codes, seen))
        errors.append(_error(seen, found))
        if errors[-1] <= enough or (turn >= 5 and errors[-6] - errors[-1] <= GAIN * errors[-6]):
            break
    return found


def _directions(codes: Tensor, weight: Tensor) -> Tensor:
    """The least-squares fit of a weight to its codes. [m, k], [m, n] → [k, n]."""
    fitted: Tensor = torch.linalg.lstsq(codes, weight, driver="gelsy").solution
    return fitted


def _pursued(seen: Tensor, directions: Tensor, each: int) -> Tensor:
    """Codes by orthogonal matching pursuit, all rows at once (Rubinstein et al., 2008). → [m, k]"""
    sizes = directions.norm(dim=1)
    sizes = sizes.where(sizes > 0, 1.0)
    unit = directions / sizes[:, None]
    gram, met = unit @ unit.T, seen @ unit.T
    places = torch.zeros(len(seen), 0, dtype=torch.int64)
    rest, codes = met, torch.zeros_like(met)
    for step in range(each):
        strength = rest.abs().scatter(1, places, -1.0)
        places = torch.cat([places, strength.argmax(1, keepdim=True)], 1)
        inner = gram[places[:, :, None], places[:, None, :]]
        inner = inner + 1e-12 * torch.eye(step + 1, dtype=gram.dtype)  # copies of a direction
        values = torch.linalg.solve(inner, met.gather(1, places))
        codes = torch.zeros_like(met).scatter(1, places, values)
        rest = met - codes @ gram
    scaled: Tensor = codes / sizes
    return scaled


# ---------------------------------------------------------------- a sparse basis


def _sparse_basis(seen: Tensor, truncation: Coded) -> Coded | None:
    """The truncation in a basis of sparse columns; `None` where it has none that would pay."""
    columns = truncation.codes
    rank = columns.shape[1]
    turned = columns @ _quartimax(columns)
    if len(columns) * float(turned.pow(4).sum()) < HEAVY * rank:
        return None
    codes = sparse_basis(columns)
    found = Coded(codes, _directions(codes, seen))
    worse = _error(seen, found) > _error(seen, truncation) + ZERO
    return None if worse or found.price >= rank * sum(seen.shape) else found


def sparse_basis(columns: Tensor) -> Tensor:
    """A basis of few numbers that are not zero, of the span of orthonormal columns. [m, k] → [m, k]

    Each of its columns has the least absolute values of those with a given inner product with a column of a
    rotation (Spielman, Wang & Wright, 2012), by fits reweighted with 1 / value. Of columns that depend on one
    another the sparsest stay, and of the others those that are not much denser; what is left of the span is
    turned and tried anew.
    """
    best, span = columns, _quartimax(columns)
    for _ in range(ROUNDS):
        span = torch.stack([_least_absolute(columns, start) for start in span.T], 1)
        codes = columns @ span
        codes = codes.where(codes.abs() > ZERO * codes.norm(dim=0), 0.0)
        counts = codes.count_nonzero(0)
        order = [int(place) for place in counts.argsort(stable=True)]
        independent, _ = _apart(span, order)
        if len(independent) == len(order) and codes.count_nonzero() < best.count_nonzero():
            best = codes
        kept, basis = _apart(span, [place for place in order if counts[place] <= DENSER * counts.median()])
        if len(kept) == len(order):
            break
        whole: Tensor = torch.linalg.qr(basis, mode="complete").Q
        left = whole[:, len(kept) :]
        span = torch.cat([span[:, kept], left @ _quartimax(columns @ left)], 1)
    return best


def _apart(span: Tensor, places: list[int]) -> tuple[list[int], Tensor]:
    """Those of the columns at some places that no former ones mix to, and an orthonormal basis of them."""
    kept: list[int] = []
    basis = span[:, :0]
    for place in places:
        outside = span[:, place] - basis @ (basis.T @ span[:, place])
        if float(outside.norm()) > APART:  # of a column of unit length
            kept.append(place)
            basis = torch.cat([basis, outside[:, None] / outside.norm()], 1)
    return kept, basis


def _least_absolute(columns: Tensor, start: Tensor) -> Tensor:
    """a with the least |columns·a| of those with a·start = 1, of unit length in the end. [m, k], [k] → [k]"""
    found: Tensor = start
    last = torch.zeros_like(start)
    for turn in range(REWEIGHTED):
        if 0.5**turn < FLOOR and float((found - last).norm()) <= SETTLED * float(found.norm()):
            break
        last = found
        values = (columns @ found).abs()
        weights = 1 / values.clamp_min(max(0.5**turn, FLOOR) * float(values.max()))
        squares = (columns * weights[:, None]).T @ columns
        squares.diagonal().add_(1e-14 * squares.diagonal().mean())
        found = torch.linalg.solve(squares, start)
        found = found / (found @ start)
    return torch.nn.functional.normalize(found, dim=0)


def _quartimax(columns: Tensor) -> Tensor:
    """The rotation of largest fourth powers (Carroll, 1953), by polar steps (Zhai et al., 2020).

    [m, k], orthonormal → [k, k]; from one seeded start.
    """
    size = columns.shape[1]
    random = torch.Generator().manual_seed(SEED)
    turn: Tensor = torch.linalg.qr(torch.randn(size, size, generator=random, dtype=columns.dtype)).Q
    powers = 0.0
    for _ in range(STEPS):
        turned = columns @ turn
        left, _, right = torch.linalg.svd(columns.T @ turned.pow(3))
        turn = left @ right
        reached = float((columns @ turn).pow(4).sum())
        if reached - powers <= STEADY * reached:
            break
        powers = reached
    return turn


def coded_product(codes: Tensor, directions: Tensor) -> Tensor:
    """The product. [m, k], [k, n] → [m, n]."""
    return codes @ directions


DECLARED = (
    Decomposition(
        name="dense_sparse",
        params=("W", "rank"),
        results=2,
        function=dense_sparse,
        promise_text="W ≈ S @ D",
        promise=coded_product,
        forms=forms("[m, n] -> [m, r], [r, n]"),
        source="Chand et al., 2023 (DSFormer)",
        doc="A sparse matrix times a dense one: every output mixes a few of k directions.",
    ),
    Decomposition(
        name="whitened_dense_sparse",
        params=("W", "C", "rank"),
        results=2,
        function=whitened_dense_sparse,
        promise_text="W ≈ S @ D",
        promise=coded_product,
        forms=forms("[m, n] -> [m, r], [r, n]"),
        source="Chand et al., 2023 (DSFormer)",
        doc="The same, of least mean squared error of the outputs; C is the second moment of the inputs.",
        moments=forms("[m, n] -> [n, n]"),
        metric=input_error,
    ),
)
