"""From a word to where it is defined and used, and a new name for it everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tdsl.catalog import Entry
from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.imports import find_import
from tdsl.lang.library_files import library_path
from tdsl.lang.vocabulary import SIDES
from tdsl.lsp.document import Document
from tdsl.lsp.files import Files, meant
from tdsl.lsp.words import Role, Word

_NAME = re.compile(r"(?!(?:and|or|not|div|where(?!\()|true|false|none|const)\b)[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class Target:
    """A stretch of one line of a file, columns from 0."""

    path: Path
    line: int
    column: int
    end: int


def definition(document: Document, line: int, column: int, files: Files) -> list[Target]:
    """Where what a word means is written: of a glob, all it selects; of a variable, its first occurrence."""
    word = document.word_at(line, column)
    if word is None:
        return []
    match word.role:
        case Role.REFERENCE:
            found = meant(files.visible(document), document, word)
            return [_head(entry, files) for entry in found]
        case Role.DECLARED:
            return [_target(document, word)]
        case Role.IMPORT:
            return imported_by(document, word)
    return [_target(document, first) for first in document.same_variable(word)[:1]]


def _target(document: Document, word: Word) -> Target:
    return Target(document.path, word.line, word.column, word.end)


def _head(entry: Entry, files: Files) -> Target:
    """The name of a declaration, or the line of a pass in Python."""
    if entry.kind != "pass":
        document = files.get(entry.path)
        for word in document.words:
            if word.role is Role.DECLARED and word.line == entry.line - 1:
                return _target(document, word)
    return Target(entry.path, entry.line - 1, 0, 0)


def imported_by(document: Document, word: Word) -> list[Target]:
    """The beginning of the file that an import means; empty when there is none."""
    place = next((p for p in document.places if p.first_line == word.line), None)
    if place is None or not isinstance(place.item, tree.Import):
        return []
    try:
        return [Target(find_import(place.item, document.path.parent), 0, 0, 0)]
    except TdslError:
        return []


# ---------------------------------------------------------------- references


def references(document: Document, line: int, column: int, files: Files) -> list[Target]:
    """Every place that means the same variable, or the same declaration, the definition first."""
    word = document.word_at(line, column)
    if word is None:
        return []
    if word.role in (Role.REFERENCE, Role.DECLARED):
        entry = _declaration(document, word, files)
        return list(_uses(entry, document, files, globs=True)) if entry else []
    return [_target(document, one) for one in document.same_variable(word)]


def _declaration(document: Document, word: Word, files: Files) -> Entry | None:
    """The one declaration that a word names."""
    if word.role is Role.DECLARED:
        return next((e for e in document.entries if e.line == word.line + 1), None)
    found = meant(files.visible(document), document, word)
    return found[0] if len(found) == 1 else None


def _uses(entry: Entry, document: Document, files: Files, *, globs: bool) -> Iterator[Target]:
    """The declaration's name, and what refers to it in open documents; of dotted names the last part."""
    yield _head(entry, files)
    documents = {one.path: one for one in (document, *files.open)}
    for one in documents.values():
        visible = files.visible(one)
        if not any(e.path == entry.path and e.line == entry.line for e in visible.values()):
            continue
        for word in one.words:
            if word.role is Role.REFERENCE and (globs or "*" not in word.text):
                found = meant(visible, one, word)
                if any(e.path == entry.path and e.line == entry.line for e in found):
                    start = word.column if "*" in word.text else word.end - len(word.text.rpartition(".")[2])
                    yield Target(one.path, word.line, start, word.end)


# ---------------------------------------------------------------- rename


def renamable(document: Document, line: int, column: int, files: Files) -> Target:
    """The stretch that a new name would replace. Raises `TdslError` for what has no name of its own."""
    word = document.word_at(line, column)
    places = _renamed(document, word, files) if word else []
    at = next(
        (p for p in places if p.path == document.path and p.line == line and p.column <= column <= p.end),
        None,
    )
    if at is None:
        raise _nothing_to_rename()
    return at


def rename(document: Document, line: int, column: int, new: str, files: Files) -> list[Target]:
    """The places at which `new` takes the place of a name. Raises `TdslError` where it cannot."""
    word = document.word_at(line, column)
    places = _renamed(document, word, files) if word else []
    if word is None or not places:
        raise _nothing_to_rename()
    if not _NAME.fullmatch(new) or new in SIDES:
        raise TdslError(
            f"`{new}` is no name", expected="letters, digits and `_`, and no word of the language"
        )
    if word.role in (Role.REFERENCE, Role.DECLARED):
        home = files.get(places[0].path)
        taken = {entry.name.rpartition(".")[2] for entry in home.entries}
    else:
        taken = {w.text for w in document.words if w.owner == word.owner and w.role is not Role.ARGUMENT}
    if new in taken:
        raise TdslError(f"`{new}` is taken", hint="choose a name that nothing else here has")
    return places


def _nothing_to_rename() -> TdslError:
    return TdslError("nothing here can be renamed", hint="variables, rules, laws and pipelines can")


def _renamed(document: Document, word: Word, files: Files) -> list[Target]:
    if word.role not in (Role.REFERENCE, Role.DECLARED):
        return [_target(document, one) for one in document.same_variable(word)]
    entry = None if "*" in word.text else _declaration(document, word, files)
    if entry is None or entry.kind == "pass":
        return []
    library = library_path().resolve()
    if entry.path.resolve().is_relative_to(library) and not document.path.is_relative_to(library):
        raise TdslError(f"{entry.name} belongs to the standard library")
    return list(_uses(entry, document, files, globs=False))
