"""Reading `.tdsl` text by the grammar: `parse`, `parse_file`, `parse_expression`; words for editors."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import Any

from lark import Token, Tree
from lark.exceptions import UnexpectedInput, VisitError

from tdsl.errors import Source, TdslError
from tdsl.lang import tree
from tdsl.lang.build import Builder
from tdsl.lang.expected import syntax_error, terminal_words
from tdsl.lang.grammar import parser
from tdsl.lang.walk import refuse_deep_nesting

_COMMENT_OR_TEXT = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*')


@functools.cache
def _terminal_words() -> dict[str, str]:
    return terminal_words({t.name: t.pattern.value for t in parser().terminals})


def parse(text: str, name: str = "<string>") -> tree.File:
    """The syntax tree of `text`; `name` is what diagnostics call it. Raises `TdslError`."""
    source = Source(name, text.removeprefix("\ufeff").replace("\r\n", "\n"))
    builder = Builder(source)
    file: tree.File = _tree(builder, "start")
    refuse_deep_nesting(file)
    return tree.File(items=file.items, comments=_comments(source.text, builder.doc_lines), span=file.span)


def parse_expression(text: str, name: str = "<string>") -> tree.Expr:
    """The syntax tree of one expression, such as `energy(0.9)` or `50%`. Raises `TdslError`."""
    expression: tree.Expr = _tree(Builder(Source(name, text)), "expr")
    refuse_deep_nesting(expression)
    return expression


def parse_words(text: str) -> Tree[Token]:
    """`text` as lark's own tree: every word with its place, below the production it was written for.

    For what asks about words rather than meanings, such as an editor. Raises `TdslError`.
    """
    return _parsed(Source("<string>", text), "start")


def continuations(text: str) -> dict[str, str]:
    """What may follow `text`, the beginning of a file: terminals of the grammar, and how each is spelt.

    Empty when `text` is wrong before its end.
    """
    run = parser().parse_interactive(text, start="start")
    try:
        for _ in run.iter_parse():
            pass
    except UnexpectedInput:
        return {}
    accepted: set[str] = run.accepts()  # type: ignore[no-untyped-call]
    if "_NL" in accepted and text.rstrip(" \t").endswith("\n"):
        run.feed_token(Token("_NL", "\n"))
        accepted |= run.accepts()  # type: ignore[no-untyped-call]
    return {terminal: _terminal_words()[terminal] for terminal in accepted}


def _parsed(source: Source, start: str) -> Tree[Token]:
    run = parser().parse_interactive(source.text, start)
    try:
        tokens = list(run.iter_parse())
        parsed: Tree[Token] = run.feed_eof(tokens[-1] if tokens else None)  # type: ignore[no-untyped-call]
        return parsed
    except UnexpectedInput as error:
        words = _terminal_words()
        accepted = [words[t] for t in run.accepts()]  # type: ignore[no-untyped-call]
        raise syntax_error(source, error, accepted) from None


def _tree(builder: Builder, start: str) -> Any:
    """The source of `builder`, which is all a `start`, as a syntax tree. Raises `TdslError`."""
    parsed = _parsed(builder.source, start)
    try:
        return builder.transform(parsed)
    except VisitError as error:
        if isinstance(error.orig_exc, TdslError):
            raise error.orig_exc from None
        raise


def parse_file(path: str | os.PathLike[str]) -> tree.File:
    """The syntax tree of a file in UTF-8. Raises `TdslError`, also when it cannot be read."""
    return parse(read(Path(path)), name=os.fspath(path))


def read(path: Path) -> str:
    """The text of a file; a `TdslError` says why when there is none."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        before = path.read_bytes()[: error.start]
        line = before.count(b"\n") + 1
        raise TdslError(
            f"{path} is not UTF-8 text (line {line}, byte {error.start})",
            hint="save the file as UTF-8",
        ) from None
    except FileNotFoundError:
        raise TdslError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise TdslError(f"{path} is a directory", expected="a `.tdsl` file") from None
    except OSError as error:
        raise TdslError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in the path
        raise TdslError(f"{str(path)!r} is not a path: {error}") from None


def _comments(text: str, doc_lines: set[int]) -> tuple[tuple[int, str], ...]:
    found: list[tuple[int, str]] = []
    line, position = 1, 0
    for match in _COMMENT_OR_TEXT.finditer(text):
        line += text.count("\n", position, match.start())
        position = match.start()
        if match.group().startswith("//") and line not in doc_lines:
            found.append((line, match.group().rstrip()))
    return tuple(found)
