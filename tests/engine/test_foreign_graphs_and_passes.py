"""Graphs and passes of users that do not keep to the rules of the house: what they are told."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

import tdsl
from tdsl.capture import capture


def two_layers(x, a, b):
    return nn.functional.linear(nn.functional.linear(x, a), b)


def one_layer(x, a, b):
    return nn.functional.linear(x, b @ a)


@pytest.fixture
def merging():
    return tdsl.RulePass([tdsl.rule(two_layers, one_layer)])


class Called(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x):
        return self.call(x)


@pytest.mark.parametrize(
    "model, what",
    [
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU()), "_0 is the call_module 0"),
        (Called(torch.relu), "relu is the call_function"),
        (Called(lambda x: x.relu()), "relu is the call_method relu"),
    ],
)
def test_a_trace_of_python_calls_is_refused(merging, model, what):
    with pytest.raises(tdsl.TdslError, match=f"the graph is not in normal form: {what}") as caught:
        merging(fx.symbolic_trace(model))
    assert "tdsl.capture.capture" in caught.value.hint


def test_the_same_model_captured_is_rewritten(merging):
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.Linear(6, 5, bias=False)).eval()
    captured = capture(model, (torch.randn(2, 4),)).module
    assert merging(captured).modified


def test_sizes_that_are_computed_are_part_of_the_normal_form(merging):
    sizes = {"x": {0: "rows"}}
    module = capture(
        Called(lambda x: x.reshape(2 * x.shape[0], -1)), (torch.ones(2, 4),), dynamic_shapes=sizes
    )
    assert not merging(module.module).modified


def test_a_module_without_a_graph_is_no_place_for_a_pattern():
    with pytest.raises(tdsl.TdslError, match="a ReLU has no graph") as caught:
        tdsl.replace_pattern(nn.ReLU(), torch.relu, torch.tanh)
    assert "torch.fx.symbolic_trace" in caught.value.hint


class Careless(tdsl.GraphPass):
    """Takes another activation, calls that exact, and never asks whether it is to stop."""

    name = "house.careless"

    def rewrite(self, module, journal, scope=None):
        found = module.graph.find_nodes(op="call_function", target=torch.ops.aten.relu.default)
        for node in found:
            node.target = torch.ops.aten.tanh.default
            journal.note(self.name, node)
        return len(found)


def test_a_pass_that_never_stops_is_blamed_all_the_same(tmp_path):
    path = tmp_path / "house.tdsl"
    path.write_text("pipeline house {\n    once house.careless\n}\n", encoding="utf-8")
    library = tdsl.load(path)
    library.add(Careless)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    with pytest.raises(tdsl.BrokenContract) as caught:
        tdsl.compile(model, (torch.randn(2, 4),), pipeline="house", rules=library, latency=False)
    assert caught.value.hint.startswith("rewrite 1, house.careless at 1")
