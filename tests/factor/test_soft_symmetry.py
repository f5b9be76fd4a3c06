"""A symmetric part and a remainder of low rank are told apart where both are there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor import soft_symmetry
from tdsl.factor.rank import Energy, Error, Fixed, Ratio, Tiled, UnreachableRankError
from tdsl.factor.soft_symmetry import (
    exchangeable_plus_low_rank,
    exchangeable_sum,
    mirror_plus_low_rank,
    mirror_sum,
)

TIGHT = Error(1e-6)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mirrored(p: int, q: int, r: int) -> Tensor:
    return mirror_sum(
        gaussian(p, q), gaussian(p, q, seed=1), gaussian(2 * p, r, seed=2), gaussian(r, 2 * q, seed=3)
    )


def alike(n: int, p: int, q: int, r: int) -> Tensor:
    return exchangeable_sum(
        gaussian(p, q), gaussian(p, q, seed=1), gaussian(n * p, r, seed=2), gaussian(r, n * q, seed=3)
    )


def error_of(weight: Tensor, rebuilt: Tensor) -> float:
    return float((weight - rebuilt).norm() / weight.norm())


# ---------------------------------------------------------------- the mirror


@pytest.mark.parametrize("sizes", [(8, 6, 2), (16, 16, 5), (32, 20, 1), (3, 9, 3)])
@pytest.mark.parametrize("by", ["error", "energy", "number"])
def test_the_mirror_image_and_the_remainder_are_found_exactly(sizes, by):
    weight, (p, q, r) = mirrored(*sizes), sizes
    factors = mirror_plus_low_rank(weight, {"error": TIGHT, "energy": Energy(1 - 1e-13), "number": r}[by])
    assert [tuple(f.shape) for f in factors] == [(p, q), (p, q), (2 * p, r), (r, 2 * q)]
    assert error_of(weight, mirror_sum(*factors)) < 1e-12


def test_the_symmetric_part_alone_is_its_own_mirror_image():
    even, odd, left, right = mirror_plus_low_rank(gaussian(12, 18), 2)
    whole = mirror_sum(even, odd, left, right) - left @ right
    torch.testing.assert_close(whole, whole.flip([0, 1]), rtol=0, atol=1e-14)


def test_no_other_sum_is_nearer_than_the_one_that_is_found():
    """Against gradient descent from many starts: the closed form is the optimum."""
    weight = gaussian(8, 12)
    found = error_of(weight, mirror_sum(*mirror_plus_low_rank(weight, 2)))
    for seed in range(4):
        factors = [gaussian(*s, seed=seed).requires_grad_() for s in ((4, 6), (4, 6), (8, 2), (2, 12))]
        optimiser = torch.optim.LBFGS(factors, max_iter=300, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()  # noqa: B023
            missed = (weight - mirror_sum(*factors)).square().sum()  # noqa: B023
            missed.backward()
            return missed

        optimiser.step(loss)
        reached = error_of(weight, mirror_sum(*factors).detach())
        assert reached > found - 1e-9
        assert reached < 2 * found


@pytest.mark.parametrize("bound", [0.05, 0.3, 0.6])
def test_an_error_that_is_allowed_is_kept_and_used(bound):
    weight = gaussian(24, 36, seed=3)
    even, odd, left, right = mirror_plus_low_rank(weight, Error(bound))
    assert error_of(weight, mirror_sum(even, odd, left, right)) <= bound
    if left.shape[1] > 1:
        fewer = mirror_plus_low_rank(weight, left.shape[1] - 1)
        assert error_of(weight, mirror_sum(*fewer)) > bound


def test_ranks_in_tiles_and_shares():
    weight = gaussian(96, 96)
    assert mirror_plus_low_rank(weight, Tiled(Error(0.3), 4))[2].shape[1] % 4 == 0
    assert mirror_plus_low_rank(weight, Ratio(0.5))[2].shape[1] == 23


# ---------------------------------------------------------------- items


@pytest.mark.parametrize("sizes", [(8, 4, 3, 2), (16, 4, 4, 3), (32, 2, 3, 1), (12, 1, 1, 1), (4, 8, 8, 2)])
@pytest.mark.parametrize("by", ["error", "number"])
def test_the_items_and_the_remainder_are_found(sizes, by):
    weight, (n, p, q, r) = alike(*sizes), sizes
    factors = exchangeable_plus_low_rank(weight, TIGHT if by == "error" else r)
    assert [tuple(f.shape) for f in factors] == [(p, q), (p, q), (n * p, r), (r, n * q)]
    assert error_of(weight, exchangeable_sum(*factors)) < 1e-6


def test_projecting_first_would_not_find_them():
    """The mean over the group takes a part of the remainder with it, and what is left has full rank."""
    weight = alike(16, 2, 2, 1)
    each, total = soft_symmetry._nearest(weight, 16)
    left_over = weight - soft_symmetry._spread(each, total, 16)
    assert int(torch.linalg.matrix_rank(left_over)) > 10
    assert exchangeable_plus_low_rank(weight, TIGHT)[2].shape[1] == 1


@pytest.mark.parametrize("level", [1e-3, 1e-2])
def test_noise_is_left_where_it_is_allowed(level):
    clean = alike(16, 4, 4, 2)
    noise = gaussian(*clean.shape, seed=7)
    weight = clean + level * clean.norm() / noise.norm() * noise
    factors = exchangeable_plus_low_rank(weight, Error(2 * level))
    assert factors[0].shape == (4, 4) and factors[2].shape[1] == 2
    assert error_of(clean, exchangeable_sum(*factors)) < level


def test_a_random_matrix_stays_whole_and_exact():
    weight = gaussian(48, 36)
    factors = exchangeable_plus_low_rank(weight, TIGHT)
    assert factors[0].shape == weight.shape and error_of(weight, exchangeable_sum(*factors)) == 0


def test_more_turns_do_not_hurt_and_one_is_not_enough(monkeypatch):
    weight, errors = alike(12, 3, 3, 2), []
    for turns in (1, 2, 5, 20):
        monkeypatch.setattr(soft_symmetry, "SWEEPS", turns)
        factors = soft_symmetry._alternated.__wrapped__(weight, 12, 2)
        errors.append(error_of(weight, exchangeable_sum(*factors)))
    assert errors == sorted(errors, reverse=True) and errors[0] > 1e-3 > errors[-1]


def test_what_is_no_weight_and_no_rank():
    for decompose in (mirror_plus_low_rank, exchangeable_plus_low_rank):
        with pytest.raises(TdslError, match="NaN"):
            decompose(torch.full((4, 4), float("nan")), TIGHT)
        with pytest.raises(UnreachableRankError):
            decompose(gaussian(12, 12), Fixed(1000))
    with pytest.raises(UnreachableRankError, match="a middle"):
        mirror_plus_low_rank(gaussian(5, 4), TIGHT)
    with pytest.raises(UnreachableRankError):
        exchangeable_plus_low_rank(gaussian(7, 5), 1)
