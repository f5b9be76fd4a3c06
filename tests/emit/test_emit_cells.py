"""Recurrent cells called in a loop are one layer of the file, and compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from rewriting import graph_of
from torch import Tensor, nn

import tdsl
from tdsl.emit import run, session
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library

FREE = torch.export.Dim("batch", min=1, max=16)
KINDS = [nn.LSTMCell, nn.GRUCell, nn.RNNCell]


class Loop(nn.Module):
    """Two cells on each other, from given states: all states above, and what is left at the end."""

    def __init__(self, kind: Any, bias: bool) -> None:
        super().__init__()
        self.below, self.above = kind(6, 5, bias=bias), kind(5, 5, bias=bias)
        self.two = kind is nn.LSTMCell

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        first: Any = (h, c) if self.two else h
        second: Any = (c, h) if self.two else c
        found = []
        for t in range(x.shape[1]):
            first = self.below(x[:, t], first)
            second = self.above(first[0] if self.two else first, second)
            found.append(second[0] if self.two else second)
        return torch.stack(found, 1), *(second if self.two else (second,)), *(first if self.two else (first,))


class Feedback(nn.Module):
    """A cell that reads what it gave."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.cell, self.two = kind(5, 5), kind is nn.LSTMCell

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        state: Any = (h, c) if self.two else h
        for _ in range(3):
            state = self.cell(state[0] if self.two else state, state)
        return state[0] if self.two else state


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("bias", "steps"), [(True, 4), (False, 4), (True, 1)])
def test_cells_in_a_loop_are_layers_of_the_file(kind, bias, steps) -> None:
    model = Loop(kind, bias)
    result = tdsl.compile(
        model.eval(),
        (torch.randn(3, steps, 6), torch.randn(3, 5), torch.randn(3, 5)),
        dynamic_shapes={name: {0: FREE} for name in ("x", "h", "c")},
        latency=False,
    )
    called = [r.rule for r in result.report.rewrites]
    assert called.count("layout.recurrent_cells") == 2
    args = (torch.randn(5, steps, 6), torch.randn(5, 5), torch.randn(5, 5))
    got = run(session(result.onnx), dict(zip(("x", "h", "c"), args, strict=True)))
    with torch.no_grad():
        for array, wanted in zip(got.values(), model(*args), strict=True):
            np.testing.assert_allclose(array, wanted.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_cells_that_read_what_they_gave_stay(kind) -> None:
    x, h, c = torch.randn(3, 4, 6), torch.randn(3, 5), torch.randn(3, 5)
    cells = standard_library().graph_pass("layout.recurrent_cells")
    assert cells.rewrite(graph_of(Loop(kind, True), x, h, c).module, Journal()) == 2
    assert cells.rewrite(graph_of(Feedback(kind), h, c).module, Journal()) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_one_call_factorizes_what_a_cell_reads_exactly_at_its_rank(kind) -> None:
    torch.manual_seed(0)
    model = Loop(kind, True).eval()
    model.below = kind(48, 24)
    model.above = kind(24, 5)
    weight = model.below.weight_ih
    weight.data = torch.randn(len(weight), 4) @ torch.randn(4, 48) / 10

    class Long(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.two = model.below, kind is nn.LSTMCell

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.shape[0], 24)
            state: Any = (h, h) if self.two else h
            for t in range(x.shape[1]):
                state = self.cell(x[:, t], state)
            return state[0] if self.two else state

    original, x = Long().eval(), torch.randn(3, 6, 48)
    smaller = tdsl.factorize(original, (x,), rank=4)
    with torch.no_grad():
        torch.testing.assert_close(smaller(x), original(x), rtol=1e-4, atol=1e-5)
        lost = tdsl.factorize(original, (x,), rank=2)(x) - original(x)
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in original.parameters())
    assert lost.norm() > 0.01 * original(x).norm()
