"""Spaces of intertwining matrices, and rules that project weights onto them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from rewriting import apply, graph_of, library

from tdsl.errors import TdslError
from tdsl.symmetry.group import (
    alternating,
    cyclic,
    dihedral,
    orthogonal,
    special_orthogonal,
    symmetric,
    symplectic,
)
from tdsl.symmetry.representation import copies, defining, plus, power, regular, trivial
from tdsl.symmetry.space import channels, commutant, hom

DEEP_SETS = """
/// A dense layer that commutes with every permutation of its n inputs is a·x + c·sum(x)·1.
rule deep_sets(tolerance: Real = 1e-6) {
    linear(x: [..., n], W: const [n, n], b?)
  ~>
    a * x + c * sum(x, dim=-1, keepdim=true) + b
  where
    (a, c) = project(W, commutant(S(n)))
    defect(W, commutant(S(n))) <= tolerance
}
"""


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def exchangeable(n: int) -> torch.Tensor:
    return 0.7 * torch.eye(n, dtype=torch.float64) - 0.3


def layer(weight: torch.Tensor):
    return graph_of(lambda x, weight: F.linear(x, weight), normal(4, len(weight)), weight=weight)


def test_a_weight_in_the_commutant_of_all_permutations_is_two_numbers():
    result = apply(DEEP_SETS, layer(exchangeable(6)))
    assert result.rules == ["deep_sets"]
    assert "linear" not in result.operators
    result.assert_equal()
    assert sum(p.numel() for p in result.module.parameters()) == 2


@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_a_weight_beside_the_commutant_is_left_alone(size: float):
    assert apply(DEEP_SETS, layer(exchangeable(6) + size * normal(6, 6))).rules == []


def test_the_defect_is_held_to_the_tolerance_that_a_pipeline_gives():
    weight = exchangeable(6) + 1e-3 * normal(6, 6)
    assert apply(DEEP_SETS.replace("1e-6", "1e-2"), layer(weight)).rules == ["deep_sets"]


def test_a_rule_that_is_wrong_for_the_coefficients_does_not_load():
    with pytest.raises(TdslError) as refused:
        library(DEEP_SETS.replace("c * sum(", "c * mean("))
    assert "the sides differ" in refused.value.message


def test_as_many_names_as_the_space_has_dimensions():
    loaded = library(DEEP_SETS.replace("(a, c) =", "(a, c, d) =").replace("+ b\n", "+ d + b\n"))
    verdict = loaded.rules["rules.deep_sets"].verdict
    assert verdict.status == "unchecked"
    assert "`project` gives 2 values here, and there are 3 names" in verdict.reason


def test_a_space_of_another_size():
    verdict = (
        library(DEEP_SETS.replace("commutant(S(n))", "commutant(S(n + 1))")).rules["rules.deep_sets"].verdict
    )
    assert verdict.status == "unchecked"
    assert "rebuilds a weight of shape" in verdict.reason


MIXING = """
/// The same with a matrix over channels in the place of each number.
rule mixing(n: Int = 3) {
    linear(x: [k, p], W: const [q, p])
  ~>
    reshape(X @ A.T + sum(X, dim=-2, keepdim=true) @ C.T, [k, q])
  where
    q % n == 0
    p % n == 0
    X = reshape(x, [k, n, p div n])
    space = channels(commutant(S(n)), q div n, p div n)
    (A: [o, i], C: [o, i]) = project(W, space)
    q == n * o
    p == n * i
    defect(W, space) <= 1e-6
}
"""


def test_channels_make_matrices_of_the_coefficients():
    eye, ones = torch.eye(3, dtype=torch.float64), torch.ones(3, 3, dtype=torch.float64)
    weight = torch.kron(eye, normal(4, 2)) + torch.kron(ones, normal(4, 2, seed=1))
    result = apply(MIXING, layer_of(weight))
    assert result.rules == ["mixing"]
    result.assert_equal()
    assert apply(MIXING, layer_of(weight + 1e-3 * normal(12, 6))).rules == []


def layer_of(weight: torch.Tensor):
    return graph_of(lambda x, weight: F.linear(x, weight), normal(4, weight.shape[1]), weight=weight)


RING = """
/// A layer on a ring: one number for each distance.
rule ring(n: Int = 3) {
    linear(x: [k, n], W: const [n, n])
  ~>
    a * x + c * roll(x, 1, -1) + d * roll(x, 2, -1)
  where
    (a, d, c) = project(W, commutant(cyclic(n)))
    defect(W, commutant(cyclic(n))) <= 1e-6
}
"""


def test_orbit_sums_are_the_basis_for_other_permutation_groups():
    weight = torch.tensor([[1.0, 2, 3], [3, 1, 2], [2, 3, 1]], dtype=torch.float64)
    result = apply(RING, layer(weight))
    assert result.rules == ["ring"]
    result.assert_equal()
    with pytest.raises(TdslError, match="the sides differ"):
        library(RING.replace("(a, d, c)", "(a, c, d)"))


# ---------------------------------------------------------------- the spaces themselves

REPRESENTATIONS = {
    "S(4)": defining(symmetric(4)),
    "S(3) on pairs": power(defining(symmetric(3)), 2),
    "A(4) on pairs": power(defining(alternating(4)), 2),
    "O(3) on pairs": power(defining(orthogonal(3)), 2),
    "SO(3) on pairs": power(defining(special_orthogonal(3)), 2),
    "Sp(2) on pairs": power(defining(symplectic(2)), 2),
    "cyclic(5)": defining(cyclic(5)),
    "dihedral(4), regular": regular(dihedral(4)),
    "dihedral(3), 2 copies": copies(defining(dihedral(3)), 2),
    "cyclic(3) and two fixed places": plus([defining(cyclic(3)), trivial(cyclic(3), 2)]),
}


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_every_basis_commutes_with_the_generators_and_spans_all_that_does(name: str):
    one = REPRESENTATIONS[name]
    basis = commutant(one).basis
    assert len(basis)
    eye = torch.eye(one.size, dtype=torch.float64)
    conditions = []
    for g in one.generators:
        matrix = g.matrix()
        assert torch.allclose(matrix @ basis, basis @ matrix, atol=1e-9)
        conditions.append(torch.kron(matrix, eye) - torch.kron(eye, matrix.T.contiguous()))
    for a in one.algebra:
        assert torch.allclose(a @ basis, basis @ a, atol=1e-9)
        conditions.append(torch.kron(a.contiguous(), eye) - torch.kron(eye, a.T.contiguous()))
    null = one.size**2 - int(torch.linalg.matrix_rank(torch.cat(conditions)))
    assert int(torch.linalg.matrix_rank(basis.reshape(len(basis), -1))) == len(basis) == null


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(REPRESENTATIONS)), st.integers(0, 1000))
def test_a_projection_is_the_nearest_matrix_and_projects_once(name: str, seed: int):
    space = commutant(REPRESENTATIONS[name])
    weight = normal(*space.shape, seed=seed)
    nearest = space.matrix(*space.coefficients(weight))
    assert space.defect(nearest) < 1e-12 < space.defect(weight)
    assert torch.allclose(space.matrix(*space.coefficients(nearest)), nearest, atol=1e-10)
    rest = (weight - nearest).reshape(-1)
    assert float((space.basis.reshape(space.dimension, -1) @ rest).abs().max()) < 1e-9


def test_representations_of_two_sizes():
    pairs = power(defining(symmetric(4)), 2)
    assert hom(pairs, symmetric(4)).dimension == 5
    assert hom(power(defining(symmetric(4)), 0), symmetric(4)).dimension == 1
    assert hom(orthogonal(3), power(defining(orthogonal(3)), 2)).dimension == 0


def test_channels_of_a_space():
    space = channels(commutant(symmetric(3)), 2, 4)
    assert space.shape == (6, 12)
    weight = normal(6, 12)
    assert space.coefficients(weight).shape == (2, 2, 4)
    assert space.defect(weight) > 0.1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: commutant(symmetric(3)).coefficients(normal(4, 4)), "is not in commutant"),
        (lambda: hom(symmetric(3), cyclic(3)), "two groups"),
        (lambda: commutant(regular(orthogonal(2))), "infinitely many"),
        (lambda: commutant(plus([defining(orthogonal(2)), trivial(orthogonal(2), 1)])), "is continuous"),
        (lambda: channels(channels(commutant(symmetric(3)), 2, 2), 2, 2), "channels already"),
        (lambda: commutant(symmetric(9000)), "numbers"),
        (lambda: commutant("S"), "is no group"),
    ],
)
def test_what_has_no_meaning_says_so(wrong, said: str):
    with pytest.raises(TdslError, match=said):
        wrong()


# ---------------------------------------------------------------- declared groups


def test_a_rule_names_a_group_that_its_file_declares():
    declared = "group Ring = cyclic(3)\n" + RING.replace("(n: Int = 3)", "").replace("cyclic(n)", "Ring")
    declared = declared.replace("where", "where\n    n == 3")
    weight = torch.tensor([[1.0, 2, 3], [3, 1, 2], [2, 3, 1]], dtype=torch.float64)
    result = apply(declared, layer(weight))
    assert result.rules == ["ring"]
    result.assert_equal()
    with pytest.raises(TdslError, match="the sides differ"):  # with another group the same rule is wrong
        library(
            declared.replace("cyclic(3)", "generated([0, 2, 1], [1, 2, 0])")
            .replace("(a, d, c)", "(a, c)")
            .replace("+ d * roll(x, 2, -1)", "")
        )
