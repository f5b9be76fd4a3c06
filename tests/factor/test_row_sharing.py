"""Rows that are alike share one; groups are those of the data, and ids that are read often count."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.rank import Error, UnreachableRankError
from tdsl.factor.row_sharing import row_sharing, shared_rows

TIGHT = Error(1e-6)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """300 rows that are 20, and which of them each is."""
    groups = torch.randint(20, (300,), generator=torch.Generator().manual_seed(1))
    return gaussian(20, 16)[groups] + noise * gaussian(300, 16, seed=2), groups


def error(table: Tensor, rows: Tensor, places: Tensor) -> float:
    return float((table - shared_rows(rows, places)).norm() / table.norm())


def test_equal_rows_are_merged_exactly_and_all_rows_are_kept_if_asked_for():
    table, _ = planted()
    rows, places = row_sharing(table, torch.ones(300), TIGHT)
    assert rows.shape == (20, 16) and places.dtype == torch.int64
    assert torch.equal(shared_rows(rows, places), table)
    noise = gaussian(50, 4)
    assert torch.equal(shared_rows(*row_sharing(noise, torch.ones(50), 50)), noise)
    assert len(row_sharing(noise, torch.ones(50), TIGHT)[0]) == 50


def test_groups_that_were_planted_are_found_and_random_ones_are_worse():
    table, groups = planted(noise=0.05)
    rows, places = row_sharing(table, torch.ones(300), 20)
    assert len({(int(a), int(b)) for a, b in zip(places, groups, strict=True)}) == 20
    assert error(table, rows, places) < 0.06
    for group in range(20):  # the mean is the row of least squared error
        assert torch.allclose(rows[group], table[places == group].mean(0))
    anyhow = places[torch.randperm(300, generator=torch.Generator().manual_seed(3))]
    means = torch.stack([table[anyhow == group].mean(0) for group in range(20)])
    assert error(table, means, anyhow) > 0.8


def test_rows_that_are_read_often_lose_less():
    table, counts = gaussian(200, 8), torch.where(torch.arange(200) < 20, 50.0, 1.0)
    blind, seen = (shared_rows(*row_sharing(table, by, 30)) for by in (torch.ones(200), counts))
    assert (table - seen)[:20].norm() < 0.5 * (table - blind)[:20].norm()


def test_mistakes_are_errors():
    with pytest.raises(TdslError, match="one count for each row"):
        row_sharing(gaussian(5, 3), torch.ones(4), 2)
    with pytest.raises(UnreachableRankError):
        row_sharing(gaussian(5, 3), torch.ones(5), 6)
