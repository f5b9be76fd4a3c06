"""The files an editor works on: those that are open, those they import, and the names that each can see."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

from tdsl.catalog import Entry, catalog
from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.imports import find_import
from tdsl.lang.library_files import full_name
from tdsl.lang.syntax import read
from tdsl.lang.vocabulary import PARAMETER_KINDS
from tdsl.lsp.document import Document
from tdsl.lsp.words import Word


@functools.cache
def standard_entries() -> Mapping[str, Entry]:
    """What the standard library declares, by name; read once."""
    return {entry.name: entry for entry in catalog()}


class Files:
    """Documents by path: as the editor has them where they are open, else as they are on the disk."""

    def __init__(self) -> None:
        self._open: dict[Path, Document] = {}
        self._read: dict[Path, tuple[int, Document]] = {}

    def put(self, path: Path, text: str) -> Document:
        """Remember what the editor has in a file."""
        path = path.resolve()
        document = Document(path, text.replace("\r\n", "\n"))
        self._open[path] = document
        return document

    def drop(self, path: Path) -> None:
        """Forget a file that was closed."""
        self._open.pop(path.resolve(), None)

    @property
    def open(self) -> list[Document]:
        """The documents that are open."""
        return list(self._open.values())

    def get(self, path: Path) -> Document:
        """The document at `path`. Raises `TdslError` when there is none."""
        path = path.resolve()
        if path in self._open:
            return self._open[path]
        stamp = path.stat().st_mtime_ns if path.is_file() else 0
        if self._read.get(path, (None,))[0] != stamp:
            self._read[path] = (stamp, Document(path, read(path).replace("\r\n", "\n")))
        return self._read[path][1]

    def imported(self, document: Document) -> list[Document]:
        """What a document imports, directly or not, each once; what cannot be read is left out."""
        found: dict[Path, Document] = {}
        waiting = [document]
        while waiting:
            importing = waiting.pop()
            for path in self._imports(importing):
                if path != document.path and path not in found:
                    found[path] = self.get(path)
                    waiting.append(found[path])
        return list(found.values())

    def _imports(self, document: Document) -> Iterator[Path]:
        for place in document.places:
            if isinstance(place.item, tree.Import):
                try:
                    yield self.get(find_import(place.item, document.path.parent)).path
                except TdslError:
                    continue

    def visible(self, document: Document) -> dict[str, Entry]:
        """What pipelines of a document can refer to: the standard library, its imports, its own."""
        entries = dict(standard_entries())
        for one in (*self.imported(document), document):
            entries |= {entry.name: entry for entry in one.entries}
        return entries


def selected(entries: Mapping[str, Entry], pattern: str) -> list[Entry]:
    """The rules and passes, or else pipelines, that a step's reference means; empty for none."""
    rules = {name: entry for name, entry in entries.items() if entry.kind != "pipeline"}
    if pattern in rules:
        return [rules[pattern]]
    if "*" in pattern:
        return [e for n, e in rules.items() if e.kind != "law" and fnmatch.fnmatchcase(n, pattern)]
    found = [entry for name, entry in rules.items() if name.endswith(f".{pattern}")]
    return found or _pipelines(entries, pattern)


def _pipelines(entries: Mapping[str, Entry], pattern: str) -> list[Entry]:
    return [e for n, e in entries.items() if e.kind == "pipeline" and f".{n}".endswith(f".{pattern}")]


def tested(entries: Mapping[str, Entry], pattern: str, prefix: str) -> list[Entry]:
    """What an example in a file called `prefix` is about: of the file itself, else a pipeline, else rules."""
    called = full_name(prefix, pattern)
    own = [entry for name, entry in entries.items() if fnmatch.fnmatchcase(name, called)]
    return own or _pipelines(entries, pattern) or selected(entries, pattern)


def meant(entries: Mapping[str, Entry], document: Document, word: Word) -> list[Entry]:
    """What a reference in a document means, where it sees `entries`."""
    place = document.place_of(word)
    if place is not None and isinstance(place.item, tree.Example):
        return tested(entries, word.text, document.prefix)
    return selected(entries, word.text)


def parameters_of(entry: Entry, files: Files) -> list[tree.Parameter]:
    """The parameters of a rule or pipeline that take values."""
    if entry.kind not in ("rule", "law", "pipeline"):
        return []
    items = (place.item for place in files.get(entry.path).places if place.first_line == entry.line - 1)
    found = (p for item in items if isinstance(item, tree.Rule | tree.Pipeline) for p in item.parameters)
    return [p for p in found if p.kinds[0] in PARAMETER_KINDS]
