"""Where a node came from: rule upon rule, down to the line of the model, and into the file."""

from __future__ import annotations

import inspect

import pytest
import torch
from rewriting import apply, graph_of, run_pipeline
from torch import fx, nn

from tdsl.emit import emit
from tdsl.provenance import Origin, Rewrite, module_path, origins_of, provenance, rules_of, source_line

RULES = """
rule merge {
    linear(linear(x: [..., n], A: const [k, n], a?), B: const [m, k], b?)
  =>
    linear(x, B @ A, B @ a + b)
}

rule scale {
    mul(linear(x, W: const [m, n], b?: const), a: const [m])
  =>
    linear(x, W * reshape(a, [m, 1]), b * a)
}

rule gate {
    relu(linear(x, W, b?))
  =>
    maximum(linear(x, W, b), 0 * linear(x, W, b))
}
"""


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
        self.gamma = nn.Parameter(torch.randn(4))

    def forward(self, x):
        y = self.inner(x)
        return torch.tanh(y * self.gamma)


def line_of(text: str) -> str:
    """`test_provenance.py:LINE` of the line of `Scaled` that reads so."""
    lines, first = inspect.getsourcelines(Scaled)
    (offset,) = [i for i, line in enumerate(lines) if line.strip() == text]
    return f"test_provenance.py:{first + offset}"


@pytest.fixture(scope="module")
def scaled():
    return apply(RULES, graph_of(Scaled(), torch.randn(2, 4)))


def node(module: fx.GraphModule, name: str) -> fx.Node:
    (found,) = [n for n in module.graph.nodes if n.op == "call_function" and name in str(n.target)]
    return found


def test_a_node_of_two_rules_knows_both_in_the_order_they_were_applied(scaled):
    record = provenance(node(scaled.module, "linear"))
    assert isinstance(record, Rewrite)
    assert rules_of(record) == tuple(entry.rule for entry in scaled.journal.entries)
    assert set(rules_of(record)) == {"rules.merge", "rules.scale"}
    assert record.number == 2


def test_it_knows_every_node_of_the_model_that_it_stands_for(scaled):
    origins = origins_of(provenance(node(scaled.module, "linear")))
    assert sorted(o.node for o in origins) == ["linear", "linear_1", "mul"]
    assert {o.node: o.module for o in origins} == {"linear": "inner.0", "linear_1": "inner.1", "mul": ""}
    (product,) = [o for o in origins if o.node == "mul"]
    assert product.source.endswith(line_of("return torch.tanh(y * self.gamma)"))


def test_a_node_that_no_rule_touched_is_its_own_origin(scaled):
    untouched = node(scaled.module, "tanh")
    record = provenance(untouched)
    assert isinstance(record, Origin) and record.node == "tanh"
    assert rules_of(record) == () and origins_of(record) == (record,)
    assert source_line(untouched).endswith(line_of("return torch.tanh(y * self.gamma)"))


def test_every_new_node_and_weight_has_a_record_and_only_those(scaled):
    old = {n.name for n in scaled.captured.module.graph.nodes if n.name != "linear"}
    for n in scaled.module.graph.nodes:
        assert isinstance(provenance(n), Rewrite) == (n.name not in old and n.op != "output")
    weights = scaled.module.graph.find_nodes(op="get_attr")
    assert weights and all(isinstance(provenance(w), Rewrite) for w in weights)


def test_all_nodes_of_one_rewrite_share_its_record_and_the_place_of_its_root():
    graph = graph_of(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.randn(2, 4))
    result = apply(RULES, graph, select="gate")
    made = [n for n in result.module.graph.nodes if n.op == "call_function"]
    assert len(made) == 4
    assert len({id(provenance(n)) for n in made}) == 1
    assert {module_path(n) for n in made} == {"1"}


def test_the_journal_says_what_was_replaced_where(scaled):
    entries = scaled.journal.entries
    assert [e.number for e in entries] == [1, 2]
    (scale,) = [e for e in entries if e.rule == "rules.scale"]
    assert scale.source.endswith(line_of("return torch.tanh(y * self.gamma)"))
    assert "mul" in scale.replaced
    assert sum(e.saved_nodes for e in entries) == 2
    assert sum(e.saved_parameters for e in entries) == (4 * 8 + 8 + 8 * 4 + 4 + 4) - (4 * 4 + 4)


def notes(proto) -> dict[str, dict[str, str]]:
    return {n.op_type: {p.key: p.value for p in n.metadata_props} for n in proto.graph.node}


def test_the_chain_of_rules_and_the_users_lines_reach_the_file(scaled):
    told = notes(emit(scaled.captured, scaled.module))
    applied = [entry.rule for entry in scaled.journal.entries]
    assert told["Gemm"]["tdsl.rules"] == " > ".join(applied)
    assert line_of("return torch.tanh(y * self.gamma)") in told["Gemm"]["tdsl.source"]
    assert "inner.0" in told["Gemm"]["tdsl.source"] and "inner.1" in told["Gemm"]["tdsl.source"]
    assert told["Tanh"] == {}


def test_the_file_of_an_untouched_model_tells_of_no_rules(scaled):
    assert not any("tdsl.rules" in note for note in notes(emit(scaled.captured)).values())


def test_a_pass_leaves_a_record_as_a_rule_does():
    graph = graph_of(lambda x, w: x + torch.exp(w), torch.randn(3), w=torch.randn(3))
    result = run_pipeline("pipeline p {\n    once cleanup.fold_constants\n}\n", graph)
    (weight,) = result.module.graph.find_nodes(op="get_attr")
    record = provenance(weight)
    assert rules_of(record) == ("cleanup.fold_constants",)
    assert [o.node for o in origins_of(record)] == ["exp"]
