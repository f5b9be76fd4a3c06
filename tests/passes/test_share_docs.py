"""docs/shared-factors.md: its pipelines load, and its table names every pass with its parameters."""

from __future__ import annotations

import re
from pathlib import Path

from rewriting import library

from tdsl.engine.library import standard_library
from tdsl.engine.strategy import Runner

TEXT = (Path(__file__).parents[2] / "docs" / "shared-factors.md").read_text(encoding="utf-8")


def test_its_pipelines_load() -> None:
    (block,) = re.findall(r"```tdsl\n(.*?)```", TEXT, re.DOTALL)
    loaded = standard_library().extended(library(block))
    for name in ("small", "narrow"):
        assert Runner(loaded, loaded.pipeline(f"rules.{name}")).approximate


def test_its_table_names_every_pass() -> None:
    rows = dict(re.findall(r"^\| `((?:share|narrow)\.\w+)` \| (.*?) \|", TEXT, re.MULTILINE))
    passes = standard_library().passes
    found = {
        name: ", ".join(f"`{p}`" for p in cls.parameters.split(", "))
        for name, cls in passes.items()
        if cls.parameters and name.startswith(("share.", "narrow."))
    }
    assert rows == found
