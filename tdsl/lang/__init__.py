"""The language: text → syntax tree → checked rules, and back to canonical text. Imports no torch.

The parser is loaded when it is first used: names and the places of files need none.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tdsl.lang.format import format_file
    from tdsl.lang.syntax import parse, parse_expression, parse_file

_HOMES = {
    "format_file": "tdsl.lang.format",
    "parse": "tdsl.lang.syntax",
    "parse_expression": "tdsl.lang.syntax",
    "parse_file": "tdsl.lang.syntax",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tdsl.lang' has no attribute {name!r}")


__all__ = ["format_file", "parse", "parse_expression", "parse_file"]
