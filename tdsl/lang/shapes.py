"""Evaluating terms on shapes: what a tensor expression and the numbers around it come to."""

from __future__ import annotations

import math
import operator as python
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tdsl.lang import axes, tree
from tdsl.lang.bind import bind
from tdsl.lang.vocabulary import DTYPES, INFIX, Vocabulary
from tdsl.lang.walk import walk
from tdsl.ops import Operator, Param
from tdsl.ops.shapes import NoShapeLaw, ShapeMismatch, broadcast_shapes, result_shape


class UnknownValueError(Exception):
    """The value depends on more than shapes: weights, costs, an operator without a shape law."""


@dataclass(frozen=True)
class Shaped:
    """A tensor of which only the shape is known."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Absent:
    """An optional operand that is not there; where a tensor is needed, its fill has this shape."""

    shape: tuple[int, ...]
    fill: float = 0.0


_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": python.add,
    "-": python.sub,
    "*": python.mul,
    "/": python.truediv,
    "//": python.floordiv,
    "%": python.mod,
    "**": python.pow,
}
COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": python.eq,
    "!=": python.ne,
    "<": python.lt,
    "<=": python.le,
    ">": python.gt,
    ">=": python.ge,
}


def _one_list(*values: Any) -> list[Any]:
    return list(values[0]) if len(values) == 1 and isinstance(values[0], list) else list(values)


def _shape(x: Any) -> list[int]:
    if isinstance(x, Shaped | Absent):
        return list(x.shape)
    raise UnknownValueError("the shape of something that is no tensor")


def _size_along(x: Any, dims: Any) -> int:
    sizes = _shape(x)
    axes = range(len(sizes)) if dims is None else [dims] if isinstance(dims, int) else dims
    return math.prod(sizes[axis] for axis in axes)


def _shape_or_none(x: Any) -> list[int]:
    """The sizes of a tensor; a number has none."""
    return [] if isinstance(x, int | float) else _shape(x)


def _broadcasts_to(x: Any, shape: list[int]) -> bool:
    try:
        return broadcast_shapes(tuple(_shape(x)), tuple(shape)) == tuple(shape)
    except ShapeMismatch:
        return False


def _square(v: Any) -> bool:
    if isinstance(v, list):
        return all(entry == v[0] for entry in v)
    shape = _shape(v)
    return len(shape) > 1 and shape[-1] == shape[-2]


def _moment(axes: int) -> Callable[..., Shaped]:
    """The shape of a statistic along an axis: its size, once or twice."""

    def shaped(x: Any, axis: int = -1) -> Shaped:
        shape = _shape(x)
        if not -len(shape) <= axis < len(shape):
            raise ShapeMismatch(f"a tensor of shape {shape} has no axis {axis}")
        return Shaped((shape[axis],) * axes)

    return shaped


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "second_moment": _moment(2),
    "covariance": _moment(2),
    "first_moment": _moment(1),
    "gradient_moment": _moment(2),
    "frequency": lambda ids, size: Shaped((size,)),
    "prod": lambda values: math.prod(values),
    "min": lambda *v: min(_one_list(*v)),
    "max": lambda *v: max(_one_list(*v)),
    "abs": abs,
    "sqrt": math.sqrt,
    "log2": math.log2,
    "len": len,
    "rank_of": lambda x: len(_shape(x)),
    "shape": _shape,
    "size_along": _size_along,
    "unit_width": lambda x: _shape(x)[-1],
    "inverse": axes.inverse,
    "compose": axes.compose,
    "inverse_order": lambda index: Shaped(tuple(_shape(index))),
    "in_order": lambda count: Shaped((count,)),
    "selected": lambda matrix, *value: Shaped(tuple(_shape(matrix))[:1]),
    "exchange": axes.exchange,
    "sources": axes.sources,
    "remaining": axes.remaining,
    "unpermuted": axes.unpermuted,
    "entries": axes.entries,
    "standing": axes.standing,
    "kept": lambda x, y, along: axes.kept(_shape(x), _shape(y), along),
    "apart": axes.apart,
    "includes": axes.includes,
    "covers": axes.covers,
    "reflected": axes.reflected,
    "sizes": lambda x, along: axes.sizes(_shape_or_none(x), along),
    "aligned": lambda x, count: axes.aligned(_shape_or_none(x), count),
    "square": _square,
    "broadcasts_to": _broadcasts_to,
    "is_identity": lambda p: list(p) == list(range(len(p))),
    "all_equal": lambda values, value: all(v == value for v in values),
}


_ON_NUMBERS = frozenset({"prod", "min", "max", "abs", "sqrt", "log2"})
"""Functions of numbers that, given a tensor, are the operator of that name."""


def _known(function: Callable[..., Any], *values: Any) -> Any:
    """`function(*values)`, unknown where it has no value."""
    try:
        return function(*values)
    except (TypeError, ValueError, ArithmeticError, IndexError) as error:
        raise UnknownValueError(str(error)) from None


@dataclass(frozen=True, slots=True)
class _Refused:
    """An error without the frames that it came through."""

    kind: type[Exception]
    args: tuple[Any, ...]


MOST_APPLIED = 1 << 14
_APPLIED: dict[Any, Any] = {}
"""Results and refusals of operators on sizes that are numbers: instances of a rule ask mostly the same."""


@dataclass
class Shapes:
    """Values of the names of one instance of a rule, and the evaluation of expressions under them.

    `chosen` holds, for each operator variable, the operator it is, and attributes left to that operator.
    Evaluation raises `ShapeMismatch` where an operator refuses its operands, `UnknownValueError` where
    shapes alone do not decide.
    """

    vocabulary: Vocabulary
    env: dict[str, Any] = field(default_factory=dict)
    chosen: dict[str, tuple[Operator, dict[str, Any]]] = field(default_factory=dict)

    def term(self, expr: tree.Expr) -> Any:
        """A right side: names of operators come before those of functions."""
        return self._evaluate(expr, in_graph=True)

    def value(self, expr: tree.Expr) -> Any:
        """A value in `where` or of an attribute: names of functions come first."""
        return self._evaluate(expr, in_graph=False)

    def _evaluate(self, expr: tree.Expr, in_graph: bool) -> Any:
        match expr:
            case tree.Name(id=name) | tree.Declared(name=name):
                return self.lookup(name)
            case tree.Constant(value=value):
                return value
            case tree.ListOf(items=items):
                return [v for item in items for v in self._items(item, in_graph)]
            case tree.TupleOf(items=items):
                return tuple(v for item in items for v in self._items(item, in_graph))
            case tree.Unary(operator=sign, operand=operand):
                return self._unary(sign, self._evaluate(operand, in_graph))
            case tree.Binary(operator="and" | "or" as sign, left=left, right=right):
                return self._logic(sign, left, right)
            case tree.Binary(operator=sign, left=left, right=right):
                return self.infix(sign, self._evaluate(left, in_graph), self._evaluate(right, in_graph))
            case tree.Call():
                return self._call(expr, in_graph)
            case _:
                raise UnknownValueError("this form has no value")

    def lookup(self, name: str) -> Any:
        """What a name stands for."""
        if name in self.env:
            return self.env[name]
        if name in DTYPES:
            return name
        raise UnknownValueError(f"`{name}` has no known value")

    def with_names(self, values: Mapping[str, Any]) -> Shapes:
        """The same with some names bound anew."""
        return Shapes(self.vocabulary, {**self.env, **values}, self.chosen)

    def _items(self, expr: tree.Expr, in_graph: bool) -> list[Any]:
        """`xs...` gives its elements, `f(xs)...` the values of `f` on each, anything else itself."""
        if not isinstance(expr, tree.Splat):
            return [self._evaluate(expr, in_graph)]
        names = [n.id for n in walk(expr.value) if isinstance(n, tree.Name)]
        lists = {n: self.env[n] for n in names if isinstance(self.env.get(n), list)}
        if not lists:
            raise UnknownValueError("nothing known to repeat")
        results = []
        for row in zip(*lists.values(), strict=True):
            inner = self.with_names(dict(zip(lists, row, strict=True)))
            results.append(inner._evaluate(expr.value, in_graph))
        return results

    def _logic(self, sign: str, left: tree.Expr, right: tree.Expr) -> bool:
        """Three-valued: one side may decide although the other is unknown."""
        known: list[bool] = []
        unknown: UnknownValueError | None = None
        for side in (left, right):
            try:
                known.append(bool(self.value(side)))
            except UnknownValueError as error:
                unknown = error
        decisive = sign == "or"
        if decisive in known or unknown is None:
            return decisive if decisive in known else not decisive
        raise unknown

    def _unary(self, sign: str, value: Any) -> Any:
        if sign == "not":
            return not value
        if isinstance(value, list):
            return [self._unary(sign, entry) for entry in value]
        if not isinstance(value, Shaped | Absent):
            return _known(python.neg, value)
        if sign == "-":
            return Shaped(value.shape)
        if len(value.shape) < 2:
            raise ShapeMismatch(f".T needs two axes, and this has the shape {list(value.shape)}")
        return Shaped((*value.shape[:-2], value.shape[-1], value.shape[-2]))

    def infix(self, sign: str, left: Any, right: Any) -> Any:
        """`left sign right`, between numbers, lists or tensors."""
        if isinstance(left, Shaped | Absent) or isinstance(right, Shaped | Absent):
            if sign not in INFIX:
                raise UnknownValueError("a comparison of tensors")
            shapes = [v.shape if isinstance(v, Shaped | Absent) else () for v in (left, right)]
            if sign == "@":
                return self.apply(self.vocabulary.operators["matmul"], {"x": shapes[0], "y": shapes[1]})
            return Shaped(tuple(broadcast_shapes(*shapes)))
        if sign in COMPARISONS:
            return _compare(sign, left, right)
        if isinstance(left, list) or isinstance(right, list):
            return self._entries(sign, left, right)
        if sign == "**" and isinstance(right, int) and abs(right) > 64:
            raise UnknownValueError("a power too large to compute")
        return _known(_ARITHMETIC[sign], left, right)

    def _entries(self, sign: str, left: Any, right: Any) -> list[Any]:
        """Arithmetic entry by entry, between lists of one length or a list and a number."""
        count = len(left if isinstance(left, list) else right)
        rows = [value if isinstance(value, list) else [value] * count for value in (left, right)]
        if len(rows[0]) != len(rows[1]):
            raise UnknownValueError("arithmetic on lists of different lengths")
        return [self.infix(sign, a, b) for a, b in zip(*rows, strict=True)]

    def _call(self, call: tree.Call, in_graph: bool) -> Any:
        if call.callee in self.chosen:
            operator, attributes = self.chosen[call.callee]
            return self.apply(operator, {**attributes, **self.arguments(call, operator, in_graph)})
        is_operator = call.callee in self.vocabulary.operators
        is_function = call.callee in self.vocabulary.functions
        if is_operator and (in_graph or not is_function):
            found = self.vocabulary.operators[call.callee]
            return self.apply(found, self.arguments(call, found, in_graph))
        function = self.vocabulary.functions.get(call.callee)
        if function is not None and function.shape is not None:
            values = [self._evaluate(a.value, True) for a in call.arguments]
            shapes = [tuple(v.shape) if isinstance(v, Shaped | Absent) else v for v in values]
            return Shaped(_known(function.shape, *shapes))
        if call.callee not in _FUNCTIONS:
            raise UnknownValueError(f"`{call.callee}` depends on more than shapes")
        values = [self.value(a.value) for a in call.arguments]
        if is_operator and call.callee in _ON_NUMBERS and any(isinstance(v, Shaped | Absent) for v in values):
            found = self.vocabulary.operators[call.callee]
            return self.apply(found, self.arguments(call, found, in_graph))
        return _known(_FUNCTIONS[call.callee], *values)

    def arguments(self, call: tree.Call, operator: Operator, in_graph: bool) -> dict[str, Any]:
        """The call's arguments as a shape law takes them."""
        given = self.given(call, operator, in_graph)
        return {n: self.argument(v, operator.param(n)) for n, v in given.items()}

    def given(self, call: tree.Call, operator: Operator, in_graph: bool) -> dict[str, Any]:
        """The values of the call's arguments."""
        given: dict[str, Any] = {}
        for name, written in bind(call, operator).items():
            param = operator.param(name)
            assert param is not None
            if isinstance(written, tuple):
                given[name] = [v for item in written for v in self._items(item, in_graph)]
            else:
                given[name] = self._evaluate(written, in_graph and param.is_operand)
        return given

    def argument(self, value: Any, param: Param | None) -> Any:
        """`value` as an operator takes it for `param`."""
        return as_argument(value, param)

    def apply(self, operator: Operator, arguments: Mapping[str, Any]) -> Any:
        """The result of an operator: `Shaped`, or a tuple of them."""
        try:
            key = (operator, *((n, tuple(v) if type(v) is list else v) for n, v in arguments.items()))
            found = _APPLIED.get(key)
        except TypeError:  # sizes that stand for every number
            return self._applied(operator, arguments)
        if found is None:
            try:
                found = self._applied(operator, arguments)
            except (ShapeMismatch, UnknownValueError) as refusal:
                found = _Refused(type(refusal), refusal.args)
            if len(_APPLIED) >= MOST_APPLIED:
                _APPLIED.clear()
            _APPLIED[key] = found
        if isinstance(found, _Refused):
            raise found.kind(*found.args)
        return found

    def _applied(self, operator: Operator, arguments: Mapping[str, Any]) -> Any:
        operands = [p.name for p in operator.operands]
        first = arguments.get(operands[0]) if operands else None
        if operator.associative and isinstance(first, list):  # the n-ary form
            result: Any = Shaped(first[0])
            for shape in first[1:]:
                result = self.apply(operator, {operands[0]: result.shape, operands[1]: shape})
            return result
        try:
            made = result_shape(operator, arguments)
            shapes = [tuple(made)] if operator.results == 1 else [tuple(part) for part in made]
        except NoShapeLaw:
            raise UnknownValueError(f"`{operator.name}` has no shape law") from None
        except ShapeMismatch:
            raise
        except (TypeError, ValueError, IndexError, ArithmeticError) as error:  # no model has such attributes
            raise UnknownValueError(f"{operator.name}: {error}") from None
        return Shaped(shapes[0]) if operator.results == 1 else tuple(Shaped(shape) for shape in shapes)


def as_argument(value: Any, param: Param | None) -> Any:
    """`value` as a shape law takes it for `param`."""
    if isinstance(value, Shaped):
        return value.shape
    if isinstance(value, Absent):
        return None if param is not None and param.optional else value.shape
    if isinstance(value, list):
        return [as_argument(v, None) for v in value]
    if isinstance(value, tuple):
        return tuple(as_argument(v, None) for v in value)
    return value


def _compare(sign: str, left: Any, right: Any) -> bool:
    """Lists compare entry by entry, a list with a number too."""
    if isinstance(left, list) and isinstance(right, list):
        if sign == "!=":
            return left != right
        return len(left) == len(right) and all(map(COMPARISONS[sign], left, right))
    if isinstance(left, list):
        return all(COMPARISONS[sign](v, right) for v in left)
    if isinstance(right, list):
        return all(COMPARISONS[sign](left, v) for v in right)
    if (left is None or right is None) and sign not in ("==", "!="):
        return False
    return bool(_known(COMPARISONS[sign], left, right))
