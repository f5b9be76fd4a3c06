"""Behaviours that a hostile reading found broken once: sizes, costs, exactness, mistakes of users."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rewriting import Rewritten, apply, graph_of, run_pipeline
from torch import Tensor, nn
from torch.export import Dim

import tdsl
from tdsl import TdslError
from tdsl.engine.census import census
from tdsl.engine.library import standard_library

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
W = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
ROWS = Dim("rows", min=2, max=64)


# ---------------------------------------------------------------- symbolic sizes


def test_a_size_is_computed_before_the_first_node_of_the_graph_reads_it() -> None:
    captured = graph_of(lambda x: torch.relu(x), X, dynamic=({0: ROWS},))
    rule = "rule r { relu(x: [b, n]) => relu6(reshape(x, [b, n])) where nodes(lhs) == 1 }"
    rewritten = apply(rule, captured)
    assert rewritten.operators == ["size", "reshape", "relu6"]
    assert rewritten.module(X[:2]).shape == (2, 4)


def test_a_number_has_no_axes() -> None:
    captured = graph_of(lambda x: torch.square(x * 2), X)
    rule = "rule r { square(x * c) => (x * c) * (x * c) where len(shape(c)) == 0 and rank_of(c) == 0 }"
    assert apply(rule, captured).rules == ["r"]


def test_a_power_of_a_size_is_a_product() -> None:
    captured = graph_of(lambda x: torch.relu(x @ x.T), X, dynamic=({0: ROWS},))
    rule = "rule r { relu(x: [b, b]) => reshape(relu6(reshape(x, [b * b])), [b, b]) }"
    rewritten = apply(rule, captured)
    assert rewritten.rules == ["r"]
    assert rewritten.module(X[:2]).shape == (2, 2)


def test_a_size_that_is_no_sum_or_product_is_read_from_a_value_that_has_it() -> None:
    length = Dim("length", min=4, max=99)
    captured = graph_of(
        lambda x: torch.relu(F.avg_pool1d(x, 2)), torch.randn(3, 4, 8), dynamic=({2: length},)
    )
    rule = "rule r { relu(x: [b, c, l]) => reshape(relu6(x), [b, c, l]) where nodes(lhs) == 1 }"
    rewritten = apply(rule, captured)
    assert rewritten.rules == ["r"]
    assert rewritten.module(torch.randn(3, 4, 11)).shape == (3, 4, 5)


MERGE_ANY = """
rule merge {
    p = linear(x: [..., n], A: [k, n], a?)
    q = linear(x, B: [m, n], b?)
  =>
    (p, q) = split(linear(x, concat(A, B, dim=0), concat(a, b, dim=0)), [k, m], dim=-1)
}
"""


def test_an_absent_operand_of_unknown_size_leaves_the_graph_as_it_was() -> None:
    def model(x: Tensor, u: Tensor, w: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return F.linear(x, u), F.linear(x, w, c)

    def merged(dynamic: object) -> Rewritten:
        return apply(MERGE_ANY, graph_of(model, X, torch.cat([W, X]), dynamic=dynamic, w=W, c=W[0].clone()))

    assert merged((None, {0: ROWS})).operators == ["linear", "linear"]
    assert merged(None).rules == ["merge"]  # control: where the size is known it fires


# ---------------------------------------------------------------- what a rewrite saves


def test_a_kept_value_is_no_saving() -> None:
    def model(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        y = F.linear(x, w)
        return torch.relu(torch.relu(y)), y

    rule = """
    rule r {
        a = linear(x: [..., n], W: const [m, n])
        y = relu(relu(a))
      =>
        y = relu(a)
    }
    """
    captured = graph_of(model, X, w=W)
    (entry,) = apply(rule, captured).journal.entries
    assert (entry.saved_parameters, entry.saved_macs, entry.saved_nodes) == (0, 0, 1)
    for cost in ("macs", "params", "bytes"):
        cheaper = rule.replace(
            "y = relu(a)\n", f"y = relu(a)\n      where\n        {cost}(rhs) < {cost}(lhs)\n"
        )
        assert cheaper != rule
        assert apply(cheaper, captured).rules == []


def test_a_shared_product_is_a_saving_of_multiplications() -> None:
    captured = graph_of(lambda x, w: F.linear(x, w) * torch.relu(F.linear(x, w)), X, w=W)
    rewritten = run_pipeline("pipeline p { once cleanup.common_subexpressions }", captured)
    (entry,) = rewritten.journal.entries
    assert entry.saved_macs == census(captured.module).macs - census(rewritten.module).macs == 48


# ---------------------------------------------------------------- exactness


def test_zeros_of_either_sign_are_different_operands() -> None:
    captured = graph_of(lambda x: (1 / (x * 0.0), 1 / (x * -0.0), 1 / (x * 0.0)), X)
    rewritten = run_pipeline("pipeline p { once cleanup.common_subexpressions }", captured)
    assert rewritten.operators.count("reciprocal") == 2
    rewritten.assert_equal()


def test_the_positive_part_of_integers_that_wrap_around_stays() -> None:
    rules = standard_library()
    for values, fires in ((torch.tensor([-128, 3], dtype=torch.int8), False), (X, True)):
        captured = graph_of(lambda x: torch.relu(torch.abs(x)), values)
        rewritten = apply(rules, captured, select="relu_of_nonnegative")
        assert bool(rewritten.rules) is fires
        assert torch.equal(rewritten.module(values), captured.original(values))


# ---------------------------------------------------------------- mistakes of users


@pytest.mark.parametrize(
    "condition", ["n / (n - 4) > 1", "n % (n - 4) == 0", "sqrt(n - 8) > 1", "log2(n - 4) > 1"]
)
def test_a_condition_without_a_value_leaves_the_site_alone(condition: str) -> None:
    captured = graph_of(lambda x: torch.relu(x), X)
    rule = "rule r {{ relu(x: [b, n]) => relu6(x) where {} }}"
    assert apply(rule.format(condition), captured).rules == []
    assert apply(rule.format("n / (n - 3) > 1"), captured).rules == ["r"]


@pytest.mark.parametrize("condition", ["shape(x) < dtype(x)", "x > 1", "len(n) > 1", "sqrt(x) > 1"])
def test_a_condition_on_values_of_a_wrong_kind_is_an_error_at_its_place(condition: str) -> None:
    captured = graph_of(lambda x: torch.relu(x), X)
    with pytest.raises(TdslError, match=r"does not compare these|`n` is a number, and `values`") as error:
        apply(f"rule r {{ relu(x: [b, n]) => relu6(x) where {condition} }}", captured)
    assert error.value.span is not None


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("once cleanup.dead_code(k=1)", "pass cleanup.dead_code has no parameter k"),
        ("once svd_linear(4)", "an argument of a rule has no name"),
    ],
)
def test_arguments_that_nothing_takes_are_refused(step: str, message: str) -> None:
    with pytest.raises(TdslError, match=message):
        run_pipeline(f"pipeline p {{ {step}\n check cosine >= 0.1 }}", graph_of(lambda x: torch.relu(x), X))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pipeline", 3),
        ("rules", 3),
        ("calibration", 5),
        ("output", 3),
        ("opset", "18"),
        ("parameters", ["k"]),
    ],
)
def test_an_argument_of_a_wrong_kind_is_named(name: str, value: object) -> None:
    arguments: dict[str, Any] = {name: value}
    with pytest.raises(TdslError, match=f"`{name}` is of type {type(value).__name__}"):
        tdsl.compile(nn.ReLU(), X, **arguments)


def test_a_model_that_onnxruntime_has_no_kernel_for_is_a_message() -> None:
    with pytest.raises(TdslError, match="onnxruntime cannot run the model"):
        tdsl.compile(nn.Linear(4, 4).bfloat16(), X.bfloat16(), latency=False)


def test_an_absent_bias_of_integers_leaves_the_site_alone() -> None:
    weight = torch.arange(12).reshape(4, 3)
    captured = graph_of(lambda x, w: F.linear(x, w) * 2, torch.arange(6).reshape(2, 3), w=weight)
    assert apply(standard_library(), captured, select="number_of_linear").rules == []
