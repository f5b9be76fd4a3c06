"""Stacks of kernels with one rank for all: grouped, depthwise, and depthwise-separable convolutions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.conv import channel_svd, spatial_svd
from tdsl.factor.grouped import (
    depthwise_separable,
    depthwise_separable_product,
    grouped_channel_product,
    grouped_channel_svd,
    grouped_spatial_product,
    grouped_spatial_svd,
    stacked_svd,
)
from tdsl.factor.rank import Auto, Energy, Error, Ratio, UnreachableRankError


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def error(kernel: Tensor, product: Tensor) -> float:
    assert kernel.shape == product.shape
    return float((kernel - product).norm() / kernel.norm())


KERNELS = gaussian(3, 6, 4, 3, 5)


class TestStacks:
    def test_every_matrix_is_truncated_optimally_and_the_error_is_that_of_all(self) -> None:
        stack = gaussian(5, 7, 6)
        left, right = stacked_svd(stack, 3)
        tails = torch.linalg.svdvals(stack)[:, 3:].square().sum(1)
        missed = (stack - left @ right).square().sum((1, 2))
        assert torch.allclose(missed, tails, atol=1e-12)

    @pytest.mark.parametrize("bound", [0.6, 0.3, 0.1])
    def test_an_error_is_one_of_the_whole_stack_and_the_rank_the_least_that_has_it(
        self, bound: float
    ) -> None:
        scale = 10.0 ** -torch.arange(5, dtype=torch.float64)
        stack = gaussian(5, 12, 12) * scale[:, None, None] * 0.6 ** torch.arange(12)
        left, right = stacked_svd(stack, Error(bound))
        assert error(stack, left @ right) <= bound
        rank = left.shape[2]
        assert rank == 1 or error(stack, torch.bmm(*stacked_svd(stack, rank - 1))) > bound
        # The faint members alone would have asked for another rank.
        assert error(stack[4], (left @ right)[4]) < 2 * bound

    def test_rules_of_other_kinds(self) -> None:
        stack = gaussian(4, 20, 20)
        assert stacked_svd(stack, Ratio(0.5))[0].shape[2] == 4  # of the break-even rank 9
        assert stacked_svd(stack, 7)[1].shape == (4, 7, 20)
        planted = gaussian(4, 40, 2) @ gaussian(4, 2, 30, seed=1) + 0.05 * gaussian(4, 40, 30, seed=2)
        assert stacked_svd(planted, Auto())[0].shape[2] == 2
        with pytest.raises(UnreachableRankError, match="rank 21 asked"):
            stacked_svd(stack, 21)

    def test_empty_stacks_and_what_is_none(self) -> None:
        assert [tuple(f.shape) for f in stacked_svd(torch.zeros(0, 3, 4), 1)] == [(0, 3, 1), (0, 1, 4)]
        assert [tuple(f.shape) for f in stacked_svd(torch.zeros(2, 0, 4), 1)] == [(2, 0, 0), (2, 0, 4)]
        assert torch.equal(
            torch.bmm(*stacked_svd(torch.zeros(2, 3, 4), Energy(0.9))), torch.zeros(2, 3, 4).double()
        )
        with pytest.raises(TdslError, match="3 axes"):
            stacked_svd(gaussian(3, 4), 1)
        with pytest.raises(TdslError, match="NaN"):
            stacked_svd(torch.full((2, 3, 4), math.nan), 1)


class TestGroups:
    @pytest.mark.parametrize("rank", [1, 3, 6])
    def test_each_group_has_what_it_would_have_alone(self, rank: int) -> None:
        first, second = grouped_channel_svd(KERNELS, rank)
        vertical, horizontal = grouped_spatial_svd(KERNELS, rank)
        for group, kernel in enumerate(KERNELS):
            alone = channel_svd(kernel, rank)
            assert torch.allclose(first[group], alone[0]) and torch.allclose(second[group], alone[1])
            alone = spatial_svd(kernel, rank)
            assert torch.allclose(vertical[group], alone[0]) and torch.allclose(horizontal[group], alone[1])

    def test_the_chain_in_torch_is_the_grouped_convolution(self) -> None:
        image, kernel = gaussian(2, 12, 13, 14, seed=3), KERNELS.reshape(18, 4, 3, 5)
        window = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}
        whole = F.conv2d(image, kernel, groups=3, **window)
        first, second = grouped_channel_svd(KERNELS, 6)
        chain = F.conv2d(image, first.reshape(18, 4, 3, 5), groups=3, **window)
        chain = F.conv2d(chain, second.reshape(18, 6, 1, 1), groups=3)
        assert torch.allclose(chain, whole, atol=1e-11)
        vertical, horizontal = grouped_spatial_svd(KERNELS, 12)
        chain = F.conv2d(image, vertical.reshape(36, 4, 3, 1), None, (2, 1), (1, 0), (1, 1), 3)
        chain = F.conv2d(chain, horizontal.reshape(18, 12, 1, 5), None, (1, 1), (0, 2), (1, 2), 3)
        assert torch.allclose(chain, whole, atol=1e-11)
        # The control: groups in another order.
        shuffled = first.flip(0).reshape(18, 4, 3, 5)
        wrong = F.conv2d(F.conv2d(image, shuffled, groups=3, **window), second.reshape(18, 6, 1, 1), groups=3)
        assert error(whole, wrong) > 0.5

    def test_depthwise_filters_become_sums_of_separable_ones(self) -> None:
        planted = gaussian(16, 7, 2) @ gaussian(16, 2, 7, seed=1)
        stack = planted.reshape(16, 1, 1, 7, 7)
        vertical, horizontal = grouped_spatial_svd(stack, Error(1e-9))
        assert vertical.shape == (16, 2, 1, 7, 1) and horizontal.shape == (16, 1, 2, 1, 7)
        assert error(stack, grouped_spatial_product(vertical, horizontal)) < 1e-13
        assert error(stack, grouped_spatial_product(*grouped_spatial_svd(stack, 1))) > 0.1
        diagonal = torch.eye(5, dtype=torch.float64).expand(4, 1, 1, 5, 5)
        assert error(diagonal, grouped_spatial_product(*grouped_spatial_svd(diagonal, 1))) > 0.8

    def test_one_and_three_axes(self) -> None:
        for shape in ((2, 5, 3, 7), (2, 5, 3, 2, 3, 2)):
            kernels = gaussian(*shape)
            assert error(kernels, grouped_channel_product(*grouped_channel_svd(kernels, 5))) < 1e-13
        volume = gaussian(2, 5, 3, 2, 3, 2)
        vertical, horizontal = grouped_spatial_svd(volume, 6)
        assert vertical.shape == (2, 6, 3, 2, 1, 1) and horizontal.shape == (2, 5, 6, 1, 3, 2)
        assert error(volume, grouped_spatial_product(vertical, horizontal)) < 1e-13

    def test_what_is_no_stack_of_kernels_is_refused(self) -> None:
        with pytest.raises(TdslError, match="0 spatial axes"):
            grouped_channel_svd(gaussian(2, 5, 3), 1)
        with pytest.raises(TdslError, match="1 spatial axes"):
            grouped_spatial_svd(gaussian(2, 5, 3, 7), 1)


class TestDepthwiseSeparable:
    KERNEL = gaussian(12, 5, 3, 3)

    @pytest.mark.parametrize("rank", [1, 2, 4])
    def test_the_error_is_the_sum_of_the_tails_of_the_inputs(self, rank: int) -> None:
        tails = sum(
            float(torch.linalg.svdvals(self.KERNEL[:, s].reshape(12, 9))[rank:].square().sum())
            for s in range(5)
        )
        product = depthwise_separable_product(*depthwise_separable(self.KERNEL, rank))
        assert error(self.KERNEL, product) == pytest.approx(
            math.sqrt(tails) / float(self.KERNEL.norm()), rel=1e-12
        )

    def test_planted_filters_are_found(self) -> None:
        planted = depthwise_separable_product(gaussian(5, 2, 3, 3), gaussian(12, 5, 2, seed=1))
        filters, mixing = depthwise_separable(planted, Error(1e-9))
        assert filters.shape == (5, 2, 3, 3) and mixing.shape == (12, 5, 2)
        assert error(planted, depthwise_separable_product(filters, mixing)) < 1e-13
        assert error(planted, depthwise_separable_product(*depthwise_separable(planted, 1))) > 0.1

    @pytest.mark.parametrize("size", [(3,), (3, 4), (2, 3, 2)])
    def test_the_chain_in_torch_is_the_convolution(self, size: tuple[int, ...]) -> None:
        conv = (F.conv1d, F.conv2d, F.conv3d)[len(size) - 1]
        kernel, image = gaussian(12, 5, *size), gaussian(2, 5, *(9, 10, 7)[: len(size)], seed=2)
        filters, mixing = depthwise_separable(kernel, Energy(1.0))
        inner = conv(image, filters.reshape(-1, 1, *size), stride=2, padding=1, groups=5)
        ones = [1] * len(size)
        whole = conv(image, kernel, stride=2, padding=1)
        assert torch.allclose(conv(inner, mixing.reshape(12, -1, *ones)), whole, atol=1e-11)
        # The control: the maps of the inputs in another order.
        shuffled = mixing.transpose(1, 2).reshape(12, -1, *ones)
        assert error(whole, conv(inner, shuffled)) > 0.1

    def test_a_matrix_is_no_kernel(self) -> None:
        with pytest.raises(TdslError, match="or more axes"):
            depthwise_separable(gaussian(4, 3), 1)
