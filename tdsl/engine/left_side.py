"""From the left side of a rule to the terms of a pattern, and what its types and operands ask for besides."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from tdsl.engine.pattern import (
    ELLIPSIS,
    Anything,
    Apply,
    Arg,
    Attribute,
    Bind,
    Chain,
    Items,
    Literal,
    Nary,
    Splat,
    Term,
    Type,
)
from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.alternatives import Side
from tdsl.lang.bind import bind, is_nary
from tdsl.lang.resolve import Resolved, Role
from tdsl.lang.vocabulary import INFIX
from tdsl.ops import OPERATORS, Operator, Param
from tdsl.ops.targets import DTYPES, overload, overloads


class LeftSide:
    """The terms of a left side without alternatives, one for each of its equations."""

    def __init__(self, resolved: Resolved, parameters: Mapping[str, Any], side: Side) -> None:
        self.roles = resolved.roles
        self.operators = resolved.operators
        self.parameters = parameters
        self.named: dict[str, Term] = {}
        """The terms that have a name."""
        self.sizes: list[tree.Clause] = []
        """Conditions on sizes that the types compute."""
        self.types: dict[str, tree.TensorType] = {}
        self.optional: dict[str, tuple[Param, Apply]] = {}
        """The operands that may be absent, with the term that has them."""
        self._applications: list[Apply] = []
        self._fresh = itertools.count()
        for equation in side:
            self._collect_types(equation.term)
        self.terms = [self._equation(equation) for equation in side]

    def _equation(self, equation: tree.Equation) -> Term:
        lowered = self._operand(equation.term)
        if not isinstance(lowered, Term):
            raise TdslError(
                "the left side of a rule is an operator applied to something",
                equation.term.span,
                expected="a term such as relu(x)",
            )
        if len(equation.names) == 1:
            self.named[equation.names[0]] = lowered
        elif equation.names:
            for index, name in enumerate(equation.names):
                self.named[name] = self._element(lowered, index)
        return lowered

    def _element(self, term: Term, index: int) -> Apply:
        return Apply(
            (overload(OPERATORS["getitem"]),), (term, Literal(index)), label=f"[{index}]", span=term.span
        )

    # ------------------------------------------------------------ types

    def _collect_types(self, expr: Any) -> None:
        """A type may stand at any occurrence of a variable, and holds for all of them."""
        if isinstance(expr, tree.Declared) and expr.type is not None:
            self.types.setdefault(expr.name, expr.type)
        if isinstance(expr, tuple):
            for item in expr:
                self._collect_types(item)
        elif isinstance(expr, tree.Node):
            for field in dataclasses.fields(expr):
                if field.name not in ("span", "type"):
                    self._collect_types(getattr(expr, field.name))

    def type(self, written: tree.TensorType, computed: dict[str, tree.Expr] | None = None) -> Type:
        """`written` with a name for every computed size: a condition, or an entry of `computed`."""
        if written.dtype is not None and written.dtype not in DTYPES:
            raise TdslError(f"unknown element type {written.dtype}", written.span, expected=", ".join(DTYPES))
        if written.dims is None:
            return Type(written.const, written.dtype)
        return Type(written.const, written.dtype, tuple(self._dim(d, computed) for d in written.dims))

    def _dim(self, dim: Any, computed: dict[str, tree.Expr] | None) -> int | str:
        if isinstance(dim, tree.Ellipsis_):
            return ELLIPSIS
        if isinstance(dim, tree.Name):
            if self.roles.get(dim.id) is Role.PARAMETER:
                return int(self.parameters[dim.id])
            return dim.id
        if isinstance(dim, tree.Constant) and isinstance(dim.value, int):
            return dim.value
        name = f"_size{next(self._fresh)}"
        if computed is not None:
            computed[name] = dim
            return name
        equal = tree.Binary("==", tree.Name(name, span=dim.span), dim, span=dim.span)
        self.sizes.append(tree.Condition(equal, span=dim.span))
        return name

    # ------------------------------------------------------------ terms

    def _operand(self, expr: tree.Expr) -> Arg:
        match expr:
            case tree.Name(id=name) if name in self.named:
                return self.named[name]
            case tree.Name(id=name) if self.roles.get(name) is Role.PARAMETER:
                return Literal(self.parameters[name], span=expr.span)
            case tree.Name(id=name):
                return self._bind(name, False, expr)
            case tree.Declared(name=name, optional=optional):
                return self._bind(name, optional, expr)
            case tree.Constant(value=value):
                return Literal(value, span=expr.span)
            case tree.Unary(operator="-", operand=tree.Constant(value=value)) if value is not None:
                return Literal(-value, span=expr.span)  # type: ignore[operator]
            case tree.Unary(operator="-", operand=operand):
                return self._apply(
                    tree.Call("neg", (tree.Argument(operand, span=expr.span),), span=expr.span)
                )
            case tree.Unary():
                raise TdslError(
                    f"`{expr.operator}` cannot be matched",
                    expr.span,
                    hint="write the operator: permute(x, p) for a transpose",
                )
            case tree.Binary(operator=symbol, left=left, right=right) if symbol in INFIX:
                arguments = tuple(tree.Argument(e, span=e.span) for e in (left, right))
                return self._apply(tree.Call(INFIX[symbol], arguments, span=expr.span))
            case tree.Call():
                return self._apply(expr)
            case _:
                raise TdslError("this cannot be matched against a graph", expr.span, expected="a term")

    def _bind(self, name: str, optional: bool, expr: tree.Expr) -> Bind:
        written = self.types.get(name)
        return Bind(name, self.type(written) if written else None, optional, expr.span)

    def _apply(self, call: tree.Call) -> Term:
        if call.callee in self.operators:
            return self._operator_variable(call)
        op = OPERATORS[call.callee]
        if call.repeat is not None:
            # Each chain of a named operator has a length of its own; chains of a variable are the same.
            return self._chain(call, (op,), f"_{call.callee}{next(self._fresh)}")
        if is_nary(call, op):
            items = tuple(self._element_pattern(a.value) for a in call.arguments)
            return Nary(overload(op), items, op.commutative, call.callee, call.span)
        bound = bind(call, op)
        return self._record(
            self._application(call, (op,), lambda p: self._argument(p, bound.get(p.name), omitted=None)),
            bound,
            op,
        )

    def _record(self, term: Apply, bound: Mapping[str, Any], op: Operator) -> Apply:
        """Remember which operator an optional operand belongs to: its signature says what absence means."""
        for param in op.params:
            written = bound.get(param.name)
            if param.optional and isinstance(written, tree.Declared) and written.optional:
                self.optional.setdefault(written.name, (param, term))
        self._applications.append(term)
        return term

    def _operator_variable(self, call: tree.Call) -> Term:
        candidates = self.operators[call.callee]
        if call.repeat is not None:
            return self._chain(call, candidates, call.callee)
        bound = bind(call, candidates[0])
        term = self._application(
            call, candidates, lambda p: self._argument(p, bound.get(p.name), omitted=Anything()), call.callee
        )
        return self._record(term, bound, candidates[0])

    def _application(
        self, call: tree.Call, ops: tuple[Operator, ...], argument: Any, variable: str | None = None
    ) -> Apply:
        op = ops[0]
        args = tuple(argument(p) for p in op.params if not p.keyword_only)
        if op.commutative and isinstance(args[0], Literal) and not isinstance(args[1], Literal):
            args = (args[1], args[0], *args[2:])  # in normal form a number stands second
        commutative = all(o.commutative for o in ops)
        kwargs = tuple((p.name, argument(p), p.default) for p in op.params if p.keyword_only)
        if variable is not None and commutative:  # in either order with other attributes at their defaults
            kwargs = tuple((name, _or_default(given, default), default) for name, given, default in kwargs)
        elif variable is not None:
            kwargs = tuple(k for k in kwargs if not isinstance(k[1], Anything))
        return Apply(
            tuple(target for o in ops for target in overloads(o)),
            args,
            kwargs,
            commutative=commutative,
            variable=variable,
            label=call.callee,
            span=call.span,
        )

    def _chain(self, call: tree.Call, ops: tuple[Operator, ...], variable: str) -> Chain:
        assert call.repeat is not None
        inner = self._operand(call.arguments[0].value)
        targets = tuple(target for op in ops for target in overloads(op))
        return Chain(targets, variable, inner, call.repeat.least, call.repeat.most, call.span)

    # ------------------------------------------------------------ arguments

    def _argument(self, param: Param, written: Any, *, omitted: Arg | None) -> Arg:
        if written is None:
            if omitted is not None and not param.is_operand:
                return omitted
            if param.is_operand and param.optional:
                return Literal(None)
            default = param.canonical(param.default)
            return Literal(default, param)
        if param.kind == "tensors":
            return Items(tuple(self._element_pattern(e) for e in self._elements(written)))
        if param.is_operand:
            return self._operand(written)
        return self._attribute(param, written)

    def _elements(self, written: Any) -> tuple[tree.Expr, ...]:
        if isinstance(written, tree.ListOf):
            return written.items
        if isinstance(written, tuple):
            if len(written) == 1 and isinstance(written[0], tree.ListOf):
                return written[0].items
            return written
        return (written,)

    def _element_pattern(self, expr: tree.Expr) -> Arg:
        if not isinstance(expr, tree.Splat):
            return self._operand(expr)
        if isinstance(expr.value, tree.Name | tree.Declared):
            return Splat(expr.value.id if isinstance(expr.value, tree.Name) else expr.value.name)
        if isinstance(expr.value, tree.Call):
            each = self._apply(expr.value)
            rest = each.args[1:] if isinstance(each, Apply) else ()
            plain = all(isinstance(a, Literal | Attribute | Anything) for a in rest)
            if isinstance(each, Apply) and isinstance(each.args[0], Bind) and plain:
                return Splat(each.args[0].name, each)
        raise TdslError(
            "this cannot be repeated",
            expr.span,
            expected="xs..., or f(xs)... with nothing but attributes besides",
        )

    def _attribute(self, param: Param, expr: tree.Expr) -> Arg:
        match expr:
            case tree.Name(id=name) | tree.Declared(name=name):
                if self.roles.get(name) is Role.PARAMETER:
                    return Literal(param.canonical(self.parameters[name]), param, expr.span)
                if param.kind == "dtype" and name in DTYPES:
                    return Literal(DTYPES[name], None, expr.span)
                return Attribute(name)
            case tree.Constant(value=value):
                plain: Any = DTYPES[value] if param.kind == "dtype" and isinstance(value, str) else value
                return Literal(param.canonical(plain), param, expr.span)
            case tree.Unary(operator="-", operand=tree.Constant(value=value)) if value is not None:
                return Literal(param.canonical(-value), param, expr.span)  # type: ignore[operator]
            case tree.ListOf(items=items):
                parts = tuple(self._attribute(_ELEMENT, item) for item in items)
                if all(isinstance(part, Literal) for part in parts):
                    return Literal(param.canonical([p.value for p in parts if isinstance(p, Literal)]), param)
                return Items(parts)
            case _:
                raise TdslError(
                    f"the attribute {param.name} is matched by a value or a name",
                    expr.span,
                    hint="bind a name, and say in `where` what must hold of it",
                )

    def binds_size(self, name: str) -> bool:
        """Whether a type or an attribute of the side says what a size is."""
        return any(_mentions_dim(type_, name) for type_ in self.types.values()) or any(
            isinstance(arg, Attribute) and arg.name == name
            for term in self._applications
            for arg in _attributes(term)
        )


_ELEMENT = Param("element", "any")


def _mentions_dim(type_: tree.TensorType, name: str) -> bool:
    return any(isinstance(dim, tree.Name) and dim.id == name for dim in type_.dims or ())


def _attributes(term: Apply) -> list[Arg]:
    found: list[Arg] = []
    for arg in term.args:
        found.extend(arg.items if isinstance(arg, Items) else (arg,))
    return found


def _or_default(given: Arg, default: Any) -> Arg:
    return Literal(default) if isinstance(given, Anything) else given
