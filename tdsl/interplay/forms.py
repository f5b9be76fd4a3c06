"""A rule as plain terms: alternatives and operator variables chosen, operators as calls with named arguments.

Signs, chains (`f{2,}`), lists of any length (`xs...`) and sums of many operands are written out at their
least, so that unification meets nothing but calls, variables, numbers and lists.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tdsl.lang import tree
from tdsl.lang.alternatives import expand_alternatives
from tdsl.lang.bind import bind, is_nary
from tdsl.lang.resolve import Resolved, Role
from tdsl.lang.vocabulary import COSTS, DTYPES, INFIX, Vocabulary
from tdsl.lang.walk import walk
from tdsl.ops import Operator, Param
from tdsl.ops.spec import REQUIRED

COPIES = 2
"""How many operands `xs...` stands for in a list."""
MOST_FORMS = 96
"""Most choices of alternatives and operators of one rule; of more, as many are taken evenly."""


@dataclass(frozen=True)
class Form:
    """One choice of the alternatives and operators of a rule."""

    rule: str
    lhs: tuple[tree.Equation, ...]
    rhs: tuple[tree.Equation, ...]
    where: tuple[tree.Clause, ...]
    """The conditions that the left side decides, and definitions; `lhs` is written out in them."""
    roles: Mapping[str, Role]
    vocabulary: Vocabulary

    def apart(self, mark: str) -> Form:
        """The same with every name marked, so that it shares none with another form."""

        def renamed(node: Any) -> Any:
            match node:
                case tree.Name(id=name) if name in self.roles:
                    return dataclasses.replace(node, id=name + mark)
                case tree.Declared(name=name):
                    return dataclasses.replace(node, name=name + mark)
                case tree.Equation(names=names):
                    return dataclasses.replace(node, names=tuple(n + mark for n in names))
            return node

        lhs, rhs, where = (changed(part, renamed) for part in (self.lhs, self.rhs, self.where))
        roles = {name + mark: role for name, role in self.roles.items()}
        return dataclasses.replace(self, lhs=lhs, rhs=rhs, where=where, roles=roles)


def forms_of(name: str, resolved: Resolved) -> list[Form]:
    """The forms of a rule, in the order of its alternatives and of the operators it names."""
    rule = resolved.rule
    members = [[(n, op.name) for op in ops] for n, ops in resolved.operators.items()]
    choices = [dict(row) for row in itertools.product(*members)]
    pairs = [(side, choice) for side in expand_alternatives(rule) for choice in choices]
    step = -(-len(pairs) // MOST_FORMS)
    defaults = {
        p.name: p.default
        for p in rule.parameters
        if isinstance(p.default, tree.Constant) and p.name not in resolved.operators
    }
    forms: list[Form] = []
    for (lhs, where), choice in pairs[::step]:

        def chosen(node: Any, choice: Mapping[str, str] = choice) -> Any:
            match node:
                case tree.Call(callee=callee) if callee in choice:
                    return _named(node, resolved.vocabulary.operators[choice[callee]])
                case tree.Name(id=name) if name in defaults:
                    return defaults[name]
            return node

        lhs, rhs, where = (changed(part, chosen) for part in (lhs, rule.rhs, where))
        lhs, rhs = (tuple(_plain_equation(e, resolved.vocabulary) for e in side) for side in (lhs, rhs))
        kept = tuple(_written_out(c, lhs) for c in where if not _speaks_of_more(c))
        roles = {
            node.id if isinstance(node, tree.Name) else node.name: Role.OPERAND
            for equation in lhs
            for node in walk(equation)
            if isinstance(node, tree.Name | tree.Declared)
        } | {n: role for n, role in resolved.roles.items() if n not in choice and n not in defaults}
        forms.append(Form(name, lhs, rhs, kept, roles, resolved.vocabulary))
    return forms


def _named(call: tree.Call, operator: Operator) -> tree.Call:
    """A call of an operator variable as one of `operator`; what it has to be given is a variable, too."""
    bound = bind(call, operator)
    missing = tuple(
        tree.Argument(tree.Name(f"{call.callee}.{p.name}", span=call.span), p.name, span=call.span)
        for p in operator.params
        if not p.is_operand and p.default is REQUIRED and p.name not in bound
    )
    return dataclasses.replace(call, callee=operator.name, arguments=(*call.arguments, *missing))


def changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """A syntax tree with `change` applied to every node, operands first."""
    if isinstance(value, tuple):
        return tuple(changed(item, change) for item in value)
    if not isinstance(value, tree.Node):
        return value
    parts = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.name != "span"}
    new = {name: changed(part, change) for name, part in parts.items()}
    different = {name: part for name, part in new.items() if part is not parts[name] and part != parts[name]}
    return change(dataclasses.replace(value, **different) if different else value)


def positions(term: tree.Expr) -> Iterator[tuple[tuple[int, ...], tree.Call]]:
    """The operators of a plain term with where they stand: the path of arguments down to them."""
    if isinstance(term, tree.Call):
        yield (), term
        for i, argument in enumerate(term.arguments):
            for path, call in positions(argument.value):
                yield (i, *path), call
    elif isinstance(term, tree.ListOf):
        for i, item in enumerate(term.items):
            for path, call in positions(item):
                yield (i, *path), call


# ---------------------------------------------------------------- conditions


def _speaks_of_more(clause: tree.Clause) -> bool:
    """Whether a condition needs the right side or a cost, which the engine alone decides."""
    return any(
        (isinstance(node, tree.Call) and node.callee in COSTS)
        or (isinstance(node, tree.Name) and node.id == "rhs")
        for node in walk(clause)
    )


def _written_out(clause: tree.Clause, lhs: tuple[tree.Equation, ...]) -> Any:
    """`clause` with the left side in the place of `lhs`."""
    first = lhs[0]
    value = tree.Name(first.names[0], span=first.span) if len(first.names) == 1 else first.term
    return changed(clause, lambda node: value if isinstance(node, tree.Name) and node.id == "lhs" else node)


# ---------------------------------------------------------------- terms


def _plain_equation(equation: tree.Equation, vocabulary: Vocabulary) -> tree.Equation:
    return dataclasses.replace(equation, term=plain(equation.term, vocabulary))


def plain(expr: tree.Expr, vocabulary: Vocabulary) -> Any:
    """A term with every operator written as a call whose arguments are named."""
    span = expr.span
    match expr:
        case tree.Unary(operator="-", operand=tree.Constant(value=int() | float() as number)):
            return tree.Constant(-number, span=span)
        case tree.Unary(operator="-", operand=operand):
            return plain(_call("neg", (operand,), span), vocabulary)
        case tree.Binary(operator=sign, left=left, right=right) if sign in INFIX:
            return plain(_call(INFIX[sign], (left, right), span), vocabulary)
        case tree.Call(callee=callee) if callee in vocabulary.operators:
            return _plain_call(expr, vocabulary)
        case _:
            return expr


def _call(callee: str, operands: tuple[tree.Expr, ...], span: Any) -> tree.Call:
    return tree.Call(callee, tuple(tree.Argument(e, span=span) for e in operands), span=span)


def _plain_call(call: tree.Call, vocabulary: Vocabulary) -> Any:
    operator, span = vocabulary.operators[call.callee], call.span
    if call.repeat is not None:
        result: tree.Expr = call.arguments[0].value
        for _ in range(max(call.repeat.least, 1)):
            result = dataclasses.replace(
                call, arguments=(tree.Argument(result, span=span), *call.arguments[1:]), repeat=None
            )
        return plain(result, vocabulary)
    bound = bind(call, operator)
    if is_nary(call, operator):
        operands: Any = bound[operator.params[0].name]
        first, *others = (e.value if isinstance(e, tree.Splat) else e for e in operands)
        for other in others:
            first = _call(call.callee, (first, other), span)
        return plain(first, vocabulary)
    arguments = []
    for param in operator.params:
        written = bound.get(param.name)
        if written is None:
            continue
        if isinstance(written, tuple):
            items = tuple(plain(e, vocabulary) for item in written for e in _copies(item))
            value: Any = tree.ListOf(items, span=span)
        elif param.is_operand:
            value = plain(written, vocabulary)
        else:
            value = attribute(written, param)
        arguments.append(tree.Argument(value, param.name, span=span))
    return dataclasses.replace(call, arguments=tuple(arguments))


def _copies(item: tree.Expr) -> Iterator[tree.Expr]:
    """`f(xs)...` as that many terms, each with a variable of its own."""
    if not isinstance(item, tree.Splat):
        yield item
        return
    for i in range(COPIES):

        def numbered(node: Any, i: int = i) -> Any:
            match node:
                case tree.Name(id=name):
                    return dataclasses.replace(node, id=f"{name}_{i}")
                case tree.Declared(name=name):
                    return dataclasses.replace(node, name=f"{name}_{i}")
            return node

        yield changed(item.value, numbered)


def attribute(expr: tree.Expr, param: Param) -> Any:
    """An attribute in the normal form of its kind, as far as that is known without a rank."""
    match expr:
        case tree.Unary(operator="-", operand=tree.Constant(value=int() | float() as number)):
            return tree.Constant(-number, span=expr.span)
        case tree.Constant(value=int() as number) if param.kind in ("ints1", "ints2", "ints3"):
            return tree.ListOf((tree.Constant(number, span=expr.span),) * int(param.kind[-1]), span=expr.span)
        case tree.Name(id=name) if param.kind == "dtype" and name in DTYPES:
            return tree.Constant(name, span=expr.span)
        case tree.ListOf(items=items):
            one = Param(param.name, "int")
            return tree.ListOf(tuple(attribute(item, one) for item in items), span=expr.span)
        case _:
            return expr


def default_of(param: Param, span: Any) -> Any:
    """The default of an attribute, as it would be written."""

    def written(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return tree.ListOf(tuple(written(v) for v in value), span=span)
        return tree.Constant(value, span=span)

    return written(param.canonical(param.default))
