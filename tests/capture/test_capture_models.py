"""Captured modules compute what the original computes, and carry the user's names."""

import copy

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.utils._pytree import tree_map
from zoo import ZOO

from tdsl.capture import Axis, Captured, capture, normalise
from tdsl.ops.targets import operator_of
from tdsl.verify.tolerance import widened
from tdsl.verify.wide import widened_graph


def outputs_in_float64(captured: Captured) -> tuple[list, list]:
    """Results of the captured module and of the original, both with float64 weights and inputs."""

    def double(value):
        return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    args, kwargs = tree_map(double, (captured.args, captured.kwargs))
    module, original = widened_graph(captured.module), widened(captured.original)
    return (
        captured.flat_outputs(module(*args, **kwargs)),
        captured.flat_outputs(original(*args, **kwargs)),
    )


def assert_same_function(captured: Captured, tolerance: float = 1e-12) -> None:
    for ours, theirs in zip(*outputs_in_float64(captured), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, features):
        return self.net(features)


class Nested(nn.Module):
    def forward(self, state, scale=2.0, *, gate=None):
        (h, c), table = state
        out = h * scale + table["bias"]
        return {"h": out if gate is None else out * gate, "rest": (c + 1, c.sum())}


class Variadic(nn.Module):
    def forward(self, *parts):
        return torch.cat(parts)


@pytest.mark.parametrize("name", ZOO)
def test_a_captured_architecture_equals_the_original_in_float64(name):
    model, args, dynamic = ZOO[name]()
    # T5 casts to float32 in its own Python code, where nothing can widen it.
    assert_same_function(capture(model, args, dynamic_shapes=dynamic), 1e-5 if name == "t5" else 1e-12)


def test_the_comparison_sees_a_changed_weight():
    captured = capture(Mlp().eval(), torch.randn(2, 4))
    with torch.no_grad():
        copied = copy.deepcopy(captured.module).double()
        next(copied.parameters()).add_(1e-9)
    changed = copied(captured.args[0].double())
    right = copy.deepcopy(captured.original).double()(captured.args[0].double())
    with pytest.raises(AssertionError):
        torch.testing.assert_close(changed, right, rtol=1e-12, atol=1e-12)


def test_every_node_has_a_value_and_no_operator_writes():
    for name in ("resnet", "mobilenet", "lstm"):
        model, args, dynamic = ZOO[name]()
        graph = capture(model, args, dynamic_shapes=dynamic).module.graph
        for node in graph.nodes:
            assert node.op == "output" or "val" in node.meta
            assert not getattr(getattr(node.target, "_schema", None), "is_mutable", False)


def test_weights_are_shared_and_a_model_in_training_mode_is_left_in_it():
    model = Mlp()
    model.net[2].eval()
    modes = [module.training for module in model.modules()]
    captured = capture(model, torch.randn(2, 4))
    assert [module.training for module in model.modules()] == modes == [True, True, True, True, False, True]
    ours, theirs = dict(captured.module.named_parameters()), dict(model.named_parameters())
    assert {name: p.data_ptr() for name, p in ours.items()} == {n: p.data_ptr() for n, p in theirs.items()}
    # Dropout is off in both, though the model still trains.
    torch.testing.assert_close(captured.original(*captured.args), captured.module(*captured.args))
    assert model.training


def test_names_and_ranges_of_dynamic_axes_are_the_users():
    model, args, dynamic = ZOO["bert"]()
    captured = capture(model, args, dynamic_shapes=dynamic)
    assert captured.input_names == ("input_ids", "attention_mask")
    assert captured.output_names == ("last_hidden_state", "pooler_output")
    batch, sequence = captured.dynamic_axes[1][0], captured.dynamic_axes[1][1]
    assert (batch.name, batch.minimum, batch.maximum) == ("batch", 1, 64)
    assert (sequence.name, sequence.minimum, sequence.maximum) == ("sequence", 2, 31)
    assert captured.dynamic_axes[0] == captured.dynamic_axes[1]


def test_a_dynamic_axis_may_be_named_by_a_text_or_not_at_all():
    x = torch.randn(3, 4)
    named = capture(Mlp().eval(), x, dynamic_shapes={"features": {0: "rows"}})
    assert named.dynamic_axes == ({0: Axis("rows", named.dynamic_axes[0][0].symbol, 0, None)},)
    unnamed = capture(Mlp().eval(), x, dynamic_shapes=[{0: Dim.AUTO}])
    assert unnamed.dynamic_axes[0][0].name == "features_dim_0"
    assert capture(Mlp().eval(), x).dynamic_axes == ({},)


def test_nested_inputs_and_outputs_are_named_by_their_path():
    h, c, bias, gate = (torch.randn(2, 3) for _ in range(4))
    captured = capture(Nested(), (((h, c), {"bias": bias}),), {"gate": gate})
    assert captured.input_names == ("state_0_0", "state_0_1", "state_1_bias", "gate")
    assert captured.output_names == ("h", "rest_0", "rest_1")
    assert_same_function(captured)
    result = captured.module(((h, c), {"bias": bias}), gate=gate)
    assert set(result) == {"h", "rest"} and isinstance(result["rest"], tuple)


def test_variadic_arguments_are_numbered_and_dynamic():
    parts = (torch.randn(2, 3), torch.randn(4, 3))
    captured = capture(Variadic(), parts, dynamic_shapes={"parts": ({0: "m"}, {0: "n"})})
    assert captured.input_names == ("parts_0", "parts_1")
    assert [{a: axis.name for a, axis in axes.items()} for axes in captured.dynamic_axes] == [
        {0: "m"},
        {0: "n"},
    ]


def test_names_can_be_given():
    captured = capture(Mlp().eval(), torch.randn(2, 4), input_names=["x"], output_names=["logits"])
    assert captured.input_names == ("x",) and captured.output_names == ("logits",)


def test_tied_weights_are_one_node_and_one_attribute():
    model, args, dynamic = ZOO["gpt2"]()
    module = capture(model, args, dynamic_shapes=dynamic).module
    shape = model.wte.weight.shape
    assert [p.shape for p in module.parameters()].count(shape) == 1
    nodes = [n for n in module.graph.find_nodes(op="get_attr") if n.meta["val"].shape == shape]
    assert len(nodes) == 1 and len(nodes[0].users) == 2
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.clone())
    untied = capture(model, args, dynamic_shapes=dynamic).module
    assert [p.shape for p in untied.parameters()].count(shape) == 2


@pytest.mark.parametrize("form", ["program", "file", "graph module", "symbolic trace"])
def test_every_way_of_giving_a_model_gives_the_same_graph(form, tmp_path):
    model, x = Mlp().eval(), torch.randn(2, 4)
    program = torch.export.export(model, (x,))
    if form == "program":
        captured = capture(program)
    elif form == "file":
        torch.export.save(program, tmp_path / "model.pt2")
        captured = capture(tmp_path / "model.pt2")
    elif form == "graph module":
        captured = capture(program.module(), (x,))
    else:
        captured = capture(torch.fx.symbolic_trace(model), (x,))
    wanted = [str(n.target) for n in capture(model, x).module.graph.nodes if n.op == "call_function"]
    assert [str(n.target) for n in captured.module.graph.nodes if n.op == "call_function"] == wanted
    assert captured.input_names == ("features",) or form == "symbolic trace"
    assert_same_function(captured)


def test_provenance_survives_normalisation():
    model, args, dynamic = ZOO["resnet"]()
    for node in capture(model, args, dynamic_shapes=dynamic).module.graph.nodes:
        if node.op == "call_function" and operator_of(node.target).name == "relu":
            assert node.meta["nn_module_stack"] and "zoo.py" in node.meta["stack_trace"]


def test_normalising_twice_changes_nothing():
    for name in ("vit", "gpt2"):
        model, args, dynamic = ZOO[name]()
        module = capture(model, args, dynamic_shapes=dynamic).module
        before = [(n.name, n.op, str(n.target), str(n.args), str(n.kwargs)) for n in module.graph.nodes]
        normalise(module)
        assert [
            (n.name, n.op, str(n.target), str(n.args), str(n.kwargs)) for n in module.graph.nodes
        ] == before


def test_a_tensor_given_twice_is_two_inputs():
    class Weighted(nn.Module):
        def forward(self, a, b):
            return a - 2 * b

    x = torch.randn(3)
    captured = capture(Weighted(), (x, x))
    assert captured.input_names == ("a", "b")
    a, b = torch.randn(3), torch.randn(3)
    torch.testing.assert_close(captured.module(a, b), a - 2 * b)


@pytest.mark.parametrize("dim", [0, 1, 2, None])
def test_a_weight_of_normed_slices_is_that_of_the_original_along_every_axis(dim):
    """`None` is one norm for the whole, which torch's operator calls axis -1."""
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3), dim=dim)).eval()
    with torch.no_grad():
        model[0].parametrizations.weight.original0.mul_(1.5)
    captured = capture(model, torch.randn(2, 4, 7))
    (got,), (wanted,) = outputs_in_float64(captured)
    assert torch.equal(got, wanted)
    torch.testing.assert_close(captured.module(*captured.args), model(*captured.args))
