"""Predicates on index tensors: permutations and segments in order."""

from __future__ import annotations

import pytest
import torch

from tdsl.factor.places import is_permutation, is_segmented


@pytest.mark.parametrize("count", [1, 2, 7])
def test_an_order_is_a_permutation_in_any_shape_and_integer_type(count: int) -> None:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(count))
    for index in (order, order.reshape(-1, 1), order.to(torch.int32)):
        assert is_permutation(index)


@pytest.mark.parametrize("index", [[0, 0], [1, 2], [0, 2], [-1, 0]])
def test_what_names_a_place_twice_or_outside_is_none(index: list[int]) -> None:
    assert not is_permutation(torch.tensor(index))


def test_numbers_and_truth_values_are_no_index() -> None:
    for index in (torch.tensor([0.0, 1.0]), torch.tensor([False, True])):
        assert not is_permutation(index)
        assert not is_segmented(index, 2)


@pytest.mark.parametrize("segments", [1, 2, 3])
def test_equal_segments_in_order(segments: int) -> None:
    index = torch.arange(segments).repeat_interleave(4)
    assert is_segmented(index, segments)
    assert is_segmented(index.reshape(-1, 1), segments)
    assert not is_segmented(index, segments + 1)


@pytest.mark.parametrize("index", [[0, 1, 0, 1], [0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 1], []])
def test_other_segments_are_none(index: list[int]) -> None:
    assert not is_segmented(torch.tensor(index, dtype=torch.int64), 2)
