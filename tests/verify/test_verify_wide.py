"""A graph in float64 computes what its float64 copy computes, and never holds a whole weight in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tdsl.capture import capture
from tdsl.verify import wide
from tdsl.verify.tolerance import in_double


class Largest(TorchDispatchMode):
    """Notes the largest tensor in float64 that any operator makes."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for made in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(made, torch.Tensor) and made.dtype == torch.float64 and "view" not in str(func):
                self.entries = max(self.entries, made.numel())
        return result


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(400, 16), nn.Linear(16, 400)

    def forward(self, ids):
        return self.head(self.words(ids))


MODELS = {
    "dense": (nn.Linear(64, 96), (torch.randn(3, 64),)),
    "dense, without bias": (nn.Linear(64, 96, bias=False), (torch.randn(2, 3, 64),)),
    "table": (Table(), (torch.randint(0, 400, (2, 3)),)),
    "conv1d": (nn.Conv1d(48, 32, 5, padding=2), (torch.randn(3, 48, 9),)),
    "conv2d": (nn.Conv2d(48, 32, 3, stride=2, dilation=2, bias=False), (torch.randn(2, 48, 9, 8),)),
    "conv3d": (nn.Conv3d(48, 24, 2), (torch.randn(2, 48, 3, 3, 3),)),
    "groups": (nn.Conv2d(48, 32, 3, groups=4), (torch.randn(2, 48, 5, 5),)),
    "no batch": (nn.Conv2d(48, 32, 3), (torch.randn(48, 5, 5),)),
    "empty batch": (nn.Conv2d(4, 4, 3), (torch.randn(0, 4, 5, 5),)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_in_float64_computes_what_its_copy_computes(name, monkeypatch):
    monkeypatch.setattr(wide, "PART", 1000)
    model, args = MODELS[name]
    (found,) = in_double(capture(model, args).module, args)(args)
    (expected,) = in_double(model, args)(args)
    assert found.dtype == torch.float64 and found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", ["dense", "table", "conv1d", "conv2d", "conv3d"])
def test_a_weight_is_in_float64_part_by_part(name, monkeypatch):
    model, args = MODELS[name]
    weight = max(p.numel() for p in model.parameters())
    run = in_double(capture(model, args).module, args)
    with Largest() as whole:
        run(args)
    monkeypatch.setattr(wide, "PART", 1000)
    with Largest() as parts:
        run(args)
    assert parts.entries <= weight / 2
    assert name == "table" or whole.entries >= weight
