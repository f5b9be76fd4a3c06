"""The examples of docs/weight-space.md run."""

from __future__ import annotations

import re
from pathlib import Path

from tdsl.engine.library import Library, standard_library
from tdsl.lang import format_file, parse

PAGE = (Path(__file__).parents[2] / "docs" / "weight-space.md").read_text(encoding="utf-8")


def test_the_python_runs(capsys) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile("\n".join(blocks), "weight-space.md", "exec"), {"__name__": "page"})
    shown, refused = capsys.readouterr().out.splitlines()
    assert shown.startswith("8 permuted together: conv.weight[0], ")
    assert shown.endswith("head.weight[1] = * × 16")
    assert refused.endswith("batch_norm does not pass a factor on")


def test_the_pipeline_loads() -> None:
    (text,) = re.findall(r"```tdsl\n(.*?)```", PAGE, re.DOTALL)
    file = parse(text, "weight-space.md")
    assert format_file(file) == text
    library = standard_library().extended(Library())
    library.add_file(file, "page")
    assert "page.smaller" in library.pipelines
