"""Texts in parts, words, the outline, the canonical form; and that nothing unfinished breaks any of it."""

from __future__ import annotations

import random

import pytest

from tdsl.lang import parse, tree
from tdsl.lang.library_files import standard_files
from tdsl.lsp.completion import complete
from tdsl.lsp.hover import hover
from tdsl.lsp.navigate import definition, references
from tdsl.lsp.outline import formatted, symbols
from tdsl.lsp.parts import split
from tdsl.lsp.words import Role, words_of

FILES = [pytest.param(path, id=prefix) for prefix, path in standard_files()]


@pytest.mark.parametrize("path", FILES)
def test_parts_are_the_file_and_each_parses_to_its_declaration(path):
    text = path.read_text(encoding="utf-8")
    parts = split(text)
    assert "\n".join(part.text for part in parts) == text
    assert tuple(item for part in parts for item in parse(part.text).items) == parse(text).items


def test_a_part_is_a_declaration_with_its_documentation():
    text = "// file\n\n/// One.\n\n// note\nrule a { f(x) => x }\nimport b\n"
    text += "rule c { f(x) => x } rule d { f(x) => x }\n"
    assert [(p.line, p.text.count("\n")) for p in split(text)] == [(0, 5), (6, 0), (7, 1)]


def test_words_that_begin_declarations_are_names_elsewhere():
    text = "rule r(\n    law: Rank) {\n  f(rule)\n=>\n  g(rule, law)\n}\n"
    text += "symmetry s {\n  group C\n  input x: [n] invariant\n}\n"
    assert [p.line for p in split(text)] == [0, 6]


def test_words_are_much_the_same_before_a_rule_is_finished():
    text = "rule r(f: pointwise) {\n    f(softmax(x, dim=d))\n  =>\n    softmax(f(x), dim=d)\n}"
    sure = {(w.text, w.line, w.column): w.role for w in words_of(text)}
    guessed = {(w.text, w.line, w.column): w.role for w in words_of(text[:-2] + "(")}
    different = {place[0] for place, role in sure.items() if guessed.get(place) is not role}
    assert different == {"pointwise"}
    assert sure["d", 1, 21] is Role.VARIABLE


def test_the_outline_has_what_is_finished_and_what_is_not(editor):
    text = "/// D.\nrule a {\n    f(x) => x\n}\n\nlaw b {\n    f(\n\npipeline c { once a }\n"
    found = symbols(editor.open(text))
    assert [(s.keyword, s.name.text, s.first_line, s.last_line) for s in found] == [
        ("rule", "a", 1, 3),
        ("law", "b", 5, 6),
        ("pipeline", "c", 8, 8),
    ]


def test_formatting_is_that_of_the_command_line_and_waits_for_a_right_text(editor):
    ugly = "rule r { relu(relu(x))=>relu(x) }"
    assert formatted(editor.open(ugly)) == "rule r {\n    relu(relu(x))\n  =>\n    relu(x)\n}\n"
    assert formatted(editor.open(ugly[:-1])) is None


def test_nothing_unfinished_breaks_anything(editor):
    """Files cut off, or with a piece missing, at random places; asked about the place of the cut."""
    chance = random.Random(0)
    texts = [path.read_text(encoding="utf-8") for _, path in standard_files()]
    for _ in range(60):
        text = chance.choice(texts)
        start = chance.randrange(len(text))
        stop = chance.choice([len(text), min(len(text), start + chance.randrange(1, 40))])
        document = editor.open(text[:start] + text[stop:])
        line, column = text[:start].count("\n"), start - text.rfind("\n", 0, start) - 1
        editor.checks.quick(document)
        hover(document, line, column, editor.checks)
        complete(document, line, column, editor.checks)
        definition(document, line, column, editor.checks.files)
        references(document, line, column, editor.checks.files)
        symbols(document)
        formatted(document)


def test_a_rule_stands_where_its_document_has_it(editor):
    document = editor.open("\n\n/// D.\nrule a { relu(x) => neg(x) }\n")
    [place] = document.places
    assert isinstance(place.item, tree.Rule)
    assert place.first_line == 3
    assert [(e.name, e.line) for e in document.entries] == [("rules.a", 4)]
