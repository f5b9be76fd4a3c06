"""Which element types hold every value of which others."""

from __future__ import annotations

from collections.abc import Mapping

_INTEGERS: Mapping[str, tuple[int, int]] = {
    "bool": (0, 1),
    "u8": (0, 8),
    "i8": (7, 7),
    "i16": (15, 15),
    "i32": (31, 31),
    "i64": (63, 63),
}
"""Binary digits below and above zero."""
_FLOATS: Mapping[str, tuple[int, int]] = {
    "f16": (11, 15),
    "bf16": (8, 127),
    "f32": (24, 127),
    "f64": (53, 1023),
}
"""Binary digits of the significand, and the greatest exponent."""


def holds(wide: str, narrow: str) -> bool:
    """Whether every value of `narrow` is a value of `wide`, both by their names in the language."""
    if narrow in _FLOATS:
        return wide in _FLOATS and all(w >= n for w, n in zip(_FLOATS[wide], _FLOATS[narrow], strict=True))
    digits = _INTEGERS[narrow]
    if wide in _FLOATS:
        return max(digits) <= _FLOATS[wide][0]
    return all(w >= n for w, n in zip(_INTEGERS[wide], digits, strict=True))
