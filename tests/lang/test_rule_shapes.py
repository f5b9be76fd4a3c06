"""Shape checking: right rules pass, and each with one thing changed is refused."""

from __future__ import annotations

import pytest

from tdsl.errors import TdslError
from tdsl.lang import parse, tree
from tdsl.lang.resolve import resolve
from tdsl.lang.typecheck import check_types
from tdsl.lang.vocabulary import Function, Vocabulary

VOCABULARY = Vocabulary.standard([Function("svd", "decomposition", ("W", "rank"), 2)])


def status(text: str) -> str:
    rule = parse(text).items[0]
    assert isinstance(rule, tree.Rule)
    return check_types(resolve(rule, VOCABULARY))


SVD = """
    linear(x: [..., n], W: const [m, n], b?)
  ~>
    linear(linear(x, {0}), {1}, b)
  where
    (U: [m, r], V: [r, n]) = svd(W, 3)
"""
SIBLINGS = """
    p = linear(x: [..., n], A: const [k, n], a?)
    q = linear(x, B: const [m, n], b?)
  =>
    (p, q) = split(linear(x, concat(A, B, dim=0), concat(a, b, dim=0)), {0}, dim=-1)
"""
RIGHT_AND_WRONG = {
    "svd": (SVD.format("V", "U"), SVD.format("U", "V")),
    "siblings": (SIBLINGS.format("[k, m]"), SIBLINGS.format("[m, k]")),
    "merge": (
        "linear(linear(x, A: const [k, n]), B: const [m, k]) => linear(x, B @ A)",
        "linear(linear(x, A: const [k, n]), B: const [m, k]) => linear(x, A @ B)",
    ),
    "permute": (
        "permute(permute(x, p), q) => permute(x, compose(p, q))",
        "permute(permute(x, p), q) => permute(x, compose(q, p))",
    ),
    "inverse": (
        "permute(relu(permute(x, p)), q) => relu(x)\nwhere is_identity(compose(p, q))",
        "permute(relu(permute(x, p)), q) => relu(x)",
    ),
    "transposes": (
        "permute(x: [m, n], [1, 0]) => x.T",
        "permute(x: [m, n], [1, 0]) => x",
    ),
    "map": (
        "concat(relu(xs)..., dim=d) => relu(concat(xs..., dim=d))",
        "concat(relu(xs)..., dim=d) => relu(concat(xs..., xs..., dim=d))",
    ),
    "condition": (
        "reshape(x, s) => x\nwhere shape(x) == s",
        "reshape(x, s) => x\nwhere len(s) == rank_of(x)",
    ),
    "broadcast": (
        "mul(x: [b, n], s: [n]) => s * x + 0",
        "mul(x: [b, n], s: [n]) => s * s",
    ),
    "branch": (
        "(mean(x, dim=1, keepdim=true) | sum(x, dim=1, keepdim=k) where k) => amax(x, dim=1, keepdim=true)",
        "(mean(x, dim=1, keepdim=true) | sum(x, dim=1, keepdim=k)) => amax(x, dim=1, keepdim=true)",
    ),
    "chain": (
        "relu{2,4}(x) => relu(x)",
        "unsqueeze(relu{2,4}(x), -1) => relu(x)",
    ),
}


@pytest.mark.parametrize(("right", "wrong"), RIGHT_AND_WRONG.values(), ids=RIGHT_AND_WRONG)
def test_right_rules_are_checked_and_wrong_ones_refused(right: str, wrong: str) -> None:
    assert status(f"rule r {{ {right} }}") == ""
    with pytest.raises(TdslError, match=r"hint: for .*|left is"):
        status(f"rule r {{ {wrong} }}")


def test_operator_variables_are_tried_as_their_operators() -> None:
    assert status("law r(f: pointwise) { f(permute(x, p)) == permute(f(x), p) }") == ""
    assert (
        status("rule r(pool: max_pool2d | avg_pool2d) { pool(relu(x), k, s) => relu(pool(x, k, s)) }") == ""
    )
    with pytest.raises(TdslError, match=r"= (max|avg)_pool2d"):
        status("rule r(pool: max_pool2d | avg_pool2d) { pool(x, 2, 2) => x }")


def test_convolutions_before_and_after_pooling() -> None:
    text = """rule r {{
        avg_pool2d(conv2d(x, W: const [o, c, 1, 1], b?, stride=1, padding=0), k, s, padding=0)
      =>
        conv2d(avg_pool2d(x, k, s, padding=0), W, b{0})
      where
        macs(rhs) < macs(lhs)
    }}"""
    assert status(text.format("")) == ""
    with pytest.raises(TdslError, match="different shapes"):
        status(text.format(", padding=1"))


def test_sizes_that_conditions_equate_with_products_are_found() -> None:
    """Sizes drawn at random would hardly ever satisfy all conditions."""
    text = """rule r {{
        linear(x: [k, n], W: const [m, n])
      ~>
        reshape(matmul(reshape(x, [k, a * b, c]), reshape(U, [c, d * e * f])), [k, {}])
      where
        (U: [c, d, e, f], V: [a, b, g, h, i]) = svd(W, 1)
        g * h * i == k
        a * b * c == n
        d * e * f == m
    }}"""
    with pytest.raises(TdslError, match="cannot be computed"):
        status(text.format("m"))
    with pytest.raises(TdslError, match="different shapes"):
        status(text.format("a * b * m"))
    right = text.replace("reshape(matmul", "sum(matmul").replace(", [k, {}])", ", dim=1)")
    assert status(right.format()) == ""


def test_what_shapes_do_not_decide_is_left_unchecked() -> None:
    assert status("rule r { masked_select(x, m) => masked_select(relu(x), m) }").startswith("unchecked: ")
    assert status("rule r { linear(x, W) ~> linear(linear(x, V), U)\nwhere (U, V) = svd(W, 3) }").startswith(
        "unchecked: "
    )
    never = status("rule r { linear(x: [n], W: [m, 2 * n]) => relu(linear(x, W)) }")
    assert "no shape on any instance" in never


def test_the_same_rule_gets_the_same_answer_each_time() -> None:
    answers = set()
    for _ in range(3):
        with pytest.raises(TdslError) as caught:
            status("rule r { relu(x: [b, n]) => mean(x, dim=none) }")
        answers.add(str(caught.value))
    assert len(answers) == 1


def test_a_rule_whose_conditions_no_instance_meets_says_so() -> None:
    """Nothing is solved, so that this loads; `tdsl prove` shows why nothing was checked."""
    never = status("rule r { relu(x: [n, m]) => x where n * n == 2 * m * m\n n > 0 }")
    assert never == "unchecked: no instance tried meets the conditions"
