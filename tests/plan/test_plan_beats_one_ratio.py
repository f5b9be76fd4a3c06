"""A plan spends the same parameters better than one ratio in every layer, where spectra decay."""

from __future__ import annotations

import pytest
import torch
from plan_models import batches, drawn, perceptron, planned
from torch import Tensor, nn

from tdsl.capture import Captured, capture
from tdsl.engine.census import census, copied
from tdsl.engine.journal import Journal

MARGIN = 0.95
"""The plan's error must be below this share of the other one's."""


class Convolutional(nn.Module):
    """Three convolutions, the channels of whose kernels decay, and a mean over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(n, m, 3, padding=1) for n, m in ((16, 32), (32, 32), (32, 48)))
        with torch.no_grad():
            for number, layer in enumerate(self.layers):
                kernel = drawn(*layer.weight.shape, seed=40 + number)
                for axis, size in enumerate(kernel.shape):
                    sizes = [1] * kernel.dim()
                    sizes[axis] = size
                    kernel = kernel * (torch.arange(1, size + 1) ** -0.8).reshape(sizes)
                layer.weight.copy_(3 * kernel)
                layer.bias.copy_(0.1 * drawn(len(layer.bias), seed=50 + number))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x.mean((2, 3))


def convolutional() -> Captured:
    return capture(Convolutional().eval(), (drawn(4, 16, 8, 8),), dynamic_shapes={"x": {0: "batch"}})


def images(count: int = 12) -> list[tuple[Tensor, ...]]:
    mixing = drawn(16, 16, seed=60) * torch.arange(1, 17) ** -0.5
    drawings = (drawn(8, 16, 8, 8, seed=70 + i) for i in range(count))
    return [(torch.einsum("oi,bihw->bohw", mixing, x),) for x in drawings]


def measured(captured: Captured, known: list[tuple[Tensor, ...]], steps: str) -> tuple[float, int]:
    """Error on samples that nothing was computed from, and parameters left."""
    text = f"pipeline one {{\n{steps}\ncheck error <= 100%\n}}"
    runner, planner = planned(captured, text, known)
    module = copied(captured.module)
    runner.run(module, Journal())
    return planner.measure(module).error, census(module).parameters


@pytest.mark.parametrize(
    ("captured", "known", "rule"),
    [
        (lambda: perceptron(None), lambda: batches(40, 32), "factorize.linear.svd_linear"),
        (lambda: perceptron(None), lambda: batches(40, 32), "factorize.linear.whitened_linear"),
        (convolutional, images, "factorize.conv.spatial_svd"),
        (convolutional, images, "factorize.conv_data.whitened_tucker2"),
    ],
)
def test_a_plan_beats_one_ratio(captured, known, rule: str) -> None:
    model, data = captured(), known()
    uniform, size = measured(model, data, f"once {rule}(rank=40%)")
    plan, planned_size = measured(
        model, data, f"choose {rule} minimize error subject to parameters <= {size}\n"
    )
    assert planned_size <= size < census(model.module).parameters
    assert plan < MARGIN * uniform
