"""Rooms import what `docs/architecture.md` says that they know of, what that knows of, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `tdsl/(\w+)` \|.*\| (.*) \|$", re.MULTILINE)
BESIDE = {path.stem for path in (ROOT / "tdsl").glob("*.py")}


def known(column: str) -> set[str]:
    """The rooms of a cell; what a room needs for files alone, or once loaded, stands behind a semicolon."""
    return set(re.findall(r"`(\w+)`", column))


TABLE = {room: column for room, column in ROW.findall(TEXT) if "all of them" not in column}


def reached(start: str, *, always: bool) -> set[str]:
    """The rooms that a room knows of, through others too; `always`: without what it needs now and then."""
    found: set[str] = set()
    stack = [start]
    while stack:
        column = TABLE[stack.pop()]
        below = known(column.partition(";")[0] if always else column) - found
        found |= below
        stack.extend(below)
    return found


def imported(room: str) -> dict[str, str]:
    """The rooms that files of a room import, each with one of these files."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "tdsl" / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for parts in (name.split(".") for name in names):
                if parts[0] == "tdsl" and len(parts) > 1 and parts[1] not in {room, *BESIDE}:
                    found.setdefault(parts[1], str(path.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("room", TABLE)
def test_a_room_imports_what_it_is_said_to_know(room: str) -> None:
    allowed = reached(room, always=False) | {"passes", "grammar"}
    assert {other: path for other, path in imported(room).items() if other not in allowed} == {}


@pytest.mark.parametrize("room", TABLE)
def test_no_room_reaches_back_up(room: str) -> None:
    assert room not in reached(room, always=True)


def test_every_room_is_in_the_table() -> None:
    rooms = {path.parent.name for path in (ROOT / "tdsl").glob("*/__init__.py")}
    assert {"prove", "lang", "symmetry"} < set(TABLE) and rooms - set(TABLE) == {"cli"}
