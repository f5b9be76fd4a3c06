"""The grammar that editors colour by is that of the language, and the extension for VS Code fits it."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

import pytest

from tdsl.lsp.textmate import LarkGrammar, path, rendered, textmate

ROOT = Path(__file__).parents[2]
EXTENSION = ROOT / "editors" / "vscode"
LARK = resources.files("tdsl.grammar").joinpath("tdsl.lark").read_text(encoding="utf-8")


def test_the_file_is_up_to_date():
    assert path().read_text(encoding="utf-8") == rendered(), "run `make grammar`"


def test_a_new_keyword_or_operator_changes_it(knowledge):
    vocabulary = knowledge.vocabulary
    before = json.dumps(textmate(LARK, vocabulary))
    assert json.dumps(textmate(LARK, vocabulary)) == before
    longer = LARK.replace("once: _ONCE rules", "once: (_ONCE | _TWICE) rules") + "\n_TWICE.2: /twice\\b/\n"
    assert "twice" in json.dumps(textmate(longer, vocabulary))
    fewer = type(vocabulary)({}, vocabulary.functions, vocabulary.classes)
    assert "max_pool2d" in before
    assert "max_pool2d" not in json.dumps(textmate(LARK, fewer))


def test_keywords_belong_to_the_declarations_that_have_them():
    grammar = LarkGrammar(LARK)
    assert "repeat" in grammar.keywords("pipeline") - grammar.keywords("rule")
    assert "tolerance" in grammar.keywords("symmetry") - grammar.keywords("pipeline")
    assert {"and", "where", "const", "none"} <= grammar.reserved
    assert "repeat" not in grammar.reserved


def patterns(node):
    """Every regular expression in a TextMate grammar."""
    if isinstance(node, dict):
        yield from (node[key] for key in ("match", "begin", "end") if key in node)
        for value in node.values():
            yield from patterns(value)
    elif isinstance(node, list):
        for value in node:
            yield from patterns(value)


def includes(node):
    if isinstance(node, dict):
        yield from [node["include"]] if "include" in node else []
        for value in node.values():
            yield from includes(value)
    elif isinstance(node, list):
        for value in node:
            yield from includes(value)


def test_its_expressions_are_sound_and_its_references_lead_somewhere(knowledge):
    grammar = textmate(LARK, knowledge.vocabulary)
    for pattern in patterns(grammar):
        assert not re.compile(pattern).fullmatch(" "), pattern
    assert {name.removeprefix("#") for name in includes(grammar)} == set(grammar["repository"])


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("linear(x)", "support.function.operator"),
        ("svd(W, r)", "support.function.compile-time"),
        ("50%", "constant.numeric.percent"),
        ("1e-6", "constant.numeric"),
        ("where", "keyword.control"),
        ("const", "storage.modifier"),
        ("=> x", "keyword.operator.arrow"),
        ("== x", "keyword.operator"),
        ("dim=1", "variable.parameter"),
        ("p == 1", "variable.other"),
        ("lhs", "variable.language.side"),
        ("f32", "support.type.dtype"),
        ("f32s", "variable.other"),
    ],
)
def test_words_have_the_colours_of_what_they_are(knowledge, text, scope):
    expression = textmate(LARK, knowledge.vocabulary)["repository"]["expression"]["patterns"]
    first = next(p["name"] for p in expression if "match" in p and re.match(p["match"], text))
    assert first == f"{scope}.tdsl"


def test_the_extension_names_what_there_is():
    manifest = json.loads((EXTENSION / "package.json").read_text(encoding="utf-8"))
    [language] = manifest["contributes"]["languages"]
    [grammar] = manifest["contributes"]["grammars"]
    made = json.loads(path().read_text(encoding="utf-8"))
    assert grammar["scopeName"] == made["scopeName"]
    assert grammar["path"] == f"./syntaxes/{path().name}"
    assert language["extensions"] == [f".{kind}" for kind in made["fileTypes"]]
    assert (EXTENSION / manifest["main"]).is_file()
    configuration = json.loads((EXTENSION / language["configuration"]).read_text(encoding="utf-8"))
    enter = configuration["onEnterRules"][0]["beforeText"]
    assert re.match(enter, "    /// documented")
    assert not re.match(enter, "// a comment")
