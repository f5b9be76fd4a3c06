"""Reports: the data, as JSON for programs and as tables for people."""

from tdsl.report.json_file import to_json, write_json
from tdsl.report.model import (
    Correctness,
    GroupErrors,
    Note,
    Promise,
    Report,
    RewriteRecord,
    RoundingRecord,
    Size,
    correctness_of,
    environment,
    notes_of,
)
from tdsl.report.table import render, render_verdict, to_text

__all__ = [
    "Correctness",
    "GroupErrors",
    "Note",
    "Promise",
    "Report",
    "RewriteRecord",
    "RoundingRecord",
    "Size",
    "correctness_of",
    "environment",
    "notes_of",
    "render",
    "render_verdict",
    "to_json",
    "to_text",
    "write_json",
]
