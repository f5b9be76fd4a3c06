"""`tdsl list` and `tdsl show`."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tdsl.catalog import catalog
from tdsl.engine.library import standard_library


def text(value):
    return dedent(value).lstrip("\n")


def test_the_catalog_is_the_library():
    """What the outline of the files says is what their syntax trees say."""
    library = standard_library()
    loaded = {
        name: ("law" if d.source.arrow == "==" else "rule", d.source.arrow, d.source.doc, d.source.span.line)
        for name, d in library.rules.items()
    }
    loaded |= {name: ("pipeline", "", p.doc, p.span.line) for name, p in library.pipelines.items()}
    listed = {e.name: (e.kind, e.arrow, e.doc, e.line) for e in catalog() if e.kind != "pass"}
    assert listed == loaded
    assert {e.name: e.summary for e in catalog() if e.kind == "pass"} == {
        name: found.doc.removesuffix(".") for name, found in library.passes.items()
    }


def test_list_groups_names_by_file(tdsl):
    outcome = tdsl("list", "--rules", "lossy.tdsl", "lossy")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        "  lossy  pipeline  A contract that such a loss does not keep",
        "",
        "lossy",
        "  halve  ~>        Half the rank, whatever that costs",
        "",
        "=> exact   ~> approximate   == law, usable both ways",
    ]


def test_list_as_json(tdsl):
    found = tdsl("list", "--rules", "lossy.tdsl", "lossy.halve", "--json").json
    assert found == {
        "format": "tdsl-list/1",
        "entries": [
            {
                "name": "lossy.halve",
                "kind": "rule",
                "exactness": "approximate",
                "doc": "Half the rank, whatever that costs",
            }
        ],
    }


@pytest.mark.parametrize(
    ("pattern", "lines"),
    [
        ("operators", ["relu(x) -> like", "    max(x, 0)."]),
        ("functions", ["svd(W, rank)", "energy(kept)", "used_once(x)", "project(W, space)", "S(n)"]),
    ],
)
def test_list_shows_what_rules_may_call(tdsl, pattern, lines):
    shown = tdsl("list", pattern).out.splitlines()
    assert set(lines) <= set(shown)
    entries = tdsl("list", pattern, "--json").json["entries"]
    assert [entry["signature"] for entry in entries] == [line for line in shown if line[0] != " "]


@pytest.mark.parametrize(("pattern", "kind"), [("passes", "pass"), ("pipelines", "pipeline")])
def test_list_by_kind(tdsl, pattern, kind):
    entries = tdsl("list", pattern, "--json").json["entries"]
    assert entries
    assert {entry["kind"] for entry in entries} == {kind}


def test_list_takes_globs_and_parts_of_names(tdsl):
    by_glob = tdsl("list", "factorize.*", "--json").json["entries"]
    by_part = tdsl("list", "svd_linear", "--json").json["entries"]
    assert {entry["exactness"] for entry in by_glob} == {"approximate"}
    assert [entry["name"] for entry in by_part] == [
        "decompose.finite.group_svd_linear",
        "factorize.linear.svd_linear",
    ]


def test_a_misspelt_name_gets_a_suggestion(tdsl):
    for command in ("list", "show"):
        outcome = tdsl(command, "svd_liner")
        assert (outcome.status, outcome.out) == (1, "")
        assert outcome.err.endswith("hint: did you mean `svd_linear`?\n")
    assert tdsl("list", "operatrs").err.endswith("hint: did you mean `operators`?\n")


def test_errors_as_json_stand_on_standard_output(tdsl):
    outcome = tdsl("list", "--json", "svd_liner")
    assert outcome.status == 1
    assert outcome.json == {
        "format": "tdsl-error/1",
        "error": "nothing is called svd_liner",
        "file": None,
        "line": None,
        "column": None,
        "expected": None,
        "hint": "did you mean `svd_linear`?",
    }


def test_a_malformed_file_of_rules_is_shown_with_a_caret(tdsl, folder):
    (folder / "wrong.tdsl").write_text("rule a {\n    relu(x) -> x\n}\n", encoding="utf-8")
    expected = text(
        """
        wrong.tdsl:2:14: error: unexpected `>`
                relu(x) -> x
                         ^
          expected: a term
          hint: the arrows are `=>` (exact), `~>` (approximate) and, in a law, `==`
        """
    )
    for arguments in (
        ["list"],
        ["show", "svd_linear"],
        ["show", "-p", "exact", "tiny.py:model"],
        ["compile", "tiny.py:model"],
        ["explain", "svd_linear", "tiny.py:model"],
    ):
        outcome = tdsl(*arguments, "--rules", "wrong.tdsl")
        assert (outcome.status, outcome.out, outcome.err) == (1, "", expected)


# ---------------------------------------------------------------- show


def test_show_prints_a_rule_in_canonical_form_with_its_comments(tdsl, folder):
    (folder / "mine.tdsl").write_text(
        "// about the file\n\n/// Twice.\nrule twice { relu(relu(x)) // both\n=> relu(x) }\n"
        "/// Next.\nrule next { abs(abs(x)) => abs(x) }\n",
        encoding="utf-8",
    )
    assert tdsl("show", "twice", "--rules", "mine.tdsl").out == text(
        """
        /// Twice.
        rule twice {
            relu(relu(x))  // both
          =>
            relu(x)
        }
        """
    )


def test_show_prints_pipelines_and_passes(tdsl):
    assert tdsl("show", "lossy.lossy", "--rules", "lossy.tdsl").status == 1
    assert tdsl("show", "lossy", "--rules", "lossy.tdsl").out.startswith("/// A contract that")
    assert tdsl("show", "cleanup.dead_code").out.startswith("@graph_pass\nclass DeadCode(GraphPass):\n")


def test_show_as_json_says_where(tdsl):
    found = tdsl("show", "halve", "--rules", "lossy.tdsl", "--json").json
    assert list(found) == ["format", "name", "kind", "file", "line", "source"]
    assert (found["name"], found["file"], found["line"]) == ("lossy.halve", "lossy.tdsl", 2)


def test_show_prints_examples(tdsl, folder):
    alone, outcome = tdsl("show", "double_relu"), tdsl("show", "double_relu", "--examples")
    assert outcome.out.removeprefix(alone.out) == (
        "\nexample double_relu {\n    relu(relu(x: [3]))\n  =>\n    relu(x)\n}\n"
    )
    assert tdsl("show", "svd_linear", "--examples").out == tdsl("show", "svd_linear").out
    assert (
        tdsl("show", "double_relu", "--examples", "--json").json["examples"].startswith("example double_relu")
    )
    assert tdsl("show", "tiny.py:model", "--examples").status == 2


def test_show_prints_the_matcher(tdsl):
    source = tdsl("show", "double_relu", "--matcher").out
    assert source.startswith("def match(root, accept,")
    compile(source, "matcher", "exec")
    assert (
        tdsl("show", "exact", "--matcher").err
        == "error: pipelines.exact is a pipeline, and only a rule has a matcher\n"
    )


def test_show_prints_a_graph_before_and_after(tdsl):
    outcome = tdsl("show", "tiny.py:model", "--pipeline", "exact")
    before, after = outcome.out.split("\n// after pipeline exact, 1 rewrite\n")
    assert before.startswith("// as captured\nx: f32[")
    assert "dropout" in before
    assert "dropout" not in after
    assert "linear(x, first.weight, first.bias)" in after
    found = tdsl("show", "tiny.py:model", "--pipeline", "exact", "--json").json
    assert list(found) == ["format", "model", "graph", "pipeline", "rewrites", "rewritten"]
    assert found["graph"] == before.removeprefix("// as captured\n")
