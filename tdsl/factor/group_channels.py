"""Channels that a finite group permutes, in whatever order they stand, as few products of channels.

Many matrices on the same channels, one for each tap of a window and for each group of a convolution, commute
with one group. Its places run slowest among the channels of each matrix, or fastest, or rows and columns are
in an order of their own that is read off the numbers (`tdsl.symmetry.finite.orders`). Then a channel that few
elements move, or none, stands at several places. Everything is in float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.group_blocks import chosen_blocks
from tdsl.factor.group_places import has_no_group
from tdsl.factor.matrix import checked
from tdsl.factor.memo import memoised
from tdsl.factor.rank import RankRule, as_rank_rule
from tdsl.symmetry.finite.orders import find_orders, unlifted

Products = tuple[Tensor, Tensor, Tensor]
Factors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def group_channels(weight: Tensor, rank: object) -> Factors:
    """The projection onto what commutes with a group that permutes rows and columns, whatever their order.

    [m, n, s] → columns [w], T [r, d], S [r, p, q, s], B [a, r], rows [m]: the column that stands at each
    place and channel, w = d·q, and the place and channel, of a·p, at which each row stands. `rank` is as in
    `group_blocks`; of several orders that with the fewest numbers is taken, for a rank of 1 places that run
    slowest; where no group is found S is the weight. Raises `TdslError` for a weight that is not finite.
    """
    return _found(checked(weight, ndim=3), as_rank_rule(rank))


@memoised
def _found(weight: Tensor, rule: RankRule) -> Factors:
    ways = _ways(weight, rule)
    return min(ways, key=_numbers) if rule.spectral else next(ways)


def _ways(weight: Tensor, rule: RankRule) -> Iterator[Factors]:
    """The factors in each order, those that need no search first, and the weight itself."""
    rows, columns = (torch.arange(size) for size in weight.shape[:2])
    if has_no_group(weight.flatten(1), rule):
        yield columns, *_plain(weight), rows
        return
    slow, fast = (_products(weight, rule, channels_last) for channels_last in (True, False))
    if slow is not None:
        yield columns, *slow, rows
    if fast is not None:
        d, a = fast[0].shape[1], len(fast[2])
        yield columns.reshape(-1, d).T.flatten(), *fast, rows.reshape(a, -1).T.flatten()
    orders = find_orders(weight)
    found = None if orders is None else _products(orders.lifted(weight), rule, True)
    if orders is not None and found is not None:
        yield orders.columns.flatten(), *found, orders.places
    yield columns, *_plain(weight), rows


def _plain(weight: Tensor) -> Products:
    """The weight as one product of all channels."""
    one = torch.ones(1, 1, dtype=torch.float64)
    return one, weight[None], one


def _numbers(factors: Factors) -> int:
    """How many numbers three of the factors are."""
    return sum(factor.numel() for factor in factors[1:4])


def _products(weight: Tensor, rule: RankRule, channels_last: bool) -> Products | None:
    """T [r, d], S [r, p, q, s] and B [a, r] of matrices [m, n, s]; `None` where there is no group."""
    rows, columns, count = weight.shape
    if channels_last:
        found = chosen_blocks(weight.reshape(rows, columns * count), rule, True)
    else:
        found = chosen_blocks(weight.transpose(1, 2).reshape(rows, count * columns), rule, False)
    if found is None or columns % found[0].shape[1]:
        return None
    into, products, back = found
    r, _, p = products.shape
    if channels_last:
        return into, products.transpose(1, 2).reshape(r, p, -1, count), back
    return into, products.transpose(1, 2).reshape(r, p, count, -1).transpose(2, 3).contiguous(), back


def group_channels_product(
    columns: Tensor, into: Tensor, products: Tensor, back: Tensor, rows: Tensor
) -> Tensor:
    """The matrices of five factors, as `group_channels` returns them. → [m, n, s]"""
    whole = torch.einsum("rd,rpqs,ar->apdqs", into, products, back)
    placed = whole.reshape(len(back) * products.shape[1], -1, products.shape[3])
    return unlifted(placed, columns, rows)


DECLARED = (
    Decomposition(
        name="group_channels",
        params=("W", "rank"),
        results=5,
        function=group_channels,
        promise_text="W[i, j, s] ≈ Σ_r B[g, r] · S[r, p, q, s] · T[r, h], (g, p) where row i stands,"
        " over all (h, q) at which column j stands",
        promise=group_channels_product,
        forms=forms("[M, N, k] -> [w], [r, d], [r, p, q, k], [a, r], [M]"),
        roles=("labels", "dense", "dense", "dense", "labels"),
        source="Schur, 1905; Strassen, 1969; Alder & Strassen, 1981",
        doc="Channels in any order that a finite group permutes, as few products of channels.",
    ),
)
