"""Actions fitted to features: planted ones are found, random features and collapsed ones are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.symmetry.learned import learned_action

PAIRS, WIDTH = 60, 6


def pairs(features: Tensor) -> tuple[Tensor, Tensor]:
    """Features of images with eight pixels in a row, and of the same rolled by one."""
    x = torch.randn(PAIRS, 8, dtype=torch.float64)
    return torch.tanh(x @ features), torch.tanh(x.roll(1, 1) @ features)


def planted() -> Tensor:
    """Filters that a roll by one exchanges: the orbit of one of period four, an invariant one twice."""
    base = torch.randn(4, dtype=torch.float64).repeat(2)
    turned = torch.stack([base.roll(i) for i in range(4)], 1)
    return torch.cat([turned, torch.ones(8, 2, dtype=torch.float64)], 1)


def test_a_planted_action_is_found() -> None:
    before, after = pairs(planted())
    found = learned_action(before, after)
    assert found.residual < 1e-9
    assert found.control > 0.5
    assert found.verdict(1e-6) == "acts"
    assert torch.allclose(after, before @ found.matrix.T, atol=1e-9)


def test_random_features_have_none() -> None:
    before, after = pairs(torch.randn(8, WIDTH, dtype=torch.float64))
    found = learned_action(before, after)
    assert found.residual > 0.1
    assert found.verdict(1e-6) == "does not act"


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_features_that_do_not_vary_are_no_evidence(value: float) -> None:
    same = torch.full((PAIRS, WIDTH), value, dtype=torch.float64)
    assert learned_action(same, same).verdict(1e-6) == "vacuous"


def test_too_few_pairs_prove_nothing() -> None:
    with pytest.raises(TdslError, match="7 pairs do not determine an action on 6 features"):
        learned_action(torch.randn(7, 6), torch.randn(7, 6))
    with pytest.raises(TdslError, match="features of shapes"):
        learned_action(torch.randn(7, 6), torch.randn(7, 5))


def test_features_that_are_no_numbers_are_refused_with_a_count() -> None:
    broken = torch.randn(20, 3)
    broken[4, 1], broken[7, 2] = float("nan"), float("inf")
    with pytest.raises(TdslError, match="2 of 60 moved features are no finite numbers"):
        learned_action(torch.randn(20, 3), broken)
