"""Selected units and the weight that makes up for the others: least squares, nested, exact where possible."""

from __future__ import annotations

import itertools

import pytest
import torch
from data_metrics import gaussian, moment, output_error, samples

from tdsl.errors import TdslError
from tdsl.factor.interpolative import eliminate, interpolative, interpolative_weighted
from tdsl.factor.moment import input_error, two_sided_error
from tdsl.factor.rank import Energy, Error, Fixed, Ratio, UnreachableRankError
from tdsl.factor.structure import relative_error
from tdsl.factor.table import DECOMPOSITIONS
from tdsl.factor.whitened import whitened_svd

B = gaussian(6, 9)
H = moment(9, decay=0.6)


def kept_units(selection):
    """The positions that P selects, after checking that it selects."""
    assert torch.equal(selection.sum(1), torch.ones(len(selection), dtype=torch.float64))
    assert set(selection.unique().tolist()) <= {0.0, 1.0}
    return selection.argmax(1)


def least_squares_error(weight, second, units):
    """The squared error of the best weight on `units`, by a pseudo-inverse."""
    reading = weight @ second[:, units] @ torch.linalg.pinv(second[units][:, units])
    difference = weight.clone()
    difference[:, units] -= reading
    return input_error(difference, second)


@pytest.mark.parametrize("units", range(1, 10))
def test_the_weight_on_the_units_kept_is_the_least_squares_one(units):
    reading, selection = interpolative(B, H, units)
    kept = kept_units(selection)
    assert (reading.shape, selection.shape) == ((6, units), (units, 9))
    error = input_error(B - reading @ selection, H)
    assert error == pytest.approx(least_squares_error(B, H, kept), abs=1e-9)
    uncorrected = B.clone()
    uncorrected[:, kept] = 0
    assert units == 9 or input_error(uncorrected, H) > 1.2 * error


@pytest.mark.parametrize("units", range(1, 9))
def test_the_choice_is_close_to_the_best_of_all_choices(units):
    errors = [
        least_squares_error(B, H, list(choice)) ** 0.5 for choice in itertools.combinations(range(9), units)
    ]
    reading, selection = interpolative(B, H, units)
    found = input_error(B - reading @ selection, H) ** 0.5
    assert min(errors) * (1 - 1e-6) <= found <= 1.2 * min(errors)
    assert sum(errors) / len(errors) > 1.2 * found  # which a choice at random is not


def test_no_selection_beats_a_truncation_of_the_same_rank():
    for units in range(1, 9):
        reading, selection = interpolative(B, H, units)
        left, right = whitened_svd(B, H, min(units, 6))
        assert input_error(B - left @ right, H) <= input_error(B - reading @ selection, H) + 1e-9


def test_all_units_are_the_weight_itself_and_ratios_count_units():
    for rank in (9, 1.0, Ratio(1.0), Energy(1.0), Error(0.0)):
        reading, selection = interpolative(B, H, rank)
        assert torch.equal(reading, B)
        assert torch.equal(selection, torch.eye(9, dtype=torch.float64))
    assert len(interpolative(B, H, 0.5)[1]) == 4
    assert relative_error(B, torch.matmul(*interpolative(B, H, 8))) > 1e-2
    with pytest.raises(UnreachableRankError):
        interpolative(B, H, 10)


def test_units_that_repeat_others_go_first_and_cost_nothing_on_other_inputs():
    """Twelve hidden units of a ReLU layer, five of them positive multiples of others (F06)."""
    first = gaussian(7, 8, seed=1)
    twins, factors = torch.tensor([0, 0, 2, 5, 6]), torch.tensor([2.0, 0.5, 3.0, 0.1, 1.0]).double()
    first = torch.cat([first, factors[:, None] * first[twins]])
    second = gaussian(6, 12, seed=2)
    x = gaussian(400, 8, seed=3)
    hidden = (x @ first.T).relu()
    reading, selection = interpolative(second, hidden.T @ hidden / len(hidden), 7)
    held_out = gaussian(300, 8, seed=4) * 3
    exact = (held_out @ first.T).relu() @ second.T
    narrow = (held_out @ (selection @ first).T).relu() @ reading.T
    assert relative_error(exact, narrow) < 1e-8
    for rule in (Error(1e-4), Energy(1 - 1e-8)):
        assert len(interpolative(second, hidden.T @ hidden, rule)[1]) == 7
    fewer, chosen = interpolative(second, hidden.T @ hidden, 6)
    assert relative_error(exact, (held_out @ (chosen @ first).T).relu() @ fewer.T) > 1e-2


@pytest.mark.parametrize("units", [3, 6, 8])
def test_outputs_are_off_by_no_more_than_the_units_that_are_rebuilt(units):
    """‖(H − H_I·T)·Bᵀ‖ ≤ ‖B‖₂·‖H − H_I·T‖, T the same whatever reads the units (F06)."""
    hidden = gaussian(300, 8, seed=13) @ gaussian(8, 9, seed=14).relu() + 0.2 * gaussian(300, 9, seed=15)
    second = hidden.T @ hidden / len(hidden)
    reading, selection = interpolative(B, second, units)
    kept = kept_units(selection)
    rebuilt = hidden[:, kept] @ torch.linalg.lstsq(hidden[:, kept], hidden).solution
    missed = float((hidden @ B.T - hidden[:, kept] @ reading.T).norm())
    assert 0 < missed <= float(torch.linalg.matrix_norm(B, 2) * (hidden - rebuilt).norm())
    assert relative_error(rebuilt @ B.T, hidden[:, kept] @ reading.T) < 1e-9
    cut = float((hidden @ B.T - hidden[:, kept] @ B[:, kept].T).norm())  # the control: nothing corrected
    assert cut > 1.2 * missed


@pytest.mark.parametrize("bound", [0.7, 0.4, 0.1, 0.02])
def test_an_error_bound_takes_the_fewest_units_within_it(bound):
    measured = DECOMPOSITIONS["interpolative"].relative_error
    for rule in (Error(bound), Energy(1 - bound**2)):
        reading, selection = interpolative(B, H, rule)
        assert measured(B, reading @ selection, H) <= bound
        fewer = len(selection) - 1
        assert not fewer or measured(B, torch.matmul(*interpolative(B, H, fewer)), H) > bound


def test_fewer_units_are_among_more_units_and_one_elimination_serves_all(monkeypatch):
    calls = []
    real = torch.cholesky_inverse
    monkeypatch.setattr(torch, "cholesky_inverse", lambda *a, **k: calls.append(1) or real(*a, **k))
    weight = gaussian(5, 9, seed=44)
    nested = [set(kept_units(interpolative(weight, H, k)[1]).tolist()) for k in range(1, 10)]
    assert all(one < other for one, other in itertools.pairwise(nested))
    assert len(calls) == 1


@pytest.mark.parametrize("rank", [2, 5])
def test_units_beyond_the_rank_of_the_moment_are_redundant(rank):
    second = moment(9, rank=rank)
    for units in range(rank, 10):
        reading, selection = interpolative(B, second, units)
        assert input_error(B - reading @ selection, second) < 1e-9 * input_error(B, second)
    reading, selection = interpolative(B, second, rank - 1)
    assert input_error(B - reading @ selection, second) > 1e-4 * input_error(B, second)


@pytest.mark.parametrize("unit", range(9))
def test_a_dead_unit_is_the_first_to_go(unit):
    dead = H.clone()
    dead[unit] = dead[:, unit] = 0
    assert unit not in kept_units(interpolative(B, dead, 8)[1])
    alive = eliminate(B, H, 1).order[-1]
    assert unit in kept_units(interpolative(B, H, 8)[1]) or unit == alive


class TestOutputsWeighted:
    G = moment(6, seed=6, decay=0.2)

    @pytest.mark.parametrize("units", [1, 2, 4])
    def test_wins_in_its_metric_and_not_in_the_plain_one(self, units):
        mine = torch.matmul(*interpolative_weighted(B, H, self.G, units))
        plain = torch.matmul(*interpolative(B, H, units))
        assert two_sided_error(B - mine, H, self.G) <= two_sided_error(B - plain, H, self.G) * (1 + 1e-9)
        assert input_error(B - mine, H) >= input_error(B - plain, H) * (1 - 1e-9)

    def test_the_metric_changes_the_choice(self):
        chosen = [kept_units(f(2)[1]).tolist() for f in (self.weighted, lambda k: interpolative(B, H, k))]
        assert chosen[0] != chosen[1]
        unit = torch.eye(6, dtype=torch.float64)
        plain = interpolative_weighted(B, H, unit, 3)
        assert all(torch.allclose(a, b) for a, b in zip(plain, interpolative(B, H, 3), strict=True))

    def weighted(self, units):
        return interpolative_weighted(B, H, self.G, units)


class TestBlocks:
    WEIGHT, SECOND = gaussian(6, 12, seed=8), moment(12, seed=9)

    @pytest.mark.parametrize("blocks", [1, 2, 3])
    def test_whole_blocks_stay_or_go(self, blocks):
        reading, selection = interpolative(self.WEIGHT, self.SECOND, blocks, 3)
        units = kept_units(selection).reshape(blocks, 3)
        assert torch.equal(units, units[:, :1] + torch.arange(3)) and not (units[:, 0] % 3).any()
        error = input_error(self.WEIGHT - reading @ selection, self.SECOND)
        assert error == pytest.approx(
            least_squares_error(self.WEIGHT, self.SECOND, units.reshape(-1)), abs=1e-9
        )
        every = [
            least_squares_error(self.WEIGHT, self.SECOND, [3 * b + i for b in choice for i in range(3)])
            for choice in itertools.combinations(range(4), blocks)
        ]
        assert error <= 1.05 * min(every) < 0.9 * max(every)
        free = interpolative(self.WEIGHT, self.SECOND, 3 * blocks)
        assert input_error(self.WEIGHT - torch.matmul(*free), self.SECOND) < error

    def test_all_blocks_are_exact_and_a_block_that_repeats_another_is_free(self):
        assert torch.equal(interpolative(self.WEIGHT, self.SECOND, 4, 3)[0], self.WEIGHT)
        x = samples(200, self.SECOND)
        x[:, 6:9] = x[:, 0:3] @ gaussian(3, 3, seed=10)
        factors = interpolative(self.WEIGHT, x.T @ x, 3, 3)
        assert output_error(x, self.WEIGHT, factors) < 1e-7
        assert output_error(x, self.WEIGHT, interpolative(self.WEIGHT, x.T @ x, 2, 3)) > 1e-2
        assert len(interpolative(self.WEIGHT, x.T @ x, Error(1e-4), 3)[1]) == 9

    @pytest.mark.parametrize("size", [0, -3, 5, True, 3.0])
    def test_a_size_that_does_not_divide_is_refused(self, size):
        with pytest.raises(TdslError, match="blocks of"):
            interpolative(self.WEIGHT, self.SECOND, 1, size)


def test_more_outputs_than_units_and_none_at_all():
    tall = gaussian(40, 9, seed=12)
    reading, selection = interpolative(tall, H, 5)
    assert input_error(tall - reading @ selection, H) == pytest.approx(
        least_squares_error(tall, H, kept_units(selection)), abs=1e-8
    )
    reading, selection = interpolative(torch.zeros(3, 0), torch.zeros(0, 0), 0.5)
    assert (reading.shape, selection.shape) == ((3, 0), (0, 0))


def test_no_data_count_as_units_that_are_independent_and_equal():
    _, selection = interpolative(B, torch.zeros(9, 9), 4)
    largest = B.norm(dim=0).argsort(descending=True)[:4].sort().values
    assert torch.equal(kept_units(selection), largest)


def test_a_moment_of_other_units_is_refused():
    with pytest.raises(TdslError, match=r"\[6, 6\] for 9 units"):
        interpolative(B, torch.eye(6), 3)
    assert len(eliminate(B, H, 3).order) == 3
    assert len(interpolative(B, H, Fixed(3))[1]) == 3
