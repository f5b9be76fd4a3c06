"""A large weight in float32: what its truncation computes in float64 is thin beside it, and equally exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tdsl
from tdsl.factor import matrix, parts
from tdsl.factor.matrix import svd, truncate_randomized
from tdsl.factor.memo import MEMORY

SIDE, RANK = 1100, 40


class LargestInDouble(TorchDispatchMode):
    """The entries of the largest float64 tensor that an operation gives meanwhile."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.dtype == torch.float64:
                self.entries = max(self.entries, leaf.numel())
        return result


def decaying() -> Tensor:
    """A float32 matrix [SIDE, SIDE] whose singular values fall like i^-0.6."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(SIDE, 200, generator=generator)).Q for _ in range(2))
    return (left * torch.arange(1, 201) ** -0.6) @ right.T


def entries_in_double(layer: nn.Module, rank: object) -> int:
    """Those of the largest float64 tensor while `layer` is factorized."""
    MEMORY.clear()
    with LargestInDouble() as seen:
        made = tdsl.factorize(layer, torch.ones(2, SIDE), rank=rank)
    x = torch.randn(4, SIDE, generator=torch.Generator().manual_seed(1))
    assert sum(w.numel() for w in made.parameters()) < SIDE**2 // 2
    assert 0 < (made(x) - layer(x)).norm() / layer(x).norm() < 0.9
    return seen.entries


def test_its_truncation_has_no_float64_tensor_of_its_size(monkeypatch):
    layer = nn.Linear(SIDE, SIDE, bias=False).eval()
    with torch.no_grad():
        layer.weight.copy_(decaying())
    monkeypatch.setattr(parts, "PART", SIDE * 64)
    assert entries_in_double(layer, RANK) < SIDE**2 // 2
    monkeypatch.setattr(matrix, "RANDOMIZED_ABOVE", SIDE)  # the control: a full decomposition has one
    assert entries_in_double(layer, RANK) >= SIDE**2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_rows_in_turn_give_what_they_give_at_once(dtype, monkeypatch):
    weight = decaying().to(dtype)
    whole = truncate_randomized.__wrapped__(weight.double(), RANK)
    monkeypatch.setattr(parts, "PART", SIDE * 96)
    found = truncate_randomized.__wrapped__(weight, RANK)
    assert found.left.dtype == found.right.dtype == torch.float64
    assert found.error == pytest.approx(whole.error, rel=1e-12)
    product = (found.left * found.values) @ found.right
    torch.testing.assert_close(product, (whole.left * whole.values) @ whole.right, rtol=0, atol=1e-9)


def test_rows_in_turn_give_products_and_what_they_miss(monkeypatch):
    weight = decaying()[:, :300]
    exact, columns, others = weight.double(), torch.randn(300, 7).double(), torch.randn(SIDE, 5).double()
    monkeypatch.setattr(parts, "PART", 300 * 130)
    assert len(list(parts.widened_rows(weight))) == 9 and len(list(parts.widened_rows(exact))) == 1
    torch.testing.assert_close(parts.times(weight, columns), exact @ columns)
    torch.testing.assert_close(parts.across(others, weight), others.T @ exact)
    assert parts.sum_of_squares(weight) == pytest.approx(float(exact.square().sum()), rel=1e-12)
    left, right = svd(exact, 3)
    missed = float((exact - left @ right).square().sum())
    found = parts.missed_squares(weight, lambda rows: left[rows] @ right)
    assert found == pytest.approx((missed, float(exact.square().sum())), rel=1e-12)
    none = torch.empty(0, 4)
    assert parts.sum_of_squares(none) == 0 and parts.times(none, torch.ones(4, 2).double()).shape == (0, 2)
