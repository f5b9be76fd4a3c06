"""Whether the conditions of a rule make sense: of what is compared, and that none holds always or never.

A condition that no match can meet makes a rule that never fires and says nothing; one that every match
meets says nothing either. Both are refused where they are written, with what was meant by them most likely.
"""

from __future__ import annotations

import functools
import operator

from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.bind import bind
from tdsl.lang.bounds import OPPOSITE, Bounds, Polynomials
from tdsl.lang.kinds import Kind, described, takes, written_for
from tdsl.lang.kinds_of_names import Kinds
from tdsl.lang.shapes import Shapes, UnknownValueError
from tdsl.lang.terms import flat
from tdsl.lang.vocabulary import INFIX, Function
from tdsl.lang.walk import walk
from tdsl.ops import Operator, Param
from tdsl.ops.shapes import ShapeMismatch

_ORDERED = Kind.NUMBER | Kind.LIST
_EQUAL_TO = {
    Kind.NUMBER: Kind.NUMBER | Kind.LIST,
    Kind.LIST: Kind.NUMBER | Kind.LIST,
    **{kind: kind for kind in (Kind.TRUTH, Kind.TEXT, Kind.DTYPE, Kind.NONE)},
}
"""What a value of each kind may be equal to."""
_WHOLE = frozenset(
    {
        *("int", "dim", "newdim", "dims", "axes", "perm", "shape", "spread"),
        *("ints", "ints1", "ints2", "ints3", "extents"),
    }
)
"""Kinds of attributes that no broken number stands for."""


def require_sense(rule: tree.Rule, kinds: Kinds) -> None:
    """Check every condition of a rule. Raises `TdslError` at the first that makes no sense."""
    sense = _Sense(kinds)
    bounds = Bounds()
    for clause in rule.where:
        sense.clause(clause, bounds)
    for equation in rule.lhs:
        for node in walk(equation.term):
            if isinstance(node, tree.Option):
                inside = bounds.copy()
                for clause in node.where:
                    sense.clause(clause, inside)


def require_fitting_arguments(equations: tuple[tree.Equation, ...], kinds: Kinds) -> None:
    """Check what operators and functions are given on a side of a rule.

    Raises `TdslError` for an argument of another kind: a number for a shape, a tensor for a permutation.
    """
    sense = _Sense(kinds)
    for equation in equations:
        sense.term(equation.term)


class _Sense:
    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        self.polynomials = Polynomials(kinds)

    def clause(self, clause: tree.Clause, bounds: Bounds) -> None:
        """A condition beside others, or a definition."""
        if isinstance(clause, tree.Definition):
            self.value(clause.value)
            self.kinds.define(clause)
        else:
            self.condition(clause.test, bounds, holds=True)

    # ------------------------------------------------------------ conditions

    def condition(self, test: tree.Expr, bounds: Bounds, *, holds: bool) -> None:
        """A condition that has to hold, or not to, beside what `bounds` says."""
        match test:
            case tree.Unary(operator="not", operand=operand):
                self.condition(operand, bounds, holds=not holds)
            case tree.Binary(operator="and" | "or" as sign, left=left, right=right):
                for side in (left, right):  # of two that both have to hold each is beside the other
                    both = (sign == "and") == holds
                    self.condition(side, bounds if both else bounds.copy(), holds=holds)
            case tree.Binary(operator=sign, left=left, right=right):
                self._comparison(test, left, right, bounds, holds)
            case _:
                self.value(test)
                self._truth(test)
                self._same(test)
                self._constant(test)

    def _truth(self, test: tree.Expr) -> None:
        kind = self.kinds.of(test)
        if Kind.TRUTH in kind:
            return
        text = flat(test)
        hint = f"`{text} != 0` and the like compare it" if Kind.NUMBER in kind else None
        if kind == Kind.TENSOR:
            hint = f"`is_zero({text})` and others of `tdsl list functions` are predicates of a weight"
        raise TdslError(
            f"`{text}` is {described(kind)}, which is not true or false",
            test.span,
            expected="a comparison, a predicate, or a parameter or an attribute that is a Bool",
            hint=hint,
        )

    def _same(self, test: tree.Expr) -> None:
        """What are two kinds of things are not one value."""
        if not (isinstance(test, tree.Call) and test.callee == "same"):
            return
        one, other = (self.kinds.of(argument.value) for argument in test.arguments)
        if not one & other:
            raise _constant_error(test, False, f"one is {described(one)}, the other {described(other)}")

    def _comparison(
        self, test: tree.Binary, left: tree.Expr, right: tree.Expr, bounds: Bounds, holds: bool
    ) -> None:
        self.value(left)
        self.value(right)
        self._comparable(test, left, right)
        self._constant(test)
        sign = test.operator
        if flat(left) == flat(right):
            raise _constant_error(test, sign in ("==", "<=", ">="), "both sides are the same")
        sign = sign if holds else OPPOSITE[sign]
        bound = self.polynomials.bound(sign, left, right)
        if bound is None:
            return
        if bound.always or bound.never:
            raise _constant_error(test, bound.always == holds, "whatever the sizes are")
        words = f"`{'' if holds else 'not '}{flat(test)}` (line {test.span.line})"
        excluded_by = bounds.add(bound, words)
        if excluded_by is not None:
            raise TdslError(
                f"{words} cannot hold together with {excluded_by}",
                test.span,
                expected="conditions that some match meets together",
                hint="correct one of them, or join them by `or`",
            )

    def _comparable(self, test: tree.Binary, left: tree.Expr, right: tree.Expr) -> None:
        sign = test.operator
        one, other = self.kinds.of(left), self.kinds.of(right)
        if sign in ("==", "!="):
            fits = any(_EQUAL_TO.get(kind, Kind(0)) & other for kind in one)
        else:
            fits = bool(one & _ORDERED and other & _ORDERED)
        if fits:
            return
        literal = [side for side in (left, right) if isinstance(side, tree.Constant) and side.value is None]
        if one == other == Kind.TENSOR:
            words = f"`{flat(left)}` and `{flat(right)}` are tensors"
        elif literal:
            value = right if left is literal[0] else left
            words = f"`{flat(value)}` is {described(self.kinds.of(value))} and never `none`"
        else:
            words = f"`{flat(left)}` is {described(one)}, and `{flat(right)}` is {described(other)}"
        raise TdslError(
            f"{words}: `{sign}` does not compare these",
            test.span,
            expected="numbers or lists of them; with `==` and `!=` also texts, element types, flags, `none`",
            hint=self._remedy(left, right),
        )

    def _remedy(self, left: tree.Expr, right: tree.Expr) -> str | None:
        """What to write instead of a comparison with a tensor."""
        tensors = [flat(side) for side in (left, right) if self.kinds.of(side) == Kind.TENSOR]
        if len(tensors) == 2:
            return (
                f"`same({', '.join(tensors)})` says whether they are one value,"
                f" `shape({tensors[0]}) == shape({tensors[1]})` whether they have one shape"
            )
        if tensors and Kind.NONE in (self.kinds.of(left), self.kinds.of(right)):
            return "an optional operand that is absent stands for the value that its operator gives it"
        flags = [flat(side) for side in (left, right) if self.kinds.of(side) == Kind.TRUTH]
        if flags:
            return f"`{flags[0]}` is a condition by itself, and so is `not {flags[0]}`"
        return _of_tensor(tensors[0]) if tensors else None

    def _constant(self, test: tree.Expr) -> None:
        """A condition in which nothing stands that a match or a parameter could decide."""
        names = (node for node in walk(test) if isinstance(node, tree.Name))
        if any(name.id in self.kinds.roles or self.kinds.of(name) == Kind.SIDE for name in names):
            return
        try:
            value = bool(Shapes(self.kinds.vocabulary).value(test))
        except (UnknownValueError, ShapeMismatch):
            raise TdslError(
                "this is the same wherever the left side matches",
                test.span,
                expected="a condition on what was matched, or on a parameter",
            ) from None
        raise _constant_error(test, value, "nothing in it depends on what was matched")

    # ------------------------------------------------------------ sides

    def term(self, expr: tree.Expr) -> None:
        """The arguments of the operators of a pattern or of a right side fit."""
        match expr:
            case tree.Call() if self._operators(expr):
                self._operator_call(expr, in_graph=True)
            case tree.Call():
                self.value(expr)
            case tree.Alternatives(options=options):
                for option in options:
                    self.term(option.term)
            case tree.Binary(left=left, right=right):
                self.term(left)
                self.term(right)
            case tree.Unary(operand=inner) | tree.Splat(value=inner):
                self.term(inner)
            case tree.ListOf(items=items) | tree.TupleOf(items=items):
                for item in items:
                    self.term(item)
            case _:
                pass

    def _operators(self, call: tree.Call) -> tuple[Operator, ...]:
        return self.kinds.operators.get(call.callee) or self.kinds.vocabulary.members(call.callee)

    def _operator_call(self, call: tree.Call, *, in_graph: bool) -> None:
        """An argument fits where one of the operators that a variable stands for takes it."""
        taken: dict[int, tuple[tree.Expr, list[Param]]] = {}
        for one in self._operators(call):
            for name, written in bind(call, one).items():
                param = one.param(name)
                assert param is not None
                for expr in written if isinstance(written, tuple) else (written,):
                    taken.setdefault(id(expr), (expr, []))[1].append(param)
        for expr, params in taken.values():
            if params[0].is_operand:
                (self.term if in_graph else self.value)(expr)
            else:
                self.value(expr)
                self._attribute(call, params, expr)

    def _attribute(self, call: tree.Call, params: list[Param], expr: tree.Expr) -> None:
        wanted = functools.reduce(operator.or_, map(written_for, params))
        whole = params[0].kind in _WHOLE
        problem = self._misfit(expr, wanted, whole=whole)
        for item in expr.items if isinstance(expr, tree.ListOf) and not problem else ():
            if not isinstance(item, tree.Splat) and (problem := self._misfit(item, Kind.NUMBER, whole=whole)):
                expr = item
                break
        if problem:
            raise TdslError(
                f"`{flat(expr)}` {problem}, and `{params[0].name}` of `{call.callee}` is {described(wanted)}",
                expr.span,
                expected=self._operators(call)[0].signature.partition("->")[0].strip(),
                hint=_as_list(flat(expr), self.kinds.of(expr), wanted),
            )

    def _misfit(self, expr: tree.Expr, wanted: Kind, *, whole: bool) -> str:
        """Why an expression is not what is wanted; nothing where it may be."""
        found = self.kinds.of(expr)
        if not wanted & found:
            return f"is {described(found)}"
        broken = whole and isinstance(expr, tree.Constant) and type(expr.value) is float
        return "is no whole number" if broken else ""

    # ------------------------------------------------------------ values

    def value(self, expr: tree.Expr) -> None:
        """The parts of an expression fit together."""
        match expr:
            case tree.Call():
                for argument in expr.arguments:
                    self.value(argument.value)
                function = self.kinds.vocabulary.functions.get(expr.callee)
                if function is not None:
                    self.arguments(expr, function)
                else:
                    self._operator_call(expr, in_graph=False)
            case tree.Binary(operator=sign, left=left, right=right):
                self.value(left)
                self.value(right)
                if sign in INFIX and not self.kinds.of(expr):
                    self._refuse_arithmetic(sign, (left, right))
            case tree.Unary(operator=sign, operand=operand):
                self.value(operand)
                if sign == "T" and Kind.TENSOR not in self.kinds.of(operand):
                    raise TdslError(
                        f"`.T` exchanges the axes of a tensor, and `{flat(operand)}` is"
                        f" {described(self.kinds.of(operand))}",
                        expr.span,
                    )
                if sign == "-" and not self.kinds.of(expr):
                    self._refuse_arithmetic(sign, (operand,))
            case tree.ListOf(items=items) | tree.TupleOf(items=items):
                for item in items:
                    self.value(item)
            case tree.Splat(value=value):
                self.value(value)
            case _:
                pass

    def _refuse_arithmetic(self, sign: str, operands: tuple[tree.Expr, ...]) -> None:
        computed = Kind.NUMBER | Kind.LIST | Kind.TENSOR
        wrong = next(operand for operand in operands if not self.kinds.of(operand) & computed)
        raise TdslError(
            f"`{sign}` computes with numbers, and `{flat(wrong)}` is {described(self.kinds.of(wrong))}",
            wrong.span,
            expected="numbers, lists of them, or weights",
        )

    def arguments(self, call: tree.Call, function: Function) -> None:
        """Each argument of a function is what the function takes there."""
        positional = 0
        for argument in call.arguments:
            if argument.name is not None:
                param = argument.name
            else:
                param = function.names[min(positional, len(function.names) - 1)]
                positional += 1
            wanted, found = takes(function, param), self.kinds.of(argument.value)
            if wanted & found or isinstance(argument.value, tree.Splat):
                continue
            text = flat(argument.value)
            raise TdslError(
                f"`{text}` is {described(found)}, and `{param}` of `{function.name}` is {described(wanted)}",
                argument.value.span,
                expected=f"{function.name}({', '.join(function.params)}): {_first_lower(function.doc)}",
                hint=_of_tensor(text) if found == Kind.TENSOR and wanted & _ORDERED else None,
            )


def _constant_error(test: tree.Expr, always: bool, reason: str) -> TdslError:
    if always:
        return TdslError(
            f"this always holds: {reason}",
            test.span,
            expected="a condition that some matches do not meet",
            hint="leave it out, or correct it",
        )
    return TdslError(
        f"this never holds: {reason}",
        test.span,
        expected="a condition that some matches meet",
        hint="correct it; with `not` before it, or in one part of an `or`, leave that part out",
    )


def _as_list(text: str, found: Kind, wanted: Kind) -> str | None:
    """How what was written becomes the list that was asked for."""
    if Kind.LIST not in wanted or found & wanted:
        return None
    if found == Kind.NUMBER:
        return f"`[{text}]` is a list of one number"
    return f"`shape({text})` is a list of numbers" if found == Kind.TENSOR and text.isidentifier() else None


def _of_tensor(text: str) -> str:
    text = text if text.isidentifier() else "…"
    return (
        f"`shape({text})`, `rank_of({text})` and `size_along({text}, -1)` are numbers of a tensor;"
        f" `is_zero({text})` and others of `tdsl list functions` look at the values of a weight"
    )


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]
