"""Eleven things a graph rewriter is expected to get right, each with what must not happen beside it."""

from __future__ import annotations

import inspect
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from rewriting import apply, graph_of, library
from torch import nn

import tdsl
from tdsl import TdslError
from tdsl.engine.census import copied
from tdsl.engine.explain import explain

A, B, C = (torch.randn(4, 4, generator=torch.Generator().manual_seed(i)) for i in range(3))

# ---------------------------------------------------------------- 1: commutative operands

FUSE = """
rule fuse {
    add(mul(x, a), c)
  =>
    addcmul(c, x, a)
}
"""


@pytest.mark.parametrize(
    "written",
    [
        lambda x, a, c: x * a + c,
        lambda x, a, c: c + x * a,
        lambda x, a, c: c + a * x,
    ],
)
def test_operands_of_a_commutative_operator_match_in_either_order(written):
    result = apply(FUSE, graph_of(written, A, B, C))
    assert result.operators == ["addcmul"]
    result.assert_equal()


def test_operands_of_an_operator_that_does_not_commute_keep_their_order():
    rule = """
    rule fuse {
        sub(mul(x, a), c)
      =>
        neg(sub(c, mul(x, a)))
    }
    """
    assert apply(rule, graph_of(lambda x, a, c: x * a - c, A, B, C)).rules == ["fuse"]
    assert apply(rule, graph_of(lambda x, a, c: c - x * a, A, B, C)).rules == []


# ---------------------------------------------------------------- 2: a chain of products

RIGHT_ASSOCIATE = """
rule right {
    matmul(matmul(a: [m, k], b: [k, n]), c: [n, l])
  =>
    matmul(a, matmul(b, c))
}
"""


class Product(nn.Module):
    """The product of `count` matrices, from the left."""

    def forward(self, matrices):
        result = matrices[0]
        for matrix in matrices[1:]:
            result = result @ matrix
        return result


def test_a_chain_of_nine_products_is_right_associated_by_eight_rewrites_in_one_call():
    # Ten matrices are nine products; the last of them is the only one that already stands right.
    matrices = [torch.randn(3, 3, generator=torch.Generator().manual_seed(i)) for i in range(10)]
    result = apply(RIGHT_ASSOCIATE, graph_of(Product(), matrices))
    assert result.rules == ["right"] * 8
    assert result.operators == ["matmul"] * 9
    lines = result.text.splitlines()
    for above, line in pairwise(lines[:-1]):
        assert line.endswith(f", {above.partition(' = ')[0]})")
    result.assert_equal(tolerance=1e-2)


def test_a_chain_that_stands_right_already_is_left_alone():
    assert apply(RIGHT_ASSOCIATE, graph_of(lambda a, b, c: a @ (b @ c), A, B, C)).rules == []


# ---------------------------------------------------------------- 3: termination


def test_a_rule_whose_right_side_its_left_side_matches_is_refused_when_loaded():
    with pytest.raises(TdslError) as error:
        library("""
        rule swap {
            add(x, y)
          =>
            add(y, x)
        }
        """)
    assert error.value.message == "the rule would fire for ever"
    assert error.value.span is not None and error.value.span.line == 5
    assert "this is the left side again" in str(error.value)


def test_a_rule_that_swaps_operands_which_do_not_commute_is_loaded():
    assert library("rule swap {\n    sub(x, y)\n  =>\n    neg(sub(y, x))\n}\n").rules


def test_two_rules_that_undo_each_other_stop_and_are_named():
    loop = """
    rule there {
        relu(x)
      =>
        clamp(x, min=0)
    }

    rule back {
        clamp(x, min=0)
      =>
        relu(x)
    }
    """
    graph = graph_of(lambda x: torch.relu(x), A)
    with pytest.raises(TdslError) as error:
        apply(loop, graph)
    assert "rules.there" in error.value.message and "rules.back" in error.value.message
    assert "undo each other" in error.value.message
    # One of them alone stops by itself.
    assert apply(loop, graph, select="there").rules == ["there"]


# ---------------------------------------------------------------- 4: sibling products

SIBLINGS = """
rule siblings {
    p = matmul(x: [l, n], V: [n, k])
    q = matmul(x, W: [n, m])
  =>
    (p, q) = split(matmul(x, concat(V, W, dim=-1)), [k, m], dim=-1)
}
"""


def test_siblings_whose_operands_are_ready_are_merged():
    result = apply(SIBLINGS, graph_of(lambda x, v, w: (x @ v, torch.relu(x @ w)), A, B, C))
    assert result.operators.count("matmul") == result.operators.count("split") == 1
    result.assert_equal()


def test_siblings_are_merged_when_the_second_weight_comes_after_a_use_of_the_first_product():
    def written(x, v, w):
        used = torch.relu(x @ v)
        late = torch.tanh(w)
        return used + x @ late

    result = apply(SIBLINGS, graph_of(written, A, B, C))
    assert result.rules == ["siblings"]
    assert result.operators.count("matmul") == 1
    order = result.operators
    assert order.index("tanh") < order.index("matmul") < order.index("relu")
    result.assert_equal()


def test_siblings_are_left_alone_when_the_second_weight_depends_on_the_first_product():
    def written(x, v, w):
        first = x @ v
        return x @ (w + first)

    result = apply(SIBLINGS, graph_of(written, A, B, C))
    assert result.rules == []
    assert result.operators.count("matmul") == 2


# ---------------------------------------------------------------- 5: types of the sides


def test_a_rule_that_changes_the_shape_is_refused_when_loaded():
    with pytest.raises(TdslError) as error:
        library("""
        rule wrong {
            relu(x)
          =>
            sum(x)
        }
        """)
    assert error.value.message == "the two sides have different shapes"
    assert "sum(x)" in str(error.value) and "as on the left" in str(error.value)


def test_a_rule_that_keeps_the_shape_is_loaded():
    assert list(library("rule right {\n    relu(x)\n  =>\n    maximum(x, 0 * x)\n}\n").rules) == [
        "rules.right"
    ]


# ---------------------------------------------------------------- 6: conditions of alternatives


def test_a_condition_inside_an_alternative_is_checked():
    rule = """
    rule saturate {
        (sigmoid(x: [m, n]) | tanh(x: [m, n]) where n > 8)
      =>
        relu(x)
    }
    """
    narrow, wide = torch.randn(2, 4), torch.randn(2, 16)
    assert apply(rule, graph_of(lambda x: torch.sigmoid(x), narrow)).operators == ["relu"]
    assert apply(rule, graph_of(lambda x: torch.tanh(x), narrow)).operators == ["tanh"]
    assert apply(rule, graph_of(lambda x: torch.tanh(x), wide)).operators == ["relu"]


# ---------------------------------------------------------------- 7: who may be the same

DIFFERENCE = """
rule difference_of_relus {
    relu(x) - relu(y)
  =>
    relu(x) + neg(relu(y))
}
"""


def test_two_variables_may_bind_one_value():
    result = apply(FUSE, graph_of(lambda x: x * x + x, A))
    assert result.operators == ["addcmul"]
    assert "addcmul(x, x, x)" in result.text
    result.assert_equal()


def test_two_nodes_of_a_pattern_are_never_one_node_of_the_graph():
    def twice(x):
        once = torch.relu(x)
        return once - once

    assert apply(DIFFERENCE, graph_of(twice, A)).rules == []
    assert apply(DIFFERENCE, graph_of(lambda x, y: torch.relu(x) - torch.relu(y), A, B)).rules


# ---------------------------------------------------------------- 8: inner values in use elsewhere

NEG_RELU = """
rule negative_part {
    neg(relu(x))
  =>
    clamp(neg(x), max=0)
}
"""


def test_an_inner_value_that_is_used_elsewhere_blocks_the_match():
    def shared(x):
        inner = torch.relu(x)
        return torch.neg(inner), torch.exp(inner)

    assert apply(NEG_RELU, graph_of(shared, A)).rules == []


def test_an_inner_value_that_is_an_output_blocks_the_match():
    def output(x):
        inner = torch.relu(x)
        return torch.neg(inner), inner

    assert apply(NEG_RELU, graph_of(output, A)).rules == []


def test_an_inner_value_that_nothing_else_uses_goes_away():
    result = apply(NEG_RELU, graph_of(lambda x: torch.neg(torch.relu(x)), A))
    assert result.operators == ["neg", "clamp"]


def test_an_inner_value_that_the_left_side_names_is_kept():
    rule = """
    rule keep {
        inner = exp(x)
        y = neg(inner)
      =>
        y = inner * -1
    }
    """

    def shared(x):
        inner = torch.exp(x)
        return torch.neg(inner), inner, torch.relu(inner)

    result = apply(rule, graph_of(shared, A))
    assert result.rules == ["keep"]
    assert sorted(result.operators) == ["exp", "mul", "relu"]
    result.assert_equal()


# ---------------------------------------------------------------- 9: spellings of an attribute


@pytest.mark.parametrize("pattern", ["softmax(x, -1)", "softmax(x, dim=-1)", "softmax(x: [a, b, c], dim=2)"])
@pytest.mark.parametrize(
    "written", [lambda x: torch.softmax(x, -1), lambda x: torch.softmax(x, dim=2), lambda x: x.softmax(-1)]
)
def test_an_axis_is_the_same_however_it_is_counted_and_passed(pattern, written):
    rule = f"rule log {{\n    log({pattern})\n  =>\n    log_softmax(x, -1)\n}}\n"
    graph = graph_of(lambda x: torch.log(written(x)), torch.randn(2, 3, 4))
    assert apply(rule, graph).operators == ["log_softmax"]


def test_another_axis_does_not_match():
    rule = "rule log {\n    log(softmax(x, -1))\n  =>\n    log_softmax(x, -1)\n}\n"
    graph = graph_of(lambda x: torch.log(torch.softmax(x, 1)), torch.randn(2, 3, 4))
    assert apply(rule, graph).rules == []


# ---------------------------------------------------------------- 10: patterns in torch functions


def test_a_pattern_in_torch_functions_matches_an_exported_graph():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(x).softmax(1).add(x)

    graph = graph_of(Block(), torch.randn(3, 4))
    module = copied(graph.module)

    def pattern(x, w, b, y):
        return y + F.softmax(F.linear(x, w, b), dim=-1)

    def replacement(x, w, b, y):
        return torch.sigmoid(F.linear(x, w, b)) - y

    (match,) = tdsl.replace_pattern(module, pattern, replacement)
    assert {node.name for node in match.nodes_map.values()} >= {"linear", "softmax", "add"}
    calls = [n.target for n in module.graph.nodes if n.op == "call_function"]
    aten = torch.ops.aten
    assert calls == [aten.linear.default, aten.sigmoid.default, aten.sub.Tensor]
    x = torch.randn(3, 4)
    with torch.no_grad():
        linear = graph.original.fc(x)
        torch.testing.assert_close(module(x), torch.sigmoid(linear) - x)


def test_a_pattern_of_another_operator_matches_nothing_there():
    module = copied(graph_of(lambda x: torch.softmax(x, 1) + x, A).module)
    code = module.code

    def pattern(x):
        return F.log_softmax(x, dim=-1) + x

    assert tdsl.replace_pattern(module, pattern, lambda x: x) == []
    assert module.code == code


# ---------------------------------------------------------------- 11: near misses


def explained(rule: str, graph) -> str:
    loaded = library(rule)
    (name,) = loaded.rules
    return explain(loaded.rule(name), graph.module).render()


class Shared(nn.Module):
    def forward(self, x):
        inner = torch.relu(x)
        return torch.neg(inner), torch.exp(inner)


def test_an_inner_value_in_use_elsewhere_is_named_with_its_user_and_its_line():
    text = explained(NEG_RELU, graph_of(Shared(), A))
    assert "relu is also used by exp" in text and "rules.tdsl:3:9" in text
    line = inspect.getsourcelines(Shared.forward)[1] + 1
    assert f"test_behaviours.py:{line}" in text


def test_a_literal_that_differs_is_shown_with_both_values():
    rule = "rule log {\n    log(softmax(x, -1))\n  =>\n    log_softmax(x, -1)\n}\n"
    text = explained(rule, graph_of(lambda x: torch.log(torch.softmax(x, 0)), A))
    assert "-1" in text and "-2" in text and "log(softmax(x, -1))" in text


def test_a_condition_that_fails_is_shown_with_the_values_on_both_sides():
    rule = "rule wide {\n    relu(x: [m, n])\n  =>\n    tanh(x)\n  where\n    n > 2 * m\n}\n"
    text = explained(rule, graph_of(lambda x: torch.relu(x), A))
    assert "n > 2 * m" in text and "4" in text and "8" in text


def test_a_rule_that_fires_is_said_to_fire():
    text = explained(NEG_RELU, graph_of(lambda x: torch.neg(torch.relu(x)), A))
    assert "fires" in text and "neg" in text
    missed = explained(NEG_RELU, graph_of(lambda x: torch.neg(torch.tanh(x)), A))
    assert missed != text and "tanh" in missed
