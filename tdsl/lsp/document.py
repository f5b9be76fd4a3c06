"""A `.tdsl` text as an editor has it: its declarations, the words at its places, correct or not."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tdsl.catalog import APPLIED, Entry, declared
from tdsl.errors import TdslError
from tdsl.lang import parse, tree
from tdsl.lang.library_files import prefix_of
from tdsl.lsp.parts import Part, split
from tdsl.lsp.words import Role, Word, words_of


@functools.lru_cache(maxsize=4096)
def parsed(text: str) -> tree.File | TdslError:
    """The syntax tree of a part's text, or the first mistake in it."""
    try:
        return parse(text)
    except TdslError as mistake:
        return mistake


@functools.lru_cache(maxsize=256)
def _prefix_of(path: Path) -> str:
    return prefix_of(path)


@dataclass(frozen=True, slots=True)
class Place:
    """A declaration of a document: its syntax tree, whose lines count from those of its part."""

    item: tree.Item
    part: Part
    index: int
    """Which of the declarations of its part it is."""

    @property
    def key(self) -> tuple[str, int]:
        """What answers about it are remembered by: they stay while its text does, wherever that moves."""
        return self.part.text, self.index

    @property
    def first_line(self) -> int:
        """The line of the document in which it begins, its documentation left out."""
        return self.part.line + self.item.span.line - 1


@dataclass(frozen=True)
class Document:
    """A text and the file it is, or will be, in; lines of it end with a line feed alone."""

    path: Path
    text: str

    @cached_property
    def lines(self) -> list[str]:
        """The text line by line."""
        return self.text.split("\n")

    @cached_property
    def parts(self) -> list[Part]:
        """The text by declarations."""
        return split(self.text)

    @cached_property
    def places(self) -> list[Place]:
        """The declarations that parse."""
        return [
            Place(item, part, index) for part, file in self._parsed() for index, item in enumerate(file.items)
        ]

    def _parsed(self) -> Iterator[tuple[Part, tree.File]]:
        for part in self.parts:
            file = parsed(part.text)
            if isinstance(file, tree.File):
                yield part, file

    @cached_property
    def words(self) -> list[Word]:
        """All words, in order; `owner` counts the declarations of the document."""
        found: list[Word] = []
        base = 0
        for part in self.parts:
            words = words_of(part.text)
            found += (replace(w, line=w.line + part.line, owner=w.owner + base) for w in words)
            base += 1 + max((w.owner for w in words), default=0)
        return found

    @property
    def prefix(self) -> str:
        """What the declarations of the document are called after."""
        return _prefix_of(self.path)

    @cached_property
    def entries(self) -> list[Entry]:
        """The rules, laws and pipelines that parse, as a catalogue has them."""
        return [
            replace(entry, line=entry.line + part.line)
            for part, file in self._parsed()
            for entry in declared(file, self.path, self.prefix)
            if entry.kind in APPLIED
        ]

    def part_at(self, line: int) -> Part:
        """The part that a line belongs to."""
        return next(part for part in reversed(self.parts) if part.line <= max(line, 0))

    def place_of(self, word: Word) -> Place | None:
        """The declaration that a word stands in, when it parses."""
        part = self.part_at(word.line)
        at = (word.line - part.line + 1, word.column + 1)
        for place in self.places:
            span = place.item.span
            if place.part is part and (span.line, span.column) <= at < (span.end_line, span.end_column):
                return place
        return None

    def word_at(self, line: int, column: int) -> Word | None:
        """The word at a position, or that ends there."""
        there = [w for w in self.words if w.line == line and w.column <= column <= w.end]
        return there[-1] if there else None

    def same_variable(self, word: Word) -> list[Word]:
        """The occurrences of a variable in its declaration; empty when `word` is none."""
        family = [w for w in self.words if w.owner == word.owner and w.text == word.text]
        names = [w for w in family if w.role in (Role.VARIABLE, Role.CALLEE)]
        if word not in names or all(w.role is Role.CALLEE for w in names):
            return []
        return names
