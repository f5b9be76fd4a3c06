"""Kernels come apart into chains of convolutions that compute the same, with every stride and padding."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.conv import (
    channel_product,
    channel_svd,
    input_product,
    input_svd,
    spatial_product,
    spatial_svd,
    tucker2,
    tucker2_product,
)
from tdsl.factor.rank import Auto, Energy, Error, Ratio, UnreachableRankError
from tdsl.factor.tucker import tucker2_limits


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def error(kernel: Tensor, rebuilt: Tensor) -> float:
    assert rebuilt.shape == kernel.shape
    return float((kernel - rebuilt).norm() / kernel.norm())


KERNEL = gaussian(6, 4, 3, 5)
SETTINGS = list(itertools.product([(1, 1), (2, 1), (3, 2)], [(0, 0), (1, 2)], [(1, 1), (2, 1)]))


class TestChainsComputeTheConvolution:
    """At full rank, the chain in torch equals the one convolution for every stride, padding, dilation."""

    IMAGE = gaussian(2, 4, 17, 19, seed=9)

    @pytest.mark.parametrize(("stride", "padding", "dilation"), SETTINGS)
    def test_channel(self, stride, padding, dilation):
        first, second = channel_svd(KERNEL, 6)
        chain = F.conv2d(F.conv2d(self.IMAGE, first, None, stride, padding, dilation), second)
        assert torch.allclose(
            chain, F.conv2d(self.IMAGE, KERNEL, None, stride, padding, dilation), atol=1e-11
        )

    @pytest.mark.parametrize(("stride", "padding", "dilation"), SETTINGS)
    def test_input(self, stride, padding, dilation):
        first, second = input_svd(KERNEL, 4)
        chain = F.conv2d(F.conv2d(self.IMAGE, first), second, None, stride, padding, dilation)
        assert torch.allclose(
            chain, F.conv2d(self.IMAGE, KERNEL, None, stride, padding, dilation), atol=1e-11
        )

    @pytest.mark.parametrize(("stride", "padding", "dilation"), SETTINGS)
    def test_spatial(self, stride, padding, dilation):
        vertical, horizontal = spatial_svd(KERNEL, 12)
        (s, z), (p, q), (d, e) = stride, padding, dilation
        chain = F.conv2d(self.IMAGE, vertical, None, (s, 1), (p, 0), (d, 1))
        chain = F.conv2d(chain, horizontal, None, (1, z), (0, q), (1, e))
        assert torch.allclose(
            chain, F.conv2d(self.IMAGE, KERNEL, None, stride, padding, dilation), atol=1e-11
        )

    @pytest.mark.parametrize(("stride", "padding", "dilation"), SETTINGS)
    def test_tucker2(self, stride, padding, dilation):
        first, core, last = tucker2(KERNEL, 6, 4)
        chain = F.conv2d(self.IMAGE, first)
        chain = F.conv2d(F.conv2d(chain, core, None, stride, padding, dilation), last)
        assert torch.allclose(
            chain, F.conv2d(self.IMAGE, KERNEL, None, stride, padding, dilation), atol=1e-11
        )

    def test_one_and_three_spatial_axes(self):
        signal, volume = gaussian(2, 4, 15), gaussian(2, 4, 7, 8, 9)
        k1, k3 = gaussian(6, 4, 5), gaussian(6, 4, 2, 3, 2)
        first, second = channel_svd(k1, 6)
        assert torch.allclose(F.conv1d(F.conv1d(signal, first), second), F.conv1d(signal, k1), atol=1e-11)
        reduce, core, expand = tucker2(k1, 6, 4)
        chain = F.conv1d(F.conv1d(F.conv1d(signal, reduce), core), expand)
        assert torch.allclose(chain, F.conv1d(signal, k1), atol=1e-11)
        depth, plane = spatial_svd(k3, 8)
        assert (depth.shape, plane.shape) == ((8, 4, 2, 1, 1), (6, 8, 1, 3, 2))
        assert torch.allclose(F.conv3d(F.conv3d(volume, depth), plane), F.conv3d(volume, k3), atol=1e-11)

    def test_swapped_axes_would_be_seen(self):
        square = gaussian(6, 4, 3, 3)
        assert error(square, channel_product(*channel_svd(square.transpose(2, 3), 6))) > 0.5
        assert error(square, spatial_product(*spatial_svd(square.transpose(2, 3), 12))) > 0.5
        assert error(square, tucker2_product(*tucker2(square.transpose(2, 3), 6, 4))) > 0.5


class TestTruncation:
    @pytest.mark.parametrize("rank", [1, 2, 3])
    def test_input_ranks_are_optimal(self, rank):
        """The error is the tail of the unfolding along the inputs."""
        values = torch.linalg.svdvals(KERNEL.transpose(0, 1).reshape(4, -1))
        best = float(values[rank:].norm() / values.norm())
        assert error(KERNEL, input_product(*input_svd(KERNEL, rank))) == pytest.approx(best, rel=1e-9)

    @pytest.mark.parametrize("rank", [1, 3, 5])
    def test_of_both_svd_forms_is_optimal(self, rank):
        unfolded = KERNEL.reshape(6, -1)
        best = torch.linalg.svdvals(unfolded)[rank:].norm() / KERNEL.norm()
        assert error(KERNEL, channel_product(*channel_svd(KERNEL, rank))) == pytest.approx(
            float(best), abs=1e-13
        )
        unfolded = KERNEL.permute(1, 2, 0, 3).reshape(12, 30)
        best = torch.linalg.svdvals(unfolded)[rank:].norm() / KERNEL.norm()
        assert error(KERNEL, spatial_product(*spatial_svd(KERNEL, rank))) == pytest.approx(
            float(best), abs=1e-13
        )

    @pytest.mark.parametrize(
        "kernel",
        [
            torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]]),  # Sobel
            torch.outer(torch.tensor([1.0, 4, 6, 4, 1]), torch.tensor([1.0, 4, 6, 4, 1])),  # binomial
        ],
    )
    def test_separable_filters_need_one_term(self, kernel):
        assert (
            error(kernel[None, None].double(), spatial_product(*spatial_svd(kernel[None, None], 1))) < 1e-14
        )

    def test_a_diagonal_edge_needs_more(self):
        kernel = torch.tensor([[0.0, 1, 2], [-1, 0, 1], [-2, -1, 0]], dtype=torch.float64)[None, None]
        assert error(kernel, spatial_product(*spatial_svd(kernel, 1))) > 0.1

    def test_planted_separable_and_tucker_kernels_are_found(self):
        separable = spatial_product(gaussian(3, 4, 3, 1), gaussian(6, 3, 1, 5, seed=1))
        vertical, horizontal = spatial_svd(separable, Error(1e-10))
        assert vertical.shape == (3, 4, 3, 1)
        assert error(separable, spatial_product(vertical, horizontal)) < 1e-13
        planted = tucker2_product(
            gaussian(2, 8, 1, 1), gaussian(3, 2, 3, 3, seed=1), gaussian(9, 3, 1, 1, seed=2)
        )
        first, core, last = tucker2(planted, Error(1e-10))
        assert (first.shape, core.shape, last.shape) == ((2, 8, 1, 1), (3, 2, 3, 3), (9, 3, 1, 1))
        assert error(planted, tucker2_product(first, core, last)) < 1e-13
        assert error(planted, tucker2_product(*tucker2(planted, 2, 2))) > 1e-2


class TestTucker2:
    KERNEL = gaussian(10, 8, 3, 3, seed=5)

    @pytest.mark.parametrize(("out", "into"), [(3, 2), (5, 5), (8, 2), (10, 4)])
    def test_error_lies_between_the_tails_of_the_two_unfoldings(self, out, into):
        total = float(self.KERNEL.norm())
        tail_out = float(torch.linalg.svdvals(self.KERNEL.reshape(10, -1))[out:].norm()) / total
        tail_in = (
            float(torch.linalg.svdvals(self.KERNEL.transpose(0, 1).reshape(8, -1))[into:].norm()) / total
        )
        measured = error(self.KERNEL, tucker2_product(*tucker2(self.KERNEL, out, into)))
        assert max(tail_out, tail_in) - 1e-12 <= measured <= math.hypot(tail_out, tail_in) + 1e-12

    def test_sweeps_never_lose_and_here_gain(self):
        errors = [
            error(self.KERNEL, tucker2_product(*tucker2(self.KERNEL, 4, 3, sweeps=n))) for n in range(4)
        ]
        assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(errors))
        assert errors[3] < errors[0] - 1e-4

    def test_outer_factors_are_orthonormal(self):
        first, _, last = tucker2(self.KERNEL, 4, 3)
        first, last = first[:, :, 0, 0], last[:, :, 0, 0]
        assert torch.allclose(first @ first.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
        assert torch.allclose(last.T @ last, torch.eye(4, dtype=torch.float64), atol=1e-12)

    @pytest.mark.parametrize("kept", [0.5, 0.8, 0.95])
    def test_one_rule_holds_for_the_whole_kernel(self, kept):
        def lost(*rules: object) -> float:
            return error(self.KERNEL, tucker2_product(*tucker2(self.KERNEL, *rules))) ** 2

        assert lost(Energy(kept)) <= 1 - kept
        assert lost(Error(math.sqrt(1 - kept))) <= 1 - kept

    def test_two_rules_speak_of_one_axis_each_and_lose_more_together(self):
        rule = Energy(0.7)
        whole, each = tucker2(self.KERNEL, rule), tucker2(self.KERNEL, rule, rule)
        assert error(self.KERNEL, tucker2_product(*whole)) ** 2 <= 0.3
        assert error(self.KERNEL, tucker2_product(*each)) ** 2 > 0.3

    @pytest.mark.parametrize("ratio", [0.25, 0.5, 1.0])
    @pytest.mark.parametrize("shape", [(64, 32, 3, 3), (16, 48, 5), (24, 24, 1, 1)])
    def test_a_ratio_bounds_the_numbers_kept(self, ratio, shape):
        kernel = gaussian(*shape)
        kept = sum(factor.numel() for factor in tucker2(kernel, Ratio(ratio)))
        assert kept <= ratio * kernel.numel()
        larger = [rank + 1 for rank in tucker2_limits(shape)]
        dense = shape[1] * larger[1] + larger[0] * larger[1] * math.prod(shape[2:]) + shape[0] * larger[0]
        assert dense > kernel.numel()  # the limit is the last that pays

    def test_a_number_beyond_an_axis_is_refused(self):
        with pytest.raises(UnreachableRankError, match="rank 9 asked of a matrix whose rank is at most 8"):
            tucker2(self.KERNEL, 9)
        assert tucker2(self.KERNEL, 9, 8)[1].shape == (9, 8, 3, 3)

    def test_a_rank_that_the_other_axis_cannot_feed_is_cut_without_loss(self):
        pointwise = gaussian(6, 5, 1, 1)
        first, core, last = tucker2(pointwise, 5, 2)
        assert (first.shape, core.shape, last.shape) == ((2, 5, 1, 1), (2, 2, 1, 1), (6, 2, 1, 1))
        assert error(pointwise, tucker2_product(first, core, last)) == pytest.approx(
            error(pointwise, channel_product(*channel_svd(pointwise, 2))), abs=1e-9
        )

    def test_auto_finds_planted_ranks_in_noise(self):
        planted = tucker2_product(
            gaussian(3, 32, 1, 1), gaussian(4, 3, 3, 3, seed=1), gaussian(40, 4, 1, 1, seed=2)
        )
        _, core, _ = tucker2(planted + 0.3 * gaussian(40, 32, 3, 3, seed=3), Auto())
        assert core.shape[:2] == (4, 3)

    def test_auto_knows_the_shape_of_each_unfolding(self):
        # An unfolding of 50 × 1000 whose noise ends at 39; as a square its threshold would hide the term.
        kernel = gaussian(50, 20, 50, seed=4)
        kernel[0, 0, 0] += 65
        assert tucker2(kernel, Auto())[1].shape == (1, 1, 50)


EMPTY = [(0, 4, 3, 3), (4, 0, 3, 3)]


@pytest.mark.parametrize("shape", EMPTY)
def test_kernels_without_channels_come_apart_into_empty_ones(shape):
    kernel = torch.zeros(shape, dtype=torch.float64)
    for decompose, product in (
        (channel_svd, channel_product),
        (spatial_svd, spatial_product),
        (tucker2, tucker2_product),
    ):
        assert torch.equal(product(*decompose(kernel, 0.5)), kernel)


def test_a_zero_kernel_stays_zero():
    kernel = torch.zeros(4, 3, 3, 3, dtype=torch.float64)
    assert torch.equal(channel_product(*channel_svd(kernel, Energy(0.9))), kernel)
    assert torch.equal(spatial_product(*spatial_svd(kernel, Energy(0.9))), kernel)
    assert torch.equal(tucker2_product(*tucker2(kernel, Energy(0.9))), kernel)


def test_what_is_no_kernel_is_refused():
    with pytest.raises(TdslError, match="has 1 spatial axes"):
        spatial_svd(gaussian(4, 3, 5), 2)
    with pytest.raises(TdslError, match="has 0 spatial axes"):
        channel_svd(gaussian(4, 3), 2)
    broken = gaussian(4, 3, 3, 3)
    broken[0, 0, 0, 0] = math.nan
    for decompose in (channel_svd, spatial_svd, tucker2):
        with pytest.raises(TdslError, match="NaN"):
            decompose(broken, 2)


def test_the_same_kernel_gives_the_same_factors():
    for decompose in (channel_svd, spatial_svd, tucker2):
        once, again = decompose(KERNEL, 3), decompose(KERNEL.clone(), 3)
        assert all(map(torch.equal, once, again))
