"""Constant bilinear maps take as few multiplications as theory knows, exactly, and no more is claimed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from algebras import (
    Array,
    clifford,
    cross,
    matrices,
    mixed,
    rotations,
    wigner_blocks,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tdsl.errors import TdslError
from tdsl.factor.bilinear import bilinear, bilinear_product, occurring_pairs, rounding
from tdsl.factor.bilinear_grid import gaunt_terms, grid_terms, harmonics, sphere_rule
from tdsl.factor.bilinear_harmonics import clebsch_gordan, wigner
from tdsl.factor.bilinear_round import is_identity
from tdsl.factor.bilinear_search import distance, solutions
from tdsl.factor.rank import Error

EXACT = Error(1e-10)
COMPLEX, QUATERNIONS = clifford(0, 1), clifford(0, 2)


def terms_of(tensor: Array) -> tuple[Array, Array, Array]:
    """The factors [size, terms] that are found for a tensor."""
    first, second, third = (factor.numpy() for factor in bilinear(torch.from_numpy(tensor), EXACT))
    return first.T, second.T, third


def gaunt(*degrees: int) -> Array:
    """∫ Y_i Y_j Y_k by a rule that is finer than it has to be."""
    points, weights = sphere_rule(2 * sum(degrees) + 6)
    first, second, third = (harmonics(degree, points) for degree in degrees)
    found: Array = np.einsum("pi,pj,pk->ijk", first, second, third * weights[:, None])
    found[np.abs(found) < 1e-12] = 0
    return found


# ---------------------------------------------------------------- ranks


@pytest.mark.parametrize(
    ("tensor", "rank"),
    [
        pytest.param(COMPLEX, 3, id="complex"),
        pytest.param(cross(), 5, id="cross product"),
        pytest.param(QUATERNIONS, 8, id="quaternions"),
        pytest.param(matrices(2, 2, 2), 7, id="2x2 matrices"),
        pytest.param(clifford(2), 7, id="Cl(2,0), which is 2x2 matrices"),
        pytest.param(clifford(1, 1), 7, id="Cl(1,1), too"),
        pytest.param(clifford(1), 2, id="Cl(1,0), which is two numbers"),
        pytest.param(0.3 * COMPLEX, 3, id="a multiple that float64 does not hold exactly"),
    ],
)
def test_the_rank_is_found_and_is_an_identity_in_exact_arithmetic(tensor: Array, rank: int) -> None:
    factors = terms_of(tensor)
    assert factors[0].shape[1] == rank
    assert is_identity(tensor, factors)
    wrong = [factor.copy() for factor in factors]
    wrong[2][0, 0] += 2.0**-40
    assert not is_identity(tensor, wrong)


@pytest.mark.parametrize(("tensor", "rank"), [(COMPLEX, 3), (cross(), 5), (matrices(2, 2, 2), 7)])
def test_one_term_fewer_is_not_enough(tensor: Array, rank: int) -> None:
    assert next(solutions(tensor, rank, 1e-10), None) is not None
    assert next(solutions(tensor, rank - 1, 1e-3), None) is None


@pytest.mark.parametrize(("tensor", "rank"), [(QUATERNIONS, 8), (cross(), 5), (clifford(2), 7)])
def test_hidden_bases_do_not_hide_the_rank(tensor: Array, rank: int) -> None:
    factors = terms_of(mixed(tensor))
    assert factors[0].shape[1] == rank
    assert distance(mixed(tensor), factors) <= 1e-10


def test_clifford_algebra_of_space_takes_a_term_for_each_pair() -> None:
    """8 × 8 × 8 entries are not searched: an identity all the same, with no more terms than products."""
    factors = terms_of(clifford(3))
    assert factors[0].shape[1] == 64
    assert is_identity(clifford(3), factors)


def test_a_wrong_sign_in_a_table_is_kept() -> None:
    wrong = QUATERNIONS.copy()
    wrong[1, 2, 3] *= -1
    factors = terms_of(wrong)
    assert is_identity(wrong, factors)
    assert not is_identity(QUATERNIONS, factors)


def test_a_random_tensor_has_the_generic_rank_and_a_large_one_as_many_terms_as_pairs() -> None:
    generator = np.random.default_rng(0)
    assert terms_of(generator.standard_normal((3, 3, 3)))[0].shape[1] == 5
    assert terms_of(generator.standard_normal((12, 12, 12)))[0].shape[1] == 144


def test_what_float32_rounded_is_still_found() -> None:
    tensor = clebsch_gordan(1, 1, 1).astype(np.float32).astype(np.float64)
    assert rounding(torch.from_numpy(tensor)) > 1e-8
    factors = terms_of(tensor)
    assert factors[0].shape[1] == 5
    assert distance(tensor, factors) <= 1.2e-7


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**20), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_occurring_pairs_are_an_identity_of_any_tensor(
    a: int, b: int, c: int, seed: int, kept: float
) -> None:
    generator = np.random.default_rng(seed)
    tensor = generator.standard_normal((a, b, c)) * (generator.random((a, b, c)) < kept)
    factors = occurring_pairs(tensor)
    assert is_identity(tensor, factors)
    assert 1 <= factors[0].shape[1] <= min(a * b, b * c, a * c)


@pytest.mark.parametrize("tensor", [torch.zeros(2, 3, 4), torch.zeros(0, 3, 4), torch.ones(1, 1, 1)])
def test_nothing_and_one_number_are_maps_too(tensor: torch.Tensor) -> None:
    assert torch.equal(bilinear_product(*bilinear(tensor.double(), EXACT)), tensor.double())


def test_a_matrix_is_no_bilinear_map() -> None:
    with pytest.raises(TdslError):
        bilinear(torch.eye(3), EXACT)


# ---------------------------------------------------------------- products that rotations leave alone


@pytest.mark.parametrize(("levels", "rank"), [((1, 1, 0), 3), ((1, 1, 1), 5), ((0, 2, 2), 5), ((2, 0, 2), 5)])
def test_clebsch_gordan_products_have_few_terms(levels: tuple[int, int, int], rank: int) -> None:
    tensor = clebsch_gordan(*levels)
    factors = terms_of(tensor)
    assert factors[0].shape[1] == rank
    assert distance(tensor, factors) <= 1e-10


def test_the_product_of_two_vectors_stays_equivariant() -> None:
    """1 ⊗ 1 → 0 ⊕ 1 ⊕ 2 keeps all nine products apart, so that it takes nine; of two parts fewer do."""
    tensor = np.concatenate([clebsch_gordan(1, 1, level) for level in (0, 1, 2)], axis=2)
    first, second, third = terms_of(tensor)
    assert first.shape[1] == 9
    generator = np.random.default_rng(3)
    x, y = generator.standard_normal((2, 20, 3))

    def product(x: Array, y: Array) -> Array:
        found: Array = ((x @ first) * (y @ second)) @ third.T
        return found

    for rotation in rotations(3, seed=1):
        vector, result = wigner(1, rotation), wigner_blocks((0, 1, 2), rotation)
        turned = product(x @ vector.T, y @ vector.T)
        assert np.abs(turned - product(x, y) @ result.T).max() < 1e-12
        assert np.abs(turned - product(x, y)).max() > 0.1
    assert product(x, y).std(axis=0).min() > 0.1


@pytest.mark.parametrize(("degrees", "points"), [((1, 1, 2), 14), ((2, 2, 2), 26), ((2, 2, 4), 38)])
def test_functions_on_a_sphere_take_a_product_for_each_point(degrees: tuple[int, ...], points: int) -> None:
    tensor = gaunt(*degrees)
    generator = np.random.default_rng(1)
    scales = [generator.uniform(0.5, 2, size) * generator.choice([-1, 1], size) for size in tensor.shape]
    for one in (tensor, np.einsum("ijk,i,j,k->ijk", tensor, *scales)):
        factors = gaunt_terms(one, 1e-10)
        assert factors is not None and factors[0].shape[1] == points
        assert distance(one, factors) <= 1e-12


def test_too_few_points_are_wrong() -> None:
    tensor = gaunt(2, 2, 4)
    points, weights = sphere_rule(6)  # of degree 7; 8 is needed
    first, second, third = (harmonics(degree, points).T for degree in (2, 2, 4))
    assert distance(tensor, (first, second, third * weights)) > 0.05
    assert distance(tensor, grid_terms((9, 9, 25)) or ()) < 1e-12


def test_odd_and_missing_paths_are_no_product_on_a_sphere() -> None:
    """The cross product 1 ⊗ 1 → 1 has no function on the sphere behind it."""
    tensor = gaunt(1, 1, 1)
    odd = tensor.copy()
    odd[1:, 1:, 1:] += clebsch_gordan(1, 1, 1)
    missing = tensor.copy()
    missing[1:, 1:, 0] = 0
    own_weight = gaunt(2, 2, 2)
    own_weight[4:, 4:, 4:] *= 1.5  # one path alone
    for other in (odd, missing, own_weight):
        assert gaunt_terms(other, 1e-10) is None
    assert gaunt_terms(tensor, 1e-10) is not None


def test_products_on_a_sphere_stay_equivariant() -> None:
    first, second, third = gaunt_terms(gaunt(2, 2, 2), 1e-10) or ()
    x, y = np.random.default_rng(5).standard_normal((2, 10, 9))
    for rotation in rotations(2, seed=2):
        turn = wigner_blocks((0, 1, 2), rotation)
        turned = ((x @ turn.T @ first) * (y @ turn.T @ second)) @ third.T
        straight = ((x @ first) * (y @ second)) @ third.T
        assert np.abs(turned - straight @ turn.T).max() < 1e-12
        assert np.abs(turned - straight).max() > 0.1
