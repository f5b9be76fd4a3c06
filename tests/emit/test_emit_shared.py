"""Tables with the same bits are stored once, turned or not; what is only close is not."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.functional import linear

import tdsl
from tdsl.emit.duplicates import share_equal_weights

WORDS, WIDTH = 200, 24


class Language(nn.Module):
    """An embedding and an output layer of the same table, as `head` says."""

    def __init__(self, head: str) -> None:
        super().__init__()
        table = torch.randn(WORDS, WIDTH, generator=torch.Generator().manual_seed(0))
        self.embedding = nn.Embedding.from_pretrained(table, freeze=False)
        weights = {
            "tied": self.embedding.weight,
            "copied": nn.Parameter(table.clone()),
            "turned": nn.Parameter(table.T.contiguous()),
            "almost": nn.Parameter(table.T.contiguous()),
            "close": nn.Parameter(table + 1e-6),
            "another": nn.Parameter(torch.randn(WORDS, WIDTH, generator=torch.Generator().manual_seed(1))),
        }
        weights["almost"].data[2, 150] += 1  # far from the entries that are compared first
        self.weight = weights[head]

    def forward(self, ids: Tensor) -> Tensor:
        states = torch.tanh(self.embedding(ids))
        return linear(states, self.weight) if len(self.weight) == WORDS else states @ self.weight


def tables(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    return [tuple(tensor.dims) for tensor in model.graph.initializer if len(tensor.dims) == 2]


def compiled(head: str, path) -> tuple[tdsl.Result, onnx.ModelProto]:
    ids = torch.randint(WORDS, (3, 5), generator=torch.Generator().manual_seed(2))
    result = tdsl.compile(Language(head).eval(), (ids,), output=path / "model.onnx")
    return result, onnx.load(path / "model.onnx")


@pytest.mark.parametrize("head", ["copied", "turned"])
def test_a_copy_is_found_and_said(head, tmp_path):
    result, model = compiled(head, tmp_path)
    assert tables(model) == [(WORDS, WIDTH)]
    [look_up] = [node for node in model.graph.node if node.op_type == "Gather"]
    assert look_up.input[0] == "embedding.weight"
    [note] = [note.text for note in result.report.notes if note.kind == "storage"]
    assert "is the transpose of embedding.weight, which is stored once: 19.2 kB less" in note


@pytest.mark.parametrize("head", ["close", "almost", "another"])
def test_what_is_no_copy_is_stored(head, tmp_path):
    result, model = compiled(head, tmp_path)
    assert sorted(tables(model)) == [(WIDTH, WORDS), (WORDS, WIDTH)]
    assert [note for note in result.report.notes if note.kind == "storage"] == []


def test_tied_tables_need_no_word(tmp_path):
    result, model = compiled("tied", tmp_path)
    assert tables(model) == [(WORDS, WIDTH)]
    assert [note for note in result.report.notes if note.kind == "storage"] == []


def test_the_same_bits_of_another_type_are_another_weight():
    nodes = [
        helper.make_node("Add", ["x", "shift"], ["h"]),
        helper.make_node("Gather", ["h", "first"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    zeros = [
        numpy_helper.from_array(np.zeros(2, kind), name)
        for kind, name in ((np.float32, "shift"), (np.int32, "first"))
    ]
    proto = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], zeros), ir_version=9)
    model = ir.serde.deserialize_model(proto)
    share_equal_weights(model)
    assert sorted(model.graph.initializers) == ["first", "shift"]


@pytest.mark.parametrize(("size", "said"), [(256, [("again", "shift", False)]), (2, [])])
def test_the_same_bits_of_one_type_and_shape_are_one_weight(size, said):
    """Only a large one is worth a word."""
    nodes = [helper.make_node("Add", ["x", "shift"], ["h"]), helper.make_node("Add", ["h", "again"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]) for name in ("x", "y")]
    ones = [numpy_helper.from_array(np.ones(size, np.float32), name) for name in ("shift", "again")]
    proto = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], ones), ir_version=9)
    model = ir.serde.deserialize_model(proto)
    shared = share_equal_weights(model)
    assert [(one.name, one.source, one.turned) for one in shared] == said
    assert list(model.graph.initializers) == ["shift"]
    assert [node.inputs[1].name for node in model.graph] == ["shift", "shift"]


@pytest.mark.parametrize("given", ["input", "output"])
def test_a_weight_that_a_user_may_replace_or_read_stays(given):
    nodes = [helper.make_node("Add", ["x", "shift"], ["h"]), helper.make_node("Add", ["h", "again"], ["y"])]
    x, y, again = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y", "again")
    )
    inputs, outputs = ([x, again], [y]) if given == "input" else ([x], [y, again])
    ones = [numpy_helper.from_array(np.ones(2, np.float32), name) for name in ("shift", "again")]
    proto = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, ones), ir_version=9)
    model = ir.serde.deserialize_model(proto)
    share_equal_weights(model)
    assert sorted(model.graph.initializers) == ["again", "shift"]


def test_the_file_holds_the_bits_of_the_table(tmp_path):
    _, model = compiled("turned", tmp_path)
    [table] = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 2]
    assert (numpy_helper.to_array(table) == Language("tied").embedding.weight.detach().numpy()).all()
