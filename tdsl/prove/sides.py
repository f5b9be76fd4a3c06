"""Both sides of a rule evaluated on one instance, whatever its tensors are made of."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from tdsl.lang import tree
from tdsl.lang.resolve import Resolved
from tdsl.lang.shapes import Shapes
from tdsl.lang.walk import walk
from tdsl.ops import Operator
from tdsl.ops.shapes import ShapeMismatch


class Sides(Shapes):
    """The terms of a rule under the values of its names.

    Evaluation raises `ShapeMismatch` and `UnknownValueError` as that of shapes does.
    """

    def __init__(
        self,
        resolved: Resolved,
        chosen: dict[str, tuple[Operator, dict[str, Any]]],
        source: random.Random,
    ) -> None:
        super().__init__(resolved.vocabulary, {}, chosen)
        self.resolved = resolved
        self.rule = resolved.rule
        self.source = source
        self.own: dict[str, dict[str, Any]] = {}
        """By operator variable, what the operator was matched with."""
        self.matching = True
        self.lengths: dict[Any, int] = {}

    def with_names(self, values: Mapping[str, Any]) -> Shapes:
        """The same with some names bound anew."""
        inner = object.__new__(type(self))
        inner.__dict__ = {**self.__dict__, "env": {**self.env, **values}}
        return inner

    def left(self) -> dict[tuple[str, ...], Any]:
        """The values of the equations of the left side, by their names."""
        values: dict[tuple[str, ...], Any] = {}
        for equation in self.rule.lhs:
            value = self.term(equation.term)
            values[equation.names] = value
            self._name(equation.names, value)
        self.matching = False
        self.env["lhs"] = next(iter(values.values()))
        return values

    def _name(self, names: tuple[str, ...], value: Any) -> None:
        if len(names) == 1:
            self.env[names[0]] = value
        elif names:
            if not isinstance(value, tuple | list) or len(value) != len(names):
                raise ShapeMismatch("another number of results")
            self.env.update(zip(names, value, strict=True))

    def right(self) -> Iterator[tuple[tree.Equation, Any, Any]]:
        """Each equation of the right side with the value it replaces and its own."""
        last = list(self.env.items())  # names of results do not change while the right side is evaluated
        before = dict(last)
        for equation in self.rule.rhs:
            value = self.term(equation.term)
            if len(equation.names) > 1:
                yield equation, tuple(before[n] for n in equation.names), tuple(value)
            else:
                yield equation, before[equation.names[0]] if equation.names else before["lhs"], value

    def _items(self, expr: tree.Expr, in_graph: bool) -> list[Any]:
        if isinstance(expr, tree.Splat):
            for node in walk(expr.value):
                if isinstance(node, tree.Name | tree.Declared):
                    name = node.id if isinstance(node, tree.Name) else node.name
                    if name not in self.chosen:
                        self.lookup(name)
        return super()._items(expr, in_graph)

    def _call(self, call: tree.Call, in_graph: bool) -> Any:
        if call.repeat is not None:
            return self._chain(call, in_graph)
        if call.callee in self.chosen:
            return self._variable(call, in_graph)
        if call.callee == "used_once":
            return True
        return super()._call(call, in_graph)

    def _variable(self, call: tree.Call, in_graph: bool) -> Any:
        """An operator variable: on the left it is what it is, on the right with what is given anew."""
        operator, attributes = self.chosen[call.callee]
        operands = {p.name for p in operator.operands}
        plain = {n: v for n, v in attributes.items() if n not in operands}
        given = self.arguments(call, operator, in_graph)
        if self.matching:
            self.own[call.callee] = given
        arguments = {**plain, **self.own.get(call.callee, {}), **given}
        return self.made(operator, arguments, call.callee)

    def _chain(self, call: tree.Call, in_graph: bool) -> Any:
        """`f{2,}(x)`: of a variable the same chain everywhere, of a named operator each of its own length."""
        assert call.repeat is not None
        variable = call.callee in self.chosen
        key = call.callee if variable else id(call)
        if key not in self.lengths:
            most = call.repeat.least + 2 if call.repeat.most is None else call.repeat.most
            self.lengths[key] = self.source.randint(call.repeat.least, most)
        operator = self.chosen[call.callee][0] if variable else self.vocabulary.operators[call.callee]
        value = self._evaluate(call.arguments[0].value, in_graph)
        for _ in range(self.lengths[key]):
            value = self.made(operator, {operator.operands[0].name: self.argument(value, None)}, call.callee)
        return value

    def made(self, operator: Operator, arguments: Mapping[str, Any], variable: str) -> Any:
        """The result of an operator that was called by the name of a variable."""
        return self.apply(operator, arguments)
