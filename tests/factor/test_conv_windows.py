"""Kernels truncated in the moments of windows lose less on images than those that see channels alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.conv import spatial_product, tucker2_product
from tdsl.factor.conv_data import two_sided_spatial, two_sided_tucker2
from tdsl.factor.conv_windows import (
    dependence,
    window_core_error,
    window_error,
    windowed_spatial,
    windowed_tucker2,
)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


KERNEL = gaussian(8, 6, 3, 3)
MIXING, GRADIENTS = gaussian(6, 6, seed=1), torch.diag(0.5 ** torch.arange(8, dtype=torch.float64))


def images(seed: int) -> Tensor:
    """Images whose neighbours depend on each other, across far more than along."""
    blurred = F.conv2d(gaussian(120, 1, 18, 24, seed=seed), torch.ones(1, 1, 2, 6, dtype=torch.float64) / 4)
    return torch.einsum("sz,bzhw->bshw", MIXING, blurred.reshape(20, 6, *blurred.shape[2:]))


def moments(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the channels [S, S], of columns [S, 3, S, 3] and of rows of windows."""
    rows = values.movedim(1, -1).reshape(-1, 6)
    lines = [F.unfold(values, size).transpose(1, 2).reshape(-1, 18) for size in ((3, 1), (1, 3))]
    columns, across = ((x.T @ x / len(x)).reshape(6, 3, 6, 3) for x in lines)
    return rows.T @ rows / len(rows), columns, across


FORMS = {
    "spatial": (windowed_spatial, two_sided_spatial, spatial_product, window_error, (18,)),
    "tucker2": (windowed_tucker2, two_sided_tucker2, tucker2_product, window_core_error, (8, 6)),
}


@pytest.mark.parametrize("form", FORMS)
def test_less_is_lost_on_other_images_than_by_the_moment_of_channels(form: str) -> None:
    windowed, by_channels, product, _, _ = FORMS[form]
    channels, columns, rows = moments(images(2))
    other = images(3)

    def lost(factors: tuple[Tensor, ...]) -> float:
        missed = F.conv2d(other, KERNEL - product(*factors))
        return float((torch.einsum("tu,buhw->bthw", GRADIENTS, missed) * missed).sum())

    for rank in (2, 4):
        knowing = lost(windowed(KERNEL, columns, rows, GRADIENTS, rank))
        assert knowing < 0.9 * lost(by_channels(KERNEL, channels, GRADIENTS, rank))


@pytest.mark.parametrize("form", FORMS)
def test_full_rank_is_exact(form: str) -> None:
    windowed, _, product, _, full = FORMS[form]
    _, columns, rows = moments(images(2))
    rebuilt = product(*windowed(KERNEL, columns, rows, GRADIENTS, *full))
    assert float((rebuilt - KERNEL).norm() / KERNEL.norm()) < 1e-7
    few = product(*windowed(KERNEL, columns, rows, GRADIENTS, 2))
    assert float((few - KERNEL).norm() / KERNEL.norm()) > 0.1


def test_independent_positions_leave_the_decompositions_of_channels() -> None:
    second = MIXING @ MIXING.T
    alone = torch.einsum("st,ab->satb", second, torch.eye(3, dtype=torch.float64))
    for windowed, by_channels, product, _, _ in FORMS.values():
        knowing = product(*windowed(KERNEL, alone, alone, GRADIENTS, 3))
        plain = product(*by_channels(KERNEL, second, GRADIENTS, 3))
        assert float((knowing - plain).norm() / plain.norm()) < 1e-6


@pytest.mark.parametrize("form", FORMS)
def test_no_neighbour_of_the_factors_loses_less(form: str) -> None:
    """They are a minimum of what they say they minimise; other factors nearby are not."""
    windowed, _, product, error, _ = FORMS[form]
    _, columns, rows = moments(images(2))
    factors = windowed(KERNEL, columns, rows, GRADIENTS, 3)

    def lost(factors: tuple[Tensor, ...]) -> float:
        return error(KERNEL - product(*factors), columns, rows, GRADIENTS)

    least = lost(factors)
    for seed in range(6):
        moved = tuple(f + 0.02 * f.std() * gaussian(*f.shape, seed=seed) for f in factors)
        assert lost(moved) > least


def test_dependence_of_a_product_is_its_factor() -> None:
    between = torch.tensor([[1.0, 0.5, 0.2], [0.5, 1.0, 0.5], [0.2, 0.5, 1.0]], dtype=torch.float64)
    second = MIXING @ MIXING.T
    found = dependence(torch.einsum("st,ab->satb", second, between), second, 3)
    assert float((found / found[0, 0] - between).abs().max()) < 1e-9


@pytest.mark.parametrize("windowed", [windowed_spatial, windowed_tucker2])
def test_moments_of_other_sizes_are_refused(windowed: Callable[..., object]) -> None:
    _, columns, rows = moments(images(2))
    with pytest.raises(TdslError, match="6 channels in lines of 3"):
        windowed(KERNEL, columns, rows[:, :2, :, :2], GRADIENTS, 2)
    with pytest.raises(TdslError, match="8 output channels"):
        windowed(KERNEL, columns, rows, torch.eye(6).double(), 2)
    with pytest.raises(TdslError, match="kernel of shape"):
        windowed(gaussian(8, 6, 3, 3, 3), columns, rows, GRADIENTS, 2)
