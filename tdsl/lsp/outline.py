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


NAMED = ("rule", "law", "pipeline", "example")
"""Keywords of the declarations that an outline lists."""


def symbols(document: Document) -> list[Symbol]:
    """The rules, laws, pipelines and examples of a document in order, unfinished ones too."""
    found: list[Symbol] = []
    for part in document.parts:
        last = part.line + part.text.rstrip().count("\n")
        for word in document.words:
            if part.line <= word.line <= last and word.role in (Role.DECLARED, Role.REFERENCE):
                before = document.lines[word.line][: word.column].split()
                if before and before[-1] in NAMED:
                    found.append(Symbol(before[-1], word, word.line, last))
    return found


def formatted(document: Document) -> str | None:
    """The canonical text; `None` while the document has a mistake of syntax."""
    try:
        return format_file(parse(document.text))
    except TdslError:
        return None
