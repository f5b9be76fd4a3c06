"""Matrices that select are told from those that nearly do, and multiplying by one is gathering."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tdsl.factor.selected import is_incidence, is_scaled_selection, is_selection, selected

PLACES = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=7)
ALL = (is_selection, is_scaled_selection, is_incidence)


def drawn(places: list[tuple[int, int]], first: float, second: float) -> torch.Tensor:
    """Six columns; each row has `first` at its place, and `second` some places on."""
    found = torch.zeros(len(places), 6)
    for i, (place, on) in enumerate(places):
        found[i, place], found[i, (place + on) % 6] = first, second
    return found


@settings(max_examples=40, deadline=None)
@given(PLACES)
def test_what_each_is_and_is_not(places: list[tuple[int, int]]) -> None:
    kinds = {
        (1.0, 0.0): (True, True, False),
        (2.5, 0.0): (False, True, False),
        (1.0, -1.0): (False, False, True),
    }
    for entries, wanted in kinds.items():
        matrix = drawn(places, *entries)
        assert tuple(one(matrix) for one in ALL) == wanted
        matrix[-1, (places[-1][0] + 3) % 6] += 1e-30 if entries[1] == 0 and places[-1][1] != 3 else 0.5
        assert not is_selection(matrix)
        assert not is_incidence(matrix)
        assert not is_scaled_selection(matrix)
    x = torch.randn(6, 2)
    edges = drawn(places, 1.0, -1.0)
    torch.testing.assert_close(edges @ x, x[selected(edges, 1)] - x[selected(edges, -1)])
    picks = drawn(places, 2.5, 0.0)
    torch.testing.assert_close(picks @ x, 2.5 * x[selected(picks)])


@pytest.mark.parametrize("matrix", [torch.zeros(2, 3), torch.zeros(0, 3), torch.ones(3), torch.ones(2, 1, 1)])
def test_what_is_no_matrix_or_has_empty_rows_selects_nothing(matrix: torch.Tensor) -> None:
    assert not any(one(matrix) for one in ALL)


def test_a_row_with_two_ones_and_one_with_a_single_one_are_no_incidence() -> None:
    assert not is_incidence(torch.tensor([[1.0, -1, 0], [1, 1, 0]]))
    assert not is_incidence(torch.tensor([[1.0, -1, 0], [1, 0, 0]]))
