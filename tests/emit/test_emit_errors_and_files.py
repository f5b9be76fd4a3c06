"""Files are written whole or not at all, and what cannot be emitted is explained."""

import errno
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from tdsl.capture import capture
from tdsl.emit import emit, run, save, session
from tdsl.errors import TdslError


class Inner(nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x)  # ONNX has no such operator


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def forward(self, x):
        return self.inner(x) + 1


@pytest.fixture(scope="module")
def captured():
    return capture(nn.Sequential(nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 3)).eval(), torch.randn(2, 20))


@pytest.fixture(scope="module")
def proto(captured):
    return emit(captured)


def test_an_operator_without_an_onnx_form_is_named_with_its_line():
    with pytest.raises(TdslError) as caught:
        emit(capture(Outer(), torch.randn(3, 4)))
    text = str(caught.value)
    assert "aten.linalg_svdvals.default" in text and "module `inner`" in text
    assert "return torch.linalg.svdvals(x)" in text and "test_emit_errors_and_files.py:" in text
    assert len(text.splitlines()) <= 6


@pytest.mark.parametrize("opset", [7, 99])
def test_an_opset_out_of_range_is_refused(captured, opset):
    with pytest.raises(TdslError, match=f"opset {opset}"):
        emit(captured, opset=opset)


def test_a_saved_file_is_the_model_and_replaces_the_old_one(captured, proto, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("old")
    save(proto, path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(str(path), full_check=True)
    feeds = dict(zip(captured.input_names, captured.args, strict=True))
    np.testing.assert_array_equal(*(run(session(m), feeds)["output"] for m in (proto, path)))


def test_a_large_model_has_its_weights_beside_it(captured, proto, tmp_path):
    path = tmp_path / "model.onnx"
    save(proto, path, limit=1000)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert path.stat().st_size < 1500 < (tmp_path / "model.onnx.data").stat().st_size
    onnx.checker.check_model(str(path), full_check=True)
    feeds = dict(zip(captured.input_names, captured.args, strict=True))
    np.testing.assert_array_equal(*(run(session(m), feeds)["output"] for m in (proto, path)))
    assert not any(i.external_data for i in proto.graph.initializer)


@pytest.mark.parametrize("limit", [1000, 2**31])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(proto, tmp_path, monkeypatch, limit):
    path = tmp_path / "model.onnx"
    path.write_text("old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TdslError, match="No space left on device"):
        save(proto, path, limit=limit)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"] and path.read_text() == "old"


@pytest.mark.parametrize("place", ["missing/model.onnx", "."])
def test_a_path_that_cannot_be_written_is_explained(proto, tmp_path, place):
    with pytest.raises(TdslError, match="cannot write"):
        save(proto, tmp_path / place)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_device_cannot_become_a_directory(proto):
    with pytest.raises(TdslError, match="cannot write"):
        save(proto, "/dev/full/model.onnx")


def test_a_session_runs_on_one_thread_and_repeats_itself(captured, proto):
    runner = session(proto)
    assert isinstance(runner, onnxruntime.InferenceSession)
    assert runner.get_session_options().intra_op_num_threads == 1
    feeds = {captured.input_names[0]: captured.args[0].numpy(), "not an input": np.zeros(1)}
    first, second = run(runner, feeds), run(runner, feeds)
    np.testing.assert_array_equal(first["output"], second["output"])
