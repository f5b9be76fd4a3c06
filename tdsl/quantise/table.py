"""The one list of what `quantize` can do.

Each scheme is declared in the file that implements it, as an entry of that module's `DECLARED`. To add one,
write such a file in this folder; nothing else changes.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

import tdsl.quantise
from tdsl.errors import Span, TdslError
from tdsl.lang.spelling import did_you_mean
from tdsl.quantise.declare import Scheme


def _declared() -> dict[str, Scheme]:
    """What every module of this room declares, by name, in the order of the modules' names."""
    found: dict[str, Scheme] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(tdsl.quantise.__path__)):
        if module == "table":
            continue
        for one in getattr(importlib.import_module(f"tdsl.quantise.{module}"), "DECLARED", ()):
            if one.name in found:
                raise ValueError(f"{one.name} is declared twice in tdsl.quantise")
            found[one.name] = one
    return found


SCHEMES: Mapping[str, Scheme] = MappingProxyType(_declared())
"""Every scheme, by its name in the language."""


def scheme_named(name: str, span: Span | None) -> Scheme:
    """The scheme of that name. Raises `TdslError` with the nearest one where there is none."""
    if name not in SCHEMES:
        raise TdslError(
            f"there is no way `{name}` to store weights",
            span,
            expected=f"one of {', '.join(SCHEMES)}",
            hint=did_you_mean(name, SCHEMES),
        )
    return SCHEMES[name]
