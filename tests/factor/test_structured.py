"""Structured decompositions find what was planted, at its size, and nothing in a random matrix."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.rank import Energy, Error, Fixed, UnreachableRankError
from tdsl.factor.splits import Way, best, divisors, enough
from tdsl.factor.table import DECOMPOSITIONS

TIGHT = Error(1e-6)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(name: str, *shapes: tuple[int, ...]) -> tuple[Tensor, int]:
    """A weight with that structure and random factors, and how many numbers these hold."""
    factors = [gaussian(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    return DECOMPOSITIONS[name].promise(*factors), sum(f.numel() for f in factors)


def found(name: str, weight: Tensor, rank: object) -> tuple[list[tuple[int, ...]], int, float]:
    """Shapes of the factors, how many numbers they hold, and the relative error."""
    declared = DECOMPOSITIONS[name]
    factors = declared.function(weight, rank)
    error = declared.relative_error(weight, declared.promise(*factors))
    return [tuple(f.shape) for f in factors], sum(f.numel() for f in factors), error


PLANTED = {
    "Monarch": ("block_tt", (8, 8, 8, 1), (8, 8, 1, 8)),
    "block tensor-train": ("block_tt", (6, 8, 9, 2), (9, 6, 2, 8)),
    "low-rank blocks": ("low_rank_blocks", (4, 16, 8, 2), (8, 4, 2, 9)),
    "strided slices": ("strided_blocks", (4, 16, 8, 2), (8, 4, 2, 9)),
    "Kronecker product": ("kronecker", (6, 8, 1), (1, 10, 7)),
    "sum of Kronecker products": ("kronecker", (6, 8, 3), (3, 10, 7)),
    "Kronecker product of three": ("tensor_train", (4, 6, 1), (1, 5, 2, 1), (1, 3, 8)),
    "tensor train": ("tensor_train", (4, 6, 3), (3, 5, 4, 2), (2, 6, 5)),
    "butterfly": ("butterfly", (4, 4, 4, 5), (5, 4, 4, 3), (5, 3, 4, 4)),
}
NAMES = sorted({name for name, *_ in PLANTED.values()})


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_structure_is_found_at_its_size(case):
    name, *shapes = PLANTED[case]
    weight, numbers = planted(name, *shapes)
    factors, stored, error = found(name, weight, TIGHT)
    assert factors == shapes and stored == numbers < weight.numel()
    assert error < 1e-12


@pytest.mark.parametrize("case", PLANTED)
def test_a_random_matrix_has_no_such_structure(case):
    name, *shapes = PLANTED[case]
    weight = gaussian(*planted(name, *shapes)[0].shape, seed=9)
    _, stored, error = found(name, weight, TIGHT)
    assert stored >= weight.numel() and error <= 1e-6


@pytest.mark.parametrize("case", PLANTED)
def test_noise_beyond_the_tolerance_hides_it_and_noise_within_does_not(case):
    name, *shapes = PLANTED[case]
    weight, numbers = planted(name, *shapes)
    noise = gaussian(*weight.shape, seed=9) * weight.norm() / weight.numel() ** 0.5
    _, stored, error = found(name, weight + 1e-7 * noise, TIGHT)
    assert stored == numbers and 1e-8 < error < 1e-6
    assert found(name, weight + 1e-3 * noise, TIGHT)[1] > numbers


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bound", [0.1, 0.4, 0.8])
def test_an_error_that_is_allowed_is_kept_and_a_larger_one_costs_less(name, bound):
    weight = gaussian(24, 20, seed=5)
    _, stored, error = found(name, weight, Error(bound))
    assert error <= bound
    assert stored <= found(name, weight, Error(bound / 2))[1]
    assert found(name, weight, Energy(1 - bound**2))[1:] == pytest.approx((stored, error))


@pytest.mark.parametrize("name", ["block_tt", "low_rank_blocks", "strided_blocks", "kronecker"])
def test_truncation_is_optimal_for_the_sizes_that_it_takes(name):
    """No random perturbation of a factor is better, and least squares in one factor gains nothing."""
    declared, weight = DECOMPOSITIONS[name], gaussian(12, 18, seed=4)
    factors = declared.function(weight, 1)
    error = declared.relative_error(weight, declared.promise(*factors))
    assert 0.1 < error < 1
    for place in range(2):
        basis = torch.stack(
            [declared.promise(*swapped(factors, place, unit)) for unit in units(factors[place])]
        )
        columns = basis.flatten(1).T
        fit = columns @ torch.linalg.lstsq(columns, weight.flatten()[:, None]).solution
        assert float((fit[:, 0] - weight.flatten()).norm() / weight.norm()) == pytest.approx(error, rel=1e-9)


def swapped(factors: tuple[Tensor, ...], place: int, other: Tensor) -> list[Tensor]:
    return [other if k == place else f for k, f in enumerate(factors)]


def units(factor: Tensor) -> list[Tensor]:
    return [unit.reshape(factor.shape) for unit in torch.eye(factor.numel(), dtype=torch.float64)]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_weight_gives_the_same_factors_and_float32_is_computed_in_float64(name):
    weight = gaussian(24, 20, seed=6).float()
    one, other = (DECOMPOSITIONS[name].function(weight.clone(), TIGHT) for _ in range(2))
    assert all(torch.equal(a, b) and a.dtype == torch.float64 for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_what_no_size_allows_is_no_match_and_what_is_no_weight_an_error(name):
    with pytest.raises(UnreachableRankError):
        DECOMPOSITIONS[name].function(gaussian(6, 4), 1000)
    with pytest.raises(TdslError, match="NaN"):
        DECOMPOSITIONS[name].function(torch.full((6, 4), math.nan), TIGHT)
    with pytest.raises(TdslError, match="weight of 2 axes"):
        DECOMPOSITIONS[name].function(gaussian(2, 3, 4), TIGHT)


# ---------------------------------------------------------------- known transforms


def hadamard(levels: int) -> Tensor:
    matrix, step = torch.ones(1, 1, dtype=torch.float64), torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    for _ in range(levels):
        matrix = torch.kron(matrix, step.double())
    return matrix


def fourier(size: int) -> Tensor:
    """The discrete Fourier transform of real numbers: real parts, then imaginary parts. → [2·size, size]."""
    steps = torch.arange(size, dtype=torch.float64)
    angles = 2 * math.pi * torch.outer(steps, steps) / size
    return torch.cat([angles.cos(), -angles.sin()])


def cosine(size: int) -> Tensor:
    """The discrete cosine transform of type II."""
    steps = torch.arange(size, dtype=torch.float64)
    return torch.cos(math.pi * torch.outer(steps, steps + 0.5) / size)


@pytest.mark.parametrize(
    ("name", "matrix", "stored"),
    [
        ("tensor_train", hadamard(6), 3 * 16),
        ("kronecker", hadamard(6), 2 * 64),
        ("block_tt", hadamard(6), 2 * 64 * 8),
        ("butterfly", hadamard(6), 3 * 64 * 4),
        ("butterfly", hadamard(5), 320),  # five factors of 64 numbers, two of them pairwise as one of 128
        ("strided_blocks", fourier(64), 64 * 16 + 64 * 32),
        ("strided_blocks", cosine(64), 3072),
    ],
)
def test_fast_transforms_are_recognised(name, matrix, stored):
    _, numbers, error = found(name, matrix, TIGHT)
    assert numbers == stored < matrix.numel()
    assert error < 1e-12


@pytest.mark.parametrize("rank", [1, 2])
def test_of_a_random_matrix_a_block_train_keeps_no_more_than_a_low_rank_of_its_size(rank):
    """Control of F14: what it gains on what was trained so is nothing that it gains anywhere."""
    weight = gaussian(64, 64, seed=11)
    first, second = DECOMPOSITIONS["block_tt"].function(weight, rank, [8, 8])
    assert first.numel() + second.numel() == rank * 8 * 8 * (8 + 8)  # r m2 n1 (m1 + n2)
    lost = DECOMPOSITIONS["block_tt"].promise(first, second) - weight
    left, right = DECOMPOSITIONS["svd"].function(weight, rank * 8)
    assert left.numel() + right.numel() == first.numel() + second.numel()
    assert float(lost.norm() / (weight - left @ right).norm()) == pytest.approx(1, abs=0.04)


def test_a_fourier_transform_has_no_other_slices_of_low_rank():
    for name in ("block_tt", "low_rank_blocks", "kronecker", "butterfly"):
        assert found(name, fourier(64), TIGHT)[1] > 2 * (64 * 16 + 64 * 32)


# ---------------------------------------------------------------- the choice among sizes


def test_given_blocks_are_taken_and_must_divide():
    function = DECOMPOSITIONS["block_tt"].function
    first, second = function(gaussian(12, 18), 1, [3, 4])
    assert (first.shape, second.shape) == ((3, 6, 4, 1), (4, 3, 1, 3))
    with pytest.raises(TdslError, match="do not divide"):
        function(gaussian(12, 18), 1, [4, 4])


def test_a_bound_asks_for_few_numbers_and_a_rank_for_a_small_error():
    small = Way((1,), (1,), numbers=10, error=0.5)
    close = Way((2,), (1,), numbers=20, error=0.1)
    exact = Way((3,), (1,), numbers=200, error=0.0)
    ways = [exact, close, small]
    assert best(TIGHT, ways, 100) is small
    assert best(TIGHT.share(2), [], 100) is None
    assert best(Fixed(1), ways, 100) is close
    assert best(Fixed(1), [exact], 100) is exact


def test_divisors():
    assert divisors(12) == (1, 2, 3, 4, 6, 12) and divisors(1) == (1,) and divisors(7) == (1, 7)


def test_a_part_is_enough_when_the_rest_is_within_the_bound():
    assert enough(Error(0.1), 1.0, 0.1) and not enough(Error(0.1), 1.0, 0.2)
    assert enough(TIGHT, 1.0, 0.0)


@pytest.mark.parametrize("ranks", [(7, 2), (2, 9)])
def test_a_train_of_a_size_has_the_ranks_that_lose_least(ranks: tuple[int, int]) -> None:
    """A planted train of unequal ranks is exact at its own share of the numbers, and not below it."""
    r, s = ranks
    weight, numbers = planted("tensor_train", (4, 6, r), (r, 5, 4, s), (s, 6, 5))
    _, size, error = found("tensor_train", weight, (numbers + 1) / weight.numel())
    assert size <= numbers + 1 and error < 1e-6
    _, _, less = found("tensor_train", weight, 0.9 * numbers / weight.numel())
    assert less > 1e-3


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_a_train_uses_the_share_of_the_numbers_that_it_is_given(share: float) -> None:
    weight = gaussian(48, 60) / (1 + torch.arange(60, dtype=torch.float64))
    _, size, _ = found("tensor_train", weight, share)
    assert 0.85 * share <= size / weight.numel() <= share


def test_a_random_matrix_is_no_smaller_train() -> None:
    """Control: without a structure the error goes with what is left out."""
    _, _, error = found("tensor_train", gaussian(48, 60), 0.5)
    assert error > 0.5
