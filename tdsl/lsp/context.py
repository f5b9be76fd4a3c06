"""What stands around a cursor: what the grammar accepts there, which section it is in, which call is open.

The grammar answers wherever the declaration is right up to the cursor. Where it is not, brackets and keywords
before the cursor say enough to go on.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tdsl.lang.syntax import continuations
from tdsl.lsp.document import Document
from tdsl.lsp.words import PIECE

_TYPED = re.compile(r"[\w*]*(?:\.[\w*]*)*$")


class Section(enum.Enum):
    """The part of a declaration that a cursor is in."""

    OUTSIDE = "between declarations"
    PARAMETERS = "the parameters"
    LEFT = "the left side"
    RIGHT = "the right side"
    WHERE = "conditions and definitions"
    STEPS = "the steps of a pipeline"
    OTHER = "a declaration of another kind"


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call whose bracket is not closed yet: how many arguments stand before the cursor, which are named."""

    callee: str
    position: int
    named: tuple[str, ...]
    argument: str = ""
    """The name of the argument the cursor is in, if it has one."""


@dataclass(frozen=True, slots=True)
class Context:
    """All that completion goes by."""

    typed: str
    """What is there of the word that the cursor ends."""
    accepted: Mapping[str, str]
    """Terminals of the grammar that may come in its place, with their spelling; empty after a mistake."""
    section: Section
    call: OpenCall | None
    before: str
    """The word or sign before the typed one."""
    step: str
    """The keyword of a pipeline that was last before the cursor."""


def context_at(document: Document, line: int, column: int) -> Context | None:
    """What stands around a position; `None` inside comments and texts, where nothing is offered."""
    part = document.part_at(line)
    lines = part.text.split("\n")[: line - part.line + 1]
    text = "\n".join([*lines[:-1], lines[-1][:column]])
    typed = _TYPED.search(text)
    assert typed is not None  # the pattern matches the empty text
    text = text[: typed.start()]
    pieces = [piece.group() for piece in PIECE.finditer(text)]
    if pieces and _inside(text, pieces[-1]):
        return None
    words = [piece for piece in pieces if not piece.startswith("//")]
    section, call, step = _scan(words)
    return Context(typed.group(), continuations(text), section, call, words[-1] if words else "", step)


def _inside(text: str, last: str) -> bool:
    """Whether a text ends within a comment, or within quotes that are not closed."""
    if last.startswith("//"):
        return text.endswith(last)
    return last.startswith('"') and re.fullmatch(r'"(?:[^"\\]|\\.)*"', last) is None


_KEYWORDS = frozenset(
    {"repeat", "once", "run", "choose", "minimize", "subject", "to", "heal", "quantize", "check", "within"}
    | {"until", "limit"}
)


def _scan(pieces: list[str]) -> tuple[Section, OpenCall | None, str]:
    """Section, innermost open call and last step at the end of the words and signs of a declaration."""
    kind = pieces[0] if pieces else ""
    section = Section.OUTSIDE if not pieces else Section.OTHER
    brackets: list[int] = []
    step = ""
    for i, piece in enumerate(pieces):
        if piece in "([{":
            if piece == "{" and not brackets and kind in ("rule", "law", "example", "pipeline"):
                section = Section.STEPS if kind == "pipeline" else Section.LEFT
            elif piece == "(" and not brackets and kind in ("rule", "law", "pipeline"):
                section = Section.PARAMETERS
            brackets.append(i)
        elif piece in ")]}":
            if brackets:
                brackets.pop()
            if not brackets:
                section = Section.OUTSIDE if piece == "}" else Section.OTHER
                kind = "" if piece == "}" else kind
        elif not brackets and not kind:
            kind, section = piece, Section.OTHER
        elif len(brackets) == 1 and section is not Section.PARAMETERS:
            if piece in ("=>", "~>") or (piece == "==" and kind == "law" and section is Section.LEFT):
                section = Section.RIGHT
            elif piece == "where":
                section = Section.WHERE
        if section is Section.STEPS and piece in _KEYWORDS:
            step = piece
    return section, _open_call(pieces, brackets), step


def _open_call(pieces: list[str], brackets: list[int]) -> OpenCall | None:
    """The call of the innermost bracket, if that is one of a call."""
    if not brackets:
        return None
    at = brackets[-1]
    callee = pieces[at - 1] if at else ""
    if pieces[at] != "(" or not re.match(r"[\w*]", callee) or callee in ("where", "and", "or", "not", "div"):
        return None
    arguments = list(_arguments(pieces[at + 1 :]))
    names = [a[0] if len(a) > 1 and a[1] == "=" else "" for a in arguments]
    return OpenCall(callee, len(arguments) - 1, tuple(n for n in names if n), names[-1])


def _arguments(pieces: list[str]) -> Iterator[list[str]]:
    """The words of each argument, the one that the cursor is in too."""
    depth, argument = 0, list[str]()
    for piece in pieces:
        depth += (piece in "([{") - (piece in ")]}")
        if piece == "," and depth == 0:
            yield argument
            argument = []
        else:
            argument.append(piece)
    yield argument
