"""A sparse times a dense factor is found where it is, and loses less than a low rank of the same size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.dense_sparse import Coded, dense_sparse, sparse_basis, whitened_dense_sparse
from tdsl.factor.matrix import spectrum
from tdsl.factor.moment import input_error
from tdsl.factor.rank import Energy, Error, UnreachableRankError

TIGHT = Error(1e-6)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def codes_in_rows(m: int, k: int, each: int, seed: int = 3) -> Tensor:
    """`each` normal numbers in every row."""
    order = torch.rand(m, k, generator=torch.Generator().manual_seed(seed)).argsort(1)
    return gaussian(m, k, seed=seed + 1) * (order < each)


def codes_anywhere(m: int, k: int, share: float, seed: int = 3) -> Tensor:
    """Normal numbers at a share of the places: rows differ in how many they have."""
    kept = torch.rand(m, k, generator=torch.Generator().manual_seed(seed)) < share
    return gaussian(m, k, seed=seed + 1) * kept


PLANTED = {
    "four of 32 in a row": (codes_in_rows(256, 32, 4), 128),
    "three of 32": (codes_in_rows(300, 32, 3), 300),
    "an eighth of 32, anywhere": (codes_anywhere(256, 32, 1 / 8), 256),
    "six of 40, wide": (codes_in_rows(320, 40, 6), 400),
}


def error(weight: Tensor, codes: Tensor, directions: Tensor) -> float:
    return float((weight - codes @ directions).norm() / weight.norm())


def planted(case: str) -> tuple[Tensor, Tensor]:
    codes, columns = PLANTED[case]
    return codes @ gaussian(codes.shape[1], columns, seed=1), codes


@pytest.mark.parametrize("case", PLANTED)
def test_planted_codes_are_found_but_for_order_and_scale(case):
    weight, codes = planted(case)
    found, directions = dense_sparse(weight, TIGHT)
    assert directions.shape == (codes.shape[1], weight.shape[1])
    assert error(weight, found, directions) < 1e-9
    matching = (codes / codes.norm(dim=0)).T @ (found / found.norm(dim=0))
    assert torch.equal((matching.abs() > 1 - 1e-6).sum(0), torch.ones(len(matching), dtype=torch.int64))
    assert int(found.count_nonzero()) == int(codes.count_nonzero())


@pytest.mark.parametrize("case", ["four of 32 in a row"])
def test_the_places_of_codes_matter(case):
    """As many codes at random places are nearly useless: no rank of their size does as badly."""
    weight, codes = planted(case)
    anywhere = torch.randperm(codes.numel(), generator=torch.Generator().manual_seed(5)).reshape(codes.shape)
    found = dense_sparse(weight, TIGHT)
    moved = found[0].flatten()[anywhere.flatten()].reshape(codes.shape)
    fitted = torch.linalg.lstsq(moved, weight).solution
    rank = int(Coded(*found).price / sum(weight.shape))
    tail = float(spectrum(weight)[rank:].norm() / weight.norm())
    assert error(weight, moved, fitted) > 0.9 > tail > 0.4 > 1e-9 > error(weight, *found)


def test_a_dense_factor_of_low_rank_has_no_codes():
    weight = gaussian(96, 8) @ gaussian(8, 80, seed=1)
    codes, directions = dense_sparse(weight, TIGHT)
    assert codes.shape == (96, 8) and codes.count_nonzero() == codes.numel()
    assert error(weight, codes, directions) < 1e-12


def test_a_random_matrix_keeps_as_many_directions_as_it_has_columns():
    assert dense_sparse(gaussian(64, 48), TIGHT)[1].shape == (48, 48)


@pytest.mark.parametrize("rank", [16, 24])
def test_numbers_of_a_rank_lose_less_as_codes(rank):
    """Spectrum i^-0.5, as of trained layers: 128², places of codes counted."""
    values = torch.arange(1, 129, dtype=torch.float64) ** -0.5
    weight = torch.linalg.qr(gaussian(128, 128)).Q * values @ torch.linalg.qr(gaussian(128, 128, seed=1)).Q
    found = dense_sparse(weight, rank)
    assert Coded(*found).price <= rank * 256
    assert error(weight, *found) < 0.97 * float(values[rank:].norm() / values.norm())


@pytest.mark.parametrize("rule", [Error(0.4), Energy(0.8)])
def test_an_error_that_is_allowed_is_kept_at_fewer_numbers(rule):
    values = torch.arange(1, 97, dtype=torch.float64) ** -0.5
    weight = torch.linalg.qr(gaussian(96, 96)).Q * values @ torch.linalg.qr(gaussian(96, 96, seed=1)).Q
    found = dense_sparse(weight, rule)
    allowed = rule.bound if isinstance(rule, Error) else (1 - rule.kept) ** 0.5
    assert 0.8 * allowed < error(weight, *found) <= allowed
    rank = rule.select(values, 96)
    assert found[0].count_nonzero() < found[0].numel() and Coded(*found).price < rank * 192


def test_skewed_inputs_are_met_better_and_even_ones_are_not():
    weight = gaussian(64, 48)
    scales = torch.diag(0.8 ** torch.arange(48, dtype=torch.float64))
    skewed, even = scales @ scales, torch.eye(48, dtype=torch.float64)
    for moment, gains in ((skewed, True), (even, False)):
        known = whitened_dense_sparse(weight, moment, 8)
        blind = dense_sparse(weight, 8)
        errors = [input_error(weight - s @ d, moment) for s, d in (known, blind)]
        assert (errors[0] < 0.7 * errors[1]) is gains


@settings(max_examples=15, deadline=None)
@given(m=st.integers(1, 12), n=st.integers(1, 12), rank=st.integers(1, 12), seed=st.integers(0, 99))
def test_every_size_has_factors_that_fit(m, n, rank, seed):
    weight = gaussian(m, n, seed=seed)
    if rank > min(m, n):
        with pytest.raises(UnreachableRankError):
            dense_sparse(weight, rank)
        return
    codes, directions = dense_sparse(weight, rank)
    assert codes.shape[0] == m and directions.shape[1] == n and codes.shape[1] == directions.shape[0]
    assert error(weight, codes, directions) <= float(spectrum(weight)[rank:].norm() / weight.norm()) + 1e-9


def test_zeros_and_what_is_no_weight():
    codes, directions = dense_sparse(torch.zeros(5, 4), TIGHT)
    assert not (codes @ directions).any()
    with pytest.raises(TdslError, match="NaN or infinite"):
        dense_sparse(torch.full((4, 4), float("nan")), TIGHT)


def test_a_sparse_basis_of_what_has_none_is_its_columns():
    columns = torch.linalg.qr(gaussian(40, 6)).Q
    found = sparse_basis(columns)
    assert torch.linalg.matrix_rank(found) == 6
    assert torch.allclose(columns @ (columns.T @ found), found, atol=1e-6)
