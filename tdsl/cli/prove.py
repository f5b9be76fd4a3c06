"""`tdsl prove`: which rules are proved, and a counterexample to those that are wrong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from tdsl.cli import terminal
from tdsl.cli.options import AsJson
from tdsl.errors import TdslError
from tdsl.lang import parse_file, tree
from tdsl.lang.imports import full_name, prefix_of, standard_files
from tdsl.prove import record
from tdsl.prove.check import refutation
from tdsl.prove.verdict import Status, Verdict

FAILED = 1
_COLOURS: dict[Status, str] = {"proved": "green", "tested": "yellow", "unchecked": "yellow", "refuted": "red"}


@dataclass(frozen=True, slots=True)
class _Proved:
    name: str
    rule: tree.Rule
    verdict: Verdict
    mistake: TdslError | None = None
    """Where the sides do not even have one shape, or a name is wrong."""


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
    as_json: AsJson = False,
) -> None:
    """Prove rules, test what cannot be proved, and refute what is wrong.

    A proved rule has equal sides on random instances over a prime field of 2⁶¹ − 1 elements; a tested one
    in float64 only. Exit status 1 when a rule is wrong.
    """
    began = time.perf_counter()
    made: dict[str, Verdict] = {}
    with terminal.stages() as progress:
        found = list(_verdicts(paths, anew, made, progress))
    record.remember(made)
    seconds = time.perf_counter() - began
    if record_to is not None:
        record.write(record_to, {record.key_of(p.rule): p.verdict for p in found})
    if as_json:
        terminal.put_json({"format": "tdsl-prove/1", "rules": [_plain(p) for p in found]})
    else:
        _print(found, every or paths is not None, seconds)
    if any(p.verdict.status == "refuted" for p in found):
        raise typer.Exit(FAILED)


def _verdicts(
    paths: Sequence[Path] | None, anew: bool, made: dict[str, Verdict], progress: terminal.Progress
) -> Iterator[_Proved]:
    files = [(prefix_of(path), path) for path in paths] if paths else list(standard_files())
    for prefix, path in files:
        for item in parse_file(path).items:
            if not isinstance(item, tree.Rule):
                continue
            name = full_name(prefix, item.name)
            verdict = None if anew else record.known(item)
            if verdict is not None:
                yield _Proved(name, item, verdict)
                continue
            progress(f"proving {name}")
            try:
                verdict = made[record.key_of(item)] = _prove(item)
                yield _Proved(name, item, verdict)
            except TdslError as mistake:
                yield _Proved(name, item, Verdict("refuted", mistake.message), mistake)


def _prove(rule: tree.Rule) -> Verdict:
    from tdsl.engine.parameters import vocabulary  # torch, where there is something to prove
    from tdsl.lang.resolve import resolve
    from tdsl.prove.check import fresh_verdict

    return fresh_verdict(resolve(rule, vocabulary()))


def _plain(proved: _Proved) -> dict[str, Any]:
    span = proved.rule.span
    where = {"file": span.source.name, "line": span.line}
    return {"name": proved.name, **where, **asdict(proved.verdict)}


def _print(found: Sequence[_Proved], every: bool, seconds: float) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for proved in found:
        verdict = proved.verdict
        if verdict.status == "proved" and not every:
            continue
        doubt = f", error ≤ {verdict.error_probability:.0e}" if verdict.status == "proved" else ""
        state = Text(verdict.status, _COLOURS[verdict.status])
        table.add_row(Text(proved.name, "cyan"), state, Text(verdict.reason + doubt))
    if table.row_count:
        terminal.show(table, wrap=False)
    for proved in found:
        if proved.verdict.status == "refuted":
            terminal.put_error(proved.mistake or refutation(proved.rule, proved.verdict))
    counts = Counter(p.verdict.status for p in found)
    parts = [f"{counts[status]} {status}" for status in _COLOURS if counts[status]]
    plural = "rule" if len(found) == 1 else "rules"
    terminal.put(f"{len(found)} {plural}: {', '.join(parts) or 'none'} ({seconds:.1f} s)\n")
