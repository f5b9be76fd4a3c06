"""What somebody who is new to tdsl tries next, and what the message says to do about it."""

from __future__ import annotations

import re

import pytest

HALVES = """\
/// Rectified numbers are half the sum of a number and its size.
rule halves {
    relu(x: f32)
  =>
    (x + abs(x)) / 2
}
"""
CHOSEN = """
pipeline mine {
    repeat halves until stable
}
"""


def rule_notes(outcome):
    return [note["text"] for note in outcome.json["report"]["notes"] if note["kind"] == "rules"]


def test_rules_that_no_step_names_are_reported_with_a_pipeline_that_would(tdsl, folder):
    (folder / "own.tdsl").write_text(HALVES, encoding="utf-8")
    outcome = tdsl("compile", "tiny.py:model", "--rules", "own.tdsl", "--no-latency", "--json")
    assert outcome.status == 0
    assert rule_notes(outcome) == [
        "nothing that was loaded takes part (own.halves): no step of pipeline exact names it; "
        "a pipeline with `repeat own.halves until stable` would apply it"
    ]


def test_a_pipeline_beside_them_is_named_and_does_apply_them(tdsl, folder):
    (folder / "own.tdsl").write_text(HALVES + CHOSEN, encoding="utf-8")
    given = ("compile", "tiny.py:model", "--rules", "own.tdsl", "--no-latency", "--json")
    [idle] = rule_notes(tdsl(*given))
    assert idle.endswith("; choose pipeline own.mine")
    misspelt = tdsl(*given[:-1], "--pipeline", "other")
    assert "expected: one of yours, own.mine, or of the standard library" in misspelt.err
    used = tdsl(*given, "--pipeline", "mine")
    assert rule_notes(used) == []
    assert [rewrite["rule"] for rewrite in used.json["report"]["rewrites"]] == ["own.halves"]


def test_what_did_not_pay_is_one_note_and_plans_are_told_once(tdsl, folder):
    edge = tdsl("compile", "tiny.py:model", "-p", "edge", "--no-latency", "--json")
    [unpaid] = [n["text"] for n in edge.json["report"]["notes"] if n["kind"] == "nothing paid"]
    assert unpaid == "no site met the conditions of factorize.embedding.*"
    samples = ("--calibration", "tiny.py:samples", "--set", "drop=1%")
    planned = tdsl("compile", "tiny.py:model", "-p", "compact", *samples, "--no-latency", "--json")
    assert planned.status == 1
    notes = [n["text"] for n in planned.json["report"]["notes"]]
    assert any("sites rewritten" in note for note in notes)
    assert len(notes) == len(set(notes))


@pytest.mark.parametrize(
    "arguments, said",
    [
        (
            ("compile", "tiny.py:model", "-p", "double_relu"),
            "error: double_relu is a rule or a pass, and what is applied is a pipeline\n"
            "  expected: a name of `tdsl list pipelines`, or of a file of your own\n"
            "  hint: `pipeline mine { repeat double_relu until stable }` is one that applies it\n",
        ),
        (
            ("compile", "tiny.py:model", "-p", "quick"),
            "error: unknown pipeline quick\n  hint: `tdsl list pipelines` shows all of them\n",
        ),
        (
            ("compile", "tiny.py"),
            "error: 'tiny.py' names no function\n  expected: one of tiny.py:model, tiny.py:other, "
            "tiny.py:samples, tiny.py:noisy, tiny.py:untraceable, tiny.py:mismatched, tiny.py:damaged, "
            "tiny.py:without_onnx_form, tiny.py:raising\n",
        ),
        (("explain", "exact", "tiny.py:model"), "error: exact is a pipeline\n  expected: a rule or a pass\n"),
        (
            ("explain", "tiny.py:model", "double_relu"),
            "error: tiny.py:model is a model, and the rule comes first\n"
            "  expected: tdsl explain RULE MODEL\n",
        ),
        (
            ("show", "relu"),
            "error: relu is an operator, and only what is declared in a file is shown\n"
            "  hint: its signature is `relu(x) -> like`; `tdsl list operators` has them all\n",
        ),
        (
            ("list", "silu"),
            "error: silu is an operator, and only what is declared in a file is listed\n"
            "  hint: its signature is `silu(x) -> like`; `tdsl list operators` has them all\n",
        ),
        (
            ("sweep", "tiny.py:model", "--calibration", "tiny.py:samples", "--shares", "80,50"),
            "error: the sizes of a sweep are shares of the model\n  expected: numbers above 0 and up to 1\n"
            "  hint: half of it is `50%` on the command line, 0.5 in Python\n",
        ),
        (
            ("merge", "tiny.py:model", "tiny.py:other", "--no-align"),
            "error: no samples, and merging by gram asks each model's own\n"
            "  expected: 2 lists of samples, one for each model in their order, or one for all\n"
            "  hint: give samples (`--samples`, `samples=`); the plain average needs none (`--by average`)\n",
        ),
    ],
)
def test_messages_say_what_to_do(tdsl, arguments, said):
    outcome = tdsl(*arguments)
    assert (outcome.status, outcome.out, outcome.err) == (1, "", said)


def test_a_file_of_pipelines_alone_has_nothing_to_prove(tdsl, folder):
    (folder / "own.tdsl").write_text(
        "pipeline own {\n    repeat cleanup.* until stable\n}\n", encoding="utf-8"
    )
    outcome = tdsl("prove", "own.tdsl")
    assert outcome.status == 0
    assert outcome.out == "no rules to prove; pipelines are checked by `tdsl compile --pipeline`\n"


def test_a_merge_without_a_file_says_that_it_wrote_none(tdsl):
    outcome = tdsl("merge", "tiny.py:model", "tiny.py:model", "--by", "average")
    assert outcome.err == "nothing was written; `--output FILE` writes the weights\n"


def test_a_glob_of_many_rules_is_not_listed_in_full(tdsl):
    outcome = tdsl("explain", "cleanup.*", "tiny.py:model")
    assert re.search(r" and \d+ more\n", outcome.err)
    assert "hint: `tdsl list 'cleanup.*'` says what each does" in outcome.err


def test_a_kind_that_the_library_has_nothing_of_says_where_one_could_come_from(tdsl):
    assert tdsl("list", "groups").out == (
        "no groups are declared; `--rules FILE.tdsl` reads a file of your own\n"
    )
    assert tdsl("list", "groups", "--json").json["entries"] == []


def test_sizes_out_of_reach_say_so_in_place_of_an_empty_table(tdsl):
    outcome = tdsl("sweep", "tiny.py:model", "--calibration", "tiny.py:samples", "--shares", "1%")
    assert outcome.out.startswith("no plan reaches any of these sizes\n")
    assert "of the parameters at the least" in outcome.out


def test_the_help_shows_what_each_command_does_in_full(tdsl):
    for arguments in (("--help",), ("new", "--help")):
        assert "..." not in tdsl(*arguments).out.replace("ARGS]...", "")


def test_a_name_that_shares_no_more_than_its_ending_is_not_suggested(tdsl, folder):
    (folder / "own.tdsl").write_text('import "nope.tdsl"\n', encoding="utf-8")
    (folder / "a9.tdsl").write_text(HALVES, encoding="utf-8")
    assert "did you mean" not in tdsl("prove", "own.tdsl").err + tdsl("prove", "own.tdsl").out
    (folder / "nopes.tdsl").write_text(HALVES, encoding="utf-8")
    found = tdsl("prove", "own.tdsl")
    assert "hint: did you mean `nopes.tdsl`?" in found.out + found.err


SLIPS = """\
pipeline slips {
    at "encoder.*", "first" {
        once factorize.linear.svd_linear(rank=50%)
    }
    check error <= 5
}

pipeline impossible {
    once factorize.linear.svd_linear(rank=50%)
    check cosine >= 98
}

pipeline loose {
    choose factorize.linear.svd_linear minimize parameters subject to error <= 5
    check error <= 100%
}
"""


def test_paths_of_no_module_and_errors_without_a_percent_sign_are_noted(tdsl, folder):
    (folder / "own.tdsl").write_text(SLIPS, encoding="utf-8")
    given = ("compile", "tiny.py:model", "--rules", "own.tdsl", "--no-latency", "--json", "-p")
    outcome = tdsl(*given, "slips")
    assert outcome.status == 0
    notes = {n["kind"]: n["text"] for n in outcome.json["report"]["notes"]}
    assert notes["at"] == ('no module of the model matches "encoder.*": its modules are first, drop, second')
    assert notes["contract"] == "error <= 5 is 500%, and zeros in place of every output lose 100%"
    loose = tdsl(*given, "loose", "--calibration", "tiny.py:samples")
    notes = [n["text"] for n in loose.json["report"]["notes"] if n["kind"] == "plan"]
    assert "error <= 5 is 500%, and zeros in place of every output lose 100%" in notes
    refused = tdsl(*given, "impossible").json
    assert (refused["error"], refused["line"]) == ("no cosine is as large as 98", 10)
    assert refused["hint"] == "a percentage is written with its sign: `98%` is 0.98"
