"""The history of a rewritten node reaches the ONNX file; the maker's machine does not."""

import getpass
from pathlib import Path

import torch
from torch import fx, nn
from zoo import ZOO

from tdsl.capture import Captured, capture
from tdsl.emit import emit
from tdsl.provenance import REWRITE, Rewrite, provenance

aten = torch.ops.aten


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x):
        return self.inner(x).cumsum(-1)


def rewritten(target, *more) -> tuple[Captured, fx.GraphModule]:
    """A captured block and a copy whose relu a rule `second` replaced, after a rule `first`."""
    captured = capture(Block().eval(), torch.randn(2, 4))
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(captured.module.graph, copies))
    module = fx.GraphModule(captured.module, graph)
    (relu,) = module.graph.find_nodes(op="call_function", target=aten.relu.default)
    with graph.inserting_before(relu):
        made = graph.call_function(target, (relu.args[0], *more))
    first = Rewrite(1, "first", (provenance(relu),))
    made.meta = {"val": target(relu.args[0].meta["val"], *more), REWRITE: Rewrite(2, "second", (first,))}
    relu.replace_all_uses_with(made)
    graph.erase_node(relu)
    module.recompile()
    return captured, module


def metadata(proto) -> list[tuple[str, dict[str, str]]]:
    return [(n.op_type, {p.key: p.value for p in n.metadata_props}) for n in proto.graph.node]


def test_a_rewritten_node_tells_its_rules_and_where_it_stands_for():
    captured, module = rewritten(aten.sigmoid.default)
    by_type = dict(metadata(emit(captured, module)))
    assert by_type["Sigmoid"]["tdsl.rules"] == "first > second"
    assert by_type["Sigmoid"]["tdsl.source"].startswith("inner.1 ")
    assert all(not notes for op_type, notes in by_type.items() if op_type != "Sigmoid")


def test_every_onnx_node_that_a_decomposed_operator_becomes_tells_them():
    captured, module = rewritten(aten.softplus.default, 2.0, 20.0)
    told = [op_type for op_type, notes in metadata(emit(captured, module)) if "tdsl.rules" in notes]
    untold = [op_type for op_type, notes in metadata(emit(captured, module)) if "tdsl.rules" not in notes]
    assert len(told) >= 3 and untold == ["Gemm", "CumSum"]


def test_an_untouched_model_carries_no_metadata_unless_asked():
    model, args, dynamic = ZOO["vit"]()
    captured = capture(model, args, dynamic_shapes=dynamic)
    slim, full = emit(captured), emit(captured, metadata=True)
    assert not any(notes for _, notes in metadata(slim)) and not slim.graph.value_info
    sources = [notes.get("tdsl.source", "") for _, notes in metadata(full)]
    assert all("zoo.py:" in source for source in sources)
    assert any(source.startswith("blocks.1.attn.qkv ") for source in sources)
    assert full.ByteSize() > slim.ByteSize() + 1000


def test_no_path_of_this_machine_is_in_a_file():
    model, args, dynamic = ZOO["bert"]()
    captured = capture(model, args, dynamic_shapes=dynamic)
    for proto in (emit(captured), emit(captured, metadata=True)):
        data = proto.SerializeToString()
        assert str(Path.home()).encode() not in data
        assert str(Path(torch.__file__).parent).encode() not in data
        assert str(Path(__file__).parent).encode() not in data
        assert getpass.getuser().encode() + b"/" not in data
