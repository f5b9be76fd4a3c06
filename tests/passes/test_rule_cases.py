"""Every rule and pass of the library: fires where it should, leaves near misses alone, changes no value."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import cases_attention
import cases_bilinear
import cases_carried
import cases_cleanup
import cases_commute_axes
import cases_commute_channels
import cases_commute_elements
import cases_commute_ends
import cases_commute_factors
import cases_commute_flips
import cases_commute_images
import cases_commute_layers
import cases_commute_moves
import cases_commute_operands
import cases_commute_orders
import cases_commute_places
import cases_commute_products
import cases_commute_read
import cases_commute_rows
import cases_commute_sequences
import cases_commute_tokens
import cases_commute_transposed
import cases_commute_windows
import cases_diagrams
import cases_einsum
import cases_factorize
import cases_finite
import cases_finite_orders
import cases_finite_windows
import cases_fold
import cases_gathered
import cases_heads
import cases_linear
import cases_merge
import cases_mixing
import cases_mixing_sums
import cases_networks
import cases_pointwise
import cases_pooled
import cases_recurrent
import cases_rows
import cases_runtime
import cases_scatter
import cases_selection
import cases_share
import cases_signed
import cases_soft
import cases_sparse
import cases_structured
import cases_turned
import pytest
import torch
from rule_cases import Case, check, fires, net, relative_error
from torch import nn

from tdsl.engine.library import Library, standard_library
from tdsl.lang import parse

CASES = [
    *cases_cleanup.CASES,
    *cases_commute_flips.CASES,
    *cases_commute_images.CASES,
    *cases_commute_moves.CASES,
    *cases_commute_operands.CASES,
    *cases_commute_orders.CASES,
    *cases_commute_sequences.CASES,
    *cases_commute_tokens.CASES,
    *cases_commute_axes.CASES,
    *cases_commute_elements.CASES,
    *cases_commute_rows.CASES,
    *cases_commute_factors.CASES,
    *cases_commute_layers.CASES,
    *cases_commute_places.CASES,
    *cases_commute_products.CASES,
    *cases_commute_transposed.CASES,
    *cases_commute_channels.CASES,
    *cases_commute_windows.CASES,
    *cases_commute_ends.CASES,
    *cases_commute_read.CASES,
    *cases_scatter.CASES,
    *cases_fold.CASES,
    *cases_finite.CASES,
    *cases_finite_windows.CASES,
    *cases_finite_orders.CASES,
    *cases_linear.CASES,
    *cases_mixing.CASES,
    *cases_mixing_sums.CASES,
    *cases_merge.CASES,
    *cases_attention.CASES,
    *cases_heads.CASES,
    *cases_carried.CASES,
    *cases_bilinear.CASES,
    *cases_recurrent.CASES,
    *cases_rows.CASES,
    *cases_runtime.CASES,
    *cases_selection.CASES,
    *cases_share.CASES,
    *cases_factorize.CASES,
    *cases_structured.CASES,
    *cases_networks.CASES,
    *cases_pointwise.CASES,
    *cases_pooled.CASES,
    *cases_gathered.CASES,
    *cases_sparse.CASES,
    *cases_diagrams.CASES,
    *cases_einsum.CASES,
    *cases_signed.CASES,
    *cases_soft.CASES,
    *cases_turned.CASES,
]


def named(cases: list[Case]) -> list[object]:
    """The cases with ids that say which rule, and for negatives why it does not apply."""
    seen: Counter[str] = Counter()
    params = []
    for case in cases:
        key = f"{case.rule}-{case.because.replace(' ', '_') or 'fires'}"
        seen[key] += 1
        params.append(pytest.param(case, id=key if seen[key] == 1 else f"{key}-{seen[key]}"))
    return params


@pytest.mark.parametrize("case", named(CASES))
def test_a_rule_does_what_its_case_says(case: Case) -> None:
    check(case)


def test_every_rule_and_pass_has_a_positive_and_a_negative_case() -> None:
    library = standard_library()
    laws = {name for name, rule in library.rules.items() if rule.source.arrow == "=="}
    declared = {*library.rules, *library.passes} - laws
    assert len(declared) > 50
    assert {c.rule for c in CASES if c.expect is not None} == declared
    assert {c.rule for c in CASES if c.expect is None} == declared
    assert all(c.because for c in CASES if c.expect is None)


# ---------------------------------------------------------------- controls: the harness notices

RELU_TWICE = fires(
    "cleanup.identity.double_relu", lambda m, x: x.relu().relu(), (3, 5), expect="relu_2 = relu(x)"
)


def test_the_harness_accepts_what_is_right() -> None:
    check(RELU_TWICE)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(RELU_TWICE, expect="relu_2 = neg(x)"),
        replace(RELU_TWICE, times=2),
        replace(RELU_TWICE, expect=None, times=0),
        replace(RELU_TWICE, model=net(lambda m, x: x.relu().neg())),
        replace(RELU_TWICE, rule="cleanup.identity.double_negation", expect=None, times=0),
    ],
    ids=["another graph", "another count", "it fires after all", "it does not fire", "no near miss"],
)
def test_the_harness_rejects_what_is_wrong(wrong: Case) -> None:
    with pytest.raises(AssertionError):
        check(wrong)


def test_the_harness_notices_wrong_algebra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scale folded into the weight and forgotten in the bias."""
    text = """
    rule forgetful {
        mul(linear(x, W: const [m, n], b: const), a: const [m])
      =>
        linear(x, W * reshape(a, [m, 1]), b)
    }
    """
    monkeypatch.setattr("tdsl.engine.library.refuse_refuted", lambda rule, verdict: None)
    library = Library()
    library.add_file(parse(text), "wrong")
    monkeypatch.setattr("rule_cases.standard_library", lambda: library)
    case = fires(
        "wrong.forgetful",
        lambda m, x: m.fc(x) * m.a,
        (3, 5),
        fc=nn.Linear(5, 4),
        a=torch.full((4,), 1 + 1e-9, dtype=torch.float64),
        expect="linear_1 = linear(x, fc.weight_forgetful, fc.bias)",
    )
    with pytest.raises(AssertionError):
        check(case)
    check(replace(case, precision=1e-6))


def test_the_harness_notices_outputs_without_information() -> None:
    dead = fires("cleanup.identity.double_relu", lambda m, x: (x * 0).relu().relu(), (3, 5), expect="?")
    with pytest.raises(AssertionError, match="say nothing"):
        check(replace(dead, expect="mul = mul(x, 0)\nrelu_2 = relu(mul)"))


def test_a_result_that_is_no_number_is_infinitely_wrong() -> None:
    nan = torch.tensor([float("nan")])
    assert relative_error(torch.ones(1), nan) == float("inf")
    assert relative_error(torch.ones(1), torch.ones(1)) == 0.0
