"""Blocks that gather what they read: of a butterfly beside a low rank, and of rows in any order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor import gathered_blocks as module
from tdsl.factor.diagonal_blocks import hidden_blocks
from tdsl.factor.gathered_blocks import (
    flat_butterfly,
    flat_butterfly_product,
    gathered_blocks,
    gathered_blocks_product,
)
from tdsl.factor.matrix import svd
from tdsl.factor.rank import Error, UnreachableRankError
from tdsl.factor.sum_of_two import low_rank_plus_blocks, sum_product

TIGHT = Error(1e-6)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lost(weight: Tensor, rebuilt: Tensor) -> float:
    return float((weight - rebuilt).norm() / weight.norm())


def butterfly(count: int, size: int, rank: int) -> Tensor:
    """The blocks i, i xor 1, i xor 2, … of each block row, and a matrix of that rank."""
    pattern = torch.tensor([[(i ^ j).bit_count() <= 1 for j in range(count)] for i in range(count)])
    side = count * size
    mask = pattern.repeat_interleave(size, 0).repeat_interleave(size, 1)
    low = gaussian(side, rank, seed=1) @ gaussian(rank, side, seed=2)
    return gaussian(side, side) * mask + low


@pytest.mark.parametrize(("count", "size", "rank"), [(16, 4, 2), (8, 6, 1), (16, 6, 3)])
def test_a_flat_butterfly_and_a_low_rank_are_told_apart(count: int, size: int, rank: int) -> None:
    weight, side = butterfly(count, size, rank), count * size
    left, right, blocks, columns = flat_butterfly(weight, TIGHT)
    assert (left.shape, right.shape) == ((side, rank), (rank, side))
    assert blocks.shape == (count, count.bit_length() * size, size) and len(columns) == blocks[..., 0].numel()
    assert lost(weight, flat_butterfly_product(left, right, blocks, columns)) < 1e-6


def test_at_equal_size_neither_a_low_rank_nor_blocks_on_the_diagonal_come_close() -> None:
    weight = butterfly(16, 4, 2)
    held = sum(part.numel() for part in flat_butterfly(weight, TIGHT)[:3])
    u, v = svd(weight, held // 128)
    assert lost(weight, u @ v) > 0.1
    assert lost(weight, sum_product(*low_rank_plus_blocks(weight, 2))) > 0.1


def test_a_mask_alone_loses_the_low_rank_and_a_random_matrix_gains_nothing() -> None:
    """The other half of F15: at a size as large, blocks without a low rank, and a matrix without either."""
    weight = butterfly(16, 4, 2)
    whole = lost(weight, flat_butterfly_product(*flat_butterfly(weight, 2)))
    blocks = weight.reshape(16, 4, 16, 4).square().sum((1, 3))
    fitted = blocks.flatten().sort(descending=True).values  # wherever blocks are best, and nine more of them
    assert whole < 1e-6 < 0.3 < float(1 - fitted[: 16 * 5 + 16].sum() / fitted.sum()) ** 0.5
    noise = gaussian(64, 64, seed=4)
    left, right, blocks, columns = flat_butterfly(noise, 4)
    u, v = svd(noise, (left.numel() + right.numel() + blocks.numel()) // 128)
    assert lost(noise, flat_butterfly_product(left, right, blocks, columns)) > 0.95 * lost(noise, u @ v)


def test_the_error_never_rises_from_turn_to_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, errors = butterfly(8, 6, 2) + 0.1 * gaussian(48, 48, seed=7), []
    for turns in (1, 2, 4, 8, 16, 32):
        monkeypatch.setattr(module, "SWEEPS", turns)
        left, right = module._alternated.__wrapped__(weight, 8, 2)
        rest = (1 - module._support(8, 48, 48)) * (weight - left @ right)
        errors.append(float(rest.norm() / weight.norm()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.9 * errors[0]


def test_a_random_matrix_is_neither() -> None:
    weight = gaussian(64, 64, seed=4)
    left, right, blocks, _ = flat_butterfly(weight, TIGHT)
    assert left.numel() + right.numel() + blocks.numel() > weight.numel()
    blocks, columns, places = gathered_blocks(weight, TIGHT)
    assert blocks.numel() == weight.numel()
    assert torch.equal(gathered_blocks_product(blocks, columns, places), weight)


def tiles(side: int, size: int, per_row: int, seed: int = 0) -> Tensor:
    """Square blocks in random places, as many in every row of blocks, rows and columns then permuted."""
    generator = torch.Generator().manual_seed(seed)
    count = side // size
    chosen = torch.rand(count, count, generator=generator).argsort(1)[:, :per_row]
    pattern = torch.zeros(count, count).scatter(1, chosen, 1.0)
    weight = gaussian(side, side, seed=seed) * torch.kron(pattern, torch.ones(size, size))
    rows, columns = (torch.randperm(side, generator=generator) for _ in range(2))
    return weight[rows][:, columns]


@pytest.mark.parametrize("seed", range(3))
def test_tiles_that_permutations_hide_are_found(seed: int) -> None:
    """Each row of blocks reads two of 16, so that all are joined and no block stands alone."""
    weight = tiles(128, 8, 2, seed)
    blocks, columns, places = gathered_blocks(weight, TIGHT)
    assert blocks.numel() <= 128 * 16 + 128 and blocks.shape[2] >= 4
    assert lost(weight, gathered_blocks_product(blocks, columns, places)) < 1e-6
    assert hidden_blocks(weight, TIGHT)[0].numel() > 2 * blocks.numel()


def test_noise_within_the_error_hides_nothing_and_beyond_it_everything() -> None:
    weight = tiles(128, 8, 2)
    noisy = weight + 1e-4 * weight.norm() / 128 * gaussian(128, 128, seed=9)
    assert gathered_blocks(noisy, Error(1e-2))[0].numel() <= 128 * 16 + 128
    assert gathered_blocks(noisy, TIGHT)[0].numel() == weight.numel()


def test_rows_as_they_stand_are_no_worse() -> None:
    """A band, which is in order already."""
    places = torch.arange(64)
    weight = gaussian(64, 64) * ((places[:, None] - places).abs() <= 2)
    blocks, columns, order = gathered_blocks(weight, TIGHT)
    assert blocks.numel() <= 64 * 8
    assert torch.equal(gathered_blocks_product(blocks, columns, order), weight)


def test_what_is_no_weight() -> None:
    for function in (flat_butterfly, gathered_blocks):
        with pytest.raises(TdslError, match="NaN"):
            function(torch.full((8, 8), float("nan")), TIGHT)
        with pytest.raises(UnreachableRankError):
            function(gaussian(8, 8), 1000)
    with pytest.raises(UnreachableRankError):
        flat_butterfly(gaussian(6, 9), 1)
