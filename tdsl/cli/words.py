"""What a rule may call: operators of the graph and compile-time functions, for `tdsl list`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """A name with how it is called and what it means. `kind` of a function is what it yields."""

    name: str
    kind: str
    signature: str
    doc: str


def operators() -> list[Word]:
    """The operator table by name; needs no torch."""
    from tdsl.ops import OPERATORS

    return [Word(op.name, "operator", op.signature, op.doc) for _, op in sorted(OPERATORS.items())]


def functions() -> list[Word]:
    """Functions that conditions and definitions may use, those of one kind together."""
    from tdsl.factor.table import vocabulary

    known = list(vocabulary().functions.values())
    known.sort(key=lambda f: (f.kind, f.name))
    return [Word(f.name, f.kind, f"{f.name}({', '.join(f.params)})", f.doc) for f in known]
