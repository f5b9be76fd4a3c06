"""What `replace_pattern` gets right beyond PyTorch's rewriter, on traced, exported and captured graphs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from rewriting import Net
from torch import Tensor, fx, nn

import tdsl
from tdsl.capture import capture
from tdsl.engine.text import graph_text


def draw(*sizes: int, seed: int = 0) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


A, B, C = (draw(4, 4, seed=i) for i in range(3))


def traced(function, inputs) -> fx.GraphModule:
    return fx.symbolic_trace(function)


def exported(function, inputs) -> fx.GraphModule:
    return torch.export.export(Net(function), inputs).module(check_guards=False)


def captured(function, inputs) -> fx.GraphModule:
    return capture(Net(function), inputs).module


FORMS = pytest.mark.parametrize("form", [traced, exported, captured])


def replaced(form, function, pattern, replacement, *inputs: Tensor) -> int:
    """How often the pattern was replaced; the result computes what the function does."""
    gm = form(function, inputs)
    found = tdsl.replace_pattern(gm, pattern, replacement)
    gm.graph.lint()
    torch.testing.assert_close(gm(*inputs), function(*inputs))
    return len(found)


# ---------------------------------------------------------------- spelling


@FORMS
@pytest.mark.parametrize(
    "function",
    [
        lambda x, a, c: x * a + c,
        lambda x, a, c: c + x * a,
        lambda x, a, c: torch.add(c, torch.mul(x, a)),
        lambda x, a, c: c.add(x.mul(a)),
    ],
)
def test_operands_of_commutative_operators_match_in_either_order_and_any_spelling(form, function):
    def pattern(x, a, c):
        return torch.add(torch.mul(x, a), c)

    assert replaced(form, function, pattern, lambda x, a, c: torch.addcmul(c, x, a), A, B, C) == 1


@FORMS
def test_operands_of_other_operators_keep_their_order(form):
    def pattern(x, a, c):
        return c - x * a

    assert replaced(form, lambda x, a, c: x * a - c, pattern, lambda x, a, c: x, A, B, C) == 0
    assert replaced(form, lambda x, a, c: c - x * a, pattern, lambda x, a, c: c - a * x, A, B, C) == 1


@FORMS
def test_scaled_addition_is_not_addition(form):
    def function(x, y):
        return torch.add(x, y, alpha=2)

    assert replaced(form, function, lambda x, y: x + y, lambda x, y: x - y, A, B) == 0
    assert replaced(form, function, lambda x, y: torch.add(x, y, alpha=2), lambda x, y: x + y + y, A, B) == 1


@FORMS
@pytest.mark.parametrize(
    "function", [lambda x: F.softmax(x, -1), lambda x: torch.softmax(x, dim=-1), lambda x: x.softmax(-1)]
)
def test_positional_and_keyword_arguments_are_the_same(form, function):
    def stable(x):
        return torch.softmax(x - x.amax(-1, keepdim=True), dim=-1)

    assert replaced(form, function, lambda x: F.softmax(x, dim=-1), stable, A) == 1
    assert replaced(form, function, lambda x: F.softmax(x, dim=0), stable, A) == 0


@pytest.mark.parametrize("form", [exported, captured])
def test_axes_count_from_either_end_where_shapes_are_known(form):
    def stable(x):
        return torch.softmax(x - x.amax(1, keepdim=True), 1)

    assert replaced(form, lambda x: x.softmax(1), lambda x: x.softmax(-1), stable, A) == 1
    assert replaced(form, lambda x: x.softmax(-1), lambda x: x.softmax(1), stable, A) == 1
    assert replaced(form, lambda x, y: torch.cat([x, y], -1), lambda x, y: torch.cat([x, y], 1),
                    lambda x, y: torch.cat([y, x], 1).roll(4, 1), A, B) == 1  # fmt: skip


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 8)
        self.outer = nn.Linear(8, 4)

    def forward(self, x):
        return x + self.outer(F.gelu(self.inner(x)))


@pytest.mark.parametrize("form", ["exported", "captured"])
def test_a_pattern_written_with_torch_functions_matches_an_exported_model(form):
    model = Block().eval()
    if form == "exported":
        gm = torch.export.export(model, (A,)).module(check_guards=False)
    else:
        gm = capture(model, (A,)).module
    wanted = model(A)

    def mlp(x, w1, b1, w2, b2):
        return F.linear(F.gelu(F.linear(x, w1, b1)), w2, b2)

    def spelled_out(x, w1, b1, w2, b2):
        hidden = x @ w1.t() + b1
        return (hidden * 0.5 * (1 + torch.erf(hidden * 0.5**0.5))) @ w2.t() + b2

    assert len(tdsl.replace_pattern(gm, mlp, spelled_out)) == 1
    torch.testing.assert_close(gm(A), wanted)
    calls = [node for node in gm.graph.nodes if node.op == "call_function"]
    assert all(isinstance(node.target, torch._ops.OpOverload) for node in calls)
    assert all("val" in node.meta for node in gm.graph.nodes if node.op != "output")


def test_new_nodes_of_a_captured_graph_are_in_normal_form():
    gm = capture(Net(lambda x: torch.relu(x)), (A,)).module
    tdsl.replace_pattern(gm, lambda x: F.relu(x), lambda x: x.transpose(0, 1).softmax(0).t())
    text = graph_text(gm, types=False)
    assert "permute(x, [1, 0])" in text
    assert "softmax(permute, -2)" in text


# ---------------------------------------------------------------- two products become one


def products(x, w, v):
    return torch.mm(x, w), torch.mm(x, v)


def one_product(x, w, v):
    both = torch.mm(x, torch.cat([w, v], 1))
    return both[:, :4], both[:, 4:]


@FORMS
def test_products_whose_operands_are_ready_become_one(form):
    assert (
        replaced(form, lambda x, w, v: torch.mm(x, w) - torch.mm(x, v), products, one_product, A, B, C) == 1
    )


@FORMS
def test_users_of_the_first_product_move_behind_a_second_operand_that_comes_late(form):
    def function(x, w, v):
        first = torch.mm(x, w)
        used = torch.relu(first)
        late = torch.exp(v)
        return used.sum() + torch.mm(x, late)

    assert replaced(form, function, products, one_product, A, B, C) == 1


@FORMS
def test_a_product_that_depends_on_the_other_does_not_merge_with_it(form):
    def function(x, w, v):
        first = torch.mm(x, w)
        return torch.mm(x, v + first)

    assert replaced(form, function, products, one_product, A, B, C) == 0


@FORMS
def test_replacements_that_would_wait_for_each_other_are_not_both_made(form):
    def function(x, y, w):
        first, fourth = torch.mm(x, w), torch.mm(y, w)
        second, third = torch.mm(x, fourth), torch.mm(y, first)
        return second + third

    # x·w with x·(y·w), and y·w with y·(x·w): either pair can be merged, and then the other cannot.
    assert replaced(form, function, products, one_product, A, B, C) == 1


# ---------------------------------------------------------------- which nodes may be one


@FORMS
def test_two_parameters_may_stand_for_one_value(form):
    assert replaced(form, lambda x: x * x + x, lambda x, a, c: x * a + c, torch_addcmul, A) == 1


def torch_addcmul(x, a, c):
    return torch.addcmul(c, x, a)


@FORMS
def test_two_calls_of_a_pattern_are_never_one_call_of_the_graph(form):
    def function(x):
        r = torch.relu(x)
        return r + r

    def twice(x, y):
        return torch.relu(x) + torch.relu(y)

    assert replaced(form, function, twice, lambda x, y: x + y, A) == 0
    assert (
        replaced(form, lambda x, y: x.relu() + y.relu(), twice, lambda x, y: y.relu() + x.relu(), A, B) == 1
    )


@FORMS
@pytest.mark.parametrize(
    "function, count",
    [
        (lambda x: torch.relu(torch.neg(x)), 1),
        (lambda x: (lambda n: torch.relu(n) + n)(torch.neg(x)), 0),
        (lambda x: (lambda n: (torch.relu(n), n))(torch.neg(x)), 0),
    ],
)
def test_an_inner_value_that_something_else_needs_blocks_the_match(form, function, count):
    assert (
        replaced(form, function, lambda x: torch.relu(torch.neg(x)), lambda x: -torch.clamp(x, max=0), A)
        == count
    )


@FORMS
def test_an_inner_value_may_also_be_an_operand_from_outside(form):
    def function(x):
        r = torch.relu(x)
        return r * r

    # y is relu(x) itself, which stays because the replacement reads it.
    assert replaced(form, function, lambda x, y: torch.relu(x) * y, lambda x, y: y * x.relu(), A) == 1


# ---------------------------------------------------------------- typed graphs


def test_a_replacement_of_another_type_is_refused_and_changes_nothing():
    gm = capture(Net(lambda x: torch.relu(x) + torch.relu(x.relu())), (A,)).module
    before = gm.code
    with pytest.raises(tdsl.TdslError, match=r"f32\[4, 4\] would become f32\[\]"):
        tdsl.replace_pattern(gm, lambda x: torch.relu(x), lambda x: torch.sum(x))
    with pytest.raises(tdsl.TdslError, match="does not fit at relu"):
        tdsl.replace_pattern(gm, lambda x: torch.relu(x), lambda x: x.reshape(5, 5))
    assert gm.code == before
    assert len(tdsl.replace_pattern(gm, lambda x: torch.relu(x), lambda x: torch.abs(x))) == 3


def test_weights_that_only_the_match_used_leave_the_graph():
    model = nn.Linear(4, 4)
    gm = capture(model, (A,)).module
    tdsl.replace_pattern(gm, lambda x, w, b: F.linear(x, w, b), lambda x, w, b: x * 2)
    assert gm.graph.find_nodes(op="get_attr") == []
    torch.testing.assert_close(gm(A), A * 2)


def test_dynamic_sizes_stay_dynamic():
    model = Net(lambda x: torch.relu(x) * 2)
    gm = capture(model, (A,), dynamic_shapes=({0: "batch"},)).module
    assert len(tdsl.replace_pattern(gm, lambda x: x * 2, lambda x: x.reshape(-1, 4) + x)) == 1
    torch.testing.assert_close(gm(draw(7, 4)), torch.relu(draw(7, 4)) * 2)
