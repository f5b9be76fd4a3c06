"""B-splines on uniform knots by their closed form: the basis is the same, and other knots are refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from rule_cases import net
from scipy.interpolate import BSpline
from tdsl.passes.layout.splines import Splines
from torch import Tensor, nn

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal

FEATURES, CELLS = 3, 5


def recursion(x: Tensor, grid: Tensor, degree: int) -> Tensor:
    """The basis as layers of splines compute it. [b, n], [n, knots] → [b, n, knots − degree − 1]."""
    x = x.unsqueeze(-1)
    bases = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
    for k in range(1, degree + 1):
        left = (x - grid[:, : -(k + 1)]) / (grid[:, k:-1] - grid[:, : -(k + 1)])
        right = (grid[:, k + 1 :] - x) / (grid[:, k + 1 :] - grid[:, 1:-k])
        bases = left * bases[:, :, :-1] + right * bases[:, :, 1:]
    return bases


def uniform(degree: int) -> Tensor:
    """The knots of cells in [-1, 1], and as many beyond as the degree."""
    steps = torch.arange(-degree, CELLS + degree + 1, dtype=torch.float64)
    return (steps * 2 / CELLS - 1).expand(FEATURES, -1).contiguous()


def rewritten(grid: Tensor, degree: int) -> tuple[nn.Module, nn.Module, Journal]:
    weight = torch.randn(4, FEATURES * (grid.shape[-1] - degree - 1), dtype=torch.float64)
    model = net(lambda m, x: F.linear(recursion(x, m.grid, degree).flatten(1), m.w), grid=grid, w=weight)
    x = torch.randn(7, FEATURES, dtype=torch.float64)
    captured = capture(model, (x,), dynamic_shapes={"x": {0: "batch"}})
    module, journal = copied(captured.module), Journal()
    Splines().rewrite(module, journal)
    module.recompile()
    return model, module, journal


def points(grid: Tensor) -> Tensor:
    """Inside, at the knots, beyond them."""
    return torch.cat([torch.linspace(-6, 6, 101, dtype=torch.float64)[:, None].expand(-1, FEATURES), grid.T])


@pytest.mark.parametrize("degree", [1, 2, 3, 5, 9])
def test_the_closed_form_is_the_basis(degree: int) -> None:
    grid = uniform(degree)
    model, module, journal = rewritten(grid, degree)
    assert [entry.details["degree"] for entry in journal.entries] == [degree]
    x = points(grid)
    torch.testing.assert_close(module(x), model(x), rtol=0, atol=1e-12)
    assert model(x).std() > 0.1 and bool((module(x)[:1] == 0).all())
    knots = grid[0].numpy()
    one = BSpline.basis_element(knots[: degree + 2], extrapolate=False)(x[:, 0].numpy())
    basis = recursion(x, grid, degree)[:, 0, 0]
    torch.testing.assert_close(basis, torch.from_numpy(one).nan_to_num(), rtol=0, atol=1e-12)


def test_single_precision_knots_and_features_with_grids_of_their_own() -> None:
    grid = (
        uniform(3) * torch.tensor([1.0, 2.0, 0.5])[:, None] + torch.tensor([0.0, 1.0, 2.0])[:, None]
    ).float()
    model, module, journal = rewritten(grid.double(), 3)
    assert len(journal.entries) == 1
    x = points(uniform(3))
    torch.testing.assert_close(module(x), model(x), rtol=0, atol=1e-5)


def test_other_knots_are_refused() -> None:
    grid = uniform(3)
    grid[:, 5] += 0.01
    assert not rewritten(grid, 3)[2].entries


def test_another_recursion_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: at one level less the same knots give functions of another degree."""
    true = recursion
    monkeypatch.setitem(globals(), "recursion", lambda x, grid, k: true(x, grid, k - 1)[:, :, 1:])
    assert not rewritten(uniform(3), 3)[2].entries
