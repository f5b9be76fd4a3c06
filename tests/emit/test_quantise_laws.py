"""What holds of every scheme: the error that is stated is that of the file, whatever shapes and scales."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from quantising import convolution, normal, product, stored, table

from tdsl.emit import Emitted, session
from tdsl.emit.reads import readings
from tdsl.emit.runtime import run
from tdsl.emit.storage import store
from tdsl.quantise.table import SCHEMES

LOSSY = [s for s in SCHEMES.values() if s.lossy and s.name != "binary"]
ANY_ERROR = [f"{s.name}(error=100%)" if "error" in s.declared else f"{s.name}(kept=30%)" for s in LOSSY]
ANY_ERROR.append("binary(bits=4, error=100%)")  # in fewer, these weights are too small for it


@st.composite
def weights(draw: st.DrawFn) -> np.ndarray:
    """[n, m] of any scale, with rows and columns of their own scales, some of them zero."""
    n, m = draw(st.integers(48, 99)), draw(st.integers(32, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scales = [2.0 ** random.integers(-spread, spread + 1, k) for spread, k in ((4, n), (8, m))]
    found = random.standard_normal((n, m)) * scales[0][:, None] * scales[1] * 10.0 ** draw(st.integers(-9, 9))
    found[:, random.random(m) < draw(st.sampled_from([0, 0, 0.3, 1]))] = 0
    return found.astype(np.float32)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(weight=weights())
@pytest.mark.parametrize("written", [*ANY_ERROR, "int4(block=16, error=100%)", "int8(block=16, error=100%)"])
def test_the_stated_error_is_that_of_the_file(written, weight):
    found = stored(product(weight), written, np.eye(len(weight), dtype=np.float32))
    assert np.isfinite(found.found).all()
    assert found.storage.weights or written.startswith("f16")  # which has no numbers beyond 65 504
    whole = np.linalg.norm(weight.astype(np.float64))
    lost = np.linalg.norm(found.found.astype(np.float64) - weight)
    error = lost / whole if whole > 0 else 0.0
    assert error == pytest.approx(found.storage.error, rel=1e-4, abs=1e-7)
    assert found.after <= found.before
    assert found.storage.saved_bytes <= found.before - found.after


@pytest.mark.parametrize("written", [*ANY_ERROR, "int4(block=16, error=100%)", "int8(block=16, error=100%)"])
def test_weights_whose_first_axis_counts_outputs(written):
    weight = normal(96, 40) * 2.0 ** np.random.default_rng(1).integers(-3, 4, (96, 1))
    rows = stored(table(weight), written, np.arange(96))
    assert rows.storage.weights and rows.error == pytest.approx(rows.storage.error, rel=1e-4)
    kernel = normal(40, 12, 3, 3) * 2.0 ** np.random.default_rng(1).integers(-3, 4, (40, 1, 1, 1))
    image = stored(convolution(kernel), written, normal(4, 12, 9, 8, seed=1))
    assert image.storage.weights and image.error == pytest.approx(image.storage.error, rel=0.25)


@pytest.mark.parametrize("written", ANY_ERROR)
def test_the_same_weights_give_the_same_bytes(written):
    one, other = (stored(product(normal(64, 48)), written, normal(2, 64)) for _ in range(2))
    assert one.storage.weights and one.model.whole() == other.model.whole()


@pytest.mark.parametrize("written", [one for one in ANY_ERROR if not one.startswith("f16")])
def test_what_is_no_map_stays_as_it_is(written):
    assert stored(product(normal(64, 64)), written, normal(2, 64)).storage.weights
    model = product(normal(64, 64))
    model.proto.graph.node[0].op_type = "Mul"
    assert not stored(model, written, normal(64, 64)).storage.weights


def test_who_reads_a_weight_and_as_which_map():
    def node(operator, inputs, result, **attributes):
        return helper.make_node(operator, inputs, [result], f"{operator}.{result}", **attributes)

    nodes = [
        node("Gather", ["tied", "ids"], "rows"),
        node("Transpose", ["tied"], "turned", perm=[1, 0]),
        node("MatMul", ["rows", "turned"], "logits"),
        node("Gemm", ["rows", "gemm"], "g", transB=1),
        node("Gemm", ["rows", "turned_gemm"], "h", transA=1),
        node("Mul", ["logits", "scale"], "scaled"),
        node("Gather", ["other_axis", "ids"], "columns", axis=1),
    ]
    shapes = {"tied": (50, 8), "gemm": (9, 8), "turned_gemm": (8, 9), "scale": (50, 50), "other_axis": (5, 9)}
    tensors = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in shapes.items()]
    value = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    found = readings(Emitted.of(helper.make_model(helper.make_graph(nodes, "g", [value], [], tensors))).proto)
    table, head = found["tied"]
    assert table is not None and table.rows_first and table.use == "look-up" and table.applied_to == ""
    assert head is not None and head.rows_first and head.use == "" and head.applied_to == "rows"
    [gemm], [turned] = found["gemm"], found["turned_gemm"]
    assert gemm is not None and gemm.rows_first and gemm.applied_to == "rows"
    assert turned is not None and not turned.rows_first and turned.applied_to == ""
    assert found["scale"] == [None] and found["other_axis"] == [None]


def test_a_table_that_a_branch_reads_too_stays_whole():
    text = """
        <ir_version: 10, opset_import: ["" : 21]>
        g (int64[2] ids, bool flag) => (float[2, 32] y) {
            rows = Gather(w, ids)
            y = If(flag) <
                then_branch = a () => (float[2, 32] ya) { ya = Gather(w, ids) },
                else_branch = b () => (float[2, 32] yb) { yb = Identity(rows) }>
        }
    """
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(normal(64, 32), "w"))
    emitted = Emitted.of(model)
    assert readings(emitted.proto)["w"][1:] == [None]
    given = {"ids": torch.tensor([3, 5]), "flag": torch.tensor(True)}
    expected = run(session(emitted), given)["y"]
    arguments = {"block": None, "error": 0.02, "fused": True}
    assert store(emitted, SCHEMES["int8"], arguments).weights
    for flag in (True, False):
        found = run(session(emitted), {**given, "flag": torch.tensor(flag)})["y"]
        assert 0 < np.abs(found - expected).max() < 0.05
