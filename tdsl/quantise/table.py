"""The one list of what `quantize` can do.

Each scheme is declared in the file that implements it, as an entry of that module's `DECLARED`. To add one,
write such a file in this folder; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import tdsl.quantise
from tdsl.declared import declared_in
from tdsl.errors import Span, TdslError
from tdsl.quantise.declare import Scheme
from tdsl.spelling import did_you_mean

SCHEMES: Mapping[str, Scheme] = MappingProxyType(declared_in(tdsl.quantise))
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
