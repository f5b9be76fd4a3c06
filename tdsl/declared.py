"""What the modules of a room declare: each names it in a tuple `DECLARED` beside the implementation."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def declared_in(room: ModuleType) -> dict[str, Any]:
    """What every module of a room but its `table` declares, by name, in the order of the modules' names.

    Raises `ValueError` for a name that is declared twice.
    """
    found: dict[str, Any] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(room.__path__)):
        if module == "table":
            continue
        for one in getattr(importlib.import_module(f"{room.__name__}.{module}"), "DECLARED", ()):
            if one.name in found:
                raise ValueError(f"{one.name} is declared twice in {room.__name__}")
            found[one.name] = one
    return found
