"""Explanations of rules that do not fire: a small model for each way to fail, and the text word for word."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tdsl.capture import capture
from tdsl.engine.explain import WIDTH, Explanation, explain
from tdsl.engine.library import Library
from tdsl.engine.text import graph_text
from tdsl.lang import parse

X = torch.zeros(2, 8)
SIBLINGS = """
rule r {
    p = relu(x)
    q = neg(x)
  =>
    p = neg(neg(relu(x)))
    q = neg(x)
}
"""
SVD = """
rule svd_linear(rank: Rank = 192) {
    linear(x: [..., n], W: const [m, n], b?)
  ~>
    linear(linear(x, V), U, b)
  where
    (U: [m, r], V: [r, n]) = svd(W, rank)
    r * (m + n) < m * n
}
"""


class Model(nn.Module):
    """A function with dense layers at hand: `a` (8 to 8), `b` (8 to 4), and two wide ones."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 4)
        self.wide, self.wider = nn.Linear(384, 384), nn.Linear(384, 400)
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


def explained(
    rule: str, function: Callable[[Any, Any], Any], x: torch.Tensor = X, limit: int = 1
) -> Explanation:
    """What is said of a rule and a model; the model must stay as it is."""
    torch.manual_seed(0)
    library = Library()
    library.add_file(parse(textwrap.dedent(rule).strip(), "rules.tdsl"), "rules")
    [name] = library.rules
    module = capture(Model(function), (x,)).module
    before = graph_text(module)
    found = explain(library.rule(name), module, limit)
    assert graph_text(module) == before
    return found


def text_of(*arguments: Any, **options: Any) -> str:
    """The rendering, with `model.py:N` for lines of this file."""
    text = explained(*arguments, **options).render()
    assert max(map(len, text.splitlines())) <= WIDTH
    return re.sub(r"\S*test_explain\.py:\d+", "model.py:N", text)


@dataclass(frozen=True)
class Case:
    """A rule, a model that it is explained on, and another one where it fires."""

    name: str
    rule: str
    model: Callable[[Any, Any], Any]
    fires_in: Callable[[Any, Any], Any] | None
    text: str


CASES = (
    Case(
        "fires",
        "rule double_relu { relu(relu(x)) => relu(x) }",
        lambda m, x: torch.relu(torch.relu(x)),
        None,
        """
        rules.double_relu fires at 1 of 2 candidates (relu)
            relu_1 = relu(relu)
              model.py:N

        1 of 2 terms and conditions hold
          at relu = relu(x)
               model.py:N
            matched  relu(relu(x))  is  relu
            failed   expected relu, found the input x
                     rules.tdsl:1:25
                       rule double_relu { relu(relu(x)) => relu(x) }
                                               ^^^^^^^
        """,
    ),
    Case(
        "condition",
        SVD,
        lambda m, x: m.wide(x.repeat(1, 48)),
        lambda m, x: m.wider(x.repeat(1, 48)),
        """
        rules.svd_linear fires nowhere among 1 candidate (linear)

        1 of 2 terms and conditions hold
          at linear = linear(repeat, wide.weight, wide.bias)
               in wide, model.py:N
            matched  linear(x: [..., n], W: const [m, n], b?)  is  linear
            failed   r * (m + n) < m * n
                     r = 192, m = 384, n = 384
                     147456 < 147456 is false
                     rules.tdsl:7:5
                       r * (m + n) < m * n
                       ^^^^^^^^^^^^^^^^^^^
        """,
    ),
    Case(
        "condition_of_side",
        "rule r { sigmoid(x) => silu(x) / x where nodes(rhs) <= nodes(lhs) }",
        lambda m, x: torch.sigmoid(x),
        None,
        """
        rules.r fires nowhere among 1 candidate (sigmoid)

        1 of 2 terms and conditions hold
          at sigmoid = sigmoid(x)
               model.py:N
            matched  sigmoid(x)  is  sigmoid
            failed   nodes(rhs) <= nodes(lhs)
                     nodes(rhs) = 2, nodes(lhs) = 1
                     2 <= 1 is false
                     rules.tdsl:1:42
                       rule r { sigmoid(x) => silu(x) / x where nodes(rhs) <= nodes(lhs) }
                                                                ^^^^^^^^^^^^^^^^^^^^^^^^
        """,
    ),
    Case(
        "half_condition",
        "rule r { relu(x) => gelu(x) where dtype(x) == f32 and (rank_of(x) > 2 or dtype(x) == f16) }",
        lambda m, x: torch.relu(x),
        lambda m, x: torch.relu(x[None]),
        """
        rules.r fires nowhere among 1 candidate (relu)

        1 of 2 terms and conditions hold
          at relu = relu(x)
               model.py:N
            matched  relu(x)  is  relu
            failed   rank_of(x) > 2 or dtype(x) == f16
                     rank_of(x) = 2, dtype(x) = f32
                     rank_of(x) > 2 or dtype(x) == f16 is false
                     rules.tdsl:1:56
                       … relu(x) => gelu(x) where dtype(x) == f32 and (rank_of(x) > 2 or dtype(x) == f16) }
                                                                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        """,
    ),
    Case(
        "predicate",
        "rule r { permute(x, p) => x where is_identity(p) }",
        lambda m, x: x.T,
        lambda m, x: x.permute(0, 1),
        """
        rules.r fires nowhere among 1 candidate (permute)

        1 of 2 terms and conditions hold
          at numpy_t = permute(x, [1, 0])
               model.py:N
            matched  permute(x, p)  is  numpy_t
            failed   is_identity(p)
                     p = [1, 0]
                     is_identity(p) is false
                     rules.tdsl:1:35
                       rule r { permute(x, p) => x where is_identity(p) }
                                                         ^^^^^^^^^^^^^^
        """,
    ),
    Case(
        "decomposition",
        SVD.replace("192", "9"),
        lambda m, x: m.a(x),
        None,
        """
        rules.svd_linear fires nowhere among 1 candidate (linear)

        1 of 2 terms and conditions hold
          at linear = linear(x, a.weight, a.bias)
               in a, model.py:N
            matched  linear(x: [..., n], W: const [m, n], b?)  is  linear
            failed   rank 9 asked of a matrix whose rank is at most 8
                     rules.tdsl:6:5
                       (U: [m, r], V: [r, n]) = svd(W, rank)
                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        """,
    ),
    Case(
        "operator",
        "rule r { linear(gelu(x), W, b?) => linear(silu(x), W, b) }",
        lambda m, x: m.b(torch.exp(x)),
        lambda m, x: m.b(F.gelu(x)),
        """
        rules.r fires nowhere among 1 candidate (linear)

        1 of 2 terms and conditions hold
          at linear = linear(exp, b.weight, b.bias)
               in b, model.py:N
            matched  linear(gelu(x), W, b?)  is  linear
            failed   expected gelu, found exp(x)
                     exp: model.py:N
                     rules.tdsl:1:17
                       rule r { linear(gelu(x), W, b?) => linear(silu(x), W, b) }
                                       ^^^^^^^
            hint     exp is pointwise, as gelu is: a parameter `f: pointwise` would match both
        """,
    ),
    Case(
        "attribute",
        "rule r { softmax(x, dim=-1) => sigmoid(x) }",
        lambda m, x: torch.softmax(m.a(x), 0),
        lambda m, x: torch.softmax(m.a(x), 1),
        """
        rules.r fires nowhere among 1 candidate (softmax)

        0 of 1 terms and conditions hold
          at softmax = softmax(linear, -2)
               model.py:N
            matched  softmax(x, dim=-1)  is  softmax
            failed   dim of softmax is -2, the rule asks for -1
                     softmax: model.py:N
                     rules.tdsl:1:25
                       rule r { softmax(x, dim=-1) => sigmoid(x) }
                                               ^^
        """,
    ),
    Case(
        "default",
        "rule r { clamp(x, min=0) => relu(x) }",
        lambda m, x: torch.clamp(x, 0, 6),
        lambda m, x: torch.clamp(x, 0),
        """
        rules.r fires nowhere among 1 candidate (clamp)

        0 of 1 terms and conditions hold
          at clamp = clamp(x, min=0, max=6)
               model.py:N
            matched  clamp(x, min=0)  is  clamp
            failed   max of clamp is 6, the rule asks for none, its default
                     clamp: model.py:N
                     rules.tdsl:1:10
                       rule r { clamp(x, min=0) => relu(x) }
                                ^^^^^^^^^^^^^^^
            hint     write `max=m` to match any
        """,
    ),
    Case(
        "size",
        "rule r { linear(x, W: const [n, n], b?) => linear(x, W * 1.5, b) }",
        lambda m, x: m.b(x),
        lambda m, x: m.a(x),
        """
        rules.r fires nowhere among 1 candidate (linear)

        0 of 1 terms and conditions hold
          at linear = linear(x, b.weight, b.bias)
               in b, model.py:N
            matched  linear(x, W: const [n, n], b?)  is  linear
            failed   W: [n, n] is [4, 8] here (the weight b.weight): 8 stands where the rule asks for n = 4
                     rules.tdsl:1:20
                       rule r { linear(x, W: const [n, n], b?) => linear(x, W * 1.5, b) }
                                          ^^^^^^^^^^^^^^^
        """,
    ),
    Case(
        "dtype",
        "rule r { relu(x: f16) => silu(x) }",
        lambda m, x: torch.relu(x),
        lambda m, x: torch.relu(x.half()),
        """
        rules.r fires nowhere among 1 candidate (relu)

        0 of 1 terms and conditions hold
          at relu = relu(x)
               model.py:N
            matched  relu(x: f16)  is  relu
            failed   x (the input x) is f32, the rule asks for f16
                     rules.tdsl:1:15
                       rule r { relu(x: f16) => silu(x) }
                                     ^^^^^^
        """,
    ),
    Case(
        "computed_weight",
        "rule r { linear(x, W: const, b?) => linear(x, W * 2, b) }",
        lambda m, x: F.linear(x, torch.exp(m.a.weight)),
        lambda m, x: F.linear(x, m.a.weight),
        """
        rules.r fires nowhere among 1 candidate (linear)

        0 of 1 terms and conditions hold
          at linear = linear(x, exp)
               model.py:N
            matched  linear(x, W: const, b?)  is  linear
            failed   W must be known at compile time, but it is exp(a.weight)
                     exp: model.py:N
                     rules.tdsl:1:20
                       rule r { linear(x, W: const, b?) => linear(x, W * 2, b) }
                                          ^^^^^^^^
            hint     it is computed from weights alone: run cleanup first, which folds constants
        """,
    ),
    Case(
        "weight_from_input",
        "rule r { linear(x, W: const, b?) => linear(x, W * 2, b) }",
        lambda m, x: F.linear(x, x),
        lambda m, x: F.linear(x, m.a.weight),
        """
        rules.r fires nowhere among 1 candidate (linear)

        0 of 1 terms and conditions hold
          at linear = linear(x, x)
               model.py:N
            matched  linear(x, W: const, b?)  is  linear
            failed   W must be known at compile time, but it is the input x
                     rules.tdsl:1:20
                       rule r { linear(x, W: const, b?) => linear(x, W * 2, b) }
                                          ^^^^^^^^
        """,
    ),
    Case(
        "shared_weight",
        "rule r { linear(x, W: const, b?) => linear(x, W * 2, b) where used_once(W) }",
        lambda m, x: m.a(m.a(x)),
        lambda m, x: m.a(x),
        """
        rules.r fires nowhere among 2 candidates (linear)

        1 of 2 terms and conditions hold, and likewise at 1 more
          at linear = linear(x, a.weight, a.bias)
               in a, model.py:N
            matched  linear(x, W: const, b?)  is  linear
            failed   used_once(W)
                     W = the weight a.weight: f32[8, 8]
                     used_once(W) is false
                     rules.tdsl:1:63
                       rule r { linear(x, W: const, b?) => linear(x, W * 2, b) where used_once(W) }
                                                                                     ^^^^^^^^^^^^
            hint     also used by linear_1 = linear(linear, a.weight, a.bias)
        """,
    ),
    Case(
        "exchanged_number",
        "rule r { 1 - x => 1 + -x }",
        lambda m, x: x - 1,
        lambda m, x: 1 - x,
        """
        rules.r fires nowhere among 1 candidate (sub)

        0 of 1 terms and conditions hold
          at sub = sub(x, 1)
               model.py:N
            matched  1 - x  is  sub
            failed   x of sub is the input x, the rule asks for 1
                     sub: model.py:N
                     rules.tdsl:1:10
                       rule r { 1 - x => 1 + -x }
                                ^
            hint     it would match with its operands exchanged, but sub does not commute
        """,
    ),
    Case(
        "exchanged",
        "rule r { relu(x) - y => neg(y - relu(x)) }",
        lambda m, x: x - torch.relu(x),
        lambda m, x: torch.relu(x) - x,
        """
        rules.r fires nowhere among 1 candidate (sub)

        1 of 2 terms and conditions hold
          at sub = sub(x, relu)
               model.py:N
            matched  relu(x) - y  is  sub
            failed   expected relu, found the input x
                     rules.tdsl:1:10
                       rule r { relu(x) - y => neg(y - relu(x)) }
                                ^^^^^^^
            hint     it would match with its operands exchanged, but sub does not commute
        """,
    ),
    Case(
        "another_user",
        "rule r { relu(neg(x)) => clamp(x, max=0) }",
        lambda m, x: (torch.relu(y := torch.neg(x)), torch.exp(y)),
        lambda m, x: (torch.relu(torch.neg(x)), torch.exp(x)),
        """
        rules.r fires nowhere among 1 candidate (relu)

        1 of 2 terms and conditions hold
          at relu = relu(neg)
               model.py:N
            matched  relu(neg(x))  is  relu
            matched  neg(x)  is  neg
            failed   neg is also used by exp = exp(neg), so it cannot go away
                     neg: model.py:N
                     rules.tdsl:1:15
                       rule r { relu(neg(x)) => clamp(x, max=0) }
                                     ^^^^^^
            hint     name the term on the left side, `y = …`, and it is kept
        """,
    ),
    Case(
        "output",
        "rule r { relu(neg(x)) => clamp(x, max=0) }",
        lambda m, x: (torch.relu(y := torch.neg(x)), y),
        lambda m, x: torch.relu(torch.neg(x)),
        """
        rules.r fires nowhere among 1 candidate (relu)

        1 of 2 terms and conditions hold
          at relu = relu(neg)
               model.py:N
            matched  relu(neg(x))  is  relu
            matched  neg(x)  is  neg
            failed   neg is also used by the model's outputs, so it cannot go away
                     neg: model.py:N
                     rules.tdsl:1:15
                       rule r { relu(neg(x)) => clamp(x, max=0) }
                                     ^^^^^^
            hint     name the term on the left side, `y = …`, and it is kept
        """,
    ),
    Case(
        "same_meaning",
        "rule r { neg(relu(x)) => neg(gelu(x)) }",
        lambda m, x: torch.neg(torch.clamp(x, min=0)),
        lambda m, x: torch.neg(torch.relu(x)),
        """
        rules.r fires nowhere among 1 candidate (neg)

        1 of 2 terms and conditions hold
          at neg = neg(clamp)
               model.py:N
            matched  neg(relu(x))  is  neg
            failed   expected relu, found clamp(x, min=0)
                     clamp: model.py:N
                     rules.tdsl:1:14
                       rule r { neg(relu(x)) => neg(gelu(x)) }
                                    ^^^^^^^
            hint     this is relu in other words; write the rule for clamp too, or relu in the model
        """,
    ),
    Case(
        "written_out",
        "rule r { neg(silu(x)) => neg(gelu(x)) }",
        lambda m, x: torch.neg(x * torch.sigmoid(x)),
        lambda m, x: torch.neg(F.silu(x)),
        """
        rules.r fires nowhere among 1 candidate (neg)

        1 of 2 terms and conditions hold
          at neg = neg(mul)
               model.py:N
            matched  neg(silu(x))  is  neg
            failed   expected silu, found mul(x, sigmoid)
                     mul: model.py:N
                     rules.tdsl:1:14
                       rule r { neg(silu(x)) => neg(gelu(x)) }
                                    ^^^^^^^
            hint     this is silu in other words; write the rule for mul too, or silu in the model
        """,
    ),
    Case(
        "class_of_operators",
        "rule r { neg(relu(x)) => neg(gelu(x)) }",
        lambda m, x: torch.neg(torch.tanh(x)),
        lambda m, x: torch.neg(torch.relu(x)),
        """
        rules.r fires nowhere among 1 candidate (neg)

        1 of 2 terms and conditions hold
          at neg = neg(tanh)
               model.py:N
            matched  neg(relu(x))  is  neg
            failed   expected relu, found tanh(x)
                     tanh: model.py:N
                     rules.tdsl:1:14
                       rule r { neg(relu(x)) => neg(gelu(x)) }
                                    ^^^^^^^
            hint     tanh is pointwise, as relu is: a parameter `f: pointwise` would match both
        """,
    ),
    Case(
        "bias",
        "rule r { relu(linear(x, W)) => silu(linear(x, W)) }",
        lambda m, x: torch.relu(m.a(x)),
        lambda m, x: torch.relu(F.linear(x, m.a.weight)),
        """
        rules.r fires nowhere among 1 candidate (relu)

        1 of 2 terms and conditions hold
          at relu = relu(linear)
               model.py:N
            matched  relu(linear(x, W))  is  relu
            matched  linear(x, W)  is  linear
            failed   linear has a bias (the weight a.bias), the pattern has none
                     rules.tdsl:1:15
                       rule r { relu(linear(x, W)) => silu(linear(x, W)) }
                                     ^^^^^^^^^^^^
            hint     write `b?` as its bias to allow one
        """,
    ),
    Case(
        "no_bias",
        "rule r { linear(x, W, b) => linear(x, W * 2, b) }",
        lambda m, x: F.linear(x, m.a.weight),
        lambda m, x: m.a(x),
        """
        rules.r fires nowhere among 1 candidate (linear)

        0 of 1 terms and conditions hold
          at linear = linear(x, a.weight)
               model.py:N
            matched  linear(x, W, b)  is  linear
            failed   linear has no bias here, the pattern needs b
                     rules.tdsl:1:23
                       rule r { linear(x, W, b) => linear(x, W * 2, b) }
                                             ^
            hint     write `b?` to allow that it is absent
        """,
    ),
    Case(
        "in_between",
        "rule r { relu(linear(x, W, b?)) => silu(linear(x, W, b)) }",
        lambda m, x: torch.relu(F.dropout(m.a(x), 0.1, False)),
        lambda m, x: torch.relu(m.a(x)),
        """
        rules.r fires nowhere among 1 candidate (relu)

        1 of 2 terms and conditions hold
          at relu = relu(dropout)
               model.py:N
            matched  relu(linear(x, W, b?))  is  relu
            failed   expected linear, found dropout(linear, 0.1, false)
                     dropout: model.py:N
                     rules.tdsl:1:15
                       rule r { relu(linear(x, W, b?)) => silu(linear(x, W, b)) }
                                     ^^^^^^^^^^^^^^^^
            hint     behind the dropout stands linear: run cleanup first
        """,
    ),
    Case(
        "second_root",
        SIBLINGS,
        lambda m, x: torch.relu(x),
        lambda m, x: torch.relu(x) + torch.neg(x),
        """
        rules.r fires nowhere among 1 candidate (relu)

        1 of 2 terms and conditions hold
          at relu = relu(x)
               model.py:N
            matched  relu(x)  is  relu
            failed   no further neg reads x
                     rules.tdsl:3:9
                       q = neg(x)
                           ^^^^^^
        """,
    ),
    Case(
        "two_values",
        "rule r { mul(x, relu(x)) => square(x) * relu(x) }",
        lambda m, x: x * torch.relu(m.a(x)),
        lambda m, x: x * torch.relu(x),
        """
        rules.r fires nowhere among 1 candidate (mul)

        1 of 2 terms and conditions hold
          at mul = mul(x, relu)
               model.py:N
            matched  mul(x, relu(x))  is  mul
            matched  relu(x)  is  relu
            failed   x is linear(x, a.weight, a.bias) and here the input x
                     rules.tdsl:1:14
                       rule r { mul(x, relu(x)) => square(x) * relu(x) }
                                    ^
        """,
    ),
    Case(
        "alternatives",
        "rule r { neg((relu(x) | sigmoid(relu(x)))) => gelu(x) }",
        lambda m, x: torch.neg(torch.sigmoid(torch.tanh(x))),
        lambda m, x: torch.neg(torch.sigmoid(torch.relu(x))),
        """
        rules.r fires nowhere among 1 candidate (neg)

        2 of 3 terms and conditions hold
          at neg = neg(sigmoid)
               model.py:N
            matched  neg((relu(x) | sigmoid(relu(x))))  is  neg
            matched  sigmoid(relu(x))  is  sigmoid
            failed   expected relu, found tanh(x)
                     tanh: model.py:N
                     rules.tdsl:1:33
                       rule r { neg((relu(x) | sigmoid(relu(x)))) => gelu(x) }
                                                       ^^^^^^^
            hint     tanh is pointwise, as relu is: a parameter `f: pointwise` would match both
        """,
    ),
    Case(
        "chain",
        "rule r { neg(relu{2,3}(x)) => neg(relu(x)) }",
        lambda m, x: torch.neg(torch.relu(x)),
        lambda m, x: torch.neg(torch.relu(torch.relu(x))),
        """
        rules.r fires nowhere among 1 candidate (neg)

        1 of 2 terms and conditions hold
          at neg = neg(relu)
               model.py:N
            matched  neg(relu{2,3}(x))  is  neg
            failed   expected 2 of relu in a row, found 1
                     rules.tdsl:1:14
                       rule r { neg(relu{2,3}(x)) => neg(relu(x)) }
                                    ^^^^^^^^^^^^
        """,
    ),
    Case(
        "tree",
        "rule r { add(relu(x), neg(y), z, rest...) => add(x, y, z, rest...) }",
        lambda m, x: torch.relu(x) + m.a(x) + torch.exp(x),
        lambda m, x: torch.relu(x) + m.a(x) + torch.neg(x),
        """
        rules.r fires nowhere among 2 candidates (add)

        2 of 3 terms and conditions hold
          at add_1 = add(add, exp)
               model.py:N
            matched  add(relu(x), neg(y), z, rest...)  is  add_1
            matched  relu(x)  is  relu
            failed   expected neg, found linear(x, a.weight, a.bias)
                     linear: in a, model.py:N
                     rules.tdsl:1:23
                       rule r { add(relu(x), neg(y), z, rest...) => add(x, y, z, rest...) }
                                             ^^^^^^
        """,
    ),
    Case(
        "absent_root",
        "rule r { softmax(x, dim=-1) => sigmoid(x) }",
        lambda m, x: F.log_softmax(m.a(x), -1),
        lambda m, x: F.softmax(m.a(x), -1),
        """
        rules.r cannot fire: softmax occurs nowhere in the model
            operators of the model with names like it: log_softmax
        """,
    ),
    Case(
        "absent_in_other_words",
        "rule r { silu(x) => sigmoid(x) * x }",
        lambda m, x: x * torch.sigmoid(x),
        lambda m, x: F.silu(x),
        """
        rules.r cannot fire: silu occurs nowhere in the model
            the same in other words:
              mul = mul(x, sigmoid)
                model.py:N
        """,
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_explanation_says(case):
    assert text_of(case.rule, case.model) == textwrap.dedent(case.text).lstrip("\n")


@pytest.mark.parametrize("case", [c for c in CASES if c.fires_in], ids=lambda case: case.name)
def test_without_what_it_names_the_rule_fires(case):
    """Control: the explanation blames the right thing."""
    assert explained(case.rule, case.model).fires == 0
    assert explained(case.rule, case.fires_in).fires == 1


def test_sites_that_fail_alike_are_shown_once():
    def deep(m: Any, x: torch.Tensor) -> torch.Tensor:
        for _ in range(5):
            x = torch.relu(torch.tanh(x))
        return torch.relu(torch.exp(x))

    found = explained("rule r { relu(sigmoid(x)) => sigmoid(x) }", deep, limit=5)
    assert [(site.similar, site.failures[0].message) for site in found.sites] == [
        (4, "expected sigmoid, found tanh(x)"),
        (0, "expected sigmoid, found exp(relu_4)"),
    ]
    assert len(explained("rule r { relu(sigmoid(x)) => sigmoid(x) }", deep, limit=1).sites) == 1


def test_the_best_partial_match_comes_first():
    rule = "rule r { neg(relu(sigmoid(x))) => neg(sigmoid(x)) }"
    found = explained(rule, lambda m, x: torch.neg(torch.exp(torch.neg(torch.relu(x)))), limit=5)
    assert [(site.root.node, site.satisfied, site.total) for site in found.sites] == [
        ("neg", 2, 3),
        ("neg_1", 1, 3),
    ]


def test_places_point_into_the_source_of_the_model():
    found = explained("rule r { neg(relu(x)) => relu(x) }", lambda m, x: torch.neg(torch.tanh(x)))
    path, _, line = found.sites[0].root.source.rpartition(":")
    assert path.endswith("test_explain.py")
    text = Path(__file__).read_text(encoding="utf-8").splitlines()[int(line) - 1]
    assert text.strip() == "return self.function(self, x)"


def test_modules_are_named():
    found = explained("rule r { linear(relu(x), W, b?) => linear(x, W, b) }", lambda m, x: m.b(x))
    assert (found.sites[0].root.module, found.sites[0].root.text) == ("b", "linear(x, b.weight, b.bias)")


def test_long_lines_of_a_rule_are_cut_around_the_place():
    rule = f"rule r {{ add({'x' * 60}, neg({'y' * 40})) => neg({'y' * 40}) - neg({'x' * 60}) }}"
    failure = explained(rule, lambda m, x: x + torch.relu(x)).sites[0].failures[0]
    at = failure.caret.index("^")
    assert failure.rule_line[at:].startswith("neg(yyy")
    assert failure.rule_line.startswith("…") and failure.rule_line.endswith("…")


def test_explanations_are_plain_data_for_json():
    found = explained(CASES[1].rule, CASES[1].model)
    record = json.loads(json.dumps(found.to_dict()))
    failure = record["sites"][0]["failures"][0]
    assert (record["rule"], record["fires"], record["candidates"]) == ("rules.svd_linear", 0, 1)
    assert failure["values"] == [["r", "192"], ["m", "384"], ["n", "384"]]
    assert failure["verdict"] == "147456 < 147456 is false"


def test_sizes_that_depend_on_the_input_are_shown_as_such():
    library = Library()
    library.add_file(parse("rule r { relu(x: [n, 8]) => gelu(x) where n == 4 }", "rules.tdsl"), "rules")
    batch = torch.export.Dim("batch", max=64)
    module = capture(
        Model(lambda m, x: torch.relu(x)), (torch.zeros(4, 8),), dynamic_shapes=({0: batch},)
    ).module
    verdict = explain(library.rule("r"), module).sites[0].failures[0].verdict
    assert re.fullmatch(r"s\d+ == 4 does not hold for every size", verdict)
