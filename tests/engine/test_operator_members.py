"""Variables for operators whose parameters stand at different places, or that are swapped only by default."""

from __future__ import annotations

import torch
from rewriting import apply, graph_of

ACTION = """
    rule earlier(act: flip | roll) {
        relu(act(x, dims=d))
      =>
        act(relu(x), dims=d)
    }
"""
BEHIND = """
    rule once(f: add | mul) {
        f(abs(abs(x)), c)
      =>
        f(abs(x), c)
    }
"""


def test_a_parameter_by_name_is_found_wherever_it_stands() -> None:
    captured = graph_of(lambda x: x.flip(1).relu() + x.roll(1, 0).relu(), torch.randn(3, 4))
    rewritten = apply(ACTION, captured)
    assert rewritten.rules == ["earlier", "earlier"]
    rewritten.assert_equal()


def test_operands_are_swapped_where_the_operator_is_commutative_as_it_is_called() -> None:
    x, c = torch.randn(3, 4), torch.randn(4)
    for function in (
        lambda x, c: c + x.abs().abs(),
        lambda x, c: c * x.abs().abs(),
        lambda x, c: x.abs().abs() + c,
    ):
        rewritten = apply(BEHIND, graph_of(function, x, c))
        assert rewritten.rules == ["once"]
        rewritten.assert_equal()


def test_c_plus_twice_x_is_not_x_plus_twice_c() -> None:
    x, c = torch.randn(3, 4), torch.randn(4)
    rewritten = apply(BEHIND, graph_of(lambda x, c: torch.add(c, x.abs().abs(), alpha=2), x, c))
    assert rewritten.rules == []
