"""`docs/methods.md` names every factorization and decomposition that there is, and none that there is not."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from tdsl.engine.library import standard_library
from tdsl.factor.table import DECOMPOSITIONS
from tdsl.quantise.table import SCHEMES

TEXT = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in re.findall(r"^\| [FES]\d\d .*$", TEXT, re.MULTILINE)
]
STATES = ("done", "partly: ", "not yet: ", "left out: ")


def named(row: list[str]) -> list[str]:
    return re.findall(r"`([^`]+)`", row[3])


def test_every_method_has_a_row_with_a_state() -> None:
    known = [("F", 53), ("E", 27), ("S", 22)]
    assert [row[0] for row in ROWS] == [
        f"{letter}{n:02}" for letter, last in known for n in range(1, last + 1)
    ]
    assert [row for row in ROWS if len(row) != 5 or not row[4].startswith(STATES)] == []


def test_the_table_names_what_there_is() -> None:
    folders = ("factorize.", "decompose.")
    known = [name for name in standard_library().rules if name.startswith(folders)]
    rules = {name.partition(".")[2] for name in known}
    mentioned = {name for row in ROWS for name in named(row)}
    assert {name for name in mentioned if "." in name} == rules
    assert {name for name in mentioned if "." not in name} == set(DECOMPOSITIONS)


def test_what_is_not_here_has_no_names() -> None:
    factorizations = [row for row in ROWS if row[0].startswith("F")]
    for row in factorizations:
        passes = re.findall(
            r"`((?:layout|narrow|share)\.\w+|tdsl\.[\w.]+)`", row[4]
        )  # where no rule can say it
        schemes = re.findall(r"`quantize (\w+)`", row[4])
        assert set(schemes) <= set(SCHEMES), row[0]
        assert bool(named(row) or passes or schemes) == row[4].startswith(("done", "partly")), row[0]
        for name in passes:
            room, _, last = name.rpartition(".")
            ours = room.startswith("tdsl.")
            found = vars(importlib.import_module(room)) if ours else standard_library().passes
            assert (last if ours else name) in found, name
