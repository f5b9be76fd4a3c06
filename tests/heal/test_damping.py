"""What few data say is not believed everywhere alike: the nuclear form keeps signals on few directions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "plan"))

from plan_models import batches, perceptron, planned

from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library
from tdsl.errors import TdslError
from tdsl.heal.damping import Nuclear, Ridge
from tdsl.lang import parse

AMOUNTS = [10.0**e for e in (-4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1)]
SIZE, STRONG = 60, 5


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(count: int, seed: int, weak: float) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs [count, 60] with energy `weak`² in all but five directions, noisy outputs, and the true map.

    Outputs depend on the five directions only.
    """
    scale = torch.full((SIZE,), weak, dtype=torch.float64)
    scale[:STRONG] = 1
    turn = torch.linalg.qr(gaussian(SIZE, SIZE, seed=1)).Q
    truth = gaussian(20, STRONG, seed=2) @ turn[:, :STRONG].T
    x = (gaussian(count, SIZE, seed=seed) * scale) @ turn.T
    return x, x @ truth.T + 0.5 * gaussian(count, 20, seed=seed + 1), truth


def error(weight: Tensor, x: Tensor, y: Tensor) -> float:
    return float((x @ weight.T - y).norm() / y.norm())


def held_out(form: type[Ridge] | type[Nuclear], count: int, weak: float) -> float:
    """The error on other samples, without noise, of the amount that is best on yet others; of five draws."""
    total = 0.0
    for draw in range(5):
        x, y, truth = drawn(count, 100 * draw + 10, weak)
        judge, wanted, _ = drawn(40, 100 * draw + 20, weak)
        other, _, _ = drawn(1000, 100 * draw + 30, weak)
        found = [form(amount).step(x.T @ x, y.T @ x) for amount in AMOUNTS]
        best = min(found, key=lambda weight: error(weight, judge, wanted))
        total += error(best, other, other @ truth.T) / 5
    return total


def undamped(count: int, weak: float) -> float:
    total = 0.0
    for draw in range(5):
        x, y, truth = drawn(count, 100 * draw + 10, weak)
        other, _, _ = drawn(1000, 100 * draw + 30, weak)
        total += error(y.T @ torch.linalg.pinv(x.T), other, other @ truth.T) / 5
    return total


@pytest.mark.parametrize("count", [30, 45, 120])
def test_on_a_signal_of_few_directions_the_nuclear_form_beats_a_ridge_and_no_damping_loses(count):
    nuclear, ridge, none = (held_out(Nuclear, count, 0.1), held_out(Ridge, count, 0.1), undamped(count, 0.1))
    assert nuclear < 0.85 * ridge
    assert ridge < 0.6 * none  # with fewer samples than features, and with twice as many


def test_where_all_directions_are_alike_it_gains_nothing():
    """The control: the signal is no stronger than the rest of the features."""
    assert held_out(Nuclear, 120, 1.0) > 0.98 * held_out(Ridge, 120, 1.0)


def test_the_weights_of_directions_are_those_of_the_formulas():
    x = gaussian(25, 8, seed=3) * torch.logspace(0, -3, 8, dtype=torch.float64)
    left, values, right = torch.linalg.svd(x.T, full_matrices=False)
    targets = gaussian(25, 4, seed=4)
    level = 1e-2 * float(values.square().mean())
    formulas = {
        Ridge: values / (values.square() + level),
        Nuclear: (values / level).minimum(1 / values),  # min(μ·s, 1/s)
    }
    for form, inverse in formulas.items():
        found = form(1e-2).step(x.T @ x, targets.T @ x)
        assert found.allclose(targets.T @ (right.T * inverse) @ left.T, rtol=1e-8, atol=1e-10)
    assert float((formulas[Ridge] - formulas[Nuclear]).abs().max()) > 0.1


@pytest.mark.parametrize("form", [Ridge, Nuclear])
def test_without_damping_it_is_the_least_squares_solution(form):
    x, y = gaussian(25, 8, seed=3), gaussian(25, 4, seed=4)
    exact = torch.linalg.lstsq(x, y).solution.T
    assert form(0.0).step(x.T @ x, y.T @ x).allclose(exact, atol=1e-9)
    assert not form(1.0).step(x.T @ x, y.T @ x).allclose(exact, atol=1e-2)
    zero = torch.zeros(8, 8, dtype=torch.float64)
    if form is Nuclear:  # features that never were
        assert not form(1e-3).step(zero, torch.zeros(4, 8, dtype=torch.float64)).any()


PIPELINE = """
pipeline cut {
    once factorize.linear.svd_linear(rank=20%%)
    heal least_squares%s
    check error <= 100%%
}
"""


def test_a_pipeline_names_the_damping():
    captured = perceptron(None)
    errors, solved = [], []
    for text in ("", "(damping=ridge)", "(damping=nuclear)"):
        runner, planner = planned(captured, PIPELINE % text, batches(16, 8))
        module = copied(captured.module)
        runner.run(module, Journal())
        assert all(h.after < h.before for h in planner.healed)
        errors.append(planner.measure(module).error)
        solved.append([p.detach() for p in module.parameters()])
    assert all(map(torch.equal, solved[0], solved[1]))
    assert not all(map(torch.equal, solved[0], solved[2]))
    assert errors[2] < 1.1 * errors[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("(damping=nuclea)", "no damping"),
        ("(damping=3)", "no damping"),
        ("(dampng=ridge)", "an argument `dampng`"),
        ("(ridge)", "without a name"),
    ],
)
def test_another_argument_is_refused_where_it_stands(arguments, message):
    with pytest.raises(TdslError, match=message) as caught:
        Library().add_file(parse(PIPELINE % arguments), "cut")
    assert caught.value.span is not None and "damping=nuclear" in str(caught.value.expected)
