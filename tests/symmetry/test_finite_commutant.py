"""Orbits, projections and automorphism groups: numbers of the literature, and what breaks them."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy.combinatorics import Permutation as SympyPermutation
from sympy.combinatorics import PermutationGroup
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.symmetry.element import Linear, Permutation
from tdsl.symmetry.finite import (
    automorphisms,
    commutant_basis,
    commutant_dimension,
    defect,
    entry_orbits,
    reynolds,
)
from tdsl.symmetry.finite.orbits import orbit_means
from tdsl.symmetry.group import (
    Group,
    cyclic,
    dihedral,
    generated,
    orthogonal,
    product,
    special_orthogonal,
    symmetric,
    wreath,
)
from tdsl.symmetry.representation import (
    Representation,
    copies,
    defining,
    plus,
    power,
    regular,
    tensor,
    trivial,
)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def adjacency(graph: nx.Graph) -> Tensor:
    return torch.tensor(nx.to_numpy_array(graph))


def turned_image(size: int) -> Representation:
    """Quarter turns of a square image."""
    places = torch.rot90(torch.arange(size * size).reshape(size, size)).reshape(-1)
    return defining(generated([Permutation(tuple(places.tolist()))]))


def dimension_of_constraints(out: Representation, inner: Representation) -> int:
    """The dimension of {W : ρ_out(g)·W = W·ρ_in(g)}, as a null space."""
    eyes = torch.eye(out.size, dtype=torch.float64), torch.eye(inner.size, dtype=torch.float64)
    rows = [
        torch.kron(a.matrix(), eyes[1]) - torch.kron(eyes[0], b.matrix().T.contiguous())
        for a, b in zip(out.generators, inner.generators, strict=True)
    ]
    return out.size * inner.size - int(torch.linalg.matrix_rank(torch.cat(rows)))


# ---------------------------------------------------------------- dimensions


def test_the_ring_of_five():
    group = automorphisms(adjacency(nx.cycle_graph(5)))
    ring = defining(group)
    assert group.order == 10
    assert commutant_dimension(ring, ring) == 3  # the unit matrix, the neighbours, the rest
    assert commutant_dimension(power(ring, 2), ring) == 13
    orbits = entry_orbits(ring, ring)
    assert torch.equal(orbits == orbits[0, 1], adjacency(nx.cycle_graph(5)).bool())


@pytest.mark.parametrize("n", [3, 4, 7, 12])
def test_dihedral_groups_of_rings(n):
    ring = defining(dihedral(n))
    assert commutant_dimension(ring, ring) == n // 2 + 1
    assert commutant_dimension(defining(cyclic(n)), defining(cyclic(n))) == n


def test_quarter_turns_leave_a_quarter_of_the_weights():
    image = turned_image(4)
    assert commutant_dimension(image, image) == 64
    assert len(reynolds(gaussian(16, 16), image, image).unique()) == 64


@pytest.mark.parametrize(
    ("k", "ell", "n", "expected"), [(1, 1, 3, 2), (1, 2, 3, 5), (2, 2, 3, 14), (2, 2, 4, 15)]
)
def test_symmetric_groups_have_one_weight_for_each_partition(k, ell, n, expected):
    base = defining(symmetric(n))
    assert commutant_dimension(power(base, ell), power(base, k)) == expected


def test_products_pool_along_each_axis():
    group = product(symmetric(4), symmetric(3))
    rows, columns = defining(symmetric(4)), defining(symmetric(3))
    table = tensor(
        [
            Representation(group, "rows", 4, (*rows.generators, *trivial(columns.group, 4).generators)),
            Representation(group, "columns", 3, (*trivial(rows.group, 3).generators, *columns.generators)),
        ]
    )
    assert commutant_dimension(table, table) == 2 * 2  # itself or the others, of rows and of columns
    weight = reynolds(gaussian(12, 12), table, table).reshape(4, 3, 4, 3)
    eye_a, eye_b = torch.eye(4, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    pools = [
        torch.einsum("ij,kl->ikjl", a, b) for a in (eye_a, eye_a * 0 + 1) for b in (eye_b, eye_b * 0 + 1)
    ]
    spanned = torch.stack([p.reshape(-1) for p in [*pools, weight]])
    assert int(torch.linalg.matrix_rank(spanned)) == 4


def test_wreath_products_know_the_same_place_the_same_block_and_the_rest():
    places = defining(wreath(symmetric(3), symmetric(4)))
    assert commutant_dimension(places, places) == 3


def test_a_missing_generator_is_noticed_by_the_order():
    whole = automorphisms(adjacency(nx.cycle_graph(6)))
    turns = generated([Permutation((1, 2, 3, 4, 5, 0))])
    ring = defining(turns)
    weight = reynolds(gaussian(6, 6), ring, ring)
    assert defect(weight, ring, ring) < 1e-15  # it passes its own test
    assert turns.order == 6 != whole.order == 12
    assert commutant_dimension(ring, ring) > commutant_dimension(defining(whole), defining(whole))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(0, 10**6))
def test_orbits_are_as_many_as_constraints_leave(m, n, count, seed):
    random = torch.Generator().manual_seed(seed)

    def draw(size: int) -> tuple[Permutation, ...]:
        return tuple(
            Permutation(tuple(torch.randperm(size, generator=random).tolist())) for _ in range(count)
        )

    both = [(*p.places, *(m + i for i in q.places)) for p, q in zip(draw(m), draw(n), strict=True)]
    group = generated([Permutation(p) for p in both])
    out = Representation(group, "out", m, tuple(Permutation(p[:m]) for p in both))
    inner = Representation(group, "in", n, tuple(Permutation(tuple(i - m for i in p[m:])) for p in both))
    assert commutant_dimension(out, inner) == dimension_of_constraints(out, inner)


# ---------------------------------------------------------------- projections


def as_matrices(rho: Representation) -> Representation:
    return Representation(rho.group, rho.name, rho.size, tuple(Linear(g.matrix()) for g in rho.generators))


QUARTER = Linear(torch.tensor([[0.0, -1.0], [1.0, 0.0]]))
TURNS = defining(generated([QUARTER], "C4"))

PAIRS = {
    "permutations": (copies(regular(dihedral(3)), 2), defining(dihedral(3))),
    "matrices": (plus([TURNS, TURNS, trivial(TURNS.group, 1)]), plus([trivial(TURNS.group, 2), TURNS])),
    "both": (as_matrices(regular(dihedral(4))), regular(dihedral(4))),
    "rotations": (power(defining(special_orthogonal(3)), 2), defining(special_orthogonal(3))),
    "orthogonal": (power(defining(orthogonal(3)), 2), power(defining(orthogonal(3)), 2)),
}


@pytest.mark.parametrize(("out", "inner"), PAIRS.values(), ids=PAIRS)
class TestProjection:
    def test_it_is_a_projection_onto_what_commutes(self, out, inner):
        weight = gaussian(out.size, inner.size)
        near = reynolds(weight, out, inner)
        assert float(near.norm()) > 0.1
        assert defect(near, out, inner) < 1e-13 < 0.1 < defect(weight, out, inner)
        assert torch.allclose(reynolds(near, out, inner), near, rtol=0, atol=1e-13)
        assert abs(float(((weight - near) * near).sum())) < 1e-12

    def test_the_basis_is_orthonormal_and_spans_it(self, out, inner):
        basis = commutant_basis(out, inner)
        flat = basis.reshape(len(basis), -1)
        assert len(basis) == commutant_dimension(out, inner) > 0
        assert torch.allclose(flat @ flat.T, torch.eye(len(basis), dtype=torch.float64), atol=1e-12)
        assert all(defect(one, out, inner) < 1e-12 for one in basis)
        weight = gaussian(out.size, inner.size)
        expected = (flat.T @ (flat @ weight.reshape(-1))).reshape(weight.shape)
        assert torch.allclose(reynolds(weight, out, inner), expected, atol=1e-12)


def test_matrices_and_permutations_average_alike():
    ring = regular(dihedral(4))
    weight = gaussian(8, 8)
    both = [reynolds(weight, r, r) for r in (ring, as_matrices(ring))]
    assert torch.allclose(*both, rtol=0, atol=1e-15)


def test_what_is_symmetric_already_keeps_its_bits():
    ring = defining(cyclic(7))
    weight = reynolds(gaussian(7, 7) * 0.1, ring, ring)
    assert torch.equal(reynolds(weight, ring, ring), weight)
    assert torch.equal(
        orbit_means(torch.full((3,), 0.1), torch.zeros(3, dtype=torch.int64)), torch.full((1,), 0.1).double()
    )


def test_mistakes_are_named():
    ring, image = defining(cyclic(4)), turned_image(4)
    with pytest.raises(TdslError, match="two groups"):
        reynolds(gaussian(4, 16), ring, image)
    with pytest.raises(TdslError, match="two groups"):
        commutant_dimension(ring, defining(cyclic(5)))
    with pytest.raises(TdslError, match=r"\[3, 4\]"):
        reynolds(gaussian(3, 4), ring, ring)
    with pytest.raises(TdslError, match="does not permute"):
        entry_orbits(TURNS, TURNS)
    with pytest.raises(TdslError, match="too large"):
        commutant_basis(copies(ring, 300), copies(ring, 300))


# ---------------------------------------------------------------- automorphisms

GRAPHS = {
    "Petersen": (nx.petersen_graph(), 120),
    "cube": (nx.hypercube_graph(4), 384),
    "Frucht": (nx.frucht_graph(), 1),
    "Hoffman–Singleton": (nx.hoffman_singleton_graph(), 252_000),
    "Paley": (nx.paley_graph(29).to_undirected(), 29 * 14),
    "directed ring": (nx.cycle_graph(9, create_using=nx.DiGraph), 9),
    "grid": (nx.grid_2d_graph(5, 5), 8),
    "two rings": (nx.disjoint_union(nx.cycle_graph(4), nx.cycle_graph(4)), 8 * 8 * 2),
    "tree": (nx.balanced_tree(2, 3), 2**7),
    "nothing": (nx.empty_graph(7), 5040),
}


@pytest.mark.parametrize(("graph", "order"), GRAPHS.values(), ids=GRAPHS)
def test_automorphism_groups_of_known_order(graph, order):
    matrix = adjacency(graph)
    group: Group = automorphisms(matrix)
    assert group.order == order
    moving = [SympyPermutation(list(g.places)) for g in group.generators if isinstance(g, Permutation)]
    assert (PermutationGroup(moving).order() if moving else 1) == order
    for g in group.generators:
        assert torch.equal(g.matrix() @ matrix @ g.matrix().T, matrix)
    if group.generators:
        places = defining(group)
        assert defect(matrix, places, places) == 0
        assert defect(gaussian(*matrix.shape), places, places) > 0.1


def test_what_is_no_automorphism_breaks_the_graph_and_what_commutes():
    matrix = adjacency(nx.cycle_graph(6))
    ring, swap = defining(automorphisms(matrix)), defining(generated([Permutation((1, 0, 2, 3, 4, 5))]))
    assert defect(matrix, ring, ring) == 0 and defect(matrix, swap, swap) > 0.1
    weight = reynolds(gaussian(6, 6), ring, ring)
    assert defect(weight, ring, ring) < 1e-15 and defect(weight, swap, swap) > 0.1


def test_weights_of_edges_count():
    matrix = adjacency(nx.cycle_graph(6))
    matrix[0, 1] = matrix[1, 0] = 2.0
    assert automorphisms(matrix).order == 2
    matrix[0, 1] = 3.0
    assert automorphisms(matrix).order == 1


def test_what_is_no_graph_is_an_error():
    with pytest.raises(TdslError, match="no adjacency"):
        automorphisms(gaussian(2, 3))
