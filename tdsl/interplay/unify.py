"""Unification of plain terms (Robinson, 1965), operands of commutative operators in both orders.

Sizes in the types of variables are unified with them, as far as they are names and numbers. Whether an
instance has the shapes that rules want is left to those who draw instances.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tdsl.interplay.forms import Form, changed, default_of
from tdsl.lang import tree
from tdsl.lang.vocabulary import Vocabulary
from tdsl.lang.walk import walk
from tdsl.ops.spec import REQUIRED


@dataclass(frozen=True)
class Unifier:
    """What variables stand for, and what is known of those that stand for themselves."""

    vocabulary: Vocabulary
    rigid: frozenset[str]
    """Names of results: what they stand for is fixed."""
    bindings: Mapping[str, tree.Expr] = field(default_factory=dict)
    types: Mapping[str, tree.TensorType] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    """Variables that are no optional operands."""

    @classmethod
    def of(cls, forms: Iterable[Form]) -> Unifier:
        """Nothing bound yet, between forms that share no names."""
        types: dict[str, tree.TensorType] = {}
        required: set[str] = set()
        rigid: set[str] = set()
        vocabulary = None
        for form in forms:
            vocabulary = form.vocabulary
            rigid |= {name for equation in form.lhs for name in equation.names}
            for node in (n for e in form.lhs for n in walk(e.term)):
                if isinstance(node, tree.Declared):
                    if node.type is not None:
                        types.setdefault(node.name, node.type)
                    if not node.optional:
                        required.add(node.name)
                elif isinstance(node, tree.Name):
                    required.add(node.id)
            optional = {
                n.name for e in form.lhs for n in walk(e) if isinstance(n, tree.Declared) and n.optional
            }
            required -= optional
        assert vocabulary is not None
        return cls(vocabulary, frozenset(rigid), {}, types, frozenset(required))

    # ------------------------------------------------------------ the result

    def applied(self, value: Any) -> Any:
        """A term or clause with the variables replaced, those left over with what is known of them."""

        def replaced(node: Any) -> Any:
            if not isinstance(node, tree.Name | tree.Declared):
                return node
            found = self._seen(node)
            name = _variable(found)
            if not name:
                return self.applied(found) if found is not node else node
            written = self.types.get(name)
            optional = isinstance(node, tree.Declared) and name not in self.required
            if written is None and not optional:
                return tree.Name(name, span=node.span)
            if written is not None and written.dims is not None:
                written = dataclasses.replace(written, dims=self.applied(written.dims))
            return tree.Declared(name, written, optional, span=node.span)

        return changed(value, replaced)

    def _seen(self, expr: Any) -> Any:
        while (name := _variable(expr)) in self.bindings:
            expr = self.bindings[name]
        return expr

    def bound(self, name: str, value: tree.Expr) -> Unifier:
        """The same with a name bound."""
        return dataclasses.replace(self, bindings={**self.bindings, name: value})

    # ------------------------------------------------------------ terms

    def unified(self, one: Any, other: Any) -> Iterator[Unifier]:
        """Every way in which two terms are one."""
        one, other = self._seen(one), self._seen(other)
        first, second = _variable(one), _variable(other)
        if first and first == second:
            yield self
        elif first and first not in self.rigid:
            yield from self._bind(first, other)
        elif second and second not in self.rigid:
            yield from self._bind(second, one)
        elif isinstance(one, tree.Call) and isinstance(other, tree.Call):
            if one.callee == other.callee and one.callee in self.vocabulary.operators:
                yield from self._calls(one, other)
        elif isinstance(one, tree.ListOf) and isinstance(other, tree.ListOf):
            if len(one.items) == len(other.items):
                yield from self._all(list(zip(one.items, other.items, strict=True)))
        elif isinstance(one, tree.Constant) and isinstance(other, tree.Constant):
            if _same_constant(one.value, other.value):
                yield self
        elif _is_computed(one) or _is_computed(other):
            yield self  # a size or number that is computed may be any

    def _all(self, pairs: list[tuple[Any, Any]]) -> Iterator[Unifier]:
        if not pairs:
            yield self
            return
        for found in self.unified(*pairs[0]):
            yield from found._all(pairs[1:])

    def _calls(self, one: tree.Call, other: tree.Call) -> Iterator[Unifier]:
        operator = self.vocabulary.operators[one.callee]
        mine = {a.name: a.value for a in one.arguments}
        theirs = {a.name: a.value for a in other.arguments}
        pairs: dict[str, tuple[Any, Any]] = {}
        for param in operator.params:
            if param.name not in mine and param.name not in theirs:
                continue
            if param.name in mine and param.name in theirs:
                pairs[param.name] = (mine[param.name], theirs[param.name])
                continue
            given = mine.get(param.name, theirs.get(param.name))
            if not param.is_operand and param.default is REQUIRED:
                return
            if param.is_operand and self._is_required(given):
                return
            absent = tree.Constant(None, span=one.span)
            pair = (given, absent if param.is_operand else default_of(param, one.span))
            pairs[param.name] = pair
        yield from self._all(list(pairs.values()))
        if operator.commutative and len(operator.operands) > 1:
            x, y = (p.name for p in operator.operands[:2])
            if x in pairs and y in pairs:
                crossed = {**pairs, x: (pairs[x][0], pairs[y][1]), y: (pairs[y][0], pairs[x][1])}
                yield from self._all(list(crossed.values()))

    def _is_required(self, side: Any) -> bool:
        return _variable(self._seen(side)) in self.required

    # ------------------------------------------------------------ variables

    def _bind(self, name: str, value: Any) -> Iterator[Unifier]:
        other = _variable(value)
        written = self.types.get(name)
        if other:
            yield from self._merge(name, other, value)
            return
        if written is not None:
            number = isinstance(value, tree.Constant) and value.value is not None
            if (number and written.dims) or (isinstance(value, tree.Call) and written.const):
                return
        if any(_variable(self._seen(node)) == name for node in walk(value)):
            return
        yield self.bound(name, value)

    def _merge(self, name: str, other: str, value: tree.Expr) -> Iterator[Unifier]:
        mine, theirs = self.types.get(name), self.types.get(other)
        result = self.bound(name, value)
        if name in self.required:
            result = dataclasses.replace(result, required=result.required | {other})
        if mine is None:
            yield result
            return
        if other in self.rigid and mine.const:
            return
        if theirs is not None:
            merged = result._types(mine, theirs)
            if merged is None:
                return
            result, mine = merged
        yield dataclasses.replace(result, types={**result.types, other: mine})

    def _types(self, one: tree.TensorType, other: tree.TensorType) -> tuple[Unifier, tree.TensorType] | None:
        if one.dtype and other.dtype and one.dtype != other.dtype:
            return None
        result, dims = self, one.dims if one.dims is not None else other.dims
        if one.dims is not None and other.dims is not None:
            found = self._dims(one.dims, other.dims)
            if found is None:
                return None
            result = found
            open_ = [d for d in (one.dims, other.dims) if _open(d)]
            closed = [d for d in (one.dims, other.dims) if not _open(d)]
            dims = closed[0] if closed else max(open_, key=len)
        return result, dataclasses.replace(
            one, const=one.const or other.const, dtype=one.dtype or other.dtype, dims=dims
        )

    def _dims(self, one: tuple[Any, ...], other: tuple[Any, ...]) -> Unifier | None:
        """Sizes from the front and from the back, up to where one of them leaves some open."""
        if not _open(one) and not _open(other):
            pairs = list(zip(one, other, strict=True)) if len(one) == len(other) else None
        else:
            pairs = []
            for first, second in ((one, other), (one[::-1], other[::-1])):
                for a, b in zip(first, second, strict=False):
                    if isinstance(a, tree.Ellipsis_) or isinstance(b, tree.Ellipsis_):
                        break
                    pairs.append((a, b))
        return None if pairs is None else next(self._all(pairs), None)


def _variable(expr: Any) -> str:
    return expr.id if isinstance(expr, tree.Name) else expr.name if isinstance(expr, tree.Declared) else ""


def _open(dims: tuple[Any, ...]) -> bool:
    return any(isinstance(dim, tree.Ellipsis_) for dim in dims)


def _is_computed(expr: Any) -> bool:
    return isinstance(expr, tree.Binary | tree.Unary)


def _same_constant(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and one == other
