"""Weights between tensors of items are found at their orders, as the diagrams they are, and no others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.diagrams import diagrams, diagrams_planes, diagrams_planes_product, diagrams_product
from tdsl.factor.diagrams_of_two import diagrams_of_two, diagrams_of_two_planes
from tdsl.factor.displaced import SIGNS, displacements
from tdsl.factor.orbit_probe import Axes, Layout, likely, turned
from tdsl.factor.orbits import nearest
from tdsl.factor.rank import Error, Fixed
from tdsl.symmetry.diagrams import basis
from tdsl.symmetry.diagrams.project import by_channel, project

TIGHT = Error(1e-6)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(family: str, n: int, k: int, l: int, p: int, q: int, *, planes: bool = False) -> Tensor:  # noqa: E741
    """A mix of channels for each diagram of the basis."""
    total = torch.zeros(n**l * p, n**k * q, dtype=torch.float64)
    for seed, diagram in enumerate(basis(family, n, k, l)):
        mix, places = gaussian(p, q, seed=seed), diagram.dense(n)
        total += torch.kron(mix, places) if planes else torch.kron(places, mix)
    return total


ORDERS = [
    ("S", 5, 1, 2, 2, 3),
    ("S", 5, 2, 1, 3, 2),
    ("S", 6, 2, 0, 3, 2),
    ("S", 6, 0, 2, 3, 2),
    ("S", 4, 3, 1, 1, 2),
    ("S", 5, 2, 2, 1, 2),
    ("S", 3, 3, 2, 2, 1),
    ("S", 3, 3, 3, 1, 1),
    ("O", 5, 2, 2, 2, 3),
    ("O", 4, 1, 3, 2, 2),
    ("O", 4, 3, 3, 1, 1),
]


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("case", ORDERS, ids=str)
def test_a_planted_weight_is_found_at_its_orders_and_a_perturbed_one_is_not(
    case: tuple[str, int, int, int, int, int], planes: bool
) -> None:
    family, n, k, l, p, q = case  # noqa: E741
    find, product = (diagrams_planes, diagrams_planes_product) if planes else (diagrams, diagrams_product)
    weight = planted(*case, planes=planes)
    for dtype in (torch.float64, torch.float32):
        mixes, out, into, items = find(weight.to(dtype), TIGHT)
        assert mixes.shape == (len(basis(family, n, k, l)), p, q)  # of O(n) no more than its own
        assert (out.shape[1], into.shape[1], len(items)) == (l, k, n)
        torch.testing.assert_close(product(mixes, out, into, items), weight, rtol=1e-5, atol=1e-5)
    weight[1, 0] += 1e-3 * weight.norm()
    assert len(find(weight, TIGHT)[-1]) == 1
    assert len(find(gaussian(*weight.shape), TIGHT)[-1]) == 1


def test_the_other_layout_is_told_apart() -> None:
    weight = planted("S", 5, 2, 1, 3, 2)
    assert len(diagrams(weight, TIGHT)[-1]) == 5
    assert len(diagrams_planes(weight, TIGHT)[-1]) == 1


def test_a_bound_on_the_error_is_kept_and_lets_diagrams_go() -> None:
    """Two diagrams, one of them small, and noise."""
    places = [d.dense(5) for d in basis("S", 5, 2, 1)]
    weight = torch.kron(places[0], gaussian(2, 3)) + 1e-3 * torch.kron(places[2], gaussian(2, 3, seed=1))
    noisy = weight + 1e-4 * gaussian(*weight.shape, seed=2)
    mixes, *structure = diagrams(noisy, Error(0.1))
    assert len(mixes) == 1
    assert (diagrams_product(mixes, *structure) - noisy).norm() <= 0.1 * noisy.norm()
    assert len(diagrams(noisy, TIGHT)[-1]) == 1
    assert len(diagrams(noisy, Fixed(1))[-1]) > 1  # a number asks for the smallest error


@pytest.mark.parametrize(("n", "k", "l"), [(2, 2, 2), (3, 1, 2), (4, 2, 1), (3, 3, 1)])
def test_the_nearest_weight_is_the_projection(n: int, k: int, l: int) -> None:  # noqa: E741
    """Means over orbits and a triangular system against Möbius inversion, on a weight that is near none."""
    weight = gaussian(n**l * 2, n**k * 3)
    layout = Layout((Axes(n, l, k),), *weight.shape, channels_last=True)
    labels, mixes, lost = nearest(weight, layout)
    known = project(by_channel(weight, n, k, l, channels_last=True), "S", n, k, l)
    order = [labels.index((diagram.labels,)) for diagram in known.diagrams]  # type: ignore[attr-defined]
    torch.testing.assert_close(mixes[order], known.coefficients)
    assert lost == pytest.approx(known.lost)


def test_an_entry_that_no_pair_shows_is_seen_by_the_turn() -> None:
    layout = Layout((Axes(5, 2, 1),), 50, 15, channels_last=True)
    weight = planted("S", 5, 1, 2, 2, 3)
    assert list(likely(weight, float(weight.norm()), [layout], TIGHT)) == [layout]
    for row in (0, 17, 49):
        changed = weight.clone()
        changed[row, 7] += 0.01
        assert not list(likely(changed, float(changed.norm()), [layout], TIGHT))


def test_no_distance_is_taken_for_more_than_it_is() -> None:
    """One product asks every layout; what it shows is at most the distance, up to what signs can make."""
    layouts = [Layout((Axes(n, 1, 1),), 24, 36, channels_last=True) for n in (2, 3, 4, 6, 12)]
    for noise in (0.0, 1e-6, 1e-3, 1.0):
        weight = planted("S", 12, 1, 1, 2, 3) + noise * gaussian(24, 36, seed=5)
        turns = [turned(layout)[0] for layout in layouts]
        for layout, shown in zip(layouts, displacements(weight, turns), strict=True):
            lost = nearest(weight, layout)[2]
            assert 0.1 * lost <= shown + 1e-12 <= 2 * SIGNS * lost + 1e-12 * weight.norm()


TABLES = {
    "rows and columns": ["ij,ij", "ij,i", "ij,j", "ij,"],
    "items within others": ["ij,ij", "ij,i", "ij,"],
    "others within items": ["ij,ij", "ij,j", "ij,"],
    "rows pooled": ["i,ij", "i,j"],
    "columns spread": ["ij,j", "ij,"],
}
"""Output and input axes that the terms of a layer read: `ij,i` is the same along j."""


def table(terms: list[str], n: int, m: int, p: int, q: int, *, planes: bool = False) -> Tensor:
    """A mix of channels for each term, between arrays of n × m, or of axes that the terms have."""
    out, into = (max((t.split(",")[side] for t in terms), key=len) for side in (0, 1))
    sizes = {"i": n, "j": m}
    total = torch.zeros(1, dtype=torch.float64)
    for seed, term in enumerate(terms):
        shared = [set(term.split(",")[1]) & set(out)]
        ones = torch.ones([sizes[a] for a in out] + [sizes[a] for a in into], dtype=torch.float64)
        for axis in shared[0]:
            shape = [1] * ones.ndim
            shape[out.index(axis)] = shape[len(out) + into.index(axis)] = sizes[axis]
            ones = ones * torch.eye(sizes[axis], dtype=torch.float64).reshape(shape)
        places = ones.reshape(-1, ones[(0,) * len(out)].numel())
        mix = gaussian(p, q, seed=seed)
        total = total + (torch.kron(mix, places) if planes else torch.kron(places, mix))
    return total


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("case", TABLES)
def test_two_kinds_of_items_are_found_apart(case: str, planes: bool) -> None:
    find, product = (
        (diagrams_of_two_planes, diagrams_planes_product) if planes else (diagrams_of_two, diagrams_product)
    )
    weight = table(TABLES[case], 4, 6, 2, 3, planes=planes)
    mixes, *structure = find(weight.float(), TIGHT)
    assert (len(mixes), len(structure[2]), len(structure[5])) == (len(TABLES[case]), 4, 6)
    torch.testing.assert_close(product(mixes, *structure), weight, rtol=1e-5, atol=1e-5)
    weight[1, 0] += 1e-3 * weight.norm()
    assert len(find(weight, TIGHT)[-1]) == 1
    assert len(find(gaussian(*weight.shape), TIGHT)[-1]) == 1


def test_entries_that_are_all_alike_are_not_two_kinds() -> None:
    weight = table(["ij,ij", "ij,"], 4, 6, 2, 3)
    assert len(diagrams_of_two(weight, TIGHT)[-1]) == 1


def test_what_is_no_finite_matrix_is_refused() -> None:
    for function in (diagrams, diagrams_planes, diagrams_of_two, diagrams_of_two_planes):
        with pytest.raises(TdslError, match="2 axes"):
            function(gaussian(4, 4, 4), TIGHT)
        with pytest.raises(TdslError, match="NaN"):
            function(torch.full((4, 4), torch.nan), TIGHT)
