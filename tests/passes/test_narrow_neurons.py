"""Hidden units merged by optimal transport: copies exactly, near copies better than by removal."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from rewriting import library
from tdsl.passes.narrow.neurons import MergeNeurons
from torch import Tensor, nn

import tdsl
from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Applied, Journal
from tdsl.errors import TdslError
from tdsl.factor.transport import merging
from tdsl.prepare import prepare

WIDTH, HIDDEN, CLASSES = 12, 24, 5
DATA = [torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(i)) for i in range(10)]
UNSEEN = torch.randn(400, WIDTH, generator=torch.Generator().manual_seed(99))


class Net(nn.Module):
    """A hidden layer, gated or not, half of whose units are copies of others up to `noise`."""

    def __init__(self, noise: float | None = None, gated: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.up, self.gate = nn.Linear(WIDTH, HIDDEN), nn.Linear(WIDTH, HIDDEN)
        self.down = nn.Linear(HIDDEN, CLASSES, bias=bias)
        self.gated = gated
        copies = torch.arange(HIDDEN) % (HIDDEN // 2)
        copies[HIDDEN - 1] = 3  # three of one, one of another
        for layer in (self.up, self.gate) if noise is not None else ():
            layer.weight.data = layer.weight.data[copies] * 3 + noise * torch.randn(HIDDEN, WIDTH)
            layer.bias.data = layer.bias.data[copies] + noise * torch.randn(HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.up(x))
        return self.down(h * self.gate(x) if self.gated else h)


def run(model: nn.Module, step: str, known: Any = DATA) -> tuple[nn.Module, list[Applied]]:
    prepared = prepare(
        model.eval(),
        (DATA[0],),
        pipeline="p",
        rules=library(f"pipeline p {{\n    {step}\n    check error <= 100%\n}}\n"),
        dynamic_shapes={"x": {0: "batch"}},
        calibration=known,
        verified=False,
    )
    module, journal = copied(prepared.captured.module), Journal()
    prepared.runner.run(module, journal)
    return module, journal.entries


def lost(model: nn.Module, module: nn.Module) -> float:
    with torch.no_grad():
        expected = model(UNSEEN)
        return float((module(UNSEEN) - expected).norm() / (expected - expected.mean(0)).norm())


def shapes(module: nn.Module) -> list[tuple[int, ...]]:
    return sorted(tuple(p.shape) for p in module.parameters())


@pytest.mark.parametrize("gated", [False, True])
def test_copies_merge_exactly(gated: bool) -> None:
    model = Net(0.0, gated)
    module, [entry] = run(model, "once narrow.neurons(width=50%)")
    assert (CLASSES, HIDDEN // 2) in shapes(module)
    assert entry.error is not None and entry.error < 1e-5
    assert lost(model, module) < 1e-4 and float(model(UNSEEN).detach().std()) > 0.1
    before, after = (sum(p.numel() for p in m.parameters()) for m in (model, module))
    unused = 0 if gated else sum(p.numel() for p in model.gate.parameters())
    assert entry.saved_parameters == before - unused - after
    module, [entry] = run(Net(None, gated), "once narrow.neurons(width=50%)")  # control: nothing is a copy
    assert entry.error is not None and entry.error > 0.05


@pytest.mark.parametrize(("noise", "merged_is_better"), [(0.05, True), (1.0, False)])
def test_near_copies_are_merged_better_than_removed_and_others_worse(
    noise: float, merged_is_better: bool
) -> None:
    model = Net(noise)
    merged, [entry] = run(model, "once narrow.neurons(width=50%)")
    removed, _ = run(model, "once factorize.linear.interpolative_neurons(rank=50%)")
    assert shapes(merged) == shapes(removed)
    assert (lost(model, merged) < lost(model, removed)) == merged_is_better
    assert entry.error == pytest.approx(lost(model, merged), rel=0.25)  # what is stated is what is met


@pytest.mark.parametrize(("noise", "share"), [(0.05, 0.1), (1.0, 0.95)])
def test_classes_are_kept_better_than_without_the_smallest_units(noise: float, share: float) -> None:
    """Perplexity at equal width, by transport and by magnitude: half of the units (F07)."""
    model = Net(noise)
    merged, _ = run(model, "once narrow.neurons(width=50%)")
    pruned = copy.deepcopy(model)
    sizes = model.up.weight.norm(dim=1) * model.down.weight.norm(dim=0)
    pruned.down.weight.data[:, sizes.argsort()[: HIDDEN // 2]] = 0
    with torch.no_grad():
        wanted = model(UNSEEN).softmax(-1)
        own, by_plan, cut = (
            float(nn.functional.cross_entropy(m(UNSEEN), wanted)) for m in (model, merged, pruned)
        )
    assert 0 < by_plan - own < share * (cut - own)


def test_a_layer_without_bias_gets_one_for_the_mean() -> None:
    model = Net(0.0, bias=False)
    module, [entry] = run(model, "once narrow.neurons(width=50%)")
    assert lost(model, module) < 1e-4
    assert entry.saved_parameters == HIDDEN // 2 * (WIDTH + 1 + CLASSES) - CLASSES


def test_layers_that_follow_one_another_are_merged_one_by_one() -> None:
    copies = torch.arange(HIDDEN) % (HIDDEN // 2)
    first, second = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
    for layer in (first, second):
        layer.weight.data, layer.bias.data = layer.weight.data[copies] * 2, layer.bias.data[copies]

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = first, second, nn.Linear(HIDDEN, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))

    model = Deep()
    module, entries = run(model, "once narrow.neurons(width=50%)")
    assert len(entries) == 2 and lost(model, module) < 1e-4
    assert (HIDDEN // 2, HIDDEN // 2) in shapes(module)


def test_units_that_something_else_reads_are_left_alone() -> None:
    class Both(Net):
        def forward(self, x: Tensor) -> Any:
            h = torch.tanh(self.up(x))
            return self.down(h), h

    class Normed(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.down(torch.softmax(self.up(x), -1))

    for model in (Both(0.0), Normed(0.0)):
        assert run(model, "once narrow.neurons(width=50%)")[1] == []
    assert run(Net(0.0), "repeat narrow.neurons(width=50%) until stable")[1][1:] == []


@pytest.mark.parametrize(
    ("step", "known", "message"),
    [
        ("once narrow.neurons(width=50%)", (), "needs calibration data"),
        ("once narrow.neurons(width=99)", DATA, "99"),
        ("once narrow.neurons(units=3)", DATA, "no parameter units"),
    ],
)
def test_mistakes_are_named_at_their_line(step: str, known: Any, message: str) -> None:
    with pytest.raises(TdslError, match=message) as raised:
        run(Net(0.0), step, known)
    assert raised.value.span is not None and raised.value.span.line == 2


def test_the_file_is_verified() -> None:
    text = library("pipeline p {\n once narrow.neurons(width=50%)\n check error <= 0.1%\n}")
    result = tdsl.compile(
        Net(0.0).eval(), (DATA[0],), pipeline="p", rules=text, calibration=DATA, latency=False
    )
    assert [entry.rule for entry in result.report.rewrites] == ["narrow.neurons"]


def test_a_pass_outside_of_a_pipeline_has_no_data() -> None:
    with pytest.raises(TdslError, match="needs calibration data"):
        MergeNeurons().rewrite(capture(Net(0.0).eval(), (DATA[0],)).module, Journal())


def test_a_plan_averages_what_is_near() -> None:
    z = torch.randn(500, 3, dtype=torch.float64)
    units = torch.stack([z[:, 0], z[:, 1], z[:, 0], z[:, 2], z[:, 0]], dim=1)
    plan = merging(units.T @ units / 500, torch.tensor([1, 2, 3]))
    third = 1 / 3
    expected = torch.tensor(
        [[0, 1, 0, 0, 0], [third, 0, third, 0, third], [0, 0, 0, 1, 0]], dtype=torch.float64
    )
    torch.testing.assert_close(plan, expected)
    mixed = units + 0.3 * torch.randn(500, 5, dtype=torch.float64)
    plan = merging(mixed.T @ mixed / 500, torch.tensor([1, 2, 3]))
    torch.testing.assert_close(plan.sum(1), torch.ones(3, dtype=torch.float64))
    assert bool((plan >= 0).all()) and float((plan - expected).abs().max()) < 0.3
