"""From a rule's syntax tree to what the engine runs: patterns, conditions, definitions, a builder.

Alternatives are expanded first, so a rule becomes one or more variants, tried in order.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from tdsl.engine.arithmetic import apply
from tdsl.engine.expression import compile_expression
from tdsl.engine.frame import DefinitionCode, Frame, Test, Variant
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
    Pattern,
    Splat,
    Term,
    Type,
    find_roots,
)
from tdsl.engine.statistics import STATISTICS
from tdsl.errors import TdslError
from tdsl.factor.table import DECOMPOSITIONS, FUNCTIONS
from tdsl.lang import tree
from tdsl.lang.alternatives import Clauses, Side, expand_alternatives
from tdsl.lang.bind import bind, is_nary
from tdsl.lang.resolve import Resolved, Role
from tdsl.lang.vocabulary import COSTS, INFIX
from tdsl.lang.walk import walk
from tdsl.ops import OPERATORS, Operator, Param
from tdsl.ops.targets import DTYPES, overload, overloads

MAX_VARIANTS = 64


def lower(resolved: Resolved, parameters: Mapping[str, Any]) -> tuple[Variant, ...]:
    """The variants of a resolved rule, with `parameters` as its parameters' values."""
    rule = resolved.rule
    expanded = expand_alternatives(rule)
    if len(expanded) > MAX_VARIANTS:
        raise TdslError(
            f"rule {rule.name} has {len(expanded)} combinations of alternatives",
            rule.span,
            expected=f"at most {MAX_VARIANTS}",
            hint="split the rule",
        )
    return tuple(_Lowering(resolved, parameters, lhs, clauses).variant() for lhs, clauses in expanded)


# ---------------------------------------------------------------- one variant


class _Lowering:
    def __init__(
        self, resolved: Resolved, parameters: Mapping[str, Any], lhs: Side, clauses: Clauses
    ) -> None:
        self.rule = resolved.rule
        self.roles = resolved.roles
        self.operators = resolved.operators
        self.parameters = parameters
        self.lhs = lhs
        self.clauses = clauses
        self.named: dict[str, Term] = {}
        self.extra: list[tree.Clause] = []
        self.types: dict[str, tree.TensorType] = {}
        self.optional: dict[str, tuple[Param, Apply]] = {}
        self.applications: list[Apply] = []
        self.fresh = itertools.count()

    def variant(self) -> Variant:
        for equation in self.lhs:
            self.collect_types(equation.term)
        terms = [self.equation(equation) for equation in self.lhs]
        outputs, kept = self.split_outputs(terms)
        roots = find_roots((*outputs, *(term for _, term in kept)))
        simple = roots == outputs and len(outputs) == 1
        owners = [owner for _, owner in self.optional.values()]
        watched = tuple(dict.fromkeys((*(() if simple else outputs), *owners)))
        definitions, tests = self.where()
        return Variant(
            pattern=Pattern(outputs, kept, roots, watched),
            tests=tests,
            definitions=definitions,
            build=self.builder(),
            optional={
                name: (param, f"@{watched.index(owner)}") for name, (param, owner) in self.optional.items()
            },
            results={name: outputs.index(term) for name, term in self.named.items() if term in outputs},
            statistics=self.statistics(),
            narrows=self.narrowed(),
        )

    def narrowed(self) -> tuple[str, ...]:
        """The names of the values that the right side makes of fewer units."""
        calls = [node for part in self.rule.rhs for node in walk(part) if isinstance(node, tree.Call)]
        values = [call.arguments[0].value for call in calls if call.callee == "narrowed"]
        return tuple(dict.fromkeys(value.id for value in values if isinstance(value, tree.Name)))

    def statistics(self) -> tuple[Callable[[Frame], Any], ...]:
        """The statistics that the rule asks for, wherever it does, each as a function of a frame."""
        calls = [
            node
            for part in (self.clauses, self.rule.rhs)
            for item in part
            for node in walk(item)
            if isinstance(node, tree.Call) and node.callee in STATISTICS
        ]
        return tuple(compile_expression(call, self.operators) for call in dict.fromkeys(calls))

    # ------------------------------------------------------------ sides

    def equation(self, equation: tree.Equation) -> Term:
        lowered = self.operand(equation.term)
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
                self.named[name] = self.element(lowered, index)
        return lowered

    def element(self, term: Term, index: int) -> Apply:
        return Apply(
            (overload(OPERATORS["getitem"]),), (term, Literal(index)), label=f"[{index}]", span=term.span
        )

    def split_outputs(self, terms: list[Term]) -> tuple[tuple[Term, ...], tuple[tuple[str, Term], ...]]:
        """The terms that the right side replaces, in its order, and the named ones that it leaves."""
        assigned = [name for equation in self.rule.rhs for name in equation.names]
        outputs = tuple(self.named[name] for name in assigned) or (terms[-1],)
        replaced = {id(term) for term in outputs}
        kept = tuple((name, term) for name, term in self.named.items() if id(term) not in replaced)
        return outputs, kept

    def builder(self) -> Any:
        """The right side as a function of a frame: one staged value an output, in order."""
        parts = []
        for equation in self.rule.rhs:
            evaluate = compile_expression(equation.term, self.operators, term=True)
            parts.append((len(equation.names), evaluate))

        def build(frame: Any) -> tuple[Any, ...]:
            values: list[Any] = []
            for names, evaluate in parts:
                value = evaluate(frame)
                if names <= 1:
                    values.append(value)
                elif isinstance(value, list | tuple):
                    values.extend(value)
                else:
                    values.extend(apply(frame, "getitem", value, i) for i in range(names))
            return tuple(values)

        return build

    # ------------------------------------------------------------ types

    def collect_types(self, expr: Any) -> None:
        """A type may stand at any occurrence of a variable, and holds for all of them."""
        if isinstance(expr, tree.Declared) and expr.type is not None:
            self.types.setdefault(expr.name, expr.type)
        if isinstance(expr, tuple):
            for item in expr:
                self.collect_types(item)
        elif isinstance(expr, tree.Node):
            for field in dataclasses.fields(expr):
                if field.name not in ("span", "type"):
                    self.collect_types(getattr(expr, field.name))

    def type(self, written: tree.TensorType, computed: dict[str, tree.Expr] | None = None) -> Type:
        """`written` with a name for every computed size: a condition, or an entry of `computed`."""
        if written.dtype is not None and written.dtype not in DTYPES:
            raise TdslError(f"unknown element type {written.dtype}", written.span, expected=", ".join(DTYPES))
        if written.dims is None:
            return Type(written.const, written.dtype)
        return Type(written.const, written.dtype, tuple(self.dim(d, computed) for d in written.dims))

    def dim(self, dim: Any, computed: dict[str, tree.Expr] | None) -> int | str:
        if isinstance(dim, tree.Ellipsis_):
            return ELLIPSIS
        if isinstance(dim, tree.Name):
            if self.roles.get(dim.id) is Role.PARAMETER:
                return int(self.parameters[dim.id])
            return dim.id
        if isinstance(dim, tree.Constant) and isinstance(dim.value, int):
            return dim.value
        name = f"_size{next(self.fresh)}"
        if computed is not None:
            computed[name] = dim
            return name
        equal = tree.Binary("==", tree.Name(name, span=dim.span), dim, span=dim.span)
        self.extra.append(tree.Condition(equal, span=dim.span))
        return name

    # ------------------------------------------------------------ terms

    def operand(self, expr: tree.Expr) -> Arg:
        match expr:
            case tree.Name(id=name) if name in self.named:
                return self.named[name]
            case tree.Name(id=name):
                return self.bind(name, False, expr)
            case tree.Declared(name=name, optional=optional):
                return self.bind(name, optional, expr)
            case tree.Constant(value=value):
                return Literal(value, span=expr.span)
            case tree.Unary(operator="-", operand=tree.Constant(value=value)) if value is not None:
                return Literal(-value, span=expr.span)  # type: ignore[operator]
            case tree.Unary(operator="-", operand=operand):
                return self.apply(tree.Call("neg", (tree.Argument(operand, span=expr.span),), span=expr.span))
            case tree.Unary():
                raise TdslError(
                    f"`{expr.operator}` cannot be matched",
                    expr.span,
                    hint="write the operator: permute(x, p) for a transpose",
                )
            case tree.Binary(operator=symbol, left=left, right=right) if symbol in INFIX:
                arguments = tuple(tree.Argument(e, span=e.span) for e in (left, right))
                return self.apply(tree.Call(INFIX[symbol], arguments, span=expr.span))
            case tree.Call():
                return self.apply(expr)
            case _:
                raise TdslError("this cannot be matched against a graph", expr.span, expected="a term")

    def bind(self, name: str, optional: bool, expr: tree.Expr) -> Bind:
        written = self.types.get(name)
        return Bind(name, self.type(written) if written else None, optional, expr.span)

    def apply(self, call: tree.Call) -> Term:
        if call.callee in self.operators:
            return self.operator_variable(call)
        op = OPERATORS[call.callee]
        if call.repeat is not None:
            # Each chain of a named operator has a length of its own; chains of a variable are the same.
            return self.chain(call, (op,), f"_{call.callee}{next(self.fresh)}")
        if is_nary(call, op):
            items = tuple(self.element_pattern(a.value) for a in call.arguments)
            return Nary(overload(op), items, op.commutative, call.callee, call.span)
        bound = bind(call, op)
        return self.record(
            self.application(call, (op,), lambda p: self.argument(p, bound.get(p.name), omitted=None)),
            bound,
            op,
        )

    def record(self, term: Apply, bound: Mapping[str, Any], op: Operator) -> Apply:
        """Remember which operator an optional operand belongs to: its signature says what absence means."""
        for param in op.params:
            written = bound.get(param.name)
            if param.optional and isinstance(written, tree.Declared) and written.optional:
                self.optional.setdefault(written.name, (param, term))
        self.applications.append(term)
        return term

    def operator_variable(self, call: tree.Call) -> Term:
        candidates = self.operators[call.callee]
        if call.repeat is not None:
            return self.chain(call, candidates, call.callee)
        bound = bind(call, candidates[0])
        for name in bound:
            places = {
                [p.name for p in op.params].index(name) if op.param(name) else None for op in candidates
            }
            if len(places) > 1:
                raise TdslError(
                    f"{name} is not the same parameter in all operators that {call.callee} stands for",
                    call.span,
                )
        term = self.application(
            call, candidates, lambda p: self.argument(p, bound.get(p.name), omitted=Anything()), call.callee
        )
        return self.record(term, bound, candidates[0])

    def application(
        self, call: tree.Call, ops: tuple[Operator, ...], argument: Any, variable: str | None = None
    ) -> Apply:
        op = ops[0]
        arities = {sum(not p.keyword_only for p in o.params) for o in ops}
        if len(arities) > 1 and any(p.is_operand for p in op.params[1:]):
            raise TdslError(f"the operators of {call.callee} have different signatures", call.span)
        args = tuple(argument(p) for p in op.params if not p.keyword_only)
        if op.commutative and isinstance(args[0], Literal) and not isinstance(args[1], Literal):
            args = (args[1], args[0], *args[2:])  # in normal form a number stands second
        kwargs = tuple((p.name, argument(p), p.default) for p in op.params if p.keyword_only)
        return Apply(
            tuple(target for o in ops for target in overloads(o)),
            args,
            kwargs if variable is None else tuple(k for k in kwargs if not isinstance(k[1], Anything)),
            commutative=all(o.commutative for o in ops),
            variable=variable,
            label=call.callee,
            span=call.span,
        )

    def chain(self, call: tree.Call, ops: tuple[Operator, ...], variable: str) -> Chain:
        assert call.repeat is not None
        inner = self.operand(call.arguments[0].value)
        targets = tuple(target for op in ops for target in overloads(op))
        return Chain(targets, variable, inner, call.repeat.least, call.repeat.most, call.span)

    # ------------------------------------------------------------ arguments

    def argument(self, param: Param, written: Any, *, omitted: Arg | None) -> Arg:
        if written is None:
            if omitted is not None and not param.is_operand:
                return omitted
            if param.is_operand and param.optional:
                return Literal(None)
            default = param.canonical(param.default)
            return Literal(default, param)
        if param.kind == "tensors":
            return Items(tuple(self.element_pattern(e) for e in self.elements(written)))
        if param.is_operand:
            return self.operand(written)
        return self.attribute(param, written)

    def elements(self, written: Any) -> tuple[tree.Expr, ...]:
        if isinstance(written, tree.ListOf):
            return written.items
        if isinstance(written, tuple):
            if len(written) == 1 and isinstance(written[0], tree.ListOf):
                return written[0].items
            return written
        return (written,)

    def element_pattern(self, expr: tree.Expr) -> Arg:
        if not isinstance(expr, tree.Splat):
            return self.operand(expr)
        if isinstance(expr.value, tree.Name | tree.Declared):
            return Splat(expr.value.id if isinstance(expr.value, tree.Name) else expr.value.name)
        if isinstance(expr.value, tree.Call):
            each = self.apply(expr.value)
            rest = each.args[1:] if isinstance(each, Apply) else ()
            plain = all(isinstance(a, Literal | Attribute | Anything) for a in rest)
            if isinstance(each, Apply) and isinstance(each.args[0], Bind) and plain:
                return Splat(each.args[0].name, each)
        raise TdslError(
            "this cannot be repeated",
            expr.span,
            expected="xs..., or f(xs)... with nothing but attributes besides",
        )

    def attribute(self, param: Param, expr: tree.Expr) -> Arg:
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
                parts = tuple(self.attribute(_ELEMENT, item) for item in items)
                if all(isinstance(part, Literal) for part in parts):
                    return Literal(param.canonical([p.value for p in parts if isinstance(p, Literal)]), param)
                return Items(parts)
            case _:
                raise TdslError(
                    f"the attribute {param.name} is matched by a value or a name",
                    expr.span,
                    hint="bind a name, and say in `where` what must hold of it",
                )

    # ------------------------------------------------------------ where

    def where(self) -> tuple[dict[str, DefinitionCode], tuple[Test, ...]]:
        definitions: dict[str, DefinitionCode] = {}
        dearness: dict[str, int] = {}
        tests: list[tuple[int, int, Test]] = []
        for clause in (*self.extra, *self.clauses):
            if isinstance(clause, tree.Definition):
                computed: dict[str, tree.Expr] = {}
                code = DefinitionCode(
                    tuple(t.name for t in clause.targets),
                    tuple(self.type(t.type, computed) if t.type else None for t in clause.targets),
                    compile_expression(clause.value, self.operators),
                    clause.span,
                    {name: compile_expression(size, self.operators) for name, size in computed.items()},
                )
                cost = _dearness(clause.value, dearness)
                for target in clause.targets:
                    definitions[target.name] = code
                    dearness[target.name] = cost
                    for dim in (target.type.dims or ()) if target.type else ():
                        if (
                            isinstance(dim, tree.Name)
                            and self.roles.get(dim.id) is not Role.PARAMETER
                            and self.is_new_dimension(dim.id)
                        ):
                            dearness.setdefault(dim.id, cost)
                            definitions.setdefault(dim.id, code)
        for position, clause in enumerate((*self.extra, *self.clauses)):
            if isinstance(clause, tree.Condition):
                test = Test(compile_expression(clause.test, self.operators), clause.test)
                tests.append((_dearness(clause.test, dearness), position, test))
        tests.sort(key=lambda entry: entry[:2])
        return definitions, tuple(test for _, _, test in tests)

    def is_new_dimension(self, name: str) -> bool:
        """Whether a size is bound by a definition's annotation and by nothing on the left side."""
        return not any(_mentions_dim(type_, name) for type_ in self.types.values()) and not any(
            isinstance(arg, Attribute) and arg.name == name
            for term in self.applications
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


def _dearness(expr: Any, known: Mapping[str, int]) -> int:
    """How dear an expression is to evaluate: 0 sizes and attributes, 1 costs of a side, 2 weight values.

    Conditions are checked in this order, and as written within one class.
    """
    if isinstance(expr, tree.Name):
        return 1 if expr.id in ("lhs", "rhs") else known.get(expr.id, 0)
    if isinstance(expr, tuple):
        return max((_dearness(item, known) for item in expr), default=0)
    if not isinstance(expr, tree.Node):
        return 0
    own = 0
    if isinstance(expr, tree.Call):
        if expr.callee in DECOMPOSITIONS or expr.callee in FUNCTIONS or expr.callee in STATISTICS:
            own = 2
        elif expr.callee in COSTS:
            # The right side may hold what a definition computes.
            own = max([1, *known.values()])
    below = (getattr(expr, f.name) for f in dataclasses.fields(expr) if f.name != "span")
    return max(own, *(_dearness(item, known) for item in below), 0)
