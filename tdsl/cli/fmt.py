"""`tdsl fmt`: `.tdsl` files in canonical form."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tdsl.cli import terminal
from tdsl.cli.options import AsJson
from tdsl.errors import TdslError

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Formatted:
    """A text and its canonical form."""

    name: str
    before: str
    after: str

    @property
    def changed(self) -> bool:
        """Whether the text was in another form."""
        return self.before != self.after


def format_files(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="FILES...", help="Files, folders of them, or `-` for standard input."),
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 1 when a file would change.")
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Write nothing; print what would change.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring `.tdsl` files into canonical form, comments kept.

    When one of them has a mistake, none is written.
    """
    texts = _formatted(list(dict.fromkeys(paths)))
    changed = [text for text in texts if text.changed]
    from_stdin = [text for text in texts if text.name == STDIN]
    if not (check or diff):
        for text in changed:
            if text.name != STDIN:
                _write(text)
    if as_json:
        files = [
            {"file": t.name, "changed": t.changed, **({"text": t.after} if t in from_stdin else {})}
            for t in texts
        ]
        terminal.put_json({"format": "tdsl-fmt/1", "files": files})
    elif diff:
        terminal.put("".join(line for text in changed for line in _difference(text)))
    elif not check:
        terminal.put("".join(text.after for text in from_stdin))
    for text in changed:
        if text.name != STDIN or check:
            terminal.say(f"{'would change' if check or diff else 'formatted'} {_shown(text.name)}")
    if check and changed:
        raise typer.Exit(1)


def _formatted(paths: Sequence[str]) -> list[Formatted]:
    """Every file in canonical form. Raises the last mistake, after the others were reported."""
    from tdsl.lang import format_file, parse

    texts: list[Formatted] = []
    mistakes: list[TdslError] = []
    for name in _files(paths):
        try:
            before = _read(name)
            texts.append(Formatted(name, before, format_file(parse(before, _shown(name)))))
        except TdslError as error:
            mistakes.append(error)
    for mistake in mistakes[:-1]:
        terminal.say_error(mistake)
    if mistakes:
        raise mistakes[-1]
    return texts


def _files(paths: Sequence[str]) -> Iterator[str]:
    for path in paths:
        if path != STDIN and Path(path).is_dir():
            yield from (str(file) for file in sorted(Path(path).rglob("*.tdsl")))
        else:
            yield path


def _read(name: str) -> str:
    if name != STDIN:
        from tdsl.lang.syntax import read

        return read(Path(name))
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError:
        raise TdslError("standard input is not UTF-8 text") from None


def _shown(name: str) -> str:
    return "<stdin>" if name == STDIN else name


def _difference(text: Formatted) -> Iterator[str]:
    from difflib import unified_diff

    name = _shown(text.name)
    lines = unified_diff(text.before.splitlines(), text.after.splitlines(), name, name, lineterm="")
    yield from (f"{line}\n" for line in lines)


def _write(text: Formatted) -> None:
    from tdsl.files import whole

    try:
        with whole(Path(text.name).resolve()) as file:  # through a link, to the file it stands for
            file.write_text(text.after, encoding="utf-8", newline="\n")
    except OSError as reason:
        raise TdslError(
            f"cannot write {text.name}: {reason.strerror}", hint="the folder must be writable and have room"
        ) from None
