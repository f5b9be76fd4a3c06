"""The shape of a Tucker core within a budget: never beyond it, and nearly always the best there is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.conv import tucker2, tucker2_product
from tdsl.factor.core_shape import core_shape
from tdsl.factor.rank import Ratio, Tiled
from tdsl.factor.tucker import tucker2_limits


def numbers_of(ranks: Sequence[int], sizes: Sequence[int], volume: int = 1) -> int:
    """How many numbers a Tucker core of those ranks and its factors hold."""
    return volume * math.prod(ranks) + sum(size * rank for size, rank in zip(sizes, ranks, strict=True))


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unfoldings(tensor: Tensor) -> list[Tensor]:
    return [tensor.movedim(axis, 0).reshape(tensor.shape[axis], -1) for axis in range(tensor.ndim)]


def decaying(shape: tuple[int, ...], seed: int) -> Tensor:
    """A tensor whose spectra fall off, at a rate of its own along every axis."""
    rates = torch.rand(len(shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    tensor = gaussian(*shape, seed=seed)
    for axis, size in enumerate(shape):
        scale = torch.arange(1.0, size + 1, dtype=torch.float64) ** -(0.3 + 1.5 * rates[axis])
        tensor = (tensor.movedim(axis, -1) * scale).movedim(-1, axis)
        turn = torch.linalg.qr(gaussian(size, size, seed=seed + axis + 100)).Q
        tensor = torch.tensordot(tensor, turn, dims=([axis], [1])).movedim(-1, axis)
    return tensor


def kept_by_shape(tensor: Tensor) -> Tensor:
    """The energy of every leading block of the core of the higher-order SVD."""
    core = tensor
    for axis, unfolded in enumerate(unfoldings(tensor)):
        left = torch.linalg.svd(unfolded, full_matrices=False).U
        core = torch.tensordot(core, left, dims=([axis], [0])).movedim(-1, axis)
    kept = core.square()
    for axis in range(tensor.ndim):
        kept = kept.cumsum(axis)
    return kept


def spectra(tensor: Tensor) -> list[Tensor]:
    return [torch.linalg.svdvals(unfolded) for unfolded in unfoldings(tensor)]


def shapes_within(budget: int, sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
    every = itertools.product(*(range(1, size + 1) for size in sizes))
    return [ranks for ranks in every if numbers_of(ranks, sizes) <= budget]


def test_the_shape_chosen_is_as_good_as_the_best_one() -> None:
    """Against every shape that fits, by the true loss of the truncated higher-order SVD."""
    sizes, budget = (10, 12, 8), 150
    best, ratios = 0, []
    for seed in range(20):
        tensor = decaying(sizes, seed)
        kept, total = kept_by_shape(tensor), float(tensor.square().sum())
        lost = {
            ranks: total - float(kept[tuple(r - 1 for r in ranks)]) for ranks in shapes_within(budget, sizes)
        }
        chosen = core_shape(spectra(tensor), sizes, budget)
        assert numbers_of(chosen, sizes) <= budget
        least = min(lost.values())
        ratios.append(math.sqrt(lost[chosen] / least))
        best += lost[chosen] <= least * (1 + 1e-9)
    assert best >= 15
    assert sum(ratios) / len(ratios) <= 1.005 and max(ratios) <= 1.05


def test_two_axes_are_solved_exactly() -> None:
    for seed in range(6):
        outputs, inputs, volume = 9, 7, 4
        values = [torch.rand(n, generator=torch.Generator().manual_seed(seed + n)).double() for n in (9, 7)]
        values = [v.sort(descending=True).values for v in values]
        budget = 60 + 30 * seed
        tails = [
            torch.cat([v.square(), v.new_zeros(1)]).flip(0).cumsum(0).flip(0) / v.square().sum()
            for v in values
        ]
        fits = {
            (r, q): float(tails[0][r] + tails[1][q])
            for r, q in itertools.product(range(1, 10), range(1, 8))
            if numbers_of((r, q), (outputs, inputs), volume) <= budget and r <= q * volume and q <= r * volume
        }
        chosen = core_shape(values, (outputs, inputs), budget, volume)
        assert fits[chosen] == pytest.approx(min(fits.values()), abs=1e-12)


def test_a_flat_axis_keeps_its_full_rank_and_a_steep_one_pays_for_it() -> None:
    flat, steep = torch.ones(8, dtype=torch.float64), 0.1 ** torch.arange(8, dtype=torch.float64)
    budget = numbers_of((8, 2), (8, 8), 9)
    assert core_shape([flat, steep], (8, 8), budget, 9) == (8, 2)
    assert core_shape([steep, flat], (8, 8), budget, 9) == (2, 8)
    assert max(core_shape([steep, steep], (8, 8), budget, 9)) < 8


def test_axes_that_are_spanned_by_few_cost_no_more_than_those() -> None:
    planted = torch.tensor([3.0, 2.0, 1.0, 0, 0, 0], dtype=torch.float64)
    assert core_shape([planted, planted[1:]], (6, 5), 10_000, 9) == (3, 2)


def test_a_budget_is_never_exceeded_and_more_of_it_loses_less() -> None:
    tensor = decaying((12, 10, 3), 5)
    values, total = spectra(tensor)[:2], []
    for budget in range(30, 360, 10):
        ranks = core_shape(values, (12, 10), budget, 3)
        assert numbers_of(ranks, (12, 10), 3) <= budget
        total.append(sum(float(v[r:].square().sum()) for v, r in zip(values, ranks, strict=True)))
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(total))
    assert total[-1] < total[0] / 2


def test_where_nothing_fits_every_rank_is_one_and_an_empty_axis_has_none() -> None:
    values = torch.ones(4, dtype=torch.float64)
    assert core_shape([values, values], (4, 4), 3) == (1, 1)
    assert core_shape([values, values[:0]], (4, 0), 100) == (0, 0)
    assert core_shape([values], (4,), 100, 2) == (2,)
    with pytest.raises(TdslError, match="2 spectra for 1 axes"):
        core_shape([values, values], (4,), 10)


class TestKernels:
    """One ratio of `tucker2` is a budget of numbers, spent where the energy is."""

    @pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 1.0])
    def test_the_factors_hold_at_most_that_share_and_make_use_of_it(self, ratio: float) -> None:
        kernel = gaussian(48, 32, 3, 3)
        kept = sum(factor.numel() for factor in tucker2(kernel, Ratio(ratio)))
        assert 0.9 * ratio * kernel.numel() <= kept <= ratio * kernel.numel()

    @pytest.mark.parametrize("ratio", [0.1, 0.2, 0.3, 0.5])
    def test_a_kernel_with_one_steep_axis_keeps_more_than_with_equal_fractions(self, ratio: float) -> None:
        """The control: the same fraction of both axes, whose factors hold as much."""
        steep = 0.7 ** torch.arange(32, dtype=torch.float64)
        kernel = gaussian(48, 32, 3, 3) * steep[:, None, None]
        chosen = tucker2(kernel, Ratio(ratio))
        limits = tucker2_limits(kernel.shape)
        equal = tucker2(kernel, *(max(1, math.floor(ratio * limit)) for limit in limits))
        errors = [
            float((kernel - tucker2_product(*factors)).norm() / kernel.norm()) for factors in (chosen, equal)
        ]
        assert errors[0] < 0.8 * errors[1]

    def test_tiles_are_of_the_best_shape_not_of_equal_fractions(self) -> None:
        steep = 0.8 ** torch.arange(32, dtype=torch.float64)
        kernel = gaussian(48, 32, 3, 3) * steep[:, None, None]
        out, into = tucker2(kernel, Ratio(0.3))[1].shape[:2]
        tiled = tucker2(kernel, Tiled(Ratio(0.3), 8))[1].shape[:2]
        assert out >= 24 and into <= 12
        assert all(
            size % 4 == 0 and abs(size - rank) <= 4 for size, rank in zip(tiled, (out, into), strict=True)
        )

    def test_a_planted_core_is_found_within_its_own_size(self) -> None:
        kernel = tucker2_product(gaussian(3, 12, 1, 1), gaussian(5, 3, 3, 3), gaussian(16, 5, 1, 1))
        own = numbers_of((5, 3), (16, 12), 9)
        first, core, last = tucker2(kernel, Ratio(own / kernel.numel()))
        assert core.shape == (5, 3, 3, 3)
        assert float((kernel - tucker2_product(first, core, last)).norm() / kernel.norm()) < 1e-13
        less = tucker2(kernel, Ratio((own - 1) / kernel.numel()))
        assert float((kernel - tucker2_product(*less)).norm() / kernel.norm()) > 1e-3
