"""What a plan says of its error: how far that of other samples may be from it, by chance."""

from __future__ import annotations

import math

import pytest
import torch
from plan_models import drawn, perceptron

from tdsl.plan.calibrate import Data
from tdsl.plan.judged import judged, outputs_of, standard_error
from tdsl.verify.compare import compare


def errors(count: int, seed: int) -> list[tuple[float, float]]:
    """Squared errors, some far larger than others, and references."""
    draw = drawn(count, 2, seed=seed).double()
    return list(zip((0.002 * draw[:, 0].exp()).tolist(), (1 + 0.2 * draw[:, 1]).abs().tolist(), strict=True))


def pooled(squares: list[tuple[float, float]]) -> float:
    return math.sqrt(sum(e for e, _ in squares) / sum(r for _, r in squares))


def test_the_standard_error_is_how_far_draws_lie_apart() -> None:
    draws = [errors(200, seed) for seed in range(300)]
    found = torch.tensor([pooled(one) for one in draws])
    said = torch.tensor([standard_error(one) for one in draws])
    assert float(said.median() / found.std()) == pytest.approx(1, abs=0.2)
    true = pooled(errors(100_000, 999))
    few = [errors(24, seed) for seed in range(300)]
    within = sum(true < pooled(one) + 2 * standard_error(one) for one in few) / 300
    assert within > 0.85  # nine in ten, as docs/plans.md says


def test_it_shrinks_with_the_samples_and_does_not_depend_on_scale() -> None:
    many, few = standard_error(errors(3_200, 1)), standard_error(errors(50, 1))
    assert 5 < few / many < 12
    assert standard_error([(9 * e, 9 * r) for e, r in errors(50, 1)]) == pytest.approx(few)


def test_where_there_is_none() -> None:
    assert standard_error([]) is None
    assert standard_error([(1.0, 2.0)]) is None
    assert standard_error([(0.0, 0.0)] * 3) is None
    assert standard_error([(math.inf, 1.0)] * 3) is None
    assert standard_error([(0.0, 1.0)] * 3) == 0


def test_samples_are_told_apart_in_whatever_batches_they_come() -> None:
    captured, module = perceptron(), perceptron(planted=4).module
    x = drawn(12, 48, seed=3)
    found = []
    for parts in (x.split(12), x.split(4), x.split(5)):
        data = Data.of(captured, [(part,) for part in parts])
        outputs = [outputs_of(one, data, 2**20) for one in (module, captured.module)]
        found.append(judged(*outputs, data))
    assert all(one.samples == 12 for one in found)
    assert [one.spread for one in found[1:]] == pytest.approx([found[0].spread] * 2)
    assert found[0].spread > 0
    assert found[0].metrics.error == pytest.approx(
        compare(*(torch.cat([one[0] for one in each]) for each in reversed(outputs))).error
    )
