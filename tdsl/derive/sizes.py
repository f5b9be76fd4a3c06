"""Which sizes of the operands are one: what tracing both functions found, brought together.

Each axis of an operand is a symbol, a number or an expression in either trace, and outputs of the two have
equal sizes. What these equations leave open is a variable; what they fix is a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sympy
import torch

from tdsl.derive.trace import Traced
from tdsl.engine.unparse import NOWHERE, literal
from tdsl.errors import TdslError
from tdsl.lang import tree

Axis = tuple[str, int]
"""An operand and one of its axes."""


class Sizes:
    """The variables and numbers that the axes of the operands are."""

    def __init__(self, before: Traced, after: Traced, example: Mapping[str, torch.Tensor]) -> None:
        self.traces = {"before": before, "after": after}
        self.example = {
            (name, i): size for name, value in example.items() for i, size in enumerate(value.shape)
        }
        self._parent: dict[Any, Any] = {}
        self.numbers: dict[Any, int] = {}
        """What a class of equal sizes is fixed to, by the class's root."""
        self.computed: dict[Axis, tuple[str, Any]] = {}
        """Axes whose size is an expression of others."""
        self._read_axes()
        self._equate_outputs(before, after)

    # ------------------------------------------------------------ classes of equal sizes

    def root(self, key: Any) -> Any:
        """What stands for the class of an axis, or of a symbol of one trace."""
        while (above := self._parent.setdefault(key, key)) != key:
            key = above
        return key

    def _union(self, one: Any, other: Any) -> None:
        a, b = self.root(one), self.root(other)
        if a != b:
            # An axis stands for its class, the first one in the order of the operands.
            first, second = (a, b) if _is_axis(a) and (not _is_axis(b) or self._before(a, b)) else (b, a)
            self._parent[second] = first
            if second in self.numbers:
                self.numbers[first] = self.numbers.pop(second)

    def _before(self, one: Axis, other: Axis) -> bool:
        order = list(self.example)
        return order.index(one) <= order.index(other)

    def _read_axes(self) -> None:
        compound: list[tuple[Axis, str, Any]] = []
        for label, axis, expr in self._axes():
            if isinstance(expr, int):
                self.numbers[self.root(axis)] = expr
            elif expr.is_Symbol:
                self._union(axis, (label, expr))
            else:
                compound.append((axis, label, expr))
        for axis, label, expr in compound:
            own = self._members(axis) - {axis}
            bound = all(any(map(_is_axis, self._members((label, s)))) for s in expr.free_symbols)
            if own or axis in self.computed or not bound:
                self._fix(label, expr)
                self.numbers[self.root(axis)] = self.example[axis]
            else:
                self.computed[axis] = (label, expr)

    def _axes(self) -> Iterator[tuple[str, Axis, Any]]:
        for label, traced in self.traces.items():
            for name, node in traced.inputs.items():
                for i, size in enumerate(node.meta["val"].shape):
                    yield label, (name, i), size.node.expr if isinstance(size, torch.SymInt) else int(size)

    def _members(self, key: Any) -> set[Any]:
        root = self.root(key)
        return {known for known in list(self._parent) if self.root(known) == root}

    def _fix(self, label: str, expr: Any) -> None:
        """Fix every symbol of an expression to its number in the example."""
        for symbol in expr.free_symbols:
            root = self.root((label, symbol))
            if _is_axis(root):
                self.numbers[root] = self.example[root]

    # ------------------------------------------------------------ outputs

    def _equate_outputs(self, before: Traced, after: Traced) -> None:
        if len(before.outputs) != len(after.outputs):
            raise TdslError(
                f"{before.function.name} returns {len(before.outputs)} tensors, and"
                f" {after.function.name} {len(after.outputs)}",
                after.function.span,
            )
        for one, other in zip(before.outputs, after.outputs, strict=True):
            shapes = [list(node.meta["val"].shape) for node in (one, other)]
            if len(shapes[0]) != len(shapes[1]):
                raise self._differ(before, after, one, other)
            for a, b in zip(*shapes, strict=True):
                self._equate(_expr(a), _expr(b))
            for a, b in zip(*shapes, strict=True):
                if self.value("before", _expr(a)) != self.value("after", _expr(b)):
                    raise self._differ(before, after, one, other)

    def _equate(self, one: Any, other: Any) -> None:
        a, b = self.value("before", one), self.value("after", other)
        if sympy.simplify(a - b) == 0:
            return
        if getattr(one, "is_Symbol", False) and getattr(other, "is_Symbol", False):
            self._union(("before", one), ("after", other))
            return
        for label, expr in (("before", one), ("after", other)):
            if not isinstance(expr, int):
                self._fix(label, expr)

    def _differ(self, before: Traced, after: Traced, one: Any, other: Any) -> TdslError:
        shapes = [self.shown(label, n.meta["val"].shape) for label, n in (("before", one), ("after", other))]
        return TdslError(
            f"the results have different sizes: {before.function.name} returns {shapes[0]},"
            f" {after.function.name} {shapes[1]}",
            after.line_of(other),
        )

    def shown(self, label: str, shape: Any) -> str:
        """A shape for people, in numbers of the example."""
        values = [self.value(label, _expr(size)) for size in shape]
        numbers = {self._symbol(axis): size for axis, size in self.example.items()}
        return str([int(sympy.sympify(value).subs(numbers)) for value in values])

    # ------------------------------------------------------------ what is found

    def _symbol(self, root: Any) -> Any:
        return sympy.Symbol(str(root), integer=True, positive=True)

    def value(self, label: str, expr: Any) -> Any:
        """An expression of one trace in the variables (symbols named after roots) and numbers found."""
        if isinstance(expr, int):
            return sympy.Integer(expr)
        roots = {symbol: self.root((label, symbol)) for symbol in expr.free_symbols}
        return expr.subs({s: self.numbers.get(root, self._symbol(root)) for s, root in roots.items()})

    def variables(self) -> list[Axis]:
        """The classes that are not fixed, each by its first axis, in the order of the operands."""
        roots = [self.root(axis) for axis in self.example if axis not in self.computed]
        return [root for root in dict.fromkeys(roots) if root not in self.numbers]

    def least(self) -> dict[Axis, int]:
        """Variables that must be larger than 2, with the smallest value that they may have."""
        found: dict[Axis, int] = {}
        for label, traced in self.traces.items():
            for symbol, least in traced.least.items():
                root = self.root((label, symbol))
                if _is_axis(root) and root not in self.numbers:
                    found[root] = max(least, found.get(root, 0))
        return found

    def size(self, label: str, expr: Any, names: Mapping[Axis, str]) -> tree.Expr:
        """A size of one trace as the language has it, variables by their `names`. Raises `ValueError`."""
        value = self.value(label, expr)
        return _written(value, {str(root): name for root, name in names.items()})

    def dims(self, name: str, names: Mapping[Axis, str]) -> tuple[tree.Expr, ...]:
        """The sizes of an operand. Raises `ValueError` for one that cannot be written."""
        return tuple(
            self.size(*self.computed[axis], names)
            if axis in self.computed
            else literal(self.numbers[root])
            if (root := self.root(axis)) in self.numbers
            else tree.Name(id=names[root], span=NOWHERE)
            for axis in self.example
            if axis[0] == name
        )


def _is_axis(key: Any) -> bool:
    return isinstance(key[1], int)


def _expr(size: Any) -> Any:
    return size.node.expr if isinstance(size, torch.SymInt) else int(size)


_DIVISIONS = {"FloorDiv": "//", "CleanDiv": "//", "PythonMod": "%", "Mod": "%"}


def _written(value: Any, names: Mapping[str, str]) -> tree.Expr:
    """A sympy expression as a term: sums, products, powers, whole quotients and remainders."""
    if value.is_Integer:
        return literal(int(value))
    if value.is_Symbol:
        return tree.Name(id=names[str(value)], span=NOWHERE)
    if value.is_Add:
        first, *others = sorted(value.args, key=lambda part: (part.could_extract_minus_sign(), str(part)))
        total = _written(first, names)
        for part in others:
            negative = part.could_extract_minus_sign()
            operand = _written(-part if negative else part, names)
            total = tree.Binary(operator="-" if negative else "+", left=total, right=operand, span=NOWHERE)
        return total
    if value.is_Mul:
        product, *factors = (_written(part, names) for part in value.args)
        for factor in factors:
            product = tree.Binary(operator="*", left=product, right=factor, span=NOWHERE)
        return product
    sign = "**" if value.is_Pow and value.exp.is_Integer and value.exp > 0 else None
    sign = sign or _DIVISIONS.get(type(value).__name__)
    if sign is None:
        raise ValueError(f"the size {value} has no form in the language")
    left, right = (_written(part, names) for part in value.args)
    return tree.Binary(operator=sign, left=left, right=right, span=NOWHERE)
