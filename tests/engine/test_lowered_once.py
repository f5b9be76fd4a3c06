"""A rule is lowered once for all values of its parameters that its left side does not read."""

from __future__ import annotations

import torch
from torch import nn

from tdsl.capture import capture
from tdsl.engine.library import Library
from tdsl.engine.passes import RulePass
from tdsl.engine.rule import Rule
from tdsl.lang import parse

RULES = """
rule cut(rank: Rank = energy(0.95)) {
    linear(x: [..., n], W: const [m, n], b?)
  ~>
    linear(linear(x, V), U, b)
  where
    (U: [m, r], V: [r, n]) = svd(W, rank)
    r < n
}

/// The size is part of the pattern.
rule only(size: Int) {
    relu(relu(linear(x, W: const [size, n])))
  =>
    relu(linear(x, W))
}
"""
LIBRARY = Library()
LIBRARY.add_file(parse(RULES, "rules.tdsl"), "")


def inner_sizes(rule: Rule) -> list[int]:
    """The sizes between the two layers that the rule makes of one."""
    module = capture(nn.Linear(8, 8).eval(), (torch.randn(2, 8),)).module
    RulePass([rule])(module)
    made = [n for n in module.graph.nodes if n.op == "call_function"]
    return [int(n.meta["val"].shape[-1]) for n in made[:-1]]


def test_ranks_share_what_a_rule_was_lowered_to_and_each_has_its_own_value() -> None:
    two, five, default = (LIBRARY.rule("cut", given) for given in ({"rank": 2}, {"rank": 5}, {}))
    assert two.variants is five.variants is default.variants
    assert inner_sizes(two)[:1] == [2] and inner_sizes(five)[:1] == [5]


def test_values_that_a_pattern_reads_are_lowered_apart() -> None:
    four, six, again = (LIBRARY.rule("only", {"size": size}) for size in (4, 6, 4))
    assert four.variants is again.variants and four.variants is not six.variants
    model = nn.Sequential(nn.Linear(8, 6, bias=False), nn.ReLU(), nn.ReLU()).eval()
    modified = [
        RulePass([rule])(capture(model, (torch.randn(2, 8),)).module).modified for rule in (four, six)
    ]
    assert modified == [False, True]
