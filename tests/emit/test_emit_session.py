"""Sessions of models whose weights stand beside them: the same bits, however onnxruntime gets them."""

import gc
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from tdsl.emit import Emitted, run, runtime, save, session


@pytest.fixture
def emitted():
    """A convolution, a dense layer whose weight is a turned view, and a table."""
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.standard_normal((32, 16, 3, 3)).astype(np.float32),
        "dense": rng.standard_normal((48, 32)).astype(np.float32).T,
        "table": rng.standard_normal((100, 48)).astype(np.float32),
    }
    graph = onnx.parser.parse_graph(
        """g (float[1,16,8,8] x, int64[5] i) => (float[1,8,8,48] y, float[5,48] z) {
            c = Conv <pads=[1,1,1,1]> (x, kernel)
            t = Transpose <perm=[0,2,3,1]> (c)
            y = MatMul (t, dense)
            z = Gather (table, i)
        }"""
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    for name, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
    apart = Emitted.of(model)
    apart.weights.update(weights)
    return apart


@pytest.fixture
def feeds():
    rng = np.random.default_rng(1)
    return {"x": rng.standard_normal((1, 16, 8, 8)).astype(np.float32), "i": np.array([0, 99, 7, 7, 3])}


def test_the_bits_are_those_of_the_file(emitted, feeds, tmp_path, monkeypatch):
    save(emitted, tmp_path / "model.onnx")
    expected = run(session(tmp_path / "model.onnx"), feeds)
    for mapped in (0, 2**40):
        monkeypatch.setattr(runtime, "MAPPED", mapped)
        found = run(session(emitted), feeds)
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
    np.testing.assert_array_equal(expected["z"], emitted.weights["table"][feeds["i"]])


def test_large_weights_pass_through_a_file_that_goes_with_the_session(emitted, feeds, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "MAPPED", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = session(emitted)
    assert [path.name for path in tmp_path.glob("*/weights")] == ["weights"]
    run(opened, feeds)
    del opened
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_without_room_for_the_file_weights_are_handed_over(emitted, feeds, monkeypatch):
    expected = run(session(emitted), feeds)
    written = []

    def full(model, file: Path, data: Path, location):
        written.append(data)
        raise OSError("no space left on device")

    monkeypatch.setattr(runtime, "MAPPED", 0)
    monkeypatch.setattr(runtime, "write_apart", full)
    np.testing.assert_array_equal(run(session(emitted), feeds)["y"], expected["y"])
    assert written and not written[0].parent.exists()


def test_a_summand_that_onnxruntime_turns_stays_turned(tmp_path):
    """A table of places on images with channels last: the transposes around it cancel, and it is turned."""
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.standard_normal((8, 3, 1, 1)).astype(np.float32),
        "places": rng.standard_normal((1, 8, 8, 8)).astype(np.float32),
        "head": rng.standard_normal((4, 8, 1, 1)).astype(np.float32),
    }
    graph = onnx.parser.parse_graph(
        """g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
            c = Conv (x, kernel)
            last = Transpose <perm=[0,2,3,1]> (c)
            placed = Add (last, places)
            first = Transpose <perm=[0,3,1,2]> (placed)
            y = Conv (first, head)
        }"""
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    for name, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    apart = Emitted.of(model)
    assert "places" in apart.weights
    save(apart, tmp_path / "model.onnx")
    x = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
    wanted = np.einsum("oi,ihw->ohw", weights["kernel"][..., 0, 0], x[0])
    wanted = np.einsum(
        "oi,ihw->ohw", weights["head"][..., 0, 0], wanted + weights["places"][0].transpose(2, 0, 1)
    )
    for opened in (session(tmp_path / "model.onnx"), session(apart)):
        np.testing.assert_allclose(run(opened, {"x": x})["y"][0], wanted, rtol=1e-4, atol=1e-4)
