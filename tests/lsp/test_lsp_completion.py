"""What is offered while a word is written."""

from __future__ import annotations

import pytest

from tdsl.lsp.completion import Kind

RULE = "rule r {\n    relu(x: [..., n])\n  =>\n    "


def of_kind(offers, kind):
    return {label for label, offer in offers.items() if offer.kind is kind}


def test_an_operator_comes_with_its_operands(editor):
    offer = editor.offers("rule r { lin|")["linear"]
    assert offer.kind is Kind.OPERATOR
    assert offer.snippet == "linear(${1:x}, ${2:weight})"
    assert offer.detail == "linear(x: [..., n], weight: [m, n], bias?: [m] = 0) -> [..., m]"
    assert "x · weightᵀ + bias" in offer.doc


def test_the_left_side_has_operators_and_names_and_no_functions(editor):
    offers = editor.offers("rule r(rank: Rank) {\n    linear(x, W, |")
    assert {"x", "W", "rank"} <= of_kind(offers, Kind.VARIABLE)
    assert "relu" in of_kind(offers, Kind.OPERATOR)
    assert of_kind(offers, Kind.FUNCTION) == set()


def test_the_right_side_has_what_can_be_built(editor):
    offers = editor.offers(RULE + "|")
    assert {"x", "n"} <= of_kind(offers, Kind.VARIABLE)
    assert "first_moment" in of_kind(offers, Kind.FUNCTION)
    assert not {"svd", "energy", "used_once"} & of_kind(offers, Kind.FUNCTION)


def test_where_has_decompositions_predicates_and_sides(editor):
    offers = editor.offers(RULE + "x\n  where\n    |")
    assert {"svd", "used_once", "macs"} <= of_kind(offers, Kind.FUNCTION)
    assert offers["svd"].snippet == "svd(${1:W}, ${2:rank})"
    assert "Eckart & Young" in offers["svd"].doc
    assert {"lhs", "rhs"} <= editor.offers(RULE + "x\n  where\n    macs(|").keys()


def test_inside_a_call_there_are_its_attributes_not_given_yet(editor):
    offers = editor.offers("rule r { conv2d(x, W, stride=1, |")
    named = of_kind(offers, Kind.ARGUMENT)
    assert {"padding=", "dilation=", "groups="} <= named
    assert "stride=" not in named
    assert offers["groups="].detail == "an integer, by default 1"
    inner = editor.offers("rule r { conv2d(relu(|), W, stride=1)")
    assert of_kind(inner, Kind.ARGUMENT) == set()


@pytest.mark.parametrize("call", ["cast(x, |", "cast(x, dtype=|"])
def test_element_types_stand_where_an_attribute_is_one(editor, call):
    assert "bf16" in of_kind(editor.offers(f"rule r {{ {call}"), Kind.TYPE)


def test_a_type_is_const_or_an_element_type(editor):
    offers = editor.offers("rule r { relu(x: |")
    assert of_kind(offers, Kind.TYPE) >= {"f32", "bool"}
    assert of_kind(offers, Kind.KEYWORD) == {"const"}
    assert of_kind(offers, Kind.OPERATOR) == set()


def test_a_parameter_is_of_a_kind_a_class_or_an_operator(editor):
    offers = editor.offers("rule r(rank: |")
    assert {"Rank", "Ratio", "pointwise"} <= of_kind(offers, Kind.TYPE)
    assert "max_pool2d" in of_kind(offers, Kind.OPERATOR)
    default = editor.offers("rule r(rank: Rank = |")
    assert "energy" in of_kind(default, Kind.FUNCTION)
    assert "svd" not in of_kind(default, Kind.FUNCTION)


def test_keywords_are_those_that_the_grammar_accepts(editor):
    assert {"rule", "law", "pipeline", "import"} <= of_kind(editor.offers("|"), Kind.KEYWORD)
    steps = of_kind(editor.offers("pipeline p {\n    |"), Kind.KEYWORD)
    assert {"repeat", "once", "choose", "check"} <= steps
    assert "rule" not in steps
    assert of_kind(editor.offers("pipeline p {\n    repeat a |"), Kind.KEYWORD) == {"until"}
    assert "where" in of_kind(editor.offers(RULE + "relu(x) |"), Kind.KEYWORD)


def test_pipelines_have_rules_globs_and_parameters_of_rules(editor):
    own = "rule low(rank: Rank) { relu(x) => neg(x) where rank > 1 }\n"
    offers = editor.offers(own + "pipeline p {\n    once |")
    rules = of_kind(offers, Kind.RULE)
    assert {"rules.low", "factorize.linear.svd_linear", "cleanup.*", "cleanup.dead_code"} <= rules
    assert "Truncated SVD" in offers["factorize.linear.svd_linear"].doc
    assert "rank=" in editor.offers(own + "pipeline p { once low(|")
    assert "rank=" in editor.offers("pipeline p { once factorize.linear.*(|")
    given = editor.offers("pipeline p(r: Rank) {\n    once low(rank=|")
    assert "r" in of_kind(given, Kind.VARIABLE)
    assert "energy" in of_kind(given, Kind.FUNCTION)


def test_steps_have_their_own_words(editor):
    assert "cosine" in of_kind(editor.offers("pipeline p { check |"), Kind.VALUE)
    assert "latency" in of_kind(editor.offers("pipeline p { choose a minimize |"), Kind.VALUE)
    assert {"bytes", "error"} <= editor.offers("pipeline p { choose a minimize macs subject to |").keys()
    assert "least_squares" in editor.offers("pipeline p { heal |")
    assert "f16" in editor.offers("pipeline p { quantize |")


def test_what_is_run_is_a_pipeline_with_its_own_parameters(editor):
    offers = editor.offers("pipeline p {\n    run |")
    assert {"pipelines.exact", "pipelines.edge"} <= of_kind(offers, Kind.RULE)
    assert "cleanup.*" not in offers and "small devices" in offers["pipelines.edge"].doc
    assert "kept=" in editor.offers("pipeline p {\n    run pipelines.edge(|")


def test_imports_are_files_of_the_library_and_of_the_folder(editor):
    (editor.folder / "blocks.tdsl").write_text("", encoding="utf-8")
    offers = editor.offers("import |")
    assert {"cleanup.identity", '"blocks.tdsl"'} <= of_kind(offers, Kind.FILE)


def test_after_a_mistake_in_the_declaration_there_is_still_something(editor):
    offers = editor.offers("rule r {\n    relu(x x)\n  =>\n    lin|")
    assert "linear" in offers
    assert "x" in of_kind(offers, Kind.VARIABLE)
    assert "cleanup.*" in editor.offers("pipeline p {\n    repeat a a\n    once |")


@pytest.mark.parametrize(
    "text", ["// rel|", "/// rel|", 'import "rel|', "rule r { /", 'pipeline p { at "en|"']
)
def test_comments_and_texts_are_left_alone(editor, text):
    assert editor.offers(text if "|" in text else text + "/ rel|") == {}


def test_schemes_of_storage_their_arguments_and_mistakes_come_from_their_table(editor):
    offers = editor.offers("pipeline p { quantize |")
    assert {"f16", "tied", "int8"} <= offers.keys() and "eight bits" in offers["int8"].doc
    assert {"block=", "error="} <= editor.offers("pipeline p { quantize int8(|").keys()
    assert "block=" not in editor.offers("pipeline p { quantize int8(block=32, |")
    assert "Method: Frantar" in editor.hover("pipeline p {\n    quantize int|8\n}\n")
    assert "block: Int = none" in editor.hover("pipeline p {\n    quantize int8(blo|ck=32)\n}\n")
    wrong = editor.mistakes("pipeline p {\n    quantize int7\n    check error <= 1%\n}\n")
    assert any("there is no way `int7` to store weights" in text for text in wrong)
