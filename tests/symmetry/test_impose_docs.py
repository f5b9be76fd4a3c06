"""Every block of docs/impose.md runs, and prints what it says; its pipeline loads."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from tdsl.engine.library import Library
from tdsl.lang import format_file, parse

TEXT = (Path(__file__).parents[2] / "docs" / "impose.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|tdsl|)\n(.*?)```", TEXT, re.DOTALL)
DECLARED, PIPELINE = (text for kind, text in BLOCKS if kind == "tdsl")


def without_numbers(text: str) -> list[str]:
    """Rounding differs from machine to machine: what is left is the shape of a report."""
    return [re.sub(r"\d+(\.\d+)?(e[+-]\d+|%)", "#", line) for line in text.strip().splitlines()]


def test_the_blocks_run_in_their_order_and_print_what_is_shown(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits.tdsl").write_text(DECLARED, encoding="utf-8")
    names: dict[str, object] = {}
    printed, shown = [], [text for kind, text in BLOCKS if not kind]
    for kind, text in BLOCKS:
        if kind == "python":
            out = StringIO()
            with redirect_stdout(out):
                exec(compile(text, "docs/impose.md", "exec"), names)
            printed += [out.getvalue()] if out.getvalue() else []
    assert len(shown) == 2 and [without_numbers(p) for p in printed] == [without_numbers(s) for s in shown]


def test_the_pipeline_loads() -> None:
    for text in (DECLARED, PIPELINE):
        assert format_file(parse(text, "impose.md")) == text
    library = Library()
    library.add_file(parse(PIPELINE, "impose.md"), "impose")
    assert list(library.pipelines) == ["impose.mirrored"]
