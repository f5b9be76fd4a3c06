"""Kernels truncated for the data they meet lose less of the output than those truncated for their entries."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.conv import channel_svd, input_svd, spatial_svd, tucker2
from tdsl.factor.conv_data import (
    channel_error,
    two_sided_channel_error,
    two_sided_spatial,
    two_sided_tucker2,
    whitened_channel,
    whitened_input,
    whitened_spatial,
    whitened_tucker2,
)
from tdsl.factor.matrix import truncate
from tdsl.factor.moment import input_error
from tdsl.factor.rank import Energy, Error, Ratio
from tdsl.factor.table import DECOMPOSITIONS
from tdsl.factor.whitened import whitened_svd


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moment(size: int, seed: int, decay: float = 0.2) -> Tensor:
    """A second moment whose eigenvalues fall by that factor."""
    turn = torch.linalg.qr(gaussian(size, size, seed=seed)).Q
    return (turn * decay ** torch.arange(size, dtype=torch.float64)) @ turn.T


KERNEL = gaussian(8, 6, 3, 3)
INPUTS, GRADIENTS = moment(6, seed=1), moment(8, seed=2)
PAIRS = {
    "channel": (whitened_channel, channel_svd),
    "input": (whitened_input, input_svd),
    "spatial": (whitened_spatial, spatial_svd),
    "tucker2": (whitened_tucker2, tucker2),
}


def promised(name: str, factors: tuple[Tensor, ...]) -> Tensor:
    plain = {"channel": "channel_svd", "input": "input_svd", "spatial": "spatial_svd", "tucker2": "tucker2"}[
        name
    ]
    product: Tensor = DECOMPOSITIONS[plain].promise(*factors)
    return product


def lost(name: str, factors: tuple[Tensor, ...], metric: Tensor = INPUTS) -> float:
    """The relative error in the moment of the inputs."""
    missed = channel_error(KERNEL - promised(name, factors), metric)
    return math.sqrt(max(0.0, missed) / channel_error(KERNEL, metric))


@pytest.mark.parametrize("rank", [1, 2, 4])
@pytest.mark.parametrize("name", PAIRS)
def test_less_is_lost_than_without_the_moment(name: str, rank: int) -> None:
    weighted, plain = PAIRS[name]
    assert lost(name, weighted(KERNEL, INPUTS, rank)) < 0.98 * lost(name, plain(KERNEL, rank))
    # and the other way round in the metric that the other one is best for
    white = torch.eye(6, dtype=torch.float64)
    assert lost(name, weighted(KERNEL, INPUTS, rank), white) > lost(name, plain(KERNEL, rank), white)


@pytest.mark.parametrize("name", PAIRS)
def test_white_inputs_leave_the_plain_decomposition(name: str) -> None:
    weighted, plain = PAIRS[name]
    product = promised(name, weighted(KERNEL, 3.0 * torch.eye(6, dtype=torch.float64), 3))
    assert torch.allclose(product, promised(name, plain(KERNEL, 3)), atol=1e-6)


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_two_factors_are_optimal_in_the_metric(rank: int) -> None:
    """The error is the tail of the weighted unfolding, below which no product of that rank can go."""
    weighted = torch.einsum("tsij,sz->tzij", KERNEL, torch.linalg.cholesky(INPUTS))
    total = float(weighted.norm())
    tail = float(torch.linalg.svdvals(weighted.reshape(8, -1))[rank:].norm()) / total
    assert lost("channel", whitened_channel(KERNEL, INPUTS, rank)) == pytest.approx(tail, rel=1e-6)
    unfolded = weighted.permute(1, 2, 0, 3).reshape(18, 24)
    tail = float(torch.linalg.svdvals(unfolded)[rank:].norm()) / total
    assert lost("spatial", whitened_spatial(KERNEL, INPUTS, rank)) == pytest.approx(tail, rel=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_rules_speak_of_the_weighted_error(name: str) -> None:
    weighted, plain = PAIRS[name]
    for rule, bound in ((Energy(0.9), math.sqrt(0.1)), (Error(0.1), 0.1)):
        factors = weighted(KERNEL, INPUTS, rule)
        assert lost(name, factors) <= bound * (1 + 1e-6)
        without = sum(f.numel() for f in plain(KERNEL, rule))
        # Eight outputs of many inputs stay independent whatever the metric; the other forms need fewer terms.
        assert sum(f.numel() for f in factors) < without + (name == "channel")


def test_a_ratio_of_tucker2_is_a_budget_here_too() -> None:
    factors = whitened_tucker2(KERNEL, INPUTS, Ratio(0.4))
    assert sum(f.numel() for f in factors) <= 0.4 * KERNEL.numel()
    assert lost("tucker2", factors) < lost("tucker2", tucker2(KERNEL, Ratio(0.4)))


@pytest.mark.parametrize("name", PAIRS)
def test_full_rank_is_exact_though_channels_never_speak(name: str) -> None:
    silent = INPUTS.clone()
    silent[2], silent[:, 2] = 0.0, 0.0
    weighted, _ = PAIRS[name]
    product = promised(name, weighted(KERNEL, silent, Energy(1.0)))
    assert float((product - KERNEL).norm() / KERNEL.norm()) < 1e-9
    if name == "channel":  # whose factors project the outputs: no input can be dropped
        return
    few = promised(name, weighted(KERNEL, silent, Energy(1 - 1e-3)))
    assert channel_error(KERNEL - few, silent) <= 1.01e-3 * channel_error(KERNEL, silent)
    assert float((few - KERNEL).norm() / KERNEL.norm()) > 1e-2


@pytest.mark.parametrize(
    ("name", "two_sided", "full"),
    [("tucker2", two_sided_tucker2, (8, 6)), ("spatial", two_sided_spatial, (18,))],
)
def test_two_sided_loses_least_where_gradients_count(
    name: str, two_sided: Callable[..., tuple[Tensor, ...]], full: tuple[int, ...]
) -> None:
    weighted, plain = PAIRS[name]

    def both(factors: tuple[Tensor, ...]) -> float:
        return two_sided_channel_error(KERNEL - promised(name, factors), INPUTS, GRADIENTS)

    least = both(two_sided(KERNEL, INPUTS, GRADIENTS, 2))
    assert least < 0.7 * both(weighted(KERNEL, INPUTS, 2)) < 0.7 * both(plain(KERNEL, 2))
    exact = promised(name, two_sided(KERNEL, INPUTS, GRADIENTS, *full))
    assert float((exact - KERNEL).norm() / KERNEL.norm()) < 1e-9


def test_no_factor_is_far_larger_than_the_next() -> None:
    """Gradients are small numbers: their roots do not end up in one factor, and their inverses in another."""
    first, core, last = two_sided_tucker2(KERNEL, INPUTS, 1e-12 * GRADIENTS, 4)
    made, read = core.flatten(1).norm(dim=1), last.transpose(0, 1).flatten(1).norm(dim=1)
    assert float((made / read).log().abs().max()) < 1e-6
    sizes = [float(f.square().mean().sqrt()) for f in (first, core, last)]
    assert max(sizes) < 100 * min(sizes)


def test_no_pair_of_that_rank_loses_less_than_two_sided_spatial() -> None:
    roots = torch.linalg.cholesky(INPUTS), torch.linalg.cholesky(GRADIENTS)
    seen = torch.einsum("tshw,sz,tu->zhuw", KERNEL, *roots).reshape(18, 24)
    tail = float(torch.linalg.svdvals(seen)[3:].square().sum())
    lost = KERNEL - promised("spatial", two_sided_spatial(KERNEL, INPUTS, GRADIENTS, 3))
    assert two_sided_channel_error(lost, INPUTS, GRADIENTS) == pytest.approx(tail, rel=1e-5)


def test_metrics_are_what_their_formulas_say() -> None:
    difference = gaussian(8, 6, 3, 3, seed=4)
    one = sum(float((d @ INPUTS @ d.T).trace()) for d in difference.flatten(2).unbind(2))
    two = sum(float((GRADIENTS @ d @ INPUTS @ d.T).trace()) for d in difference.flatten(2).unbind(2))
    assert channel_error(difference, INPUTS) == pytest.approx(one)
    assert two_sided_channel_error(difference, INPUTS, GRADIENTS) == pytest.approx(two)
    assert two_sided_channel_error(difference, INPUTS, torch.eye(8).double()) == pytest.approx(one)


class TestAgainstData:
    """The metric against the outputs of `torch`, on images drawn from a known distribution."""

    def images(self, blurred: bool) -> Tensor:
        """Mixed channels; neighbours independent, or blurred into each other."""
        images = torch.einsum("sz,bzhw->bshw", torch.linalg.cholesky(INPUTS), gaussian(40, 6, 20, 20, seed=6))
        blur = torch.ones(6, 1, 3, 3, dtype=torch.float64) / 9
        return F.conv2d(images, blur, groups=6) if blurred else images

    def output_error(self, product: Tensor, images: Tensor) -> float:
        missed, output = F.conv2d(images, KERNEL - product), F.conv2d(images, KERNEL)
        return float(missed.norm() / output.norm())

    def statistics(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The moments of channels [S, S] and of patches [S·k, S·k]."""
        values = images.movedim(1, -1).reshape(-1, 6)
        patches = F.unfold(images, 3).movedim(1, -1).reshape(-1, 54)
        return values.T @ values / len(values), patches.T @ patches / len(patches)

    @pytest.mark.parametrize("name", PAIRS)
    def test_independent_positions_make_the_stated_error_that_of_the_outputs(self, name: str) -> None:
        images = self.images(blurred=False)
        channels, _ = self.statistics(images)
        weighted, plain = PAIRS[name]
        product = promised(name, weighted(KERNEL, channels, 2))
        stated = lost(name, weighted(KERNEL, channels, 2), channels)
        assert self.output_error(product, images) == pytest.approx(stated, rel=0.05)
        assert self.output_error(product, images) < 0.95 * self.output_error(
            promised(name, plain(KERNEL, 2)), images
        )

    def test_the_moment_of_patches_gives_the_principal_components_of_the_outputs(self) -> None:
        """Where neighbours depend on each other the channels' moment is not enough, and patches are exact."""
        images = self.images(blurred=True)
        channels, patches = self.statistics(images)
        matrix = KERNEL.reshape(8, 54)
        mixing, filters = whitened_svd(matrix, patches, 2)
        outputs = F.conv2d(images, KERNEL).movedim(1, -1).reshape(-1, 8)
        energy = truncate(outputs.T @ outputs, 8).values
        best = math.sqrt(float(energy[2:].sum() / energy.sum()))
        by_patches = self.output_error((mixing @ filters).reshape(KERNEL.shape), images)
        by_channels = self.output_error(promised("channel", whitened_channel(KERNEL, channels, 2)), images)
        assert by_patches == pytest.approx(best, rel=1e-6)
        stated = input_error(matrix - mixing @ filters, patches) / input_error(matrix, patches)
        assert math.sqrt(stated) == pytest.approx(by_patches, rel=1e-6)
        assert by_patches < 0.98 * by_channels


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_no_moment_of_the_channels_is_refused(name: str) -> None:
    weighted, _ = PAIRS[name]
    with pytest.raises(TdslError, match="6 input channels"):
        weighted(KERNEL, torch.eye(8).double(), 2)
    with pytest.raises(TdslError, match="eigenvalues"):
        weighted(KERNEL, -INPUTS, 2)
    with pytest.raises(TdslError, match="not symmetric"):
        weighted(KERNEL, gaussian(6, 6), 2)
    with pytest.raises(TdslError, match="8 output channels"):
        two_sided_tucker2(KERNEL, INPUTS, INPUTS, 2)
    with pytest.raises(TdslError, match="8 output channels"):
        two_sided_spatial(KERNEL, INPUTS, INPUTS, 2)
