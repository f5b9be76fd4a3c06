"""Plans where the outputs say nothing to first order: classes, which change or do not, and what overflows."""

from __future__ import annotations

import math

import pytest
import torch
from plan_models import Perceptron, decaying, drawn
from torch import Tensor, nn

import tdsl
from tdsl.plan.probes import Effects

FREE = {"x": {0: "batch"}}


class Classes(nn.Module):
    """The class of the largest score alone."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Perceptron(None)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).argmax(-1)


def inputs(count: int, seed: int = 10) -> list[Tensor]:
    shape = decaying(48, 48, power=0.5, seed=7) * 5
    return [drawn(16, 48, seed=seed + i) @ shape for i in range(count)]


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_a_model_of_classes_keeps_what_its_classes_need() -> None:
    """Before, nothing that gradients say nothing of cost anything, and all layers were cut to the least."""
    model, other = Classes().eval(), torch.cat(inputs(40, seed=500))

    def changed(share: float) -> float:
        smaller = tdsl.factorize(model, other[:4], rank=share, calibration=inputs(32), dynamic_shapes=FREE)
        assert share - 0.1 < parameters(smaller) / parameters(model) <= share
        return float((smaller(other) != model(other)).double().mean())

    assert 0 < changed(0.8) < changed(0.3) < 0.5


def test_what_overflows_when_it_is_measured_is_no_candidate(monkeypatch) -> None:
    """As behind an exponential: an infinite error is none that can be added up."""
    model = Perceptron(None).eval()

    def cut() -> nn.Module:
        return tdsl.factorize(model, drawn(4, 48), rank=0.5, calibration=inputs(32), dynamic_shapes=FREE)

    assert parameters(cut()) <= 0.5 * parameters(model)
    monkeypatch.setattr(Effects, "errors", lambda self, changes: [math.inf for _ in changes])
    with pytest.raises(tdsl.TdslError, match=r"no layer of it can be factorized"):
        cut()
