"""Patterns over FX graphs: what the left side of a rule means to the matcher.

A pattern is a small directed acyclic graph of `Apply` nodes, each standing for one graph node, whose
leaves bind values or compare attributes. Patterns know nothing of the language: rules written in
`.tdsl`, patterns traced from Python functions and `replace_pattern` all end here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from tdsl.errors import Span
from tdsl.ops import Param

ELLIPSIS = "..."
Dim = int | str
"""A size: a number, a variable's name, or `...` for any axes."""


@dataclass(frozen=True, slots=True)
class Type:
    """What is asked of a tensor: known at compile time, element type, sizes."""

    const: bool = False
    dtype: str | None = None
    dims: tuple[Dim, ...] | None = None


@dataclass(frozen=True, slots=True)
class Bind:
    """Binds any value; a name that is bound already must meet the same value again."""

    name: str
    type: Type | None = None
    optional: bool = False
    """Whether the operand may be absent (`None`)."""
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Attribute:
    """Binds an attribute (a number, a list, a text, …)."""

    name: str


@dataclass(frozen=True, slots=True)
class Literal:
    """An attribute that must have this value; `param` canonicalises axes once the rank is known."""

    value: Any
    param: Param | None = None
    span: Span | None = field(default=None, compare=False)
    exact: bool = False
    """Whether the value must be of the same class too: `1.0` promotes an integer tensor, `1` does not."""


@dataclass(frozen=True, slots=True)
class Anything:
    """An argument of no interest (the remaining attributes under an operator variable)."""


@dataclass(frozen=True, slots=True)
class Splat:
    """Inside `Items` or `Nary`: binds all remaining elements as a tuple.

    With `each`, every element must be an application of that operator to one operand, and the tuple
    holds these operands.
    """

    name: str
    each: Apply | None = None


@dataclass(frozen=True, slots=True)
class Items:
    """A list or tuple argument, element by element, at most one of them a `Splat`."""

    items: tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Apply:
    """One graph node: any of `targets` applied to `args`.

    `eq=False`: two `Apply` are the same only if they are the same object, for a value used twice in a
    pattern is one node of it.
    """

    targets: tuple[Any, ...]
    args: tuple[Arg, ...]
    kwargs: tuple[tuple[str, Arg, Any], ...] = ()
    """Keyword-only arguments: name, pattern, and the value that an absent one stands for."""
    op: str = "call_function"
    commutative: bool = False
    variable: str | None = None
    """The operator variable that this node binds, if any."""
    label: str = ""
    span: Span | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """`least` to `most` nodes in a row, each one of `targets` applied to the one before."""

    targets: tuple[Any, ...]
    variable: str
    inner: Arg
    least: int
    most: int | None
    span: Span | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Nary:
    """Operands of a tree of one associative operator, whatever its brackets."""

    target: Any
    items: tuple[Arg, ...]
    commutative: bool
    label: str = ""
    span: Span | None = None


Arg = Bind | Attribute | Literal | Anything | Items | Splat | Apply | Chain | Nary
Term = Apply | Chain | Nary


@dataclass(frozen=True)
class Pattern:
    """The terms to be matched together: `outputs` are replaced, `kept` stay as they are.

    Both hold roots and inner nodes; `roots` are the terms that no other term of the pattern uses. A match
    binds the name of each `kept` term to its graph node, and `"@i"` to that of the i-th `watched` term.
    """

    outputs: tuple[Term, ...]
    kept: tuple[tuple[str, Term], ...] = ()
    roots: tuple[Term, ...] = ()
    watched: tuple[Term, ...] = ()

    def output_nodes(self, nodes: Sequence[fx.Node], env: Mapping[str, Any]) -> tuple[fx.Node, ...]:
        """The graph nodes of the outputs in a match; `watched` lists them first where there are several."""
        if self._one_output:
            return (nodes[0],)
        return tuple(env[f"@{i}"] for i in range(len(self.outputs)))

    @functools.cached_property
    def _one_output(self) -> bool:
        """Whether the only output is the only root, which a match lists first."""
        return len(self.outputs) == 1 and self.roots == self.outputs

    def terms(self) -> Iterator[Term]:
        """Every term once, roots first, in the order a reader meets them."""
        seen: set[int] = set()
        for root in self.roots:
            yield from walk(root, seen)

    def users(self) -> dict[int, list[Term]]:
        """For each term, by its `id`, the other terms of the pattern that use it, each once."""
        users: dict[int, dict[int, Term]] = {}

        def visit(arg: Arg, user: Term) -> None:
            for child in children(arg):
                if isinstance(child, Term):
                    users.setdefault(id(child), {})[id(user)] = user
                elif not isinstance(child, Splat):
                    visit(child, user)

        for term in self.terms():
            visit(term, term)
            users.setdefault(id(term), {})
        return {key: list(value.values()) for key, value in users.items()}

    def depth(self) -> int:
        """Length of the longest path from a root to a term; chains count as three."""
        return max(_depth(root) for root in self.roots)

    @functools.cached_property
    def targets(self) -> frozenset[Any]:
        """Targets of every term, those that repeat over a list included."""
        return frozenset(target for term, _, _ in self._reached for target in targets_of(term))

    @functools.cached_property
    def needs(self) -> tuple[tuple[Any, ...], ...]:
        """For each term that every match needs, the targets of which its node has one; each set once."""
        needed = (term for term, _, _ in self._reached if not (isinstance(term, Chain) and term.least == 0))
        return tuple(dict.fromkeys(targets_of(term) for term in needed))

    @functools.cached_property
    def ways(self) -> tuple[tuple[Term, ...], ...]:
        """Paths from a term up to the first root along which each term is an operand of the next one."""
        first = self.roots[0]
        found = [
            path
            for term, path, direct in self._reached
            if direct and path[-1] is first and isinstance(term, Apply)
        ]
        return tuple(found) or ((first,),)

    @functools.cached_property
    def _reached(self) -> list[tuple[Term, tuple[Term, ...], bool]]:
        """Every term on every way to it: the path up to a root, and whether that leads by operands alone."""
        found: list[tuple[Term, tuple[Term, ...], bool]] = []
        for root in self.roots:
            stack: list[tuple[Arg, tuple[Term, ...], bool]] = [(root, (), True)]
            while stack:
                arg, above, direct = stack.pop()
                if isinstance(arg, Term):
                    above = (arg, *above)
                    found.append((arg, above, direct))
                    direct = direct and isinstance(arg, Apply)
                stack.extend((child, above, direct) for child in children(arg))
        return found


def targets_of(term: Term) -> tuple[Any, ...]:
    """The targets that the graph node of a term, or the first of its nodes, may have."""
    return (term.target,) if isinstance(term, Nary) else term.targets


def children(arg: Arg) -> tuple[Arg, ...]:
    """The patterns directly below `arg`."""
    if isinstance(arg, Apply):
        return (*arg.args, *(value for _, value, _ in arg.kwargs))
    if isinstance(arg, Items | Nary):
        return arg.items
    if isinstance(arg, Chain):
        return (arg.inner,)
    if isinstance(arg, Splat) and arg.each is not None:
        return (arg.each,)
    return ()


def walk(arg: Arg, seen: set[int]) -> Iterator[Term]:
    """The terms at and below `arg` that are not in `seen`, each once."""
    if isinstance(arg, Term):
        if id(arg) in seen:
            return
        seen.add(id(arg))
        yield arg
    if isinstance(arg, Splat):
        return
    for child in children(arg):
        yield from walk(child, seen)


def binds(arg: Arg) -> Iterator[Bind]:
    """The bindings at and below `arg`, as often as they are written."""
    if isinstance(arg, Bind):
        yield arg
    for child in children(arg):
        yield from binds(child)


def _depth(arg: Arg) -> int:
    below = max((_depth(child) for child in children(arg)), default=0)
    return below + (3 if isinstance(arg, Chain | Nary) else 1 if isinstance(arg, Apply) else 0)


def find_roots(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """Those of `terms` that none of the others uses."""
    used: set[int] = set()
    for term in terms:
        below = {id(t) for child in children(term) for t in walk(child, set())}
        used |= below
    return tuple(t for t in terms if id(t) not in used)
