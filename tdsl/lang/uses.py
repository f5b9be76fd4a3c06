"""Checking what is computed: terms of the right side, definitions and conditions of `where`."""

from __future__ import annotations

from collections.abc import Mapping

from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.bind import bind
from tdsl.lang.results import PICKS, require_one_result
from tdsl.lang.scope import Role, Scope
from tdsl.lang.vocabulary import DTYPES, INFIX, SIDES, Function
from tdsl.lang.walk import walk
from tdsl.ops import Operator, Param
from tdsl.spelling import did_you_mean

_COMPARISONS = frozenset({"<", "<=", ">", ">=", "==", "!="})


class Uses:
    """Checks expressions against the names that a rule has bound. Every method raises `TdslError`."""

    def __init__(self, scope: Scope, operators: Mapping[str, tuple[Operator, ...]]) -> None:
        self.scope = scope
        self.vocabulary = scope.vocabulary
        self.operators = operators
        self.each = False
        """Inside `f(xs)...`, where `xs` stands for each of its tensors in turn."""

    # ------------------------------------------------------------ the right side

    def term(self, expr: tree.Expr) -> None:
        """A tensor (or a tuple of them) that a right side builds."""
        match expr:
            case tree.Call():
                self._built_call(expr)
            case tree.Binary(operator=sign, left=left, right=right):
                if sign not in INFIX:
                    raise TdslError(
                        f"`{sign}` is a condition, not a tensor",
                        expr.span,
                        expected="`eq`, `lt`, `logical_and` and the like for element by element",
                    )
                self._one(left)
                self._one(right)
            case tree.Unary(operator="not"):
                raise TdslError("`not` is a condition, not a tensor", expr.span, expected="`logical_not(x)`")
            case tree.Unary(operand=operand):
                self._one(operand)
            case tree.TupleOf(items=items) | tree.ListOf(items=items):
                for item in items:
                    self.term(item)
            case tree.Splat(value=value):
                self.splat(expr)
                outer, self.each = self.each, True
                self.term(value)
                self.each = outer
            case tree.Name() | tree.Constant():
                self.value(expr)
            case _:
                self._refuse_pattern(expr)

    def _built_call(self, call: tree.Call) -> None:
        if call.repeat is not None:
            raise TdslError(
                "a repetition matches a chain, it builds none",
                call.repeat.span,
                expected="repetitions on the left side only",
            )
        candidates = self.operators.get(call.callee) or self.vocabulary.members(call.callee)
        if call.callee in self.operators:
            self.scope.used.add(call.callee)
        elif call.callee not in self.vocabulary.operators:
            function = self.vocabulary.functions.get(call.callee)
            if function is None:
                raise self._unknown(call)
            if function.kind not in ("number", "tensor", "term"):
                raise TdslError(
                    f"`{call.callee}` is no operator of a graph",
                    call.span,
                    hint=f"write `… = {call.callee}(…)` in `where`, and use the names here",
                )
            self.value(call)
            return
        for operator in candidates:
            for name, written in bind(call, operator).items():
                param = operator.param(name)
                assert param is not None
                for value in written if isinstance(written, tuple) else (written,):
                    self._built_argument(call, param, value, several=isinstance(written, tuple))

    def _built_argument(self, call: tree.Call, param: Param, value: tree.Expr, several: bool) -> None:
        if not param.is_operand:
            self.attribute(param, value)
            return
        if isinstance(value, tree.Name) and value.id in self.scope.bound:
            role = self.scope.roles[value.id]
            if role in (Role.ATTRIBUTE, Role.DIMENSION) and param.kind != "value":
                raise TdslError(
                    f"`{value.id}` is {role.value}, and `{param.name}` of `{call.callee}` is a tensor",
                    value.span,
                )
            if role is Role.VARIADIC and not self.each:
                dots = f"write `{value.id}...`" if several else None
                raise TdslError(
                    f"`{value.id}` is a list of tensors", value.span, expected="one tensor", hint=dots
                )
        if call.callee == PICKS:
            self.term(value)
        else:
            self._one(value)

    def _one(self, expr: tree.Expr) -> None:
        """What an operator on the right side takes as one tensor."""
        require_one_result(expr, self.operators, self.vocabulary)
        self.term(expr)

    def attribute(self, param: Param, value: tree.Expr) -> None:
        """The value of an attribute of kind `param.kind`."""
        if param.kind == "dtype" and isinstance(value, tree.Name) and value.id in DTYPES:
            return
        self.value(value, as_size=param.kind in ("shape", "spread", "ints", "extents"))

    def splat(self, expr: tree.Splat) -> None:
        """`xs...` and `f(xs)...` have a list of tensors (or of numbers) in them."""
        names = [n.id for n in walk(expr.value) if isinstance(n, tree.Name)]
        repeatable = (Role.VARIADIC, Role.ATTRIBUTE, Role.DEFINED)
        if not any(self.scope.roles.get(n) in repeatable for n in names):
            raise TdslError(
                "there is nothing to repeat here",
                expr.span,
                expected="a list of tensors before the dots, bound as `xs...` on the left side",
            )

    # ------------------------------------------------------------ where

    def value(self, expr: tree.Expr, as_size: bool = False) -> None:
        """A number, list, text or constant tensor, computed when a match is at hand."""
        match expr:
            case tree.Name(id=name):
                if name not in DTYPES or name in self.scope.bound:
                    self.scope.use(name, expr.span, as_size)
            case tree.Constant():
                pass
            case tree.ListOf(items=items) | tree.TupleOf(items=items):
                for item in items:
                    self.value(item, as_size)
            case tree.Splat(value=value):
                self.splat(expr)
                self.value(value)
            case tree.Call():
                self._compile_time_call(expr)
            case tree.Unary(operand=operand):
                self.value(operand, as_size)
            case tree.Binary(left=left, right=right):
                self.value(left, as_size)
                self.value(right, as_size)
            case _:
                self._refuse_pattern(expr)

    def _compile_time_call(self, call: tree.Call) -> None:
        if call.repeat is not None:
            raise TdslError("only a pattern on the left side repeats", call.repeat.span)
        function = self.vocabulary.functions.get(call.callee)
        operator = self.vocabulary.operators.get(call.callee)
        if call.callee in self.operators:
            self.scope.used.add(call.callee)
            operator = self.operators[call.callee][0]
        if function is not None:
            self._function_call(call, function)
        elif operator is not None:
            for name, written in bind(call, operator).items():
                param = operator.param(name)
                assert param is not None
                for value in written if isinstance(written, tuple) else (written,):
                    self.attribute(param, value)
        else:
            raise self._unknown(call)

    def _function_call(self, call: tree.Call, function: Function) -> None:
        shown = f"{function.name}({', '.join(function.params)})"
        names = [a.name for a in call.arguments if a.name is not None]
        for argument in call.arguments:
            if argument.name is not None and argument.name not in function.names:
                raise TdslError(
                    f"`{call.callee}` has no parameter `{argument.name}`",
                    argument.span,
                    expected=shown,
                    hint=did_you_mean(argument.name, function.names),
                )
        given = [*function.names[: len(call.arguments) - len(names)], *names]
        if len(set(given)) < len(given):
            raise TdslError(f"`{call.callee}` is given one argument twice", call.span, expected=shown)
        if len(call.arguments) < function.least:
            raise TdslError(f"too few arguments for `{call.callee}`", call.span, expected=shown)
        if function.most is not None and len(call.arguments) > function.most:
            extra = call.arguments[function.most]
            raise TdslError(f"too many arguments for `{call.callee}`", extra.span, expected=shown)
        for argument, param in zip(call.arguments, given, strict=False):
            if param == "side":
                self._side(argument.value)
            elif param == "tensor" and _is_side(argument.value):
                continue
            else:
                self.value(argument.value)
        for argument in call.arguments[len(given) :]:
            self.value(argument.value)

    def _side(self, expr: tree.Expr) -> None:
        if not _is_side(expr):
            raise TdslError("this is no side of the rule", expr.span, expected="`lhs` or `rhs`")

    def condition(self, test: tree.Expr) -> None:
        """A truth: a comparison, a predicate, `and`, `or`, `not`, or a name or constant that is one."""
        match test:
            case tree.Binary(operator="and" | "or", left=left, right=right):
                self.condition(left)
                self.condition(right)
            case tree.Unary(operator="not", operand=operand):
                self.condition(operand)
            case tree.Binary(operator=sign) if sign in _COMPARISONS:
                self.value(test)
            case tree.Call(callee=callee):
                self.value(test)
                function = self.vocabulary.functions.get(callee)
                if function is None or function.kind != "predicate":
                    raise TdslError(
                        f"`{callee}` is not true or false", test.span, expected="a comparison or a predicate"
                    )
            case tree.Name():
                self.value(test)
            case tree.Constant(value=bool()):
                pass
            case _:
                raise TdslError(
                    "this is not a condition",
                    test.span,
                    expected="a comparison, a predicate, or a definition `name = …`",
                )

    # ------------------------------------------------------------ errors

    def _unknown(self, call: tree.Call) -> TdslError:
        names = [*self.operators, *self.vocabulary.operators, *self.vocabulary.functions]
        return unknown_callee(call, names)

    def _refuse_pattern(self, expr: tree.Expr) -> None:
        what = "an alternative" if isinstance(expr, tree.Alternatives) else "a typed or optional variable"
        raise TdslError(f"{what} stands on the left side only", expr.span)


def unknown_callee(call: tree.Call, names: list[str]) -> TdslError:
    """The diagnostic for a call of something that is neither operator nor function."""
    return TdslError(
        f"there is no operator or function `{call.callee}`",
        call.span,
        hint=did_you_mean(call.callee, names) or "`tdsl list` shows the operators and functions",
    )


def _is_side(expr: tree.Expr) -> bool:
    return isinstance(expr, tree.Name) and expr.id in SIDES
