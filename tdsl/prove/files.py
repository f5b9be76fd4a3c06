"""The verdicts on all rules of some files: those on record as they are, the others made now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.groups import with_groups
from tdsl.lang.imports import load_files
from tdsl.lang.library_files import full_name, prefix_of, standard_files
from tdsl.lang.syntax import read
from tdsl.prove import record
from tdsl.prove.check import refutation
from tdsl.prove.verdict import Verdict


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
    found = [proved for prefix, path in named for proved in _of_file(prefix, path, anew, made, progress)]
    record.remember(made.verdicts, made.outlines)
    if record_to is not None:
        outlines = record.outlines_of(read(path) for _, path in named) | made.outlines
        record.write(record_to, record.Record({p.key: p.verdict for p in found}, outlines))
    return found


def _of_file(
    prefix: str, path: Path, anew: bool, made: record.Record, progress: Callable[[str], None]
) -> Iterator[Proved]:
    """The verdicts on the rules of a file; one that is on record as it stands is not even parsed."""
    text = read(path)
    lines = None if anew else record.outline(text)
    known = [record.known_by(line.key) for line in lines or ()]
    if lines is not None and all(v is not None and v.status != "refuted" for v in known):
        for line, verdict in zip(lines, known, strict=True):
            assert verdict is not None
            yield Proved(full_name(prefix, line.name), str(path), line.line, line.key, verdict)
        return
    files = load_files([path])
    groups = {item.name: item for file in files for item in file.items if isinstance(item, tree.Group)}
    rules = [with_groups(item, groups) for item in files[-1].items if isinstance(item, tree.Rule)]
    if len(files) == 1:  # otherwise the text alone does not tell what its rules mean
        made.outlines.update(record.outline_of(text, rules).outlines)
    for rule in rules:
        yield _of_rule(full_name(prefix, rule.name), rule, anew, made, progress)


def _of_rule(
    name: str, rule: tree.Rule, anew: bool, made: record.Record, progress: Callable[[str], None]
) -> Proved:
    key = record.key_of(rule)
    place = (name, rule.span.source.name, rule.span.line, key)
    verdict = None if anew else record.known(rule)
    if verdict is None:
        progress(f"proving {name}")
        try:
            verdict = made.verdicts[key] = _prove(rule)
        except TdslError as mistake:
            return Proved(*place, Verdict("refuted", mistake.message), mistake)
    wrong = verdict.status == "refuted"
    return Proved(*place, verdict, refutation(rule, verdict) if wrong else None)


def _prove(rule: tree.Rule) -> Verdict:
    from tdsl.engine.parameters import vocabulary  # torch, where there is something to prove
    from tdsl.lang.resolve import resolve
    from tdsl.prove.check import fresh_verdict

    return fresh_verdict(resolve(rule, vocabulary()))
