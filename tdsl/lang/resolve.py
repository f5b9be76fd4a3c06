"""Name checking of a rule: every name has one role, every call fits its operator, every use is bound.

`resolve` also refuses rules whose form alone is wrong: a left side that matches anything or falls apart,
an inexact step in an exact rule, a parameter that does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from tdsl.errors import Span, TdslError
from tdsl.lang import tree
from tdsl.lang.bind import Bound, bind, is_nary
from tdsl.lang.kinds_of_names import Kinds
from tdsl.lang.pattern import PatternReader
from tdsl.lang.progress import require_progress
from tdsl.lang.scope import TENSORS, Role, Scope
from tdsl.lang.sense import require_fitting_arguments, require_sense
from tdsl.lang.uses import Uses
from tdsl.lang.vocabulary import PARAMETER_KINDS, Vocabulary
from tdsl.lang.walk import walk
from tdsl.ops import Operator
from tdsl.spelling import did_you_mean

__all__ = ["Bound", "Resolved", "Role", "bind", "is_nary", "resolve"]


@dataclass(frozen=True)
class Resolved:
    """A rule whose names are known: the role of each, and the operators an operator variable may be."""

    rule: tree.Rule
    roles: Mapping[str, Role]
    operators: Mapping[str, tuple[Operator, ...]]
    vocabulary: Vocabulary

    @cached_property
    def matched_calls(self) -> tuple[tree.Call, ...]:
        """Every call on the left side, in the order of the text."""
        sides = (walk(equation.term) for equation in self.rule.lhs)
        return tuple(node for side in sides for node in side if isinstance(node, tree.Call))

    @cached_property
    def matched_types(self) -> Mapping[str, tree.TensorType]:
        """The written shape of each variable of the left side, the first where there are several."""
        found: dict[str, tree.TensorType] = {}
        for equation in self.rule.lhs:
            for node in walk(equation.term):
                if isinstance(node, tree.Declared) and node.type is not None and node.type.dims is not None:
                    found.setdefault(node.name, node.type)
        return found

    @cached_property
    def computed(self) -> frozenset[str]:
        """The names that a side or a definition speaks of, not conditions alone, other than as a size."""
        rule = self.rule
        told = (*rule.lhs, *rule.rhs, *(c for c in rule.where if isinstance(c, tree.Definition)))
        nodes = [node for part in told for node in walk(part)]
        shapes = [node for node in nodes if isinstance(node, tree.TensorType | tree.ListOf)]
        sizes = {node.id for shape in shapes for node in walk(shape) if isinstance(node, tree.Name)}
        return frozenset(node.id for node in nodes if isinstance(node, tree.Name)) - sizes


def resolve(rule: tree.Rule, vocabulary: Vocabulary, *, makes_sense: bool = False) -> Resolved:
    """Check the names of `rule`. Raises `TdslError` at the first mistake, in the order of the text.

    `makes_sense` says that what it compares and what its operators are given is known to fit: it is of a rule
    with a verdict on record, and 700 of them take a third less time.
    """
    scope = Scope(vocabulary)
    operators = _parameters(rule, scope)
    _left(rule, scope, operators)
    uses = Uses(scope, operators)
    reader = PatternReader(scope, operators)
    _require_named_results(rule)
    for clause in rule.where:
        if isinstance(clause, tree.Condition):
            uses.condition(clause.test)
        else:
            _definition(clause, uses, reader)
    reader.finish()
    kinds = None if makes_sense else Kinds(rule, scope.roles, operators, vocabulary)
    if kinds is not None:
        require_fitting_arguments(rule.lhs, kinds)
        require_sense(rule, kinds)
    for equation in rule.rhs:
        uses.term(equation.term)
    if kinds is not None:
        require_fitting_arguments(rule.rhs, kinds)
    _require_exactness(rule, vocabulary)
    _require_used_parameters(rule, scope)
    require_progress(rule, vocabulary)
    return Resolved(rule, MappingProxyType(scope.roles), MappingProxyType(operators), vocabulary)


# ---------------------------------------------------------------- parameters


def _parameters(rule: tree.Rule, scope: Scope) -> dict[str, tuple[Operator, ...]]:
    operators: dict[str, tuple[Operator, ...]] = {}
    uses = Uses(scope, operators)
    for parameter in rule.parameters:
        if parameter.name in scope.roles:
            raise TdslError(f"the parameter `{parameter.name}` is there twice", parameter.span)
        if len(parameter.kinds) == 1 and parameter.kinds[0] in PARAMETER_KINDS:
            if parameter.default is not None:
                uses.value(parameter.default)
            scope.declare(parameter.name, Role.PARAMETER, parameter.span)
            continue
        scope.declare(parameter.name, Role.OPERATOR, parameter.span)
        if parameter.name in scope.vocabulary.operators:
            raise TdslError(
                f"`{parameter.name}` is an operator already", parameter.span, hint="use another name"
            )
        members = [op for kind in parameter.kinds for op in _members(kind, parameter, scope.vocabulary)]
        operators[parameter.name] = tuple({op.name: op for op in members}.values())
    return operators


def _members(kind: str, parameter: tree.Parameter, vocabulary: Vocabulary) -> tuple[Operator, ...]:
    members = vocabulary.members(kind)
    if not members:
        kinds = [*PARAMETER_KINDS, *vocabulary.classes]
        raise TdslError(
            f"`{kind}` is no kind of parameter, no class of operators and no operator",
            parameter.span,
            expected=f"{', '.join(PARAMETER_KINDS)}, {', '.join(vocabulary.classes)}, or operators",
            hint=did_you_mean(kind, kinds) or did_you_mean(kind, vocabulary.operators),
        )
    return members


def _require_used_parameters(rule: tree.Rule, scope: Scope) -> None:
    for parameter in rule.parameters:
        if parameter.name not in scope.used:
            raise TdslError(
                f"the parameter `{parameter.name}` is never used",
                parameter.span,
                hint="use it or leave it out",
            )
        on_left = any(
            isinstance(node, tree.Call) and node.callee == parameter.name
            for equation in rule.lhs
            for node in walk(equation.term)
        )
        if scope.roles[parameter.name] is Role.OPERATOR and not on_left:
            raise TdslError(
                f"the left side does not say which operator `{parameter.name}` is",
                parameter.span,
                expected=f"`{parameter.name}(…)` on the left side",
            )


# ---------------------------------------------------------------- sides


def _left(rule: tree.Rule, scope: Scope, operators: Mapping[str, tuple[Operator, ...]]) -> None:
    for equation in rule.lhs:
        _refuse_bare(equation.term)
        if not equation.names and len(rule.lhs) > 1:
            raise TdslError(
                "of several equations each needs a name", equation.span, expected="`p = …` on each line"
            )
        for name in equation.names:
            if name in scope.roles:
                raise TdslError(
                    f"`{name}` is already {scope.roles[name].value} (line {scope.places[name].line})",
                    equation.span,
                    hint="give each result a name of its own",
                )
            scope.declare(name, Role.RESULT, equation.span)
    reader = PatternReader(scope, operators)
    for equation in rule.lhs:
        reader.operand(equation.term)
        _require_results(equation, operators, scope.vocabulary)
    reader.finish()
    _require_connected(rule, scope)


def _refuse_bare(term: tree.Expr) -> None:
    if isinstance(term, tree.Alternatives):
        for option in term.options:
            _refuse_bare(option.term)
    elif not isinstance(term, tree.Call | tree.Binary | tree.Unary):
        raise TdslError(
            "this would match every value of a graph",
            term.span,
            expected="an operator applied to something, such as `relu(x)`",
        )


def _require_results(
    equation: tree.Equation, operators: Mapping[str, tuple[Operator, ...]], vocabulary: Vocabulary
) -> None:
    if not isinstance(equation.term, tree.Call) or not equation.names:
        return
    callee = equation.term.callee
    for operator in operators.get(callee) or vocabulary.members(callee):
        if operator.results not in (0, len(equation.names)):
            raise TdslError(
                f"`{operator.name}` has {_count(operator.results, 'result')}, and"
                f" {_count(len(equation.names), 'name')} on the left of `=`",
                equation.span,
            )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _require_connected(rule: tree.Rule, scope: Scope) -> None:
    """Several results are found through the values they share, so each must share one with the rest."""
    groups = []
    for equation in rule.lhs:
        names = {n.id for n in walk(equation.term) if isinstance(n, tree.Name)}
        names |= {n.name for n in walk(equation.term) if isinstance(n, tree.Declared)}
        groups.append({n for n in names if scope.roles.get(n) in TENSORS} | set(equation.names))
    reached, waiting = set(groups[0]), list(zip(rule.lhs[1:], groups[1:], strict=True))
    while near := [pair for pair in waiting if pair[1] & reached]:
        reached.update(*(names for _, names in near))
        waiting = [pair for pair in waiting if pair not in near]
    if waiting:
        equation = waiting[0][0]
        raise TdslError(
            f"`{', '.join(equation.names)}` shares no value with the rest of the left side",
            equation.span,
            expected="a tensor that occurs in both, through which one is found from the other",
        )


def _require_named_results(rule: tree.Rule) -> None:
    """The right side gives every result it replaces by name, or the only one without."""
    named = [name for equation in rule.lhs for name in equation.names]
    seen: set[str] = set()
    for equation in rule.rhs:
        if not equation.names and (named or len(rule.rhs) > 1):
            raise TdslError(
                "this does not say which result it replaces",
                equation.span,
                expected=f"`{named[0] if named else 'p'} = …`",
            )
        for name in equation.names:
            if name not in named:
                raise TdslError(
                    f"`{name}` is no result of the left side",
                    equation.span,
                    expected=f"one of {', '.join(named)}" if named else "a term without a name",
                    hint=did_you_mean(name, named),
                )
            if name in seen:
                raise TdslError(f"`{name}` is given twice", equation.span)
            seen.add(name)


# ---------------------------------------------------------------- where


def _definition(clause: tree.Definition, uses: Uses, reader: PatternReader) -> None:
    uses.value(clause.value)
    value = clause.value
    function = uses.vocabulary.functions.get(value.callee) if isinstance(value, tree.Call) else None
    if function is not None and function.results not in (0, len(clause.targets)):
        raise TdslError(
            f"`{function.name}` gives {_count(function.results, 'value')}, and"
            f" {_count(len(clause.targets), 'name')} on the left of `=`",
            clause.span,
        )
    reader.define(clause)


def _require_exactness(rule: tree.Rule, vocabulary: Vocabulary) -> None:
    """What is inexact is declared so: `~>` comes with a decomposition, `=>` and `==` without one."""
    found = _decomposition(rule, vocabulary)
    if rule.arrow == "~>" and found is None:
        raise TdslError(
            "`~>` says that something is lost, and nothing in `where` loses it",
            rule.span,
            expected="a decomposition such as `(U: [m, r], V: [r, n]) = svd(W, rank)`, or the arrow `=>`",
        )
    if rule.arrow != "~>" and found is not None:
        name, span = found
        raise TdslError(
            f"`{name}` is inexact, and `{rule.arrow}` promises exactness",
            span,
            hint="use `~>`",
        )


def _decomposition(rule: tree.Rule, vocabulary: Vocabulary) -> tuple[str, Span] | None:
    for node in walk(rule):
        if isinstance(node, tree.Call):
            function = vocabulary.functions.get(node.callee)
            if function is not None and function.kind == "decomposition":
                return node.callee, node.span
    return None
