"""Circulant matrices and circulant blocks become products of frequencies, and nothing else does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.circulant import (
    block_circulant,
    block_circulant_product,
    circulant,
    circulant_product,
)
from tdsl.factor.rank import Error, UnreachableRankError

TIGHT = Error(1e-6)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def wrapped(steps: Tensor) -> Tensor:
    """Circulant blocks of given first columns. [p, q, b] → [p·b, q·b]."""
    rows, columns, size = steps.shape
    places = torch.arange(size)
    blocks = steps[:, :, (places[:, None] - places) % size]
    return blocks.transpose(1, 2).reshape(rows * size, columns * size)


def error(weight: Tensor, rebuilt: Tensor) -> float:
    assert weight.shape == rebuilt.shape
    return float((weight - rebuilt).norm() / weight.norm())


@pytest.mark.parametrize("shape", [(3, 2, 8), (4, 4, 16), (2, 3, 7), (1, 5, 12)])
def test_circulant_blocks_are_found(shape):
    weight = wrapped(gaussian(*shape))
    rows, columns, size = shape
    transform, spectrum, back = block_circulant(weight, TIGHT)
    assert transform.shape == (size, 2 * (size // 2 + 1)) and back.shape == transform.T.shape
    assert spectrum.shape == (size // 2 + 1, 2 * columns, 2 * rows)
    assert error(weight, block_circulant_product(transform, spectrum, back)) < 1e-13
    assert sum(f.numel() for f in (transform, spectrum, back)) < weight.numel()


@pytest.mark.parametrize("size", [36, 64, 105])
def test_a_circulant_matrix_needs_no_transform_of_its_size(size):
    weight = wrapped(gaussian(1, 1, size))
    factors = circulant(weight, TIGHT)
    assert len(factors[0]) < size
    assert error(weight, circulant_product(*factors)) < 1e-13
    assert sum(f.numel() for f in factors) < weight.numel() / 2


def test_the_transform_is_that_of_fourier():
    steps = gaussian(4, 3, 16)
    transform, spectrum, _ = block_circulant(wrapped(steps), TIGHT)
    signal = gaussian(16, seed=5)
    frequencies = torch.view_as_complex((signal @ transform).reshape(9, 2))
    assert torch.allclose(frequencies, torch.fft.rfft(signal))
    assert torch.allclose(spectrum[:, 0, 0], torch.fft.rfft(steps[0, 0]).real)
    assert torch.allclose(spectrum[:, 0, 1], torch.fft.rfft(steps[0, 0]).imag)


@pytest.mark.parametrize(
    ("function", "product"), [(block_circulant, block_circulant_product), (circulant, circulant_product)]
)
class TestBoth:
    def test_a_random_matrix_is_none_and_stays_exact(self, function, product):
        weight = gaussian(24, 36)
        factors = function(weight, TIGHT)
        assert error(weight, product(*factors)) < 1e-13
        assert sum(f.numel() for f in factors) > weight.numel()

    def test_one_entry_more_is_noticed(self, function, product):
        weight = wrapped(gaussian(1, 1, 48))
        assert len(function(weight, TIGHT)[0]) > 1
        weight[3, 5] += 0.1
        assert len(function(weight, TIGHT)[0]) == 1

    def test_the_projection_is_orthogonal_and_idempotent(self, function, product):
        weight = gaussian(24, 36, seed=2)
        near = product(*function(weight, 1))
        assert 0.5 < error(weight, near) < 1
        assert abs(float((near * (weight - near)).sum())) < 1e-10 * float(weight.square().sum())
        assert error(near, product(*function(near, TIGHT))) < 1e-12

    def test_what_is_no_weight_is_an_error(self, function, product):
        with pytest.raises(TdslError, match="NaN"):
            function(torch.tensor([[float("nan")]]), TIGHT)
        with pytest.raises(UnreachableRankError):
            function(gaussian(4, 4), 3)
