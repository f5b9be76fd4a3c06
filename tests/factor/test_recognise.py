"""The automatic choice takes the structure that was planted, at its size, and leaves noise alone."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.choose import CANDIDATES, recognise
from tdsl.factor.table import DECOMPOSITIONS


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shuffled(weight: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    rows, columns = (torch.randperm(size, generator=generator) for size in weight.shape)
    return weight[rows][:, columns]


PLANTED = {
    "low rank": ("svd", (48, 3), (3, 40)),
    "Monarch": ("block_tt", (8, 8, 8, 1), (8, 8, 1, 8)),
    "low-rank blocks": ("low_rank_blocks", (8, 8, 8, 1), (8, 8, 1, 8)),
    "strided slices": ("strided_blocks", (8, 8, 8, 1), (8, 8, 1, 8)),
    "Kronecker product": ("kronecker", (6, 8, 1), (1, 10, 7)),
    "sum of Kronecker products": ("kronecker", (6, 8, 2), (2, 10, 7)),
    "tensor train": ("tensor_train", (4, 4, 2), (2, 4, 4, 2), (2, 4, 4)),
    "butterfly": ("butterfly", (4, 4, 4, 4), (4, 4, 4, 4), (4, 4, 4, 4)),
    "block diagonal": ("block_diagonal", (8, 6, 5)),
}


@pytest.mark.parametrize("case", PLANTED)
def test_what_was_planted_is_chosen_at_its_size(case):
    name, *shapes = PLANTED[case]
    factors = [gaussian(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    weight = DECOMPOSITIONS[name].promise(*factors)
    found = recognise(weight)
    assert found is not None and found.name == name
    assert [tuple(f.shape) for f in found.factors] == shapes
    assert found.numbers == sum(f.numel() for f in factors) < weight.numel()
    assert found.error < 1e-12


@pytest.mark.parametrize("case", PLANTED)
def test_the_same_weight_in_another_order_is_another_structure(case):
    """Permutations keep a low rank and blocks that can be hidden; every other structure is gone."""
    name, *shapes = PLANTED[case]
    weight = DECOMPOSITIONS[name].promise(*(gaussian(*s, seed=k) for k, s in enumerate(shapes)))
    found = recognise(shuffled(weight))
    expected = {"svd": "svd", "block_diagonal": "hidden_blocks"}.get(name)
    assert (found and found.name) == expected


def test_circulant_blocks_are_chosen():
    places = torch.arange(16)
    blocks = gaussian(4, 4, 16)[:, :, (places[:, None] - places) % 16]
    found = recognise(blocks.transpose(1, 2).reshape(64, 64))
    assert found is not None and found.name == "block_circulant" and found.error < 1e-12


def test_fast_transforms_are_chosen():
    steps = torch.arange(64, dtype=torch.float64)
    angles = 2 * math.pi * torch.outer(steps, steps) / 64
    fourier = recognise(torch.cat([angles.cos(), -angles.sin()]))
    assert fourier is not None and fourier.name == "strided_blocks" and fourier.numbers == 3072
    step, hadamard = torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.ones(1, 1)
    for _ in range(6):
        hadamard = torch.kron(hadamard, step)
    found = recognise(hadamard)
    assert found is not None and found.name == "tensor_train" and found.numbers == 48


@pytest.mark.parametrize("shape", [(48, 40), (64, 64), (31, 37), (1, 12), (12, 1), (1, 1), (0, 4)])
def test_a_random_matrix_has_no_structure(shape):
    assert recognise(gaussian(*shape, seed=4)) is None


def test_noise_beyond_the_tolerance_hides_a_structure():
    weight = DECOMPOSITIONS["kronecker"].promise(gaussian(4, 6, 1), gaussian(1, 6, 5, seed=1))
    noise = gaussian(24, 30, seed=2) * weight.norm() / 720**0.5
    assert recognise(weight + 1e-4 * noise) is None
    found = recognise(weight + 1e-4 * noise, tolerance=1e-3)
    assert found is not None and found.name == "kronecker" and 1e-5 < found.error < 1e-3


def test_float32_weights_are_recognised_within_their_rounding():
    weight = DECOMPOSITIONS["kronecker"].promise(gaussian(4, 6, 1), gaussian(1, 6, 5, seed=1))
    found = recognise(weight.float())
    assert found is not None and found.name == "kronecker" and 1e-9 < found.error < 1e-6


def test_kernels_are_left_to_their_own_candidates():
    kernel = DECOMPOSITIONS["spatial_svd"].promise(gaussian(2, 6, 3, 1), gaussian(8, 2, 1, 3))
    assert 4 not in CANDIDATES and recognise(kernel) is None
    candidates = [DECOMPOSITIONS["spatial_svd"], DECOMPOSITIONS["svd"]]
    found = recognise(kernel, candidates=candidates)
    assert found is not None and found.name == "spatial_svd" and found.numbers == 36 + 48


def test_a_decomposition_that_breaks_its_word_is_not_taken():
    honest = DECOMPOSITIONS["svd"]
    wrong = dataclasses.replace(honest, promise=lambda u, v: 2 * u @ v)
    weight = gaussian(12, 2) @ gaussian(2, 9, seed=1)
    assert recognise(weight, candidates=[honest]) is not None
    assert recognise(weight, candidates=[wrong]) is None


def test_mistakes_are_errors():
    with pytest.raises(TdslError, match="NaN"):
        recognise(torch.full((4, 4), math.nan))
    with pytest.raises(TdslError, match="relative error"):
        recognise(gaussian(4, 4), tolerance=1.5)
