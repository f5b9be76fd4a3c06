"""`tdsl prove`: which rules are proved, and a counterexample to those that are wrong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tdsl.cli import terminal
from tdsl.cli.options import AsJson
from tdsl.cli.together import prove_together
from tdsl.errors import TdslError

if TYPE_CHECKING:
    from tdsl.prove.files import Proved
    from tdsl.prove.verdict import Status

FAILED = 1
_COLOURS: dict[Status, str] = {
    "proved": "green",
    "tested": "yellow",
    "unchecked": "yellow",
    "refuted": "red",
    "invalid": "red",
}


def prove_rules(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILES...",
            help="Files of rules; without any, the standard library.",
            show_default=False,
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Prove again what is on record from an earlier time.")
    ] = False,
    record_to: Annotated[
        Path | None,
        typer.Option("--record", metavar="PATH", help="Write the verdicts to a file, as JSON."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="List the rules that are proved, too.")] = False,
    together: Annotated[
        bool,
        typer.Option(
            "--together", help="Look at the rules as one set: loops, and pairs whose order matters."
        ),
    ] = False,
    beside: Annotated[
        str,
        typer.Option(
            "--with",
            metavar="GLOBS",
            help="With --together: rules of the standard library in the set, such as `cleanup.*, fold.*`.",
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Prove rules; test what cannot be proved; refute what is wrong.

    A proved rule has equal sides on random instances over a prime field of 2⁶¹ − 1 elements; a tested one
    in float64 only. Exit status 1 when a rule is wrong, with --together when rules loop.
    """
    if together:
        if anew or every or record_to is not None:
            raise TdslError("--together takes none of --anew, --all and --record: it proves no single rule")
        if not prove_together(paths or [], beside, as_json):
            raise typer.Exit(FAILED)
        return
    if beside:
        raise TdslError("--with names rules for --together", hint="add --together")
    from tdsl.prove.files import prove_files

    began = time.perf_counter()
    with terminal.stages() as progress:
        found = prove_files(paths, anew=anew, record_to=record_to, progress=progress)
    seconds = time.perf_counter() - began
    if as_json:
        terminal.put_json({"format": "tdsl-prove/1", "rules": [_plain(p) for p in found]})
    else:
        _print(found, every or paths is not None, seconds)
    if any(p.verdict.status in ("refuted", "invalid") for p in found):
        raise typer.Exit(FAILED)


def _plain(proved: Proved) -> dict[str, Any]:
    where = {"file": proved.file, "line": proved.line}
    return {"name": proved.name, **where, **asdict(proved.verdict)}


def _print(found: Sequence[Proved], every: bool, seconds: float) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for proved in found:
        verdict = proved.verdict
        if verdict.status == "proved" and not every:
            continue
        doubt = f", error ≤ {verdict.error_probability:.0e}" if verdict.status == "proved" else ""
        types = f"; types {verdict.types}" if verdict.types else ""
        state = Text(verdict.status, _COLOURS[verdict.status])
        table.add_row(Text(proved.name, "cyan"), state, Text(verdict.reason + doubt + types))
    if table.row_count:
        terminal.show(table, wrap=False)
    for proved in found:
        if proved.mistake is not None:
            terminal.put_error(proved.mistake)
    counts = Counter(p.verdict.status for p in found)
    parts = [f"{counts[status]} {status}" for status in _COLOURS if counts[status]]
    plural = "rule" if len(found) == 1 else "rules"
    if not found:
        terminal.put("no rules to prove; pipelines are checked by `tdsl compile --pipeline`\n")
        return
    terminal.put(f"{len(found)} {plural}: {', '.join(parts)} ({seconds:.1f} s)\n")
