"""Each promise of `docs/normal-form.md`, on the smallest graph that shows it."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

from tdsl.capture import capture, normalise
from tdsl.ops.targets import operator_of

aten = torch.ops.aten


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def calls(gm: fx.GraphModule) -> list[tuple]:
    """(target, arguments, keyword arguments) of every call, nodes as their names."""
    shown = [
        fx.node.map_arg((n.target, n.args, n.kwargs), str)
        for n in gm.graph.nodes
        if n.op in ("call_function", "call_method")
    ]
    return [(target, tuple(args), dict(kwargs)) for target, args, kwargs in shown]


def captured(function, *inputs) -> fx.GraphModule:
    return capture(Function(function), inputs).module


def pattern(function) -> fx.GraphModule:
    return normalise(fx.symbolic_trace(function))


X = torch.randn(2, 3, 4)


@pytest.mark.parametrize(
    "one, other",
    [
        (lambda x: torch.softmax(x, -1), lambda x: x.softmax(dim=2)),
        (lambda x: x.transpose(0, 1), lambda x: torch.transpose(x, -3, -2)),
        (lambda x: x.relu(), lambda x: F.relu(x)),
        (lambda x: x - 1, lambda x: torch.sub(x, 1, alpha=1)),
        (lambda x: x.mean(), lambda x: torch.mean(x, dim=None)),
        (lambda x: x.mean(-1, True), lambda x: torch.mean(x, dim=[2], keepdim=True)),
        (lambda x: x.unsqueeze(0), lambda x: x.unsqueeze(-4)),
        (lambda x: 1 - x, lambda x: torch.rsub(x, 1)),
    ],
)
def test_two_spellings_of_one_thing_are_one_call(one, other):
    assert named(captured(one, X)) == named(captured(other, X))


def named(gm: fx.GraphModule) -> list[tuple]:
    """`calls` without the numbers that torch's tracer puts into node names."""
    order = {node.name: f"%{i}" for i, node in enumerate(gm.graph.nodes)}
    return [
        (str(target), tuple(order.get(a, a) if isinstance(a, str) else a for a in args), kwargs)
        for target, args, kwargs in calls(gm)
    ]


def test_different_things_stay_different():
    assert named(captured(lambda x: x.softmax(-1), X)) != named(captured(lambda x: x.softmax(-2), X))
    assert named(captured(lambda x: x - 1, X)) != named(captured(lambda x: 1 - x, X))


def test_arguments_are_complete_and_axes_count_from_the_last():
    (call,) = calls(captured(lambda x: x.sum(0), X))
    assert call == (aten.sum.dim_IntList, ("inputs_0", [-3], False), {})
    (call,) = calls(captured(lambda x: F.layer_norm(x, (4,)), X))
    assert call == (aten.layer_norm.default, ("inputs_0", [4], None, None, 1e-05, True), {})


def test_keyword_only_arguments_appear_when_they_differ_from_the_default():
    (plain,) = calls(captured(lambda x: torch.add(x, x, alpha=1), X))
    (scaled,) = calls(captured(lambda x: torch.add(x, x, alpha=3), X))
    assert plain == (aten.add.Tensor, ("inputs_0", "inputs_0"), {})
    assert scaled == (aten.add.Tensor, ("inputs_0", "inputs_0"), {"alpha": 3})


def test_inputs_come_first_then_one_node_for_each_constant_then_calls():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(4))
            self.v = nn.Parameter(torch.randn(4))
            self.unused = nn.Parameter(torch.randn(4))

        def forward(self, x):
            y = x * self.w
            return y * self.v + self.w

    gm = capture(Late(), X).module
    assert [n.op for n in gm.graph.nodes] == [
        "placeholder",
        "get_attr",
        "get_attr",
        *["call_function"] * 3,
        "output",
    ]
    assert [name for name, _ in gm.named_parameters()] == ["w", "v"]


def test_an_unknown_operator_stays_as_it_was():
    gm = captured(lambda x: torch.linalg.svdvals(x), X)
    assert operator_of(aten.linalg_svdvals.default) is None
    assert [call[0] for call in calls(gm)] == [aten.linalg_svdvals.default]


def test_blocks_without_effect_are_inlined_and_others_stay():
    def blocks(x):
        with torch.no_grad():
            y = x.sin()
            with torch.autocast("cpu", enabled=False):
                y = y.cos()
        return y.tan()

    def lower_precision(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = x @ x.mT
        return y.float()

    assert [call[0] for call in calls(captured(blocks, X))] == [
        aten.sin.default,
        aten.cos.default,
        aten.tan.default,
    ]
    kept = [call[0] for call in calls(captured(lower_precision, X))]
    assert kept[0] is torch.ops.higher_order.wrap_with_autocast


# ---------------------------------------------------------------- functional


def test_an_overwritten_value_that_nobody_reads_again_is_replaced_where_it_stands():
    gm = captured(lambda x: torch.matmul(x, x.mT).relu_().add_(1), X)
    targets = [call[0] for call in calls(gm)]
    assert aten.relu.default in targets and aten.add.Tensor in targets
    assert aten.matmul.default in targets  # torch's own functionalization would take it apart


def written_through_a_view(x):
    y = x * 2
    y[0].add_(1)  # y changes though add_ writes into a view
    return y


def read_before_and_after(x):
    y = x + 1
    z = y * 2
    y.mul_(3)
    return y + z


def written_input(x):
    y = x.clone()
    z = y
    y.relu_()
    return z


def written_through_a_composite(x):
    y = x * 2
    y.type_as(x).add_(1)  # type_as returns y itself
    torch.einsum("abc->cba", y).mul_(3)  # and einsum a view of it
    F.dropout(y, 0.5, training=False).sub_(1)
    return y


@pytest.mark.parametrize(
    "function", [written_through_a_view, read_before_and_after, written_input, written_through_a_composite]
)
def test_in_place_operators_keep_their_meaning(function):
    gm = captured(function, X)
    torch.testing.assert_close(gm(X), function(X.clone()))
    assert not any(call[0]._schema.is_mutable for call in calls(gm) if hasattr(call[0], "_schema"))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(["relu", "add_other", "alias", "view", "save"]), min_size=1, max_size=6))
def test_any_sequence_of_writes_keeps_its_meaning(steps):
    def function(x, other):
        y, saved = x * 1.5, other
        for step in steps:
            if step == "relu":
                y = y.relu_()
            elif step == "add_other":
                y.add_(saved)
            elif step == "alias":
                saved = y.detach()
            elif step == "view":
                y[..., 0].mul_(2)
            else:
                saved = y + 0.5
        return y, saved

    with torch.no_grad():
        gm = captured(function, X, X + 1)
        for ours, theirs in zip(gm(X, X + 1), function(X.clone(), X + 1), strict=True):
            torch.testing.assert_close(ours, theirs)


# ---------------------------------------------------------------- patterns, without shapes


@pytest.mark.parametrize(
    "written",
    [
        lambda x: torch.softmax(x, -1),
        lambda x: torch.softmax(x, dim=-1),
        lambda x: F.softmax(x, dim=-1),
        lambda x: x.softmax(-1),
    ],
)
def test_a_pattern_in_torch_functions_has_the_calls_of_the_captured_model(written):
    assert [c[0] for c in calls(pattern(written))] == [c[0] for c in calls(captured(written, X))]
    (of_pattern,), (of_model,) = calls(pattern(written)), calls(captured(written, X))
    assert of_pattern[1][1:] == of_model[1][1:] and of_pattern[2] == of_model[2]


def test_python_operators_and_numbers_become_aten_calls():
    (product, total) = calls(pattern(lambda x, y: 2 * x + y))
    assert product[0] in (aten.mul.Tensor, aten.mul.Scalar) and product[1] == ("x", 2)
    assert total == (aten.add.Tensor, ("mul", "y"), {})


def test_functions_whose_python_order_differs_from_atens_are_bound_by_name():
    (call,) = calls(pattern(lambda x, w, b: F.linear(x, bias=b, weight=w)))
    assert call == (aten.linear.default, ("x", "w", "b"), {})
    (call,) = calls(pattern(lambda x: F.dropout(x, 0.5, training=False)))
    assert call[0] is aten.dropout.default and call[1] == ("x", 0.5, False)


def test_a_call_the_table_does_not_know_is_left_alone():
    (call,) = calls(pattern(lambda x: torch.linalg.svdvals(x)))
    assert call[0] is torch.linalg.svdvals


def test_flattening_dynamic_axes_is_the_reshape_that_it_is():
    """Sizes are read off the inputs, once; so heads that are taken apart this way are found by rules."""

    def heads(x):
        return x.unflatten(-1, (2, 4)).transpose(1, 2).flatten(2)

    x = torch.randn(3, 5, 8)
    module = capture(Function(heads), (x,), dynamic_shapes=(({0: "batch", 1: "time"},),)).module
    targets = [n.target for n in module.graph.nodes if n.op == "call_function"]
    assert targets.count(aten.reshape.default) == 2 and targets.count(aten.sym_size.int) == 2
    assert set(targets) == {aten.reshape.default, aten.sym_size.int, aten.permute.default}
    other = torch.randn(2, 7, 8)
    for value in (x, other):
        assert torch.equal(module(value), heads(value))
    merged = capture(Function(lambda x: x.flatten(0, 1)), (x,), dynamic_shapes=(({0: "batch", 1: "time"},),))
    [target] = [n.args[1] for n in merged.module.graph.nodes if n.target is aten.reshape.default]
    assert target == [-1, 8]
    assert torch.equal(merged.module(other), other.flatten(0, 1))
