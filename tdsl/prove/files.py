"""The verdicts on all rules of some files: those on record as they are, the others made now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tdsl.errors import TdslError
from tdsl.files import written
from tdsl.lang import tree
from tdsl.lang.groups import with_groups
from tdsl.lang.imports import load_files
from tdsl.lang.library_files import declared_twice, full_name, prefix_of, standard_files
from tdsl.lang.syntax import read
from tdsl.prove import record
from tdsl.prove.check import refutation
from tdsl.prove.verdict import Verdict
from tdsl.prove.workers import outcomes_of


@dataclass(frozen=True, slots=True)
class Proved:
    """A rule of a file, the key of its verdict, and the verdict."""

    name: str
    file: str
    line: int
    key: str
    verdict: Verdict
    mistake: TdslError | None = None
    """What is wrong, at its place, where the rule is refuted."""


def prove_files(
    paths: Sequence[Path] | None, *, anew: bool, record_to: Path | None, progress: Callable[[str], None]
) -> list[Proved]:
    """The verdicts on the rules of `paths`, without any on those of the standard library, in their order.

    New ones are put on the user's record; `anew` makes all new. `record_to` is a file for the
    record of them all. Raises `TdslError` when a file does not parse or cannot be written.
    """
    made = record.Record()
    named = [(prefix_of(path), path) for path in paths] if paths else list(standard_files())
    asked = [rule for prefix, path in named for rule in _of_file(prefix, path, anew, made)]
    found = list(_answered(asked, made, progress))
    record.remember(made.verdicts, made.outlines)
    if record_to is not None:
        outlines = record.outlines_of(read(path) for _, path in named) | made.outlines
        with written(record_to) as part:
            record.write(part, record.Record({p.key: p.verdict for p in found}, outlines))
    return found


@dataclass(frozen=True, slots=True)
class _Asked:
    """A rule of a file, and its verdict where that is on record."""

    name: str
    file: str
    line: int
    key: str
    rule: tree.Rule | None
    """`None` where the file is on record as it stands."""
    verdict: Verdict | None


def _of_file(prefix: str, path: Path, anew: bool, made: record.Record) -> Iterator[_Asked]:
    """The rules of a file; one that is on record as it stands is not even parsed."""
    text = read(path)
    lines = None if anew else record.outline(text)
    known = [record.known_by(line.key) for line in lines or ()]
    if lines is not None and all(v is not None and v.status != "refuted" for v in known):
        for line, verdict in zip(lines, known, strict=True):
            yield _Asked(full_name(prefix, line.name), str(path), line.line, line.key, None, verdict)
        return
    files = load_files([path])
    groups = {item.name: item for file in files for item in file.items if isinstance(item, tree.Group)}
    rules = [with_groups(item, groups) for item in files[-1].items if isinstance(item, tree.Rule)]
    for i, rule in enumerate(rules):
        if any(rule.name == before.name for before in rules[:i]):
            raise declared_twice(full_name(prefix, rule.name), rule.span)
    if len(files) == 1:  # otherwise the text alone does not tell what its rules mean
        made.outlines.update(record.outline_of(text, rules).outlines)
    for rule in rules:
        name, span, verdict = full_name(prefix, rule.name), rule.span, None if anew else record.known(rule)
        yield _Asked(name, span.source.name, span.line, record.key_of(rule), rule, verdict)


def _answered(
    asked: Sequence[_Asked], made: record.Record, progress: Callable[[str], None]
) -> Iterator[Proved]:
    """The verdicts in the order of the rules; new ones are put into `made`."""
    outcomes = outcomes_of([a.rule for a in asked if a.rule is not None and a.verdict is None])
    for a in asked:
        place, verdict = (a.name, a.file, a.line, a.key), a.verdict
        if verdict is None:
            progress(f"proving {a.name}")
            outcome = next(outcomes)
            if isinstance(outcome, TdslError):
                yield Proved(*place, Verdict("invalid", outcome.message), outcome)
                continue
            verdict = made.verdicts[a.key] = outcome
        wrong = a.rule if verdict.status == "refuted" else None
        yield Proved(*place, verdict, refutation(wrong, verdict) if wrong else None)
