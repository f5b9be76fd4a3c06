"""The kinds of the names of one rule, by what its left side says of them, and of expressions in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tdsl.lang import tree
from tdsl.lang.bind import bind
from tdsl.lang.kinds import ANY, AXES, OF_PARAMETERS, ON_NUMBERS_TOO, Kind, gives, kind_of_param
from tdsl.lang.scope import Role
from tdsl.lang.vocabulary import DTYPES, INFIX, SIDES, Vocabulary
from tdsl.lang.walk import walk
from tdsl.ops import Operator


@dataclass(frozen=True, slots=True)
class Rank:
    """How many axes a tensor has by its type: at least so many, or, without dots, exactly."""

    least: int
    exact: bool


class Kinds:
    """The kinds of the names of one rule, and of expressions in them."""

    def __init__(
        self,
        rule: tree.Rule,
        roles: Mapping[str, Role],
        operators: Mapping[str, tuple[Operator, ...]],
        vocabulary: Vocabulary,
    ) -> None:
        self.vocabulary = vocabulary
        self.operators = operators
        self.roles = roles
        self.names: dict[str, Kind] = {}
        self.ranks: dict[str, Rank] = {}
        self.whole = {p.name for p in rule.parameters if p.kinds == ("Int",)}
        """Names of whole numbers that are no sizes."""
        for parameter in rule.parameters:
            if parameter.name not in operators:
                self.names[parameter.name] = OF_PARAMETERS.get(parameter.kinds[0], ANY)
        for name, role in roles.items():
            if role is Role.DIMENSION:
                self.names[name] = Kind.NUMBER
            elif role is Role.RESULT:
                self.names[name] = Kind.TENSOR
        for equation in rule.lhs:
            for node in walk(equation.term):
                self._read(node)

    def is_size(self, name: str) -> bool:
        """Whether a name is a size of a tensor, and so no negative number."""
        return self.roles.get(name) is Role.DIMENSION

    def narrow(self, name: str, kind: Kind) -> None:
        """One more place that says what a name may be; a place that says the contrary is not believed."""
        known = self.names.get(name, ANY)
        self.names[name] = known & kind or known

    def define(self, clause: tree.Definition) -> None:
        """The targets of a definition are what its value is, or tensors of the shapes they are given."""
        value = self.of(clause.value)
        for target in clause.targets:
            typed = target.type is not None and target.type.dims is not None
            several = len(clause.targets) > 1 and not isinstance(clause.value, tree.Call)
            self.names[target.name] = Kind.TENSOR if typed else ANY if several else value

    def _read(self, node: tree.Node) -> None:
        match node:
            case tree.Call():
                self._arguments(node)
            case tree.Binary(left=left, right=right):
                for side in (left, right):
                    self._named(side, Kind.TENSOR | Kind.NUMBER)
            case tree.Unary(operand=operand):
                self._named(operand, Kind.TENSOR)
            case tree.Option(where=clauses):
                for clause in clauses:
                    if isinstance(clause, tree.Definition):
                        self.define(clause)
            case _:
                pass

    def _arguments(self, call: tree.Call) -> None:
        """An argument of an operator variable is what any of its operators takes."""
        if call.callee not in self.operators and call.callee not in self.vocabulary.operators:
            return  # a function, in the condition of a branch
        found: dict[int, tuple[tree.Expr, Kind]] = {}
        for operator in self.operators.get(call.callee) or self.vocabulary.members(call.callee):
            for name, written in bind(call, operator).items():
                param = operator.param(name)
                assert param is not None
                several = isinstance(written, tuple)
                kind = Kind.TENSOR | Kind.NUMBER if several else kind_of_param(param)
                for expr in written if isinstance(written, tuple) else (written,):
                    if isinstance(expr, tree.Name) and param.kind in ("int", "dim", "newdim"):
                        self.whole.add(expr.id)
                    known = found.get(id(expr), (expr, Kind(0)))[1]
                    found[id(expr)] = (expr, known | kind)
        for expr, kind in found.values():
            self._named(expr, kind)

    def _named(self, expr: tree.Expr, kind: Kind) -> None:
        match expr:
            case tree.Name(id=name):
                self.narrow(name, kind)
            case tree.Declared(name=name, type=written, optional=optional):
                self.narrow(name, Kind.TENSOR if _needs_tensor(written) else kind)
                if written is not None and written.dims is not None and not optional:
                    axes = [dim for dim in written.dims if not isinstance(dim, tree.Ellipsis_)]
                    self.ranks.setdefault(name, Rank(len(axes), len(axes) == len(written.dims)))
            case tree.Splat(value=tree.Name(id=name) | tree.Declared(name=name)):
                self.narrow(name, Kind.TENSORS)
            case tree.ListOf(items=items):
                for item in items:
                    self._named(item, Kind.NUMBER)
                    if isinstance(item, tree.Name):
                        self.whole.add(item.id)
            case _:
                pass

    # ------------------------------------------------------------ expressions

    def of(self, expr: tree.Expr) -> Kind:
        """What an expression of `where` may be."""
        match expr:
            case tree.Name(id=name) | tree.Declared(name=name):
                if name in SIDES:
                    return Kind.SIDE
                return self.names.get(name, Kind.DTYPE if name in DTYPES else ANY)
            case tree.Constant(value=value):
                return _of_constant(value)
            case tree.ListOf():
                return Kind.LIST
            case tree.Unary(operator="not"):
                return Kind.TRUTH
            case tree.Unary(operator="T"):
                return Kind.TENSOR
            case tree.Unary(operand=operand):
                return self.of(operand) & (Kind.NUMBER | Kind.LIST | Kind.TENSOR)
            case tree.Binary(operator=sign, left=left, right=right) if sign in INFIX:
                return _of_arithmetic(self.of(left), self.of(right))
            case tree.Binary():
                return Kind.TRUTH
            case tree.Call():
                return self._of_call(expr)
            case _:
                return ANY

    def _of_call(self, call: tree.Call) -> Kind:
        function = self.vocabulary.functions.get(call.callee)
        if function is None:
            return Kind.TENSOR
        if call.callee in ON_NUMBERS_TOO and call.callee in self.vocabulary.operators:
            given = [self.of(argument.value) for argument in call.arguments]
            if any(kind == Kind.TENSOR for kind in given):
                return Kind.TENSOR
            return Kind.NUMBER | (Kind.TENSOR if any(Kind.TENSOR in kind for kind in given) else Kind(0))
        if gives(function) == AXES:  # of one axis one, of a list a list
            of_axes = self.of(call.arguments[0 if call.callee == "standing" else -1].value) & AXES
            return of_axes or AXES
        return gives(function)


def _needs_tensor(written: tree.TensorType | None) -> bool:
    """Whether no number has the type: a number is no weight, has no axes and no element type."""
    if written is None:
        return False
    axes = [dim for dim in written.dims or () if not isinstance(dim, tree.Ellipsis_)]
    return written.const or written.dtype is not None or bool(axes)


def _of_constant(value: object) -> Kind:
    match value:
        case None:
            return Kind.NONE
        case bool():
            return Kind.TRUTH
        case str():
            return Kind.TEXT
        case _:
            return Kind.NUMBER


_COMPUTED = Kind.NUMBER | Kind.LIST | Kind.TENSOR
"""What arithmetic is between."""


def _of_arithmetic(left: Kind, right: Kind) -> Kind:
    """A tensor with anything is a tensor, a list with a number a list; nothing where one is neither."""
    result = Kind(0)
    for one in left & _COMPUTED:
        for other in right & _COMPUTED:
            for strongest in (Kind.TENSOR, Kind.LIST, Kind.NUMBER):
                if strongest in one | other:
                    result |= strongest
                    break
    return result
