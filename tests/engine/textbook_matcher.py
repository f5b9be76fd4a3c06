"""What a pattern means, by textbook backtracking; the generated matchers are tested against it.

A match assigns graph nodes to the terms of a pattern and values to its names, such that

* every term stands for nodes of its operator, applied to what its arguments match (`_argument`);
* two terms never share a graph node (`_injective`), while two names may have one value;
* a node that goes away with the left side is used by the left side only (`_closed`);
* element types, sizes and constancy are as written (`_typed`).

The order of preference is that of the generated matchers: attributes first, then operands (values
already bound, applications, lists, chains and trees, free names); operands of a commutative operator as
they stand, then exchanged, unless one is a literal; long chains before short ones; leaves of a tree from
the left; further roots through the users of the nearest value they share with what is matched.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pattern_parts import term_users, typed_binds
from torch import fx

from tdsl.engine.matching import MAX_LEAVES, REQUIRED_KEYWORD
from tdsl.engine.pattern import (
    ELLIPSIS,
    Anything,
    Apply,
    Arg,
    Attribute,
    Bind,
    Chain,
    Items,
    Literal,
    Nary,
    Pattern,
    Splat,
    Term,
    Type,
    binds,
    children,
)
from tdsl.engine.pattern_values import applies, equals, is_node, same_operators
from tdsl.engine.sizes import dtype_named, same, same_value, sizes_of

Match = tuple[tuple[fx.Node, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Partial:
    """What is matched so far; never changed, so that going back needs no undoing."""

    nodes: tuple[fx.Node, ...]
    env: Mapping[str, Any]
    values: Mapping[int, Any]
    """The graph value at which each term was met, by the term's `id`."""
    owned: Mapping[int, tuple[fx.Node, ...]]
    """The graph nodes that each term stands for; none for a chain of length zero."""

    def bound(self, name: str, value: Any) -> Iterator[_Partial]:
        """This with `name` bound to `value`, unless it has another value already."""
        if name not in self.env:
            yield replace(self, env={**self.env, name: value})
        elif same_value(self.env[name], value):
            yield self

    def standing_for(self, term: Term, value: Any, nodes: Sequence[fx.Node]) -> _Partial:
        """This with `nodes` assigned to `term`."""
        return replace(
            self,
            nodes=(*self.nodes, *nodes),
            values={**self.values, id(term): value},
            owned={**self.owned, id(term): tuple(nodes)},
        )


def matches(pattern: Pattern, root: fx.Node) -> Iterator[Match]:
    """Every match of `pattern` whose first root is `root`, the preferred ones first.

    Like the generated matcher it may yield a match more than once, and takes a `root` of the right
    operator for granted.
    """
    first, *others = pattern.roots
    free_names = frozenset(b.name for term in pattern.roots for b in binds(term) if b.optional)
    search = _Search(pattern, free_names)
    start = _Partial((), {}, {}, {})
    for partial in search.roots(others, search.term(first, root, start)):
        if not (_injective(partial) and search.closed(partial)):
            continue
        for typed in search.typed(partial):
            env = dict(typed.env)
            env.update({name: typed.values[id(term)] for name, term in pattern.kept})
            env.update({f"@{i}": typed.values[id(term)] for i, term in enumerate(pattern.watched)})
            yield typed.nodes, env


class _Search:
    """The search for the matches of one pattern."""

    def __init__(self, pattern: Pattern, optional: frozenset[str]) -> None:
        self.pattern = pattern
        self.optional = optional
        self.free = {id(t) for t in (*pattern.outputs, *(term for _, term in pattern.kept))}
        self.terms, self.each, self.users = term_users(pattern)
        self.declared = [b for root in pattern.roots for b in typed_binds(root)]

    # ------------------------------------------------------------ structure

    def roots(self, others: Sequence[Term], partials: Iterator[_Partial]) -> Iterator[_Partial]:
        """Extend each of `partials` by matches of the other roots, in turn."""
        if not others:
            yield from partials
            return
        first, *rest = others
        for partial in partials:
            for node in _reachable(first, partial):
                yield from self.roots(rest, self.term(first, node, partial))

    def term(self, term: Term, value: Any, partial: _Partial) -> Iterator[_Partial]:
        """Ways to match `term` at `value`; a term that is matched already must be met at the same value."""
        if id(term) in partial.values:
            if partial.values[id(term)] is value:
                yield partial
        elif isinstance(term, Chain):
            yield from self.chain(term, value, partial)
        elif isinstance(term, Nary):
            yield from self.tree(term, value, partial)
        elif applies(term, value):
            yield from self.apply(term, value, partial.standing_for(term, value, (value,)))

    def apply(self, term: Apply, node: fx.Node, partial: _Partial) -> Iterator[_Partial]:
        """Ways to match the arguments of `term` with those of `node`."""
        patterns, arguments = list(term.args), list(node.args)
        if term.variable is not None:
            while patterns and isinstance(patterns[-1], Anything):
                patterns.pop()
            arguments = arguments[: len(patterns)]
        if len(patterns) != len(arguments):
            return
        if term.variable is not None:
            known = partial.env.get(term.variable)
            if known is None:
                partial = replace(partial, env={**partial.env, term.variable: node})
            elif not same_operators(node, known):
                return
        first = node.args[0] if node.args else None
        fixed = [i for i, p in enumerate(patterns) if isinstance(p, _ATTRIBUTES)]
        before = [(patterns[i], arguments[i]) for i in fixed]
        for name, pattern, default in term.kwargs:
            if name not in node.kwargs and default is REQUIRED_KEYWORD:
                return
            before.append((pattern, node.kwargs.get(name, default)))
        orders = [arguments]
        if term.commutative and not {0, 1} & set(fixed):
            orders.append([arguments[1], arguments[0], *arguments[2:]])
        for ready in self.sequence(before, partial, first):
            rest = [i for i in range(len(patterns)) if i not in fixed]
            rest.sort(key=lambda i: _rank(patterns[i], ready))
            for order in orders:
                yield from self.sequence([(patterns[i], order[i]) for i in rest], ready, first)

    def sequence(
        self, pairs: Sequence[tuple[Arg, Any]], partial: _Partial, first: Any = None
    ) -> Iterator[_Partial]:
        """Ways to match every pattern with its value, the first pair's choices varying slowest."""
        if not pairs:
            yield partial
            return
        (pattern, value), *rest = pairs
        for extended in self.argument(pattern, value, partial, first):
            yield from self.sequence(rest, extended, first)

    def argument(self, pattern: Arg, value: Any, partial: _Partial, first: Any) -> Iterator[_Partial]:
        """Ways to match one argument; `first` is the operator's first one, whose rank axes refer to."""
        match pattern:
            case Anything():
                yield partial
            case Literal():
                if equals(pattern, value, first):
                    yield partial
            case Attribute(name=name):
                yield from partial.bound(name, value)
            case Bind(name=name):
                if value is not None or name in self.optional:
                    yield from partial.bound(name, value)
            case Items(items=items):
                if isinstance(value, list | tuple):
                    yield from self.items(items, value, partial, first)
            case Splat():
                raise ValueError("a splat stands in a list")
            case _:
                yield from self.term(pattern, value, partial)

    def items(
        self, items: Sequence[Arg], values: Sequence[Any], partial: _Partial, first: Any
    ) -> Iterator[_Partial]:
        """Ways to match a list element by element, a splat taking what the others leave."""
        if not items:
            if not values:
                yield partial
            return
        head, *tail = items
        if not isinstance(head, Splat):
            if values:
                for extended in self.argument(head, values[0], partial, first):
                    yield from self.items(tail, values[1:], extended, first)
            return
        count = len(values) - len(tail)
        if count >= 0:
            for extended in self.splat(head, tuple(values[:count]), partial):
                yield from self.items(tail, values[count:], extended, first)

    def splat(self, splat: Splat, values: tuple[Any, ...], partial: _Partial) -> Iterator[_Partial]:
        """Bind all of `values`; with `each`, their first operands, all else about them being the same."""
        each = splat.each
        if each is None:
            yield from partial.bound(splat.name, values)
            return
        if not values or not all(applies(each, value) for value in values):
            return
        model = values[0]
        if not all(
            v.target is model.target and v.args[1:] == model.args[1:] and v.kwargs == model.kwargs
            for v in values
        ):
            return
        alike = replace(each, args=(Anything(), *each.args[1:]), commutative=False)
        owning = partial.standing_for(each, model, values)
        for extended in self.apply(alike, model, owning):
            yield from extended.bound(splat.name, tuple(v.args[0] for v in values))

    def chain(self, chain: Chain, value: Any, partial: _Partial) -> Iterator[_Partial]:
        """Ways to match a chain that begins at `value`; an output or root of the pattern is never empty."""
        links: list[fx.Node] = []
        below = [value]
        while is_node(below[-1]) and below[-1].target in chain.targets:
            links.append(below[-1])
            below.append(below[-1].args[0])
        removed = (*self.pattern.outputs, *self.pattern.roots)
        least = max(chain.least, 1) if any(chain is term for term in removed) else chain.least
        most = len(links) if chain.most is None else min(chain.most, len(links))
        for length in range(most, least - 1, -1):
            taken = tuple(links[:length])
            here = partial.standing_for(chain, value, taken)
            if not same_operators(taken, here.env.get(chain.variable, taken)):
                continue
            here = replace(here, env={chain.variable: taken, **here.env})
            yield from self.argument(chain.inner, below[length], here, None)

    def tree(self, tree: Nary, value: Any, partial: _Partial) -> Iterator[_Partial]:
        """Ways to match the operands of the largest tree of one operator that nothing else looks into."""
        inner: list[fx.Node] = []
        leaves = _leaves(value, tree.target, inner, top=True)
        if not inner or len(leaves) > MAX_LEAVES:
            return
        here = partial.standing_for(tree, value, inner)
        if not tree.commutative:
            yield from self.items(tree.items, leaves, here, None)
            return
        fixed = [item for item in tree.items if not isinstance(item, Splat)]
        fixed.sort(key=lambda item: _rank(item, here))
        rest = next((item for item in tree.items if isinstance(item, Splat)), None)
        yield from self.leaves(fixed, rest, dict(enumerate(leaves)), here)

    def leaves(
        self, fixed: Sequence[Arg], rest: Splat | None, leaves: Mapping[int, Any], partial: _Partial
    ) -> Iterator[_Partial]:
        """Ways to give each of `fixed` a leaf of its own, and `rest` the others."""
        if not fixed:
            if rest is not None:
                yield from self.splat(rest, tuple(leaves.values()), partial)
            elif not leaves:
                yield partial
            return
        for index, leaf in leaves.items():
            others = {i: other for i, other in leaves.items() if i != index}
            for extended in self.argument(fixed[0], leaf, partial, None):
                yield from self.leaves(fixed[1:], rest, others, extended)

    # ------------------------------------------------------------ side conditions

    def closed(self, partial: _Partial) -> bool:
        """Whether nodes that go away are used by nothing but the terms that use them in the pattern."""
        for term, nodes in zip(self.terms, (partial.owned[id(t)] for t in self.terms), strict=True):
            if isinstance(term, Chain) and any(set(b.users) != {a} for a, b in itertools.pairwise(nodes)):
                return False
            ends = nodes if id(term) in self.each else nodes[:1]
            if id(term) not in self.free and any(
                not set(node.users) <= self.consumers(term, partial) for node in ends
            ):
                return False
        return True

    def consumers(self, term: Term, partial: _Partial) -> set[fx.Node]:
        """The nodes of the terms that use `term`, across chains of length zero."""
        found: set[fx.Node] = set()
        for user in self.users[id(term)]:
            found |= set(partial.owned[id(user)]) or self.consumers(user, partial)
        return found

    def typed(self, partial: _Partial) -> Iterator[_Partial]:
        """`partial` with the sizes that the types name, if every type holds; required operands first."""
        types = [(b, partial.env[b.name]) for b in self.declared]
        types.sort(key=lambda entry: entry[0].name in self.optional)
        env = dict(partial.env)
        for bind, value in types:
            assert bind.type is not None
            absent = value is None and bind.name in self.optional
            if not absent and not _has_type(value, bind.type, env):
                return
        yield replace(partial, env=env)


_ATTRIBUTES = (Literal, Attribute, Anything)


def _injective(partial: _Partial) -> bool:
    """Whether no two terms share a graph node."""
    return len(set(partial.nodes)) == len(partial.nodes)


def _rank(pattern: Arg, partial: _Partial) -> int:
    """The place of an operand in the order of visits."""
    if isinstance(pattern, Bind):
        return 0 if pattern.name in partial.env else 3
    return 1 if isinstance(pattern, Apply) else 2


def _leaves(value: Any, target: Any, inner: list[fx.Node], *, top: bool) -> list[Any]:
    """Leaves of the tree of `target` under `value`, left to right; its nodes are added to `inner`."""
    inside = is_node(value) and value.target is target and not value.kwargs and (top or len(value.users) == 1)
    if not inside:
        return [value]
    inner.append(value)
    left, right = value.args
    if left is right:
        return [left, right]
    return _leaves(left, target, inner, top=False) + _leaves(right, target, inner, top=False)


def _reachable(root: Term, partial: _Partial) -> Iterator[fx.Node]:
    """Nodes that may be `root`: users, level by level, of the nearest value below it that is known."""
    frontier: list[tuple[Arg, tuple[Apply, ...]]] = [(root, ())]
    while frontier:
        for arg, above in frontier:
            if id(arg) in partial.values:
                yield from _climb(partial.values[id(arg)], above)
                return
            if isinstance(arg, Bind) and arg.name in partial.env:
                yield from _climb(partial.env[arg.name], above)
                return
        frontier = [
            (child, (arg, *above) if isinstance(arg, Apply) else above)
            for arg, above in frontier
            if not isinstance(arg, Chain | Nary)
            for child in children(arg)
        ]
    raise ValueError("the outputs of a pattern must share a value")


def _climb(value: Any, terms: Sequence[Apply]) -> Iterator[fx.Node]:
    """Nodes that apply the last of `terms` to … to the first of them to `value`."""
    if not terms:
        yield value
    elif is_node(value):
        for user in value.users:
            if applies(terms[0], user):
                yield from _climb(user, terms[1:])


def _has_type(value: Any, type_: Type, env: dict[str, Any]) -> bool:
    """Whether `value` is as written; sizes named for the first time are added to `env`."""
    if type_.const and not (is_node(value) and value.op == "get_attr"):
        return False
    if type_.dtype is not None and not dtype_named(value, type_.dtype):
        return False
    if type_.dims is None:
        return True
    sizes, dims = sizes_of(value), list(type_.dims)
    if sizes is None:
        return False
    if ELLIPSIS in dims:
        dots = dims.index(ELLIPSIS)
        extra = len(sizes) - (len(dims) - 1)
        if extra < 0:
            return False
        sizes = (*sizes[:dots], *sizes[dots + extra :])
        del dims[dots]
    return len(sizes) == len(dims) and all(
        same(size, dim if isinstance(dim, int) else env.setdefault(dim, size))
        for size, dim in zip(sizes, dims, strict=True)
    )
