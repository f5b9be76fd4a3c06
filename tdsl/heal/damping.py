"""Normal equations solved from few data: what each direction of the features may say.

Along an eigenvector of the features' second moment whose eigenvalue is s² the least squares solution divides
by s². Where data are few, small eigenvalues are chance, and what stands over them is noise. A damping puts
another weight in place of 1/s². Ridge regression shrinks every direction, the strong ones least; the nuclear
form takes strong directions as they are and caps the others, so that a signal on few of them is not shrunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tdsl.factor.memo import memoised
from tdsl.lang.recovery import DAMPINGS as NAMES


class Damping(Protocol):
    """A weight for each direction in place of the inverse of its energy."""

    @property
    def amount(self) -> float:
        """The energy below which a direction counts as weak, as a share of the mean one."""
        ...

    def step(self, features: Tensor, wanted: Tensor) -> Tensor:
        """wanted · G⁻¹, damped. G = Σ x·xᵀ [n, n], wanted [m, n] → [m, n]."""
        ...


@dataclass(frozen=True, slots=True)
class Ridge:
    """1 / (s² + λ), λ = `amount` of the mean s² (Tikhonov, 1963): one factorization, no eigenvectors."""

    amount: float

    def step(self, features: Tensor, wanted: Tensor) -> Tensor:
        """wanted · (G + λI)⁻¹. [n, n], [m, n] → [m, n]."""
        damped = features.clone()
        damped.diagonal().add_(_level(self.amount, features))
        lower, failed = torch.linalg.cholesky_ex(damped)
        solved: Tensor = (
            torch.linalg.solve(damped, wanted.T) if int(failed) else torch.cholesky_solve(wanted.T, lower)
        )
        return solved.T


@dataclass(frozen=True, slots=True)
class Nuclear:
    """min(1/λ, 1/s²), λ = `amount` of the mean s²: strong directions whole, weak ones in proportion.

    In place of 1/s of a pseudo-inverse that is min(μ·s, 1/s), μ = 1/λ, the regularised inverse of least
    nuclear norm; without bound on μ it is the pseudo-inverse.
    """

    amount: float

    def step(self, features: Tensor, wanted: Tensor) -> Tensor:
        """wanted · G⁻¹ with the eigenvalues of G⁻¹ bounded. [n, n], [m, n] → [m, n]."""
        energies, directions = _directions(features)
        floor = max(_level(self.amount, features), torch.finfo(torch.float64).tiny)
        return (wanted @ directions / energies.clamp_min(floor)) @ directions.T


DAMPINGS: dict[str, Callable[[float], Damping]] = dict(zip(NAMES, (Ridge, Nuclear), strict=True))
"""By the names that `heal` knows."""


def _level(amount: float, features: Tensor) -> float:
    return amount * float(features.diagonal().mean())


@memoised
def _directions(features: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of a second moment, remembered: every amount and both solves want them."""
    energies, directions = torch.linalg.eigh(features)
    return energies, directions
