"""Blocks on the diagonal are found, hidden by permutations or not, and what they cost is what they hold."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.diagonal_blocks import (
    block_diagonal,
    block_diagonal_product,
    hidden_blocks,
    hidden_blocks_product,
)
from tdsl.factor.rank import Energy, Error, UnreachableRankError

TIGHT = Error(1e-6)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shuffled(weight: Tensor, seed: int = 1) -> Tensor:
    """Rows and columns in a random order."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (torch.randperm(size, generator=generator) for size in weight.shape)
    return weight[rows][:, columns]


def diagonal(*shapes: tuple[int, int]) -> Tensor:
    return torch.block_diag(*(gaussian(*shape, seed=seed) for seed, shape in enumerate(shapes)))


BLOCKS = diagonal(*[(5, 3)] * 8)
UNEQUAL = diagonal((5, 3), (3, 5), (2, 2), (8, 8), (6, 4), (1, 1))


def error(weight: Tensor, rebuilt: Tensor) -> float:
    assert weight.shape == rebuilt.shape
    return float((weight - rebuilt).norm() / weight.norm())


def test_blocks_on_the_diagonal_are_found():
    (blocks,) = block_diagonal(BLOCKS, TIGHT)
    assert blocks.shape == (8, 3, 5)
    assert torch.equal(block_diagonal_product(blocks), BLOCKS)
    assert block_diagonal(shuffled(BLOCKS), TIGHT)[0].shape[0] == 1
    assert block_diagonal(gaussian(40, 24), TIGHT)[0].shape[0] == 1


def test_an_error_that_is_allowed_buys_more_blocks():
    noisy = BLOCKS + 1e-3 * gaussian(40, 24, seed=7)
    counts = []
    for bound in (1e-6, 1e-2, 0.9):
        (blocks,) = block_diagonal(noisy, Error(bound))
        assert error(noisy, block_diagonal_product(blocks)) <= bound
        counts.append(len(blocks))
    assert counts == [1, 8, 8]


@pytest.mark.parametrize("seed", range(5))
def test_hidden_blocks_are_found_at_their_size(seed):
    weight = shuffled(BLOCKS, seed)
    blocks, columns, places = hidden_blocks(weight, TIGHT)
    assert blocks.shape == (8, 3, 5)
    assert sorted(columns.tolist()) == list(range(24)) and sorted(places.tolist()) == list(range(40))
    assert torch.equal(hidden_blocks_product(blocks, columns, places), weight)


def test_blocks_in_order_need_no_permutation():
    _, columns, places = hidden_blocks(BLOCKS, TIGHT)
    assert columns.tolist() == list(range(24)) and places.tolist() == list(range(40))


@pytest.mark.parametrize("seed", range(5))
def test_unequal_blocks_share_room(seed):
    weight = shuffled(UNEQUAL, seed)
    blocks, columns, places = hidden_blocks(weight, TIGHT)
    assert torch.equal(hidden_blocks_product(blocks, columns, places), weight)
    assert UNEQUAL.ne(0).sum() < blocks.numel() < weight.numel() / 2


@pytest.mark.parametrize("wide", [(0, 2), (3, 0), (3, 2)])
def test_rows_and_columns_of_zeros_are_kept_apart(wide):
    weight = torch.block_diag(BLOCKS, torch.zeros(*wide))
    for seed in range(3):
        mixed = shuffled(weight, seed)
        blocks, columns, places = hidden_blocks(mixed, TIGHT)
        assert torch.equal(hidden_blocks_product(blocks, columns, places), mixed)
        assert blocks.numel() < mixed.numel() / 2


def test_one_more_entry_joins_two_blocks_and_a_small_one_is_ignored():
    joined = BLOCKS.clone()
    joined[0, 23] = 1.0
    blocks, columns, places = hidden_blocks(joined, TIGHT)
    assert blocks.numel() > 8 * 15
    assert torch.equal(hidden_blocks_product(blocks, columns, places), joined)
    joined[0, 23] = 1e-9
    blocks, columns, places = hidden_blocks(joined, TIGHT)
    assert blocks.shape == (8, 3, 5)
    assert 0 < error(joined, hidden_blocks_product(blocks, columns, places)) < 1e-9


def test_a_random_matrix_is_one_block():
    weight = gaussian(40, 24)
    blocks, columns, places = hidden_blocks(weight, TIGHT)
    assert blocks.shape == (1, 24, 40)
    assert torch.equal(hidden_blocks_product(blocks, columns, places), weight)


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_the_energy_that_is_asked_for_is_kept(keep):
    weight = shuffled(BLOCKS) + 1e-2 * gaussian(40, 24, seed=3)
    rebuilt = hidden_blocks_product(*hidden_blocks(weight, Energy(keep)))
    assert error(weight, rebuilt) <= (1 - keep) ** 0.5


def test_a_matrix_of_zeros_and_what_is_no_weight():
    blocks, columns, places = hidden_blocks(torch.zeros(4, 3), TIGHT)
    assert torch.equal(hidden_blocks_product(blocks, columns, places), torch.zeros(4, 3, dtype=torch.float64))
    assert not block_diagonal(torch.zeros(4, 2), TIGHT)[0].any()
    with pytest.raises(UnreachableRankError):
        hidden_blocks(gaussian(4, 3), 13)
    for function in (block_diagonal, hidden_blocks):
        with pytest.raises(TdslError, match="NaN"):
            function(torch.tensor([[float("nan")]]), TIGHT)
