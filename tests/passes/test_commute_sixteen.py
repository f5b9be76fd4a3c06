"""Sixteen graphs in which an action disappears come to their ideal number of operators under `exact`."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import tdsl
from tdsl.emit import run, session

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from sixteen_graphs import Graph, mirrored, sixteen

GRAPHS = sixteen()


def compiled(module: nn.Module, example: torch.Tensor) -> tdsl.Result:
    return tdsl.compile(module, (example,), latency=False)


def operators(result: tdsl.Result) -> int:
    return sum(node.op == "call_function" for node in result.module.graph.nodes)


def test_there_are_sixteen() -> None:
    assert len(GRAPHS) == len({graph.name for graph in GRAPHS}) == 16


@pytest.mark.parametrize("graph", GRAPHS, ids=[graph.name for graph in GRAPHS])
def test_what_is_left_is_what_has_to_be(graph: Graph) -> None:
    result = compiled(graph.module, graph.example)
    assert operators(result) == graph.operators
    assert len(result.onnx.graph.node) == graph.ideal
    assert any(entry.rule.startswith(("commute.", "cleanup.movement.")) for entry in result.report.rewrites)
    outputs = []
    for seed in range(2):
        x = torch.randn(graph.example.shape, generator=torch.Generator().manual_seed(seed))
        (found,) = run(session(result.onnx), {result.captured.input_names[0]: x}).values()
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), graph.module(x), rtol=1e-4, atol=1e-5)
        outputs.append(found)
    assert abs(outputs[0] - outputs[1]).max() > 1e-3


def changed(graph: Graph) -> nn.Module:
    """The same graph with weights, or an attribute, for which the action does not disappear."""
    module = copy.deepcopy(graph.module)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and "TTA" in graph.name:
            nn.init.normal_(layer.weight)
    if "RMSNorm" in graph.name:
        nn.init.normal_(module.q)
    if "inverse" in graph.name:
        module.back = module.order
    return module


@pytest.mark.parametrize(
    "name", ["flip-TTA of an invariant net", "Q · RMSNorm · Qᵀ", "channel permutation · relu · inverse"]
)
def test_with_other_weights_it_is_left_alone(name: str) -> None:
    graph = next(graph for graph in GRAPHS if graph.name == name)
    assert operators(compiled(changed(graph), graph.example)) > graph.operators


class Turned(nn.Module):
    """A convolution between a reflection and its inverse, of a size and stride of one's choice."""

    def __init__(self, stride: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, kernel, stride, kernel // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x.flip(-1)).flip(-1)


@pytest.mark.parametrize(
    ("size", "stride", "left"), [(8, 1, 1), (9, 2, 1), (8, 2, 3), (10, 3, 1), (9, 3, 3), (8, 3, 3)]
)
def test_the_border_decides(size: int, stride: int, left: int) -> None:
    result = compiled(Turned(stride).eval(), torch.randn(1, 2, size, size))
    assert operators(result) == left


class Residual(nn.Module):
    """A net with shortcuts that does not tell an image from its mirror image, averaged over both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = mirrored(nn.Conv2d(3, 4, 3, padding=1))
        self.block = nn.Sequential(mirrored(nn.Conv2d(4, 4, 3, padding=1)), nn.ReLU())
        self.head = nn.Linear(4, 5)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        h = self.stem(x).relu()
        h = h + self.block(h)
        gate = h.mean((2, 3), keepdim=True).sigmoid()
        return self.head((h * gate).mean((2, 3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.features(x) + self.features(x.flip(-1))) / 2


def test_shortcuts_and_gates_move_with_their_branches() -> None:
    net = Residual().eval()
    result = compiled(net, torch.randn(2, 3, 8, 8))
    texts = [str(node.target) for node in result.module.graph.nodes]
    assert not any("flip" in text for text in texts)
    assert sum("conv2d" in text for text in texts) == 2


class Shuffled(nn.Module):
    """A unit of ShuffleNet: grouped, shuffled, depthwise, grouped; the shuffle cannot be absorbed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 8, 1, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        y = self.first(x).relu().reshape(b, 2, 4, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.second(y)


def test_an_action_that_leads_nowhere_costs_nothing() -> None:
    module, example = Shuffled().eval(), torch.randn(1, 8, 4, 4)
    result = compiled(module, example)
    plain = torch.onnx.export(module, (example,), dynamo=True, verbose=False).model_proto
    assert len(result.onnx.graph.node) <= len(plain.graph.node)
    assert result.onnx.ByteSize() < plain.ByteSize()


@pytest.mark.parametrize(
    "function",
    [lambda x: x.flip(()).relu(), lambda x: x.sum().permute(()).relu(), lambda x: x.roll(0, 0).flip(0).exp()],
)
def test_actions_on_nothing_are_no_mistake(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return function(x)

    assert operators(compiled(Net(), torch.randn(3, 4))) <= 3
