"""What pruning takes away has a smaller spectral norm than what the smallest entries are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.pruned import spectral_mask


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trained(m: int, n: int) -> Tensor:
    """Spectrum i^-0.6."""
    size = min(m, n)
    values = torch.arange(1, size + 1, dtype=torch.float64) ** -0.6
    left, right = torch.linalg.qr(gaussian(m, size)).Q, torch.linalg.qr(gaussian(n, size, seed=1)).Q
    return (left * values) @ right.T


def largest(weight: Tensor, count: int) -> Tensor:
    places = weight.abs().flatten().topk(count).indices
    return torch.zeros(weight.numel(), dtype=torch.bool).index_fill(0, places, True).reshape(weight.shape)


def lost(weight: Tensor, mask: Tensor) -> float:
    return float(torch.linalg.matrix_norm(weight * ~mask, 2) / torch.linalg.matrix_norm(weight, 2))


@pytest.mark.parametrize("shape", [(96, 96), (128, 64), (64, 128)])
@pytest.mark.parametrize("kept", [0.4, 0.1])
def test_less_than_the_smallest_and_much_less_than_any_entries(shape, kept):
    weight = trained(*shape)
    mask = spectral_mask(weight, kept)
    count = int(mask.sum())
    assert count == round(kept * weight.numel())
    anywhere = torch.randperm(weight.numel(), generator=torch.Generator().manual_seed(2)).reshape(shape)
    assert lost(weight, mask) < 0.85 * lost(weight, largest(weight, count)) < lost(weight, anywhere < count)
    drift = (torch.linalg.svdvals(weight) - torch.linalg.svdvals(weight * mask)).abs().max()
    assert drift <= lost(weight, mask) * torch.linalg.matrix_norm(weight, 2) * (1 + 1e-12)  # Weyl


def test_a_background_of_one_sign_is_kept_rather_than_larger_noise():
    """Small entries that add up: magnitudes drop all of them, and with them a singular value of 5.8."""
    background = torch.zeros(48, 48, dtype=torch.float64)
    background[:24, :24] = 0.24
    noise = gaussian(48, 48)
    noise[:24, :24] = 0
    weight = background + 0.25 * noise.sign()
    weight[:24, :24] = 0.24
    count = round(0.6 * weight.numel())
    mask = spectral_mask(weight, 0.6)
    assert not largest(weight, count)[:24, :24].any()
    assert mask[:24, :24].double().mean() > 0.3
    assert lost(weight, mask) < 0.8 * lost(weight, largest(weight, count))


@settings(max_examples=20, deadline=None)
@given(
    m=st.integers(1, 8),
    n=st.integers(1, 8),
    kept=st.floats(0, 1),
    seed=st.integers(0, 99),
    rank=st.integers(0, 2),
)
def test_the_count_is_kept_and_magnitudes_are_never_better(m, n, kept, seed, rank):
    weight = gaussian(m, n, seed=seed) if not rank else gaussian(m, rank, seed=seed) @ gaussian(rank, n)
    mask = spectral_mask(weight, kept)
    count = round(kept * weight.numel())
    assert int(mask.sum()) == count
    assert lost(weight, mask) <= lost(weight, largest(weight, count)) + 1e-12


def test_zeros_a_share_that_is_none_and_what_is_no_weight():
    assert int(spectral_mask(torch.zeros(4, 4), 0.5).sum()) == 8
    with pytest.raises(TdslError, match="from 0 to 1"):
        spectral_mask(torch.ones(4, 4), 1.5)
    with pytest.raises(TdslError, match="NaN or infinite"):
        spectral_mask(torch.full((4, 4), float("nan")), 0.5)
