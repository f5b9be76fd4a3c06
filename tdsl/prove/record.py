"""Proofs made before, found by the content of the rule: those shipped with the library, and a user's.

Shipped proofs are made anew by the tests. A user's hold as long as the prover and what it stands on are the
same files. Neither torch nor numpy is imported here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tdsl.files import cache_folder, whole
from tdsl.lang import tree
from tdsl.prove.verdict import Counterexample, Verdict

ROOMS = ("lang", "ops", "factor", "prove")
"""What a proof stands on: the language, the operators' laws and meanings, promises, the prover."""

SHIPPED = "proofs.json"


@dataclass(frozen=True, slots=True)
class Line:
    """A rule of a file: its name there, where it stands, and the key of its verdict."""

    name: str
    line: int
    key: str


@dataclass
class Record:
    """Verdicts by the keys of rules, and the rules of whole files by digests of their texts."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    outlines: dict[str, tuple[Line, ...]] = field(default_factory=dict)


def key_of(rule: tree.Rule) -> str:
    """A digest of what a rule says, its name, its documentation and its layout left out."""
    plain = dataclasses.replace(rule, doc="", name="")
    return hashlib.sha256(repr(plain).encode()).hexdigest()[:32]


@cache
def _shipped() -> Record:
    return _read(Path(str(files("tdsl.passes").joinpath(SHIPPED))))


@cache
def _own_path() -> Path:
    """Where a user's proofs are: a file for every state of the prover."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for room in ROOMS:
        for path in sorted((root / room).glob("*.py")):
            digest.update(path.read_bytes())
    return cache_folder() / "proofs" / f"{digest.hexdigest()[:16]}.json"


@cache
def _own() -> Record:
    return _read(_own_path())


def known(rule: tree.Rule) -> Verdict | None:
    """The verdict on a rule, if it is on record."""
    return known_by(key_of(rule))


def known_by(key: str) -> Verdict | None:
    """The verdict on the rule of that key, if it is on record."""
    return _shipped().verdicts.get(key) or _own().verdicts.get(key)


def outline(text: str) -> tuple[Line, ...] | None:
    """The rules of a file with that text, if they are on record: nothing has to be parsed then."""
    digest = _digest(text)
    return _shipped().outlines.get(digest) or _own().outlines.get(digest)


def outlines_of(texts: Iterable[str]) -> dict[str, tuple[Line, ...]]:
    """What is remembered of files with these texts."""
    found = {_digest(text): outline(text) for text in texts}
    return {digest: lines for digest, lines in found.items() if lines is not None}


def outline_of(text: str, rules: Sequence[tree.Rule]) -> Record:
    """What there is to remember of a file."""
    lines = tuple(Line(rule.name, rule.span.line, key_of(rule)) for rule in rules)
    return Record(outlines={_digest(text): lines})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def remember(verdicts: Mapping[str, Verdict], outlines: Mapping[str, tuple[Line, ...]] | None = None) -> None:
    """Put verdicts and outlines on the user's record, if that can be written."""
    if not verdicts and not outlines:
        return
    own = _own()
    own.verdicts.update(verdicts)
    own.outlines.update(outlines or {})
    with contextlib.suppress(OSError):
        _own_path().parent.mkdir(parents=True, exist_ok=True)
        there = _read(_own_path())
        together = Record({**there.verdicts, **own.verdicts}, {**there.outlines, **own.outlines})
        with whole(_own_path()) as part:
            write(part, together)


def write(path: Path, record: Record) -> None:
    """A record as the content of a file, in the order of the keys."""
    plain = {
        "rules": {key: _plain(record.verdicts[key]) for key in sorted(record.verdicts)},
        "files": {
            digest: [[line.name, line.line, line.key] for line in record.outlines[digest]]
            for digest in sorted(record.outlines)
        },
    }
    path.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _plain(verdict: Verdict) -> dict[str, Any]:
    record = dataclasses.asdict(verdict)
    return {name: value for name, value in record.items() if value not in (None, "", ())}


def _read(path: Path) -> Record:
    """What is in a file; nothing of a file that is not there or is damaged."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return Record(
            {key: _verdict(record) for key, record in plain["rules"].items()},
            {digest: tuple(Line(*line) for line in lines) for digest, lines in plain["files"].items()},
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Record()


def _verdict(record: Mapping[str, Any]) -> Verdict:
    example = record.get("counterexample")
    if example is not None:
        values = tuple((name, value) for name, value in example.get("values", ()))
        example = Counterexample(**{**example, "values": values})
    return Verdict(**{**record, "counterexample": example})
