"""What is underlined while a file is written, and what is said about it."""

from __future__ import annotations

import time

import pytest

from tdsl.lang.library_files import standard_files
from tdsl.lsp.checks import Checks, carried
from tdsl.lsp.files import Files
from tdsl.lsp.knowledge import Knowledge

RIGHT = "rule twice {\n    relu(relu(x))\n  =>\n    relu(x)\n}\n"


def test_a_right_file_has_no_mistakes(editor):
    assert editor.mistakes(RIGHT) == []


def test_a_misspelt_operator_is_underlined_and_its_neighbour_named(editor):
    text = RIGHT.replace("relu(relu(x))", "tanh(rleu(x))")
    assert editor.mistakes(text) == ["2:10 rleu(x): there is no operator or function `rleu`"]
    assert editor.hints(text) == ["did you mean `relu`?"]


@pytest.mark.parametrize(
    ("condition", "mistake"),
    [
        ("all_equal(W, 0)", "6:15 W: `W` is a tensor, and `values` of `all_equal` is a list of numbers"),
        ("n == W", "6:5 n == W: `n` is a number, and `W` is a tensor: `==` does not compare these"),
        ("n == n + 1", "6:5 n == n + 1: this never holds: whatever the sizes are"),
        ("n > 4 and n < 3", "6:15 n < 3: `n < 3` (line 6) cannot hold together with `n > 4` (line 6)"),
    ],
)
def test_a_condition_without_sense_is_underlined(editor, condition, mistake):
    text = "rule r {{\n    linear(x: [..., n], W)\n  =>\n    matmul(x, W.T)\n  where\n    {}\n}}\n"
    assert editor.mistakes(text.format(condition)) == [mistake]
    assert editor.mistakes(text.format("n == 4")) == []


def test_every_wrong_declaration_is_reported(editor):
    syntax = "rule a {\n    relu(relu(x) => relu(x)\n}\n"
    names = "rule b { rleu(relu(x)) => relu(x) }\n"
    types = "rule c { relu(x: [n, m]) => permute(x, [1, 0]) }\n"
    pipeline = "pipeline d { once nothing }\n"
    assert editor.mistakes(syntax + names + RIGHT + types + pipeline) == [
        "2:18 =>: unexpected `=>`",
        "4:10 rleu(relu(x)): there is no operator or function `rleu`",
        "10:29 permute(x, [1, 0]): the two sides have different shapes",
        "11:19 nothing: unknown rule or pass nothing",
    ]


def test_an_open_bracket_hides_no_later_mistake(editor):
    text = "rule a {\n    relu(relu(x))\n\n/// Documented.\nrule b { rleu(relu(x)) => relu(x) }\n" + RIGHT
    assert [m.partition(" ")[0] for m in editor.mistakes(text)] == ["4:1", "5:10"]


def test_the_mistake_is_in_the_rule_that_has_it_wherever_that_moves(editor):
    wrong = "rule b { rleu(relu(x)) => relu(x) }\n"
    before = editor.open(RIGHT + wrong)
    found = editor.checks.quick(before)
    after = editor.open("// one line more\n" + RIGHT + wrong)
    assert [m.line for m in carried(found, after)] == [m.line + 1 for m in found] == [6]
    assert carried(found, editor.open(RIGHT)) == []


def test_mistakes_move_with_spaces_that_change_nothing_else(editor):
    assert editor.mistakes("rule b { rleu(x) => x }\n")[0].startswith("1:10 ")
    assert editor.mistakes("rule b {   rleu(x) => x }\n")[0].startswith("1:12 ")


def test_names_are_declared_once(editor):
    assert editor.mistakes(RIGHT + RIGHT) == ["6:1 rule twice {: twice is declared twice"]


def test_a_step_that_names_a_wrong_rule_adds_no_second_mistake(editor):
    pipeline = "pipeline p {\n    repeat twice until stable\n    once nothing\n}\n"
    alone = pipeline.replace("    once nothing\n", "")
    misspelt = RIGHT.replace("relu(x)\n}", "rleu(x)\n}")
    assert editor.mistakes(misspelt + alone) == ["4:5 rleu(x): there is no operator or function `rleu`"]
    unread = RIGHT.replace("=>", "->")
    assert [m.partition(" ")[0] for m in editor.mistakes(unread + alone)] == ["3:4"]
    assert editor.mistakes(RIGHT + alone) == []
    assert editor.mistakes(RIGHT + pipeline) == ["8:10 nothing: unknown rule or pass nothing"]


def test_a_pipeline_is_checked_against_the_rules_beside_it(editor):
    rule = (
        "rule low(rank: Rank = 50%) {\n    linear(x: [..., n], W: const [m, n], b?)\n  ~>\n"
        "    linear(linear(x, V), U, b)\n  where\n    (U: [m, r], V: [r, n]) = svd(W, rank)\n}\n"
    )
    right = "pipeline p(r: Rank) {\n    once low(rank=r)\n    check error <= 1%\n}\n"
    assert editor.mistakes(rule + right) == []
    assert editor.mistakes(rule + right.replace("rank=", "rnk=")) == [
        "9:10 low(rnk=r): rule rules.low has no parameter rnk"
    ]
    assert editor.mistakes(right) == ["2:10 low(rank=r): unknown rule or pass low"]


@pytest.mark.parametrize(
    ("bound", "message", "hint"),
    [
        ("eror <= 1%", "unknown metric 'eror'", "did you mean `error`?"),
        ("cosine <= 0.9", "a contract cannot bound cosine with '<='", None),
    ],
)
def test_a_check_is_of_a_known_metric_on_its_side(editor, bound, message, hint):
    text = f"pipeline p {{\n    check max_error <= 1, {bound}\n}}\n"
    assert editor.mistakes(text) == [f"2:27 {bound}: {message}"]
    assert hint is None or editor.hints(text) == [hint]
    assert editor.mistakes(text.replace(bound, "cosine >= 0.9")) == []


def test_imports_are_followed(editor):
    (editor.folder / "blocks.tdsl").write_text(RIGHT, encoding="utf-8")
    use = 'import "blocks.tdsl"\n\npipeline p { once blocks.twice }\n'
    assert editor.mistakes(use) == []
    assert editor.mistakes(use.replace("blocks.tdsl", "block.tdsl"))[0] == (
        '1:1 import "block.tdsl": nothing to import: there is no block.tdsl'
    )
    editor.open("rule twice { rleu(x) => x }\n", "blocks.tdsl")  # not saved yet
    assert editor.mistakes(use)[0] == (
        '1:1 import "blocks.tdsl": blocks.tdsl has a mistake in line 1:'
        " there is no operator or function `rleu`"
    )
    (editor.folder / "rules.tdsl").write_text(use, encoding="utf-8")
    editor.open('import "rules.tdsl"\n', "blocks.tdsl")
    assert editor.mistakes(use)[0].endswith("these files import each other in a circle")


def test_until_torch_is_loaded_syntax_is_checked_and_names_are_not(editor):
    early = Checks(Files(), Knowledge())
    document = early.files.put(editor.folder / "a.tdsl", RIGHT + "rule b { rleu(x) => x }\nrule c {")
    assert [m.line for m in early.quick(document) + early.thorough(document)] == [6]


BEGINNINGS = (
    "",
    "\n",
    "rule",
    "rule ",
    "///",
    "/// d",
    "}",
    "{",
    "rule r {",
    'import "',
    "pipeline p { once",
)
CURIOUS = ("\ufeff", "\t\r", "rule r { " + "(" * 500, "rule r { " + "relu(" * 500)


@pytest.mark.parametrize("text", [*BEGINNINGS, *CURIOUS])
def test_what_is_unfinished_is_a_mistake_at_most(editor, text):
    document = editor.open(text)
    editor.checks.quick(document)
    editor.checks.thorough(document)


def test_the_standard_library_is_right_and_quickly_checked(editor, knowledge):
    for prefix, path in standard_files():
        document = editor.checks.files.get(path)
        assert editor.checks.quick(document) == [], prefix


def test_a_keystroke_in_a_long_file_is_answered_at_once(editor):
    rules = [RIGHT.replace("twice", f"twice_{i}") for i in range(40)]
    editor.checks.quick(editor.open("".join(rules)))
    times = []
    for i in range(10):
        rules[17] = RIGHT.replace("twice", f"twice_x{i}")
        began = time.perf_counter()
        editor.checks.quick(editor.open("".join(rules)))
        times.append(time.perf_counter() - began)
    assert min(times) < 0.1  # 200 lines; about 0.005 on a laptop


def test_examples_are_checked_for_what_they_are_about_and_their_names(editor):
    right = "example twice {\n    relu(relu(x: [3]))\n  =>\n    relu(x)\n}\n"
    assert editor.mistakes(RIGHT + right) == []
    assert editor.mistakes(right) == ["1:9 twice: unknown rule, pass or pipeline twice"]
    assert editor.mistakes(RIGHT + right.replace("relu(x)", "rleu(x)")) == [
        "9:5 rleu(x): there is no operator or function `rleu`"
    ]
    assert (
        editor.mistakes("example double_relu {\n    relu(relu(x: [3]))\n}\n") == []
    )  # the standard library's
