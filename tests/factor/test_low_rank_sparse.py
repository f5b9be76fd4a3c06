"""A low-rank part and entries anywhere are told apart, at the sizes at which they were planted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.choose import recognise
from tdsl.factor.low_rank_sparse import (
    NUMBERS,
    Parts,
    alternated,
    entries_product,
    fewest,
    low_rank_plus_entries,
    pursued,
)
from tdsl.factor.matrix import truncate
from tdsl.factor.rank import Auto, Energy, Error, UnreachableRankError, as_rank_rule

TIGHT = Error(1e-6)
CASES = {
    "the card": (128, 128, 8, 0.03, 3.0),
    "entries no larger than the rest": (128, 128, 8, 0.03, 1.0),
    "wide, of many entries": (96, 160, 4, 0.08, 2.0),
    "tall": (96, 64, 3, 0.03, 5.0),
    "a row twice as large as others": (64, 48, 3, 0.03, 3.0),
}
"""m, n, rank, share of entries, their size in that of the low-rank part's."""


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(m: int, n: int, rank: int, share: float, size: float) -> tuple[Tensor, Tensor]:
    """The weight and the places of its entries."""
    low = gaussian(m, rank, seed=1) @ gaussian(rank, n, seed=2)
    places = torch.randperm(m * n, generator=torch.Generator().manual_seed(3))[: round(share * m * n)]
    drawn = gaussian(len(places), seed=4)
    entries = size * rank**0.5 * (drawn + drawn.sign() / 2)  # none so small that it may be left out
    return low.flatten().index_add(0, places, entries).reshape(m, n), places.sort().values


def error(weight: Tensor, *factors: Tensor) -> float:
    return float((weight - entries_product(*factors)).norm() / weight.norm())


@pytest.mark.parametrize("case", CASES)
def test_the_automatic_choice_finds_both_parts_at_their_sizes(case):
    m, n, rank, *_ = CASES[case]
    weight, places = planted(*CASES[case])
    found = recognise(weight)
    assert found is not None and found.name == "low_rank_plus_entries"
    assert [tuple(f.shape) for f in found.factors] == [(m, rank), (rank, n), *2 * [(len(places),)]]
    assert torch.equal(found.factors[3], places)
    assert found.numbers == rank * (m + n) + 2 * len(places) < weight.numel()
    assert found.error < 1e-14


@pytest.mark.parametrize("rule", [Auto(), 8], ids=["auto", "number"])
def test_rules_that_allow_no_error_find_the_entries_that_stand_apart(rule):
    weight, places = planted(*CASES["the card"])
    factors = low_rank_plus_entries(weight, rule)
    assert factors[0].shape[1] == 8 and torch.equal(factors[3], places)
    assert error(weight, *factors) < 1e-14


def test_a_random_matrix_is_left_alone():
    weight = gaussian(96, 80, seed=5)
    assert recognise(weight) is None and pursued(weight) is None
    *_, values, places = low_rank_plus_entries(weight, TIGHT)
    assert len(values) + len(places) > weight.numel()
    assert len(low_rank_plus_entries(weight, 4)[2]) == 0  # nothing stands apart


def test_entries_where_they_are_and_not_anywhere():
    """As many entries at random places are nearly useless, and so is their number in rank."""
    weight, places = planted(*CASES["the card"])
    anywhere = torch.randperm(weight.numel(), generator=torch.Generator().manual_seed(9))[: len(places)]
    low = truncate(weight, 8)
    left, right = low.left * low.values, low.right
    rest = (weight - left @ right).flatten()
    lost = error(weight, left, right, rest[anywhere], anywhere)
    assert lost > 0.97 * low.error > 0.5 < truncate(weight, 12).error
    assert error(weight, *low_rank_plus_entries(weight, 8)) < 1e-14


def test_the_error_never_rises_from_turn_to_turn():
    weight = planted(*CASES["the card"])[0] + 0.3 * gaussian(128, 128, seed=6)
    low = truncate(weight, 6)
    parts, errors = Parts(low.left * low.values, low.right, torch.arange(492)), [2.0]
    for _ in range(12):
        parts = alternated(weight, parts, turns=1)
        values = (weight - parts.left @ parts.right).flatten()[parts.places]
        errors.append(error(weight, parts.left, parts.right, values, parts.places))
        assert len(parts.places) == 492 and parts.left.shape[1] == 6
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.9 * errors[1]


@pytest.mark.parametrize("rule", [Error(0.1), Energy(0.95), Error(0.01)])
def test_an_error_that_is_allowed_is_kept_and_used(rule):
    weight = planted(*CASES["the card"])[0]
    parts = fewest(weight, rule)
    allowed = 1 - rule.kept if isinstance(rule, Energy) else rule.bound**2
    assert error(weight, *low_rank_plus_entries(weight, rule)) ** 2 <= allowed * (1 + 1e-9)
    assert parts.price(NUMBERS) < fewest(weight, TIGHT).price(NUMBERS)


@pytest.mark.parametrize("turned", [False, True], ids=["row", "column"])
def test_a_large_line_is_no_line_of_entries(turned):
    """The pursuit alone takes nearly all of it for entries: its norms say that this is less."""
    low = gaussian(48, 3, seed=1) @ gaussian(3, 56, seed=2)
    low[5] *= 6
    places = torch.randperm(low.numel(), generator=torch.Generator().manual_seed(3))[:80].sort().values
    weight = low.flatten().index_add(0, places, gaussian(80, seed=4).sign() * 4).reshape(48, 56)
    weight = weight.T.contiguous() if turned else weight
    left, right, values, found = low_rank_plus_entries(weight, TIGHT)
    assert left.shape[1] == 3 and len(values) == 80
    if not turned:
        assert torch.equal(found, places)
    assert error(weight, left, right, values, found) < 1e-14


def test_a_line_of_entries_stays_one():
    """The control: most of a row are entries, and the low rank is known from the others."""
    low = gaussian(64, 3, seed=1) @ gaussian(3, 64, seed=2)
    places = 5 * 64 + torch.arange(40)
    weight = low.flatten().index_add(0, places, 6 * gaussian(40, seed=4)).reshape(64, 64)
    for rows in (weight, weight.T.contiguous()):
        left, right, values, found = low_rank_plus_entries(rows, TIGHT)
        assert left.numel() + right.numel() + 2 * len(values) <= 3 * 128 + 2 * 40
        assert error(rows, left, right, values, found) < 1e-6


def test_noise_below_the_error_is_left_out():
    clean, places = planted(*CASES["the card"])
    weight = clean + 1e-3 * clean.norm() / 128 * gaussian(128, 128, seed=7)
    left, _, values, found = low_rank_plus_entries(weight, Error(3e-3))
    assert left.shape[1] == 8 and len(values) <= len(places)
    assert set(found.tolist()) <= set(places.tolist())


def test_entries_alone_need_no_low_rank():
    weight = torch.zeros(40, 30, dtype=torch.float64)
    weight.view(-1)[::17] = gaussian(71)
    left, right, values, places = low_rank_plus_entries(weight, TIGHT)
    assert left.shape == (40, 0) and right.shape == (0, 30) and len(values) <= 71
    assert error(weight, left, right, values, places) <= 1e-6


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (1, 1), (5, 4)])
def test_small_and_empty_weights(shape):
    for weight in (torch.zeros(shape), gaussian(*shape)):
        for rule in (TIGHT, Auto()):
            assert entries_product(*low_rank_plus_entries(weight, rule)).shape == shape


def test_what_is_no_weight_and_no_rank():
    with pytest.raises(TdslError, match="NaN"):
        low_rank_plus_entries(torch.full((4, 4), float("nan")), TIGHT)
    with pytest.raises(UnreachableRankError):
        low_rank_plus_entries(gaussian(12, 12), as_rank_rule(1000))
