"""Orders of rows and columns that a group permutes, read off weights: any order, and fields of any size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tdsl.factor.group_channels import group_channels, group_channels_product
from tdsl.factor.rank import Error
from tdsl.symmetry.element import Permutation
from tdsl.symmetry.finite import reynolds
from tdsl.symmetry.finite.detect import lines_alike
from tdsl.symmetry.finite.orders import find_orders
from tdsl.symmetry.group import cyclic, dihedral, symmetric
from tdsl.symmetry.representation import Representation, copies, defining, regular, trivial

TIGHT = Error(1e-6)
GROUPS = {"mirror": (cyclic(2), 2), "C4": (cyclic(4), 5), "D4": (dihedral(4), 8), "S4": (symmetric(4), 24)}
"""Groups, and how many products of channels a layer between regular fields is, three of complex numbers."""


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def beside(*parts: Representation) -> Representation:
    """Fields side by side, each of them permuted by itself."""
    generators = []
    for images in zip(*(one.generators for one in parts), strict=True):
        moved: list[int] = []
        for image in images:
            assert isinstance(image, Permutation)
            moved += [len(moved) + to for to in image.places]
        generators.append(Permutation(tuple(moved)))
    return Representation(parts[0].group, "fields", sum(one.size for one in parts), tuple(generators))


def planted(out: Representation, inner: Representation, taps: int = 1) -> Tensor:
    """Random matrices that commute with the group. → [m, n, taps], as float32 has them"""
    weights = [reynolds(gaussian(out.size, inner.size, seed=tap), out, inner) for tap in range(taps)]
    return torch.stack(weights, 2).float().double()


def shuffled(weight: Tensor, rows: bool = True, columns: bool = True) -> Tensor:
    random = torch.Generator().manual_seed(1)
    if rows:
        weight = weight[torch.randperm(len(weight), generator=random)]
    return weight[:, torch.randperm(weight.shape[1], generator=random)] if columns else weight


def products_of(factors: tuple[Tensor, ...]) -> Tensor:
    """[f, q, p, taps]."""
    return factors[4]


def rebuilt(factors: tuple[Tensor, ...], weight: Tensor) -> float:
    found = group_channels_product(*factors)
    assert found.shape == weight.shape
    return float((found - weight).norm() / weight.norm())


@pytest.mark.parametrize("taps", [1, 4])
@pytest.mark.parametrize(("rows", "columns"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("name", GROUPS)
def test_regular_fields_in_any_order(name: str, rows: bool, columns: bool, taps: int) -> None:
    group, products = GROUPS[name]
    for inside in (True, False):
        out, inner = (copies(regular(group), c, inside=inside) for c in (3, 4))
        weight = shuffled(planted(out, inner, taps), rows, columns)
        factors = group_channels(weight, TIGHT)
        assert products_of(factors).shape == (products, 4, 3, taps)
        assert rebuilt(factors, weight) < 1e-6


@pytest.mark.parametrize("name", ["C4", "D4"])
def test_an_order_that_is_known_is_kept(name: str) -> None:
    group, products = GROUPS[name]
    weight = planted(copies(regular(group), 5), copies(regular(group), 6))
    factors = group_channels(weight, TIGHT)
    columns, rows = factors[0], factors[-1]
    assert columns.flatten().tolist() == list(range(weight.shape[1])) and rows.tolist() == list(
        range(len(weight))
    )
    assert len(products_of(factors)) == products
    order = group.order or 0
    inside = planted(*(copies(regular(group), c, inside=False) for c in (5, 6)))
    factors = group_channels(inside, TIGHT)
    columns, rows = factors[0], factors[-1]
    assert columns[:, 0].tolist() == list(range(order))
    assert rows[:order].tolist() == [5 * place for place in range(order)]
    assert len(products_of(factors)) == products


@pytest.mark.parametrize("mixed_side", ["inputs", "outputs", "both"])
def test_fields_have_the_copies_that_there_are(mixed_side: str) -> None:
    group = dihedral(4)
    plain = copies(regular(group), 7)
    fields = beside(copies(regular(group), 5), trivial(group, 2), defining(group))
    out = fields if mixed_side != "inputs" else plain
    inner = fields if mixed_side != "outputs" else plain
    weight = shuffled(planted(out, inner, 3))
    factors = group_channels(weight, TIGHT)
    counts = [8 if side == fields else 7 for side in (inner, out)]
    assert products_of(factors).shape == (8, *counts, 3)
    assert rebuilt(factors, weight) < 1e-6
    for side, rows, kinds in ((inner, factors[2], factors[1]), (out, factors[6].T, factors[8])):
        if side == fields:  # eight dimensions, one, and four of a line, another line and a plane
            assert len(rows) == 8 + 1 + 4
            assert sorted(kinds.bincount().tolist()) == [1, 2, 5]
        else:
            assert len(rows) == 8


def test_a_group_on_fields_of_one_place_each_is_no_group() -> None:
    weight = planted(*(trivial(dihedral(4), n) for n in (6, 7)), 2)
    assert group_channels(weight, TIGHT)[0].shape == (1, 7)


def test_what_nearly_has_a_group_or_has_none_is_refused() -> None:
    group = dihedral(4)
    weight = shuffled(planted(copies(regular(group), 4), copies(regular(group), 5), 2))
    assert products_of(group_channels(weight, TIGHT)).shape[0] == 8
    one_entry = weight.clone()
    one_entry[3, 4, 1] += 1e-3
    exchanged = weight.clone()
    exchanged[0, [2, 9]] = exchanged[0, [9, 2]]  # the row still has the same numbers
    noise = weight + 1e-3 * gaussian(*weight.shape, seed=9)
    for other in (one_entry, exchanged, noise, gaussian(*weight.shape), torch.zeros_like(weight)):
        factors = group_channels(other, TIGHT)
        assert factors[0].shape[0] == 1
        assert torch.equal(group_channels_product(*factors), other)


def test_rows_of_the_same_numbers_need_not_be_an_orbit() -> None:
    numbers = gaussian(6)
    orders = [torch.randperm(6, generator=torch.Generator().manual_seed(seed)) for seed in range(6)]
    assert find_orders(torch.stack([numbers[order] for order in orders])[..., None]) is None
    turned = torch.stack([numbers.roll(step) for step in range(6)])[..., None]
    assert find_orders(turned) is not None


def test_channels_of_nothing_stay_where_they_are() -> None:
    group = cyclic(4)
    weight = shuffled(planted(copies(regular(group), 4), copies(regular(group), 5)))
    wide = torch.zeros(17, 21, 1, dtype=torch.float64)
    wide[:16, 1:] = weight
    factors = group_channels(wide, TIGHT)
    assert len(products_of(factors)) == 5
    assert rebuilt(factors, wide) < 1e-6


def test_one_entry_that_is_another_tells_all_rows_of_a_regular_field_apart() -> None:
    """No element but 1 leaves an entry where it is: it is refused before a group is looked for."""
    regular_fields = copies(regular(symmetric(4)), 2)
    weight = planted(regular_fields, regular_fields)[..., 0]
    for names in lines_alike(weight, signed=False):
        assert len(names.unique()) == 2
    weight[5, 7] += 0.1
    for names in lines_alike(weight, signed=False):
        assert len(names.unique()) == len(names)


def test_rows_that_an_entry_leaves_alike_keep_one_name() -> None:
    """On five points that may be exchanged an entry of the diagonal leaves four of them alike."""
    weight = planted(defining(symmetric(5)), defining(symmetric(5)))[..., 0]
    weight[2, 2] += 0.1
    for names in lines_alike(weight, signed=False):
        assert names.tolist().count(int(names[2])) == 1
        assert len(names.unique()) == 2


def test_small_differences_are_no_chain_that_makes_all_rows_alike() -> None:
    weight = torch.ones(200, 200, dtype=torch.float64) + torch.diag(torch.arange(200) * 1e-4)
    names, _ = lines_alike(weight, signed=False)
    assert len(names.unique()) > 100


def test_many_small_fields_do_not_hide_the_group() -> None:
    """Any few channels are of fields that elements leave alone, which look more symmetric than all are."""
    fields = beside(
        copies(regular(dihedral(4)), 3), copies(defining(dihedral(4)), 12), trivial(dihedral(4), 40)
    )
    weight = shuffled(planted(fields, fields))
    factors = group_channels(weight, TIGHT)
    assert factors[0].shape == (8, 55)
    assert rebuilt(factors, weight) < 1e-6
