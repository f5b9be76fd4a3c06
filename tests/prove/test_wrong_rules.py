"""Rules that are wrong are refuted, every one of them, with a counterexample; right ones are proved."""

from __future__ import annotations

from pathlib import Path

import pytest

from tdsl.errors import TdslError
from tdsl.factor.table import vocabulary
from tdsl.lang import parse, parse_file, tree
from tdsl.lang.resolve import resolve
from tdsl.prove.check import fresh_verdict
from tdsl.prove.verdict import Verdict

FILES = {path.stem: path for path in sorted(Path(__file__).parent.glob("wrong*.tdsl"))}
WRONG = {
    f"{stem}.{item.name}": item
    for stem, path in FILES.items()
    for item in parse_file(path).items
    if isinstance(item, tree.Rule)
}


def verdict(text: str) -> Verdict:
    (rule,) = parse(text).items
    assert isinstance(rule, tree.Rule)
    return fresh_verdict(resolve(rule, vocabulary()))


def test_there_are_many_of_them() -> None:
    assert len(WRONG) >= 180
    assert len(FILES) >= 7


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_refuted(name: str) -> None:
    resolved = resolve(WRONG[name], vocabulary())
    try:
        found = fresh_verdict(resolved)
    except TdslError as error:
        assert "shape" in error.message or "computed" in error.message
        return
    assert found.status == "refuted", found
    assert found.counterexample is not None
    assert found.counterexample.left != found.counterexample.right


@pytest.mark.parametrize(
    "text",
    [
        "rule r { ((x: [b, n]) @ (A: const [n, k])) @ (B: const [k, m]) => x @ (A @ B) }",
        "rule r { ((x: [4, 512]) @ (A: const [512, 512])) @ (B: const [512, 512]) => x @ (A @ B) }",
        "law l(f: pointwise) { f(permute(x, p)) == permute(f(x), p) }",
        "rule r { relu(relu(relu(x))) => relu(x) }",
        "rule r { maximum(x: [n], maximum(x, y: [n])) => maximum(x, y) }",
        "rule r { flip(relu(flip(x, d)), d) => relu(x) }",
        "rule r { layer_norm((x: [b, n]) + (c: [b, 1]), [n]) => layer_norm(x, [n]) }",
        "rule r { flip(conv1d(x, W: const [o, i, k], b?, padding=p), [-1]) "
        "=> conv1d(flip(x, [-1]), flip(W, [-1]), b, padding=p) }",
        "rule r { avg_pool1d(conv1d(x, W: const [o, i, 1], b?), k, s) "
        "=> conv1d(avg_pool1d(x, k, s), W, b) where rank_of(x) == 3 }",
        "rule r { (x: [n, m]) - mean(x, [-1], true) + (mean(x, [-1], true)) => x }",
        "rule r { softmax((x: [b, n]) + (c: [b, 1]), dim=-1) => softmax(x, dim=-1) }",
        "rule r { exp(x: [b, n]) / sum(exp(x), [-1], true) => softmax(x, dim=-1) }",
        "rule r { gelu(flip(x: [n], [0]), approximate=a) => flip(gelu(x, approximate=a), [0]) }",
        "rule r(s: Real = 2) { (x: [n]) * s + (y: [n]) * s => (x + y) * s }",
        "rule r(keep: Bool = true) { sum((x: [n, m]) * 2, [-1], keep) => sum(x, [-1], keep) * 2 }",
        # Of two statistics that may be absent the kernel takes both or neither.
        "rule r { instance_norm(flip(x: [b, c, h, w], [-1]), W?, B?, m?, v?, u, t, e, k) "
        "=> flip(instance_norm(x, W, B, m, v, u, t, e, k), [-1]) }",
    ],
)
def test_a_right_rule_is_proved(text: str) -> None:
    found = verdict(text)
    assert found.status == "proved", found
    assert found.error_probability < 1e-6


@pytest.mark.parametrize(
    "text",
    [
        "rule r { exp(x: [n]) * exp(y: [n]) => exp(x + y) }",
        "rule r { maximum(x: [n], y: [n]) + (z: [n]) => maximum(x + z, y + z) }",
        "rule r { linear(x: [..., n], W: const [n, n]) => matmul(x, W) where is_symmetric(W) }",
        "rule r(slope: Real = 0.01) { leaky_relu(x: [n], slope) => maximum(x, slope * x) where slope <= 1 }",
        # Of the orders of all elements a number says too little.
        "rule r { amax(relu(x: [n, m]), [0, 1]) => relu(amax(x, [0, 1])) }",
        # The sides differ where y is 0, and there the left one is not defined.
        "rule r { gt((x: f32 [n]) / (y: f32 [n]), 0) => gt(x * y, 0) }",
    ],
)
def test_what_the_field_cannot_decide_is_tested_and_never_called_proved(text: str) -> None:
    found = verdict(text)
    assert found.status == "tested"
    assert found.error_probability == 1.0


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ("is_mirrored(W, [0]) and not is_mirrored(W, [0])", "unchecked"),
        ("is_identity_matrix(W)", "refuted"),
    ],
)
def test_a_condition_that_never_holds_proves_nothing(condition: str, status: str) -> None:
    text = "rule r {{ linear(x: [..., n], W: const [n, n]) => x * 2 where {} }}"
    assert verdict(text.format(condition)).status == status


def test_a_softmax_sees_what_a_row_does_not_have_in_common() -> None:
    assert (
        verdict("rule r { softmax((x: [b, n]) + (c: [n]), dim=-1) => softmax(x, dim=-1) }").status
        == "refuted"
    )
    assert verdict("rule r { softmax((x: [b, n]) * 2, dim=-1) => softmax(x, dim=-1) }").status == "refuted"


def test_a_condition_on_weights_is_what_makes_a_rule_right() -> None:
    text = "rule r {{ linear(x: [..., n], W: const [n, n]) => matmul(x, W) {} }}"
    assert verdict(text.format("where is_symmetric(W)")).status == "tested"
    assert verdict(text.format("")).status == "refuted"


def test_the_counterexample_is_small_and_says_what_would_have_excluded_it() -> None:
    found = verdict("rule r { permute(permute(x: [n, n], p), q) => permute(x, q) }")
    assert found.counterexample is not None
    assert str(found.counterexample) == (
        "for n = 2, x: [2, 2], p = [1, 0], q = [1, 0]\n"
        "x = [[1, -1], [2, 2]]\n"
        "left is [[1, -1], [2, 2]]\n"
        "right is [[1, 2], [-1, 2]]"
    )
    assert found.counterexample.remedy == "is_identity(p)"
