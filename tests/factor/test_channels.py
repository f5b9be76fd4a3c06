"""Channels between convolutions: those that repeat others go first, and the kernel makes up for them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.channels import (
    channels_product,
    interpolative_channels,
    interpolative_channels_weighted,
)
from tdsl.factor.rank import Error


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


KERNEL = gaussian(5, 8, 3, 3)
GRADIENTS = torch.diag(0.1 ** torch.arange(5, dtype=torch.float64))


def images(independent: int, noise: float = 0.0) -> Tensor:
    """Eight channels, mixed from that many."""
    plain = gaussian(30, independent, 12, 12, seed=1)
    mixed = torch.einsum("zs,bshw->bzhw", gaussian(8, independent, seed=2), plain)
    return mixed + noise * gaussian(*mixed.shape, seed=3)


def moment(values: Tensor) -> Tensor:
    windows = F.unfold(values, 3).transpose(1, 2).reshape(-1, 72)
    return windows.T @ windows / len(windows)


def lost(values: Tensor, reading: Tensor, selection: Tensor, outputs: Tensor | None = None) -> float:
    missed = F.conv2d(values, KERNEL - channels_product(reading, selection))
    expected = F.conv2d(values, KERNEL)
    if outputs is not None:
        missed, expected = (torch.einsum("tu,buhw->bthw", outputs.sqrt(), v) for v in (missed, expected))
    return float(missed.norm() / expected.norm())


def test_as_many_channels_as_are_independent_are_enough() -> None:
    values = images(5)
    reading, selection = interpolative_channels(KERNEL, moment(values), Error(1e-4))
    assert reading.shape == (5, 5, 3, 3) and selection.shape == (5, 8)
    assert selection.sum() == 5 and set(selection.unique().tolist()) == {0.0, 1.0}
    assert lost(values, reading, selection) < 1e-4
    # what stays reads the channels as they are, and replaces the others
    kept = torch.einsum("rs,bshw->brhw", selection, values)
    assert float((F.conv2d(kept, reading) - F.conv2d(values, KERNEL)).norm()) < 1e-3
    fewer = interpolative_channels(KERNEL, moment(values), 4)
    assert lost(values, *fewer) > 0.05


def test_all_channels_are_exact() -> None:
    reading, selection = interpolative_channels(KERNEL, moment(images(8)), 8)
    assert torch.equal(selection, torch.eye(8, dtype=torch.float64))
    assert float((reading - KERNEL).norm() / KERNEL.norm()) < 1e-12


def test_other_images_lose_less_than_without_correction() -> None:
    values = images(5, noise=0.2)
    reading, selection = interpolative_channels(KERNEL, moment(values), 6)
    other = images(5, noise=0.2).flip(0).roll(3, 2)
    dropped = torch.einsum("tshw,rs->trhw", KERNEL, selection)
    assert lost(other, reading, selection) < 0.7 * lost(other, dropped, selection)


def test_gradients_choose_for_the_outputs_that_count() -> None:
    values = gaussian(30, 8, 12, 12, seed=5)
    plain = interpolative_channels(KERNEL, moment(values), 4)
    weighted = interpolative_channels_weighted(KERNEL, moment(values), GRADIENTS, 4)
    assert lost(values, *weighted, GRADIENTS) < lost(values, *plain, GRADIENTS)
    assert lost(values, *weighted) > lost(values, *plain)


def test_a_moment_of_another_size_is_refused() -> None:
    with pytest.raises(TdslError, match="72 units"):
        interpolative_channels(KERNEL, torch.eye(8).double(), 4)
