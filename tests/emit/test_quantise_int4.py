"""Weights in four bits by blocks: an eighth of the bytes and scales, errors fed back where data say how."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto
from quantising import convolution, correlated, normal, optimised, product, stored, table

from tdsl.errors import TdslError


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (lambda: product(normal(96, 80)), normal(500, 96, seed=1)),
        (lambda: convolution(normal(20, 12, 3, 3)), normal(4, 12, 9, 8, seed=1)),
        (lambda: table(normal(96, 64)), np.arange(96)),
    ],
    ids=["product", "convolution", "table"],
)
def test_four_bits_and_half_a_bit_of_scales(model, x):
    found = stored(model(), "int4", x)
    [weight] = found.storage.weights
    assert 0.05 < weight.error < 0.12 and weight.after < 0.4 * weight.before
    assert found.error == pytest.approx(weight.error, rel=0.25)
    [codes] = [t for t in found.model.proto.graph.initializer if t.data_type == TensorProto.INT4]
    assert codes.name == "w.codes" and len(codes.raw_data) == -(-np.prod(codes.dims) // 2)
    half = sum(
        2 * np.prod(t.dims) for t in found.model.proto.graph.initializer if t.data_type == TensorProto.FLOAT16
    )
    assert len(codes.raw_data) + half <= 4.6 / 32 * weight.before
    assert not {"DequantizeLinear", "Cast", "Mul"} & set(optimised(found.model))


def test_levels_of_four_bits_are_found_again():
    random = np.random.default_rng(0)
    codes = random.integers(-7, 8, (3, 32, 40))
    codes[:, 0] = -8
    scales = 2.0 ** random.integers(-4, 3, (3, 1, 40))  # that float16 has
    found = stored(product((codes * scales).reshape(96, 40).astype(np.float32)), "int4", normal(20, 96))
    assert found.error < 1e-6
    other = stored(
        product((codes * scales).reshape(96, 40).astype(np.float32)), "int4(block=96)", normal(20, 96)
    )
    assert other.storage.weights == () or other.error > 1e-2  # blocks of another size do not fit


@pytest.mark.parametrize(("inputs", "outputs"), [(50, 41), (33, 17), (20, 15)])
def test_inputs_that_blocks_do_not_divide_are_shared_out_among_smaller_ones(inputs, outputs):
    for model in (product(normal(inputs, outputs)), table(normal(outputs, inputs))):
        x = (
            normal(30, inputs, seed=1)
            if model.proto.graph.node[0].op_type == "MatMul"
            else np.arange(outputs)
        )
        found = stored(model, "int4(block=32)", x)
        assert found.storage.weights and 0.02 < found.error < 0.15


def test_error_feedback_pays_where_the_data_have_few_directions():
    weight, data = normal(96, 64), correlated(3000, 96)
    plain = stored(product(weight), "int4", data[2000:])
    fed = stored(product(weight), "int4", data[2000:], [data[:2000]])
    assert fed.storage.weights[0].how == "error feedback"
    assert fed.error < 0.5 * plain.error
    assert fed.storage.error == pytest.approx(fed.error, rel=0.3)
    white = normal(3000, 96, seed=4)
    plain = stored(product(weight), "int4", white[2000:])
    fed = stored(product(weight), "int4", white[2000:], [white[:2000]])
    assert fed.error > 0.9 * plain.error  # nothing to gain


def test_weights_on_one_side_get_zero_points():
    found = stored(product(np.abs(normal(96, 64)) + 1), "int4", normal(300, 96, seed=1))
    zeros = [t for t in found.model.proto.graph.initializer if t.name.endswith(".zeros")]
    assert len(zeros) == 1 and zeros[0].data_type == TensorProto.INT4
    centred = stored(product(normal(96, 64)), "int4", normal(300, 96, seed=1))
    assert not any(t.name.endswith(".zeros") for t in centred.model.proto.graph.initializer)


@pytest.mark.parametrize("side", [1, -1])
def test_a_zero_point_spends_no_codes_beyond_the_smaller_side(side):
    """Sixteen levels over [−¼, 1] are 1/12 apart, √12 times the error; over [−1, 1] they are 1/8 apart."""
    weight = (side * np.random.default_rng(0).uniform(-0.25, 1, (96, 64))).astype(np.float32)
    found = stored(product(weight), "int4", np.eye(96, dtype=np.float32))
    assert any(t.name.endswith(".zeros") for t in found.model.proto.graph.initializer)
    level = 1.25 / 15 / np.sqrt(12) / np.sqrt(np.square(weight).mean())
    assert found.error == pytest.approx(found.storage.error, rel=1e-3)
    assert 0.8 * level < found.error < 1.05 * level


def test_a_product_may_be_left_to_the_runtime():
    x = normal(50, 96, seed=1)
    fused = stored(product(normal(96, 64)), "int4(fused=true)", x)
    assert optimised(fused.model) == ["MatMulNBits"]
    plain = stored(product(normal(96, 64)), "int4", x)
    assert optimised(plain.model) == ["MatMul"]
    assert fused.error == pytest.approx(plain.error, rel=0.05)
    shifted = stored(product(np.abs(normal(96, 64)) + 1), "int4(fused=true)", x)
    assert shifted.error < 0.1


def test_finer_blocks_lose_less_and_take_more():
    x = normal(300, 128, seed=1)
    fine, coarse = (stored(product(normal(128, 64)), f"int4(block={b})", x) for b in (16, 128))
    assert fine.error < 0.85 * coarse.error and fine.after > coarse.after


@pytest.mark.parametrize("written", ["int4(block=4)", "int4(block=-32)", "int4(error=200%)"])
def test_arguments_out_of_range_are_refused(written):
    with pytest.raises(TdslError, match="int4 cannot have"):
        stored(product(normal(64, 40)), written, normal(4, 64))
