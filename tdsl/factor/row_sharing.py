"""A table whose rows share fewer rows: which one each of them takes, and those as the means of their groups.

For given groups the means are the rows of least squared error. Groups are found by turns (Lloyd, 1982), each
start the row that is furthest from the rows already there, so that nothing is drawn. Rows are float64, places
int64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked
from tdsl.factor.memo import memoised
from tdsl.factor.rank import RankRule, UnreachableRankError, as_rank_rule
from tdsl.factor.splits import enough

TURNS = 30
"""Most turns of assigning rows and averaging them."""
SETTLED = 1e-6
"""They end when one turn lowers the squared error by less than this share."""


def row_sharing(table: Tensor, counts: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """The rows that are stored, and for each row of a table the place of the one that stands for it.

    [v, d], how much each row counts [v] → rows [r, d], places [v] below r. `rank` is anything `as_rank_rule`
    takes: a number of rows, a ratio of those that there are, or, where it bounds the error, the fewest of
    1, 2, 4, …, and all distinct rows, that keep it. Raises `TdslError` for a table that is no finite matrix
    and counts that do not fit it, `UnreachableRankError` for more rows than there are.
    """
    exact, rule = checked(table, ndim=2), as_rank_rule(rank)
    weights = checked(counts, ndim=1).clamp_min(0)
    if len(weights) != len(exact):
        raise TdslError(
            f"{len(weights)} counts for a table of {len(exact)} rows", expected="one count for each row"
        )
    return _shared(exact, weights, rule)


def shared_rows(rows: Tensor, places: Tensor) -> Tensor:
    """The table. [r, d], [v] → [v, d]."""
    return rows[places]


@memoised
def _shared(table: Tensor, weights: Tensor, rule: RankRule) -> tuple[Tensor, Tensor]:
    distinct, places = torch.unique(table, dim=0, return_inverse=True)
    totals = torch.zeros(len(distinct), dtype=torch.float64).index_add(0, places, weights)
    if not rule.spectral:
        wanted = rule.select(torch.ones(len(table), dtype=torch.float64), len(table))
        if wanted > len(table):
            raise UnreachableRankError(f"{wanted} rows of a table of {len(table)}")
        rows, groups = _grouped(distinct, totals, min(wanted, len(distinct)))
        return rows, groups[places]
    whole = float((totals[:, None] * distinct.square()).sum()) ** 0.5
    count = 1
    while count < len(distinct):
        rows, groups = _grouped(distinct, totals, count)
        lost = _lost(distinct, totals, rows, groups) ** 0.5
        kept = max(0.0, whole**2 - lost**2) ** 0.5
        if enough(rule, kept, lost):
            return rows, groups[places]
        count *= 2
    return distinct, places


def _grouped(table: Tensor, weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """So many means [count, d] of rows that are near one another, and which of them is each row's [v]."""
    if count >= len(table):
        return table, torch.arange(len(table))
    rows = _starts(table, weights, count)
    before = float("inf")
    groups = torch.zeros(len(table), dtype=torch.int64)
    for _ in range(TURNS):
        groups = _nearest(table, rows)
        totals = torch.zeros(count, dtype=torch.float64).index_add(0, groups, weights)
        sums = torch.zeros_like(rows).index_add(0, groups, weights[:, None] * table)
        rows = torch.where(totals[:, None] > 0, sums / totals.clamp_min(1e-300)[:, None], rows)
        now = _lost(table, weights, rows, groups)
        if before - now <= SETTLED * now:
            break
        before = now
    return rows, groups


def _starts(table: Tensor, weights: Tensor, count: int) -> Tensor:
    """Rows far from one another, weighted (Gonzalez, 1985): the heaviest one, then where most is lost."""
    chosen = [int((weights * table.square().sum(1)).argmax())]
    lost = (table - table[chosen[0]]).square().sum(1)
    for _ in range(count - 1):
        chosen.append(int((weights.clamp_min(1e-12 * float(weights.max())) * lost).argmax()))
        lost = torch.minimum(lost, (table - table[chosen[-1]]).square().sum(1))
    return table[chosen].clone()


def _nearest(table: Tensor, rows: Tensor) -> Tensor:
    """For each row of the table the nearest of `rows`."""
    return (rows.square().sum(1) - 2 * table @ rows.T).argmin(1)


def _lost(table: Tensor, weights: Tensor, rows: Tensor, groups: Tensor) -> float:
    return float((weights[:, None] * (table - rows[groups]).square()).sum())


def _squared(difference: Tensor, counts: Tensor) -> float:
    return float((counts.clamp_min(0)[:, None] * difference.square()).sum())


DECLARED = (
    Decomposition(
        name="row_sharing",
        params=("E", "counts", "rank"),
        results=2,
        function=row_sharing,
        promise_text="E ≈ rows[places]",
        promise=shared_rows,
        roles=("dense", "labels"),
        forms=forms("[M, N] -> [r, N], [M]"),
        moments=forms("[M, N] -> [M]"),
        metric=_squared,
        source="Coleman et al., 2023; by turns Lloyd, 1982",
        doc="Fewer rows of a table, and which of them stands for each; rows that are read often count.",
    ),
)
