"""Tied weights are stored once: smaller files, the same bits; weights that are not tied stay as they are."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tdsl.emit import Emitted
from tdsl.emit.storage import store
from tdsl.quantise.table import SCHEMES
from tdsl.symmetry.finite import reynolds
from tdsl.symmetry.group import dihedral
from tdsl.symmetry.representation import copies, regular

sys.path.insert(0, str(Path(__file__).parents[1] / "symmetry"))
from group_convolutions import GroupNet


def file_of(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A model that returns its weights."""
    tensors = [numpy_helper.from_array(w, name) for name, w in weights.items()]
    nodes = [helper.make_node("Identity", [name], [f"{name}.out"]) for name in weights]
    outputs = [
        helper.make_tensor_value_info(f"{name}.out", TensorProto.FLOAT, w.shape)
        for name, w in weights.items()
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "weights", [], outputs, tensors), opset_imports=[helper.make_opsetid("", 20)]
    )
    model.ir_version = 9
    return model


def loaded(model: onnx.ModelProto) -> list[np.ndarray]:
    onnx.checker.check_model(model)
    known = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return known.run(None, {})


@pytest.mark.parametrize(("mirrors", "ratio"), [(False, 3.7), (True, 7.0)])
def test_kernels_of_group_convolutions_are_stored_once(mirrors, ratio):
    net = GroupNet(mirrors, 16)
    weights = {f"w{i}": layer.weight.detach().numpy() for i, layer in enumerate(net.convolutions)}
    model = file_of(weights)
    before = len(model.SerializeToString())
    emitted = Emitted.of(model)
    stored, model = store(emitted, SCHEMES["tied"], {}), emitted.whole()
    assert len(stored.weights) == 3 and stored.error == 0
    assert before / len(model.SerializeToString()) > ratio
    for found, expected in zip(loaded(model), weights.values(), strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("inside_out", [True, False])
@pytest.mark.parametrize("inside_in", [True, False])
def test_dense_layers_in_every_layout(inside_out, inside_in):
    places = regular(dihedral(3))
    out, inner = copies(places, 8, inside=inside_out), copies(places, 5, inside=inside_in)
    weight = reynolds(torch.randn(out.size, inner.size), out, inner).float().numpy()
    emitted = Emitted.of(file_of({"w": weight}))
    assert len(store(emitted, SCHEMES["tied"], {}).weights) == 1
    model = emitted.whole()
    assert np.array_equal(loaded(model)[0], weight)
    kept = sum(
        numpy_helper.to_array(t).size for t in model.graph.initializer if t.data_type == TensorProto.FLOAT
    )
    assert kept == weight.size / 6


def test_what_is_not_tied_stays():
    random = torch.Generator().manual_seed(0)
    free = torch.randn(64, 64, generator=random).numpy()
    tied = GroupNet(False, 16).convolutions[1].weight.detach().numpy().copy()
    tied[-1, -1, 1, 1] = np.nextafter(tied[-1, -1, 1, 1], np.float32(9))
    model = file_of({"free": free, "one_bit_off": tied, "small": np.ones((4, 4), np.float32)})
    emitted = Emitted.of(model)
    assert not store(emitted, SCHEMES["tied"], {}).weights
    assert emitted.whole() == model
