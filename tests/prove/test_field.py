"""The prime field against arithmetic on Python's integers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdsl.prove import field
from tdsl.prove.field import P

numbers = st.one_of(st.integers(0, P - 1), st.sampled_from([0, 1, 2, P - 1, P - 2, 1 << 31, (1 << 60) - 1]))


@pytest.fixture(autouse=True)
def wrapping() -> object:
    with np.errstate(over="ignore"):
        yield


def one(value: int) -> np.ndarray:
    return np.array([value], dtype=np.uint64)


@given(numbers, numbers)
def test_arithmetic_is_that_of_integers_modulo_p(x: int, y: int) -> None:
    assert int(field.add(one(x), one(y))[0]) == (x + y) % P
    assert int(field.subtract(one(x), one(y))[0]) == (x - y) % P
    assert int(field.multiply(one(x), one(y))[0]) == x * y % P
    assert int(field.negative(one(x))[0]) == -x % P


@given(numbers.filter(bool))
def test_what_is_not_zero_has_an_inverse(x: int) -> None:
    assert int(field.multiply(field.inverse(one(x)), one(x))[0]) == 1
    assert int(field.power(one(x), -3)[0]) == pow(x, -3, P)


def test_zero_has_none() -> None:
    with pytest.raises(field.NoElement, match="division by zero"):
        field.inverse(np.array([3, 0], dtype=np.uint64))


@pytest.mark.parametrize("length", [1, 7, 511, 513, 1100])
def test_products_of_matrices_are_exact_at_any_length(length: int) -> None:
    random = np.random.default_rng(length)
    x = np.full((2, length), P - 1, dtype=np.uint64)
    x[1] = field.drawn(random, (length,))
    y = field.drawn(random, (length, 3))
    product = field.matmul(x, y)
    for i in range(2):
        for j in range(3):
            assert int(product[i, j]) == sum(int(a) * int(b) for a, b in zip(x[i], y[:, j], strict=True)) % P


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("bij,bjk->bik", [(2, 2, 3), (2, 3, 2)]),
        ("...ij,...jk->...ik", [(2, 2, 3), (1, 3, 2)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("ii->i", [(3, 3)]),
        ("a,b,c->abc", [(2,), (3,), (2,)]),
        ("tr,rq...,qs->ts...", [(2, 3), (3, 2, 2, 2), (2, 2)]),
    ],
)
def test_einsum_agrees_with_small_integers(equation: str, shapes: list[tuple[int, ...]]) -> None:
    random = np.random.default_rng(0)
    small = [random.integers(0, 9, shape) for shape in shapes]
    found = field.einsum(equation, [x.astype(np.uint64) for x in small])
    assert np.array_equal(found.astype(np.int64), np.einsum(equation, *small))


@given(st.fractions(max_denominator=1 << 20))
def test_fractions_are_elements(value: Fraction) -> None:
    assert field.quotient(value) * value.denominator % P == value.numerator % P


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_no_number_is_no_element(value: float) -> None:
    with pytest.raises(field.NoElement):
        field.element(value)


def test_a_null_vector_is_one_and_a_regular_matrix_has_none() -> None:
    random = np.random.default_rng(0)
    wide = field.drawn(random, (4, 6))
    vector = field.null_vector(wide, random)
    assert vector is not None and vector.any()
    assert not field.matmul(wide, vector.reshape(-1, 1)).any()
    assert field.null_vector(field.drawn(random, (5, 5)), random) is None
