"""Products of weights are truncated as products: exact at the width of a head, optimal below it."""

from __future__ import annotations

import pytest
import torch
from data_metrics import gaussian, moment, samples

from tdsl.errors import TdslError
from tdsl.factor import products
from tdsl.factor.matrix import svd
from tdsl.factor.products import bilinear_svd, homogeneous, whitened_bilinear
from tdsl.factor.rank import Energy, Error, UnreachableRankError
from tdsl.factor.structure import relative_error
from tdsl.factor.table import DECOMPOSITIONS

HEADS, WIDTH, SIZE = 3, 5, 12
QUERY, KEY = gaussian(HEADS, WIDTH, SIZE), gaussian(HEADS, WIDTH, SIZE, seed=1)
FORMS = QUERY.mT @ KEY
WHITE = torch.eye(SIZE, dtype=torch.float64)
C, G = moment(SIZE, decay=0.8), moment(SIZE, seed=3, decay=0.8)
in_metric = DECOMPOSITIONS["bilinear_svd"].relative_error


def error(left, right):
    return float((FORMS - left @ right).norm() / FORMS.norm())


def test_the_width_of_a_head_is_exact_and_all_there_is():
    for rank in (WIDTH, 1.0, Energy(1.0), Error(0.0)):
        for metric in ((WHITE, WHITE), (C, G)):
            left, right = bilinear_svd(FORMS, *metric, rank)
            assert (left.shape, right.shape) == ((HEADS, SIZE, WIDTH), (HEADS, WIDTH, SIZE))
            assert error(left, right) < 1e-10
    with pytest.raises(UnreachableRankError):
        bilinear_svd(FORMS, C, G, WIDTH + 1)
    assert error(*bilinear_svd(FORMS, C, G, WIDTH - 1)) > 1e-2


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_products_are_truncated_better_than_their_factors(rank):
    best = torch.linalg.svdvals(FORMS)[:, rank:].square().sum().sqrt() / FORMS.norm()
    assert error(*bilinear_svd(FORMS, WHITE, WHITE, rank)) == pytest.approx(float(best), rel=1e-6)
    separate = [torch.stack([torch.matmul(*svd(w, rank)) for w in weight]) for weight in (QUERY, KEY)]
    apart = float((FORMS - separate[0].mT @ separate[1]).norm() / FORMS.norm())
    assert apart > 1.05 * float(best)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_scores_of_data_lose_least_in_the_metric_of_the_data(rank):
    x, y = samples(3_000, G, seed=4), samples(3_000, C, seed=5)
    second, others = y.T @ y / len(y), x.T @ x / len(x)

    def missed(left, right):
        return float((x @ (FORMS - left @ right) @ y.T).norm() / (x @ FORMS @ y.T).norm())

    aware = bilinear_svd(FORMS, second, others, rank)
    assert missed(*aware) == pytest.approx(in_metric(FORMS, aware[0] @ aware[1], second, others), rel=1e-9)
    assert missed(*aware) < 0.98 * missed(*bilinear_svd(FORMS, WHITE, WHITE, rank))
    assert missed(*aware) < missed(*bilinear_svd(FORMS, others, second, rank))  # the sides exchanged


def test_biases_are_inputs_that_are_always_one():
    """(Qx + q)·(Ky + k) as a form of (x, 1) and (y, 1): exact at full width, where dropping them is not."""
    q, k = gaussian(HEADS, WIDTH, 1, seed=6), gaussian(HEADS, WIDTH, 1, seed=7)
    wide_query, wide_key = torch.cat([QUERY, q], 2), torch.cat([KEY, k], 2)
    x, y = gaussian(20, SIZE, seed=8), gaussian(20, SIZE, seed=9)
    exact = (x @ QUERY.mT + q.mT) @ (y @ KEY.mT + k.mT).mT
    ones = torch.ones(20, 1, dtype=torch.float64)
    xs, ys = torch.cat([x, ones], 1), torch.cat([y, ones], 1)
    left, right = bilinear_svd(wide_query.mT @ wide_key, ys.T @ ys / 20, xs.T @ xs / 20, WIDTH)
    new_q, new_k = left[:, SIZE:], right[:, :, SIZE:].mT
    scores = (x @ left[:, :SIZE] + new_q) @ (y @ right[:, :, :SIZE].mT + new_k).mT
    assert relative_error(exact, scores) < 1e-10
    assert relative_error(exact, (x @ left[:, :SIZE]) @ (y @ right[:, :, :SIZE].mT).mT) > 0.1


@pytest.mark.parametrize("bound", [0.7, 0.3, 0.1])
def test_an_error_bound_takes_the_least_rank_within_it(bound):
    left, right = bilinear_svd(FORMS, C, G, Error(bound))
    assert in_metric(FORMS, left @ right, C, G) <= bound * (1 + 1e-6)
    rank = left.shape[2]
    assert rank == 1 or in_metric(FORMS, torch.matmul(*bilinear_svd(FORMS, C, G, rank - 1)), C, G) > bound


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_one_side_alone_is_both_with_a_plain_other_one(rank):
    one = torch.matmul(*whitened_bilinear(FORMS, C, rank))
    assert relative_error(torch.matmul(*bilinear_svd(FORMS, C, WHITE, rank)), one) < 1e-7
    assert rank == 5 or relative_error(torch.matmul(*bilinear_svd(FORMS, C, G, rank)), one) > 1e-2


def test_a_constant_input_completes_a_moment():
    x = gaussian(50, 4, seed=11) + 2
    ones = torch.ones(50, 1, dtype=torch.float64)
    wide = torch.cat([x, ones], 1)
    found = homogeneous(x.T @ x / 50, x.mean(0))
    assert torch.allclose(found, wide.T @ wide / 50)
    with pytest.raises(TdslError):
        homogeneous(x.T @ x / 50, x.mean(0)[:3])


def test_terms_are_balanced():
    left, right = bilinear_svd(1e4 * FORMS, C, G, 3)
    assert torch.allclose(left.norm(dim=1), right.norm(dim=2))
    left, right = bilinear_svd(torch.zeros(2, 4, 3), moment(3), moment(4), 1)
    assert not (left @ right).any() and left.isfinite().all()


class TestNarrowProducts:
    """The range of a product of narrow weights is found by a sketch, which must not change the answer."""

    @pytest.mark.parametrize("rank", [2, 5])
    def test_the_sketch_changes_nothing(self, monkeypatch, rank):
        taken = []
        real = torch.linalg.svd
        monkeypatch.setattr(torch.linalg, "svd", lambda a, **k: taken.append(a.shape[1]) or real(a, **k))
        whole = torch.matmul(*bilinear_svd(FORMS, C, G, rank))
        monkeypatch.setattr(products, "SKETCH", 5)
        monkeypatch.setattr(products, "_decompose", products._decompose.__wrapped__)
        narrow = torch.matmul(*bilinear_svd(FORMS, C, G, rank))
        assert taken[-1] == 5  # rows that remain of the twelve
        assert relative_error(whole, narrow) < 1e-9

    def test_a_wide_product_is_decomposed_in_full(self, monkeypatch):
        monkeypatch.setattr(products, "SKETCH", 4)
        monkeypatch.setattr(products, "_decompose", products._decompose.__wrapped__)
        assert error(*bilinear_svd(FORMS, C, G, WIDTH)) < 1e-10


def test_what_does_not_fit_is_refused():
    with pytest.raises(TdslError, match="columns"):
        bilinear_svd(FORMS, moment(5), G, 2)
    with pytest.raises(TdslError, match="rows"):
        bilinear_svd(FORMS, C, moment(5), 2)
    with pytest.raises(TdslError, match=r"\[12, 12\]"):
        bilinear_svd(WHITE, C, G, 2)
