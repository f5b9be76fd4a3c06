"""Whole models from plain traces: layers move to where least is to do, fold on, and stop where they must."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rule_cases import flat, net, relative_error
from torch import Tensor, fx, nn

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.strategy import Runner
from tdsl.engine.text import graph_text


def rewritten(model: nn.Module, *inputs: Tensor, dynamic: Mapping[str, Any] | None = None) -> fx.GraphModule:
    """The model after the exact pipeline, which still computes the same of two draws of inputs."""
    library = standard_library()
    captured = capture(model, inputs, dynamic_shapes=dynamic)
    module = copied(captured.module)
    Runner(library, library.pipeline("exact")).run(module, Journal())
    outputs = []
    for scale in (1.0, -0.5):
        values = [scale * value.roll(1, -1) if value.is_floating_point() else value for value in inputs]
        with torch.no_grad():
            expected, found = model(*values), module(*values)
        assert relative_error(expected, *flat(found)) < 1e-12
        outputs.append(expected)
    assert not torch.equal(*outputs)
    return module


def operators(module: fx.GraphModule) -> list[str]:
    """The operators of a graph in their order."""
    lines = graph_text(module, types=False).splitlines()
    return [line.split(" = ")[1].split("(")[0] for line in lines if " = " in line]


def draw(*sizes: int) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(sum(sizes)), dtype=torch.float64)


def head(between: Callable[[Tensor], Tensor]) -> nn.Module:
    """A decode head: a layer for each stage as transformers write it, enlarged, joined, mixed, classified."""

    def forward(m: Any, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        parts = []
        for x, layer in zip((fine, middle, coarse), (m.a, m.b, m.c), strict=True):
            mixed = layer(x.flatten(2).transpose(1, 2)).transpose(1, 2)
            image = between(mixed.reshape(x.shape[0], -1, *x.shape[2:]))
            parts.append(F.interpolate(image, size=fine.shape[2:], mode="bilinear", align_corners=False))
        return m.out(m.norm(m.fuse(torch.cat(parts[::-1], 1))).relu())

    layers = {"a": nn.Linear(3, 8), "b": nn.Linear(5, 8), "c": nn.Linear(7, 8)}
    fuse = nn.Conv2d(24, 8, 1, bias=False)
    return net(forward, **layers, fuse=fuse, norm=nn.BatchNorm2d(8), out=nn.Conv2d(8, 4, 1))


STAGES = (draw(1, 3, 8, 8), draw(1, 5, 4, 4), draw(1, 7, 2, 2))


def test_a_decode_head_mixes_each_stage_at_its_own_size() -> None:
    module = rewritten(head(lambda x: x), *STAGES)
    found = operators(module)
    assert sorted(found) == sorted(["conv2d"] * 4 + ["upsample_bilinear2d"] * 2 + ["add"] * 2 + ["relu"])
    layers = module.graph.find_nodes(op="call_function", target=torch.ops.aten.conv2d.default)
    mixed = [layer.meta["val"].shape[2] for layer in layers]
    assert sorted(mixed) == [2, 4, 8, 8]


def test_the_join_of_stages_with_activations_is_mixed_at_their_sizes_all_the_same() -> None:
    found = operators(rewritten(head(F.relu), *STAGES))
    assert found.count("relu") == 4
    assert found.count("conv2d") == 7  # nothing merges through a relu
    assert "concat" not in found


def test_a_set_is_summed_first_and_its_layers_are_one() -> None:
    deep = net(
        lambda m, x: m.c(m.b(m.a(x).relu()).sum(1)).relu(),
        a=nn.Linear(3, 16),
        b=nn.Linear(16, 16),
        c=nn.Linear(16, 4),
    )
    x = draw(2, 9, 3)
    assert operators(rewritten(deep, x)) == ["linear", "relu", "sum", "linear", "relu"]
    of_any_size = operators(rewritten(deep, x, dynamic={"x": {1: "elements"}}))
    assert of_any_size.count("linear") == 2
    assert of_any_size[-1] == "relu"


def test_global_pooling_flattening_and_the_classifier_are_one_layer() -> None:
    model = net(
        lambda m, x: m.fc(F.adaptive_avg_pool2d(m.norm(m.conv(x)), 1).flatten(1)),
        conv=nn.Conv2d(6, 12, 1),
        norm=nn.BatchNorm2d(12),
        fc=nn.Linear(12, 3),
    )
    assert operators(rewritten(model, draw(2, 6, 5, 5))) == ["adaptive_avg_pool2d", "reshape", "linear"]


def test_maximum_pooling_stops_a_layer() -> None:
    model = net(lambda m, x: F.max_pool2d(m.conv(x), 2), conv=nn.Conv2d(6, 12, 1))
    assert operators(rewritten(model, draw(2, 6, 4, 4))) == ["conv2d", "max_pool2d"]


@pytest.mark.parametrize(("nodes", "layers"), [(4, 2), (40, 1)])
def test_messages_are_mixed_at_the_nodes_where_these_are_fewer(nodes: int, layers: int) -> None:
    ends = torch.randint(nodes, (2, 16), generator=torch.Generator().manual_seed(0))
    model = net(
        lambda m, h, d: m.fc(torch.cat([h[m.ends[0]], h[m.ends[1]], d], -1)).relu(),
        fc=nn.Linear(11, 6),
        ends=ends,
    )
    found = operators(rewritten(model, draw(nodes, 5), draw(16, 1)))
    assert found.count("linear") == layers
    assert ("concat" in found) == (layers == 1)


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ([0, 0, 0, 0, 0, 0], ["sum"]),
        ([0, 0, 1, 1, 2, 2], ["reshape", "sum"]),
        ([0, 1, 0, 1, 2, 2], ["expand", "new_zeros", "scatter_add"]),
    ],
    ids=["one graph", "graphs of one size", "graphs mixed up"],
)
def test_a_readout_of_graphs_scatters_only_where_it_must(batch: list[int], expected: list[str]) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        index = m.batch.view(-1, 1).expand_as(x)
        return x.new_zeros(max(batch) + 1, x.shape[1]).scatter_add_(0, index, x)

    model = net(forward, batch=torch.tensor(batch))
    assert sorted(operators(rewritten(model, draw(6, 4)))) == expected
