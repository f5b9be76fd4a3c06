"""Weights as products of signs: planted ones are found, budgets of bits are kept, each part counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from quantising import convolution, normal, optimised, product, stored, table

from tdsl.quantise.binary import factored, rank_of


def low_rank(m: int, n: int, decay: float = 1.2) -> np.ndarray:
    """A matrix whose singular values fall as i^-decay."""
    u, v = (np.linalg.qr(normal(k, min(m, n), seed=k))[0] for k in (m, n))
    return (u * np.arange(1, min(m, n) + 1.0) ** -decay) @ v.T


def relative(products, matrix: np.ndarray) -> float:
    return float(np.linalg.norm(matrix - sum(p.dense() for p in products)) / np.linalg.norm(matrix))


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (lambda: product(low_rank(192, 128)), normal(300, 192, seed=1)),
        (lambda: convolution(low_rank(128, 144).reshape(128, 16, 3, 3)), normal(4, 16, 9, 8, seed=1)),
        (lambda: table(low_rank(128, 96)), np.arange(128)),
    ],
    ids=["product", "convolution", "table"],
)
def test_the_file_holds_what_the_error_was_computed_of(model, x):
    found = stored(model(), "binary(bits=2)", x)
    [weight] = found.storage.weights
    assert 0.05 < weight.error < 0.6 and found.error == pytest.approx(weight.error, rel=0.25)
    assert not {"Where", "BitwiseAnd", "Transpose"} & set(optimised(found.model))


def test_the_products_of_the_file_are_the_dense_matrix_that_they_stand_for():
    """h·U(l·(Vᵀ(g·x))), packed in bits, equals the product with the matrix of all its parts (F32)."""
    weight = low_rank(192, 128)
    made = factored(weight.T.astype(np.float64), np.ones(192), rank_of(128, 192, 2.0))
    dense, x = sum(p.dense() for p in made), normal(50, 192, seed=1)
    found = stored(product(weight), "binary(bits=2)", x)
    assert np.abs(found.found - x @ dense.T).max() < 2e-3 * np.abs(found.found).max()  # scales are halves
    assert np.linalg.norm(found.found - x @ weight) > 0.05 * np.linalg.norm(found.found)


@pytest.mark.parametrize("bits", [0.3, 0.55, 1.0])
def test_no_more_bits_than_asked_for(bits):
    found = stored(product(low_rank(1024, 768)), f"binary(bits={bits}, error=100%)", normal(2, 1024))
    assert found.storage.weights
    assert 0.8 * bits < 8 * (found.after - 2500) / (1024 * 768) <= bits  # but for names and operators
    assert rank_of(4096, 4096, 0.1) == 80 and rank_of(4096, 4096, 0.55) == 544


def test_one_product_of_signs_is_found_again():
    random = np.random.default_rng(0)
    u, v = random.choice([-1.0, 1.0], (96, 1)), random.choice([-1.0, 1.0], (64, 1))
    matrix = u @ v.T * (2.0 ** random.integers(-3, 1, (96, 1))) * (2.0 ** random.integers(-3, 1, 64))
    assert relative(factored(matrix, np.ones(64), 8, paths=1), matrix) < 1e-3
    assert (
        relative(factored(normal(96, 64).astype(np.float64), np.ones(64), 8, paths=1), normal(96, 64)) > 0.8
    )


def test_the_second_product_and_the_numbers_of_ranks_count():
    matrix = low_rank(512, 384, decay=0.5)
    one, two = (factored(matrix, np.ones(384), 64, paths=paths) for paths in (1, 2))
    assert relative(two, matrix) < 0.9 * relative(one, matrix)
    steep = low_rank(512, 384, decay=1.5)
    made = factored(steep, np.ones(384), 64, paths=1)
    same = [replace(made[0], ranks=np.full(64, made[0].ranks.mean()))]
    assert relative(same, steep) > 1.2 * relative(made, steep)


def test_columns_that_matter_lose_less():
    matrix, importance = low_rank(128, 96, decay=0.3), np.where(np.arange(96) < 16, 100.0, 1.0)
    weighed, plain = (
        factored(matrix, by, 32) for by in (np.sqrt(importance / importance.max()), np.ones(96))
    )

    def lost(products) -> float:
        return float(np.linalg.norm((matrix - sum(p.dense() for p in products))[:, :16]))

    assert lost(weighed) < 0.8 * lost(plain)


def test_weights_without_low_rank_stay():
    found = stored(product(normal(192, 128)), "binary", normal(4, 192))
    assert found.storage.weights == () and found.error == 0
