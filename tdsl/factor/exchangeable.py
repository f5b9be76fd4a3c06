"""Weights that treat n items alike: whatever the items are, exchanging two of them changes nothing.

Such a weight maps the channels of every item in one way, and the sum over all items in another (Zaheer et
al., 2017): W = 1 ⊗ A + 1·1ᵀ ⊗ C. How many items there are is found (`orbit_probe`). Everything is computed
and returned in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.diagrams import Found, first_found
from tdsl.factor.matrix import checked
from tdsl.factor.orbit_probe import Axes, Layout
from tdsl.factor.rank import RankRule, as_rank_rule
from tdsl.factor.splits import divisors, enough

Factors = tuple[Tensor, Tensor, Tensor]


def exchangeable(weight: Tensor, rank: object) -> Factors:
    """The nearest weight that treats n items alike, the channels of an item side by side.

    [m, n_in] → A [p, q], C [p, q], items [n] (their numbers) with m = n·p and n_in = n·q. `rank` is anything
    `as_rank_rule` takes; where it bounds the error, n is the largest number of items that keeps the bound
    (1 always does), otherwise that of the smallest error. Raises `TdslError` for a weight that is no finite
    matrix.
    """
    return _factors(weight, rank, channels_last=True)


def exchangeable_planes(weight: Tensor, rank: object) -> Factors:
    """As `exchangeable`, with the items of a channel side by side."""
    return _factors(weight, rank, channels_last=False)


def _product(*, channels_last: bool) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def product(each: Tensor, total: Tensor, items: Tensor) -> Tensor:
        """The weight of three factors. [p, q], [p, q], [n] → [n·p, n·q]."""
        (height, width), count = each.shape, len(items)
        alike = torch.eye(count, dtype=each.dtype)[:, None, :, None] * each[:, None, :]
        whole = alike + total[:, None, :]  # item, p, item, q
        if not channels_last:
            whole = whole.permute(1, 0, 3, 2)
        return whole.reshape(count * height, count * width)

    return product


exchangeable_product = _product(channels_last=True)
exchangeable_planes_product = _product(channels_last=False)


def repeated(weight: Tensor, items: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """A vector of n equal pieces as one piece: the bias of a layer that treats n items alike.

    [m], n numbers of items → the piece [p] and the items. Where `rank` bounds the error and the pieces differ
    by more, the vector is its only piece. Raises `TdslError` for a weight that is no finite vector.
    """
    return _piece(weight, items, rank, channels_last=True)


def interleaved(weight: Tensor, items: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """As `repeated`, each number n times in a row: the bias for items side by side."""
    return _piece(weight, items, rank, channels_last=False)


def _piece(weight: Tensor, items: Tensor, rank: object, *, channels_last: bool) -> tuple[Tensor, Tensor]:
    exact, rule = checked(weight, ndim=1), as_rank_rule(rank)
    count = len(items)
    if count and len(exact) % count == 0:
        pieces = exact.reshape(count, -1) if channels_last else exact.reshape(-1, count).T
        piece = pieces[0] + (pieces - pieces[0]).mean(0)
        lost = float((pieces - piece).norm())
        if enough(rule, float(piece.norm()) * count**0.5, lost):
            return piece, torch.arange(count)
    return exact.clone(), torch.arange(1)


def _factors(weight: Tensor, rank: object, *, channels_last: bool) -> Factors:
    exact = checked(weight, ndim=2)
    found = _chosen(exact, as_rank_rule(rank), channels_last)
    if found is None:
        return exact, torch.zeros((), dtype=torch.float64).expand(exact.shape), torch.arange(1)
    known = dict(zip(found.labels, found.mixes, strict=True))
    none = torch.zeros((), dtype=torch.float64).expand(found.mixes.shape[1:])
    (group,) = found.layout.groups
    return known.get(((0, 0),), none), known.get(((0, 1),), none), torch.arange(group.n)


def _chosen(weight: Tensor, rule: RankRule, channels_last: bool) -> Found | None:
    rows, columns = weight.shape
    counts = [n for n in divisors(math.gcd(rows, columns) or 1) if n > 1]
    layouts = [Layout((Axes(n, 1, 1),), rows, columns, channels_last) for n in counts]
    return first_found(weight, layouts, rule)


DECLARED = (
    Decomposition(
        name="exchangeable",
        params=("W", "rank"),
        results=3,
        function=exchangeable,
        promise_text="W[(i, k), (j, l)] ≈ δ[i, j] · A[k, l] + C[k, l]",
        promise=exchangeable_product,
        forms=forms("[M, N] -> [p, q], [p, q], [i]"),
        source="Zaheer et al., 2017 (Deep Sets)",
        doc="A layer on items, the channels of each side by side, that treats all items alike.",
        roles=("dense", "dense", "permutation"),
    ),
    Decomposition(
        name="exchangeable_planes",
        params=("W", "rank"),
        results=3,
        function=exchangeable_planes,
        promise_text="W[(k, i), (l, j)] ≈ δ[i, j] · A[k, l] + C[k, l]",
        promise=exchangeable_planes_product,
        forms=forms("[M, N] -> [p, q], [p, q], [i]"),
        source="Zaheer et al., 2017 (Deep Sets)",
        doc="A layer on items, all items of each channel side by side, that treats all items alike.",
        roles=("dense", "dense", "permutation"),
    ),
    Decomposition(
        name="repeated",
        params=("b", "items", "rank"),
        results=2,
        function=repeated,
        promise_text="b[(i, k)] ≈ c[k]",
        promise=lambda c, items: c.repeat(len(items)),
        forms=forms("[M] -> [p], [i]"),
        moments=forms("[M] -> [T]"),
        source="Zaheer et al., 2017 (Deep Sets)",
        doc="A bias of equal pieces, one for each item.",
        roles=("dense", "permutation"),
    ),
    Decomposition(
        name="interleaved",
        params=("b", "items", "rank"),
        results=2,
        function=interleaved,
        promise_text="b[(k, i)] ≈ c[k]",
        promise=lambda c, items: c.repeat_interleave(len(items)),
        forms=forms("[M] -> [p], [i]"),
        moments=forms("[M] -> [T]"),
        source="Zaheer et al., 2017 (Deep Sets)",
        doc="A bias of equal numbers for all items of a channel.",
        roles=("dense", "permutation"),
    ),
)
