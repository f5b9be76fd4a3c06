"""Diagrams span exactly the maps that commute with their group, and are independent where n is small, too."""

from __future__ import annotations

import math

import pytest
import torch
from groups_by_chance import commuting, elements, power
from hypothesis import given, settings
from hypothesis import strategies as st

from tdsl.errors import TdslError
from tdsl.symmetry.diagrams import basis, dimension
from tdsl.symmetry.diagrams.brauer import determinants, inner_product, matchings
from tdsl.symmetry.diagrams.partitions import (
    Partition,
    coarser,
    orbit,
    orbit_length,
    partition_count,
    set_partitions,
)

PUBLISHED = {
    "S": {
        (3, 1, 1): 2,
        (3, 1, 2): 5,
        (4, 1, 2): 5,
        (5, 1, 2): 5,
        (2, 2, 2): 8,
        (3, 2, 2): 14,
        (4, 2, 2): 15,
        (64, 2, 2): 15,
        (6, 3, 3): 203,
    },
    "A": {(3, 1, 1): 3, (3, 1, 2): 9, (3, 2, 2): 27, (4, 2, 2): 22, (64, 2, 2): 15},
    "O": {(3, 1, 1): 1, (3, 1, 2): 0, (3, 2, 2): 3, (2, 2, 2): 3, (2, 3, 3): 10, (3, 3, 3): 15},
    "SO": {(2, 2, 2): 6, (3, 1, 2): 1, (2, 3, 3): 20, (3, 2, 2): 3, (3, 2, 3): 6},
    "Sp": {(2, 1, 1): 1, (2, 2, 2): 2, (4, 2, 2): 3, (2, 1, 2): 0},
}
"""Dimensions for (n, k, l), from the literature and from character formulas."""

KNOWN = [(family, *sizes, count) for family, rows in PUBLISHED.items() for sizes, count in rows.items()]
SMALL = [
    (family, n, k, l)
    for family in PUBLISHED
    for n in range(1, 5)
    for k in range(4)
    for l in range(4)  # noqa: E741
    if n ** (k + l) <= 81 and not (family == "Sp" and n % 2)
]


@pytest.mark.parametrize(("family", "n", "k", "l", "count"), KNOWN)
def test_dimensions_are_those_that_are_known(family: str, n: int, k: int, l: int, count: int) -> None:  # noqa: E741
    assert dimension(family, n, k, l) == len(basis(family, n, k, l)) == count


@pytest.mark.parametrize("family", PUBLISHED)
def test_diagrams_span_what_commutes_with_the_group_and_are_independent(family: str) -> None:
    for _, n, k, l in [case for case in SMALL if case[0] == family]:  # noqa: E741
        found = basis(family, n, k, l)
        rows = [diagram.dense(n).flatten() for diagram in found]
        rank = int(torch.linalg.matrix_rank(torch.stack(rows))) if rows else 0
        assert len(found) == rank == commuting(family, n, k, l) == dimension(family, n, k, l), (n, k, l)


@given(
    family=st.sampled_from(sorted(PUBLISHED)),
    n=st.sampled_from([1, 2, 3, 4]),
    k=st.integers(0, 3),
    l=st.integers(0, 2),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_every_diagram_commutes(family: str, n: int, k: int, l: int, seed: int) -> None:  # noqa: E741
    n += n % 2 if family == "Sp" else 0
    for diagram in basis(family, n, k, l):
        matrix = diagram.dense(n)
        assert matrix.dtype == torch.float64 and matrix.shape == (n**l, n**k)
        for element in elements(family, n, seed):
            torch.testing.assert_close(power(element, l) @ matrix, matrix @ power(element, k))


def test_what_is_larger_than_the_basis_does_not_commute() -> None:
    """Controls: an element of the smaller group's basis fails under the larger group."""
    (sign,) = [d for d in basis("A", 3, 1, 1) if "sign" in d.text][:1]
    swap = elements("S", 3)[0]
    assert (swap @ sign.dense(3) - sign.dense(3) @ swap).abs().max() >= 1
    (cross,) = basis("SO", 3, 2, 1)
    mirror = elements("O", 3)[-1]
    assert (mirror @ cross.dense(3) - cross.dense(3) @ power(mirror, 2)).abs().max() >= 1


def test_the_one_map_of_rotations_from_pairs_of_vectors_to_vectors_is_the_cross_product() -> None:
    (cross,) = basis("SO", 3, 2, 1)
    x, y = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(cross.dense(3) @ torch.outer(x, y).flatten(), torch.linalg.cross(x, y))
    assert basis("O", 3, 2, 1) == []


def test_diagrams_are_told_in_words() -> None:
    assert [d.text for d in basis("S", 9, 1, 1)] == ["{out1 in1}", "{out1} {in1}"]
    assert [d.text for d in basis("O", 9, 2, 2)] == [
        "{out1 out2} {in1 in2}",
        "{out1 in1} {out2 in2}",
        "{out1 in2} {out2 in1}",
    ]
    assert basis("Sp", 4, 2, 2)[0].text == "ω(out1 out2) ω(in1 in2)"
    assert basis("SO", 3, 1, 2)[-1].text == "ε(out1 out2 in1)"
    assert basis("A", 2, 1, 1)[-1].text == "sign of ({out1} {in1})"
    assert basis("O", 5, 0, 0)[0].text == basis("S", 5, 0, 0)[0].text == "{}"


@pytest.mark.parametrize("points", range(7))
def test_partitions_are_counted_and_all_different(points: int) -> None:
    bell = [1, 1, 2, 5, 15, 52, 203]
    for most in range(points + 2):
        found = set_partitions(points, most)
        assert len(set(found)) == len(found) == partition_count(points, most)
    assert partition_count(points, points) == bell[points]


@pytest.mark.parametrize(("points", "n"), [(0, 2), (1, 3), (3, 2), (4, 3), (4, 5)])
def test_möbius_inversion_leads_from_diagrams_to_orbits_and_back(points: int, n: int) -> None:
    for labels in set_partitions(points, points):
        whole = orbit(labels, n)
        assert set(whole.unique().tolist()) <= {0.0, 1.0}
        assert int(whole.sum()) == orbit_length(labels, n)
        back = sum(orbit(joined, n) for joined, _ in coarser(labels))
        assert torch.equal(back, Partition(labels, 0).dense(n).reshape(whole.shape))
        assert sum(number for _, number in coarser(labels)) == (1 if max(labels, default=0) == 0 else 0)


@pytest.mark.parametrize("symplectic", [False, True])
@pytest.mark.parametrize("n", [2, 4])
def test_inner_products_are_those_of_the_dense_diagrams(n: int, symplectic: bool) -> None:
    for k, l in [(2, 2), (1, 3), (4, 0), (3, 3) if n < 4 else (1, 1)]:  # noqa: E741
        known = matchings(k, l, symplectic=symplectic)
        known += [] if symplectic else determinants(n, k, l)
        rows = torch.stack([diagram.dense(n).flatten() for diagram in known])
        products = [[inner_product(a, b, n) for b in known] for a in known]
        assert products == (rows @ rows.T).tolist()
        assert all(products[i][i] == n ** ((k + l) // 2) for i in range(len(matchings(k, l))))


@pytest.mark.parametrize(
    ("family", "n", "k", "l", "said"),
    [
        ("U", 3, 1, 1, r"no diagrams for the groups U\(n\)"),
        ("S", 0, 1, 1, "n of at least 1"),
        ("S", 3, -1, 1, "no negative order"),
        ("Sp", 3, 1, 1, "an even n"),
        ("S", 3, 5, 4, "8 at most"),
    ],
)
def test_what_has_no_basis_is_refused(family: str, n: int, k: int, l: int, said: str) -> None:  # noqa: E741
    with pytest.raises(TdslError, match=said):
        basis(family, n, k, l)


def test_a_diagram_that_needs_another_n_says_so() -> None:
    with pytest.raises(ValueError, match="no Levi-Civita symbol for n = 4"):
        basis("SO", 3, 1, 2)[0].dense(4)
    with pytest.raises(ValueError, match="even n"):
        basis("Sp", 4, 2, 0)[0].dense(3)
    with pytest.raises(ValueError, match="no sign among 5"):
        basis("A", 3, 1, 1)[-1].dense(5)
    assert math.isclose(float(basis("Sp", 4, 2, 0)[0].dense(2).norm()), 2**0.5)
