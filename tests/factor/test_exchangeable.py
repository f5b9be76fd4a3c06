"""Dense weights that treat items alike, or commute with O(n), are found at their size, and no others."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.exchangeable import exchangeable, exchangeable_planes, interleaved, repeated
from tdsl.factor.rank import Error, Fixed
from tdsl.factor.table import DECOMPOSITIONS

TIGHT = Error(1e-6)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PLANTED = {
    "items": ("exchangeable", 6, (2, 3), (2, 3)),
    "many items": ("exchangeable", 64, (1, 1), (1, 1)),
    "a prime number of items": ("exchangeable", 7, (3, 2), (3, 2)),
    "items of a channel": ("exchangeable_planes", 6, (2, 3), (2, 3)),
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_weight_is_found_at_its_size(case: str) -> None:
    name, n, *shapes = PLANTED[case]
    declared = DECOMPOSITIONS[name]
    factors = [gaussian(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    weight = declared.promise(*factors, torch.arange(n))
    for dtype in (torch.float64, torch.float32):
        *found, items = declared.function(weight.to(dtype), TIGHT)
        assert torch.equal(items, torch.arange(n))
        for one, other in zip(found, factors, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", PLANTED)
def test_a_perturbed_weight_is_refused(case: str) -> None:
    name, n, *shapes = PLANTED[case]
    declared = DECOMPOSITIONS[name]
    weight = declared.promise(*(gaussian(*shape, seed=7) for shape in shapes), torch.arange(n))
    free = len(declared.function(weight, TIGHT)[-1])
    weight[0, 1] += 1e-3 * weight.norm()
    assert len(declared.function(weight, TIGHT)[-1]) < free
    assert len(declared.function(gaussian(*weight.shape), TIGHT)[-1]) == 1


def test_where_items_are_told_by_more_than_one_number_the_largest_is_taken() -> None:
    weight = DECOMPOSITIONS["exchangeable"].promise(
        torch.eye(2, dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64), torch.arange(3)
    )
    each, total, items = exchangeable(weight, TIGHT)  # two channels that are items as well
    assert len(items) == 6 and each.shape == total.shape == (1, 1)


def test_the_layouts_are_told_apart() -> None:
    each, total = gaussian(2, 2, seed=1), gaussian(2, 2, seed=2)
    items = torch.arange(5)
    last = DECOMPOSITIONS["exchangeable"].promise(each, total, items)
    first = DECOMPOSITIONS["exchangeable_planes"].promise(each, total, items)
    assert len(exchangeable(last, TIGHT)[-1]) == len(exchangeable_planes(first, TIGHT)[-1]) == 5
    assert len(exchangeable(first, TIGHT)[-1]) == len(exchangeable_planes(last, TIGHT)[-1]) == 1
    torch.testing.assert_close(last.reshape(5, 2, 5, 2).permute(1, 0, 3, 2).reshape(10, 10), first)


def test_a_number_of_terms_takes_the_size_of_the_smallest_error() -> None:
    weight = DECOMPOSITIONS["exchangeable"].promise(gaussian(2, 2), gaussian(2, 2, seed=1), torch.arange(6))
    noisy = weight + 0.05 * gaussian(12, 12, seed=2)
    assert len(exchangeable(noisy, Fixed(1))[-1]) in (2, 3, 6)
    assert len(exchangeable(noisy, TIGHT)[-1]) == 1
    assert len(exchangeable(noisy, Error(0.2))[-1]) == 6


def test_one_entry_among_many_is_seen() -> None:
    weight = DECOMPOSITIONS["exchangeable"].promise(gaussian(2, 2), gaussian(2, 2, seed=1), torch.arange(64))
    assert len(exchangeable(weight, TIGHT)[-1]) == 64
    weight[-1, -2] += 1
    assert len(exchangeable(weight, TIGHT)[-1]) == 1


def test_a_bias_of_equal_pieces() -> None:
    piece, items = gaussian(3), torch.arange(4)
    found, copies = repeated(piece.repeat(4), items, TIGHT)
    assert torch.equal(found, piece) and len(copies) == 4
    found, copies = interleaved(piece.repeat_interleave(4), items, TIGHT)
    assert torch.equal(found, piece) and len(copies) == 4
    assert len(repeated(piece.repeat_interleave(4), items, TIGHT)[1]) == 1
    assert len(repeated(gaussian(12), items, TIGHT)[1]) == 1
    assert len(repeated(gaussian(7), items, TIGHT)[1]) == 1


def test_what_is_no_finite_matrix_is_refused() -> None:
    for function in (exchangeable, exchangeable_planes):
        with pytest.raises(TdslError, match="2 axes"):
            function(gaussian(4, 4, 4), TIGHT)
        with pytest.raises(TdslError, match="NaN"):
            function(torch.full((4, 4), math.nan), TIGHT)
