"""Reading a left side: which names it binds, and in which role."""

from __future__ import annotations

from collections.abc import Mapping

from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.bind import bind
from tdsl.lang.results import PICKS, require_one_result
from tdsl.lang.scope import Role, Scope
from tdsl.lang.uses import Uses, unknown_callee
from tdsl.lang.vocabulary import DTYPES, INFIX
from tdsl.ops import Operator, Param
from tdsl.spelling import asking_for, did_you_mean

_INFIX_PARAM = Param("operand", "value")


class PatternReader:
    """Binds the names of a left side. Every method raises `TdslError`."""

    def __init__(self, scope: Scope, operators: Mapping[str, tuple[Operator, ...]]) -> None:
        self.scope = scope
        self.operators = operators
        self.uses = Uses(scope, operators)
        self.sizes: list[tree.Expr] = []
        self.branches: list[tuple[tuple[tree.Clause, ...], set[str]]] = []

    def finish(self) -> None:
        """Check what uses names that the whole left side binds: computed sizes, conditions of branches."""
        for expr in self.sizes:
            self.uses.value(expr, as_size=True)
        outside = set(self.scope.bound)
        for clauses, inside in self.branches:
            self.scope.bound = outside | inside
            for clause in clauses:
                if isinstance(clause, tree.Condition):
                    self.uses.condition(clause.test)
                else:
                    self.uses.value(clause.value)
        self.scope.bound = outside

    # ------------------------------------------------------------ operands

    def operand(self, expr: tree.Expr, param: Param = _INFIX_PARAM, owner: str = "") -> None:
        """A pattern for a tensor."""
        match expr:
            case tree.Name(id=name):
                if self.scope.roles.get(name) is Role.PARAMETER and param.kind != "value":
                    raise TdslError(
                        f"the parameter `{name}` cannot stand here", expr.span, expected="a tensor"
                    )
                self.scope.declare(name, Role.OPERAND, expr.span)
            case tree.Declared():
                self._declared(expr, param, owner, Role.OPERAND)
            case tree.Constant(value=bool() | int() | float()) if param.kind == "value":
                pass
            case tree.Constant(value=None) if param.optional or param.name == "indices":
                pass  # in a list of indices, none keeps an axis
            case tree.Constant():
                expected = "a tensor or a number" if param.kind == "value" else "a tensor"
                raise TdslError("a literal cannot stand here", expr.span, expected=expected)
            case tree.Call():
                self.call(expr)
            case tree.Binary(operator=sign, left=left, right=right) if sign in INFIX:
                self._require_operator(INFIX[sign], expr)
                self._one(left)
                self._one(right)
            case tree.Unary(operator="-", operand=operand):
                self._require_operator("neg", expr)
                self._one(operand)
            case tree.Alternatives():
                self._alternatives(expr, param, owner)
            case tree.Splat():
                raise TdslError("one tensor is expected here, not a list of them", expr.span)
            case _:
                raise TdslError(
                    "this cannot be matched in a graph",
                    expr.span,
                    expected="a variable, an operator applied to something, or an alternative",
                )

    def _one(self, expr: tree.Expr, param: Param = _INFIX_PARAM, owner: str = "") -> None:
        """A pattern for what an operator takes as one tensor."""
        if owner != PICKS:
            require_one_result(expr, self.operators, self.scope.vocabulary)
        self.operand(expr, param, owner)

    def _require_operator(self, name: str, expr: tree.Expr) -> None:
        if name not in self.scope.vocabulary.operators:
            raise TdslError(f"this stands for the operator `{name}`, and there is none", expr.span)

    def _declared(self, expr: tree.Declared, param: Param, owner: str, role: Role) -> None:
        if expr.optional and not param.optional:
            raise TdslError(
                f"`{expr.name}` cannot be absent: `{param.name}` of `{owner}` is always there"
                if owner
                else f"`{expr.name}` cannot be absent here",
                expr.span,
                expected=f"`{expr.name}` without the `?`",
            )
        if self.scope.roles.get(expr.name) is Role.PARAMETER:
            raise TdslError(
                f"`{expr.name}` is a parameter, and here a tensor is declared",
                expr.span,
                hint="give one of them another name",
            )
        self.scope.declare(expr.name, role, expr.span)
        if expr.type is not None:
            self.type(expr.type)

    def type(self, written: tree.TensorType) -> None:
        """The dimensions and the element type of a type."""
        check_dtype(written)
        dims = written.dims or ()
        if sum(isinstance(d, tree.Ellipsis_) for d in dims) > 1:
            raise TdslError("`...` stands at most once in a shape", written.span)
        for dim in dims:
            if isinstance(dim, tree.Name):
                self.scope.declare(dim.id, Role.DIMENSION, dim.span)
            elif not isinstance(dim, tree.Ellipsis_):
                self.sizes.append(dim)

    # ------------------------------------------------------------ calls

    def call(self, call: tree.Call) -> None:
        """An operator, an operator variable, or a chain of either."""
        vocabulary = self.scope.vocabulary
        if call.callee in self.operators:
            self.scope.used.add(call.callee)
            candidates = self.operators[call.callee]
        elif call.callee in vocabulary.operators:
            candidates = (vocabulary.operators[call.callee],)
        elif call.callee in vocabulary.functions:
            raise TdslError(
                f"`{call.callee}` is a compile-time function, no operator of a graph",
                call.span,
                hint="bind a name here, and say in `where` what must hold of it",
            )
        else:
            raise unknown_callee(call, [*self.operators, *vocabulary.operators])
        for operator in candidates:
            for name, written in bind(call, operator).items():
                param = operator.param(name)
                assert param is not None
                if isinstance(written, tuple):
                    for value in written:
                        self._element(value, param, call.callee)
                elif param.is_operand:
                    self._one(written, param, call.callee)
                else:
                    self.attribute(written, param)

    def _element(self, value: tree.Expr, param: Param, owner: str) -> None:
        """One of a list of operands; `xs...` are any number, `f(xs)...` any number of applications."""
        if not isinstance(value, tree.Splat):
            self._one(value, param, owner)
            return
        match value.value:
            case tree.Name(id=name):
                self.scope.declare(name, Role.VARIADIC, value.span)
            case tree.Declared() as each:
                self._declared(each, param, owner, Role.VARIADIC)
            case tree.Call(arguments=(first, *_)) as each:
                inner = first.value
                if not isinstance(inner, tree.Name):
                    raise TdslError("this cannot be repeated", value.span, expected="`xs...` or `f(xs)...`")
                self.scope.declare(inner.id, Role.VARIADIC, inner.span)
                rest = tree.Call(each.callee, (), span=each.span)
                if rest.callee not in self.operators and rest.callee not in self.scope.vocabulary.operators:
                    raise unknown_callee(each, [*self.operators, *self.scope.vocabulary.operators])
                self.scope.used.add(each.callee)
            case _:
                raise TdslError("this cannot be repeated", value.span, expected="`xs...` or `f(xs)...`")

    def attribute(self, expr: tree.Expr, param: Param) -> None:
        """A pattern for an attribute: a literal, a name, or a list of them."""
        match expr:
            case tree.Name(id=name):
                if param.kind == "dtype" and name in DTYPES:
                    return
                self.scope.declare(name, Role.ATTRIBUTE, expr.span, param.kind)
            case tree.Constant() | tree.Unary(operator="-", operand=tree.Constant()):
                pass
            case tree.ListOf(items=items):
                element = Param(param.name, "int")
                for item in items:
                    self.attribute(item, element)
            case _:
                raise TdslError(
                    "an attribute is matched by a literal, a name or a list of them",
                    expr.span,
                    hint="bind a name here, and say in `where` what must hold of it",
                )

    def _alternatives(self, expr: tree.Alternatives, param: Param, owner: str) -> None:
        before = set(self.scope.bound)
        ways: list[set[str]] = []
        for option in expr.options:
            self.scope.bound = set(before)
            self.operand(option.term, param, owner)
            for clause in option.where:
                if isinstance(clause, tree.Definition):
                    self.define(clause)
            ways.append(self.scope.bound)
            self.branches.append((option.where, self.scope.bound))
        self.scope.bound = set.intersection(*ways)

    def define(self, clause: tree.Definition) -> None:
        """Bind the names that a definition gives a value to, and the new sizes in their types."""
        for target in clause.targets:
            self.scope.define(target.name, target.span)
            if target.type is not None:
                self.type(target.type)


def check_dtype(written: tree.TensorType) -> None:
    """Raise `TdslError` for an unknown element type."""
    if written.dtype is not None and written.dtype not in DTYPES:
        raise TdslError(
            f"there is no element type `{written.dtype}`",
            written.span,
            expected=", ".join(DTYPES),
            hint=_dtype_meant(written.dtype),
        )


_TORCH_DTYPES = {
    "float": "f32",
    "double": "f64",
    "half": "f16",
    "bfloat16": "bf16",
    "long": "i64",
    "int": "i32",
    "uint8": "u8",
    **{f"float{bits}": f"f{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"i{bits}" for bits in (8, 16, 32, 64)},
}
"""Element types as torch calls them."""


def _dtype_meant(written: str) -> str | None:
    if written in _TORCH_DTYPES:
        return asking_for(_TORCH_DTYPES[written])
    return did_you_mean(written, [*DTYPES, "const"])
