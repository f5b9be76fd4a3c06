"""Weights and moments for the tests of data-aware factorizations, all from fixed seeds."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moment(size: int, seed: int = 1, *, decay: float = 0.7, rank: int | None = None) -> Tensor:
    """A second moment with eigenvalues `decay`ⁱ along random directions, the first `rank` of them."""
    axes = torch.linalg.qr(gaussian(size, size, seed=seed)).Q[:, :rank]
    return axes * decay ** torch.arange(axes.shape[1], dtype=torch.float64) @ axes.T


def samples(count: int, second_moment: Tensor, seed: int = 2) -> Tensor:
    """Rows whose second moment, over many, is `second_moment`."""
    values, vectors = torch.linalg.eigh(second_moment)
    return gaussian(count, len(second_moment), seed=seed) * values.clamp_min(0).sqrt() @ vectors.T


def output_error(x: Tensor, weight: Tensor, factors: tuple[Tensor, ...]) -> float:
    """Relative error of the outputs of a layer whose weight became the product of two factors."""
    exact = x @ weight.T
    return float((exact - x @ (factors[0] @ factors[1]).T).norm() / exact.norm())
