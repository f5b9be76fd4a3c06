"""Rank rules choose the smallest rank that keeps what they say, and refuse what cannot be had."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.matrix import spectrum, svd, truncate
from tdsl.factor.rank import (
    Auto,
    Energy,
    Error,
    Fixed,
    Ratio,
    Tiled,
    UnreachableRankError,
    as_rank_rule,
    break_even,
    lost_energy,
    noise_threshold,
)

SPECTRUM = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)  # squares 16, 9, 4, 1 of 30


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("rule", "rank"),
    [
        (Fixed(1), 1),
        (Fixed(4), 4),
        (Ratio(1.0), 3),
        (Ratio(0.5), 1),
        (Ratio(0.01), 1),
        (Energy(25 / 30 - 1e-9), 2),
        (Energy(25 / 30 + 1e-9), 3),
        (Energy(1.0), 4),
        (Error(math.sqrt(5 / 30) + 1e-9), 2),
        (Error(math.sqrt(5 / 30) - 1e-9), 3),
        (Error(0.0), 4),
    ],
)
def test_each_rule_picks_its_rank_of_a_known_spectrum(rule, rank):
    assert rule.select(SPECTRUM, limit=3) == rank


def test_ratio_is_a_fraction_of_the_break_even_rank():
    # 0.29 · 100 is 28.999… in floating point, and means 29.
    assert Ratio(0.29).select(torch.empty(200, device="meta"), limit=100) == 29
    m, n = 768, 3072
    rank = Ratio(0.5).select(torch.empty(m, device="meta"), break_even(m, n))
    assert rank == 307
    assert 0.49 < rank * (m + n) / (m * n) <= 0.5


@given(m=st.integers(1, 60), n=st.integers(1, 60))
def test_break_even_is_the_last_rank_that_saves_numbers(m, n):
    rank = break_even(m, n)
    assert rank == 0 or rank * (m + n) < m * n
    assert (rank + 1) * (m + n) >= m * n


@settings(max_examples=60, deadline=None)
@given(m=st.integers(1, 8), n=st.integers(1, 8), kept=st.floats(0.01, 1.0), seed=st.integers(0, 999))
def test_energy_and_error_are_minimal(m, n, kept, seed):
    weight = gaussian(m, n, seed=seed)
    values = spectrum(weight)
    bound = 0.999 * math.sqrt(1 - kept)
    cases = ((Energy(kept), 1 - kept), (Error(bound), bound**2))
    for rule, allowed in cases:
        rank = rule.select(values, break_even(m, n))
        lost = [float(values[r:].square().sum() / values.square().sum()) for r in (rank, rank - 1)]
        assert lost[0] <= allowed + 1e-12
        assert rank == 1 or lost[1] > allowed - 1e-12


def test_the_error_rule_is_kept_by_the_product_and_missed_by_one_term_less():
    weight = gaussian(30, 20)
    found = truncate(weight, Error(0.4))
    rank = len(found.values)
    assert 1 < rank < 20
    for terms, within in ((rank, True), (rank - 1, False)):
        left, right = svd(weight, terms)
        assert (float((weight - left @ right).norm() / weight.norm()) <= 0.4) == within


def test_rounding_noise_counts_as_nothing():
    weight = gaussian(40, 5) @ gaussian(5, 30, seed=1)  # rank 5, the other singular values about 1e-14
    assert Energy(1.0).select(spectrum(weight), 17) == 5
    assert Error(0.0).select(spectrum(weight), 17) == 5


def test_small_losses_keep_their_digits():
    values = torch.tensor([1.0, 1e-6, 1e-7], dtype=torch.float64)
    assert lost_energy(values).tolist() == pytest.approx([1.0, 1.01e-12, 1e-14, 0.0], rel=1e-9, abs=0)
    assert Error(1.1e-6).select(values, 1) == 1
    assert Error(0.9e-6).select(values, 1) == 2


def test_a_zero_matrix_keeps_one_term_and_an_empty_one_none():
    nothing, empty = torch.zeros(3, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    for rule in (Ratio(0.5), Energy(0.9), Error(0.1), Auto()):
        assert rule.select(nothing, limit=2) == 1
        assert rule.select(empty, limit=0) == 0


class TestAuto:
    @pytest.mark.parametrize("shape", [(80, 80), (60, 200), (200, 60)])
    def test_recovers_a_planted_rank(self, shape):
        m, n = shape
        signal = gaussian(m, 7) @ gaussian(7, n, seed=1)
        assert len(truncate(signal + 0.3 * gaussian(m, n, seed=2), Auto()).values) == 7

    @pytest.mark.parametrize("shape", [(80, 80), (60, 200)])
    def test_leaves_pure_noise_dense_which_no_break_even_test_accepts(self, shape):
        rank = len(truncate(gaussian(*shape, seed=3), Auto()).values)
        assert rank == min(shape) > break_even(*shape)

    def test_the_shape_matters(self):
        # The singular values of this noise lie in 24 … 39. A term of 65 stands out of them, and would not
        # if the matrix were taken for a square one, whose noise spreads further.
        m, n = 50, 1000
        weight = gaussian(m, n, seed=4)
        weight[0, 0] += 65
        values = spectrum(weight)
        assert Auto().select(values, 1, aspect=m / n) == 1
        assert Auto().select(values, 1, aspect=1.0) == m

    @pytest.mark.parametrize(("aspect", "threshold"), [(1.0, 2.8582), (0.5, 2.1711), (0.05, 1.5194)])
    def test_the_threshold_is_that_of_the_paper(self, aspect, threshold):
        assert noise_threshold(aspect) == pytest.approx(threshold, abs=2e-4)


class TestWhatAFileCanSay:
    @pytest.mark.parametrize(
        ("value", "rule"),
        [(64, Fixed(64)), (0.5, Ratio(0.5)), (1.0, Ratio(1.0)), (Energy(0.9), Energy(0.9)), (Auto(), Auto())],
    )
    def test_becomes_a_rule(self, value, rule):
        assert as_rank_rule(value) == rule

    @pytest.mark.parametrize("value", [0, -3, True, 0.0, 1.5, math.nan, "64", None])
    def test_nonsense_is_refused_with_what_was_expected(self, value):
        with pytest.raises(TdslError) as caught:
            as_rank_rule(value)
        assert caught.value.expected

    @pytest.mark.parametrize("rule", [Energy, Ratio, Error])
    @pytest.mark.parametrize("value", [1.01, -0.1, 95, math.nan, True, "95%", None])
    def test_what_is_no_share_is_refused_with_the_value_named(self, rule, value):
        with pytest.raises(TdslError) as caught:
            rule(value)
        assert repr(value) in caught.value.message and caught.value.expected
        assert rule(0.5)

    def test_a_rank_that_the_matrix_has_not_says_what_was_possible(self):
        with pytest.raises(UnreachableRankError) as caught:
            svd(gaussian(4, 9), 5)
        assert "from 1 to 4" in str(caught.value)
        left, right = svd(gaussian(4, 9), 4)
        assert (left.shape, right.shape) == ((4, 4), (4, 9))


class TestTiles:
    @pytest.mark.parametrize(
        ("inner", "most", "limit", "rank"),
        [
            (64, 200, 150, 64),
            (60, 200, 150, 64),
            (59, 200, 150, 56),
            (3, 200, 150, 8),  # not to 0
            (149, 200, 150, 144),  # 152 would be past break-even
            (199, 199, 150, 192),  # past break-even by itself: rounding takes it no further
            (5, 6, 6, 5),  # not one tile fits
            (0.5, 200, 150, 72),  # 75
            (1.0, 200, 100, 96),
        ],
    )
    def test_the_nearest_multiple_that_fits(self, inner, most, limit, rank):
        assert Tiled(inner, 8).select(torch.empty(most, device="meta"), limit) == rank

    @given(
        inner=st.integers(1, 99), most=st.integers(1, 99), limit=st.integers(0, 99), tile=st.integers(1, 33)
    )
    def test_rounding_never_leaves_the_range_and_moves_half_a_tile_unless_it_must(
        self, inner, most, limit, tile
    ):
        inner = min(inner, most)
        rule = Tiled(inner, tile)
        rank = rule.select(torch.empty(most, device="meta"), limit)
        assert rule.tile(limit) <= tile and rule.tile(max(limit, 8 * tile)) == tile
        tile = rule.tile(limit)
        assert 1 <= rank <= max(inner, min(most, limit))
        assert rank == inner or rank % tile == 0
        assert abs(rank - inner) < tile
        if rank % tile == 0 and tile <= inner and inner + tile <= min(most, limit):
            assert abs(rank - inner) <= tile / 2

    def test_one_is_the_rule_itself_and_the_tile_shows(self):
        for rule in (Energy(0.9), Error(0.3), Auto(), Ratio(0.4)):
            values = spectrum(gaussian(40, 30))
            plain = rule.select(values, 17)
            assert Tiled(rule, 1).select(values, 17) == plain
            assert Tiled(rule, 4).select(values, 17) % 2 == 0  # 17 is too narrow for eight fours
            assert Tiled(rule, 4).spectral is rule.spectral
            assert Tiled(rule, 4).share(2) == Tiled(rule.share(2), 4)
        assert svd(gaussian(40, 30), Tiled(0.5, 4))[1].shape == (8, 30)
        assert as_rank_rule(Tiled(0.5, 8)) == Tiled(Ratio(0.5), 8) != Tiled(Ratio(0.5), 4)

    @pytest.mark.parametrize("multiple", [0, -8, True, 8.0, "8"])
    def test_a_tile_is_a_number_of_terms(self, multiple):
        with pytest.raises(TdslError, match="tile"):
            Tiled(0.5, multiple)
        with pytest.raises(TdslError, match="is no rank"):
            Tiled("half", 8)
