"""A document as an editor's outline has it, and in canonical form."""

from __future__ import annotations

from dataclasses import dataclass

from tdsl.errors import TdslError
from tdsl.lang import format_file, parse
from tdsl.lsp.document import Document
from tdsl.lsp.words import Role, Word


@dataclass(frozen=True, slots=True)
class Symbol:
    """A declaration: its keyword, its name, the lines it stands on (the last one included)."""

    keyword: str
    name: Word
    first_line: int
    last_line: int


def symbols(document: Document) -> list[Symbol]:
    """The rules, laws and pipelines of a document in order, unfinished ones too."""
    found: list[Symbol] = []
    for part in document.parts:
        lines = part.text.rstrip().count("\n")
        last = part.line + lines
        names = [w for w in document.words if w.role is Role.DECLARED and part.line <= w.line <= last]
        for name in names:
            keyword = document.lines[name.line][: name.column].split()[-1]
            found.append(Symbol(keyword, name, name.line, last))
    return found


def formatted(document: Document) -> str | None:
    """The canonical text; `None` while the document has a mistake of syntax."""
    try:
        return format_file(parse(document.text))
    except TdslError:
        return None
