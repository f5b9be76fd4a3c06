"""The one list of what a `where` block can call on weights: decompositions, numbers, predicates, rank rules.

Each is declared in the file that implements it, as an entry of that module's `DECLARED`. To add one, write
such a file in this folder; nothing else changes.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

import tdsl.factor
from tdsl.factor.declare import CompileTimeFunction, Decomposition, TermFunction


def _declared() -> dict[str, Decomposition | CompileTimeFunction | TermFunction]:
    """What every module of this room declares, by name, in the order of the modules' names."""
    found: dict[str, Decomposition | CompileTimeFunction | TermFunction] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(tdsl.factor.__path__)):
        if module == "table":
            continue
        for one in getattr(importlib.import_module(f"tdsl.factor.{module}"), "DECLARED", ()):
            if one.name in found:
                raise ValueError(f"{one.name} is declared twice in tdsl.factor")
            found[one.name] = one
    return found


_ALL = _declared()

DECOMPOSITIONS: Mapping[str, Decomposition] = MappingProxyType(
    {name: one for name, one in _ALL.items() if isinstance(one, Decomposition)}
)
"""Every decomposition, by its name in the language."""

FUNCTIONS: Mapping[str, CompileTimeFunction] = MappingProxyType(
    {name: one for name, one in _ALL.items() if isinstance(one, CompileTimeFunction)}
)
"""Every other function on weights, and the rank rules, by name in the language."""

TERMS: Mapping[str, TermFunction] = MappingProxyType(
    {name: one for name, one in _ALL.items() if isinstance(one, TermFunction)}
)
"""Every term that a function builds, by name in the language."""
