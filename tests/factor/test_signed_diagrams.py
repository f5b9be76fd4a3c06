"""Weights that commute with SO(n), Sp(n) or A(n) are found where their diagrams have signs, and no others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tdsl.factor.declare import Terms
from tdsl.factor.rank import Error, Fixed
from tdsl.factor.signed_diagrams import (
    kronecker_sum,
    kronecker_sum_planes,
    signed_diagrams,
    signed_diagrams_planes,
    signed_diagrams_planes_product,
    signed_diagrams_product,
)
from tdsl.symmetry.diagrams import basis

TIGHT = Error(1e-6)
Case = tuple[str, int, int, int, int, int]


def planted(case: Case, *, planes: bool) -> Tensor:
    """A mix of channels for each diagram of the basis."""
    family, n, k, l, p, q = case  # noqa: E741
    total = torch.zeros(n**l * p, n**k * q, dtype=torch.float64)
    for diagram in basis(family, n, k, l):
        mix, places = torch.randn(p, q, dtype=torch.float64), diagram.dense(n)
        total += torch.kron(mix, places) if planes else torch.kron(places, mix)
    return total


SIGNED: list[Case] = [
    ("SO", 3, 2, 1, 8, 9),  # cross products
    ("SO", 3, 1, 2, 8, 9),
    ("SO", 3, 3, 0, 8, 9),  # determinants
    ("SO", 2, 1, 1, 8, 9),
    ("SO", 2, 2, 2, 9, 8),
    ("SO", 4, 2, 2, 4, 5),
    ("Sp", 4, 2, 2, 4, 5),
    ("Sp", 6, 2, 0, 4, 5),
    ("A", 3, 1, 1, 5, 6),
    ("A", 4, 2, 1, 5, 6),
]


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("case", SIGNED, ids=str)
def test_a_planted_weight_is_found_and_a_perturbed_one_is_not(case: Case, planes: bool) -> None:
    find = signed_diagrams_planes if planes else signed_diagrams
    product = signed_diagrams_planes_product if planes else signed_diagrams_product
    family, n, k, l, p, q = case  # noqa: E741
    weight = planted(case, planes=planes)
    for dtype in (torch.float64, torch.float32):
        places, mixes = find(weight.to(dtype), TIGHT)
        assert places.shape == (len(basis(family, n, k, l)), n**l, n**k) and mixes.shape[1:] == (p, q)
        assert set(places.unique().tolist()) == {-1.0, 0.0, 1.0} or family == "A"
        torch.testing.assert_close(product(places, mixes), weight, rtol=0, atol=1e-5)
    weight[1, 0] += 1e-3 * weight.norm()
    places, mixes = find(weight, TIGHT)
    assert places.shape == (1, 1, 1) and torch.equal(mixes[0], weight)


@pytest.mark.parametrize("case", [("O", 3, 2, 2, 4, 5), ("O", 2, 1, 1, 8, 9), ("S", 4, 2, 1, 5, 6)], ids=str)
def test_what_needs_no_sign_is_left_to_others(case: Case) -> None:
    places, _ = signed_diagrams(planted(case, planes=False), TIGHT)
    assert places.shape == (1, 1, 1)


def test_the_nearest_is_taken_where_nothing_bounds_the_error() -> None:
    weight = planted(("SO", 3, 2, 1, 8, 9), planes=False)
    noise = torch.randn_like(weight) * 0.01
    places, mixes = signed_diagrams(weight + noise, Fixed(1))
    rebuilt = signed_diagrams_product(places, mixes)
    assert places.shape[1:] == (3, 9) and (rebuilt - weight).norm() < 0.6 * noise.norm()
    zero = torch.zeros(24, 81)
    assert torch.equal(signed_diagrams(zero, TIGHT)[1][0], zero.double())


class Eager(Terms):
    """Terms that are computed at once."""

    def __call__(self, operator: str, *arguments: object) -> Tensor:
        return {"linear": torch.nn.functional.linear}.get(operator, getattr(torch, operator, None))(
            *arguments
        )  # type: ignore

    def known(self, value: Tensor) -> Tensor:
        return value

    def constant(self, values: Tensor) -> Tensor:
        return values


@pytest.mark.parametrize(
    "sizes", [(1, 3, 9, 4, 5), (2, 9, 3, 4, 5), (3, 4, 16, 2, 7), (3, 16, 4, 7, 2), (2, 3, 9, 10, 12)]
)
def test_the_sum_is_the_product_with_its_weight(sizes: tuple[int, ...]) -> None:
    """Places first or channels first, whichever is cheaper."""
    d, o, i, p, q = sizes
    places, mixes = torch.randn(d, o, i).double(), torch.randn(d, p, q).double()
    x = torch.randn(2, 3, i * q).double()
    rows = x.reshape(6, -1)
    found = kronecker_sum(Eager(), x, places, mixes)
    assert found.shape == (6, o, p)
    torch.testing.assert_close(found.flatten(1), rows @ signed_diagrams_product(places, mixes).T)
    found = kronecker_sum_planes(Eager(), x, places, mixes)
    assert found.shape == (6, p, o)
    torch.testing.assert_close(found.flatten(1), rows @ signed_diagrams_planes_product(places, mixes).T)
