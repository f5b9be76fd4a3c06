"""Values that hardly vary as constants: a planted branch goes, the error stated is real, more is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from rule_cases import net, number
from torch import Tensor, nn

import tdsl
from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.driver import rewrite
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.factor.rank import Error
from tdsl.plan.calibrate import Data, collect
from tdsl.plan.candidates import Choice, requests_of

PIPELINE = """
pipeline steady {
    once factorize.steady.steady_linear(rank=error(1%))
    repeat cleanup.* until stable
    check error <= 1%
}
"""


def gated(m: nn.Module, x: Tensor) -> Tensor:
    """A context of the whole sequence turns into a scale for each feature."""
    context = F.linear(torch.tanh(F.linear(x.mean(1), m.down)), m.up, m.bias)
    return F.linear(x, m.w) * context[:, None]


def model(scale: float) -> nn.Module:
    """`scale` says how much the context varies."""
    parts = {"down": number(8, 6), "up": scale * number(6, 8), "bias": number(6), "w": number(6, 6)}
    return net(gated, **parts)


def batches(count: int, seed: int = 0, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = (torch.randn(4, 16, 6, generator=generator, dtype=torch.float64) for _ in range(count))
    return [scale * x for x in draw]


def relative(expected: Tensor, result: Tensor) -> float:
    return float((expected - result).detach().norm() / expected.detach().norm())


def operators(module: torch.fx.GraphModule) -> list[str]:
    calls = (n for n in module.graph.nodes if n.op == "call_function")
    return [n.target.name().removeprefix("aten::").partition(".")[0] for n in calls]


def compiled(scale: float, folder: Path) -> tuple[nn.Module, tdsl.Result]:
    (folder / "steady.tdsl").write_text(PIPELINE)
    original, data = model(scale).float(), [x.float() for x in batches(12)]
    return original, tdsl.compile(
        original,
        (data[0],),
        pipeline="steady",
        rules=tdsl.load(folder / "steady.tdsl"),
        calibration=data,
        held_out=[x.float() for x in batches(4, seed=1)],
        latency=False,
    )


def test_a_branch_that_hardly_varies_is_a_constant_on_other_data(tmp_path: Path) -> None:
    original, result = compiled(1e-3, tmp_path)
    assert operators(result.module).count("linear") == 1
    assert "tanh" not in operators(result.module) and "mean" not in operators(result.module)
    x = batches(1, seed=2)[0].float()
    assert 0 < relative(original(x), result.module(x)) < 1e-2
    far = batches(1, seed=3, scale=1e4)[0].float()  # other inputs: the contexts are no longer small
    assert relative(original(far), result.module(far)) > 1e-3


def test_a_branch_that_varies_stays(tmp_path: Path) -> None:
    """Control: small variance, but more than is allowed."""
    _, result = compiled(0.1, tmp_path)
    assert operators(result.module).count("linear") == 3 and "tanh" in operators(result.module)


@pytest.mark.parametrize("scale", [1e-4, 1e-3, 1e-2])
def test_the_error_stated_is_that_of_the_outputs(scale: float) -> None:
    layer = net(lambda m, x: F.linear(x, m.w, m.b), w=scale * number(5, 6), b=number(5))
    data = [x.reshape(-1, 6) for x in batches(8)]
    captured = capture(layer, (data[0],))
    module, journal = copied(captured.module), Journal()
    rule = standard_library().rule("factorize.steady.steady_linear", {"rank": Error(0.5)})
    asked = requests_of(module, [Choice(rule.name, rule.parameters, rule)], None)
    assert (
        rewrite(
            module, [rule], None, journal, collect(module, Data.of(captured, [(x,) for x in data]), asked)
        )
        == 1
    )
    module.recompile()
    x = torch.cat(data)
    real = relative(layer(x), module(x[:64]).mean(0))
    assert journal.entries[0].error == pytest.approx(real, rel=1e-6)
