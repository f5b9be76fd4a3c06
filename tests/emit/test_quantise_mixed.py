"""Weights in one and four bits: the bits that the file takes, the loss that theory says, inputs by data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from quantising import convolution, correlated, normal, optimised, product, stored, table

from tdsl.errors import TdslError
from tdsl.quantise.declare import Weight
from tdsl.quantise.mixed import Parts, best_signs, by_weight


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (lambda: product(normal(96, 80)), normal(500, 96, seed=1)),
        (lambda: convolution(normal(40, 12, 3, 3)), normal(4, 12, 9, 8, seed=1)),
        (lambda: table(normal(96, 64)), np.arange(96)),
    ],
    ids=["product", "convolution", "table"],
)
def test_the_file_holds_what_the_error_was_computed_of(model, x):
    found = stored(model(), "mixed", x)
    [weight] = found.storage.weights
    assert 0.4 < weight.error < 0.6
    assert found.error == pytest.approx(weight.error, rel=0.25)
    assert not {"Where", "Concat", "BitwiseAnd"} & set(optimised(found.model))


def test_signs_of_normal_weights_lose_what_they_must():
    matrix = normal(64, 4096).astype(np.float64)
    positive, scale = best_signs(matrix, np.ones(4096))
    missed = matrix - np.where(positive, scale[:, None], -scale[:, None])
    assert (missed**2).sum() / (matrix**2).sum() == pytest.approx(1 - 2 / math.pi, abs=0.003)
    assert scale == pytest.approx(np.full(64, math.sqrt(2 / math.pi)), rel=0.05)
    uniform = np.sign(matrix) * 3
    positive, scale = best_signs(uniform, np.ones(4096))
    assert np.array_equal(np.where(positive, scale[:, None], -scale[:, None]), uniform)


def test_at_most_1_65_bits_a_number_of_a_large_layer():
    found = stored(product(normal(2048, 2048)), "mixed", normal(2, 2048))
    bits = 8 * found.after / 2048**2
    assert 1.6 < bits <= 1.65
    more = stored(product(normal(512, 512)), "mixed(kept=50%)", normal(2, 512))
    assert 8 * more.after / 512**2 > 2.5


def test_inputs_chosen_by_data_lose_less_than_others():
    sizes = np.where(np.arange(128) % 5 == 0, 10.0, 0.3)
    data = normal(2000, 128, seed=3) * sizes
    weight = Weight(normal(128, 64), False, (data.T @ data) / len(data))

    def error(order: np.ndarray) -> float:
        parts = Parts(weight, order, 96)
        parts.round()
        return weight.error(parts.rebuilt())

    by_data, ones = by_weight(weight.flat, weight.importance, 0.2)
    assert ones == 96 and set(range(0, 128, 5)) < set(by_data[ones:])
    others = np.random.default_rng(0).permutation(128)
    assert error(by_data) < 0.5 * error(others)


def test_error_feedback_pays_where_the_data_have_few_directions():
    weight, data = normal(96, 64), correlated(3000, 96)
    plain = stored(product(weight), "mixed", data[2000:])
    fed = stored(product(weight), "mixed", data[2000:], [data[:2000]])
    assert fed.storage.weights[0].how == "error feedback"
    assert fed.error < 0.5 * plain.error


def test_what_one_bit_ruins_stays():
    found = stored(product(normal(96, 80)), "mixed(error=30%)", normal(4, 96))
    assert found.storage.weights == () and found.error == 0
    with pytest.raises(TdslError, match="mixed cannot have kept=1"):
        stored(product(normal(96, 80)), "mixed(kept=100%)", normal(4, 96))
