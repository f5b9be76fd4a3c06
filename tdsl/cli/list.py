"""`tdsl list`: rules, laws, passes and pipelines by name; operators and functions with their signatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from textwrap import wrap
from typing import Annotated

import typer

from tdsl.catalog import Entry, catalog, matching
from tdsl.cli import terminal, words
from tdsl.cli.options import AsJson, Rules

_EXACTNESS = {"=>": "exact", "~>": "approximate", "==": "law"}
_NARROWEST = 24
"""Columns that sentences have at least, however narrow the terminal is."""
_VOCABULARY = {"operators": words.operators, "functions": words.functions}


def list_names(
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="PATTERN",
            help="A glob (`cleanup.*`), a part of a name (`svd`), or `rules`, `laws`, `passes`, `pipelines`, "
            "`groups`, `actions`, `symmetries`; "
            "`operators` or `functions`: what rules may call.",
            show_default=False,
        ),
    ] = None,
    rules: Rules = None,
    as_json: AsJson = False,
) -> None:
    """List rules, laws, passes and pipelines with what they are for."""
    if pattern in _VOCABULARY:
        _list_words(_VOCABULARY[pattern](), as_json)
        return
    entries = catalog(rules)
    if pattern is not None:
        entries = matching(entries, pattern, tuple(_VOCABULARY))
    if as_json:
        terminal.put_json({"format": "tdsl-list/1", "entries": [_record(entry) for entry in entries]})
        return
    if not entries:
        terminal.put(f"no {pattern} are declared; `--rules FILE.tdsl` reads a file of your own\n")
        return
    _print(entries)


def _list_words(found: Sequence[words.Word], as_json: bool) -> None:
    """The signature of each, and below it what it means."""
    if as_json:
        terminal.put_json({"format": "tdsl-list/1", "entries": [asdict(word) for word in found]})
        return
    terminal.put("".join(f"{word.signature}\n    {word.doc}\n" for word in found))


def _record(entry: Entry) -> dict[str, str]:
    return {
        "name": entry.name,
        "kind": entry.kind,
        "exactness": _EXACTNESS.get(entry.arrow, ""),
        "doc": entry.summary,
    }


def _print(entries: Sequence[Entry]) -> None:
    """One group for each file: a name for a reader, its arrow or kind, its sentence."""
    from rich.text import Text

    names = {entry.name: entry.name.rpartition(".")[2] for entry in entries}
    wide = max(map(len, names.values()), default=0)
    kinds = max((len(entry.arrow or entry.kind) for entry in entries), default=0)
    column = wide + kinds + 6
    room = max(_NARROWEST, terminal.width() - column)
    lines = Text()  # one text: a table of so many rows takes a third of the command's time
    for home, group in groupby(entries, key=lambda entry: entry.name.rpartition(".")[0]):
        if lines:
            lines.append("\n")
        if home:
            lines.append(f"{home}\n", "bold")
        for entry in group:
            lines.append(f"  {names[entry.name]:<{wide}}  ", "cyan")
            lines.append(f"{entry.arrow or entry.kind:<{kinds}}  ", "dim")
            lines.append(f"\n{' ' * column}".join(wrap(entry.summary, room)) + "\n")
    lines.append("\n=> exact   ~> approximate   == law, usable both ways", "dim")
    terminal.show(lines, wrap=False)
