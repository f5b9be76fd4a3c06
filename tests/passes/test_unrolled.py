"""Unrolled loops over all steps at once: states are those of the loop; loops that are not linear are left."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rule_cases import net, number
from tdsl.passes.layout import scan
from tdsl.passes.layout.unrolled import Unrolled
from torch import Tensor, nn

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal

STEPS = 12


def diagonal(m: nn.Module, x: Tensor) -> Tensor:
    """A diagonal state space: constant decays, inputs and outputs mixed at each step."""
    h, ys = x.new_zeros(x.shape[0], 6), []
    for t in range(x.shape[1]):
        h = m.a * h + F.linear(x.select(1, t), m.w)
        ys.append(F.linear(h, m.c, m.d))
    return torch.stack(ys, 1)


def scalar(m: nn.Module, x: Tensor) -> Tensor:
    """An exponential moving average."""
    h, ys = x.select(1, 0), []
    for t in range(x.shape[1]):
        h = 0.9 * h + x.select(1, t) * 0.1
        ys.append(h)
    return torch.stack(ys, 2)


def gated(m: nn.Module, x: Tensor) -> Tensor:
    """Gates from the inputs."""
    f, u = F.linear(x, m.v).sigmoid(), F.linear(x, m.w)
    h, ys = torch.zeros(x.shape[0], 6, dtype=x.dtype), []
    for t in range(x.shape[1]):
        h = f.select(1, t) * h + (1 - f.select(1, t)) * u.select(1, t)
        ys.append(h.unsqueeze(1))
    return torch.cat(ys, 1)


def selective(m: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """States of several numbers for each channel, as of selective state spaces; the last one is returned."""
    step, into, out = F.softplus(F.linear(x, m.v)), F.linear(x, m.p), F.linear(x, m.q)
    h, ys = x.new_zeros(x.shape[0], 6, 3), []
    for t in range(x.shape[1]):
        decay = torch.exp(-step.select(1, t).unsqueeze(-1) * m.rates)
        h = decay * h + step.select(1, t).unsqueeze(-1) * into.select(1, t).unsqueeze(-2)
        ys.append((h * out.select(1, t).unsqueeze(-2)).sum(-1))
    return torch.stack(ys, 1), h


def from_state(m: nn.Module, x: Tensor, h: Tensor) -> Tensor:
    """The state is handed in."""
    ys = []
    for part in F.linear(x, m.w).unbind(1):
        h = part + h * m.a
        ys.append(h)
    return torch.stack(ys, 1)


def running(m: nn.Module, x: Tensor) -> Tensor:
    """A sum of all that came before."""
    h, ys = x.new_zeros(x.shape[0], 5), []
    for t in range(x.shape[1]):
        h = h + x.select(1, t)
        ys.append(h.relu())
    return torch.stack(ys, 1)


def each_alone(m: nn.Module, x: Tensor) -> Tensor:
    """No recurrence at all."""
    return torch.stack([torch.tanh(F.linear(x.select(1, t), m.w)) for t in range(x.shape[1])], 1)


LOOPS = {f.__name__: f for f in (diagonal, scalar, gated, selective, from_state, running, each_alone)}
WEIGHTS = {
    "a": torch.linspace(-0.5, 0.99, 6, dtype=torch.float64),
    "rates": torch.linspace(0.01, 2, 18, dtype=torch.float64).reshape(6, 3),
    "w": number(6, 5),
    "v": number(6, 5),
    "p": number(3, 5),
    "q": number(3, 5),
    "c": number(4, 6),
    "d": number(4),
    "mixing": 0.3 * number(6, 6),
}


def rewritten(forward: Any, steps: int = STEPS, **weights: Tensor) -> tuple[nn.Module, nn.Module, Journal]:
    model = net(forward, **{**WEIGHTS, **weights})
    inputs = [torch.randn(3, steps, 5, dtype=torch.float64)]
    dynamic = {"x": {0: "batch"}}
    if forward is from_state:
        inputs.append(torch.randn(3, 6, dtype=torch.float64))
        dynamic["h"] = {0: "batch"}
    captured = capture(model, tuple(inputs), dynamic_shapes=dynamic)
    module, journal = copied(captured.module), Journal()
    Unrolled().rewrite(module, journal)
    module.recompile()
    return model, module, journal


def test_a_state_is_handed_over_from_chunk_to_chunk() -> None:
    """Two halves of a signal, the state of the first given to the second, are the whole (F39)."""
    model, module, _ = rewritten(from_state, STEPS // 2)
    x, h = torch.randn(3, STEPS, 5, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    first = module(x[:, : STEPS // 2], h)
    halves = torch.cat([first, module(x[:, STEPS // 2 :], first[:, -1])], 1)
    torch.testing.assert_close(halves, model(x, h), rtol=0, atol=1e-12)
    forgotten = module(x[:, STEPS // 2 :], torch.zeros_like(h))  # the control
    assert not torch.allclose(forgotten, halves[:, STEPS // 2 :], atol=1e-3)


def operators(module: torch.fx.GraphModule) -> int:
    return sum(node.op == "call_function" for node in module.graph.nodes)


def assert_equal(model: nn.Module, module: nn.Module, steps: int, state: bool) -> None:
    for batch in (1, 4):
        inputs = [torch.randn(batch, steps, 5, dtype=torch.float64)]
        inputs += [torch.randn(batch, 6, dtype=torch.float64)] if state else []
        expected, result = model(*inputs), module(*inputs)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)
        assert (expected if isinstance(expected, Tensor) else expected[0]).std() > 1e-2


@pytest.mark.parametrize("name", LOOPS)
def test_the_states_of_all_steps_are_those_of_the_loop(name: str) -> None:
    model, module, journal = rewritten(LOOPS[name])
    assert len(journal.entries) == 1 and journal.entries[0].details["steps"] == STEPS
    assert_equal(model, module, STEPS, LOOPS[name] is from_state)


def test_operators_grow_with_the_logarithm_of_the_steps() -> None:
    few, many = (operators(rewritten(gated, steps)[1]) for steps in (8, 32))
    assert many - few <= 2 * 8
    assert many < 60 < 32 * 6  # the loop has six operators a step


def test_factors_near_zero_are_no_matter() -> None:
    model, module, journal = rewritten(diagonal, a=torch.tensor([0, 1e-300, -1e-9, 1, -1, 0.5]).double())
    assert len(journal.entries) == 1
    assert_equal(model, module, STEPS, False)


def test_long_loops_are_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "LONGEST", 8)
    model, module, journal = rewritten(diagonal)
    assert len(journal.entries) == 1
    assert not any("matmul" in str(node.target) for node in module.graph.nodes)
    assert_equal(model, module, STEPS, False)


def nonlinear(m: nn.Module, x: Tensor) -> Tensor:
    h, ys = x.new_zeros(x.shape[0], 6), []
    for t in range(x.shape[1]):
        h = torch.tanh(m.a * h + F.linear(x.select(1, t), m.w))
        ys.append(h)
    return torch.stack(ys, 1)


def depends_on_the_state(m: nn.Module, x: Tensor) -> Tensor:
    """The gate reads the state, so that the step is not linear."""
    h, ys = x.new_zeros(x.shape[0], 6), []
    for t in range(x.shape[1]):
        h = h.sigmoid() * h + F.linear(x.select(1, t), m.w)
        ys.append(h)
    return torch.stack(ys, 1)


def coupled(m: nn.Module, x: Tensor) -> Tensor:
    """States that a matrix mixes: a diagonal form of it may be as ill-conditioned as HiPPO's (10¹⁰ at 16)."""
    h, ys = x.new_zeros(x.shape[0], 6), []
    for t in range(x.shape[1]):
        h = F.linear(h, m.mixing) + F.linear(x.select(1, t), m.w)
        ys.append(h)
    return torch.stack(ys, 1)


def in_another_order(m: nn.Module, x: Tensor) -> Tensor:
    """Steps read the inputs in an order that is no slice."""
    return torch.stack([F.linear(x.select(1, (5 * t) % STEPS), m.w) for t in range(STEPS)], 1)


def own_weights(m: nn.Module, x: Tensor) -> Tensor:
    return torch.stack(
        [F.linear(x.select(1, t), m.w) if t % 2 else F.linear(x.select(1, t), m.v) for t in range(STEPS)], 1
    )


def all_read(m: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    h, ys = x.new_zeros(x.shape[0], 6), []
    for t in range(x.shape[1]):
        h = m.a * h + F.linear(x.select(1, t), m.w)
        ys.append(h)
    return torch.stack(ys, 1), ys[3].exp(), ys[9].exp(), ys[11].exp()


CONTROLS = [nonlinear, depends_on_the_state, coupled, in_another_order, own_weights, all_read]


@pytest.mark.parametrize("forward", CONTROLS)
def test_other_loops_are_left_alone(forward: Any) -> None:
    assert not rewritten(forward)[2].entries


def test_a_growing_state_is_no_product_with_powers() -> None:
    model, module, journal = rewritten(diagonal, a=torch.full((6,), 1.5).double())
    assert len(journal.entries) == 1
    assert not any("matmul" in str(node.target) for node in module.graph.nodes)
    x = torch.randn(2, STEPS, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), model(x), rtol=1e-11, atol=0)
