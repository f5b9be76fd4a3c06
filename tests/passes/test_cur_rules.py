"""Layers that keep rows of their weight: which ones, and what data change about it (F05)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from rule_cases import net, number
from torch import Tensor, fx, nn

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.driver import rewrite
from tdsl.engine.journal import Applied, Journal
from tdsl.engine.library import standard_library
from tdsl.engine.weights import prune_weights
from tdsl.factor.rank import Error
from tdsl.plan.calibrate import Data, collect
from tdsl.plan.candidates import Choice, requests_of

N, M, RANK = 24, 20, 6
WEIGHT, BIAS = number(M, N), number(M)
SIZES = (
    0.7 ** torch.arange(N, dtype=torch.float64)[torch.randperm(N, generator=torch.Generator().manual_seed(1))]
)


def inputs(sizes: Tensor, seed: int = 2) -> Tensor:
    """Inputs of those sizes, which are not zero in the mean."""
    drawn = torch.randn(2_000, N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (drawn + 0.5) * sizes


def factorized(rule: str, x: Tensor, rank: object = RANK) -> tuple[nn.Module, fx.GraphModule, Applied]:
    model = net(lambda m, x: F.linear(x, m.w, m.b), w=WEIGHT, b=BIAS)
    captured = capture(model, (x,))
    module, journal = copied(captured.module), Journal()
    made = standard_library().rule(f"factorize.linear.{rule}", {"rank": rank})
    asked = requests_of(module, [Choice(made.name, made.parameters, made)], None)
    known = collect(module, Data.of(captured, [(x,)]), asked) if asked else None
    rewrite(module, [made], None, journal, known)
    prune_weights(module)
    module.recompile()
    [entry] = journal.entries
    return model, module, entry


def lost(rule: str, x: Tensor, rank: object = RANK) -> float:
    """The error of the output in its standard deviation, on data of the same kind."""
    model, module, _ = factorized(rule, x, rank)
    with torch.no_grad():
        expected = model(x)
        return float((module(x) - expected).norm() / (expected - expected.mean(0)).norm())


@pytest.mark.parametrize("rule", ["cur_linear", "whitened_cur_linear"])
def test_the_first_layer_is_rows_of_the_weight_bit_by_bit(rule: str) -> None:
    _, module, _ = factorized(rule, inputs(SIZES))
    rows = next(p for p in module.parameters() if p.shape == (RANK, N))
    places = [int((row == WEIGHT).all(1).nonzero()) for row in rows]
    assert len(set(places)) == RANK


def test_inputs_of_unequal_size_make_the_difference() -> None:
    skewed, even = inputs(SIZES), inputs(torch.ones(N))
    assert lost("whitened_cur_linear", skewed) < 0.6 * lost("cur_linear", skewed)
    # Control: where inputs are alike there is nothing to gain but the mean.
    assert lost("whitened_cur_linear", even) > 0.85 * lost("cur_linear", even)
    for x in (skewed, even):
        assert lost("whitened_linear", x) <= lost("whitened_cur_linear", x)


def test_the_error_that_is_stated_is_that_of_the_output() -> None:
    x = inputs(SIZES)
    _, _, entry = factorized("whitened_cur_linear", x)
    assert entry.error == pytest.approx(lost("whitened_cur_linear", x), rel=1e-6)
    assert entry.error > 0.05


def test_columns_that_matter_are_found_and_a_random_weight_needs_them_all() -> None:
    """Three inputs carry everything: rank 3 says it all, at any error bound; else the rule keeps away."""
    sizes = torch.zeros(N, dtype=torch.float64)
    sizes[[2, 11, 19]] = 1.0
    _, module, _ = factorized("whitened_cur_linear", inputs(sizes), rank=Error(1e-4))
    assert (3, N) in {tuple(p.shape) for p in module.parameters()}
    with pytest.raises(ValueError, match="not enough values"):  # no entry in the journal
        factorized("whitened_cur_linear", inputs(torch.ones(N)), rank=Error(1e-4))
