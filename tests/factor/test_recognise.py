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
    "ring": (
        "tensor_network",
        (8, 1, 1, 2, 2, 1, 1),
        (8, 1, 1, 2, 2, 1, 1),
        (1, 8, 2, 2, 1, 1, 1),
        (1, 8, 2, 2, 1, 1, 1),
        (1,) * 7,
        (1,) * 7,
    ),
    "butterfly": ("butterfly", (4, 4, 4, 4), (4, 4, 4, 4), (4, 4, 4, 4)),
    "block diagonal": ("block_diagonal", (8, 6, 5)),
    "low rank and blocks": ("low_rank_plus_blocks", (48, 2), (2, 40), (8, 5, 6)),
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
    """Permutations keep a low rank, blocks that can be hidden and entries beside a low rank, nothing else."""
    name, *shapes = PLANTED[case]
    weight = DECOMPOSITIONS[name].promise(*(gaussian(*s, seed=k) for k, s in enumerate(shapes)))
    found = recognise(shuffled(weight))
    expected = {
        "svd": "svd",
        "block_diagonal": "hidden_blocks",
        "low_rank_plus_blocks": "low_rank_plus_entries",
        "tensor_network": "svd",
    }.get(name)
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


KERNELS = {
    "fewer outputs": ("channel_svd", (3, 12, 3, 3), (16, 3, 1, 1)),
    "fewer inputs": ("input_svd", (2, 20, 1, 1), (6, 2, 3, 3)),
    "rows, then columns": ("spatial_svd", (3, 12, 3, 1), (16, 3, 1, 3)),
    "Tucker": ("tucker2", (4, 12, 1, 1), (6, 4, 3, 3), (16, 6, 1, 1)),
    "CP": ("cp", (3, 12, 1, 1), (3, 1, 3, 3), (16, 3, 1, 1)),
    "CP of more terms": ("cp", (8, 12, 1, 1), (8, 1, 3, 3), (16, 8, 1, 1)),
    "separable CP": ("cp_separable", (3, 12, 1, 1), (3, 1, 3, 1), (3, 1, 1, 3), (16, 3, 1, 1)),
    "depthwise, separable": ("depthwise_separable", (12, 2, 3, 3), (16, 12, 2)),
    "in time": ("tucker2", (4, 12, 1), (6, 4, 5), (16, 6, 1)),
    "in volumes": ("spatial_svd", (2, 6, 3, 1, 1), (8, 2, 1, 3, 3)),
}


@pytest.mark.parametrize("case", KERNELS)
def test_a_planted_kernel_is_found_at_its_size(case):
    name, *shapes = KERNELS[case]
    factors = [gaussian(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    kernel = DECOMPOSITIONS[name].promise(*factors)
    found = recognise(kernel)
    assert found is not None and found.name == name
    assert [tuple(f.shape) for f in found.factors] == shapes
    assert found.numbers == sum(f.numel() for f in factors) < kernel.numel()
    assert found.error <= 1e-6
    strange = kernel + 0.1 * gaussian(*kernel.shape, seed=9)
    assert recognise(strange) is None


@pytest.mark.parametrize("shape", [(16, 12, 3, 3), (8, 8, 3, 3), (32, 16, 1, 1), (8, 1, 3, 3), (12, 8, 5)])
def test_a_random_kernel_has_no_structure(shape):
    assert recognise(gaussian(*shape, seed=4)) is None


def test_other_candidates_may_be_named():
    kernel = DECOMPOSITIONS["spatial_svd"].promise(gaussian(2, 6, 3, 1), gaussian(8, 2, 1, 3))
    found = recognise(kernel, candidates=[DECOMPOSITIONS["tucker2"], DECOMPOSITIONS["svd"]])
    assert found is None or found.name == "tucker2"
    assert recognise(gaussian(2, 3, 4, 5, 2, 2)) is None and 6 not in CANDIDATES


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
