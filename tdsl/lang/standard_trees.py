"""The standard library as syntax trees without its examples: parsed once, then read from what was kept."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from tdsl.errors import Source
from tdsl.files import cache_folder, keep, kept
from tdsl.lang import tree
from tdsl.lang.grammar import grammar_digest
from tdsl.lang.library_files import standard_files
from tdsl.lang.stored_trees import plain_tree, tree_of
from tdsl.lang.syntax import parse, read

STATES = 8
"""So many states of the language have their trees kept, the newest."""

_EXAMPLE = re.compile(r"^(?:///[^\n]*\n)*example\b.*?^}\n", re.MULTILINE | re.DOTALL)
"""An example in canonical form, in which all of the standard library is."""


def standard_trees() -> list[tuple[str, tree.File]]:
    """The files of the standard library under their dotted prefixes, in name order.

    Applying rules needs no reading of their tests, so examples are left out. Raises `TdslError` for a file
    that does not parse.
    """
    known = _known()
    now: dict[str, Any] = {}
    found: list[tuple[str, tree.File]] = []
    for prefix, path in standard_files():
        source = Source(str(path), _EXAMPLE.sub(_blank, read(path).replace("\r\n", "\n")))
        digest = hashlib.sha256(source.text.encode()).hexdigest()
        file = tree_of(known[digest], source) if digest in known else parse(source.text, source.name)
        now[digest] = known[digest] if digest in known else plain_tree(file)
        found.append((prefix, file))
    if now.keys() - known.keys():
        _keep(now)
    return found


def _blank(example: re.Match[str]) -> str:
    """As many empty lines, so that what comes after an example stays at its line."""
    return "\n" * example.group().count("\n")


@functools.cache
def _path() -> Path:
    """Where the trees are: a file for every state of the language."""
    digest = hashlib.sha256(grammar_digest().encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return cache_folder() / "trees" / f"{digest.hexdigest()[:16]}.json"


def _known() -> dict[str, Any]:
    """Trees as plain data by the digests of their texts."""
    text = kept(_path())
    known: dict[str, Any] = {} if text is None else json.loads(text)
    return known


def _keep(trees: dict[str, Any]) -> None:
    """Keep these trees, and let go of those of states of the language long past."""
    keep(_path(), json.dumps(trees, separators=(",", ":")))
    with contextlib.suppress(OSError):
        newest = sorted(_path().parent.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in newest[STATES:]:
            old.unlink(missing_ok=True)
