"""What is installed is everything that is there."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_package_is_in_the_list_that_is_installed() -> None:
    """`passes` and `grammar` lie beside `tdsl` and are installed inside of it, which no search finds."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = [path.parent for top in ("tdsl", "passes") for path in (ROOT / top).rglob("__init__.py")]
    names = [".".join(folder.relative_to(ROOT).parts) for folder in folders]
    there = [name if name.startswith("tdsl") else f"tdsl.{name}" for name in names]
    assert sorted(listed) == sorted([*there, "tdsl.grammar"])
