"""Layers of more inputs than a moment of them could hold are planned by the moments of their outputs."""

from __future__ import annotations

import torch
from plan_models import drawn, planned
from torch import Tensor, nn

from tdsl.capture import capture
from tdsl.engine.census import census, copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.statistics import LARGEST
from tdsl.plan.candidates import Choice, requests_of

CHANNELS, SIDE, OUTPUTS = 16, 24, 20


class Flattened(nn.Module):
    """Feature maps and a dense layer over all of them, as in VGG: 9216 inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(CHANNELS * SIDE * SIDE, OUTPUTS)
        self.last = nn.Linear(OUTPUTS, OUTPUTS)
        with torch.no_grad():
            self.head.weight.copy_(drawn(*self.head.weight.shape, seed=1) / self.head.in_features**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.head(x.flatten(1))))


def maps(count: int, seed: int) -> Tensor:
    """Feature maps on few directions, about a mean."""
    directions = drawn(12, CHANNELS, SIDE, SIDE, seed=7)
    strengths = drawn(count, 12, seed=seed) * 0.6 ** torch.arange(12)
    return torch.einsum("bk,kchw->bchw", strengths, directions) + 0.5


def lost(rule: str) -> tuple[float, int, list[tuple[int, ...]]]:
    """Error on samples that nothing was computed from, numbers left, and the factors made."""
    model, known = Flattened().eval(), [(maps(16, seed),) for seed in range(8)]
    captured = capture(model, known[0], dynamic_shapes={"x": {0: "batch"}})
    text = f"""pipeline one {{
        choose {rule} minimize error subject to parameters <= 40%
        check error <= 100%
    }}"""
    runner, _ = planned(captured, text, known)
    module = copied(captured.module)
    runner.run(module, Journal())
    unseen = maps(64, seed=99)
    with torch.no_grad():
        error = float((module(unseen) - model(unseen)).norm() / model(unseen).norm())
    return error, census(module).parameters, [tuple(p.shape) for p in module.parameters()]


def test_a_layer_of_more_inputs_than_a_moment_holds_is_cut_by_data() -> None:
    assert CHANNELS * SIDE * SIDE > LARGEST
    error, size, shapes = lost("factorize.linear.wide_linear")
    plain, other, _ = lost("factorize.linear.svd_linear")
    assert any(shape[-1] == CHANNELS * SIDE * SIDE and shape[0] < OUTPUTS for shape in shapes)
    assert size <= other * 1.001
    assert error < 0.3 * plain  # control: without data the same numbers lose several times as much


def test_nothing_of_the_size_of_a_moment_of_inputs_is_summed() -> None:
    captured = capture(Flattened().eval(), (maps(2, 0),))
    names = ("wide_linear", "two_sided_linear", "whitened_linear")
    rules = [standard_library().rule(f"factorize.linear.{name}") for name in names]
    [wide, *others] = [requests_of(captured.module, [Choice(r.name, r.parameters, r)], None) for r in rules]
    inputs = CHANNELS * SIDE * SIDE
    assert {(r.kind, r.size) for r in wide} == {
        ("covariance", OUTPUTS),
        ("gradient_moment", OUTPUTS),
        ("first_moment", inputs),
    }
    # Control: moments of inputs are asked for where they are small, and of the wide layer they are refused.
    for asked in others:
        assert [r.size for r in asked if r.kind == "covariance"] == [OUTPUTS]
