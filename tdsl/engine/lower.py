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
from tdsl.engine.left_side import LeftSide
from tdsl.engine.members import alike_members
from tdsl.engine.pattern import Pattern, Term, find_roots
from tdsl.engine.statistics import STATISTICS
from tdsl.errors import TdslError
from tdsl.factor.table import DECOMPOSITIONS, FUNCTIONS
from tdsl.lang import tree
from tdsl.lang.alternatives import Clauses, Side, expand_alternatives
from tdsl.lang.resolve import Resolved, Role
from tdsl.lang.vocabulary import COSTS
from tdsl.lang.walk import walk

MAX_VARIANTS = 64


def lower(resolved: Resolved, parameters: Mapping[str, Any]) -> tuple[Variant, ...]:
    """The variants of a resolved rule, with `parameters` as its parameters' values."""
    rule = resolved.rule
    expanded = list(itertools.product(alike_members(resolved), expand_alternatives(rule)))
    if len(expanded) > MAX_VARIANTS:
        raise TdslError(
            f"rule {rule.name} has {len(expanded)} combinations of alternatives",
            rule.span,
            expected=f"at most {MAX_VARIANTS}",
            hint="split the rule",
        )
    return tuple(_Lowering(alike, parameters, *side).variant() for alike, side in expanded)


class _Lowering:
    def __init__(
        self, resolved: Resolved, parameters: Mapping[str, Any], lhs: Side, clauses: Clauses
    ) -> None:
        self.rule = resolved.rule
        self.roles = resolved.roles
        self.operators = resolved.operators
        self.left = LeftSide(resolved, parameters, lhs)
        self.clauses = clauses

    def variant(self) -> Variant:
        outputs, kept = self.split_outputs()
        roots = find_roots((*outputs, *(term for _, term in kept)))
        simple = roots == outputs and len(outputs) == 1
        owners = [owner for _, owner in self.left.optional.values()]
        watched = tuple(dict.fromkeys((*(() if simple else outputs), *owners)))
        definitions, tests = self.where()
        return Variant(
            pattern=Pattern(outputs, kept, roots, watched),
            tests=tests,
            definitions=definitions,
            build=self.builder(),
            optional={
                name: (param, f"@{watched.index(owner)}")
                for name, (param, owner) in self.left.optional.items()
            },
            results={name: outputs.index(term) for name, term in self.left.named.items() if term in outputs},
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

    def split_outputs(self) -> tuple[tuple[Term, ...], tuple[tuple[str, Term], ...]]:
        """The terms that the right side replaces, in its order, and the named ones that it leaves."""
        assigned = [name for equation in self.rule.rhs for name in equation.names]
        outputs = tuple(self.left.named[name] for name in assigned) or (self.left.terms[-1],)
        replaced = {id(term) for term in outputs}
        kept = tuple((name, term) for name, term in self.left.named.items() if id(term) not in replaced)
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

    def where(self) -> tuple[dict[str, DefinitionCode], tuple[Test, ...]]:
        definitions: dict[str, DefinitionCode] = {}
        dearness: dict[str, int] = {}
        tests: list[tuple[int, int, Test]] = []
        for clause in (*self.left.sizes, *self.clauses):
            if isinstance(clause, tree.Definition):
                computed: dict[str, tree.Expr] = {}
                code = DefinitionCode(
                    tuple(t.name for t in clause.targets),
                    tuple(self.left.type(t.type, computed) if t.type else None for t in clause.targets),
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
                            and not self.left.binds_size(dim.id)
                        ):
                            dearness.setdefault(dim.id, cost)
                            definitions.setdefault(dim.id, code)
        for position, clause in enumerate((*self.left.sizes, *self.clauses)):
            if isinstance(clause, tree.Condition):
                test = Test(compile_expression(clause.test, self.operators), clause.test)
                tests.append((_dearness(clause.test, dearness), position, test))
        tests.sort(key=lambda entry: entry[:2])
        return definitions, tuple(test for _, _, test in tests)


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
