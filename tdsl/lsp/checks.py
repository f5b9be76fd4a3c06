"""What is wrong with a document, declaration by declaration.

Quick checks (syntax, names, imports) take about a millisecond a declaration. Thorough ones (types of rules,
pipelines against the library) take up to a tenth of a second. Both are remembered by the declaration's text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tdsl.catalog import Entry
from tdsl.errors import Span, TdslError
from tdsl.lang import tree
from tdsl.lang.example import check_example
from tdsl.lang.groups import with_groups
from tdsl.lang.imports import find_import
from tdsl.lang.library_files import full_name
from tdsl.lang.resolve import Resolved, resolve
from tdsl.lang.unsupported import refuse_unsupported
from tdsl.lang.walk import walk
from tdsl.lsp.document import Document, Place, parsed
from tdsl.lsp.files import Files, tested
from tdsl.lsp.knowledge import Knowledge
from tdsl.lsp.parts import Part
from tdsl.prove.check import refuse_refuted, verdict_on
from tdsl.prove.record import remember
from tdsl.prove.verdict import Verdict
from tdsl.spelling import did_you_mean

if TYPE_CHECKING:
    from tdsl.engine.library import Declaration

REMEMBERED = 1024
"""Answers kept: each keystroke makes a new text of one declaration."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A diagnostic and where it stands: lines of the part it is in and columns from 0, the end exclusive."""

    error: TdslError
    part: Part
    start: tuple[int, int]
    stop: tuple[int, int]

    @property
    def line(self) -> int:
        """The line of the document."""
        return self.part.line + self.start[0]

    @property
    def end_line(self) -> int:
        """The line of the document in which it ends."""
        return self.part.line + self.stop[0]


_SYMMETRY = tree.Group | tree.Action | tree.Symmetry

_RULE = re.compile(r"^\s*rule\s+(\w+)", re.MULTILINE)
"""The name of a rule in text that cannot be read."""

_PLACEHOLDERS: dict[str, Any] = {
    "Rank": 0.5, "Real": 0.5, "Ratio": 0.5, "Int": 1, "Bool": True, "Text": ""
}  # fmt: skip
"""Values with which a pipeline is checked whose parameters have no defaults."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A declaration as a key: of one text there is one, while it is remembered."""

    it: Declaration

    def __hash__(self) -> int:
        return id(self.it)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Declared) and other.it is self.it


class Checks:
    """The checks, by what is known so far."""

    def __init__(self, files: Files, knowledge: Knowledge) -> None:
        self.files = files
        self.knowledge = knowledge

    # ------------------------------------------------------------ quick

    def quick(self, document: Document) -> list[Mistake]:
        """Mistakes of syntax, of names, of imports, and names declared twice."""
        return [*self._syntax(document), *self._names(document), *self._files(document), *_twice(document)]

    def _syntax(self, document: Document) -> Iterator[Mistake]:
        for part in document.parts:
            file = parsed(part.text)
            if isinstance(file, TdslError):
                yield _placed(file, part, file.span)

    def _names(self, document: Document) -> Iterator[Mistake]:
        entries = self.files.visible(document)
        for place in document.places:
            mistake = _caught(refuse_unsupported, tree.File((place.item,), span=place.item.span))
            if mistake is None and isinstance(place.item, tree.Rule):
                found = self.resolved(document, place)
                mistake = found if isinstance(found, TdslError) else None
            elif mistake is None and isinstance(place.item, tree.Example):
                mistake = _untested(place.item, entries, document) or _example(self.knowledge, *place.key)
            if mistake is not None:
                yield _at(mistake, place)

    def resolved(self, document: Document, place: Place) -> Resolved | TdslError | None:
        """The names of a rule, or the first mistake in them.

        `None` for what is no rule, and until all names are known.
        """
        if not isinstance(place.item, tree.Rule):
            return None
        return _resolved(self.knowledge, *place.key, self._groups(document))

    def _groups(self, document: Document) -> tuple[tree.Group, ...]:
        """The groups that rules of a document may name."""
        files = (*self.files.imported(document), document)
        return tuple(p.item for one in files for p in one.places if isinstance(p.item, tree.Group))

    def _files(self, document: Document) -> Iterator[Mistake]:
        """Imports that find nothing, lead back to the document, or to a file with a mistake in it."""
        for place in document.places:
            if not isinstance(place.item, tree.Import):
                continue
            try:
                imported = self.files.get(find_import(place.item, document.path.parent))
            except TdslError as mistake:
                yield _at(TdslError(mistake.message, place.item.span, hint=mistake.hint), place)
                continue
            if document.path in (imported.path, *(d.path for d in self.files.imported(imported))):
                yield _at(TdslError("these files import each other in a circle", place.item.span), place)
            elif not place.item.library and (wrong := next(iter(self.quick(imported)), None)):
                message = (
                    f"{imported.path.name} has a mistake in line {wrong.line + 1}: {wrong.error.message}"
                )
                yield _at(TdslError(message, place.item.span), place)

    # ------------------------------------------------------------ thorough

    def thorough(self, document: Document) -> list[Mistake]:
        """Mistakes in the types of rules, and of pipelines against the library."""
        return [*self._types(document), *self._steps(document), *self._symmetry(document)]

    def _types(self, document: Document) -> Iterator[Mistake]:
        for place in document.places:
            found = self.declaration(document, place)
            if isinstance(found, TdslError) and not isinstance(self.resolved(document, place), TdslError):
                yield _at(found, place)

    def declaration(self, document: Document, place: Place) -> Declaration | TdslError | None:
        """A rule as the library would hold it, or its first mistake; `None` as for `resolved`."""
        found = self.resolved(document, place)
        if not isinstance(found, Resolved):
            return found
        return _declaration(self.knowledge, document.prefix, *place.key, self._groups(document))

    def _symmetry(self, document: Document) -> Iterator[Mistake]:
        """Groups, actions and symmetries that name what is not there, or keep no relations."""
        places = [place for place in document.places if isinstance(place.item, _SYMMETRY)]
        if not places:
            return
        from tdsl.symmetry.declarations import Declarations

        known = Declarations()
        for item in self._imported_symmetry(document):
            _caught(known.add, item)
        wrong: set[str] = set()
        for place in places:
            if _uses(place.item) & wrong:  # one mistake is said once
                wrong.add(place.item.name)  # type: ignore[union-attr]  # of the three kinds
                continue
            mistake = _caught(known.add, place.item)
            if mistake is not None:
                wrong.add(place.item.name)  # type: ignore[union-attr]
                yield _at(mistake, place)

    def _imported_symmetry(self, document: Document) -> tuple[tree.Item, ...]:
        """The groups, actions and symmetries of what a document imports."""
        imported = self.files.imported(document)
        return tuple(p.item for one in imported for p in one.places if isinstance(p.item, _SYMMETRY))

    def _steps(self, document: Document) -> Iterator[Mistake]:
        """Pipelines whose steps name what is not there, or give it what it does not take."""
        pipelines = [place for place in document.places if isinstance(place.item, tree.Pipeline)]
        if not pipelines or self.knowledge.library is None:
            return
        beside, wrong = self._beside(document), self._wrong_rules(document)
        own = (place.item for place in document.places if isinstance(place.item, _SYMMETRY))
        symmetry = (*self._imported_symmetry(document), *own)
        for place in pipelines:
            mistake = _run(self.knowledge, *place.key, beside, symmetry)
            if mistake is not None and not _names_one_of(
                wrong, place.item, mistake
            ):  # said once, at the rule
                yield _at(mistake, place)

    def _wrong_rules(self, document: Document) -> set[str]:
        """Names of rules, here and in what is imported, that are there and no part of any library."""
        found = set()
        for one in (*self.files.imported(document), document):
            unread = (part.text for part in one.parts if isinstance(parsed(part.text), TdslError))
            found |= {name for text in unread for name in _RULE.findall(text)}
            for place in one.places:
                if isinstance(place.item, tree.Rule) and isinstance(self.declaration(one, place), TdslError):
                    found.add(place.item.name)
        return found

    def _beside(self, document: Document) -> tuple[Declared, ...]:
        """The right rules of a document and of what it imports."""
        found = (
            self.declaration(one, place)
            for one in (*self.files.imported(document), document)
            for place in one.places
        )
        return tuple(Declared(d) for d in found if d is not None and not isinstance(d, TdslError))


def _names_one_of(wrong: set[str], pipeline: tree.Item, mistake: TdslError) -> bool:
    """Whether a mistake in a pipeline is that a step names a rule which is wrong itself."""
    return any(
        isinstance(node, tree.RuleRef)
        and node.pattern.rpartition(".")[2] in wrong
        and node.span == mistake.span
        for node in walk(pipeline)
    )


def _uses(item: tree.Item) -> set[str]:
    """The groups and actions that a declaration of symmetry refers to."""
    match item:
        case tree.Group(value=value):
            return {node.id for node in walk(value) if isinstance(node, tree.Name)}
        case tree.Action(group=group):
            return {group}
        case tree.Symmetry(group=group, edges=edges):
            return {group, *(edge.action for edge in edges if edge.action)}
        case _:
            return set()


# ---------------------------------------------------------------- remembered by text


@functools.lru_cache(REMEMBERED)
def _resolved(
    knowledge: Knowledge, text: str, index: int, groups: tuple[tree.Group, ...]
) -> Resolved | TdslError | None:
    rule = _item(text, index)
    assert isinstance(rule, tree.Rule)
    try:
        known = with_groups(rule, {group.name: group for group in groups})
        return resolve(known, knowledge.vocabulary) if knowledge.complete else None
    except TdslError as mistake:
        return mistake


@functools.lru_cache(REMEMBERED)
def _example(knowledge: Knowledge, text: str, index: int) -> TdslError | None:
    """The first mistake in the names of an example."""
    example = _item(text, index)
    assert isinstance(example, tree.Example)
    return _caught(check_example, example, knowledge.vocabulary) if knowledge.complete else None


@functools.lru_cache(REMEMBERED)
def _declaration(
    knowledge: Knowledge, prefix: str, text: str, index: int, groups: tuple[tree.Group, ...]
) -> Declaration | TdslError:
    """A rule whose names are right, its types checked and its meaning proved."""
    from tdsl.engine.library import Declaration

    resolved = _resolved(knowledge, text, index, groups)
    assert isinstance(resolved, Resolved)
    try:
        made: dict[str, Verdict] = {}
        verdict = verdict_on(resolved, made)
        remember(made)
        refuse_refuted(resolved.rule, verdict)
        return Declaration(full_name(prefix, resolved.rule.name), resolved, verdict)
    except TdslError as mistake:
        return mistake


@functools.lru_cache(REMEMBERED)
def _run(
    knowledge: Knowledge,
    text: str,
    index: int,
    beside: tuple[Declared, ...],
    symmetry: tuple[tree.Item, ...],
) -> TdslError | None:
    """What is wrong with a pipeline as far as it needs no model."""
    from tdsl.engine.library import Library
    from tdsl.engine.strategy import Runner
    from tdsl.verify.contract import Bound

    assert knowledge.library is not None
    library = knowledge.library.extended(Library({d.it.name: d.it for d in beside}))
    for item in symmetry:
        _caught(library.symmetry.add, item)  # its own mistake is said at its own place
    pipeline = _item(text, index)
    assert isinstance(pipeline, tree.Pipeline)
    required = (p for p in pipeline.parameters if p.default is None)

    def check() -> None:
        runner = Runner(library, pipeline, {p.name: _PLACEHOLDERS.get(p.kinds[0]) for p in required})
        for asked in runner.contract:
            Bound.asked(asked.metric, asked.relation, asked.value, asked.source.span)

    return _caught(check)


# ---------------------------------------------------------------- mistakes and their places


def _untested(example: tree.Example, entries: Mapping[str, Entry], document: Document) -> TdslError | None:
    """The mistake of an example that is about nothing."""
    reference = example.reference
    if tested(entries, reference.pattern, document.prefix):
        return None
    hint = did_you_mean(reference.pattern, [*(name.rpartition(".")[2] for name in entries), *entries])
    return TdslError(f"unknown rule, pass or pipeline {reference.pattern}", reference.span, hint=hint)


def _twice(document: Document) -> Iterator[Mistake]:
    seen: set[str] = set()
    for place in document.places:
        if isinstance(place.item, tree.Rule | tree.Pipeline):
            if place.item.name in seen:
                hint = "give one of them another name"
                yield _at(TdslError(f"{place.item.name} is declared twice", hint=hint), place)
            seen.add(place.item.name)


def _caught(check: Callable[..., object], *arguments: Any) -> TdslError | None:
    try:
        check(*arguments)
    except TdslError as mistake:
        return mistake
    return None


def _item(text: str, index: int) -> tree.Item:
    """A declaration of a part that parses."""
    file = parsed(text)
    assert isinstance(file, tree.File)
    return file.items[index]


def _at(error: TdslError, place: Place) -> Mistake:
    """A mistake in a declaration; one whose place is in another text stands at the declaration's head."""
    head = place.item.span
    elsewhere = error.span is None or error.span.source != head.source
    span = replace(head, end_line=head.line, end_column=MARGIN) if elsewhere else error.span
    return _placed(error, place.part, span)


MARGIN = 10_000
"""A column behind the end of every line."""


def _placed(error: TdslError, part: Part, span: Span | None) -> Mistake:
    """A mistake in a part; it never ends before it begins, or outside of its lines."""
    assert span is not None
    lines = part.text.split("\n")
    line, last = (min(n, len(lines)) - 1 for n in (span.line, span.end_line))
    start = (line, min(span.column - 1, len(lines[line])))
    stop = (last, min(span.end_column - 1, len(lines[last])))
    if stop <= start:  # behind the last word, where something is missing
        stop = (line, start[1] + 1)
    return Mistake(error, part, start, stop)


def carried(mistakes: list[Mistake], document: Document) -> list[Mistake]:
    """The mistakes that are still there in a later text, because their declarations are as they were."""
    now = {part.text: part for part in document.parts}
    return [replace(m, part=now[m.part.text]) for m in mistakes if m.part.text in now]
