"""Rules about actions that a condition makes right; without it they stand in `wrong_commute.tdsl`."""

from __future__ import annotations

import pytest

from tdsl.factor.table import vocabulary
from tdsl.lang import parse, tree
from tdsl.lang.resolve import resolve
from tdsl.prove.check import fresh_verdict


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (
            "rule r { linear(index_select(x: [..., n], -1, i: const [n]), W: const [m, n]) "
            "=> linear(x, index_select(W, 1, inverse_order(i))) where is_permutation(i) }",
            "proved",
        ),
        (
            "rule r { rms_norm(linear(x: [..., n], Q: const [n, n]), [n]) => linear(rms_norm(x, [n]), Q) "
            "where is_orthogonal(Q) }",
            "proved",
        ),
        (
            "rule r { group_norm(index_select(x: [b, n, w], -2, i: const [n]), g) "
            "=> index_select(group_norm(x, g), -2, i) where keeps_groups(i, g) }",
            "proved",
        ),
        (
            "rule r { conv2d(flip(x: [b, i, h, w], [-1]), W: const [o, i, m, n]) "
            "=> flip(conv2d(x, W), [-1]) where is_mirrored(W, [-1]) }",
            "proved",
        ),
        (
            "rule r { matmul(x: [m, n], W: const [n, n]) + (y: [m, n]) => y where is_zero(W) }",
            "tested",
        ),
        (
            "rule r { matmul(x: [m, n], W: const [n, n]) + (y: [m, n]) => x where is_zero(W) }",
            "refuted",
        ),
        ("rule r { relu(x * (a: const [])) => relu(x) * a where is_positive(a) }", "tested"),
        (
            "rule r { max_pool2d(flip(x: [b, c, h, w], [-1]), 2, 2) => flip(max_pool2d(x, 2, 2), [-1]) "
            "where w % 2 == 0 }",
            "proved",
        ),
    ],
)
def test_with_its_condition_it_is_what_it_is(text: str, status: str) -> None:
    (rule,) = parse(text).items
    assert isinstance(rule, tree.Rule)
    found = fresh_verdict(resolve(rule, vocabulary()))
    assert found.status == status, found


def test_a_rule_between_two_element_types_is_said_to_fire_nowhere() -> None:
    """The engine leaves such a site alone, so that nothing was wrong and nothing was proved either."""
    (rule,) = parse("rule r { relu(x: f32 [n]) => cast(relu(x), f64) }").items
    assert isinstance(rule, tree.Rule)
    found = fresh_verdict(resolve(rule, vocabulary()))
    assert found.status == "unchecked" and "different element types" in found.reason
