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
from tdsl.cli.together import prove_together
from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.groups import with_groups
from tdsl.lang.imports import full_name, load_files, prefix_of, standard_files
from tdsl.lang.syntax import read
from tdsl.prove import record
from tdsl.prove.check import refutation
from tdsl.prove.verdict import Status, Verdict

FAILED = 1
_COLOURS: dict[Status, str] = {"proved": "green", "tested": "yellow", "unchecked": "yellow", "refuted": "red"}


@dataclass(frozen=True, slots=True)
class _Proved:
    name: str
    file: str
    line: int
    key: str
    verdict: Verdict
    mistake: TdslError | None = None
    """What is wrong, at its place, where the rule is refuted."""


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
    """Prove rules, test what cannot be proved, and refute what is wrong.

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
    began = time.perf_counter()
    made = record.Record()
    with terminal.stages() as progress:
        named = [(prefix_of(path), path) for path in paths] if paths else list(standard_files())
        found = [proved for prefix, path in named for proved in _of_file(prefix, path, anew, made, progress)]
    record.remember(made.verdicts, made.outlines)
    seconds = time.perf_counter() - began
    if record_to is not None:
        outlines = record.outlines_of(read(path) for _, path in named) | made.outlines
        record.write(record_to, record.Record({p.key: p.verdict for p in found}, outlines))
    if as_json:
        terminal.put_json({"format": "tdsl-prove/1", "rules": [_plain(p) for p in found]})
    else:
        _print(found, every or paths is not None, seconds)
    if any(p.verdict.status == "refuted" for p in found):
        raise typer.Exit(FAILED)


def _of_file(
    prefix: str, path: Path, anew: bool, made: record.Record, progress: terminal.Progress
) -> Iterator[_Proved]:
    """The verdicts on the rules of a file; one that is on record as it stands is not even parsed."""
    text = read(path)
    lines = None if anew else record.outline(text)
    known = [record.known_by(line.key) for line in lines or ()]
    if lines is not None and all(v is not None and v.status != "refuted" for v in known):
        for line, verdict in zip(lines, known, strict=True):
            assert verdict is not None
            yield _Proved(full_name(prefix, line.name), str(path), line.line, line.key, verdict)
        return
    files = load_files([path])
    groups = {item.name: item for file in files for item in file.items if isinstance(item, tree.Group)}
    rules = [with_groups(item, groups) for item in files[-1].items if isinstance(item, tree.Rule)]
    if len(files) == 1:  # otherwise the text alone does not tell what its rules mean
        made.outlines.update(record.outline_of(text, rules).outlines)
    for rule in rules:
        yield _of_rule(full_name(prefix, rule.name), rule, anew, made, progress)


def _of_rule(
    name: str, rule: tree.Rule, anew: bool, made: record.Record, progress: terminal.Progress
) -> _Proved:
    key = record.key_of(rule)
    place = (name, rule.span.source.name, rule.span.line, key)
    verdict = None if anew else record.known(rule)
    if verdict is None:
        progress(f"proving {name}")
        try:
            verdict = made.verdicts[key] = _prove(rule)
        except TdslError as mistake:
            return _Proved(*place, Verdict("refuted", mistake.message), mistake)
    wrong = verdict.status == "refuted"
    return _Proved(*place, verdict, refutation(rule, verdict) if wrong else None)


def _prove(rule: tree.Rule) -> Verdict:
    from tdsl.engine.parameters import vocabulary  # torch, where there is something to prove
    from tdsl.lang.resolve import resolve
    from tdsl.prove.check import fresh_verdict

    return fresh_verdict(resolve(rule, vocabulary()))


def _plain(proved: _Proved) -> dict[str, Any]:
    where = {"file": proved.file, "line": proved.line}
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
    terminal.put(f"{len(found)} {plural}: {', '.join(parts) or 'none'} ({seconds:.1f} s)\n")
