"""Traced functions as a rule: terms of both sides, operands with their types, sizes with their names."""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import fx

from tdsl.capture.normal import attribute
from tdsl.derive.function import Operand
from tdsl.derive.sizes import Axis, Sizes
from tdsl.derive.trace import Traced
from tdsl.engine.pattern import ELLIPSIS
from tdsl.engine.unparse import NOWHERE, NotExpressible, equations, literal
from tdsl.errors import TdslError
from tdsl.factor.table import vocabulary
from tdsl.lang import tree
from tdsl.lang.walk import walk
from tdsl.ops.targets import DTYPES

Side = tuple[tree.Equation, ...]

_LETTERS = "nmklhwijcopqrstuvdefgyzb"
_RESULTS = "pqrsuvyzabcdefghijklmn"
_RESERVED = frozenset({"where", "const", "div", "true", "false", "none", "lhs", "rhs", *keyword.kwlist})
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Wording:
    """The words for what two traced functions have in common."""

    def __init__(
        self, before: Traced, after: Traced, sizes: Sizes, loose: Mapping[Axis, int] | None = None
    ) -> None:
        self.before, self.after, self.sizes = before, after, sizes
        self.loose = loose or {}
        """Fixed sizes that are written as variables all the same, with their numbers."""
        operands = before.function.operands
        functions = {
            f.name for f in vocabulary().functions.values() if f.kind != "group"
        }  # A(n) is no matrix A
        known = {*vocabulary().operators, *functions, *DTYPES, *_RESERVED}
        self.operands = {o.name: f"{o.name}_" if o.name in known else o.name for o in operands}
        taken = {*self.operands.values(), *known}
        results = _fresh(_RESULTS, taken)
        count = len(before.outputs)
        self.results = [next(results) for _ in range(count)] if count > 1 else [""]
        taken |= set(self.results)
        self.variables = self._names_of_sizes(operands, taken)
        self.taken = taken | set(self.variables.values())
        self.attributes: dict[str, tree.Expr] = {}
        """Names of attributes of the pattern that are computed from sizes."""

    def _names_of_sizes(self, operands: Sequence[Operand], taken: set[str]) -> dict[Axis, str]:
        """A name for each size: that of an annotation, or a letter."""
        names: dict[Axis, str] = {}
        for operand in operands:
            for i, written in enumerate(operand.sizes or ()):
                root = self.sizes.root((operand.name, i))
                if isinstance(written, str) and written != ELLIPSIS and written not in taken:
                    names.setdefault(root, written)
        letters = _fresh(_LETTERS, taken | set(names.values()))
        wanted = [*self.sizes.variables(), *self.loose]
        return {root: names.get(root) or next(letters) for root in wanted}

    # ------------------------------------------------------------ sides

    def sides(self, shared: bool) -> tuple[Side, Side]:
        """Pattern and replacement, without types; `shared` names values that the pattern uses twice.

        Raises `TdslError` at the user's line for what cannot be written.
        """
        self.attributes.clear()
        left = self._side(self.before, "before", shared, pattern=True)
        right = self._side(self.after, "after", shared=False, pattern=False)
        if len(left) > 1 and not left[-1].names:
            # Of several lines each has a name.
            taken = self.taken | {name for line in left for name in line.names}
            names = (next(_fresh(_RESULTS, taken)),)
            left = (*left[:-1], replace(left[-1], names=names))
            right = tuple(replace(line, names=names) for line in right)
        given = {name for line in right for name in line.names}
        kept = {line.names[0]: line.term for line in left if line.names and not given & set(line.names)}
        return left, _using(right, kept)

    def _side(self, traced: Traced, label: str, shared: bool, pattern: bool) -> Side:
        names = {node: self.operands[name] for name, node in traced.inputs.items()}

        def leaf(node: fx.Node) -> tree.Expr | None:
            if node in names:
                return tree.Name(id=names[node], span=NOWHERE)
            return _constant(traced, node) if node.op == "get_attr" else None

        def size(expr: Any) -> tree.Expr:
            written = self.sizes.size(label, expr, self.variables)
            return self._bound(written) if pattern else written

        outputs = list(zip(self.results, traced.outputs, strict=True))
        try:
            return equations(outputs, leaf, self.taken, size=size, shared=shared, pattern=pattern)
        except NotExpressible as reason:
            raise TdslError(
                f"no rule can say this: {reason}",
                traced.line_of(reason.node),
                hint="write it in Python with `tdsl.rule`, whose replacement may compute anything",
            ) from None

    def _bound(self, size: tree.Expr) -> tree.Expr:
        """A size as an attribute of a pattern, which is a name or a number: another gets a name."""
        if isinstance(size, tree.Name | tree.Constant):
            return size
        known = next((name for name, value in self.attributes.items() if value == size), None)
        if known is None:
            known = next(_fresh(_LETTERS, self.taken | set(self.attributes)))
            self.attributes[known] = size
        return tree.Name(id=known, span=NOWHERE)

    # ------------------------------------------------------------ types

    def types(self, relaxed: bool) -> dict[str, tree.TensorType | None]:
        """The type of each operand; `relaxed` leaves out leading axes of inputs that nothing else needs."""
        return {
            self.operands[o.name]: self._type(o, relaxed and not o.const)
            for o in self.before.function.operands
        }

    def _type(self, operand: Operand, relaxed: bool) -> tree.TensorType | None:
        dims: tuple[tree.Expr | tree.Ellipsis_, ...] | None = self._dims(operand.name)
        if relaxed and dims is not None:
            needed = self._needed(operand.name)
            first = next((i for i, d in enumerate(dims) if self._is_needed(d, needed)), len(dims))
            dims = (tree.Ellipsis_(span=NOWHERE), *dims[first:]) if first else dims
            dims = None if len(dims) == 1 and isinstance(dims[0], tree.Ellipsis_) else dims
        dtype = None if operand.dtype is torch.float64 else _NAMES.get(operand.dtype)
        if not operand.const and dtype is None and dims is None:
            return None
        return tree.TensorType(const=operand.const, dtype=dtype, dims=dims, span=NOWHERE)

    def _dims(self, name: str) -> tuple[tree.Expr, ...]:
        try:
            dims = self.sizes.dims(name, self.variables)
        except ValueError as reason:
            raise TdslError(f"the sizes of `{name}`: {reason}", self.before.function.span) from None
        axes = [axis for axis in self.sizes.example if axis[0] == name]
        return tuple(
            tree.Name(id=self.variables[root], span=NOWHERE)
            if (root := self.sizes.root(axis)) in self.loose
            else dim
            for axis, dim in zip(axes, dims, strict=True)
        )

    def _needed(self, name: str) -> set[str]:
        """Names of sizes that something beside this axis of this operand speaks of."""
        dims = {o.name: self._dims(o.name) for o in self.before.function.operands}
        others = [d for other, own in dims.items() if other != name for d in own]
        terms = [equation.term for side in self.sides(shared=False) for equation in side]
        parts = (*others, *terms, *self.attributes.values())
        found = {node.id for part in parts for node in walk(part) if isinstance(node, tree.Name)}
        own = Counter(node.id for dim in dims[name] for node in walk(dim) if isinstance(node, tree.Name))
        return found | {size for size, count in own.items() if count > 1}

    def _is_needed(self, dim: tree.Expr | tree.Ellipsis_, needed: set[str]) -> bool:
        return not isinstance(dim, tree.Name) or dim.id in needed

    def conditions(self) -> tuple[tree.Condition, ...]:
        """What computed attributes are, and what sizes must be for the functions to run."""
        computed = [_condition("==", name, value) for name, value in self.attributes.items()]
        least = self.sizes.least().items()
        return (*computed, *(_condition(">=", self.variables[root], literal(n)) for root, n in least))


def _using(value: Any, kept: Mapping[str, tree.Expr]) -> Any:
    """A right side with the names of values that the left side keeps in their places."""
    name = next((name for name, term in kept.items() if term == value), None)
    if name is not None:
        return tree.Name(id=name, span=NOWHERE)
    if isinstance(value, tuple):
        return tuple(_using(part, kept) for part in value)
    if isinstance(value, tree.Node):
        parts = [f.name for f in fields(value) if f.name != "span"]
        return replace(value, **{part: _using(getattr(value, part), kept) for part in parts})
    return value


def _condition(relation: str, name: str, value: tree.Expr) -> tree.Condition:
    left = tree.Name(id=name, span=NOWHERE)
    test = tree.Binary(operator=relation, left=left, right=value, span=NOWHERE)
    return tree.Condition(test=test, span=NOWHERE)


def _constant(traced: Traced, node: fx.Node) -> tree.Expr:
    """A tensor that a function makes for itself: a number, if it is one."""
    value = attribute(traced.module, str(node.target))
    if isinstance(value, torch.Tensor) and value.dim() == 0:
        return literal(value.item())
    raise NotExpressible(node, "a tensor that is neither an operand nor computed from one")


def _fresh(letters: str, taken: Iterable[str]) -> Iterator[str]:
    used = set(taken)
    for suffix in ("", *map(str, range(1, 99))):
        yield from (f"{c}{suffix}" for c in letters if f"{c}{suffix}" not in used)


def declared(side: Side, types: Mapping[str, tree.TensorType | None], optional: frozenset[str]) -> Side:
    """`side` with the type of each name at its first occurrence."""
    seen: set[str] = set()

    def visit(value: Any) -> Any:
        if isinstance(value, tree.Name) and value.id in types and value.id not in seen:
            seen.add(value.id)
            type_ = types[value.id]
            if type_ is None and value.id not in optional:
                return value
            return tree.Declared(name=value.id, type=type_, optional=value.id in optional, span=NOWHERE)
        if isinstance(value, tuple):
            return tuple(visit(part) for part in value)
        if isinstance(value, tree.Node):
            parts = [f.name for f in fields(value) if f.name != "span"]
            return replace(value, **{name: visit(getattr(value, name)) for name in parts})
        return value

    result: Side = visit(side)
    return result
