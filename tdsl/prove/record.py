"""Proofs made before, found by the content of the rule: those shipped with the library, and a user's.

Shipped proofs are made anew by the tests. A user's hold as long as the prover and what it stands on are the
same files. Neither torch nor numpy is imported here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import tdsl
from tdsl.files import whole
from tdsl.lang import tree
from tdsl.prove.verdict import Counterexample, Verdict

ROOMS = ("lang", "ops", "factor", "prove")
"""What a proof stands on: the language, the operators' laws and meanings, promises, the prover."""

SHIPPED = "proofs.json"


def key_of(rule: tree.Rule) -> str:
    """A digest of what a rule says, its documentation and its layout left out."""
    plain = dataclasses.replace(rule, doc="", name="")
    return hashlib.sha256(repr(plain).encode()).hexdigest()[:32]


@cache
def _shipped() -> Mapping[str, Verdict]:
    return _read(Path(str(files("tdsl.passes").joinpath(SHIPPED))))


@cache
def _own_path() -> Path:
    """Where a user's proofs are: a file for every state of the prover."""
    digest = hashlib.sha256()
    root = Path(tdsl.__file__).parent
    for room in ROOMS:
        for path in sorted((root / room).glob("*.py")):
            digest.update(path.read_bytes())
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "tdsl" / "proofs" / f"{digest.hexdigest()[:16]}.json"


@cache
def _own() -> dict[str, Verdict]:
    return dict(_read(_own_path()))


def known(rule: tree.Rule) -> Verdict | None:
    """The verdict on a rule, if it is on record."""
    key = key_of(rule)
    return _shipped().get(key) or _own().get(key)


def remember(verdicts: Mapping[str, Verdict]) -> None:
    """Put verdicts, by the keys of their rules, on the user's record, if that can be written."""
    if not verdicts:
        return
    _own().update(verdicts)
    with contextlib.suppress(OSError):
        _own_path().parent.mkdir(parents=True, exist_ok=True)
        write(_own_path(), {**_read(_own_path()), **verdicts})


def write(path: Path, verdicts: Mapping[str, Verdict]) -> None:
    """A record as a file, in the order of the keys."""
    records = {key: _plain(verdicts[key]) for key in sorted(verdicts)}
    with whole(path) as part:
        part.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _plain(verdict: Verdict) -> dict[str, Any]:
    record = dataclasses.asdict(verdict)
    return {name: value for name, value in record.items() if value not in (None, "", ())}


def _read(path: Path) -> Mapping[str, Verdict]:
    """The verdicts of a file; none of a file that is not there or is damaged."""
    try:
        records: Iterable[tuple[str, Any]] = json.loads(path.read_text(encoding="utf-8")).items()
        return {key: _verdict(record) for key, record in records}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _verdict(record: Mapping[str, Any]) -> Verdict:
    example = record.get("counterexample")
    if example is not None:
        values = tuple((name, value) for name, value in example.get("values", ()))
        example = Counterexample(**{**example, "values": values})
    return Verdict(**{**record, "counterexample": example})
