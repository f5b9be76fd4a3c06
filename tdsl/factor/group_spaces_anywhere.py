"""A dense layer whose rows and columns a finite group permutes in an order that nobody knows.

The order is read off the weight (`tdsl.symmetry.finite.orders`); what is left is a weight of `group_spaces`.
A row or a column that few elements move, or none, stands at several places of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.group_places import has_no_group
from tdsl.factor.group_spaces import DECLARED as IN_ORDER
from tdsl.factor.group_spaces import group_spaces, group_spaces_product
from tdsl.factor.matrix import checked
from tdsl.factor.memo import memoised
from tdsl.factor.rank import RankRule, as_rank_rule
from tdsl.symmetry.finite.orders import find_orders, unlifted

Factors = tuple[Tensor, ...]


def group_spaces_anywhere(weight: Tensor, rank: object) -> Factors:
    """The projection onto what commutes with a group that permutes rows and columns, whatever their order.

    [m, n] → columns [w], the eight factors of `group_spaces` for a weight [a·p, w], rows [m]: the column that
    stands at each place and channel, and the place and channel at which each row stands. Where no order is
    found these are the rows and columns as they are. Raises `TdslError` for a weight that is not finite.
    """
    return _found(checked(weight, ndim=2), as_rank_rule(rank))


@memoised
def _found(weight: Tensor, rule: RankRule) -> Factors:
    orders = None if has_no_group(weight, rule) else find_orders(weight[..., None])
    if orders is None:
        rows, columns = (torch.arange(size) for size in weight.shape)
        return columns, *group_spaces(weight, rule), rows
    placed = orders.lifted(weight[..., None])[..., 0]
    return orders.columns.flatten(), *group_spaces(placed, rule), orders.places


def group_spaces_anywhere_product(columns: Tensor, *factors: Tensor) -> Tensor:
    """The matrix of ten factors, as `group_spaces_anywhere` returns them. → [m, n]"""
    *spaces, rows = factors
    return unlifted(group_spaces_product(*spaces)[..., None], columns, rows)[..., 0]


DECLARED = (
    Decomposition(
        name="group_spaces_anywhere",
        params=("W", "rank"),
        results=10,
        function=group_spaces_anywhere,
        promise_text="W[i, j] ≈ the weight of `group_spaces` where row i stands,"
        " over all places at which column j stands",
        promise=group_spaces_anywhere_product,
        forms=forms("[M, N] -> [w], [s, b], [s, 2], [f, q, p], [f, 2], [a, z], [y, 2], [g, q, p], [c], [M]"),
        roles=("labels", *IN_ORDER[0].roles, "labels"),
        source=IN_ORDER[0].source,
        doc="A weight that commutes with a finite group as products by irreducible spaces, in any order.",
    ),
)
