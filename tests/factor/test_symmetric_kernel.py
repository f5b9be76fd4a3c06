"""Kernels that are nearly symmetric become exactly so, and no others do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.rank import Energy, Error
from tdsl.factor.symmetric_kernel import mirrored_kernel, symmetric_kernel

NEARLY = Error(0.05)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turned(weight: Tensor, flips: tuple[int, ...], quarter: int) -> Tensor:
    return torch.rot90(weight.flip(flips), quarter, (-2, -1))


GROUPS = {
    "left and right": [((), 0), ((-1,), 0)],
    "upside down": [((), 0), ((-2,), 0)],
    "half turn": [((), 0), ((-2, -1), 0)],
    "both flips": [((), 0), ((-1,), 0), ((-2,), 0), ((-2, -1), 0)],
    "diagonal": [((), 0), ((-1,), 1)],
    "other diagonal": [((), 0), ((-2,), 1)],
    "both diagonals": [((), 0), ((-1,), 1), ((-2,), 1), ((-2, -1), 0)],
    "quarter turns": [((), 0), ((), 1), ((), 2), ((), 3)],
    "square": [(flips, quarter) for flips in ((), (-1,)) for quarter in range(4)],
}


def mean(weight: Tensor, group: str) -> Tensor:
    images = [turned(weight, *element) for element in GROUPS[group]]
    return torch.stack(images).mean(0)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("size", [3, 4])
def test_the_symmetry_that_was_planted_is_found_under_noise(group, size):
    clean = mean(gaussian(6, 5, size, size), group)
    noise = gaussian(*clean.shape, seed=1)
    noisy = clean + 0.02 * clean.norm() / noise.norm() * noise
    (found,) = symmetric_kernel(noisy, NEARLY)
    torch.testing.assert_close(found, mean(noisy, group), rtol=0, atol=1e-14)
    gained = (noisy - clean).norm() / (found - clean).norm()
    assert float(gained) == pytest.approx(len(GROUPS[group]) ** 0.5, rel=0.35)
    for element in GROUPS[group]:
        assert (
            torch.equal(turned(found, *element), found)
            or float((turned(found, *element) - found).abs().max()) < 1e-15
        )


@pytest.mark.parametrize("function", [mirrored_kernel, symmetric_kernel])
@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 3, 3, 3), (4, 3, 3, 5), (4, 2, 3, 3, 2)])
def test_a_random_kernel_stays_bit_for_bit(function, shape):
    weight = gaussian(*shape)
    for rule in (NEARLY, Energy(1.0)):
        assert torch.equal(function(weight, rule)[0], weight)
    (nearest,) = function(weight, 1)
    assert (nearest - weight).norm() > 0.1 * weight.norm()


def test_a_symmetric_kernel_stays_bit_for_bit_too():
    weight = gaussian(4, 3, 3, 3).float()
    weight = (weight + weight.flip(-1)) / 2
    for function in (mirrored_kernel, symmetric_kernel):
        assert torch.equal(function(weight, NEARLY)[0], weight.double())


def test_the_mirror_is_that_of_the_last_axis():
    weight = gaussian(4, 3, 3, 3)
    across = (weight + weight.flip(-2)) / 2
    assert torch.equal(mirrored_kernel(across, NEARLY)[0], across)
    assert not torch.equal(mirrored_kernel(across, 1)[0], across)
    nearly = weight + weight.flip(-1) + 1e-3 * gaussian(*weight.shape, seed=2)
    (found,) = mirrored_kernel(nearly, NEARLY)
    assert torch.equal(found, found.flip(-1)) and not torch.equal(found, nearly)


def test_volumes_and_what_is_no_kernel():
    weight = gaussian(4, 3, 3, 3, 3)
    inverted = (weight + weight.flip([2, 3, 4])) / 2 + 1e-4 * weight
    (found,) = symmetric_kernel(inverted, NEARLY)
    torch.testing.assert_close(found, found.flip([2, 3, 4]), rtol=0, atol=1e-15)
    assert not torch.allclose(found, found.flip(2), atol=0.1)
    with pytest.raises(TdslError, match="NaN"):
        symmetric_kernel(weight * float("nan"), NEARLY)
