"""Numbers for people: a unit and three significant digits."""

from __future__ import annotations

import math

NONE = "–"
"""Stands for a value that is not known or does not apply."""


def significant(value: float) -> str:
    """Three significant digits: `12.3`, `0.0457`, `1.20e-07`; integers below 1000 in full."""
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    value = float(f"{value:.2e}")  # rounded first: 999.6 has four digits before the point
    size = abs(value)
    if value == int(value) and size < 1000:
        return str(int(value))
    if size < 1e-3 or size >= 1e6:
        return f"{value:.2e}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(size)))}f}"


def of_bytes(value: float) -> str:
    """A size in decimal units: `90.9 MB`."""
    return _scaled(value, ("B", "kB", "MB", "GB", "TB"))


def count(value: float) -> str:
    """A number of things: `812`, `22.7 M`."""
    return _scaled(value, ("", "k", "M", "G", "T"))


def saved(value: float | None) -> str:
    """A saving; nothing saved is a dash, something added is negative."""
    return NONE if not value else count(value)


def milliseconds(value: float) -> str:
    """A time given in milliseconds: `12.3 ms`, `45.1 µs`, `1.20 s`."""
    if abs(value) >= 999.5:
        return f"{_fixed(value / 1000)} s"
    return f"{_fixed(value)} ms" if abs(value) >= 0.9995 else f"{_fixed(value * 1000)} µs"


def percent(value: float) -> str:
    """A measured share: 0.0131 is `1.31 %`; below a thousandth of a percent as a plain number."""
    if not math.isfinite(value) or (value and abs(value) < 1e-5):
        return significant(value)
    return f"{_fixed(100 * value)} %" if value else "0"


def ratio(result: float, original: float) -> str:
    """How many times `original` the result is: `0.485×`."""
    return f"{_fixed(result / original)}×" if original else NONE


def cosine(value: float) -> str:
    """A cosine in five decimals, rounded down: 1.00000 only when it is that close."""
    return "undefined" if math.isnan(value) else f"{math.floor(value * 1e5 + 1e-9) / 1e5:.5f}"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    power = 0
    while power + 1 < len(units) and abs(float(f"{value / 1000**power:.2e}")) >= 1000:
        power += 1
    number = f"{value:g}" if power == 0 else _fixed(value / 1000**power)
    return f"{number} {units[power]}".rstrip()


def _fixed(value: float) -> str:
    """Three significant digits with trailing zeros, so that columns of a table look alike."""
    value = float(f"{value:.2e}")
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{min(6, max(0, digits))}f}"
