"""Weights whose rows are smooth, as few columns of a cosine transform: a basis that is computed, not stored.

W ≈ (W·Qᵀ_S)·Q_S with Q the orthonormal discrete cosine transform of type 2 (Ahmed, Natarajan & Rao, 1974) and
S the frequencies that hold most (Modoranu et al., 2025, for gradients). A file holds m·r numbers and r
frequencies where two factors found for the weight take (m + n)·r; an arbitrary weight needs nearly all
columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from tdsl.factor.shared import Layer, reading, regressed

INDEX = 2
"""Numbers that a frequency takes: it is stored as 64 bits."""


@dataclass(frozen=True, slots=True)
class Cosines:
    """core [m, r] on the rows cos(π·k·(2i + 1)/2n) of the `frequencies` k [r]."""

    frequencies: Tensor
    core: Tensor
    columns: int
    """n, the width of the weight."""
    error: float
    """Relative, in the metric of the inputs."""

    @property
    def numbers(self) -> int:
        """How many numbers are stored."""
        return self.core.numel() + INDEX * len(self.frequencies)

    @property
    def macs(self) -> int:
        """Multiply–accumulates on one vector, the basis being there."""
        return self.core.numel() + len(self.frequencies) * self.columns

    def rebuilt(self) -> Tensor:
        """The weight that is computed, [m, n]."""
        return self.core @ waves(self.frequencies, self.columns)


def waves(frequencies: Tensor, size: int) -> Tensor:
    """cos(π·k·(2i + 1)/2n) for each frequency k, i below `size` = n. [r] → [r, n], float64."""
    odd = torch.arange(1, 2 * size, 2)
    return torch.cos((frequencies[:, None] * odd % (4 * size)).double() * (torch.pi / (2 * size)))


@cache
def transform(size: int) -> Tensor:
    """The orthonormal cosine transform of type 2, a frequency in each row. [n, n]."""
    from scipy.fft import dct

    return torch.from_numpy(dct(torch.eye(size, dtype=torch.float64).numpy(), axis=0, norm="ortho"))


def cosines(layer: Layer, error: float) -> Cosines:
    """The fewest frequencies with which a weight keeps a relative `error`, by what each contributes alone.

    Without moments of the inputs no other choice of as many columns is better.
    """
    size = layer.weight.shape[1]
    basis = transform(size)
    strength = (layer.weight @ basis.T).square().sum(0)
    if layer.metric is not None:
        strength = strength * (basis @ layer.metric).square().sum(1)
    order = strength.argsort(descending=True, stable=True)
    read = reading(layer, basis[order])
    lost = 1 - (layer.seen @ read.across).square().sum(0).cumsum(0)
    rank = min(size, int((lost > error**2).sum()) + 1)
    chosen = order[:rank].sort().values
    rows = waves(chosen, size)
    normed = rows / rows.norm(dim=1, keepdim=True)
    read = reading(layer, normed)
    core = layer.weight @ normed.T if read.triangle is None else regressed(layer.weight, layer, read)
    core = core / rows.norm(dim=1)
    return Cosines(chosen, core, size, layer.error(core @ rows))
