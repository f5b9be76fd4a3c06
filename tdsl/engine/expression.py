"""Expressions of the language as Python closures over a `Frame`.

Numbers, sizes and lists are computed; tensors are staged (`engine/stage.py`), so the same `B @ a + b`
is arithmetic on sizes, a constant, or graph nodes, depending on what the names stand for at a match.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from tdsl.engine.arithmetic import (
    apply,
    computed,
    constant_of,
    elementwise,
    is_tensor,
    number,
    tensor_arithmetic,
    transposed,
)
from tdsl.engine.built import StagedTerms
from tdsl.engine.frame import Approximation, Frame
from tdsl.engine.functions import BUILTINS, PREDICATES
from tdsl.engine.sizes import compare
from tdsl.engine.stage import stage, stages_directly
from tdsl.engine.staged import CannotStage, Filled, Staged
from tdsl.engine.varying import NUMBERS, SURELY_NOT, require_numbers
from tdsl.errors import TdslError
from tdsl.factor.rank import UnreachableRankError
from tdsl.factor.table import DECOMPOSITIONS, FUNCTIONS, TERMS
from tdsl.lang import tree
from tdsl.lang.bind import bind, is_nary
from tdsl.lang.vocabulary import COSTS, INFIX
from tdsl.ops import OPERATORS, Operator
from tdsl.ops.targets import DTYPES, operator_of, overload

Evaluate = Callable[[Frame], Any]

_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "@": operator.matmul,
}
"""Infix signs on numbers; on tensors they mean the operators of `tdsl.lang.vocabulary.INFIX`."""

_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})


def compile_expression(
    expr: tree.Expr, operators: Mapping[str, tuple[Operator, ...]], *, term: bool = False
) -> Evaluate:
    """`expr` as a function of a frame; `operators` are the rule's operator variables.

    In a `term` of the right side a name that is both an operator and a function (`square`) is the operator.
    Raises `TdslError` for what no match could give a meaning.
    """
    return _Compiler(operators, term).expression(expr)


class _Compiler:
    def __init__(self, operators: Mapping[str, tuple[Operator, ...]], term: bool) -> None:
        self.operators = operators
        self.term = term

    def expression(self, expr: tree.Expr) -> Evaluate:
        match expr:
            case tree.Name(id=name) | tree.Declared(name=name):
                return self.name(name)
            case tree.Constant(value=value):
                return lambda frame: value
            case tree.ListOf(items=items) | tree.TupleOf(items=items):
                return self.sequence(items)
            case tree.Call():
                return self.call(expr)
            case tree.Unary():
                return self.unary(expr)
            case tree.Binary():
                return self.binary(expr)
            case _:
                raise TdslError(f"{type(expr).__name__.lower()} has no meaning here", expr.span)

    def name(self, name: str) -> Evaluate:
        if name in ("lhs", "rhs"):
            return lambda frame: name
        if name in DTYPES:
            return lambda frame: frame.value(name) if frame.has(name) else DTYPES[name]

        def bound(frame: Frame) -> Any:
            value = frame.env.get(name)
            return frame.value(name) if value is None else value

        return bound

    def sequence(self, items: tuple[tree.Expr, ...]) -> Evaluate:
        parts = [self.splat(item) if isinstance(item, tree.Splat) else self.one(item) for item in items]
        return lambda frame: [value for part in parts for value in part(frame)]

    def one(self, expr: tree.Expr) -> Callable[[Frame], list[Any]]:
        evaluate = self.expression(expr)
        return lambda frame: [evaluate(frame)]

    def splat(self, splat: tree.Splat) -> Callable[[Frame], list[Any]]:
        """`xs...` lists the elements; `f(xs)...` evaluates `f(x)` for each of them."""
        if isinstance(splat.value, tree.Name | tree.Declared):
            whole = self.expression(splat.value)
            return lambda frame: list(whole(frame))
        evaluate = self.expression(splat.value)
        names = sorted(_names(splat.value))

        def each(frame: Frame) -> list[Any]:
            variadic = [n for n in names if frame.has(n) and isinstance(frame.env[n], tuple)]
            variadic = [n for n in variadic if n not in self.operators]
            if not variadic:
                raise TdslError("nothing to repeat: no variadic operand stands before the dots", splat.span)
            rows = zip(*(frame.env[n] for n in variadic), strict=True)
            return [evaluate(frame.extended(**dict(zip(variadic, row, strict=True)))) for row in rows]

        return each

    # ------------------------------------------------------------ arithmetic and logic

    def unary(self, expr: tree.Unary) -> Evaluate:
        if expr.operator == "not":
            test = self.negated(expr.operand)
            return test
        operand = self.expression(expr.operand)
        if expr.operator == "T":
            return lambda frame: transposed(frame, operand(frame))

        def negative(frame: Frame) -> Any:
            value = operand(frame)
            if isinstance(value, list):
                return [-entry for entry in value]
            return apply(frame, "neg", value) if is_tensor(value) else -value

        return negative

    def negated(self, expr: tree.Expr) -> Evaluate:
        """`not` over a comparison is the opposite one, since neither may be known of a symbolic size.

        So is that over a predicate on sizes; of what is joined by `and` or `or` each part is negated.
        """
        opposite = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
        if isinstance(expr, tree.Binary) and expr.operator in opposite:
            flipped = tree.Binary(opposite[expr.operator], expr.left, expr.right, span=expr.span)
            return self.binary(flipped)
        if isinstance(expr, tree.Binary) and expr.operator in ("and", "or"):
            left, right = self.negated(expr.left), self.negated(expr.right)
            if expr.operator == "and":
                return lambda frame: left(frame) or right(frame)
            return lambda frame: left(frame) and right(frame)
        if isinstance(expr, tree.Unary) and expr.operator == "not":
            return self.expression(expr.operand)
        if isinstance(expr, tree.Call) and expr.callee in SURELY_NOT:
            arguments, surely_not = self.arguments(expr), SURELY_NOT[expr.callee]
            return lambda frame: computed(expr, surely_not, frame, *map(number, arguments(frame)))
        test = self.expression(expr)
        return lambda frame: not test(frame)

    def binary(self, expr: tree.Binary) -> Evaluate:
        left, right = self.expression(expr.left), self.expression(expr.right)
        symbol = expr.operator
        if symbol == "and":
            return lambda frame: left(frame) and right(frame)
        if symbol == "or":
            return lambda frame: left(frame) or right(frame)
        if symbol in _COMPARISONS:
            return lambda frame: computed(expr, compare, symbol, number(left(frame)), number(right(frame)))
        numbers, name = _ARITHMETIC[symbol], INFIX[symbol]

        def arithmetic(frame: Frame) -> Any:
            a, b = left(frame), right(frame)
            if is_tensor(a) or is_tensor(b):
                return tensor_arithmetic(frame, name, a, b)
            return computed(expr, elementwise, numbers, number(a), number(b))

        return arithmetic

    # ------------------------------------------------------------ calls

    def call(self, call: tree.Call) -> Evaluate:
        if call.callee in self.operators:
            return self.operator_variable(call)
        if call.callee in DECOMPOSITIONS:
            return self.decomposition(call)
        if call.callee in TERMS:
            return self.built(call)
        is_operator = self.term and call.callee in OPERATORS
        if not is_operator and (call.callee in BUILTINS or call.callee in FUNCTIONS):
            return self.function(call)
        return self.operator(call, OPERATORS[call.callee])

    def arguments(self, call: tree.Call) -> Callable[[Frame], list[Any]]:
        parts = [
            self.splat(a.value) if isinstance(a.value, tree.Splat) else self.one(a.value)
            for a in call.arguments
        ]
        return lambda frame: [value for part in parts for value in part(frame)]

    def function(self, call: tree.Call) -> Evaluate:
        arguments = self.arguments(call)
        name = call.callee
        also_operator = name in OPERATORS and name in BUILTINS and name not in PREDICATES

        def evaluate(frame: Frame) -> Any:
            values = arguments(frame)
            if also_operator and any(is_tensor(value) for value in values):
                return self.operator(call, OPERATORS[name])(frame)
            values = [number(value) for value in values]
            require_numbers(name, values, NUMBERS.get(name, ()) if name in BUILTINS else range(len(values)))
            if name in COSTS:
                return BUILTINS[name](frame, *values)
            if name in BUILTINS:
                return computed(call, BUILTINS[name], frame, *values)
            declared = FUNCTIONS[name]
            given = self.constants(frame, call, values)
            plain = [_known(frame, value, declared.of_any_type) for value in given]
            result = declared.function(*plain)
            return constant_of(frame, values, result, name) if isinstance(result, torch.Tensor) else result

        return evaluate

    def constants(self, frame: Frame, call: tree.Call, values: list[Any]) -> list[Any]:
        """`values`, if what they hold is known at compile time; a weight predicate fails on the rest."""
        for value in values:
            if is_tensor(value) and not frame.work.is_const(value):
                raise CannotStage(f"{call.callee} needs a weight, not a value computed at run time")
        return values

    def decomposition(self, call: tree.Call) -> Evaluate:
        family = DECOMPOSITIONS[call.callee]
        arguments = self.arguments(call)

        def evaluate(frame: Frame) -> Any:
            values = self.constants(frame, call, [number(value) for value in arguments(frame)])
            require_numbers(call.callee, values, range(len(values)))
            plain = [_known(frame, value, family.of_any_type) for value in values]
            declared = family.at(*plain[1:])
            try:
                factors = declared.function(*plain)
            except UnreachableRankError as reason:
                raise CannotStage(reason.message) from None
            weight, *moments = (p for p in plain if isinstance(p, torch.Tensor))
            frame.approximations.append(Approximation(declared, weight, tuple(factors), tuple(moments)))
            return [
                constant_of(frame, values, f, call.callee) if isinstance(f, torch.Tensor) else f
                for f in factors
            ]

        return evaluate

    def built(self, call: tree.Call) -> Evaluate:
        """A term whose operators a function chooses."""
        declared = TERMS[call.callee]
        arguments = self.arguments(call)

        def evaluate(frame: Frame) -> Any:
            values = arguments(frame)
            return declared.function(StagedTerms(frame, values, call.callee), *values)

        return evaluate

    def operator(self, call: tree.Call, op: Operator) -> Evaluate:
        if is_nary(call, op):
            return self.nary(call, op)
        bound = bind(call, op)
        parts: dict[str, Evaluate] = {}
        for name, value in bound.items():
            parts[name] = self.sequence(value) if isinstance(value, tuple) else self.expression(value)

        def evaluate(frame: Frame) -> Any:
            return stage(frame.work, op, {name: part(frame) for name, part in parts.items()})

        if not stages_directly(op, parts):
            return evaluate
        target = overload(op)
        places = [p for p in op.params if not p.keyword_only]
        ordered = [parts[p.name] if p.name in parts else _always(p.default) for p in places]

        def direct(frame: Frame) -> Any:
            args = [part(frame) for part in ordered]
            for arg in args:
                if type(arg) is Filled:
                    given = {p.name: a for p, a in zip(places, args, strict=True) if p.name in parts}
                    return stage(frame.work, op, given)
            return Staged(target, tuple(args), {})

        return direct

    def nary(self, call: tree.Call, op: Operator) -> Evaluate:
        """`add(a, b, rest...)`: a chain of binary applications from the left."""
        arguments = self.arguments(call)

        def evaluate(frame: Frame) -> Any:
            total, *others = arguments(frame)
            for other in others:
                total = apply(frame, op.name, total, other)
            return total

        return evaluate

    def operator_variable(self, call: tree.Call) -> Evaluate:
        """`f(y)`: the matched operator with its own attributes, except those given anew."""
        variable = call.callee
        parts = {
            op.name: {
                name: self.sequence(value) if isinstance(value, tuple) else self.expression(value)
                for name, value in bind(call, op).items()
            }
            for op in self.operators[variable]
        }

        def again(frame: Frame, node: fx.Node, arguments: dict[str, Any]) -> Any:
            op = _operator_of(node)
            own = {p.name: a for p, a in zip(op.params, node.args, strict=False)}
            return stage(frame.work, op, {**own, **node.kwargs, **arguments})

        def evaluate(frame: Frame) -> Any:
            matched = frame.value(variable)
            if not isinstance(matched, tuple):
                given = parts[_operator_of(matched).name]
                return again(frame, matched, {name: part(frame) for name, part in given.items()})
            if not matched:
                return next(iter(parts.values()))["x"](frame)
            value = None
            for link in reversed(matched):
                given = {name: part(frame) for name, part in parts[_operator_of(link).name].items()}
                first = _operator_of(link).params[0].name
                value = again(frame, link, {**given, first: given[first] if value is None else value})
            return value

        return evaluate


def _known(frame: Frame, value: Any, as_stored: bool) -> Any:
    """What a function of constants is given: a tensor in float64, or a weight as it is stored."""
    if not is_tensor(value):
        return value
    if as_stored and isinstance(value, fx.Node):
        return frame.work.tensor(value)
    return frame.work.evaluate(value)


def _always(value: Any) -> Evaluate:
    return lambda frame: value


def _operator_of(node: fx.Node) -> Operator:
    """The operator of a node that an operator variable is bound to."""
    op = operator_of(node.target)
    assert op is not None
    return op


def _names(expr: tree.Expr) -> set[str]:
    match expr:
        case tree.Name(id=name) | tree.Declared(name=name):
            return {name}
        case tree.Call(arguments=arguments):
            return {name for a in arguments for name in _names(a.value)}
        case tree.Binary(left=left, right=right):
            return _names(left) | _names(right)
        case tree.Unary(operand=operand):
            return _names(operand)
        case tree.ListOf(items=items) | tree.TupleOf(items=items):
            return {name for item in items for name in _names(item)}
        case tree.Splat(value=value):
            return _names(value)
        case _:
            return set()
