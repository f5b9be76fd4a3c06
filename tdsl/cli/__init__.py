"""The command line: one file a command. No torch is loaded until a command runs a model."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run `tdsl` with the arguments of the process, and leave with its exit status."""
    from tdsl.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no `×` shows `?`
    app(prog_name="tdsl")
