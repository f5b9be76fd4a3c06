"""A text in parts, one a declaration, so that each is read on its own and only what was edited is read again.

A mistake in one declaration hides none in the next: where a bracket is never closed, the next declaration
still begins at the first line that looks like the head of one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from tdsl.lang.syntax import continuations

_PIECE = re.compile(
    r"""(?P<doc> ///(?!/)[^\n]*) | //[^\n]* | "(?:[^"\\\n]|\\.)*"? | [^\W\d]\w* | (?P<bracket> [{}]) | \n""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Part:
    """Whole lines of a text that hold one declaration with its documentation, and the number of the first."""

    text: str
    line: int


@cache
def declaration_words() -> frozenset[str]:
    """The keywords that begin a declaration, as the grammar has them: `rule`, `pipeline`, `import`, …"""
    return frozenset(word for word in continuations("").values() if word.isidentifier())


@cache
def _head(words: frozenset[str]) -> re.Pattern[str]:
    """The head of a declaration that begins with one of `words`, or the beginning of one."""
    return re.compile(rf'(?:{"|".join(sorted(words))})(?:[ \t]+[\w"]|[ \t]*$)', re.MULTILINE)


def split(text: str) -> list[Part]:
    """The parts of `text`, in order; together they are the whole text."""
    lines = text.split("\n")
    starts = _starts(text, lines)
    stops = [*starts[1:], len(lines)]
    return [Part("\n".join(lines[a:b]), a) for a, b in zip(starts, stops, strict=True)]


def _starts(text: str, lines: list[str]) -> list[int]:
    """The lines at which parts begin; the first is 0."""
    head = _head(declaration_words())
    head_at_margin = _head(
        declaration_words() - {"group"}
    )  # a `symmetry` has a line that begins with `group`
    starts = [0]
    line, depth = 0, 0
    fresh = True  # nothing but blanks and comments in this line so far
    documented = False  # the current part is documentation only so far
    empty = True  # the current part holds nothing so far
    for piece in _PIECE.finditer(text):
        found = piece.group()
        if found == "\n":
            line += 1
            fresh = True
            if depth and head_at_margin.match(lines[line]):
                depth, documented = 0, False
        elif piece["bracket"]:
            depth = max(0, depth + (1 if found == "{" else -1))
            fresh = empty = documented = False
        elif depth == 0 and fresh and (piece["doc"] or head.match(text, piece.start())):
            if not (empty or documented):
                starts.append(line)
            documented = piece["doc"] is not None
            fresh = empty = False
        elif not found.startswith("//"):
            fresh = empty = documented = False
    return starts
