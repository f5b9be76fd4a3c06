"""Columns and rows of a weight: slices of it, exact at its rank, chosen better than at random."""

from __future__ import annotations

import pytest
import torch
from data_metrics import gaussian, moment, output_error, samples

from tdsl.factor.cur import cur, skeleton, whitened_cur
from tdsl.factor.matrix import svd
from tdsl.factor.moment import input_error
from tdsl.factor.rank import Error
from tdsl.factor.structure import relative_error
from tdsl.factor.table import DECOMPOSITIONS

W = gaussian(14, 10) * 0.6 ** torch.arange(10) @ gaussian(10, 10, seed=1)
C = moment(10, seed=2)


def positions(slices, weight):
    """Where each row of `slices` is in `weight`, bit for bit."""
    return [int((weight == row).all(1).nonzero()[0, 0]) for row in slices]


@pytest.mark.parametrize("method", [cur, lambda w, r: whitened_cur(w, C, r)])
@pytest.mark.parametrize("rank", [1, 4, 9])
def test_outer_factors_are_slices_and_nested(method, rank):
    columns, core, rows = method(W, rank)
    assert (columns.shape, core.shape, rows.shape) == ((14, rank), (rank, rank), (rank, 10))
    across, down = positions(columns.T, W.T), positions(rows, W)
    assert len(set(across)) == len(set(down)) == rank
    more = method(W, rank + 1)
    assert positions(more[0].T, W.T)[:rank] == across and positions(more[2], W)[:rank] == down


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_the_matrix_between_is_the_best_one_and_the_truncation_is_better(rank):
    columns, core, rows = cur(W, rank)
    best = torch.linalg.pinv(columns) @ W @ torch.linalg.pinv(rows)
    assert relative_error(best, core) < 1e-9
    left, right = svd(W, rank)
    error = relative_error(W, columns @ core @ rows)
    assert relative_error(W, left @ right) <= error <= 3 * relative_error(W, left @ right)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_the_rank_of_the_weight_is_exact(rank):
    weight = gaussian(14, rank, seed=3) @ gaussian(rank, 10, seed=4)
    for factors in (cur(weight, rank), whitened_cur(weight, C, rank), cur(weight, Error(1e-10))):
        assert factors[1].shape == (rank, rank)
        assert relative_error(weight, torch.linalg.multi_dot(factors)) < 1e-12
    if rank > 1:
        assert relative_error(weight, torch.linalg.multi_dot(cur(weight, rank - 1))) > 1e-3


def test_spikes_are_found_where_a_random_choice_misses_them():
    """A few large rows and columns in noise (F05)."""
    weight = 0.01 * gaussian(40, 30, seed=5)
    weight[[3, 17, 30]] += gaussian(3, 30, seed=6)
    weight[:, [2, 11]] += gaussian(40, 2, seed=7)
    found = relative_error(weight, torch.linalg.multi_dot(cur(weight, 5)))
    errors = []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        rows, columns = (torch.randperm(n, generator=generator)[:5] for n in weight.shape)
        picked, other = weight[:, columns], weight[rows]
        between = torch.linalg.pinv(picked) @ weight @ torch.linalg.pinv(other)
        errors.append(relative_error(weight, picked @ between @ other))
    assert found < 0.1 < 0.4 < min(errors)


def test_the_points_are_those_of_discrete_empirical_interpolation():
    vectors = torch.linalg.svd(W, full_matrices=False).U[:, :6]
    points = [int(vectors[:, 0].abs().argmax())]
    for j in range(1, 6):
        weights = torch.linalg.solve(vectors[points][:, :j], vectors[points, j])
        points.append(int((vectors[:, j] - vectors[:, :j] @ weights).abs().argmax()))
    assert skeleton(W, W, W).rows[:6].tolist() == points


@pytest.mark.parametrize("rank", [2, 5])
def test_large_inputs_count_and_the_middle_is_best_for_them(rank):
    second = torch.diag(10.0 ** -torch.arange(10, dtype=torch.float64)) + 1e-3 * C
    x = samples(2_000, second)
    second = x.T @ x / len(x)
    columns, core, rows = whitened_cur(W, second, rank)
    error = output_error(x, W, (columns @ core, rows))
    declared = DECOMPOSITIONS["whitened_cur"]
    assert error == pytest.approx(declared.relative_error(W, columns @ core @ rows, second), rel=1e-9)
    plain = cur(W, rank)
    assert error < 0.8 * output_error(x, W, (plain[0] @ plain[1], plain[2]))
    shaken = core * (1 + 1e-3 * gaussian(rank, rank, seed=9))
    assert input_error(W - columns @ shaken @ rows, second) > input_error(W - columns @ core @ rows, second)


@pytest.mark.parametrize("bound", [0.5, 0.1, 0.01])
def test_an_error_bound_takes_the_fewest_within_it(bound):
    columns, core, rows = cur(W, Error(bound))
    assert relative_error(W, columns @ core @ rows) <= bound
    rank = len(core)
    assert rank == 1 or relative_error(W, torch.linalg.multi_dot(cur(W, rank - 1))) > bound


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4, 3)])
def test_nothing_is_cut_into_nothing(shape):
    columns, core, rows = cur(torch.zeros(shape), 0.5)
    assert torch.equal(columns @ core @ rows, torch.zeros(shape, dtype=torch.float64))
