"""Fewer hidden units, the outputs of the others expressed by those that stay.

A weight B [m, h] reads h hidden units with second moment H. Some of them are selected, and B·z is replaced by
R·(selected z) with the R of least mean squared error: unlike a truncated product, nothing is added to the
network, it becomes narrower. Units go one after the other, or in blocks (heads).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked
from tdsl.factor.memo import memoised
from tdsl.factor.moment import (
    DAMPING,
    checked_moment,
    cholesky_in_place,
    input_error,
    new_root,
    root_of,
    two_sided_error,
)
from tdsl.factor.rank import as_rank_rule, select_by_gains
from tdsl.memory import forget_packed

_ROUNDING = 1e-11
"""Share of the mean second moment that counts as none: a unit this well expressed by others is redundant."""


_ROWS = 128
"""Rows that are moved or mirrored at once."""
PENDING = 64
"""Eliminations that are carried out together."""


class Elimination(NamedTuple):
    """An order of the blocks of units, most needed first; every number of them is a prefix."""

    order: Tensor
    """Blocks by position, [h / size]."""
    factor: Tensor
    """The Cholesky factor of the second moment in that order of units, [h, h]."""
    gains: Tensor
    """What each block takes off the squared error when it joins those before it, [h / size]."""


def interpolative(weight: Tensor, moment: Tensor, rank: object, size: int = 1) -> tuple[Tensor, Tensor]:
    """The units to keep and the weight that makes up for the others (Chee et al., 2022).

    B [m, h], H [h, h] the second moment of the units → R [m, k], P [k, h] with B ≈ R·P: P selects k units,
    R = B·H·Pᵀ·(P·H·Pᵀ)⁻¹ is the weight of least squared error tr(ΔHΔᵀ) on them, B itself where k = h. Units
    are eliminated one by one, always the one that is missed least once the others have made up for it
    (optimal brain surgery: Hassibi & Stork, 1993), so that the units of a smaller k are among those of a
    larger one, and all numbers of units cost one elimination. With `size` they go in blocks of neighbours.
    `rank` counts blocks: a number, a share of them all, or the fewest within an `error` in this metric.
    Raises `TdslError` for a weight that is not a finite matrix, a moment of another number of units, a
    `size` that does not divide them, and for a rank beyond their number.
    """
    exact = checked(weight, ndim=2)
    return _selected(exact, eliminate(weight, moment, size), rank, size)


def interpolative_weighted(
    weight: Tensor, moment: Tensor, gradients: Tensor, rank: object, size: int = 1
) -> tuple[Tensor, Tensor]:
    """As `interpolative`, with outputs weighted by the second moment G [m, m] of their gradients.

    B [m, h], H [h, h] → R [m, k], P [k, h]; units are chosen in tr(GΔHΔᵀ), whose best R is the same.
    """
    exact = checked(weight, ndim=2)
    return _selected(exact, _weighted(weight, moment, gradients, size), rank, size)


@memoised
def _weighted(weight: Tensor, moment: Tensor, gradients: Tensor, size: int) -> Elimination:
    """`eliminate` with outputs weighted by their gradients, remembered by what is given."""
    exact = checked(weight, ndim=2)
    return _eliminated(root_of(gradients, len(exact), "outputs").T @ exact, moment, size)


@memoised
def eliminate(weight: Tensor, moment: Tensor, size: int) -> Elimination:
    """Blocks of `size` units in the order in which they are needed, remembered. [m, h], [h, h]."""
    return _eliminated(weight, moment, size)


def _eliminated(weight: Tensor, moment: Tensor, size: int) -> Elimination:
    exact = checked(weight, ndim=2)
    units = exact.shape[1]
    if not isinstance(size, int) or isinstance(size, bool) or size < 1 or units % size:
        raise TdslError(f"blocks of {size!r} units of {units}", expected=f"a number that divides {units}")
    second = _product(new_root(checked_moment(moment, units, "units"), _ROUNDING))
    order = _order(exact, second, size)
    inside = (order[:, None] * size + torch.arange(size)).reshape(-1)
    redundant = 4 * _ROUNDING * second.diagonal().mean() * exact.square().sum() if units else exact.sum()
    second = second[inside[:, None], inside]  # in place of the one in the order of the weight, which is large
    factor = new_root(second, _ROUNDING)
    del second
    gains = (exact[:, inside] @ factor).square().sum(0)
    return Elimination(order, factor, gains.where(gains > redundant, 0.0).reshape(-1, size).sum(1))


def _product(known: Tensor) -> Tensor:
    """K·Kᵀ, symmetric to the last bit."""
    found = known @ known.T
    forget_packed()
    if torch.equal(found, found.T):
        return found
    for first in range(0, len(found), _ROWS):  # not all at once: it can be as large as a model
        rows, columns = found[first : first + _ROWS, first:], found[first:, first : first + _ROWS]
        mean = (rows + columns.T).div_(2)
        rows.copy_(mean)
        columns.copy_(mean.T)
    return found


def _order(weight: Tensor, second: Tensor, size: int) -> Tensor:
    """Backward elimination: the blocks, the one eliminated last first. [m, h], [h, h] → [h / size].

    `blame` [h, m] holds the regression on the units alive, `inverse` their inverse moment. Without block b
    the squared error grows by tr(blame_bᵀ · inverse_bb⁻¹ · blame_b). What an elimination changes is of the
    rank of a block; it is kept as a product until there are `PENDING` of them, and `blame · blameᵀ` is
    followed on its blocks alone, so that a step reads each number once and writes few.
    """
    if weight.shape[0] > len(second):
        weight = torch.linalg.qr(weight).R
    damped = second.clone()
    damped.diagonal().add_(DAMPING * second.diagonal().mean())
    factor = cholesky_in_place(damped)
    assert factor is not None  # a product of a matrix with itself, and more than its rounding
    inverse = torch.cholesky_inverse(factor, out=factor).T
    del damped, factor
    forget_packed()
    state = _Alive(inverse, weight.T.contiguous(), size)
    del inverse
    blocks = torch.arange(len(second) // size)
    gone: list[Tensor] = []
    while len(blocks):
        steps = min(PENDING, len(blocks))
        removed = torch.tensor([state.eliminate() for _ in range(steps)])
        gone.append(blocks[removed])
        alive = torch.ones(len(blocks), dtype=torch.bool)
        alive[removed] = False
        blocks = blocks[alive]
        state = state.compacted(alive)
    return torch.cat(gone).flip(0) if gone else blocks


class _Alive:
    """The blocks that are not eliminated yet, and eliminations that are not carried out yet."""

    def __init__(self, inverse: Tensor, blame: Tensor, size: int) -> None:
        self.inverse, self.blame, self.size = inverse, blame, size
        self.count = len(inverse) // size
        self.alive = torch.ones(self.count, dtype=torch.bool)
        self._columns = torch.empty(len(inverse), PENDING * size, dtype=torch.float64)
        self._rows = torch.empty(PENDING * size, blame.shape[1], dtype=torch.float64)
        self._pending = 0
        parts = blame.reshape(self.count, size, blame.shape[1])
        self.own = self._diagonal(inverse).clone()
        self.squares = parts @ parts.mT

    @property
    def columns(self) -> Tensor:
        """[h, pending]"""
        return self._columns[:, : self._pending]

    @property
    def rows(self) -> Tensor:
        """[pending, m]"""
        return self._rows[: self._pending]

    def _diagonal(self, matrix: Tensor) -> Tensor:
        """The blocks on the diagonal. [h, h] → [h / size, size, size]."""
        cut = matrix.reshape(self.count, self.size, self.count, self.size)
        return cut.diagonal(dim1=0, dim2=2).permute(2, 0, 1)

    def _times(self, a: Tensor, b: Tensor) -> Tensor:
        """The product of each two blocks; many products of single numbers are one of vectors."""
        return a * b if self.size == 1 else a @ b

    def eliminate(self) -> int:
        """Eliminate the block that is missed least; its position."""
        shares = self.squares / self.own if self.size == 1 else torch.linalg.solve(self.own, self.squares)
        costs = shares.diagonal(dim1=1, dim2=2).sum(1)
        worst = int(costs.where(self.alive, torch.inf).argmin())
        block = slice(worst * self.size, (worst + 1) * self.size)
        pivot = torch.linalg.cholesky(self.own[worst])
        column = self.inverse[:, block] - self.columns @ self.columns[block].T
        column = torch.linalg.solve_triangular(pivot, column.T, upper=False).T
        own_blame = self.blame[block] - self.columns[block] @ self.rows
        row = torch.linalg.solve_triangular(pivot, own_blame, upper=False)
        shared = self.blame @ row.T - self.columns @ (self.rows @ row.T)
        parts, common = (m.reshape(self.count, self.size, self.size) for m in (column, shared))
        crossed = self._times(common, parts.mT)
        self.squares += self._times(self._times(parts, row @ row.T), parts.mT) - crossed - crossed.mT
        self.own -= self._times(parts, parts.mT)
        self.alive[worst] = False
        self.own[worst] = torch.eye(self.size, dtype=torch.float64)
        pending = slice(self._pending, self._pending + self.size)
        self._columns[:, pending], self._rows[pending] = column, row
        self._pending += self.size
        return worst

    def compacted(self, alive: Tensor) -> _Alive:
        """What is left, the pending eliminations carried out."""
        units = alive.repeat_interleave(self.size).nonzero()[:, 0]
        columns = self.columns[units]
        inverse = _kept_in_place(self.inverse, units).addmm_(columns, columns.T, alpha=-1)
        blame = self.blame[units].addmm_(columns, self.rows, alpha=-1)
        return _Alive(inverse, blame, self.size)


def _kept_in_place(matrix: Tensor, places: Tensor) -> Tensor:
    """Some rows and columns of a matrix, ascending, at the beginning of its memory. [n, n], [k] → [k, k].

    Row i of them ends no later than the row that it was, so that nothing is lost which is still to be read.
    """
    memory, kept = matrix.view(-1), len(places)
    for first in range(0, kept, _ROWS):
        some = places[first : first + _ROWS]
        memory[first * kept : (first + len(some)) * kept] = matrix[some[:, None], places].reshape(-1)
    return memory[: kept * kept].reshape(kept, kept)


def _selected(weight: Tensor, found: Elimination, rank: object, size: int) -> tuple[Tensor, Tensor]:
    """R and P for as many blocks as `rank` says; the units keep their order."""
    blocks = len(found.order)
    kept = select_by_gains(as_rank_rule(rank), found.gains, limit=blocks) * size
    inside = (found.order[:, None] * size + torch.arange(size)).reshape(-1)
    ahead, behind = inside[:kept], inside[kept:]
    # Triangular: the units left out, as combinations of those that stay.
    made_up = torch.linalg.solve_triangular(
        found.factor[:kept, :kept], found.factor[kept:, :kept], upper=False, left=False
    )
    reading = weight[:, ahead] + weight[:, behind] @ made_up
    ascending = ahead.argsort()
    selection = torch.zeros(kept, weight.shape[1], dtype=torch.float64)
    selection[torch.arange(kept), ahead[ascending]] = 1.0
    return reading[:, ascending], selection


DECLARED = (
    Decomposition(
        name="interpolative",
        params=("B", "H", "rank", "size?"),
        results=2,
        function=interpolative,
        promise_text="B ≈ R @ P",
        promise=lambda R, P: R @ P,  # noqa: N803
        roles=("dense", "selection"),
        forms=forms("[m, n] -> [m, r], [r, n]"),
        moments=forms("[m, n] -> [n, n]"),
        metric=input_error,
        source="Chee et al., 2022; of heads Flynn et al., 2024; the elimination Hassibi & Stork, 1993",
        doc="Selects hidden units, or blocks of `size`, and the weight that makes up for the others.",
    ),
    Decomposition(
        name="interpolative_weighted",
        params=("B", "H", "G", "rank", "size?"),
        results=2,
        function=interpolative_weighted,
        promise_text="B ≈ R @ P",
        promise=lambda R, P: R @ P,  # noqa: N803
        roles=("dense", "selection"),
        forms=forms("[m, n] -> [m, r], [r, n]"),
        moments=forms("[m, n] -> [n, n], [m, m]"),
        metric=two_sided_error,
        source="Chee et al., 2022; of heads Flynn et al., 2024; the elimination Hassibi & Stork, 1993",
        doc="As `interpolative`, with outputs weighted by the moment of their gradients G.",
    ),
)
