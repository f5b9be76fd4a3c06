"""Every construct of the language at work on captured graphs."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from rewriting import apply, graph_of, library
from torch.export import Dim

from tdsl.engine import expression
from tdsl.engine.functions import BUILTINS
from tdsl.errors import TdslError
from tdsl.factor.table import DECOMPOSITIONS

X, Y, Z = (torch.randn(3, 4, generator=torch.Generator().manual_seed(i)) for i in range(3))

# ---------------------------------------------------------------- operands: associative, variadic, chained


@pytest.mark.parametrize(
    "written",
    [
        lambda x, y, z: (torch.relu(x) + y) + (torch.relu(x) + z),
        lambda x, y, z: torch.relu(x) + (y + (z + torch.relu(x))),
        lambda x, y, z: ((y + z) + torch.relu(x)) + torch.relu(x),
    ],
)
def test_a_sum_matches_however_it_is_bracketed(written):
    rule = """
    rule double {
        add(relu(a), relu(a), rest...)
      =>
        add(2 * relu(a), rest...)
    }
    """
    result = apply(rule, graph_of(written, X, Y, Z))
    assert result.rules == ["double"]
    result.assert_equal()
    assert apply(rule, graph_of(lambda x, y, z: (x + y) + (torch.relu(x) + z), X, Y, Z)).rules == []


def test_every_element_of_a_list_must_fit_and_is_rewritten():
    rule = """
    rule relu_of_pieces {
        concat(relu(xs)..., dim=d)
      =>
        relu(concat(xs..., dim=d))
    }
    """

    def pieces(x, y, z):
        return torch.cat([torch.relu(x), torch.relu(y), torch.relu(z)], dim=1)

    result = apply(rule, graph_of(pieces, X, Y, Z))
    assert result.operators == ["concat", "relu"]
    assert "concat(x, y, z, dim=-1)" in result.text
    result.assert_equal()
    other = graph_of(lambda x, y: torch.cat([torch.relu(x), torch.tanh(y)], dim=1), X, Y)
    assert apply(rule, other).rules == []


def test_a_function_may_be_applied_to_each_element_on_the_right():
    rule = """
    rule pieces_of_relu {
        relu(concat(xs..., dim=d))
      =>
        concat(relu(xs)..., dim=d)
    }
    """
    result = apply(rule, graph_of(lambda x, y, z: torch.relu(torch.cat([x, y, z])), X, Y, Z))
    assert result.operators == ["relu", "relu", "relu", "concat"]
    result.assert_equal()


def test_a_chain_is_matched_by_its_length():
    rule = """
    rule many {
        neg{2,3}(x)
      =>
        relu(x)
    }
    """

    def negated(times):
        def run(x):
            for _ in range(times):
                x = x.neg()
            return torch.exp(x)

        return graph_of(run, X)

    assert apply(rule, negated(1)).operators == ["neg", "exp"]
    assert apply(rule, negated(2)).operators == ["relu", "exp"]
    assert apply(rule, negated(3)).operators == ["relu", "exp"]
    assert apply(rule, negated(4)).operators == ["neg", "relu", "exp"]


def test_alternatives_are_tried_in_the_order_they_are_written():
    rule = """
    rule activation {
        (tanh(y: [m, n]) | sigmoid(y: [m, n]) | relu(y: [m, n]))
      =>
        gelu(y)
    }
    """
    for written in (torch.tanh, torch.sigmoid, torch.relu):
        assert apply(rule, graph_of(lambda x, f=written: f(x), X)).operators == ["gelu"]
    assert apply(rule, graph_of(lambda x: torch.exp(x), X)).operators == ["exp"]


# ---------------------------------------------------------------- operator variables

PERMUTE_LAST = """
rule permute_last(f: pointwise) {
    f(permute(x, p))
  =>
    permute(f(x), p)
}
"""


@pytest.mark.parametrize("function", [torch.tanh, lambda x: F.gelu(x, approximate="tanh"), F.leaky_relu])
def test_an_operator_variable_stands_for_any_of_its_class_with_its_attributes(function):
    result = apply(PERMUTE_LAST, graph_of(lambda x: function(x.T), X))
    assert result.operators[-1] == "permute"
    result.assert_equal()


def test_an_operator_outside_the_class_does_not_match():
    assert apply(PERMUTE_LAST, graph_of(lambda x: torch.softmax(x.T, -1), X)).rules == []


@pytest.mark.parametrize(("second", "rules"), [([0, 1], ["undo"]), ([0, 2], []), ([0], [])])
def test_an_attribute_written_twice_is_one_list(second, rules):
    rule = "rule undo { flip(flip(x, d), d) => x }"
    cube = torch.arange(24.0).reshape(2, 3, 4)
    result = apply(rule, graph_of(lambda x: torch.relu(torch.flip(torch.flip(x, [0, 1]), second)), cube))
    assert result.rules == rules
    result.assert_equal()


@pytest.mark.parametrize(
    ("padding", "condition", "fires"),
    [
        (0, "p == 0", True),
        ((0, 1), "p == 0", False),
        (1, "p == 0", False),
        ((0, 1), "p != 0", True),
        (0, "p != 0", False),
        ((0, 1), "p <= 1", True),
        ((2, 0), "p <= 1", False),
        ((0, 1), "p == [0, 1]", True),
        ((1, 0), "p == [0, 1]", False),
        ((0, 1), "p == [0, 1, 0]", False),
        ((0, 1), "p != [0, 1, 0]", True),
        ((0, 1), "1 >= p", True),
        ((2, 0), "1 >= p", False),
    ],
)
def test_a_list_is_compared_entry_by_entry(padding, condition, fires):
    """With a number each of its entries is, and `!=` asks that some of them differ."""
    rule = f"""
    rule later {{
        max_pool2d(relu(x), k, s, p)
      =>
        relu(max_pool2d(x, k, s, p))
      where
        {condition}
    }}
    """
    result = apply(
        rule, graph_of(lambda x: F.max_pool2d(torch.relu(x), 4, 4, padding), torch.randn(1, 2, 8, 8))
    )
    assert result.rules == (["later"] if fires else [])
    result.assert_equal()


def test_an_operator_variable_written_twice_is_one_operator():
    rule = """
    rule once(f: pointwise) {
        add(f(x), f(y))
      =>
        sub(f(x), neg(f(y)))
    }
    """
    assert apply(rule, graph_of(lambda x, y: torch.tanh(x) + torch.tanh(y), X, Y)).rules == ["once"]
    assert apply(rule, graph_of(lambda x, y: torch.tanh(x) + torch.relu(y), X, Y)).rules == []
    same = graph_of(lambda x, y: F.leaky_relu(x, 0.1) + F.leaky_relu(y, 0.1), X, Y)
    other = graph_of(lambda x, y: F.leaky_relu(x, 0.1) + F.leaky_relu(y, 0.2), X, Y)
    assert apply(rule, same).rules == ["once"]
    assert apply(rule, other).rules == []


# ---------------------------------------------------------------- sizes on the right


def test_a_symbolic_size_on_the_right_is_computed_in_the_graph():
    rule = """
    rule inside {
        relu(reshape(x: [b, n, m], s))
      =>
        reshape(relu(x), [b * n, m])
      where
        shape(lhs) == [b * n, m]
    }
    """
    dynamic = {"x": {0: "batch", 1: "length"}}
    graph = graph_of(lambda x: torch.relu(x.flatten(0, 1)), torch.randn(2, 3, 4), dynamic=dynamic)
    result = apply(rule, graph)
    assert result.rules == ["inside"]
    result.assert_equal()
    result.assert_equal(torch.randn(5, 7, 4))
    across = graph_of(lambda x: torch.relu(x.flatten(1, 2)), torch.randn(2, 3, 4), dynamic=dynamic)
    assert apply(rule, across).rules == []


def test_a_replacement_of_another_type_at_this_site_is_not_made():
    rule = """
    rule single {
        relu(x)
      =>
        tanh(cast(x, f32))
    }
    """
    assert apply(rule, graph_of(lambda x: torch.relu(x), X)).rules == ["single"]
    assert apply(rule, graph_of(lambda x: torch.relu(x), X.double())).rules == []


# ---------------------------------------------------------------- lazy definitions


@pytest.fixture
def decompositions(monkeypatch):
    """The weights that an SVD was computed of, in order."""
    seen: list[tuple[int, ...]] = []
    svd = DECOMPOSITIONS["svd"]

    def counted(weight, *ranks):
        seen.append(tuple(weight.shape))
        return svd.function(weight, *ranks)

    table = {**DECOMPOSITIONS, "svd": dataclasses.replace(svd, function=counted)}
    monkeypatch.setattr(expression, "DECOMPOSITIONS", table)
    return seen


FACTOR = """
rule factor(rank: Rank = 2) {
    linear(x: [..., n], W: const [m, n], b?)
  ~>
    linear(linear(x, V), U, b)
  where
    (U: [m, r], V: [r, n]) = svd(W, rank)
    r * (m + n) < m * n
    m > 8
}
"""


def test_a_decomposition_is_not_computed_when_a_cheaper_condition_fails(decompositions):
    narrow = graph_of(lambda x, w: F.linear(x, w), X, w=torch.randn(8, 4))
    assert apply(FACTOR, narrow).rules == []
    assert decompositions == []


def test_a_decomposition_is_computed_once_for_a_match_that_holds(decompositions):
    wide = graph_of(lambda x, w: F.linear(x, w), X, w=torch.randn(16, 4))
    result = apply(FACTOR, wide)
    assert result.rules == ["factor"]
    assert decompositions == [(16, 4)]
    assert result.operators == ["linear", "linear"]


COMPUTED = """
rule factor(rank: Rank = 2) {
    linear(x: [..., n], W: const [m, n])
  ~>
    linear(linear(x, V), U)
  where
    (U: [FIRST], V: [r, n]) = svd(W, rank)
    Z: [SECOND] = concat(U, U, dim=0)
    shape(Z) == [m + m, r]
}
"""


def computed(first: str, second: str) -> str:
    return COMPUTED.replace("FIRST", first).replace("SECOND", second)


WIDE = graph_of(lambda x, w: F.linear(x, w), X, w=torch.randn(16, 4))


@pytest.mark.parametrize(
    ("first", "second"),
    [("m, r", "2 * m, r"), ("m * n div n, r", "m + m, r"), ("m * r div r, r", "min(2 * m, 100), r")],
)
def test_a_size_in_a_definition_may_be_computed(first, second):
    """From sizes of the match, from those of other definitions, and from those that it binds itself."""
    result = apply(computed(first, second), WIDE)
    assert result.rules == ["factor"]
    assert result.operators == ["linear", "linear"]


def test_a_computed_size_that_a_definition_does_not_have_is_an_error():
    """Where sizes are larger than those on which a rule is tried when it is loaded."""
    large = graph_of(lambda x, w: F.linear(x, w), X, w=torch.randn(64, 4))
    with pytest.raises(TdslError, match="Z has size 128 where 100 is written"):
        apply(computed("m, r", "min(2 * m, 100), r"), large)


# ---------------------------------------------------------------- absent operands

SIBLINGS = """
rule siblings {
    p = linear(x: [..., n], A: const [k, n], a?)
    q = linear(x, B: const [m, n], b?)
  =>
    (p, q) = split(linear(x, concat(A, B, dim=0), concat(a, b, dim=0)), [k, m], dim=-1)
}
"""
W, V = torch.randn(5, 4), torch.randn(6, 4)


def test_two_absent_biases_stay_absent():
    result = apply(SIBLINGS, graph_of(lambda x, w, v: (F.linear(x, w), F.linear(x, v)), X, w=W, v=V))
    assert result.operators[0] == "linear"
    assert len(list(result.module.parameters())) == 1
    result.assert_equal()


@pytest.mark.parametrize("which", ["first", "second"])
def test_one_absent_bias_is_zeros_beside_the_other(which):
    size = 5 if which == "first" else 6

    def written(x, w, v, b):
        first, second = (b, None) if which == "first" else (None, b)
        return F.linear(x, w, first), F.linear(x, v, second)

    result = apply(SIBLINGS, graph_of(written, X, w=W, v=V, b=torch.randn(size)))
    assert result.rules == ["siblings"]
    bias = next(p for p in result.module.parameters() if p.ndim == 1)
    assert bias.shape == (11,)
    assert int((bias == 0).sum()) == 11 - size
    result.assert_equal()


MERGE = """
rule merge {
    linear(linear(x: [..., n], A: const [k, n], a?), B: const [m, k], b?)
  =>
    linear(x, B @ A, B @ a + b)
}
"""


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("outer", [False, True])
def test_a_sum_with_an_absent_bias_is_the_other_bias(inner, outer):
    def written(x, w, v, a, b):
        return F.linear(F.linear(x, w, a if inner else None), v, b if outer else None)

    weights = {"w": torch.randn(5, 4), "v": torch.randn(6, 5), "a": torch.randn(5), "b": torch.randn(6)}
    result = apply(MERGE, graph_of(written, X, **weights))
    assert result.operators == ["linear"]
    shapes = sorted(tuple(p.shape) for p in result.module.parameters())
    assert shapes == ([(6,), (6, 4)] if inner or outer else [(6, 4)])
    result.assert_equal(tolerance=1e-4)


def test_an_operand_that_must_be_there_does_not_match_an_absent_one():
    rule = MERGE.replace("a?", "a").replace("b?", "b")
    bare = graph_of(lambda x, w, v: F.linear(F.linear(x, w), v), X, w=torch.randn(5, 4), v=torch.randn(6, 5))
    assert apply(rule, bare).rules == []
    assert apply(MERGE, bare).rules == ["merge"]


# ---------------------------------------------------------------- const and element types


def test_const_is_a_weight_and_not_an_input():
    assert (
        apply(MERGE, graph_of(lambda x, w, v: F.linear(F.linear(x, w), v), X, W, torch.randn(6, 5))).rules
        == []
    )


def test_a_written_element_type_is_checked():
    rules = library("rule single {\n    relu(x: f32)\n  =>\n    tanh(x)\n}\n")
    assert apply(rules, graph_of(lambda x: torch.relu(x), X)).rules == ["single"]
    assert apply(rules, graph_of(lambda x: torch.relu(x), X.double())).rules == []


@pytest.mark.parametrize("last", [False, True])
def test_a_kept_value_may_stand_behind_the_one_that_is_replaced(last):
    rule = """
    rule sum_of_sums {
        p = sum(x: [..., m, n], [-2, -1])
        q = sum(x, [-1])
      =>
        p = sum(q, [-1])
    }
    """

    def before(x):
        rows = x.sum(-1)
        return torch.relu(x.sum((-2, -1))), rows

    def behind(x):
        total = torch.relu(x.sum((-2, -1)))
        return total, x.sum(-1)

    result = apply(rule, graph_of(behind if last else before, X))
    assert result.rules == ["sum_of_sums"]
    assert result.operators == ["sum", "sum", "relu"]
    result.assert_equal()


def test_a_value_that_others_read_stays_and_counts_on_neither_side():
    rule = """
    rule r {
        h = neg(x)
        y = relu(h)
      =>
        y = clamp(-x, min=0)
      where
        nodes(rhs) <= nodes(lhs)
    }
    """
    assert apply(rule, graph_of(lambda x: torch.relu(-x), X)).rules == ["r"]
    assert apply(rule, graph_of(lambda x: (torch.relu(h := -x), h.exp()), X)).rules == []
    freely = rule.replace("nodes(rhs) <= nodes(lhs)", "nodes(lhs) == 1")
    kept = apply(freely, graph_of(lambda x: (torch.relu(h := -x), h.exp()), X))
    assert kept.rules == ["r"] and sorted(kept.operators) == ["clamp", "exp", "neg", "neg"]


@pytest.mark.parametrize("varies", [False, True])
def test_what_operators_write_counts_and_what_reshapes_rename_does_not(varies):
    """Seven numbers a row, twice, on either side."""
    rule = """
    rule r {
        relu(concat(x: [..., 3], y: [..., 4], dim=-1))
      =>
        concat(reshape(relu(x), shape(x)), relu(y), dim=-1)
      where
        written(rhs) <= written(lhs)
    }
    """
    rows = {0: Dim("rows", min=2, max=9)}
    graph = graph_of(
        lambda x, y: torch.relu(torch.cat([x, y], -1)),
        *(torch.randn(5, 3), torch.randn(5, 4)),
        dynamic={"x": rows, "y": rows} if varies else None,
    )
    assert apply(rule, graph).rules == ["r"]
    assert apply(rule.replace("<=", "<"), graph).rules == []


TYPES = {
    str(t).removeprefix("torch."): t for t in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
}
TYPES |= {
    str(t).removeprefix("torch."): t for t in (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
}


@pytest.mark.parametrize("wide", TYPES)
@pytest.mark.parametrize("narrow", TYPES)
def test_a_type_holds_another_where_its_extremes_survive(wide, narrow):
    """Extremes, and the numbers next to 1: what a conversion rounds first."""
    kind = TYPES[narrow]
    info = torch.finfo(kind) if kind.is_floating_point else torch.iinfo(kind)
    numbers = [
        info.max,
        info.min,
        info.max - 1,
        *((info.tiny, 1 + info.eps) if kind.is_floating_point else ()),
    ]
    given = torch.tensor(numbers, dtype=kind)
    survive = [a == b for a, b in zip(given.tolist(), given.to(TYPES[wide]).tolist(), strict=True)]
    assert BUILTINS["holds"](None, TYPES[wide], kind) == all(survive)


# ---------------------------------------------------------------- parameters


def test_a_parameter_is_its_number_on_both_sides():
    """A product with another number, or with a tensor, is another matter."""
    graph = graph_of(lambda x, y: (torch.relu(x) * 3, torch.relu(x) * -3, torch.relu(x) * y), X, Y)
    text = "rule inside(factor: Real = {}) {{ relu(x) * factor => relu(x * factor) }}"
    right = apply(text.format(3), graph)
    assert right.rules == ["inside"] and "mul(x, 3)" in right.text
    right.assert_equal()
    assert apply(text.format(2), graph).rules == []
    assert apply("rule outside(f: Real = 0.2) { leaky_relu(x, f) => maximum(x, f * x) }", graph).rules == []


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ("relu(n)", "the parameter `n` cannot stand here"),
        ("relu(x) * (n: [4])", "`n` is a parameter, and here a tensor is declared"),
    ],
)
def test_a_parameter_is_no_tensor(term, message):
    with pytest.raises(TdslError, match=message):
        library(f"rule r(n: Int = 2) {{ {term} => tanh(x) * n }}")
