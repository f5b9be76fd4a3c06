"""An editor without a server: a text with `|` where the cursor is, and what is said about that place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tdsl.engine.library import Library
from tdsl.lsp.checks import Checks
from tdsl.lsp.completion import Offer, complete
from tdsl.lsp.document import Document
from tdsl.lsp.files import Files
from tdsl.lsp.hover import hover
from tdsl.lsp.knowledge import Knowledge
from tdsl.lsp.navigate import Target, definition, references, rename


@dataclass
class Editor:
    """Open files of one folder, and questions about the cursor in one of them."""

    folder: Path
    checks: Checks

    def open(self, text: str, name: str = "rules.tdsl") -> Document:
        """Open a text as a file; one without a cursor."""
        return self.checks.files.put(self.folder / name, text)

    def at_cursor(self, text: str, name: str = "rules.tdsl") -> tuple[Document, int, int]:
        """Open a text, its `|` taken out, and say where that was."""
        before, cursor, after = text.partition("|")
        assert cursor and "|" not in after, "one cursor, please"
        line = before.count("\n")
        return self.open(before + after, name), line, len(before) - before.rfind("\n") - 1

    def mistakes(self, text: str, name: str = "rules.tdsl") -> list[str]:
        """Every diagnostic as `line:column what is underlined: message`, counted as people do."""
        document = self.open(text, name)
        found = [*self.checks.quick(document), *self.checks.thorough(document)]
        return [
            f"{m.line + 1}:{m.start[1] + 1} {self._marked(document, m)}: {m.error.message}"
            for m in sorted(found, key=lambda m: (m.line, m.start))
        ]

    def _marked(self, document: Document, mistake) -> str:
        end = mistake.stop[1] if mistake.end_line == mistake.line else None
        return document.lines[mistake.line][mistake.start[1] : end]

    def hints(self, text: str) -> list[str]:
        """What to do about each mistake."""
        document = self.open(text)
        found = [*self.checks.quick(document), *self.checks.thorough(document)]
        return [mistake.error.hint for mistake in found]

    def hover(self, text: str) -> str:
        """What is shown beside the cursor; empty for nothing."""
        return hover(*self.at_cursor(text), self.checks) or ""

    def offers(self, text: str) -> dict[str, Offer]:
        """What is offered at the cursor, by label."""
        offers = complete(*self.at_cursor(text), self.checks)
        return {offer.label: offer for offer in offers.offers}

    def definition(self, text: str, name: str = "rules.tdsl") -> list[str]:
        """Where the word at the cursor is defined, as `file:line:column`."""
        return [shown(t) for t in definition(*self.at_cursor(text, name), self.checks.files)]

    def references(self, text: str) -> list[str]:
        """Where the word at the cursor is used, as `file:line:column`."""
        return [shown(t) for t in references(*self.at_cursor(text), self.checks.files)]

    def renamed(self, text: str, new: str) -> dict[str, str]:
        """The open files after a new name for the word at the cursor."""
        targets = rename(*self.at_cursor(text), new, self.checks.files)
        return {d.path.name: written(d, targets, new) for d in self.checks.files.open}


def shown(target: Target) -> str:
    return f"{target.path.name}:{target.line + 1}:{target.column + 1}"


def written(document: Document, targets: list[Target], new: str) -> str:
    """The text of a document with `new` at each of the targets in it."""
    lines = list(document.lines)
    for t in sorted(targets, key=lambda t: -t.column):
        if t.path == document.path:
            lines[t.line] = lines[t.line][: t.column] + new + lines[t.line][t.end :]
    return "\n".join(lines)


@pytest.fixture(scope="session")
def knowledge() -> Knowledge:
    """Every name of the language, and a library with nothing in it."""
    return replace(Knowledge().with_functions(), library=Library())


@pytest.fixture
def editor(tmp_path: Path, knowledge: Knowledge) -> Editor:
    return Editor(tmp_path.resolve(), Checks(Files(), knowledge))
