"""The command line: one file a command. No torch is loaded until a command runs a model."""

from __future__ import annotations


def main() -> None:
    """Run `tdsl` with the arguments of the process, and leave with its exit status."""
    from tdsl.cli.app import app

    app(prog_name="tdsl")
