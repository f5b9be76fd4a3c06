"""Metrics: known values, laws, and what is not finite."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tdsl.verify import compare
from tdsl.verify.compare import PART, distance, over_outputs, over_samples, worst_of

ROWS = torch.tensor([[3.0, 4.0], [0.0, 1.0]])


def test_equal_outputs_have_no_difference():
    found = compare(ROWS, ROWS.clone())
    assert (found.error, found.max_error, found.cosine, found.mismatch) == (0, 0, pytest.approx(1), "")


def test_metrics_have_their_textbook_values():
    result = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    found = compare(ROWS, result)
    assert found.error == pytest.approx(math.sqrt(2 / 26))
    assert found.max_error == 1
    assert found.cosine == pytest.approx(0)
    assert found.cosines / found.rows == pytest.approx(0.5)


@given(st.floats(0.01, 100), st.integers(0, 10**6))
def test_scaling_a_result_moves_the_error_and_not_the_cosine(factor, seed):
    reference = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = compare(reference, factor * reference)
    assert found.error == pytest.approx(abs(factor - 1), rel=1e-9, abs=1e-12)
    assert found.cosine == pytest.approx(1)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 10**6))
def test_metrics_over_samples_are_those_of_the_whole_batch(sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    pairs = [(torch.randn(n, 3, generator=generator), torch.randn(n, 3, generator=generator)) for n in sizes]
    pooled = over_samples([compare(a, b) for a, b in pairs])
    whole = over_samples([compare(torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs]))])
    assert pooled.error == pytest.approx(whole.error)
    assert pooled.cosine == pytest.approx(whole.cosine)
    assert pooled.mean_cosine == pytest.approx(whole.mean_cosine)
    assert pooled.max_error == whole.max_error


def test_the_mean_cosine_weighs_every_row_alike():
    """Of three rows, in samples of one and two, one points the other way."""
    rows = torch.randn(3, 4)
    samples = [compare(rows[:1], -rows[:1]), compare(rows[1:], rows[1:])]
    assert over_samples(samples).mean_cosine == pytest.approx(1 / 3)


def test_the_worst_output_decides_however_large_another_one_is():
    large, small = torch.full((4,), 1e6), torch.full((4,), 1e-3)
    good, bad = over_samples([compare(large, large)]), over_samples([compare(small, -small)])
    assert over_outputs([good, bad]).error == pytest.approx(2)


def test_another_shape_or_dtype_is_a_mismatch():
    assert compare(torch.zeros(2, 3), torch.zeros(3, 2)).mismatch == "shape [3, 2] instead of [2, 3]"
    assert compare(torch.zeros(2, 3), torch.zeros(3, 2)).error == math.inf
    assert (
        compare(torch.zeros(2), torch.zeros(2).double()).mismatch == "torch.float64 instead of torch.float32"
    )


def test_lost_values_are_counted_and_make_the_error_infinite():
    found = compare(ROWS, torch.tensor([[3.0, math.nan], [0.0, 1.0]]))
    assert (found.lost, found.gained) == (1, 0)
    assert found.error == found.max_error == math.inf
    assert math.isnan(found.cosine)


@pytest.mark.parametrize("values", [[math.nan, 1.0], [1.0, math.nan], []])
@pytest.mark.parametrize("lower_is_worse", [True, False])
def test_what_is_not_known_is_worse_than_any_number(values, lower_is_worse):
    assert math.isnan(worst_of(values, lower_is_worse=lower_is_worse))


def test_values_that_the_original_has_not_say_nothing():
    reference = torch.tensor([[1.0, math.inf], [1.0, 2.0]])
    found = compare(reference, torch.tensor([[1.0, 7.0], [1.0, 2.0]]))
    assert (found.lost, found.gained, found.error, found.rows) == (0, 1, 0, 1)


def test_rows_that_the_original_has_not_say_nothing_however_many_there_are():
    reference = torch.randn(2 * PART // 64, 64)
    reference[: PART // 64] = -math.inf
    found = compare(reference, torch.where(reference.isfinite(), -reference, reference))
    assert (found.lost, found.gained, found.rows) == (0, 0, PART // 64)
    assert found.cosine == pytest.approx(-1)
    assert over_samples([found]).mean_cosine == pytest.approx(-1)


def test_a_zero_row_has_cosine_one_to_itself_and_zero_to_anything_else():
    assert compare(torch.zeros(1, 3), torch.zeros(1, 3)).cosine == 1
    assert compare(torch.zeros(1, 3), torch.ones(1, 3)).cosine == 0


def test_cosines_of_huge_and_tiny_rows_do_not_overflow():
    for size in (1e200, 1e-200):
        row = torch.tensor([[1.0, 2.0]], dtype=torch.float64) * size
        assert compare(row, 3 * row).cosine == pytest.approx(1)


def test_single_entries_are_compared_as_one_row():
    scores = torch.tensor([[1.0], [-2.0], [3.0]])
    found = compare(scores, torch.tensor([[1.0], [-2.0], [-3.0]]))
    assert found.rows == 1
    assert -1 < found.cosine < 0


def test_integers_are_equal_or_different():
    found = compare(torch.tensor([1, 2, 3, 400]), torch.tensor([1, 2, 3, 4]))
    assert found.error == math.sqrt(1 / 4)
    assert math.isnan(over_samples([found]).mean_cosine)


def test_an_empty_output_is_equal():
    assert compare(torch.zeros(0, 3), torch.zeros(0, 3)).error == 0


def test_complex_outputs_are_compared():
    value = torch.tensor([1 + 1j, 2 - 1j])
    assert compare(value, value).error == 0
    assert compare(value, value.conj().resolve_conj()).error > 0.5


def test_distance_ignores_the_dtype_and_what_is_not_finite_in_either():
    assert distance(torch.tensor([1.0, math.inf]), torch.tensor([4.0, 0.0]).double()) == 3


def test_an_infinity_of_the_other_sign_is_a_lost_value():
    reference = torch.tensor([1.0, float("inf"), float("-inf")])
    assert compare(reference, reference.clone()).lost == 0
    assert compare(reference, torch.tensor([1.0, float("-inf"), float("-inf")])).lost == 1
