"""The block of docs/mixing.md runs, and prints what it says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "mixing.md"


def test_the_example_prints_what_it_says() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    said = re.findall(r"^# (\[.*\])$", block, re.MULTILINE)
    printed = io.StringIO()
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(printed):
        exec(compile(block, "docs/mixing.md", "exec"), names)
    assert printed.getvalue().splitlines() == said
    assert len(said) == 1


def test_every_file_of_rules_is_in_the_table() -> None:
    text = DOCUMENT.read_text()
    for name in ("mixing", "layers", "concat", "sums", "scatter", "gather"):
        assert f"`{name}`" in text
        assert (Path(__file__).parents[2] / "passes" / "commute" / f"{name}.tdsl").exists()
