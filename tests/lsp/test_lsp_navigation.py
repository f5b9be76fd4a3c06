"""From a word to its definition and uses, and new names."""

from __future__ import annotations

import pytest

from tdsl.errors import TdslError

TWICE = "rule twice {\n    relu(relu(x))\n  =>\n    relu(x)\n}\n"


def test_a_variable_leads_to_its_first_occurrence(editor):
    text = "rule r(f: pointwise) {\n    f(permute(x, p))\n  =>\n    permute(FUNC(x), PERM)\n}\n"
    assert editor.definition(text.replace("FUNC", "f").replace("PERM", "p|")) == ["rules.tdsl:2:18"]
    assert editor.definition(text.replace("FUNC", "f|").replace("PERM", "p")) == ["rules.tdsl:1:8"]


def test_a_variable_is_one_rule_wide(editor):
    assert editor.definition(TWICE + "rule r { tanh(x) => neg(x|) }") == ["rules.tdsl:6:15"]


def test_a_rule_is_found_here_in_imports_and_in_the_standard_library(editor):
    (editor.folder / "blocks.tdsl").write_text("// blocks\n" + TWICE, encoding="utf-8")
    use = 'import "blocks.tdsl"\nrule one { relu(x) => neg(x) }\npipeline p { once '
    assert editor.definition(use + "o|ne }") == ["rules.tdsl:2:6"]
    assert editor.definition(use + "tw|ice }") == ["blocks.tdsl:2:6"]
    assert editor.definition(use + "svd_l|inear }") == ["linear.tdsl:2:6"]
    assert editor.definition(use + "blocks.*|, one }") == ["blocks.tdsl:2:6"]
    assert editor.definition(use + "dead_cod|e }")[0].startswith("sharing.py:")


def test_an_import_leads_to_its_file(editor):
    (editor.folder / "blocks.tdsl").write_text(TWICE, encoding="utf-8")
    assert editor.definition('import "blo|cks.tdsl"') == ["blocks.tdsl:1:1"]
    assert editor.definition("import cleanup.id|entity") == ["identity.tdsl:1:1"]
    assert editor.definition('import "nosuch|.tdsl"') == []


@pytest.mark.parametrize(
    "text", ["rule r { re|lu(x) => x }", "rule r |{", "rule r { relu(x) => neg(x, di|m=1) }"]
)
def test_what_has_no_definition_leads_nowhere(editor, text):
    assert editor.definition(text) == []


def test_references_to_a_rule_are_found_in_all_open_files(editor):
    (editor.folder / "rules.tdsl").write_text(TWICE, encoding="utf-8")
    editor.open(
        'import "rules.tdsl"\npipeline p { repeat rules.twice until stable once rules.* }', "use.tdsl"
    )
    editor.open("pipeline q { once twice }", "stranger.tdsl")  # does not import it
    found = editor.references(TWICE.replace("twice", "twi|ce") + "pipeline p { once twice }\n")
    assert found == ["rules.tdsl:1:6", "rules.tdsl:6:19", "use.tdsl:2:27", "use.tdsl:2:51"]


def test_a_variable_gets_a_new_name_in_its_rule_only(editor):
    text = "rule r {\n    softmax(x, dim=dim|)\n  =>\n    softmax(neg(x), dim=dim)\n}\n" + TWICE
    after = editor.renamed(text, "axis")["rules.tdsl"]
    assert after == text.replace("|", "").replace("dim=dim", "dim=axis")


def test_sizes_and_definitions_are_renamed_like_other_variables(editor):
    text = "rule r {\n    relu(x: [m|, n])\n  =>\n    reshape(x, [k])\n  where\n    k = m * n\n}\n"
    after = editor.renamed(text, "rows")["rules.tdsl"]
    assert after == text.replace("m|", "rows").replace("m *", "rows *")


def test_a_rule_gets_a_new_name_wherever_open_files_refer_to_it(editor):
    (editor.folder / "rules.tdsl").write_text(TWICE, encoding="utf-8")
    use = 'import "rules.tdsl"\npipeline p {{ repeat rules.{}, rules.* until stable }}'
    editor.open(use.format("twice"), "use.tdsl")
    after = editor.renamed(TWICE + "pipeline twice_only { once tw|ice }", "again")
    assert after["rules.tdsl"] == TWICE.replace("twice", "again") + "pipeline twice_only { once again }"
    assert after["use.tdsl"] == use.format("again")


@pytest.mark.parametrize(
    ("text", "new", "message"),
    [
        ("rule r { add(x|, y) => add(y, x) }", "y", "`y` is taken"),
        ("rule r { add(x|, y) => add(y, x) }", "2x", "`2x` is no name"),
        ("rule r { add(x|, y) => add(y, x) }", "where", "`where` is no name"),
        ("rule r { add(x|, y) => add(y, x) }", "lhs", "`lhs` is no name"),
        ("rule r { ad|d(x, y) => x }", "plus", "nothing here can be renamed"),
        ("pipeline p { once svd_linea|r }", "svd", "belongs to the standard library"),
        (TWICE + "rule o|ne { relu(x) => neg(x) }", "twice", "`twice` is taken"),
    ],
)
def test_a_new_name_that_cannot_be_is_refused(editor, text, new, message):
    with pytest.raises(TdslError, match=message):
        editor.renamed(text, new)


def test_an_example_is_about_the_rule_of_its_own_file_first(editor):
    own = TWICE.replace("twice", "double_relu")
    assert editor.definition(own + "example double|_relu { relu(relu(x: [3])) }") == ["rules.tdsl:1:6"]
    [elsewhere] = editor.definition("example double|_relu { relu(relu(x: [3])) }")
    assert elsewhere.startswith("identity.tdsl:")
    assert editor.references(own.replace("double", "dou|ble") + "example double_relu { relu(x: [3]) }\n") == [
        "rules.tdsl:1:6",
        "rules.tdsl:6:9",
    ]
