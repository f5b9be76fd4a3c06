"""A low-rank part and blocks on the diagonal are told apart where both are there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor import sum_of_two
from tdsl.factor.choose import recognise
from tdsl.factor.rank import Error, Fixed, UnreachableRankError
from tdsl.factor.sum_of_two import low_rank_plus_blocks, sum_product

TIGHT = Error(1e-6)
SHAPES = [(8, 6, 6, 2), (8, 8, 4, 3), (12, 5, 7, 1), (6, 16, 16, 4)]
"""Blocks g, q, p and rank r."""


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(count: int, width: int, height: int, rank: int) -> Tensor:
    low = gaussian(count * height, rank, seed=1) @ gaussian(rank, count * width, seed=2)
    return sum_product(low[:, :0], low[:0], gaussian(count, width, height)) + low


def found(weight: Tensor, rank: object) -> tuple[list[tuple[int, ...]], int, float]:
    factors = low_rank_plus_blocks(weight, rank)
    error = float((weight - sum_product(*factors)).norm() / weight.norm())
    return [tuple(f.shape) for f in factors], sum(f.numel() for f in factors), error


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("by", ["error", "number"])
def test_both_parts_are_found_at_their_sizes(shape, by):
    count, width, height, rank = shape
    weight = planted(*shape)
    sizes, numbers, error = found(weight, TIGHT if by == "error" else rank)
    assert sizes == [(count * height, rank), (rank, count * width), (count, width, height)]
    assert numbers < weight.numel() and error < 1e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_neither_part_alone_would_do(shape):
    weight = planted(*shape)
    recognised = recognise(weight)
    assert recognised is not None and recognised.name == "low_rank_plus_blocks"
    assert recognise(gaussian(*weight.shape, seed=5)) is None


def test_a_random_matrix_stays_whole_and_exact():
    weight = gaussian(24, 36)
    sizes, numbers, error = found(weight, TIGHT)
    assert sizes[2] == (1, 36, 24) and numbers > weight.numel() and error == 0


@pytest.mark.parametrize("bound", [0.3, 0.6, 0.9])
def test_an_error_that_is_allowed_is_kept(bound):
    assert found(gaussian(24, 36, seed=3), Error(bound))[2] <= bound


def test_more_turns_do_not_hurt_and_one_is_not_enough(monkeypatch):
    weight, errors = planted(8, 6, 6, 2), []
    for turns in (1, 2, 5, 20):
        monkeypatch.setattr(sum_of_two, "SWEEPS", turns)
        factors = sum_of_two._alternated.__wrapped__(weight, 8, 2)
        errors.append(float((weight - sum_product(*factors)).norm() / weight.norm()))
    assert errors == sorted(errors, reverse=True) and errors[0] > 1e-2 > 1e-6 > errors[-1]


def test_what_is_no_weight_and_no_rank():
    with pytest.raises(TdslError, match="NaN"):
        low_rank_plus_blocks(torch.full((4, 4), float("nan")), TIGHT)
    assert found(gaussian(12, 12), Fixed(1))[2] > 1e-3
    with pytest.raises(UnreachableRankError):
        low_rank_plus_blocks(gaussian(12, 12), 1000)
