"""Rooms import what `docs/architecture.md` says that they know of, and no modules import each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Container
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import torch

from tdsl.ops import OPERATORS
from tdsl.ops.shapes import result_shape
from tdsl.ops.spec import operator
from tdsl.ops.targets import overload

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


def modules() -> dict[str, str]:
    """The text of every module of the package, by its name."""
    found = {}
    for path in (ROOT / "tdsl").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return found


MODULES = modules()


def names_imported(text: str, known: Container[str]) -> set[str]:
    """The modules that a module imports at its top, in functions or for type checkers alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in whole}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def imported(room: str) -> dict[str, str]:
    """The rooms that modules of a room import, each with one of these modules."""
    found: dict[str, str] = {}
    for module, text in sorted(MODULES.items()):
        if module.startswith(f"tdsl.{room}.") or module == f"tdsl.{room}":
            for parts in (name.split(".") for name in names_imported(text, MODULES)):
                if parts[0] == "tdsl" and len(parts) > 1 and parts[1] not in {room, *BESIDE}:
                    found.setdefault(parts[1], module)
    return found


def circle(texts: dict[str, str]) -> list[str]:
    """Modules that import each other in turn, the first one once more at the end; none: an empty list."""
    graph = {name: names_imported(text, texts) & texts.keys() for name, text in texts.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


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


def test_no_modules_import_each_other() -> None:
    assert circle(MODULES) == []


@pytest.mark.parametrize(
    "back",
    [
        "import a",
        "from a import thing",
        "def later():\n    from a import thing",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import thing",
    ],
)
def test_a_circle_is_found_however_it_is_closed(back: str) -> None:
    texts = {"a": "from b import other", "b": "import c", "c": back}
    assert len(circle(texts)) == 4
    assert circle({**texts, "b": "import d"}) == []


def test_the_operator_that_is_shown_could_be_declared_so() -> None:
    """It is read, torch has it, its shape follows; the table does not have it yet."""
    [block] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    shown = eval(block, {"operator": operator})
    assert shown.name not in OPERATORS
    x = torch.tensor([0.0, 0.5])
    assert torch.allclose(overload(shown)(-x), overload(shown)(x)) and shown.even
    assert result_shape(shown, {"x": (2, 3)}) == (2, 3)
