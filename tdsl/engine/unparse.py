"""From a graph back to the language: terms of its nodes, equations of its outputs.

What the language has a shorter form for is written so: infix signs, attributes left out where they have
their defaults, one number for a list of equal ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from operator import getitem
from typing import Any

import torch
from torch import fx

from tdsl.errors import Source, Span
from tdsl.lang import tree
from tdsl.lang.vocabulary import INFIX
from tdsl.ops import Operator, Param
from tdsl.ops.spec import REQUIRED
from tdsl.ops.targets import DTYPES, operator_of

NOWHERE = Span(Source("", ""), 1, 1, 1, 1)
"""Where a term stands that nobody wrote."""

Leaf = Callable[[fx.Node], tree.Expr | None]
"""What a node is called (an input, a weight, a constant); `None` for one that is to be written out."""

_SIGNS = {name: sign for sign, name in INFIX.items()}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class NotExpressible(Exception):
    """A node that the language has no words for; the text says what it is."""

    def __init__(self, node: fx.Node, reason: str) -> None:
        super().__init__(reason)
        self.node = node


Size = Callable[[Any], tree.Expr]
"""How a symbolic size (sympy's) is written; raises `ValueError` for one that cannot be."""


def equations(
    outputs: Sequence[tuple[str, fx.Node]],
    leaf: Leaf,
    taken: Iterable[str] = (),
    *,
    size: Size | None = None,
    shared: bool = True,
    pattern: bool = False,
) -> tuple[tree.Equation, ...]:
    """Terms of `outputs` (name, empty for none, and node).

    A value that is used twice gets a line of its own, with a name that is not `taken`; unless `shared`, only
    an operator all of whose results are outputs does. In a `pattern` there is no `.T`, which depends on the
    number of axes. Raises `NotExpressible`.
    """
    return _Unparser(outputs, leaf, taken, size, shared, pattern).equations()


class _Unparser:
    def __init__(
        self,
        outputs: Sequence[tuple[str, fx.Node]],
        leaf: Leaf,
        taken: Iterable[str],
        size: Size | None,
        shared: bool,
        pattern: bool,
    ) -> None:
        self.pattern = pattern
        self.size = size
        self.share = shared
        self.outputs = outputs
        self.leaf = leaf
        self.taken = {*taken, *(name for name, _ in outputs)}
        self.names: dict[fx.Node, str] = {}
        """Values that have a line of their own."""

    def equations(self) -> tuple[tree.Equation, ...]:
        named = {node: name for name, node in self.outputs if name and self.leaf(node) is None}
        lines: list[tree.Equation] = []
        for node in self.shared(named):
            parts = _parts(node)
            if parts:
                names = tuple(named.get(part) or self.fresh() if part else self.fresh() for part in parts)
                self.names.update({part: n for part, n in zip(parts, names, strict=True) if part})
            else:
                names = (named.get(node) or self.fresh(),)
            lines.append(tree.Equation(names=names, term=self.term(node, top=True), span=NOWHERE))
            if not parts:
                self.names[node] = names[0]
        written = {name for line in lines for name in line.names}
        rest = [(name, node) for name, node in self.outputs if name not in written]
        rest.sort(key=lambda output: output[0] == "")
        for name, node in rest:
            term = self.term(node, top=node not in self.names)
            lines.append(tree.Equation(names=(name,) if name else (), term=term, span=NOWHERE))
        return tuple(lines)

    def shared(self, named: dict[fx.Node, str]) -> list[fx.Node]:
        """Values with a line of their own in graph order: used twice, several results, or named and used."""
        uses: dict[fx.Node, int] = {}
        stack = [node for _, node in self.outputs]
        seen: set[fx.Node] = set()
        while stack:
            node = stack.pop()
            if node.op != "call_function" or self.leaf(node) is not None:
                continue
            uses[node] = uses.get(node, 0) + 1
            if node not in seen:
                seen.add(node)
                fx.map_arg((node.args, node.kwargs), stack.append)
        several = {node for node in seen if _parts(node)}
        if not self.share:
            whole = {node for node in several if all(part in named for part in _parts(node))}
            return sorted(whole)
        taken_apart = {part for node in several for part in _parts(node) if part}
        return [n for n in sorted(seen) if n in several or (uses[n] > 1 and n not in taken_apart)]

    def fresh(self) -> str:
        name = next(n for n in _numbered("h") if n not in self.taken)
        self.taken.add(name)
        return name

    # ------------------------------------------------------------ terms

    def term(self, node: fx.Node, top: bool = False) -> tree.Expr:
        known = self.leaf(node)
        if known is not None:
            return known
        if not top and node in self.names:
            return tree.Name(id=self.names[node], span=NOWHERE)
        op = operator_of(node.target)
        if op is None:
            raise NotExpressible(node, f"`{node.target}` is no operator of the language")
        values = [(p, v) for p, v in zip(op.params, node.args, strict=False) if not p.keyword_only]
        values += [(p, node.kwargs[p.name]) for p in op.params if p.name in node.kwargs]
        shown = [(p, v) for p, v in values if not _is_default(p, v)]
        return self.infix(op, node, shown) or self.call(op, node, shown)

    def infix(self, op: Operator, node: fx.Node, shown: list[tuple[Param, Any]]) -> tree.Expr | None:
        operands = [value for _, value in shown]
        if op.name == "permute" and not self.pattern and _exchanges_last(operands[1]):
            return tree.Unary(operator="T", operand=self.value(node, None, operands[0]), span=NOWHERE)
        if op.name == "neg" and len(operands) == 1:
            return tree.Unary(operator="-", operand=self.value(node, None, operands[0]), span=NOWHERE)
        if op.name not in _SIGNS or len(operands) != 2 or not all(p.is_operand for p, _ in shown):
            return None
        left, right = (self.value(node, p, v) for p, v in shown)
        return tree.Binary(operator=_SIGNS[op.name], left=left, right=right, span=NOWHERE)

    def call(self, op: Operator, node: fx.Node, shown: list[tuple[Param, Any]]) -> tree.Expr:
        arguments: list[tree.Argument] = []
        places = iter(op.params)
        by_place = True
        for param, value in shown:
            by_place = by_place and next(places) is param and (param.is_operand or param.default is REQUIRED)
            by_place = by_place and not param.keyword_only
            if param.kind == "tensors" and by_place:
                items = [tree.Argument(value=self.value(node, None, v), span=NOWHERE) for v in value]
                arguments += items
                by_place = False
                continue
            name = None if by_place else param.name
            arguments.append(tree.Argument(value=self.value(node, param, value), name=name, span=NOWHERE))
        return tree.Call(callee=op.name, arguments=tuple(arguments), span=NOWHERE)

    def symbolic(self, node: fx.Node, expr: Any) -> tree.Expr:
        if self.size is None:
            raise NotExpressible(node, f"the size {expr} has no name")
        try:
            return self.size(expr)
        except ValueError as reason:
            raise NotExpressible(node, str(reason)) from None

    def value(self, node: fx.Node, param: Param | None, value: Any) -> tree.Expr:
        """An argument of `node`."""
        symbolic = _symbolic(value)
        if symbolic is not None:
            return self.symbolic(node, symbolic)
        if isinstance(value, fx.Node):
            return self.term(value)
        if isinstance(value, list | tuple):
            kind = param.kind if param is not None else ""
            if kind in ("ints1", "ints2", "ints3") and len(set(map(str, value))) == 1:
                return self.value(node, None, value[0])
            return tree.ListOf(items=tuple(self.value(node, None, v) for v in value), span=NOWHERE)
        if isinstance(value, torch.dtype) and value in _NAMES:
            return tree.Name(id=_NAMES[value], span=NOWHERE)
        if isinstance(value, float) and not math.isfinite(value):
            raise NotExpressible(node, f"{value} is no number of the language")
        if isinstance(value, bool | str) or value is None:
            return tree.Constant(value=value, span=NOWHERE)
        if isinstance(value, int | float):
            return literal(value)
        raise NotExpressible(node, f"{value} of `{node.name}` cannot be written in the language")


def _symbolic(value: Any) -> Any:
    """The sympy expression of a symbolic size, or of a node that computes one."""
    if isinstance(value, fx.Node):
        value = value.meta.get("val")
    return value.node.expr if isinstance(value, torch.SymInt) else None


def literal(value: int | float) -> tree.Expr:
    """A number as the language has it: a negative one is the negation of another."""
    number = tree.Constant(value=abs(value), span=NOWHERE)
    return tree.Unary(operator="-", operand=number, span=NOWHERE) if value < 0 else number


def _exchanges_last(axes: Any) -> bool:
    """Whether a permutation exchanges the last two axes and leaves the others."""
    plain = list(range(len(axes)))
    return len(axes) >= 2 and list(axes) == [*plain[:-2], plain[-1], plain[-2]]


def _is_default(param: Param, value: Any) -> bool:
    if param.is_operand:
        return value is None
    return (
        param.default is not REQUIRED
        and type(value) is not fx.Node
        and value == param.canonical(param.default)
    )


def _parts(node: fx.Node) -> list[fx.Node | None]:
    """For an operator with several results, the nodes that take them out (`None`: not taken)."""
    described = node.meta.get("val")
    if not isinstance(described, list | tuple):
        return []
    takers = {user.args[1]: user for user in node.users if user.target is getitem}
    return [takers.get(i) for i in range(len(described))]


def _numbered(stem: str) -> Iterable[str]:
    yield stem
    count = 1
    while True:
        count += 1
        yield f"{stem}{count}"


__all__ = ["NOWHERE", "Leaf", "NotExpressible", "equations", "literal"]
