"""A report as JSON: valid everywhere, the same bytes for the same report, written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tdsl.files import written
from tdsl.report.model import FORMAT, Report


def to_json(report: Report) -> str:
    """`report` as JSON text."""
    return json.dumps(record(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def record(report: Report) -> dict[str, Any]:
    """`report` as plain data; keys stand in the order of the dataclasses, mappings sorted.

    JSON knows no infinity: numbers that are not finite become the texts "inf", "-inf" and "nan".
    """
    return {"format": FORMAT, **plain(report)}


def plain(value: Any) -> Any:
    """`value` in dictionaries, lists, texts and finite numbers only."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(value[key]) for key in sorted(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def write_json(report: Report, path: Path) -> None:
    """Write `report` to `path`, replacing a file that is there; on failure that file is as it was.

    A missing folder is made. Raises `TdslError` where it is full or not writable.
    """
    text = to_json(report)
    with written(path) as file:
        file.write_text(text, encoding="utf-8", newline="\n")
