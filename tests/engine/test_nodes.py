"""Nodes made and erased on the tables of an FX graph: the graph is what FX's own methods leave."""

from __future__ import annotations

import pytest
import torch
from torch import fx

from tdsl.engine.nodes import erase, insert_after

ADD, MUL = torch.ops.aten.add.Tensor, torch.ops.aten.mul.Tensor


@pytest.fixture
def module() -> fx.GraphModule:
    """relu(x + y), as a module whose nodes are x, y, add, relu, output."""
    graph = fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    graph.output(graph.call_function(torch.relu, (graph.call_function(ADD, (x, y)),)))
    return fx.GraphModule(torch.nn.Module(), graph)


def described(graph: fx.Graph) -> list[tuple[object, ...]]:
    """Everything that a later pass can see of the nodes."""
    index = {node: i for i, node in enumerate(graph.nodes)}
    return [
        (
            node.name,
            node.op,
            node.target,
            str(node.args),
            str(node.kwargs),
            [index[user] for user in node.users],
            [index[operand] for operand in node.all_input_nodes],
            node in graph.find_nodes(op=node.op, target=node.target),
        )
        for node in graph.nodes
    ]


def by_method(graph: fx.Graph) -> None:
    x, y, total, relu, _ = graph.nodes
    with graph.inserting_after(total):
        product = graph.call_function(MUL, (x, [y, 2], None), {"alpha": total}, None)
    relu.args = (product,)
    product.args = (x, y)
    product.kwargs = {}
    graph.erase_node(total)


def on_tables(graph: fx.Graph) -> None:
    x, y, total, relu, _ = graph.nodes
    product = insert_after(total, "call_function", MUL, (x, [y, 2], None), {"alpha": total}, None)
    assert (total in product.all_input_nodes, list(product.args[1])) == (True, [y, 2])
    relu.args = (product,)
    product.args = (x, y)
    product.kwargs = {}
    assert erase([total]) == 1


def test_the_graph_is_what_the_methods_of_fx_leave(module):
    other = fx.GraphModule(module, fx.Graph())
    other.graph.output(other.graph.graph_copy(module.graph, {}))
    by_method(other.graph)
    on_tables(module.graph)
    module.graph.lint()
    assert described(module.graph) == described(other.graph)
    assert len(module.graph.nodes) == len(list(module.graph.nodes)) == 5
    module.recompile()
    a, b = torch.randn(3), torch.randn(3)
    assert torch.equal(module(a, b), torch.relu(a * b))


def test_what_is_used_stays_and_users_go_before_their_operands(module):
    x, y, total, relu, output = module.graph.nodes
    assert erase([total, relu]) == 0
    output.args = (x,)
    assert erase([total, relu, total]) == 2
    assert total._erased and relu._erased and not y.users
    module.graph.lint()
    assert module.graph.find_nodes(op="call_function", target=ADD) == []


def test_a_name_is_not_given_twice(module):
    *_, output = module.graph.nodes
    made = [insert_after(output.prev, "call_function", ADD, (), {}, "add") for _ in range(3)]
    erase(made[:1])
    made.append(insert_after(output.prev, "call_function", ADD, (), {}, "add"))
    assert len({node.name for node in [*module.graph.nodes, made[0]]}) == 9


def test_whoever_listens_to_changes_hears_of_them(module):
    heard = []
    module._register_create_node_hook(lambda node: heard.append(("made", node.name)))
    module._register_erase_node_hook(lambda node: heard.append(("erased", node.name)))
    total = module.graph.find_nodes(op="call_function", target=ADD)[0]
    made = insert_after(total, "call_function", MUL, tuple(total.args), {}, "product")
    assert (made.prev, list(made.args)) == (total, list(total.args))
    erase([made])
    assert heard == [("made", "product"), ("erased", "product")]
    module.graph.lint()
