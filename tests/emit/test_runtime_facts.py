"""What the emitter takes for granted of onnx and onnxruntime (S21): a new release that differs fails here."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper


def run(model: onnx.ModelProto, x: np.ndarray, **settings: str) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for key, value in settings.items():
        options.add_session_config_entry(f"session.{key}", value)
    opened = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return np.asarray(opened.run(None, {"x": x})[0])


def model_of(nodes: list[onnx.NodeProto], width: int, **held: object) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "facts",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 64])],
        **held,  # type: ignore[arg-type]
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(made)
    return made


@pytest.mark.parametrize("name", ["Eigh", "Eig", "SVD", "Svd", "QR", "Cholesky", "SparseMatMul", "Inverse"])
def test_no_decomposition_of_matrices_is_an_operator(name: str) -> None:
    """So factorizations are made before the file is, and functions of matrices are unrolled."""
    assert not onnx.defs.has(name)


@pytest.mark.parametrize(
    "name", ["DFT", "STFT", "Det", "Einsum", "TopK", "Scan", "BitShift", "MatMulInteger", "DequantizeLinear"]
)
def test_what_lowerings_may_use_is_there(name: str) -> None:
    assert onnx.defs.has(name)


def test_no_type_has_one_bit() -> None:
    """So signs are packed into bytes."""
    names = set(TensorProto.DataType.keys())
    assert {"INT4", "UINT4", "FLOAT4E2M1"} <= names and not names & {"INT1", "UINT1", "BIT"}


def entries(share: float) -> np.ndarray:
    drawn = np.random.default_rng(0)
    return (drawn.standard_normal((64, 64)) * (drawn.random((64, 64)) < share)).astype(np.float32)


def sparse(weight: np.ndarray) -> onnx.SparseTensorProto:
    places = np.flatnonzero(weight).astype(np.int64)
    values = numpy_helper.from_array(weight.reshape(-1)[places], "w")
    return helper.make_sparse_tensor(values, numpy_helper.from_array(places, "w_places"), list(weight.shape))


def test_a_sparse_initializer_is_smaller_and_computes_the_same() -> None:
    weight, node = entries(0.03), helper.make_node("MatMul", ["x", "w"], ["y"])
    thin = model_of([node], 64, sparse_initializer=[sparse(weight)])
    dense = model_of([node], 64, initializer=[numpy_helper.from_array(weight, "w")])
    x = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)
    assert np.array_equal(run(thin, x), run(dense, x)) and run(dense, x).std() > 0.1
    assert len(thin.SerializeToString()) < 0.15 * len(dense.SerializeToString())
    assert len(dense.SerializeToString()) > 64 * 64 * 4  # the control: zeros are stored
    full = entries(1.0)
    assert len(sparse(full).SerializeToString()) > 2 * full.nbytes


def test_products_of_codes_shift_outputs_unless_the_accuracy_is_pinned() -> None:
    """Four bits and a product are one operator of onnxruntime, which rounds inputs to eight bits."""
    drawn = np.random.default_rng(2)
    codes = drawn.integers(-8, 8, (128, 64)).astype(np.int8)
    packed = helper.make_tensor("c", TensorProto.INT4, [128, 64], codes.reshape(-1).tolist())
    scales = np.full((4, 64), 0.1, dtype=np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["c", "s"], ["w"], axis=0, block_size=32),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    made = model_of(nodes, 128, initializer=[packed, numpy_helper.from_array(scales, "s")])
    x = drawn.standard_normal((5, 128)).astype(np.float32)
    expected = x @ (codes * 0.1).astype(np.float32)
    off = {level: run(made, x, qdq_matmulnbits_accuracy_level=level) - expected for level in ("0", "4")}
    relative = {level: float(np.linalg.norm(d) / np.linalg.norm(expected)) for level, d in off.items()}
    assert relative["0"] < 1e-5 and 1e-3 < relative["4"] < 2e-2
