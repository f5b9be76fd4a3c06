"""Weights in eight bits: smaller files, float32 products, errors as stated, and what does not fit stays."""

from __future__ import annotations

import numpy as np
import pytest
from quantising import convolution, correlated, normal, optimised, product, stored, table

from tdsl.emit.storage import store
from tdsl.errors import TdslError
from tdsl.quantise.table import SCHEMES


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (lambda: product(normal(48, 40)), normal(500, 48, seed=1)),
        (lambda: convolution(normal(16, 12, 3, 3)), normal(4, 12, 9, 8, seed=1)),
        (lambda: table(normal(64, 32)), np.arange(64)),
    ],
    ids=["product", "convolution", "table"],
)
def test_a_quarter_of_the_bytes_and_the_stated_error(model, x):
    found = stored(model(), "int8", x)
    [weight] = found.storage.weights
    assert not weight.by_data and weight.how == "rounded"
    assert 0.001 < weight.error < 0.01
    assert found.error == pytest.approx(weight.error, rel=0.25)
    assert found.before - found.after > 0.5 * weight.before
    # put together at load
    assert set(optimised(found.model)) <= {"MatMul", "Conv", "Gather", "ReorderInput", "ReorderOutput"}


def test_levels_of_eight_bits_are_found_again_exactly():
    scales = np.linspace(0.5, 3, 40, dtype=np.float32)
    codes = np.random.default_rng(0).integers(-127, 128, (64, 40))
    codes[0] = 127
    found = stored(product((codes * scales).astype(np.float32)), "int8", np.eye(64, dtype=np.float32))
    assert found.storage.error < 1e-6 and found.error < 1e-6
    worse = stored(product(normal(64, 40)), "int8", np.eye(64, dtype=np.float32))
    assert worse.error > 1e-3


def test_a_zero_point_where_weights_lie_on_one_side():
    x = normal(300, 64, seed=1)
    found = stored(product(normal(64, 40) + 8), "int8", x)
    assert any(".zeros" in t.name for t in found.model.proto.graph.initializer)
    centred = stored(product(normal(64, 40)), "int8", x)
    assert not any(".zeros" in t.name for t in centred.model.proto.graph.initializer)


def test_an_outlier_costs_its_own_block_only():
    weight = normal(256, 8)
    weight[::64] *= 100
    x = np.eye(256, dtype=np.float32)
    whole = stored(product(weight), "int8(error=100%)", x)
    blocks = stored(product(weight), "int8(block=32, error=100%)", x)
    kept = np.arange(256) % 64 >= 32  # rows in blocks without an outlier
    assert _on(blocks, kept) < 0.1 * _on(whole, kept)
    plain = stored(product(normal(256, 8)), "int8", x)
    assert _on(plain, kept) < 0.1 * _on(whole, kept)


def _on(found, rows):
    missed = found.found[rows] - found.expected[rows]
    return np.linalg.norm(missed) / np.linalg.norm(found.expected[rows])


@pytest.mark.parametrize("make", [product, convolution])
def test_errors_are_fed_to_later_inputs_where_the_data_have_few_directions(make):
    if make is product:
        weight, data = normal(64, 48), correlated(2000, 64)
        calibration, held = [data[:1500]], data[1500:]
    else:
        weight = normal(8, 12, 3, 3)
        mixing = normal(12, 3, seed=9)
        images = np.einsum("ck,bkhw->bchw", mixing, normal(40, 3, 9, 8, seed=3)).astype(np.float32)
        calibration, held = [images[:30]], images[30:]
    fed = stored(make(weight), "int8", held, calibration)
    plain = stored(make(weight), "int8", held)
    assert fed.storage.weights[0].how == "error feedback" and fed.storage.weights[0].by_data
    assert fed.error < 0.7 * plain.error
    assert fed.storage.weights[0].error == pytest.approx(fed.error, rel=0.5)


def test_what_loses_too_much_stays():
    heavy = np.exp(4 * normal(64, 40)).astype(np.float32)
    found = stored(product(heavy), "int8(error=0.2%)", normal(4, 64))
    assert found.storage.weights == () and found.after == found.before and found.error == 0


def test_what_is_no_map_or_not_finite_stays():
    model = product(normal(64, 40))
    model.weights["w"] = np.where(normal(64, 40) > 2, np.inf, model.weights["w"]).astype(np.float32)
    arguments = {"block": None, "error": 0.02, "fused": False}
    assert store(model, SCHEMES["int8"], arguments).weights == ()
    model = product(normal(64, 40))
    model.proto.graph.node[0].op_type = "Foo"
    assert store(model, SCHEMES["int8"], arguments).weights == ()


def test_codes_may_be_left_to_the_runtime():
    x = normal(50, 64, seed=1)
    found = stored(product(normal(64, 48)), "int8(fused=true)", x)
    assert "DequantizeLinear" in [n.op_type for n in found.model.proto.graph.node]
    assert optimised(found.model) != ["MatMul"]
    assert found.error < 0.02


def test_rows_are_looked_up_as_codes_where_products_are_left_to_the_runtime():
    weight, ids = normal(64, 32) + 0.5 * normal(64, 1, seed=2), np.array([3, 0, 63, 3])
    fused, plain = (stored(table(weight), f"int8{how}", ids) for how in ("(fused=true)", ""))
    assert np.array_equal(fused.found, plain.found) and fused.error > 0
    assert "Cast" in optimised(fused.model)  # of the rows; the table stays in eight bits
    assert optimised(plain.model) == ["Gather"]
    blocks = stored(table(weight), "int8(block=16, fused=true)", ids)
    assert optimised(blocks.model) == ["Gather"]


@pytest.mark.parametrize(
    ("written", "message", "where"),
    [
        ("int9", "there is no way `int9` to store weights", "quantize int9"),
        ("int8(blok=32)", "int8 has no parameter blok", "blok"),
        ("int8(block=2)", "int8 cannot have block=2", "block"),
        ("int8(block=50%)", "no value for block", "block"),
        ("int8(error=0)", "int8 cannot have error=0", "error"),
        ("int8(32)", "an argument of int8 has no name", "32"),
    ],
)
def test_mistakes_are_named_where_they_stand(written, message, where):
    with pytest.raises(TdslError, match=message.replace("(", r"\(")) as caught:
        stored(product(normal(64, 40)), written, normal(4, 64))
    text = f"pipeline p {{ quantize {written} }}"
    assert caught.value.span is not None and caught.value.span.column == text.index(where) + 1
