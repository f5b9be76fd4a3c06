"""What is shown beside a word."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from tdsl.lsp.proofs import proof_state

SVD = """\
/// Truncated SVD.
rule low(rank: Rank = energy(0.95)) {
    linear(x: [..., n], W: const [m, n], b?)
  ~>
    linear(linear(x, V), U, b)
  where
    (U: [m, r], V: [r, n]) = svd(W, rank)
    r * (m + n) < m * n
}
"""


def with_cursor(text: str, at: str) -> str:
    """`text` with the cursor where it is in `at`, a piece of the text with `|` in it."""
    assert text.count(at.replace("|", "")) == 1, at
    return text.replace(at.replace("|", ""), at)


def test_an_operator_has_signature_meaning_and_facts(editor):
    shown = editor.hover("rule r { li|near(x, W) => x }")
    assert shown.startswith("```tdsl\nlinear(x: [..., n], weight: [m, n], bias?: [m] = 0) -> [..., m]\n```")
    assert "x · weightᵀ + bias" in shown
    assert "*linear in x and in weight*" in shown
    assert "PyTorch: `F.linear`" in shown
    assert "commutative, associative" in editor.hover("rule r { a|dd(x, y) => x }")


def test_a_decomposition_has_its_promise_shapes_and_source(editor):
    shown = editor.hover(with_cursor(SVD, "= s|vd("))
    assert shown.startswith("```tdsl\nsvd(W, rank)\n```")
    assert "Promise: `W ≈ U @ V`" in shown
    assert "Shapes: `[m, n]` → `[m, r]`, `[r, n]`" in shown
    assert "Method: Eckart & Young, 1936" in shown


def test_a_function_that_is_an_operator_too_shows_both(editor):
    shown = editor.hover("rule r { relu(x: [n]) => x where a|bs(n) > 1 }")
    assert "abs(x) -> like" in shown
    assert "*number*. Absolute value." in shown


@pytest.mark.parametrize(
    ("at", "code", "said"),
    [
        ("low(ra|nk", "rank: Rank = energy(0.95)", "A parameter: a rank"),
        ("linear(x|: [", "x: [..., n]", "`x` of `linear`, of shape `[..., n]`."),
        ("(linear(x|,", "x: [..., n]", "`x` of `linear`"),
        ("W|: const", "W: const [m, n]", "Known at compile time"),
        ("b|?", "b?", "May be absent; it is then 0. `bias` of `linear`"),
        ("n|], W", "n", "A size: the last axis of `x: [..., n]`."),
        ("(m| +", "m", "A size: axis -2 of `W: const [m, n]`."),
        (" V|)", "(U: [m, r], V: [r, n]) = svd(W, rank)", "`svd` promises `W ≈ U @ V` (Eckart & Young"),
        ("r| * (", "r", "A size: the last axis of `U: [m, r]`."),
    ],
)
def test_a_variable_has_what_is_known_of_it(editor, at, code, said):
    shown = editor.hover(with_cursor(SVD, at))
    assert shown.startswith(f"```tdsl\n{code}\n```")
    assert said in shown


def test_an_attribute_an_operator_variable_and_a_result(editor):
    text = "rule r(f: {}) {{\n    p = f(permute(x, d))\n    q = neg(x)\n  =>\n    p = permute(f(x), {})\n}}"
    assert "`dims` of `permute`: a permutation" in editor.hover(text.format("pointwise", "d|"))
    assert "p = f(permute(x, d))" in editor.hover(
        text.format("pointwise", "d").replace("    p = p", "    |p = p")
    )
    assert "An operator: `relu`, " in editor.hover(text.format("pointwise", "d").replace("f(x)", "|f(x)"))
    assert "A class of" in editor.hover(text.format("poi|ntwise", "d"))


def test_a_named_argument_is_explained_by_its_operator(editor):
    shown = editor.hover("rule r { softmax(x, di|m=-1) => x }")
    assert "`dim`: one axis." in shown


def test_a_rule_is_shown_where_it_is_referred_to(editor):
    shown = editor.hover(SVD + "pipeline p { once l|ow(rank=3) }")
    assert shown.startswith("```tdsl\nrule low(rank: Rank = energy(0.95)) {\n    linear(x: [..., n]")
    assert "Truncated SVD." in shown
    assert "*approximate*" in shown


def test_a_glob_is_shown_as_what_it_selects(editor):
    other = SVD.replace("low", "lower").replace("Truncated SVD", "Another")
    assert editor.hover(SVD + other + "pipeline p { once rules.|* }") == (
        "`rules.*`: 2 rules and passes\n\n- `rules.low` ~> Truncated SVD\n- `rules.lower` ~> Another"
    )


def test_the_standard_library_is_read_for_its_text(editor):
    shown = editor.hover("pipeline p { once svd_lin|ear }")
    assert "rule svd_linear(rank: Rank = energy(0.95))" in shown


def test_a_pass_in_python_has_its_docstring(editor):
    assert "*A pass in Python.*" in editor.hover("pipeline p { once dead_|code }")


def test_nothing_is_said_of_nothing(editor):
    assert editor.hover("rule r { relu(x) |=> x }") == ""
    assert editor.hover("rule r { relu(x) => nosuch|(x) }") == ""
    assert editor.hover("// a comm|ent about relu") == ""


@dataclass(frozen=True)
class Found:
    status: str
    reason: str = ""
    error_probability: float = 0.0


class Proved:
    verdict = Found("proved", "both sides are the same polynomial", 1e-9)


def test_the_state_of_a_proof_is_one_line():
    assert proof_state(Proved()) == (
        "**proved**, wrong with probability at most 1e-09: both sides are the same polynomial"
    )
    Proved.verdict = replace(Proved.verdict, status="unchecked", reason="", error_probability=1.0)
    assert proof_state(Proved()) == "**unchecked**"


def test_an_argument_of_a_rule_is_explained_by_the_rule(editor):
    shown = editor.hover(SVD + "pipeline p { once low(ra|nk=3) }")
    assert shown.startswith("```tdsl\nrank: Rank = energy(0.95)\n```")
    assert "A rank: a number (64), a ratio (50%)" in shown


def test_defaults_are_written_as_in_the_language(editor):
    assert "By default false." in editor.hover("rule r { sum(x, keep|dim=true) => x }")


def test_a_variable_of_an_example_has_its_sizes(editor):
    shown = editor.hover(SVD + "example low { linear(x|: [4, 8], W: const [6, 8]) }")
    assert shown.startswith("```tdsl\nx: [4, 8]\n```")


def test_an_import_is_shown_as_what_it_declares(editor):
    (editor.folder / "blocks.tdsl").write_text(SVD, encoding="utf-8")
    assert editor.hover('import "blo|cks.tdsl"') == "`blocks.tdsl`\n\n- `blocks.low` ~> Truncated SVD"
    assert editor.hover('import "nosu|ch.tdsl"') == ""
