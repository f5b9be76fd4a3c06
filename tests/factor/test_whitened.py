"""Data-aware truncations are optimal in their metric, exact at full rank, and better where the data are."""

from __future__ import annotations

import pytest
import torch
from data_metrics import gaussian, moment, output_error, samples

from tdsl.errors import TdslError
from tdsl.factor.matrix import svd
from tdsl.factor.moment import checked_moment, input_error, root, two_sided_error
from tdsl.factor.rank import Energy, Error
from tdsl.factor.structure import relative_error
from tdsl.factor.table import DECOMPOSITIONS
from tdsl.factor.whitened import balanced, fisher_svd, two_sided_svd, whitened_svd

W = gaussian(14, 10)
C, G = moment(10), moment(14, seed=3)


def square_root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp_min(0).sqrt() @ vectors.T


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_whitening_reaches_the_optimum_of_the_output_error(rank):
    tail = torch.linalg.svdvals(W @ square_root(C))[rank:].square().sum()
    left, right = whitened_svd(W, C, rank)
    assert input_error(W - left @ right, C) == pytest.approx(float(tail), rel=1e-5)
    plain, other = svd(W, rank)
    assert input_error(W - plain @ other, C) > 1.05 * float(tail)  # and the plain truncation does not


def test_the_output_error_is_the_one_of_data_and_orders_the_choices_of_a_metric():
    """The moment itself as the metric is better than nothing and worse than its root (F03)."""
    # directions of the weight and of the data are unrelated, scales differ by decades
    weight, second = gaussian(64, 64, seed=5), moment(64, seed=6, decay=0.85)
    x = samples(20_000, second)
    by_root = output_error(x, weight, whitened_svd(weight, second, 8))
    by_moment = output_error(x, weight, whitened_svd(weight, second @ second, 8))
    plain = output_error(x, weight, svd(weight, 8))
    assert by_root < by_moment < plain
    white = torch.eye(64, dtype=torch.float64)
    for metric in (white, white @ white):
        left, right = whitened_svd(weight, metric, 8)
        assert relative_error(torch.matmul(*svd(weight, 8)), left @ right) < 1e-6


def test_output_principal_components_are_the_same_factorization():
    """Output PCA: project the outputs on the leading eigenvectors of their own moment W·C·Wᵀ (F04)."""
    for rank in (1, 4, 9):
        leading = torch.linalg.eigh(W @ C @ W.T).eigenvectors[:, -rank:]
        left, right = whitened_svd(W, C, rank, 0.0)
        assert relative_error(leading @ leading.T @ W, left @ right) < 1e-9
    trailing = torch.linalg.eigh(W @ C @ W.T).eigenvectors[:, :4]
    assert relative_error(trailing @ trailing.T @ W, left @ right) > 0.1


@pytest.mark.parametrize("shape", [(14, 10), (10, 14), (8, 8)])
@pytest.mark.parametrize("seen", [1, 3, 5])
def test_full_rank_is_exact_whatever_the_data_left_out(shape, seen):
    weight = gaussian(*shape)
    inputs, outputs = moment(shape[1], rank=seen), moment(shape[0], seed=9, rank=seen)
    full = min(shape)
    for factors in (
        whitened_svd(weight, inputs, full),
        two_sided_svd(weight, inputs, outputs, full),
        whitened_svd(weight, inputs, Energy(1.0)),
    ):
        assert relative_error(weight, factors[0] @ factors[1]) < 1e-10
    undamped = whitened_svd(weight, inputs, full, 0.0)
    assert output_error(samples(500, inputs), weight, undamped) < 1e-7
    left, right = whitened_svd(weight, inputs, max(1, full - 1))
    assert relative_error(weight, left @ right) > 1e-3


def test_directions_without_data_go_first():
    inputs = moment(10, rank=4)
    left, right = whitened_svd(W, inputs, 4)
    assert output_error(samples(500, inputs), W, (left, right)) < 1e-3
    assert relative_error(W, left @ right) > 0.1  # what the error in the metric does not say
    assert output_error(samples(500, inputs), W, svd(W, 4)) > 0.05


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_two_sides_reach_the_optimum_of_their_metric(rank):
    tail = torch.linalg.svdvals(square_root(G) @ W @ square_root(C))[rank:].square().sum()
    left, right = two_sided_svd(W, C, G, rank)
    assert two_sided_error(W - left @ right, C, G) == pytest.approx(float(tail), rel=1e-4)
    one, other = whitened_svd(W, C, rank)
    assert two_sided_error(W - one @ other, C, G) > 1.02 * float(tail)


def test_two_sides_with_a_plain_one_are_one_side():
    unit = torch.eye(14, dtype=torch.float64)
    left, right = two_sided_svd(W, C, unit, 3)
    one, other = whitened_svd(W, C, 3)
    assert relative_error(one @ other, left @ right) < 1e-7
    skewed, third = two_sided_svd(W, C, G, 3)
    assert relative_error(one @ other, skewed @ third) > 1e-2


class TestFisher:
    FISHER = torch.cat([100 * torch.ones(7, 10), torch.ones(7, 10)]).double() * gaussian(14, 10, seed=7) ** 2

    @pytest.mark.parametrize("rank", range(1, 10))
    def test_wins_in_its_own_metric_and_loses_in_the_plain_one(self, rank):
        metric = DECOMPOSITIONS["fisher_svd"].relative_error
        mine, plain = (a @ b for a, b in (fisher_svd(W, self.FISHER, rank), svd(W, rank)))
        assert metric(W, mine, self.FISHER) <= metric(W, plain, self.FISHER)
        assert relative_error(W, mine) >= relative_error(W, plain)

    def test_important_rows_are_kept_better(self):
        left, right = fisher_svd(W, self.FISHER, 4)
        plain, other = svd(W, 4)
        assert relative_error(W[:7], left[:7] @ right) < 0.8 * relative_error(W[:7], plain[:7] @ other)
        gain = relative_error(W[:7], plain[:7] @ other) - relative_error(W[:7], left[:7] @ right)
        for seed in range(5):  # the control: information of other rows
            order = torch.randperm(14, generator=torch.Generator().manual_seed(seed))
            shuffled, third = fisher_svd(W, self.FISHER[order], 4)
            lost = relative_error(W[:7], shuffled[:7] @ third)
            assert lost > relative_error(W[:7], left[:7] @ right) + 0.4 * gain
        opposite, third = fisher_svd(W, self.FISHER.flip(0), 4)
        assert relative_error(W[:7], opposite[:7] @ third) > relative_error(W[:7], plain[:7] @ other)

    def test_equal_information_is_the_plain_truncation(self):
        for information in (torch.full_like(W, 3.0), torch.zeros_like(W)):
            left, right = fisher_svd(W, information, 4)
            assert relative_error(torch.matmul(*svd(W, 4)), left @ right) < 1e-7

    def test_rows_without_information_do_not_divide_by_zero(self):
        information = self.FISHER.clone()
        information[3] = 0
        assert relative_error(W, torch.matmul(*fisher_svd(W, information, 10))) < 1e-10

    @pytest.mark.parametrize("bad", [torch.ones(10, 14), -torch.ones(14, 10)])
    def test_what_is_no_information_is_refused(self, bad):
        with pytest.raises(TdslError, match="Fisher information"):
            fisher_svd(W, bad.double(), 2)


class TestFewData:
    """Fewer samples than inputs: a larger damping generalises, a vanishing one fits the sample (S15)."""

    SECOND = torch.eye(40, dtype=torch.float64) + 20 * moment(40, seed=8, decay=0.5)
    WEIGHT = gaussian(40, 40, seed=9)

    def test_damping_helps_on_other_samples(self):
        held_out = samples(5_000, self.SECOND, seed=11)
        gains = []
        for seed in range(5):
            few = samples(10, self.SECOND, seed=20 + seed)
            second = few.T @ few / len(few)
            damped, raw = (whitened_svd(self.WEIGHT, second, 10, d) for d in (0.3, 0.0))
            gains.append(
                output_error(held_out, self.WEIGHT, raw) - output_error(held_out, self.WEIGHT, damped)
            )
            assert output_error(few, self.WEIGHT, raw) < output_error(few, self.WEIGHT, damped)
        assert min(gains) > 0

    @pytest.mark.parametrize("damping", [-1e-3, float("nan")])
    def test_a_negative_damping_is_refused(self, damping):
        with pytest.raises(TdslError, match="damping"):
            whitened_svd(W, C, 2, damping)


class TestRankRulesInTheMetric:
    def test_an_error_bound_bounds_the_error_of_the_outputs(self):
        x = samples(50_000, C)
        second = x.T @ x / len(x)
        for bound in (0.5, 0.2, 0.05):
            left, right = whitened_svd(W, second, Error(bound))
            assert output_error(x, W, (left, right)) <= bound * (1 + 1e-6)
            rank = left.shape[1]
            assert rank == 1 or output_error(x, W, whitened_svd(W, second, rank - 1)) > bound

    def test_the_same_error_of_the_outputs_costs_fewer_terms(self):
        weight, second = gaussian(30, 30), moment(30)
        x = samples(1_000, second)
        plain = next(rank for rank in range(1, 31) if output_error(x, weight, svd(weight, rank)) <= 0.1)
        assert len(whitened_svd(weight, x.T @ x, Error(0.1))[1]) < 0.7 * plain

    def test_many_ranks_and_layers_on_one_input_cost_one_root_and_one_decomposition_each(self, monkeypatch):
        calls = []
        for name in ("svd", "cholesky_ex", "eigh"):
            real = getattr(torch.linalg, name)
            monkeypatch.setattr(
                torch.linalg, name, lambda *a, n=name, f=real, **k: calls.append(n) or f(*a, **k)
            )
        second = moment(10, seed=31)
        for weight in (gaussian(12, 10, seed=32), gaussian(9, 10, seed=33)):
            for rank in (1, 3, Energy(0.9), Error(0.3)):
                whitened_svd(weight, second, rank)
        # Rules that look at values decompose every matrix, numbers only the tall one.
        assert sorted(calls) == ["cholesky_ex", "eigh", "svd", "svd"]


class TestRoots:
    @pytest.mark.parametrize("rank", [None, 4, 1])
    def test_the_square_of_a_root_is_the_moment(self, rank):
        second = moment(10, rank=rank)
        for damping in (0.0, 1e-8, 0.1):
            found = root(second, damping)
            level = damping * second.diagonal().mean() * torch.eye(10, dtype=torch.float64)
            assert relative_error(second + level, found @ found.T) < 1e-12
        assert relative_error(second, root(second, 0.5) @ root(second, 0.5).T) > 0.1

    def test_moments_summed_in_single_precision_are_accepted(self):
        x = samples(300, moment(40, rank=5)).float()
        second = x.T @ x / len(x)
        found = root(second, 0.0)
        assert relative_error(second.double(), found @ found.T) < 1e-5

    def test_no_data_counts_as_white(self):
        assert torch.equal(root(torch.zeros(3, 3)), torch.eye(3, dtype=torch.float64))
        left, right = whitened_svd(W, torch.zeros(10, 10), 4)
        assert relative_error(torch.matmul(*svd(W, 4)), left @ right) < 1e-12

    @pytest.mark.parametrize(
        ("bad", "words"),
        [
            (torch.eye(9), r"\[9, 9\] for 10 inputs"),
            (torch.ones(10), r"\[10\]"),
            (torch.triu(torch.ones(10, 10)), "not symmetric"),
            (-torch.eye(10), "eigenvalues"),
            (torch.diag(torch.tensor([1.0] * 9 + [-0.1])), "eigenvalues"),
            (torch.full((10, 10), float("nan")), "NaN"),
        ],
    )
    def test_what_is_no_moment_is_refused(self, bad, words):
        with pytest.raises(TdslError, match=words):
            whitened_svd(W, bad, 2)
        assert checked_moment(torch.eye(10), 10, of="inputs") is not None


def test_balanced_factors_have_terms_of_equal_length():
    left, right = gaussian(6, 3), 100 * gaussian(3, 5, seed=1)
    right[1] = 0
    one, other = balanced(left, right)
    assert torch.allclose(one @ other, left @ right)
    assert torch.allclose(one.norm(dim=0)[::2], other.norm(dim=1)[::2])
    assert one.isfinite().all() and other.isfinite().all()
