"""Sizes that vary: a condition holds for every size or not at all, and the model stays as general."""

from __future__ import annotations

import pytest
import torch
from rewriting import Rewritten, apply, graph_of
from torch.export import Dim

IDENTITY = torch.eye(8)

NEED_NUMBERS = """
log2(n) > 1
log2(n + 1) > 0
sqrt(n) > 1
inverse([n, 0]) == [1, 0]
compose([1, 0], [n, 0]) == [0, 1]
exchange(n, 0, 1) == [1, 0]
sources([1, 0], n) == -1
remaining([1, 0], [n]) == [0]
standing(-1, n) == 0
unpermuted([1, 0], [n, 0]) == [1, 0]
entries([1, 2], [n], 0) == 1
apart([n], [1]) == [1]
covers([0, n], [1])
reflected([1, 2], [n]) == [1, 2]
sizes(x, [n]) == 1
sizes(x, n) == 1
aligned(x, n) == [1]
kept(x, W, n) == -1
size_along(x, n) > 0
is_identity([0, n])
is_symmetric(W, n)
is_orthogonal(W, n)
is_mirrored(W, [n])
energy_rank(W, n) > 1
numerical_rank(W, n) > 1
defect(W, commutant(S(n))) < 1
defect(W, commutant(trivial(S(2), n))) < 1
defect(W, hom(S(n), S(8))) < 1
""".strip().splitlines()

HOLD_FOR_EVERY_SIZE = """
log2(m) > 1
abs(n) > 1
min(n, 3) <= 3
max(n, 3) >= 3
includes([n, 3], 3)
includes([3, n], n)
not includes([n, 4], 1)
not all_equal([n], 1)
not square([n, 1])
not broadcasts_to(x, [8, 7])
[n, 3] != [n, 4]
not (n == 1 or n == 0)
not not n > 1
size_along(x, none) > 8
norm(W) < 3
""".strip().splitlines()

HOLD_FOR_SOME = """
includes([n, 4], 3)
not includes([n, 4], 3)
all_equal([n], 3)
not all_equal([n], 3)
square([n, 3])
not square([n, 3])
broadcasts_to(x, [3, 8])
not broadcasts_to(x, [3, 8])
[n, 3] == [5, 3]
[n, 3] != [4, 3]
n % 2 == 0
not n % 2 == 0
not (n == 3 or n == 4)
""".strip().splitlines()


def applied(condition: str, right: str = "clamp(linear(x, W), min=0)", arrow: str = "=>") -> Rewritten:
    """A rule with that condition on a layer of so many rows as there are; no size may be fixed by asking."""
    graph = graph_of(
        lambda x, w: torch.relu(torch.nn.functional.linear(x, w)),
        torch.randn(5, 8),
        dynamic={"x": {0: Dim("n", min=2, max=1000)}},
        w=IDENTITY,
    )
    text = f"""
        rule r {{
            relu(linear(x: [n, d], W: const [m, d]))
          {arrow}
            {right}
          where
            {condition}
        }}
        """
    result = apply(text, graph)
    (inputs,) = result.module.graph.find_nodes(op="placeholder")
    rows = inputs.meta["val"].shape[0]
    assert not rows.node.shape_env.guards, "the rule asked for the size of the example"
    assert not rows.node.expr.is_number
    result.assert_equal(torch.randn(3, 8))
    return result


@pytest.mark.parametrize("condition", NEED_NUMBERS)
def test_a_size_that_varies_is_no_number(condition: str) -> None:
    assert applied(condition).rules == []


@pytest.mark.parametrize("condition", HOLD_FOR_EVERY_SIZE)
def test_what_holds_for_every_size_holds(condition: str) -> None:
    assert applied(condition).rules == ["r"]


@pytest.mark.parametrize("condition", HOLD_FOR_SOME)
def test_what_holds_for_some_sizes_does_not_and_nor_does_its_opposite(condition: str) -> None:
    assert applied(condition).rules == []


@pytest.mark.parametrize(
    "number", ["log2(n)", "sqrt(n)", "n / 2", "n + 0.5", "2 ** n", "max(n, 0.5)", "n div 2"]
)
def test_a_right_side_that_needs_such_a_number_is_not_built(number: str) -> None:
    assert applied(f"q = {number}", right="clamp(linear(x, W), min=0, max=q + 1e9)").rules == []


def test_a_right_side_with_another_number_is() -> None:
    assert applied("q = log2(m)", right="clamp(linear(x, W), min=0, max=q + 1e9)").rules == ["r"]


@pytest.mark.parametrize(("rank", "rules"), [("n", []), ("d", ["r"])])
def test_a_rank_is_a_number(rank: str, rules: list[str]) -> None:
    right = "clamp(linear(linear(x, V), U), min=0)"
    assert applied(f"(U: [m, r], V: [r, d]) = svd(W, {rank})", right=right, arrow="~>").rules == rules
