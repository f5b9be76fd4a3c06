"""Test-time augmentation of a net that is equivariant, through channels in any order, is one call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rewriting import Rewritten, graph_of, run_pipeline
from torch import Tensor, nn
from torch.export import Dim

import tdsl

sys.path.insert(0, str(Path(__file__).parents[1] / "symmetry"))
from p4m import P4M

PIPELINE = """
pipeline p {
    repeat cleanup.*, layout.*, fold.* until stable
    once merge.orbits
    repeat cleanup.*, commute.* until stable
}
"""
SHAPE = (2, 3, 9, 9)


class Augmented(nn.Module):
    """The mean of a net over the eight symmetries of the square; of images, turned back."""

    def __init__(self, net: Callable[[Tensor], Tensor], back: bool = False, turns: int = 4) -> None:
        super().__init__()
        self.net, self.back, self.turns = net, back, turns

    def forward(self, x: Tensor) -> Tensor:
        results = []
        for turn in range(self.turns):
            for mirrored in (False, True):
                moved = (x.flip(-1) if mirrored else x).rot90(turn, (2, 3))
                found = self.net(moved)
                if self.back:
                    found = found.rot90(-turn, (2, 3))
                    found = found.flip(-1) if mirrored else found
                results.append(found)
        return sum(results) / len(results)


class Segmenter(nn.Module):
    """A net over the symmetries of the square, its channels of orbits averaged at every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = P4M((2, 1)).layers

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean(1, keepdim=True)


def augmented(net: nn.Module, back: bool = False) -> Rewritten:
    found = run_pipeline(PIPELINE, graph_of(Augmented(net, back).eval(), torch.randn(SHAPE)))
    found.assert_equal(tolerance=1e-4)
    with torch.no_grad():
        one, two = (found.module(torch.randn(SHAPE)) for _ in range(2))
    assert (one - two).norm() > 1e-4
    return found


def calls(found: Rewritten) -> int:
    return found.operators.count("conv2d")


@pytest.mark.parametrize("shuffled", [False, True])
def test_an_invariant_net_is_called_once_whatever_the_order_of_its_channels(shuffled: bool) -> None:
    found = augmented(P4M((2, 2), shuffled=shuffled))
    assert calls(found) == 2
    assert found.rules.count("orbits") == 7
    assert not {"flip", "rot90", "permute", "add"} & set(found.operators)


def test_results_that_turn_along_are_turned_back() -> None:
    found = augmented(Segmenter(), back=True)
    assert calls(found) == 2
    assert not {"flip", "rot90", "permute", "add"} & set(found.operators)


def test_features_whose_channels_change_places_are_put_in_order() -> None:
    net = P4M((2,)).layers
    found = augmented(nn.Sequential(net, nn.Conv2d(16, 3, 1)))
    assert calls(found) == 1 + 8
    assert found.rules.count("orbits") == 7


def test_with_a_dynamic_batch_it_is_one_call_as_well_and_with_dynamic_images_it_is_not() -> None:
    """What acts on an axis of dynamic size might hold for the size of the example alone."""
    pooled = nn.Sequential(P4M((2, 1)).layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    net = Augmented(pooled, turns=1).eval()  # the mean over a mirror
    with torch.no_grad():
        net.net[-1].weight[:] = 1.0  # of all channels alike
    for axes, left in (({0: "n"}, 2), ({0: "n", 3: "w"}, 4)):
        graph = graph_of(net, torch.randn(SHAPE), dynamic=({a: Dim(n, max=64) for a, n in axes.items()},))
        found = run_pipeline(PIPELINE, graph)
        found.assert_equal(tolerance=1e-4)
        assert calls(found) == left
        assert ("flip" in found.operators) == (left == 4)


def test_the_order_of_a_batch_whose_size_is_dynamic_is_left_alone() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x) + self.net(x.roll(2, 0)) + self.net(x.flip(0))

    example = torch.randn(2, 4)  # of two rows, a roll by two does nothing
    found = run_pipeline(PIPELINE, graph_of(Both(), example, dynamic=({0: Dim("n")},)))
    assert "orbits" not in found.rules
    other = torch.randn(5, 4)
    with torch.no_grad():
        torch.testing.assert_close(found.module(other), found.captured.module(other))


@pytest.mark.parametrize("layer", [0, 3])
def test_a_net_that_is_nearly_equivariant_is_called_on_every_copy(layer: int) -> None:
    net = P4M((2, 2))
    with torch.no_grad():
        net.layers[layer].weight[3, 1, 0, 1] += 1e-3
    found = augmented(net)
    assert calls(found) > 8 and "flip" in found.operators


def test_a_file_is_verified_and_weights_that_are_tied_up_to_rounding_do_not_count() -> None:
    def net(dtype: torch.dtype) -> nn.Module:
        kernel = torch.randn(6, 3, 3, 3, dtype=dtype)
        found = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        turned = kernel + kernel.rot90(1, (2, 3)) + kernel.rot90(2, (2, 3)) + kernel.rot90(3, (2, 3))
        found[0].weight.data = (turned + turned.flip(-1) if dtype == torch.float64 else turned).float()
        return Augmented(found).eval()

    example = torch.randn(SHAPE)
    tied = tdsl.compile(net(torch.float64), (example,), latency=False)
    assert [node.op_type for node in tied.onnx.graph.node].count("Conv") == 1
    assert "merge.orbits" in {entry.rule for entry in tied.report.rewrites}
    rounded = tdsl.compile(net(torch.float32), (example,), latency=False)
    assert "merge.orbits" not in {entry.rule for entry in rounded.report.rewrites}


def test_values_that_are_no_copies_of_one_are_left_alone() -> None:
    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = P4M((2, 2))

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.net(x) - self.net(y.flip(-1))

    net = Siamese().eval()
    found = run_pipeline(PIPELINE, graph_of(net, torch.randn(SHAPE), torch.randn(SHAPE)))
    assert "orbits" not in found.rules and calls(found) == 4


def test_a_constant_net_does_not_count() -> None:
    net = P4M((2, 2))
    nn.init.zeros_(net.classifier.weight)
    found = run_pipeline(PIPELINE, graph_of(Augmented(net).eval(), torch.randn(SHAPE)))
    assert "orbits" not in found.rules
