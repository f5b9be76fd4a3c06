"""The worklist: order, limits, what is revisited, symbolic sizes, and that a fixed point is one."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rewriting import apply, graph_of, library
from torch import fx
from torch.fx.passes.infra.pass_base import PassResult
from torch.fx.passes.infra.pass_manager import PassManager

from tdsl import TdslError
from tdsl.engine.census import copied
from tdsl.engine.driver import Settings, rewrite
from tdsl.engine.journal import Applied, Journal
from tdsl.engine.passes import RulePass
from tdsl.engine.workspace import Workspace

X = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))

RIGHT_ASSOCIATE = """
rule right {
    matmul(matmul(a: [m, k], b: [k, n]), c: [n, l])
  =>
    matmul(a, matmul(b, c))
}
"""

CHAIN = [torch.randn(2 + i, 3 + i, generator=torch.Generator().manual_seed(i)) for i in range(5)]

STEPS = """
rule first {
    relu(x)
  =>
    sigmoid(x)
}

rule second {
    sigmoid(x)
  =>
    tanh(x)
}
"""


def product(a, b, c, d, e):
    return a @ b @ c @ d @ e


# ---------------------------------------------------------------- order


def test_users_before_operands_takes_a_chain_apart_in_fewest_rewrites():
    graph = graph_of(product, *CHAIN)
    top_down = apply(RIGHT_ASSOCIATE, graph)
    bottom_up = apply(RIGHT_ASSOCIATE, graph, settings=Settings(order="bottom_up"))
    assert (len(top_down.rules), len(bottom_up.rules)) == (3, 6)
    assert top_down.operators == bottom_up.operators == ["matmul"] * 4
    assert apply(RIGHT_ASSOCIATE, graph_of(top_down.module, *CHAIN)).rules == []
    top_down.assert_equal(tolerance=1e-3)


def test_the_order_decides_which_of_two_overlapping_matches_wins():
    pair = """
    rule pair {
        neg(neg(x))
      =>
        x + 0
    }
    """
    graph = graph_of(lambda x: torch.exp(x.neg().neg().neg()), X)
    # Of three negations the outer two or the inner two become an addition.
    assert apply(pair, graph).operators == ["neg", "add", "exp"]
    assert apply(pair, graph, settings=Settings(order="bottom_up")).operators == ["add", "neg", "exp"]


# ---------------------------------------------------------------- when to stop


def test_once_visits_what_was_there_and_not_what_a_rewrite_made():
    graph = graph_of(lambda x: torch.relu(x) + torch.sigmoid(x), X)
    once = apply(STEPS, graph, settings=Settings(repeat=False))
    assert sorted(once.operators) == ["add", "sigmoid", "tanh"]
    again = apply(STEPS, graph)
    assert sorted(again.operators) == ["add", "tanh", "tanh"]


def test_a_limit_that_suffices_is_no_error_and_one_that_does_not_is():
    graph = graph_of(product, *CHAIN)
    assert len(apply(RIGHT_ASSOCIATE, graph, settings=Settings(limit=3)).rules) == 3
    with pytest.raises(TdslError, match="no fixed point after 2 rewrites"):
        apply(RIGHT_ASSOCIATE, graph, settings=Settings(limit=2))


def test_a_rule_that_shrinks_the_graph_needs_no_limit():
    def many(x):
        for _ in range(300):
            x = -x
        return torch.exp(x)

    rules = library("rule double {\n    neg(neg(x))\n  =>\n    x\n}\n")
    assert rules.rule("double").shrinks
    assert apply(rules, graph_of(many, X)).operators == ["exp"]
    assert not library(RIGHT_ASSOCIATE).rule("right").shrinks


# ---------------------------------------------------------------- where


def test_a_scope_says_at_which_nodes_a_rule_may_begin():
    graph = graph_of(lambda x: torch.relu(torch.exp(torch.relu(x))), X)
    assert apply(STEPS, graph, select="first").operators == ["sigmoid", "exp", "sigmoid"]
    scope = Settings(scope=lambda node: node.name == "relu")
    assert apply(STEPS, graph, settings=scope, select="first").operators == ["sigmoid", "exp", "relu"]


# ---------------------------------------------------------------- symbolic sizes


def symbolic_conditions(condition: str) -> list[str]:
    """Rules applied to `relu(x)` with `x: [b, 4]`, 2 ≤ b ≤ 16, under a condition."""
    rule = f"rule step {{\n    relu(x: [b, n])\n  =>\n    tanh(x)\n  where\n    {condition}\n}}\n"
    batch = torch.export.Dim("batch", min=2, max=16)
    graph = graph_of(lambda x: torch.relu(x), torch.randn(3, 4), dynamic={"x": {0: batch}})
    environment = graph.module.graph.find_nodes(op="placeholder")[0].meta["val"].fake_mode.shape_env
    guards, ranges = len(environment.guards), dict(environment.var_to_range)
    result = apply(rule, graph)
    assert len(environment.guards) == guards
    assert environment.var_to_range == ranges
    assert not environment.replacements
    return result.rules


@pytest.mark.parametrize(
    "condition",
    ["b >= 2", "b <= 16", "b > 1 and n == 4", "2 * b >= 4", "not (b < 2)", "b * b >= 4", "b != 20"],
)
def test_a_comparison_that_holds_for_every_size_is_true(condition):
    assert symbolic_conditions(condition) == ["step"]


@pytest.mark.parametrize(
    "condition", ["b == 3", "b != 3", "b > 3", "not (b > 3)", "b % 2 == 0", "b < n", "b >= n", "b == n"]
)
def test_a_comparison_that_depends_on_a_size_is_false_and_adds_no_guard(condition):
    assert symbolic_conditions(condition) == []


# ---------------------------------------------------------------- a fixed point is one

LAWS = """
rule double_neg {
    neg(neg(x))
  =>
    x
}

rule neg_of_difference {
    neg(x - y)
  =>
    y - x
}

rule relu_of_relu {
    relu(relu(x))
  =>
    relu(x)
}

rule factor_out {
    add(mul(x, y), mul(x, z))
  =>
    mul(x, add(y, z))
}

rule sum_of_negatives {
    add(neg(x), neg(y))
  =>
    neg(add(x, y))
}

rule rare {
    tanh(neg(x))
  =>
    neg(tanh(x))
}

rule siblings {
    p = matmul(x: [l, n], V: [n, k])
    q = matmul(x, W: [n, m])
  =>
    (p, q) = split(matmul(x, concat(V, W, dim=-1)), [k, m], dim=-1)
}
"""
STEPS_OF_PROGRAMS = {
    "neg": lambda a, b, c: [-a],
    "relu": lambda a, b, c: [torch.relu(a)],
    "tanh": lambda a, b, c: [torch.tanh(a)],
    "add": lambda a, b, c: [a + b],
    "sub": lambda a, b, c: [a - b],
    "mul": lambda a, b, c: [a * b],
    "products": lambda a, b, c: [a @ b, a @ c],
    "late product": lambda a, b, c: [first := a @ b, second := torch.tanh(first + c), a @ second, a @ c],
    "distributed": lambda a, b, c: [a * b + a * c],
    "negatives": lambda a, b, c: [-a + -b],
}
LIBRARY = library(LAWS)
RULES = [LIBRARY.rule(name) for name in LIBRARY.rules]

places = st.integers(0, 4)
programs = st.lists(
    st.tuples(st.sampled_from(list(STEPS_OF_PROGRAMS)), places, places, places), min_size=2, max_size=9
)


def program(steps):
    """Each step computes from three values, counted back from the last; the last two are the outputs."""

    def run(x, y):
        values = [x, y]
        for name, *operands in steps:
            chosen = (values[-1 - min(i, len(values) - 1)] for i in operands)
            values += STEPS_OF_PROGRAMS[name](*chosen)
        return values[-1], values[-2]

    return run


def matches(module: fx.GraphModule) -> list[tuple[str, str]]:
    """Every place where a rule applies, found by trying every rule at every node."""
    work = Workspace(module)
    return [
        (rule.name, node.name)
        for rule in RULES
        for variant in rule.variants
        for node in module.graph.nodes
        if node.target in rule.roots[0] and rule.attempt(variant, work)(node) is not None
    ]


class Watching(Journal):
    """Checks the graph after every rewrite: well-formed, and every node of the type it had."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__()
        self.module = module

    def add(self, entry: Applied) -> None:
        super().add(entry)
        self.module.graph.lint()
        for node in self.module.graph.find_nodes(op="output")[0].all_input_nodes:
            assert node.meta["val"].shape == X.shape and node.meta["val"].dtype == torch.float64


@settings(max_examples=80, deadline=None, derandomize=True)
@given(programs, st.sampled_from(["top_down", "bottom_up"]))
def test_after_a_fixed_point_no_rule_applies_anywhere_and_the_values_are_the_same(steps, order):
    x = 0.1 * X.double()
    graph = graph_of(program(steps), x, x.T.contiguous())
    before = matches(graph.module)
    module = copied(graph.module)
    count = rewrite(module, RULES, Settings(order=order), Watching(module))
    assert bool(count) == bool(before)
    assert matches(module) == []
    module.recompile()
    with torch.no_grad():
        for got, wanted in zip(module(*graph.args), graph.original(*graph.args), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6, equal_nan=True)


def test_the_search_over_all_nodes_sees_a_match():
    once = graph_of(program([("neg", 0, 0, 0), ("relu", 0, 0, 0), ("tanh", 1, 0, 0)]), X, X + 1)
    assert matches(once.module) == []
    twice = graph_of(program([("neg", 0, 0, 0), ("neg", 0, 0, 0), ("relu", 0, 0, 0)]), X, X + 1)
    assert [rule for rule, _ in matches(twice.module)] == ["rules.double_neg"]


# ---------------------------------------------------------------- as PyTorch passes


def test_rules_run_in_a_pass_manager_beside_other_passes():
    seen = []

    def count(module):
        seen.append(len(module.graph.nodes))
        return PassResult(module, False)

    graph = graph_of(lambda x: torch.exp(x.neg().neg()), X)
    module = copied(graph.module)
    manager = PassManager([count, LIBRARY.as_pass(), count])
    result = manager(module)
    assert result.modified and isinstance(result.graph_module, fx.GraphModule)
    assert seen == [5, 3]
    torch.testing.assert_close(result.graph_module(X), torch.exp(X))
    assert not RulePass(RULES)(result.graph_module).modified


def test_a_long_chain_is_bracketed_anew_without_long_keys_of_order():
    """Each rewrite puts a node before the one that the last rewrite made."""

    def chain(x, w):
        for _ in range(400):
            x = x @ w
        return x

    captured = graph_of(chain, torch.eye(2), torch.eye(2))
    result = apply(
        "rule bracket { matmul(matmul(x, a: [n, n]), b: [n, n]) => matmul(x, matmul(a, b)) }", captured
    )
    assert len(result.rules) == 399
    result.assert_equal()
    nodes = list(result.module.graph.nodes)
    assert all(before < after for before, after in itertools.pairwise(nodes))
    assert max(len(node._sort_key) for node in nodes) < 300


def test_a_value_that_many_use_is_not_looked_at_anew_by_all_of_them_after_each_rewrite(monkeypatch):
    """One value times 1, many times over, is rewritten with a number of attempts linear in their number."""

    def attempts(count: int) -> int:
        graph = fx.Graph()
        x, total = graph.placeholder("x"), graph.placeholder("y")
        for _ in range(count):
            product = graph.call_function(torch.ops.aten.mul.Tensor, (x, 1))
            total = graph.call_function(torch.ops.aten.sub.Tensor, (total, product))
        graph.output(total)
        seen = []
        loaded = library("rule neutral { x * 1 => x }")
        rule = loaded.rule("neutral")
        attempt = type(rule).attempt

        def counted(self, variant, work, refused=None):
            found = attempt(self, variant, work, refused)
            return lambda node: (seen.append(node), found(node))[1]

        monkeypatch.setattr(type(rule), "attempt", counted)
        module = fx.GraphModule(torch.nn.Module(), graph)
        assert rewrite(module, [rule]) == count
        monkeypatch.undo()
        assert len(x.users) == count and len(graph.nodes) == count + 3
        return len(seen)

    assert attempts(200) <= 2.2 * attempts(100)
