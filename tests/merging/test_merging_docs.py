"""The example of docs/merging.md runs."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "merging.md").read_text(encoding="utf-8")


def test_the_python_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    page: dict[str, object] = {"__name__": "page"}
    exec(compile(block, "merging.md", "exec"), page)
    assert len(page["merged"].tasks) == 2  # type: ignore[attr-defined]
