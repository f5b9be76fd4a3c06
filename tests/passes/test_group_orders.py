"""Group convolutions in a model: lookups between layers, what explanations say, the size of the file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import torch
from cases_finite_orders import many, shuffled
from torch import Tensor, nn

import tdsl
from tdsl.capture import capture
from tdsl.engine.explain import explain
from tdsl.engine.library import standard_library

RULE = "decompose.finite_conv.group_conv"


def convolution(matrices: Tensor, groups: int = 1) -> nn.Conv2d:
    """A convolution of 3 × 3 taps, [m, n, 9], at unit scale."""
    rows, columns, _ = matrices.shape
    layer = nn.Conv2d(columns * groups, rows, 3, padding=1, groups=groups)
    layer.weight.data = (matrices / (9 * columns) ** 0.5).reshape(rows, columns, 3, 3).float()
    return layer


def compiled(model: nn.Module, x: Tensor, output: Path) -> tuple[tdsl.Report, Counter[str]]:
    """The report, and the operators of the file."""
    result = tdsl.compile(model.eval(), (x,), pipeline="pipelines.symmetric", output=output, latency=False)
    nodes = onnx.load(output, load_external_data=False).graph.node
    return result.report, Counter(node.op_type for node in nodes)


def test_channels_are_not_put_in_order_between_layers(tmp_path: Path) -> None:
    kernels = [many(16, 16, 9, inside=True) for _ in range(3)]
    layers = [module for one in kernels for module in (convolution(one), nn.ReLU())]
    output = tmp_path / "model.onnx"
    report, operators = compiled(nn.Sequential(*layers), torch.randn(1, 96, 16, 16), output)
    assert Counter(one.rule for one in report.rewrites)[RULE] == 3
    assert operators["Gather"] + operators["Transpose"] == 2  # before the first layer and behind the last one
    assert output.stat().st_size < sum(one.numel() for one in kernels) * 4 / 3


def test_random_channels_stay_as_they_are(tmp_path: Path) -> None:
    layers = [convolution(torch.randn(96, 96, 9)), nn.ReLU()]
    report, operators = compiled(nn.Sequential(*layers), torch.randn(1, 96, 16, 16), tmp_path / "model.onnx")
    assert not report.rewrites and operators["Conv"] == 1


def test_why_a_layer_is_left_alone_is_said() -> None:
    rule = standard_library().rule(RULE, {})
    for weight, reason in (
        (torch.randn(96, 96, 9), "d > 1"),
        (shuffled(many(4, 4, 9, inside=True)), "macs(lhs) - macs(rhs) >= saved"),
    ):
        layer = convolution(weight)
        captured = capture(layer.eval(), (torch.randn(1, layer.in_channels, 8, 8),))
        [site] = explain(rule, captured.module).sites
        assert reason in str(site.failures[0])
