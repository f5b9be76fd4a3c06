"""Σᵢ ⟨W − Wᵢ, Cᵢ(W − Wᵢ)⟩ for one weight, and the W where it is least.

The minimiser solves (Σᵢ Cᵢ) W = Σᵢ Cᵢ Wᵢ, the system of MaTS (Tam, Bansal, Raffel, "Merging by matching
models in task parameter subspaces", 2023): Cᵢ = I gives the average, a diagonal one Fisher merging (Matena &
Raffel, 2022), the Gram matrix of a layer's inputs RegMean (Jin et al., 2022). Everything is float64 and
counted from the average of the weights, so that weights which are equal leave no rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Form:
    """One symmetric map of matrices, positive or zero: D ↦ `left`·D·`right`, or entry by entry.

    `left` is [m, m] or absent, `right` [n, n] or absent; `entries`, numbers that are at least 0, is of a
    shape that spreads over [m, n].
    """

    left: Tensor | None = None
    right: Tensor | None = None
    entries: Tensor | None = None

    def __call__(self, matrix: Tensor) -> Tensor:
        """C(D). [m, n] → [m, n]."""
        found = matrix if self.entries is None else self.entries * matrix
        if self.right is not None:
            found = found @ self.right
        return found if self.left is None else self.left @ found

    @property
    def diagonal(self) -> Tensor:
        """What each entry of D is multiplied with in its own place; spreads over [m, n]."""
        found = torch.ones((), dtype=torch.float64) if self.entries is None else self.entries
        if self.right is not None:
            found = found * self.right.diagonal()
        return found if self.left is None else found * self.left.diagonal()[:, None]


def damped(moment: Tensor, damping: float) -> Tensor:
    """A moment with `damping` times the mean of its diagonal added there. [n, n] → [n, n]."""
    found = moment.clone()
    found.diagonal().add_(damping * float(moment.diagonal().mean()))
    return found


@dataclass(frozen=True, slots=True)
class Solution:
    """The weight that was found, less the average, and how well it solves the system."""

    difference: Tensor
    steps: int
    """Of the conjugate gradient method; 0 where the solution is known in closed form."""
    residual: float
    """‖Σ Cᵢ(Wᵢ − W)‖ relative to what it is at the average."""


@dataclass(slots=True)
class Objective:
    """The sum over the models added so far; forms without a left factor are added up, however many."""

    rows: int
    columns: int
    entries: Tensor | None = None
    right: Tensor | None = None
    products: list[Form] = field(default_factory=list)
    """Forms with a left factor: their sums have no shorter form."""
    target: Tensor = field(init=False)
    """Σᵢ Cᵢ Dᵢ, where Dᵢ is what weight i is more than the average."""
    constant: float = 0.0
    """Σᵢ ⟨Dᵢ, Cᵢ Dᵢ⟩: the objective at the average."""

    def __post_init__(self) -> None:
        self.target = torch.zeros(self.shape, dtype=torch.float64)

    @property
    def shape(self) -> tuple[int, int]:
        """That of the weight."""
        return self.rows, self.columns

    def add(self, form: Form, difference: Tensor) -> None:
        """A model whose weight is the average and `difference` [m, n]."""
        image = form(difference)
        self.target += image
        self.constant += float((difference * image).sum())
        if form.left is not None or (form.right is not None and form.entries is not None):
            self.products.append(form)
        elif form.right is not None:
            self.right = form.right if self.right is None else self.right + form.right
        else:
            entries = torch.ones(1, 1, dtype=torch.float64) if form.entries is None else form.entries
            self.entries = entries if self.entries is None else self.entries + entries

    @property
    def forms(self) -> list[Form]:
        """The maps whose sum is Σᵢ Cᵢ."""
        found = list(self.products)
        if self.right is not None:
            found.append(Form(right=self.right))
        if self.entries is not None:
            found.append(Form(entries=self.entries))
        return found

    def __call__(self, difference: Tensor) -> float:
        """The objective at the average and `difference` [m, n]."""
        image = self._image(difference)
        return float((difference * image).sum() - 2 * (difference * self.target).sum()) + self.constant

    def least(self, steps: int, tolerance: float) -> Solution:
        """Where the objective is least: entry by entry, or by conjugate gradients from the average.

        After so many `steps`, or at a relative residual of `tolerance`, these end; directions in which no
        model has anything stay as they are on average.
        """
        size = float(self.target.norm())
        if not size:
            return Solution(torch.zeros(self.shape, dtype=torch.float64), 0, 0.0)
        if self.products or self.right is not None:
            difference, taken = self._conjugate_gradients(steps, tolerance)
        else:
            assert self.entries is not None
            entries = self.entries.expand(self.shape)
            difference, taken = _divided(self.target, entries), 0
        residual = float((self.target - self._image(difference)).norm()) / size
        return Solution(difference, taken, residual)

    def _image(self, matrix: Tensor) -> Tensor:
        found = torch.zeros(self.shape, dtype=torch.float64)
        for form in self.forms:
            found += form(matrix)
        return found

    def _near_inverse(self) -> Callable[[Tensor], Tensor]:
        """A map near the inverse of Σᵢ Cᵢ.

        That of one right factor is the inverse itself; of products it is that of the product of their summed
        factors; otherwise, and where those are singular, each entry is divided by its own part (Jacobi).
        """
        forms = self.forms
        if all(form.entries is None for form in forms):
            right = _factor([form.right for form in forms])
            left = _factor([form.left for form in forms]) if self.products else None
            if right is not None and (left is not None or not self.products):
                return lambda matrix: _solved(left, _solved(right, matrix.T).T)
        diagonal = torch.zeros(self.shape, dtype=torch.float64)
        for form in forms:
            diagonal += form.diagonal
        return lambda matrix: _divided(matrix, diagonal)

    def _conjugate_gradients(self, steps: int, tolerance: float) -> tuple[Tensor, int]:
        """Hestenes & Stiefel, 1952, as in scipy, preconditioned."""
        from scipy.sparse.linalg import LinearOperator, cg

        count = self.rows * self.columns
        nearly = self._near_inverse()

        def operator(function: object) -> LinearOperator:
            return LinearOperator((count, count), matvec=function, dtype=np.float64)

        def image(flat: np.ndarray[tuple[int], np.dtype[np.float64]]) -> object:
            return self._image(torch.from_numpy(flat).reshape(self.shape)).numpy().ravel()

        def scaled(flat: np.ndarray[tuple[int], np.dtype[np.float64]]) -> object:
            return nearly(torch.from_numpy(flat).reshape(self.shape)).numpy().ravel()

        taken = 0

        def count_step(_: object) -> None:
            nonlocal taken
            taken += 1

        flat, _ = cg(
            operator(image),
            self.target.numpy().ravel(),
            rtol=tolerance,
            maxiter=steps,
            M=operator(scaled),
            callback=count_step,
        )
        return torch.from_numpy(np.ascontiguousarray(flat)).reshape(self.shape), taken


def _divided(numbers: Tensor, by: Tensor) -> Tensor:
    """The quotient, 0 where the divisor is."""
    return torch.where(by > 0, numbers / by.clamp_min(torch.finfo(torch.float64).tiny), 0.0)


SINGULAR = 1e-10
"""A sum of moments is singular when a pivot is smaller than this share of the largest."""


def _factor(moments: Sequence[Tensor | None]) -> Tensor | None:
    """The Cholesky factor of a sum; `None` where that is singular or not known."""
    known = [moment for moment in moments if moment is not None]
    if len(known) < len(moments):
        return None
    factor, failed = torch.linalg.cholesky_ex(torch.stack(known).sum(0) if len(known) > 1 else known[0])
    pivots = factor.diagonal().square()
    return None if int(failed) or float(pivots.min()) < SINGULAR * float(pivots.max()) else factor


def _solved(factor: Tensor | None, matrix: Tensor) -> Tensor:
    return matrix if factor is None else torch.cholesky_solve(matrix.contiguous(), factor)
