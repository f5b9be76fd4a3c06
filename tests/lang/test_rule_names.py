"""Resolution: the role of each name, operator variables, and which argument is which parameter."""

from __future__ import annotations

import pytest

from tdsl.lang import parse, tree
from tdsl.lang.resolve import Resolved, bind, is_nary, resolve
from tdsl.lang.terms import ELEMENT, flat
from tdsl.lang.vocabulary import Function, Vocabulary
from tdsl.ops.spec import operator

TABLE = {
    op.name: op
    for op in (
        operator("relu(x) -> like", aten="aten.relu.default", pointwise=True),
        operator("tanh(x) -> like", aten="aten.tanh.default", pointwise=True),
        operator(
            "add(x: value, y: value, *, alpha: scalar = 1) -> broadcast",
            aten="a",
            commutative=True,
            associative=True,
        ),
        operator("linear(x: [..., n], weight: [m, n], bias?: [m] = 0) -> [..., m]", aten="l"),
        operator("concat(tensors..., dim: dim = 0) -> concat", aten="c"),
        operator("split(x, sizes: ints, dim: dim = 0) -> split", aten="s", results=0),
        operator("pool(x, kernel: ints2, stride: ints2 = []) -> pool", aten="p"),
        operator("cast(x, dtype: dtype) -> like", aten="k"),
    )
}
VOCABULARY = Vocabulary.standard([Function("svd", "decomposition", ("W", "rank"), 2)], TABLE)


def resolved(text: str) -> Resolved:
    rule = parse(text).items[0]
    assert isinstance(rule, tree.Rule)
    return resolve(rule, VOCABULARY)


def roles(text: str) -> dict[str, str]:
    return {name: role.name for name, role in resolved(text).roles.items()}


def test_roles_of_a_factorization() -> None:
    assert roles(
        """rule r(rank: Rank = 3) {
            linear(x: [..., n], W: const [m, n], b?)
          ~>
            linear(linear(x, V), U, b)
          where
            (U: [m, r], V: [r, n]) = svd(W, rank)
            k = m div 2
            k < n
        }"""
    ) == {
        "rank": "PARAMETER",
        "x": "OPERAND",
        "n": "DIMENSION",
        "W": "OPERAND",
        "m": "DIMENSION",
        "b": "OPERAND",
        "U": "DEFINED",
        "r": "DIMENSION",
        "V": "DEFINED",
        "k": "DEFINED",
    }


def test_roles_of_results_lists_and_attributes() -> None:
    assert roles(
        """rule r {
            p = concat(xs..., dim=d)
            (q, s) = split(p, [k, m], dim=-1)
          =>
            q = relu(concat(relu(xs)..., dim=d))
        }"""
    ) == {
        "p": "RESULT",
        "q": "RESULT",
        "s": "RESULT",
        "xs": "VARIADIC",
        "d": "ATTRIBUTE",
        "k": "ATTRIBUTE",
        "m": "ATTRIBUTE",
    }


def test_a_size_that_is_also_an_attribute_is_one_size() -> None:
    assert roles("rule r { split(x: [n], [n, k], dim=0) => split(x, [n, k], dim=-1) }")["n"] == "DIMENSION"


def test_element_types_are_no_names_of_the_rule() -> None:
    assert roles("rule r { cast(cast(x, f32), t) => cast(x, t) }") == {"x": "OPERAND", "t": "ATTRIBUTE"}


def test_operator_variables_stand_for_a_class_or_for_alternatives() -> None:
    found = resolved("rule r(f: pointwise, g: relu | pool) { f(g(x)) => g(f(x)) }").operators
    assert {name: [op.name for op in ops] for name, ops in found.items()} == {
        "f": ["relu", "tanh"],
        "g": ["relu", "pool"],
    }


@pytest.mark.parametrize(
    ("call", "operator_name", "bound"),
    [
        ("linear(x, W)", "linear", {"x": "x", "weight": "W"}),
        ("linear(bias=b, weight=W, x=x)", "linear", {"bias": "b", "weight": "W", "x": "x"}),
        ("concat(a, b, dim=1)", "concat", {"tensors": ("a", "b"), "dim": "1"}),
        ("concat([a, b], 1)", "concat", {"tensors": ("a", "b"), "dim": "1"}),
        ("concat(xs...)", "concat", {"tensors": ("xs...",)}),
        ("split(x, [k, m])", "split", {"x": "x", "sizes": "[k, m]"}),
        ("add(a, b)", "add", {"x": "a", "y": "b"}),
        ("add(a, b, rest...)", "add", {"x": ("a", "b", "rest...")}),
        ("add(a, b, c, alpha=2)", "add", {"x": ("a", "b", "c"), "alpha": "2"}),
        ("f(x)", "pool", {"x": "x"}),
    ],
)
def test_binding(call: str, operator_name: str, bound: dict[str, object]) -> None:
    rule = parse(f"rule r {{ {call} => x }}").items[0]
    assert isinstance(rule, tree.Rule)
    written = rule.lhs[0].term
    assert isinstance(written, tree.Call)
    found = bind(written, TABLE[operator_name])
    shown = {
        n: tuple(flat(i, ELEMENT) for i in v) if isinstance(v, tuple) else flat(v) for n, v in found.items()
    }
    assert shown == bound
    assert is_nary(written, TABLE[operator_name]) == (operator_name == "add" and "y" not in bound)
