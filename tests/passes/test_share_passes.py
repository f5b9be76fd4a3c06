"""Weights of several layers in shared bases: one copy in the file, each within its error, or left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from rewriting import library
from tdsl.passes.share.cosines import SharedCosines
from tdsl.passes.share.factors import SharedFactors
from torch import Tensor, nn

import tdsl
from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.errors import TdslError
from tdsl.prepare import prepare

WIDTH, HIDDEN, RANK, DEPTH = 24, 48, 3, 4


class Block(nn.Module):
    """A residual block with a hidden layer of a given weight."""

    def __init__(self, weight: Tensor, bias: bool = True) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, HIDDEN, bias=bias)
        self.down = nn.Linear(HIDDEN, WIDTH)
        self.up.weight.data = weight

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.tanh(self.up(x)))


def planted(depth: int = DEPTH, bias: bool = True) -> nn.Module:
    left, right = torch.randn(HIDDEN, RANK), torch.randn(RANK, WIDTH)
    return nn.Sequential(
        *(Block(left @ torch.randn(RANK, RANK) @ right / 6, bias) for _ in range(depth))
    ).eval()


def independent() -> nn.Module:
    """Of the same ranks, in subspaces that have nothing to do with one another."""
    return nn.Sequential(
        *(Block(torch.randn(HIDDEN, RANK) @ torch.randn(RANK, WIDTH) / 4) for _ in range(DEPTH))
    ).eval()


class Attention(nn.Module):
    """Layers of attention whose queries and keys share their bases; values do not."""

    def __init__(self) -> None:
        super().__init__()
        left, right = torch.randn(WIDTH, RANK), torch.randn(RANK, WIDTH)
        self.layers = nn.ModuleList()
        for _ in range(2):
            layer = nn.ModuleDict({name: nn.Linear(WIDTH, WIDTH) for name in ("q", "k", "v")})
            for name in ("q", "k"):
                layer[name].weight.data = left @ torch.randn(RANK, RANK) @ right / 6
            self.layers.append(layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            scores = layer["q"](x) @ layer["k"](x).transpose(-1, -2)
            x = x + torch.softmax(scores, -1) @ layer["v"](x)
        return x


def run(model: nn.Module, pass_: Any, x: Tensor) -> tuple[nn.Module, Journal]:
    module, journal = copied(capture(model, (x,)).module), Journal()
    pass_.rewrite(module, journal)
    module.recompile()
    return module, journal


def compiled(
    model: nn.Module,
    step: str,
    tmp_path: Path,
    check: str = "error <= 1%",
    x: Tensor | None = None,
    **given: Any,
) -> Any:
    text = f"pipeline p {{\n    repeat cleanup.* until stable\n    {step}\n    check {check}\n}}\n"
    shown = torch.randn(5, WIDTH) if x is None else x
    file = tmp_path / "shared.onnx"
    return tdsl.compile(
        model, (shown,), pipeline="p", rules=library(text), output=file, latency=False, **given
    )


def stored(path: Path) -> list[list[int]]:
    """Shapes of the matrices in a file."""
    return sorted(list(i.dims) for i in onnx.load(path).graph.initializer if len(i.dims) == 2)


def test_shared_bases_stand_once_in_the_file(tmp_path: Path) -> None:
    result = compiled(planted(), "once share.factors(error=0.1%)", tmp_path)
    entries = result.report.rewrites
    assert [entry.rule for entry in entries] == ["share.factors"] * DEPTH
    assert [entry.site for entry in entries] == [f"{i}.up" for i in range(DEPTH)]
    shapes = stored(tmp_path / "shared.onnx")
    cores, downs = [[RANK, RANK]] * DEPTH, [[WIDTH, HIDDEN]] * DEPTH
    assert sorted(sorted(shape) for shape in shapes) == sorted(
        [*cores, *downs, [RANK, WIDTH], [RANK, HIDDEN]]
    )
    saved = DEPTH * (HIDDEN * WIDTH - RANK * RANK) - RANK * (HIDDEN + WIDTH)
    assert sum(entry.parameters for entry in entries) == saved


def test_independent_layers_are_left_alone_and_it_is_said_why(tmp_path: Path) -> None:
    model = independent()
    result = compiled(model, "once share.factors(error=0.1%)", tmp_path)
    assert result.report.rewrites == ()
    assert any("no site met the conditions of share.factors" in note.text for note in result.report.notes)
    explained = SharedFactors().explain(copied(capture(model, (torch.randn(5, WIDTH),)).module), 20)
    assert explained.fires == 0 and explained.candidates == 2 * DEPTH
    text = explained.render()
    assert "staying apart" in text


def test_what_is_read_together_is_projected_once() -> None:
    model, x = Attention().eval(), torch.randn(2, 5, WIDTH)
    module, journal = run(model, SharedFactors({"error": 1e-3}), x)
    assert sorted(entry.site for entry in journal.entries) == [
        "layers.0.k", "layers.0.q", "layers.1.k", "layers.1.q",
    ]  # fmt: skip
    products = [n for n in module.graph.nodes if n.target is torch.ops.aten.linear.default]
    assert len(products) == 2 * (1 + 2 * 2) + 2  # A once for queries and keys, cores and B, values
    torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-4)
    assert float(model(x).detach().std()) > 0.1


def test_it_is_not_repeated_on_what_it_made(tmp_path: Path) -> None:
    result = compiled(planted(), "repeat share.factors(error=0.1%), cleanup.* until stable", tmp_path)
    assert sum(entry.rule == "share.factors" for entry in result.report.rewrites) == DEPTH


def test_what_is_too_long_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tdsl.passes.share.factors.WIDEST", HIDDEN - 1)
    module, journal = run(planted(), SharedFactors(), torch.randn(5, WIDTH))
    assert journal.entries == []
    assert "too long" in SharedFactors().explain(module, 20).render()


def test_recovery_leaves_shared_bases_shared() -> None:
    noisy = planted()
    for block in noisy:
        block.up.weight.data += 0.02 * torch.randn(HIDDEN, WIDTH)  # type: ignore[operator, union-attr]
    data = [(torch.randn(32, WIDTH),) for _ in range(8)]
    found = []
    for heal in ("", "heal least_squares"):
        text = library(f"pipeline p {{\nonce share.factors(error=10%)\n{heal}\ncheck error <= 50%\n}}")
        prepared = prepare(noisy, data[0], pipeline="p", rules=text, calibration=data, verified=False)
        module, journal = copied(prepared.captured.module), Journal()
        prepared.runner.run(module, journal)
        assert len(journal.entries) >= DEPTH and bool(prepared.planner.healed) == bool(heal)
        found.append({name: p.shape for name, p in module.named_parameters() if "shared" in name})
    assert found[0] == found[1] and len(found[0]) >= 2


def test_operations_are_bounded() -> None:
    x = torch.randn(5, WIDTH)
    cost = (RANK * (WIDTH + HIDDEN) + RANK * RANK) / (WIDTH * HIDDEN)
    assert len(run(planted(), SharedFactors({"macs": cost}), x)[1].entries) == DEPTH
    module, journal = run(planted(), SharedFactors({"macs": cost / 2}), x)
    assert journal.entries == []
    explained = SharedFactors({"macs": cost / 2}).explain(module, 20)
    assert "more operations than are allowed" in explained.render()


def test_only_what_is_in_scope_is_shared(tmp_path: Path) -> None:
    step = 'at "0", "1" {\n once share.factors(error=0.1%)\n }'
    result = compiled(planted(), step, tmp_path)
    assert [entry.site for entry in result.report.rewrites] == ["0.up", "1.up"]


class Towers(nn.Module):
    """Dense layers of given weights [m, n], side by side."""

    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__()
        self.towers = nn.ModuleList(nn.Linear(*w.shape[::-1], bias=False) for w in weights)
        for tower, weight in zip(self.towers, weights, strict=True):
            tower.weight.data = weight  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.tanh(tower(x)) for tower in self.towers], -1)


def test_what_layers_really_read_decides_and_the_bias_takes_the_mean(tmp_path: Path) -> None:
    """Dense weights, inputs on few directions about a mean: without data nothing could be shared."""
    model = Towers([torch.randn(HIDDEN, WIDTH) / 4 for _ in range(DEPTH)]).eval()
    directions, mean = torch.randn(2, WIDTH), torch.randn(WIDTH)
    data = [(torch.randn(16, 2) @ directions + mean,) for _ in range(12)]
    given: dict[str, Any] = {"calibration": data, "x": data[0][0]}
    step = "once share.factors(error=0.1%)"
    result = compiled(model, step, tmp_path, "error <= 0.5%", cache=tmp_path / "known", **given)
    assert len(result.report.rewrites) == DEPTH
    torch.testing.assert_close(result.module(data[-1][0]), model(data[-1][0]), rtol=0, atol=1e-2)
    assert compiled(model, step, tmp_path, x=data[0][0]).report.rewrites == ()


def test_cosines_are_computed_and_not_stored(tmp_path: Path) -> None:
    i, j = torch.arange(64)[:, None] / 64, torch.arange(128) / 128
    model = Towers([torch.exp(-((i - j + 0.03 * k) ** 2) * 60) for k in range(3)]).eval()
    step, x = "once share.cosines(error=2%)", torch.randn(5, 128)
    result = compiled(model, step, tmp_path, "error <= 10%", x)
    assert [entry.site for entry in result.report.rewrites] == [f"towers.{k}" for k in range(3)]
    assert all(0 < entry.error <= 0.02 for entry in result.report.rewrites)
    shapes = stored(tmp_path / "shared.onnx")
    assert not any(128 in shape for shape in shapes)  # no basis [r, 128] in the file
    assert sum(64 in shape for shape in shapes) == 3  # the columns of each layer
    low = Towers([torch.randn(64, 3) @ torch.randn(3, 128) for _ in range(3)])  # in no smooth basis
    module, journal = run(low, SharedCosines({"error": 0.02}), x)
    assert journal.entries == []
    assert "two factors of it" in SharedCosines({"error": 0.02}).explain(module, 20).render()


@pytest.mark.parametrize(
    ("step", "check", "message"),
    [
        ("once share.factors(error=0)", "error <= 1%", "no value for error"),
        ("once share.factors(error=150%)", "error <= 1%", "no value for error"),
        ("once share.factors(macs=-1)", "error <= 1%", "no value for macs"),
        ('once share.factors(error="much")', "error <= 1%", "no value for error"),
        ("once share.factors(errors=1%)", "error <= 1%", "pass share.factors has no parameter errors"),
        ("once share.cosines(macs=0)", "error <= 1%", "no value for macs"),
    ],
)
def test_a_wrong_argument_is_named_at_its_line(step: str, check: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TdslError, match=message) as raised:
        compiled(planted(), step, tmp_path, check)
    assert raised.value.span is not None and raised.value.span.line == 3


def test_a_pipeline_that_shares_declares_a_contract() -> None:
    text = library("pipeline p { once share.factors }")
    with pytest.raises(TdslError, match=r"share\.factors.*declares no contract"):
        tdsl.compile(planted(), (torch.randn(5, WIDTH),), pipeline="p", rules=text)
