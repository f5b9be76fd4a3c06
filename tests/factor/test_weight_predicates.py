"""Numbers and predicates about weight values say what they claim, exactly unless given a tolerance."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.structure import (
    energy_rank,
    is_circulant,
    is_diagonal,
    is_symmetric,
    is_zero,
    norm,
    numerical_rank,
    relative_error,
    sparsity,
)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def circulant(column: Tensor) -> Tensor:
    n = len(column)
    return torch.stack([column.roll(shift) for shift in range(n)], dim=1)


MEMBERS = {
    is_symmetric: gaussian(5, 5) + gaussian(5, 5).T,
    is_diagonal: gaussian(5).diag(),
    is_circulant: circulant(gaussian(5)),
}


@pytest.mark.parametrize("predicate", MEMBERS)
class TestPredicates:
    def test_hold_exactly_for_a_member_in_any_precision(self, predicate):
        assert predicate(MEMBERS[predicate])
        assert predicate(MEMBERS[predicate].float())
        assert not predicate(gaussian(5, 5, seed=3))

    def test_fail_for_the_least_deviation_and_hold_within_a_tolerance(self, predicate):
        member = MEMBERS[predicate]
        noise = gaussian(5, 5, seed=4)
        near = member + 1e-6 * noise * member.norm() / noise.norm()
        assert not predicate(near)
        assert predicate(near, 1e-6)
        assert not predicate(near, 1e-8)

    def test_need_a_square_matrix(self, predicate):
        assert not predicate(torch.zeros(2, 3))
        assert predicate(torch.zeros(3, 3)) and predicate(torch.zeros(0, 0))
        with pytest.raises(TdslError, match="expected: a weight of 2 axes"):
            predicate(torch.zeros(3))

    def test_refuse_what_is_not_finite(self, predicate):
        with pytest.raises(TdslError, match="NaN"):
            predicate(torch.full((2, 2), math.nan))


def test_the_distance_to_circulant_is_to_the_nearest_one():
    member = circulant(gaussian(6))
    near = member.clone()
    near[0, 0] += 1
    # The nearest circulant takes a sixth of the bump on each of the six diagonal entries: 1 − 1/6 remains.
    distance = math.sqrt(1 - 1 / 6) / float(near.norm())
    assert is_circulant(near, 1.0001 * distance)
    assert not is_circulant(near, 0.9999 * distance)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 12, 30, 49])
def test_circulant_is_exact_at_any_size(size):
    assert is_circulant(circulant(gaussian(size, seed=size)))


def test_a_hankel_matrix_is_not_circulant():
    assert not is_circulant(circulant(gaussian(5)).flip(0))


def test_numerical_rank_counts_above_the_rounding_of_the_type():
    weight = gaussian(30, 4) @ gaussian(4, 20, seed=1)
    assert numerical_rank(weight) == 4
    assert numerical_rank(weight.float()) == 4
    assert numerical_rank(weight.float(), 1e-14) > 4  # rounding to float32 made it full
    assert numerical_rank(gaussian(30, 20)) == 20
    ulp = torch.finfo(torch.float32).eps
    assert numerical_rank(torch.tensor([1.0, 3 * ulp, 3 * ulp, 3 * ulp]).diag()) == 1
    assert numerical_rank(torch.tensor([1.0, 5 * ulp, 5 * ulp, 5 * ulp]).diag()) == 4
    assert numerical_rank(torch.diag(torch.tensor([1.0, 0.1, 0.001])), 0.01) == 2
    assert numerical_rank(torch.eye(3, dtype=torch.int64)) == 3
    assert numerical_rank(torch.zeros(3, 3)) == numerical_rank(torch.zeros(0, 3)) == 0


def test_energy_rank_is_the_rank_that_energy_chooses():
    weight = torch.diag(torch.tensor([3.0, 1.0, 1.0]))  # 9, 1, 1 of 11
    assert [energy_rank(weight, e) for e in (0.8, 0.9, 0.95)] == [1, 2, 3]
    with pytest.raises(TdslError, match="energy"):
        energy_rank(weight, 90)


def test_sparsity_is_the_share_of_zeros():
    assert sparsity(torch.tensor([0.0, -0.0, 1.0, 1e-30])) == 0.5
    assert sparsity(torch.ones(2, 2)) == sparsity(torch.zeros(0)) == 0
    assert sparsity(torch.zeros(2)) == 1


def test_norm_is_frobenius_for_any_number_of_axes():
    assert norm(torch.full((2, 2, 4), 0.5)) == 2
    assert norm(torch.tensor(-3)) == 3


def test_relative_error_is_measured_against_the_first():
    a, b = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])
    assert relative_error(a, b) == pytest.approx(0.1)
    assert relative_error(b, a) != pytest.approx(0.1)
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_error(torch.zeros(2), a) == math.inf
    with pytest.raises(TdslError, match=r"\[2\] and \[2, 1\]"):
        relative_error(a, a[:, None])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_zeros_are_told_in_any_type(dtype):
    assert is_zero(torch.zeros(3, 4, dtype=dtype)) and is_zero(torch.zeros(0, dtype=dtype))
    assert is_zero(torch.zeros(3, 4, dtype=dtype).T) and is_zero(torch.zeros((), dtype=dtype))
    for place, value in ((0, 1), (11, -1)):
        assert not is_zero(torch.zeros(12, dtype=dtype).index_fill(0, torch.tensor([place]), value))


def test_zeros_are_exact_and_finite():
    assert is_zero(torch.tensor([-0.0, 0.0]))
    assert not is_zero(torch.tensor([0.0, 1e-45]))  # the smallest number of its type
    for values in (torch.tensor([0.0, math.nan]), torch.tensor([math.inf, 1.0]), torch.tensor([0j])):
        with pytest.raises(TdslError, match=r"NaN|complex"):
            is_zero(values)
