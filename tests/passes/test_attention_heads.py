"""Heads of attention removed with correction: exactly where they repeat others, else at least error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cases_heads as cases
import pytest
import torch
from rewriting import library
from rule_cases import net, number, relative_error
from torch import Tensor, fx, nn
from torch.export import Dim

import tdsl
from tdsl.capture import Captured, capture
from tdsl.engine.census import copied
from tdsl.engine.driver import rewrite
from tdsl.engine.journal import Applied, Journal
from tdsl.engine.library import standard_library
from tdsl.engine.narrowing import units_of
from tdsl.engine.staged import CannotStage
from tdsl.engine.weights import prune_weights
from tdsl.engine.workspace import Workspace
from tdsl.factor.interpolative import interpolative
from tdsl.factor.moment import input_error
from tdsl.plan.calibrate import Data, collect
from tdsl.plan.candidates import Choice, requests_of
from tdsl.prepare import prepare

UNSEEN = torch.Generator().manual_seed(7)


def drawn(sizes: Sequence[Any]) -> tuple[Tensor, ...]:
    return tuple(torch.randn(*one, generator=UNSEEN, dtype=torch.float64) for one in sizes)


def without_heads(
    captured: Captured, data: Sequence[tuple[Tensor, ...]], kept: Any, rule: str = cases.RULE
) -> tuple[fx.GraphModule, list[Applied]]:
    """The model with fewer heads, and what the journal says."""
    module, journal = copied(captured.module), Journal()
    made = standard_library().rule(rule, {"rank": kept})
    asked = requests_of(module, [Choice(made.name, made.parameters, made)], None)
    rewrite(module, [made], None, journal, collect(module, Data.of(captured, list(data)), asked))
    prune_weights(module)
    module.recompile()
    return module, journal.entries


def same(model: nn.Module, module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    with torch.no_grad():
        return relative_error(model(*inputs), module(*inputs))


def stored(module: nn.Module) -> int:
    return sum(t.numel() for t in (*module.parameters(), *module.buffers()))


@pytest.mark.parametrize("form", cases.FORMS)
def test_a_head_that_repeats_another_one_goes_without_loss_on_unseen_inputs(form: str) -> None:
    function, sizes, parts = cases.FORMS[form]
    model, data, unseen = net(function, **parts), [drawn(sizes)], tuple(3 * x for x in drawn(sizes))
    captured = capture(model, data[0])
    module, [entry] = without_heads(captured, data, 2)
    assert same(model, module, unseen) < cases.EXACT
    assert entry.saved_parameters == stored(model) - stored(module) >= stored(model) / 4
    assert entry.saved_macs and entry.saved_nodes == 0
    module, [entry] = without_heads(captured, data, 1)  # control: the others are needed
    assert same(model, module, unseen) > 1e-2 and entry.error and entry.error > 1e-2


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_what_stays_makes_up_for_what_goes(kept: int) -> None:
    """The error is tr(ΔCΔᵀ) over the covariance of contexts, and below that of the same heads cut out."""
    parts = {**cases.repeated(4), "k": number(16, 6), "v": number(16, 6)}
    model = net(lambda m, x: cases.out(m, mixed(m, x)), **parts)
    x = torch.randn(400, 3, 6, dtype=torch.float64)
    module, [entry] = without_heads(capture(model, (x,)), [(x,)], kept)
    contexts = mixed(model, x).transpose(1, 2).flatten(2).flatten(0, 1)
    second = torch.cov(contexts.T, correction=0)
    reading, selection = interpolative(parts["o"], second, kept, 4)
    missed = input_error(parts["o"] - reading @ selection, second)
    y, found = model(x).detach(), module(x).detach()
    assert float((y - found).square().sum(-1).mean()) == pytest.approx(missed, rel=1e-6)
    assert entry.error == pytest.approx((missed / input_error(parts["o"], second)) ** 0.5, rel=1e-6)
    cut = contexts @ selection.T @ (parts["o"] @ selection.T).T + parts["o_b"]
    assert (y.flatten(0, 1) - cut).norm() > 1.1 * (y - found).norm()


def mixed(m: nn.Module, x: Tensor) -> Tensor:
    """Contexts of four heads."""
    return nn.functional.scaled_dot_product_attention(*cases.projected(m, x, heads=4, keys=4))


def test_torch_attention_with_a_batch_of_any_size_reaches_a_file_that_computes_the_same(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.norm = nn.Embedding(50, 12), nn.LayerNorm(12)
            self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
            rows = self.attention.in_proj_weight.data.reshape(3, 3, 4, 12)
            rows[:, 2] = rows[:, 0]

        def forward(self, ids: Tensor) -> Tensor:
            x = self.norm(self.words(ids))
            return x + self.attention(x, x, x, need_weights=False)[0]

    model = Net().eval()
    data = [(torch.randint(0, 50, (8, 7)),) for _ in range(8)]
    result = tdsl.compile(
        model,
        data[0],
        dynamic_shapes={"ids": {0: Dim("batch", min=1, max=64)}},
        pipeline="p",
        rules=library(
            """
            pipeline p {
                repeat cleanup.*, fold.* until stable
                once factorize.attention.heads(rank=2)
                check error <= 0.01%
            }
            """
        ),
        calibration=data,
        output=tmp_path / "model.onnx",
        latency=False,
    )
    assert [entry.rule for entry in result.report.rewrites if "heads" in entry.rule] == [cases.RULE]
    assert result.report.correctness.passed
    ids = torch.randint(0, 50, (3, 7))
    run = session(tmp_path / "model.onnx")
    [found] = run.run(None, {run.get_inputs()[0].name: ids.numpy()})
    expected = model(ids).detach()
    assert relative_error(expected, torch.from_numpy(found)) < 1e-4 and float(expected.std()) > 0.1
    assert sorted(p.shape for p in result.module.parameters() if p.dim() == 2)[:2] == [(12, 8), (24, 12)]


def session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_a_plan_takes_heads_that_are_not_needed_and_what_follows_is_healed() -> None:
    torch.manual_seed(0)
    first, second = (
        cases.repeated(),
        {**cases.repeated(), "q": number(12, 6), "k": number(12, 6), "v": number(12, 6)},
    )
    for parts in (first, second):
        parts |= {"o": number(6, 12), "o_b": number(6)}
    planned = [
        net(cases.fused, **{n: nn.Parameter(v.float()) for n, v in p.items()}) for p in (first, second)
    ]
    model = nn.Sequential(*planned).eval()
    data = [(torch.randn(16, 5, 6),) for _ in range(8)]
    prepared = prepare(
        model,
        data[0],
        pipeline="p",
        rules=library(
            """
            pipeline p {
                choose factorize.attention.heads*
                    minimize error
                    subject to parameters <= 84%
                heal least_squares
                check error <= 100%
            }
            """
        ),
        calibration=data,
        verified=False,
    )
    module, journal = copied(prepared.captured.module), Journal()
    prepared.runner.run(module, journal)
    [entry] = journal.entries
    assert entry.rule.startswith(cases.RULE) and entry.details == {"k": 8} and entry.error < 1e-3
    x = torch.randn(16, 5, 6)
    with torch.no_grad():
        assert float((model(x) - module(x)).norm() / model(x).norm()) < 1e-3


@pytest.mark.parametrize(
    ("why", "said"),
    {
        "contexts are an output": "has another reader",
        "keys are read elsewhere": "no units that are alike",
        "the weights are those of two calls": "which has the units, too",
        "heads are told apart": "no units that are alike",
        "a softmax sees all heads": "may see several units at once",
    }.items(),
)
def test_why_heads_stay_is_said(why: str, said: str) -> None:
    function, parts = cases.REFUSED[why]
    module = capture(net(function, **parts), drawn([cases.TOKENS])).module
    contexts = [n for n in module.graph.nodes if n.name == "flatten"]
    with pytest.raises(CannotStage, match=said):
        units_of(contexts[0], Workspace(module))
