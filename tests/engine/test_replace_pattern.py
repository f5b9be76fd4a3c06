"""`replace_pattern` on graphs traced symbolically: the cases that PyTorch tests its rewriter with.

Each case states the function before, pattern, replacement and function after. Cases follow
`test/fx/test_subgraph_rewriter.py` of PyTorch; what PyTorch gets wrong is in `test_replace_pattern_sound.py`.
"""

from __future__ import annotations

import operator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import tdsl
from tdsl.engine.subgraph import replace_pattern_with_filters

aten = torch.ops.aten


@fx.wrap
def scaled_linear(x, weight, bias, scale):
    y = F.linear(x, weight, bias)
    return y, y * scale


def sigmoid(x):
    return torch.sigmoid(x)


def relu(x):
    return torch.relu(x)


def neg(x):
    return torch.neg(x)


def traced(model) -> fx.GraphModule:
    return fx.symbolic_trace(model)


def calls(gm: fx.GraphModule) -> list[str]:
    """Names of what the graph calls, in order."""
    return [
        node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        for node in gm.graph.nodes
        if node.op.startswith("call_")
    ]


def draw(*sizes: int) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(0))


def assert_becomes(
    before, pattern, replacement, after, *, matches: int, inputs: tuple[Tensor, ...]
) -> fx.GraphModule:
    """`before` with the replacement made is `after`, call by call and on the inputs."""
    gm = traced(before)
    found = tdsl.replace_pattern(gm, pattern, replacement)
    assert len(found) == matches
    gm.graph.lint()
    assert calls(gm) == calls(traced(after))
    torch.testing.assert_close(gm(*inputs), after(*inputs), equal_nan=True)
    return gm


# ---------------------------------------------------------------- functions


def test_one_call_is_replaced():
    assert_becomes(
        lambda x: torch.neg(x) * 2,
        lambda x: torch.neg(x),
        lambda x: torch.relu(x),
        lambda x: torch.relu(x) * 2,
        matches=1,
        inputs=(draw(3),),
    )


def test_a_pattern_of_several_calls_is_replaced_by_one():
    def before(x):
        both = torch.neg(x) + torch.relu(x)
        return torch.mul(both, both)

    def after(x):
        both = torch.sigmoid(x)
        return torch.mul(both, both)

    assert_becomes(
        before, lambda x: torch.neg(x) + torch.relu(x), sigmoid, after, matches=1, inputs=(draw(2, 3),)
    )


def test_a_pattern_replaced_by_itself_leaves_the_function_as_it_was():
    def function(x, y):
        return torch.mm(torch.neg(x), y) - x.sum()

    gm = traced(function)
    found = tdsl.replace_pattern(gm, lambda x, y: torch.mm(x, y), lambda x, y: torch.mm(x, y))
    assert len(found) == 1
    assert calls(gm) == calls(traced(function))
    torch.testing.assert_close(gm(draw(3, 4), draw(4, 5)), function(draw(3, 4), draw(4, 5)))


def test_parameters_are_paired_by_position():
    assert_becomes(
        lambda x, y: torch.sub(x, y),
        lambda a, b: torch.sub(a, b),
        lambda p, q: torch.div(q, p),
        lambda x, y: torch.div(y, x),
        matches=1,
        inputs=(draw(3), draw(3) + 1),
    )


def test_every_occurrence_is_replaced():
    def before(x, a, b):
        return x + torch.max(torch.cat([a, b]).sum()) + torch.min(torch.cat([a, b]).sum())

    def after(x, a, b):
        return x + torch.max(torch.stack([a, b])) + torch.min(torch.stack([a, b]))

    assert_becomes(
        before,
        lambda a, b: torch.cat([a, b]).sum(),
        lambda a, b: torch.stack([a, b]),
        after,
        matches=2,
        inputs=(draw(3), draw(3), draw(3)),
    )


def test_only_the_users_of_the_matched_value_see_the_replacement():
    assert_becomes(
        lambda x, y: torch.neg(y) + torch.relu(x),
        lambda v: torch.relu(v),
        lambda v: torch.neg(v),
        lambda x, y: torch.neg(y) + torch.neg(x),
        matches=1,
        inputs=(draw(4), draw(4)),
    )


def test_patterns_may_be_graph_modules_and_modules():
    class Pattern(nn.Module):
        def forward(self, x):
            return torch.neg(x) + torch.relu(x)

    class Replacement(nn.Module):
        def forward(self, x):
            return torch.sigmoid(x)

    for wrap in (traced, lambda module: module, lambda module: traced(module).graph):
        assert_becomes(
            lambda x: torch.neg(x) + torch.relu(x),
            wrap(Pattern()),
            wrap(Replacement()),
            lambda x: torch.sigmoid(x),
            matches=1,
            inputs=(draw(3),),
        )


def test_a_pattern_may_be_the_whole_graph():
    def before(x):
        a = torch.neg(x)
        return torch.add(a, a)

    def after(x):
        a = torch.sigmoid(x)
        return torch.cat([a, a])

    assert_becomes(before, before, after, after, matches=1, inputs=(draw(3, 4),))


def test_consecutive_matches_are_all_replaced():
    def thrice(f):
        return lambda x: f(f(f(x)))

    assert_becomes(thrice(torch.sigmoid), sigmoid, neg, thrice(torch.neg), matches=3, inputs=(draw(3),))


def test_of_overlapping_matches_the_first_is_replaced():
    def before(x):
        for _ in range(5):
            x = torch.sigmoid(x)
        return x

    assert_becomes(
        before,
        lambda x: torch.sigmoid(torch.sigmoid(x)),
        neg,
        lambda x: torch.sigmoid(torch.neg(torch.neg(x))),
        matches=2,
        inputs=(draw(3),),
    )


def test_what_a_replacement_makes_is_not_matched_again():
    assert_becomes(
        relu,
        relu,
        lambda x: torch.relu(torch.relu(x)),
        lambda x: torch.relu(torch.relu(x)),
        matches=1,
        inputs=(draw(3),),
    )


def test_a_chain_of_matches_may_be_replaced_by_their_inputs():
    assert_becomes(
        lambda x: torch.neg(torch.abs(torch.abs(torch.abs(x)))),
        lambda x: torch.abs(x),
        lambda x: x,
        neg,
        matches=3,
        inputs=(draw(3),),
    )


# ---------------------------------------------------------------- what a parameter stands for


def test_a_parameter_matches_whatever_computes_the_value():
    def before(x):
        x += 3
        return torch.sigmoid(x.dequantize()).to(torch.float16)

    def pattern(x):
        return torch.sigmoid(x.dequantize()).to(torch.float16)

    gm = traced(before)
    assert len(tdsl.replace_pattern(gm, pattern, lambda x: x)) == 1
    torch.testing.assert_close(gm(draw(3, 4)), draw(3, 4) + 3)


def test_inputs_that_the_graph_does_not_use_stay_inputs():
    def before(x, y, unused):
        return x + y

    gm = assert_becomes(
        before,
        lambda x, y: x + y,
        lambda x, y: x - y,
        lambda x, y, unused: x - y,
        matches=1,
        inputs=(draw(3), draw(3) * 2, draw(1)),
    )
    assert [n.name for n in gm.graph.find_nodes(op="placeholder")] == ["x", "y", "unused"]


def test_a_parameter_may_stand_for_a_list():
    gm = traced(lambda x: aten._reshape_alias_copy.default(x, [1, 2], [3, 4]))
    found = tdsl.replace_pattern(
        gm,
        lambda x, sizes, strides: aten._reshape_alias_copy.default(x, sizes, strides),
        lambda x, sizes, strides: aten._reshape_alias_copy.default(x, strides, sizes),
    )
    assert len(found) == 1
    (call,) = (n for n in gm.graph.nodes if n.op == "call_function")
    assert call.args[1:] == ([3, 4], [1, 2])


def test_a_parameter_may_stand_for_a_list_of_values():
    gm = traced(lambda x, y: torch.cat([x, torch.neg(y)]))
    tdsl.replace_pattern(gm, lambda parts: torch.cat(parts), lambda parts: torch.stack(parts))
    torch.testing.assert_close(gm(draw(3), draw(3)), torch.stack([draw(3), -draw(3)]))


def test_a_parameter_may_stand_for_a_number():
    assert_becomes(
        lambda x: torch.add(x, 3) + torch.add(x, 4),
        lambda x, number: torch.relu(torch.add(x, number)),
        lambda x, number: x,
        lambda x: torch.add(x, 3) + torch.add(x, 4),
        matches=0,
        inputs=(draw(3),),
    )
    assert_becomes(
        lambda x: torch.relu(torch.add(x, 3)),
        lambda x, number: torch.relu(torch.add(x, number)),
        lambda x, number: torch.mul(x, number),
        lambda x: torch.mul(x, 3),
        matches=1,
        inputs=(draw(3),),
    )


# ---------------------------------------------------------------- literals


@pytest.mark.parametrize("literal, count", [(2, 1), (3, 0), (2.0, 0), (True, 0)])
def test_a_literal_matches_itself_only(literal, count):
    gm = traced(lambda x: x * literal)
    assert len(tdsl.replace_pattern(gm, lambda x: x * 2, lambda x: x + x)) == count


def test_an_infinite_literal_matches():
    gm = traced(lambda x, mask: x.masked_fill(mask, float("-inf")))
    pattern = lambda x, mask: x.masked_fill(mask, float("-inf"))  # noqa: E731
    assert len(tdsl.replace_pattern(gm, pattern, lambda x, mask: x.masked_fill(mask, 0.0))) == 1
    assert tdsl.replace_pattern(gm, pattern, lambda x, mask: x) == []


def test_literals_can_be_ignored():
    gm = traced(lambda x, y: x.sum(1) + torch.add(y, 5) + torch.add(x, y))
    assert tdsl.replace_pattern(gm, lambda v: torch.add(v, 1), neg) == []
    found = replace_pattern_with_filters(gm, lambda v: torch.add(v, 1), neg, ignore_literals=True)
    # A literal stands for any literal, never for a value: `add(x, y)` is not `add(v, 1)`.
    assert len(found) == 1
    assert calls(gm) == ["sum", "neg", "add", "add", "add"]


# ---------------------------------------------------------------- several outputs, other users


def test_an_output_may_have_users_outside_the_match():
    def before(x):
        y = torch.relu(x)
        return torch.neg(y) - y

    def after(x):
        y = torch.sigmoid(x)
        return torch.neg(y) - y

    assert_becomes(before, relu, sigmoid, after, matches=1, inputs=(draw(3),))


def test_an_inner_value_with_users_outside_the_match_blocks_it():
    def function(x, a, b, bias, unit):
        rows = torch.cat([a, b])
        columns = torch.cat([x, unit])
        first = torch.addmm(bias, rows, columns.t())
        second = torch.addmm(bias, rows, columns.t())
        return first.sum(), second.sum()

    def pattern(x, a, b, bias, unit):
        return torch.addmm(bias, torch.cat([a, b]), torch.cat([x, unit]).t())

    gm = traced(function)
    before = gm.code
    assert tdsl.replace_pattern(gm, pattern, lambda x, a, b, bias, unit: torch.cat([x, a, b])) == []
    assert gm.code == before


def test_an_inner_value_that_is_an_output_of_the_graph_blocks_the_match():
    def function(x):
        inner = torch.neg(x)
        return torch.relu(inner), inner

    assert tdsl.replace_pattern(traced(function), lambda x: torch.relu(torch.neg(x)), neg) == []


def test_several_outputs_are_replaced_together():
    assert_becomes(
        lambda x: torch.sigmoid(x) + torch.relu(x),
        lambda a: (torch.sigmoid(a), torch.relu(a)),
        lambda a: (torch.exp(a), torch.abs(a)),
        lambda x: torch.exp(x) + torch.abs(x),
        matches=1,
        inputs=(draw(3),),
    )


def test_one_value_may_replace_several_outputs():
    def before(x, y):
        d = x - y
        return torch.sigmoid(d) + torch.relu(d)

    def pattern(a, b):
        d = a - b
        return torch.sigmoid(d), torch.relu(d), d

    def replacement(a, b):
        size = torch.abs(b)
        return size, size, torch.exp(a)

    def after(x, y):
        size = torch.abs(y)
        return size + size

    gm = traced(before)
    (match,) = tdsl.replace_pattern(gm, pattern, replacement)
    torch.testing.assert_close(gm(draw(3), draw(3)), after(draw(3), draw(3)))
    assert gm.graph.find_nodes(op="call_function", target=operator.sub) == []
    assert match.anchor in match.nodes_map


def test_an_output_that_nothing_uses_can_be_matched():
    gm = traced(lambda x: (torch.sigmoid(x), torch.relu(x))[0])
    assert (
        len(
            tdsl.replace_pattern(
                gm, lambda a: (torch.sigmoid(a), torch.relu(a)), lambda a: (a.exp(), a.abs())
            )
        )
        == 1
    )
    torch.testing.assert_close(gm(draw(3)), draw(3).exp())


class Linear(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        for i in range(count):
            self.register_parameter(f"w{i}", nn.Parameter(draw(4, 4)))
            self.register_parameter(f"b{i}", nn.Parameter(draw(4)))


def linear_times(a, w, b, c):
    y = F.linear(a, w, bias=b)
    return y, c * y


def fused_linear_times(a, w, b, c):
    y, product = scaled_linear(a, w, b, c)
    return y, product


def test_keyword_arguments_match_and_an_output_may_be_used_inside_the_pattern():
    class Model(Linear):
        def forward(self, x):
            y = F.linear(x, self.w0, bias=self.b0)
            return x * y + x

    model = Model(1)
    gm = traced(model)
    assert len(tdsl.replace_pattern(gm, linear_times, fused_linear_times)) == 1
    assert "scaled_linear" in calls(gm)
    torch.testing.assert_close(gm(draw(2, 4)), model(draw(2, 4)))


def test_a_candidate_that_fails_does_not_spoil_the_next():
    class Model(Linear):
        def forward(self, x, y):
            first = F.linear(F.linear(y, self.w0, bias=self.b0), self.w1, bias=self.b1)
            summed = y * first + y
            gate = F.linear(summed, self.w2, bias=self.b2)
            # The other factor is computed from the linear layer: the two cannot become one.
            gated = gate * torch.sigmoid(gate)
            last = F.linear(F.linear(x, self.w3, bias=self.b3), self.w4, bias=self.b4)
            return torch.cat([gated, x * last + x], dim=1)

    model = Model(5)
    gm = traced(model)
    assert len(tdsl.replace_pattern(gm, linear_times, fused_linear_times)) == 2
    assert calls(gm).count("scaled_linear") == 2
    torch.testing.assert_close(gm(draw(2, 4), draw(2, 4)), model(draw(2, 4), draw(2, 4)))


# ---------------------------------------------------------------- methods, modules, attributes


def test_methods_match():
    def before(x):
        return x.dequantize().sigmoid().to(torch.float16)

    assert_becomes(before, before, lambda x: x, lambda x: x, matches=1, inputs=(draw(3, 4),))


def test_annotated_parameters_make_no_difference():
    def pattern(x: int) -> Tensor:
        y: int = x
        return torch.add(x, y)

    assert_becomes(
        lambda x: torch.add(x, x), pattern, lambda x: x * 2, lambda x: x * 2, matches=1, inputs=(draw(3),)
    )


class Gate(nn.Module):
    def __init__(self, gate: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.gate = gate
        self.after = after

    def forward(self, x):
        return self.after(self.gate(x))


class Tail(nn.Module):
    def __init__(self, tail: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.tail = tail
        self.after = after

    def forward(self, x):
        return self.after(self.tail(x))


def test_modules_match_by_path_and_those_of_the_replacement_move_in():
    gm = traced(Gate(nn.Sigmoid(), nn.ReLU()))
    found = tdsl.replace_pattern(gm, Gate(nn.Sigmoid(), nn.ReLU()), Tail(nn.Tanh(), nn.ReLU()))
    assert len(found) == 1
    assert [name for name, _ in gm.named_children()] == ["after", "tail"]
    torch.testing.assert_close(gm(draw(3)), draw(3).tanh().relu())


def test_a_module_of_the_replacement_never_becomes_another_one_of_the_same_name():
    gm = traced(nn.Sequential(nn.Sigmoid(), nn.Linear(4, 4)))
    new = nn.Linear(4, 4)

    class Replacement(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("1", new)

        def forward(self, x):
            return getattr(self, "1")(x)

    old = gm.get_submodule("1")

    class Pattern(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("0", nn.Sigmoid())

        def forward(self, x):
            return getattr(self, "0")(x)

    assert len(tdsl.replace_pattern(gm, Pattern(), Replacement())) == 1
    torch.testing.assert_close(gm(draw(2, 4)), old(new(draw(2, 4))))


class Shift(nn.Module):
    def __init__(self, name: str, value: int, sign: int) -> None:
        super().__init__()
        setattr(self, name, torch.tensor([value]))
        self.name, self.sign = name, sign

    def forward(self, x):
        constant = getattr(self, self.name)
        return x + constant if self.sign > 0 else x - constant


def test_a_constant_of_the_pattern_matches_any_constant_and_that_of_the_replacement_moves_in():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = torch.tensor([1]), torch.tensor([2])

        def forward(self, x):
            return x + self.a - self.b

    gm = traced(Model())
    assert len(tdsl.replace_pattern(gm, Shift("a", 1, 1), Shift("c", 3, -1))) == 1
    torch.testing.assert_close(gm(draw(3)), draw(3) - 3 - 2)
    assert tdsl.replace_pattern(traced(lambda x, y: x + y), Shift("a", 1, 1), Shift("c", 3, -1)) == []


# ---------------------------------------------------------------- filters, callbacks, results


def quantised(x, number, scale, zero):
    return torch.quantize_per_tensor(torch.add(x.dequantize(), number).relu(), scale, zero, torch.quint8)


def test_filters_see_the_match_and_can_refuse_it():
    def function(x, scale, zero):
        x = quantised(x, 2, scale, zero)
        return quantised(x, x + 1, scale, zero)

    def second_is_a_number(match, graph, pattern):
        number = [n for n in pattern.nodes if n.op == "placeholder"][1]
        return isinstance(match.nodes_map[number], int | float)

    def replacement(x, number, scale, zero):
        return torch.mul(x, number)

    for filters, count in ((None, 2), ([second_is_a_number], 1), ([lambda *_: False], 0)):
        gm = traced(lambda x, scale, zero: function(x, scale, zero))
        found = replace_pattern_with_filters(gm, quantised, replacement, filters)
        assert len(found) == count
        made = [node for match in found for node in match.replacements]
        assert made == gm.graph.find_nodes(op="call_function", target=torch.mul)


def test_a_callback_builds_the_replacement_of_each_match():
    gm = traced(lambda x: torch.relu(x + 1) + torch.relu(x + 7))

    def pattern(x, number):
        return torch.relu(x + number)

    def build(match, graph, pattern_graph):
        number = match.nodes_map[[n for n in pattern_graph.nodes if n.op == "placeholder"][1]]
        function = (lambda x, _: torch.abs(x)) if number < 5 else (lambda x, _: torch.neg(x))
        return fx.Tracer().trace(function)

    found = replace_pattern_with_filters(gm, pattern, replacement_callback=build)
    assert [[n.target for n in match.replacements] for match in found] == [[torch.abs], [torch.neg]]
    torch.testing.assert_close(gm(draw(3)), draw(3).abs() - draw(3))


def test_default_arguments_of_an_overload_are_equal_to_written_ones():
    pool = aten.max_pool2d_with_indices.default
    gm = traced(lambda x: pool(x, [2, 2], stride=[2, 2])[0])
    found = tdsl.replace_pattern(
        gm,
        lambda x, size, stride: pool(x, size, stride, padding=[0, 0]),
        lambda x, size, stride: pool(x, size, stride, padding=[1, 1]),
    )
    assert len(found) == 1
    assert (
        tdsl.replace_pattern(gm, lambda x, s, t: pool(x, s, t, padding=[0, 0]), lambda x, s, t: (x, x)) == []
    )


def test_a_match_maps_every_node_of_the_pattern():
    gm = traced(lambda x, y: torch.relu(torch.mm(x, y)))
    by_name = {node.name: node for node in gm.graph.nodes}
    pattern = traced(lambda a, b: torch.relu(torch.mm(a, b)))
    (match,) = tdsl.replace_pattern(gm, pattern, lambda a, b: torch.mm(a, b))
    assert {node.name: match.nodes_map[node] for node in pattern.graph.nodes if node.op != "output"} == {
        "a": by_name["x"],
        "b": by_name["y"],
        "mm": by_name["mm"],
        "relu": by_name["relu"],
    }
    assert match.nodes_map[match.anchor] is by_name["relu"]


def test_arguments_in_lists_slices_and_dictionaries_are_looked_into():
    def before(x, y, n):
        return torch.cat([x, torch.stack([y, y])])[:, :n]

    assert_becomes(
        before,
        lambda x, y, n: torch.cat([x, torch.stack([y, y])])[:, :n],
        lambda x, y, n: x[:n],
        lambda x, y, n: x[:n],
        matches=1,
        inputs=(draw(3, 3), draw(3), 2),
    )
    assert_becomes(
        before,
        lambda x, y, n: torch.cat([x, torch.stack([y, y])])[:n],
        lambda x, y, n: x,
        before,
        matches=0,
        inputs=(draw(3, 3), draw(3), 2),
    )


@fx.wrap
def shifted(x, entries, times=1):
    return x * entries["scale"] * times + entries["shift"][0]


def test_a_dictionary_matches_by_its_keys_whatever_their_order():
    gm = traced(lambda x, a, b: shifted(x, entries={"shift": [b], "scale": a}))
    other = traced(lambda x, a, b: shifted(x, {"shift": [b], "scale": b}))

    def pattern(x, a, b):
        return shifted(x, {"scale": a, "shift": [b]}, times=1)

    for graph in (gm, other):
        assert len(tdsl.replace_pattern(graph, pattern, lambda x, a, b: x * a + b)) == 1
        torch.testing.assert_close(graph(draw(2), draw(2), draw(2)), draw(2) * draw(2) + draw(2))
    assert (
        tdsl.replace_pattern(traced(lambda x, a: shifted(x, {"scale": a})), pattern, lambda x, a, b: x) == []
    )


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "pattern, replacement, message",
    [
        (lambda x: torch.neg(x), lambda x, y: x, "2 parameters, the pattern 1"),
        (lambda x: torch.neg(x), lambda x: (x, x), "returns 2 values, the pattern 1"),
        (lambda x: torch.neg(x), lambda x: 3, "returns 3"),
        (lambda x, y: torch.neg(x), lambda x, y: x + y, "uses y, of which the pattern knows nothing"),
        (lambda x: x, lambda x: x, "nothing to replace"),
        (lambda x: (x + 1, torch.neg(x))[1], lambda x: x, "does not use it"),
        (lambda x, y: (torch.neg(x), torch.relu(y)), lambda x, y: (x, y), "no value in common"),
        (lambda x: torch.neg(x) if x.sum() > 0 else x, lambda x: x, "cannot be traced"),
        (torch.neg, lambda x: x, "cannot be traced"),
    ],
)
def test_mistakes_are_explained(pattern, replacement, message):
    gm = traced(lambda x: torch.relu(torch.neg(x)))
    before = gm.code
    with pytest.raises(tdsl.TdslError, match=message):
        tdsl.replace_pattern(gm, pattern, replacement)
    assert gm.code == before
