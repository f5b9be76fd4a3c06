"""Every command in `docs/cli.md` prints what is shown below it, up to digits and spaces; `…` is anything."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tdsl.lang import library_files

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE, NEW_RULES = DOCS / "cli.md", DOCS / "new-rules.md"
COMMAND = re.compile(r"^\$ tdsl (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def blocks(language, page=REFERENCE):
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def examples(page=REFERENCE):
    return [found for block in blocks("console", page) for found in COMMAND.findall(block)]


def normal(text):
    """Without what depends on the machine: digits, the worst sample, runs of spaces, the library's folder."""
    text = re.sub(r"\S*/(?=passes/)", "", text)
    text = re.sub(r"sample '[^']*'", "sample '#'", text)
    text = re.sub(r"(?<![\w.])-?\d[\d.,]*(?:e[+-]?\d+)?", "#", text)
    return re.sub(r"─+", "─", re.sub(r"[^\S\n]+", " ", text))


def matches(printed, shown):
    pattern = r"[\s\S]*".join(map(re.escape, normal(shown).split(" …\n")))
    return re.fullmatch(pattern, normal(printed)) is not None


def of_one_file(monkeypatch):
    """`tdsl test` without files takes the standard library, of which a file stands for all here.

    Each example of the others is run in `tests/passes/test_examples.py`.
    """
    files = [
        (prefix, path) for prefix, path in library_files.standard_files() if prefix == "cleanup.arithmetic"
    ]
    monkeypatch.setattr(library_files, "standard_files", lambda: iter(files))


def test_every_command_prints_what_the_reference_shows(tdsl, folder, monkeypatch):
    model, mirror = blocks("python")
    lossy, upright, unsure, merge = blocks("tdsl")
    [layers] = blocks("python", NEW_RULES)
    (folder / "tiny.py").write_text(model, encoding="utf-8")
    (folder / "mirror.py").write_text(mirror, encoding="utf-8")
    (folder / "upright.tdsl").write_text(upright, encoding="utf-8")
    (folder / "layers.py").write_text(layers, encoding="utf-8")
    (folder / "lossy.tdsl").write_text(lossy, encoding="utf-8")
    (folder / "unsure.tdsl").write_text(unsure, encoding="utf-8")
    (folder / "merge.tdsl").write_text(merge, encoding="utf-8")
    (folder / "ugly.tdsl").write_text("rule twice { relu(relu(x)) => relu(x) }\n", encoding="utf-8")
    seen = {}
    for command, _ in examples():
        with monkeypatch.context() as patch:
            if command == "test":
                of_one_file(patch)
            seen[command] = tdsl(*shlex.split(command))
    for command, shown in examples():
        printed = seen[command].out + seen[command].err
        assert matches(printed, shown), f"tdsl {command}\n{printed}"
    commands = {"compile", "sweep", "profile", "check", "explain", "list", "show", "prove", "test", "new"}
    models = {"align", "audit", "certify", "merge"}
    assert {command.split()[0] for command in seen} == commands | models | {"fmt"}
    assert {outcome.status for outcome in seen.values()} == {0, 1}


def test_every_command_about_new_rules_prints_what_is_shown(tdsl, folder):
    [layers] = blocks("python", NEW_RULES)
    (folder / "layers.py").write_text(layers, encoding="utf-8")
    for command, shown in examples(NEW_RULES):
        outcome = tdsl(*shlex.split(command))
        assert matches(outcome.out + outcome.err, shown), f"tdsl {command}\n{outcome.out}{outcome.err}"


def test_the_first_steps_of_the_readme_print_what_is_shown(tdsl, folder):
    page = DOCS.parent / "README.md"
    (folder / "net.py").write_text(blocks("python", page)[0], encoding="utf-8")
    (folder / "own.tdsl").write_text(blocks("tdsl", page)[0], encoding="utf-8")
    steps = examples(page)
    assert [command.split()[0] for command, _ in steps] == ["prove", "explain", "compile"]
    for command, shown in steps:
        outcome = tdsl(*shlex.split(command))
        assert outcome.status == 0
        assert matches(outcome.out + outcome.err, shown), f"tdsl {command}\n{outcome.out}{outcome.err}"


def test_only_digits_and_spaces_may_differ():
    assert matches("error  1.02e-07  kept\n", "error 9  kept\n")
    assert matches("a\n b\n c\n d\n", "a\n …\n d\n")
    assert not matches("error 9 kept\n", "error 9 BROKEN\n")
    assert not matches("a\n b\n c\n", "a\n …\n d\n")
