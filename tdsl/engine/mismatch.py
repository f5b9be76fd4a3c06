"""Part of a match, what is wrong about it, and the words for that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import fx

from tdsl.engine.pattern import Nary, Term
from tdsl.engine.text import call_text, value_text
from tdsl.errors import Span
from tdsl.ops.targets import operator_of


@dataclass(frozen=True, slots=True, eq=False)
class Mismatch:
    """One thing that a pattern asks for and a graph does not have."""

    kind: str
    """`operator`, `sibling`, `attribute`, `operand`, `value`, `const`, `dtype`, `size`, `use`, `shared` or
    `count`."""
    message: str
    span: Span | None
    value: Any = None
    """What stands in the graph where the mismatch is."""
    term: Term | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """Part of a match."""

    env: Mapping[str, Any]
    matched: tuple[tuple[Term, tuple[fx.Node, ...]], ...] = ()
    mismatches: tuple[Mismatch, ...] = ()

    @property
    def merit(self) -> tuple[int, int]:
        """How good it is; more is better."""
        return len(self.matched), -len(self.mismatches)

    @property
    def satisfied(self) -> int:
        """Terms matched about which nothing is wrong."""
        return sum(not any(m.term is term for m in self.mismatches) for term, _ in self.matched)

    def nodes(self, term: Term) -> tuple[fx.Node, ...] | None:
        """The graph nodes that `term` stands for; `None` where it met none."""
        return next((nodes for known, nodes in self.matched if known is term), None)

    def bound(self, name: str, value: Any) -> Partial:
        """This with `name` bound."""
        return replace(self, env={**self.env, name: value})

    def but(self, mismatch: Mismatch) -> Partial:
        """This with one more mismatch."""
        return replace(self, mismatches=(*self.mismatches, mismatch))


def operator_name(target: Any) -> str:
    """The language's name of an operator, or torch's where it has none."""
    op = operator_of(target)
    return op.name if op else target if isinstance(target, str) else getattr(target, "__name__", str(target))


def operators_text(term: Term) -> str:
    """The operators that a term may stand for: `relu`, or `max_pool2d or avg_pool2d`, or `f, an operator`."""
    if isinstance(term, Nary):
        return operator_name(term.target)
    names = list(dict.fromkeys(operator_name(target) for target in term.targets))
    if len(names) <= 3:
        return " or ".join(names)
    return f"{term.variable} (one of {names[0]}, {names[1]}, … {len(names)} operators)"


def value_described(value: Any) -> str:
    """A value of the graph as people name it: an application, an input, a weight, a number."""
    if not isinstance(value, fx.Node):
        return "nothing" if value is None else value_text(value)
    if value.op == "placeholder":
        return f"the input {value.name}"
    return f"the weight {value.target}" if value.op == "get_attr" else call_text(value)


def best(partials: Iterable[Partial]) -> Partial:
    """The first of those with the most merit."""
    return max(partials, key=lambda partial: partial.merit)
