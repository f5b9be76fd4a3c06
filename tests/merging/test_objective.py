"""The system of one weight: solved as in closed form where there is one, never worse than the average."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tdsl.merging.objective import Form, Objective, damped

M, N, MODELS = 5, 7, 3


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def moment(seed: int, size: int, rows: int = 40) -> Tensor:
    x = draw(seed, rows, size)
    return x.T @ x / rows


def filled(forms: list[Form], weights: list[Tensor]) -> tuple[Objective, Tensor]:
    """The objective of some models, and the average of their weights."""
    average = torch.stack(weights).mean(0)
    objective = Objective(M, N)
    for form, weight in zip(forms, weights, strict=True):
        objective.add(form, weight - average)
    return objective, average


WEIGHTS = [draw(i, M, N) for i in range(MODELS)]
GRAMS = [moment(10 + i, N) for i in range(MODELS)]


def test_conjugate_gradients_reach_the_closed_form_of_grams() -> None:
    objective, average = filled([Form(right=gram) for gram in GRAMS], WEIGHTS)
    found = objective.least(steps=200, tolerance=1e-15)
    wanted = sum(w @ g for w, g in zip(WEIGHTS, GRAMS, strict=True))
    closed = torch.linalg.solve(sum(GRAMS), wanted, left=False)
    assert found.steps >= 1
    assert float((average + found.difference - closed).norm() / closed.norm()) <= 5e-15
    assert float((average - closed).norm() / closed.norm()) > 0.05


def test_kronecker_factors_have_the_solution_of_the_whole_system() -> None:
    forms = [Form(left=moment(20 + i, M), right=GRAMS[i]) for i in range(MODELS)]
    objective, average = filled(forms, WEIGHTS)
    found = objective.least(steps=500, tolerance=1e-14)
    whole = sum(torch.kron(form.left, form.right) for form in forms)  # type: ignore[arg-type]
    target = sum(form(weight) for form, weight in zip(forms, WEIGHTS, strict=True))
    closed = torch.linalg.solve(whole, target.flatten()).reshape(M, N)  # type: ignore[union-attr,arg-type]
    assert float((average + found.difference - closed).norm() / closed.norm()) <= 1e-11


def test_diagonals_are_weighted_means_and_what_no_model_has_is_the_average() -> None:
    entries = [draw(30 + i, M, N).square() for i in range(MODELS)]
    for one in entries:
        one[2, 3] = 0
    objective, average = filled([Form(entries=one) for one in entries], WEIGHTS)
    found = objective.least(steps=1, tolerance=0.0)
    wanted = sum(e * w for e, w in zip(entries, WEIGHTS, strict=True)) / sum(entries)
    wanted[2, 3] = average[2, 3]
    torch.testing.assert_close(average + found.difference, wanted, rtol=1e-13, atol=1e-13)
    assert found.steps == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 12), steps=st.integers(1, 6), fisher=st.booleans())
def test_never_worse_than_the_average_however_few_the_steps(
    seed: int, rows: int, steps: int, fisher: bool
) -> None:
    forms = [
        Form(left=moment(seed + 9 + i, M) if fisher else None, right=moment(seed + i, N, rows))
        for i in range(MODELS)
    ]
    weights = [draw(seed + 20 + i, M, N) for i in range(MODELS)]
    objective, average = filled(forms, weights)
    found = objective.least(steps, 1e-12)

    def lost(weight: Tensor) -> float:
        apart = [weight - own for own in weights]
        return sum(float((d * form(d)).sum()) for d, form in zip(apart, forms, strict=True))

    assert objective.constant == pytest.approx(lost(average))
    assert objective(found.difference) == pytest.approx(lost(average + found.difference), abs=1e-9)
    assert lost(average + found.difference) < lost(average)
    assert found.steps <= steps


def test_damping_draws_towards_the_average() -> None:
    sizes = []
    for damping in (0.0, 1.0, 100.0):
        objective, _ = filled([Form(right=damped(gram, damping)) for gram in GRAMS], WEIGHTS)
        sizes.append(float(objective.least(200, 1e-12).difference.norm()))
    assert sizes[0] > 1.5 * sizes[1] > 3 * sizes[2] > 0


def test_what_is_left_after_few_steps_is_reported() -> None:
    scale = torch.logspace(0, -6, N, dtype=torch.float64)
    basis = torch.linalg.qr(draw(40, N, N)).Q
    thin = [basis @ (scale * gram * scale[:, None]) @ basis.T for gram in GRAMS]
    objective, _ = filled([Form(right=one) for one in thin], WEIGHTS)
    residuals = [objective.least(steps, 1e-12).residual for steps in (1, 3, 300)]
    assert residuals[0] > 1e-3
    assert residuals[2] < residuals[0]
