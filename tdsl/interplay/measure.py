"""What every application of a rule makes smaller: a reason why rules cannot go on for ever.

A measure is counted where what a rule matches is used nowhere else, and operators on constants, which are
computed at once, do not count. What a condition of the rule promises is believed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tdsl.interplay.forms import Form, positions
from tdsl.interplay.work import never_more_macs
from tdsl.lang import tree
from tdsl.lang.resolve import Resolved, Role
from tdsl.lang.walk import walk

OPERATORS = "operators"
NUMBERS = "numbers stored"
MACS = "multiply–accumulates"
_PROMISED = {"nodes": OPERATORS, "params": NUMBERS, "bytes": NUMBERS, "macs": MACS}
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}

STRICT, WEAK = -1, 0


@dataclass(frozen=True)
class Effect:
    """By measure: `STRICT` where a rule always makes it smaller, `WEAK` where never larger."""

    of: Mapping[str, int]

    def __getitem__(self, measure: str) -> int:
        """What the rule does to a measure; 1 where it may grow."""
        return self.of.get(measure, 1)


def effect_of(resolved: Resolved, forms: Sequence[Form]) -> Effect:
    """What a rule does to every measure, in each of its forms."""
    counted = [_counted(form) for form in forms]
    found: dict[str, int] = {}
    for measure in {name: None for effect in counted for name in effect}:
        found[measure] = max(effect.get(measure, WEAK) for effect in counted)
    for measure, change in _promises(resolved.rule.where):
        found[measure] = min(found.get(measure, 1), change)
    return Effect(found)


def _promises(where: Sequence[tree.Clause]) -> Iterator[tuple[str, int]]:
    """`nodes(rhs) < nodes(lhs)` and the like among the conditions, also where `and` joins them."""
    stack = [clause.test for clause in where if isinstance(clause, tree.Condition)]
    while stack:
        test = stack.pop()
        if not isinstance(test, tree.Binary):
            continue
        if test.operator == "and":
            stack += [test.left, test.right]
        sides = _cost(test.left), _cost(test.right)
        sign = test.operator
        if sides[0][1] == "lhs":
            sides, sign = sides[::-1], _TURNED.get(sign, "")
        (measure, first), (same, second) = sides
        if measure and measure == same and (first, second) == ("rhs", "lhs") and sign in ("<", "<="):
            yield _PROMISED[measure], STRICT if sign == "<" else WEAK


def _cost(expr: tree.Expr) -> tuple[str, str]:
    if isinstance(expr, tree.Call) and expr.callee in _PROMISED and len(expr.arguments) == 1:
        side = expr.arguments[0].value
        return expr.callee, side.id if isinstance(side, tree.Name) else ""
    return "", ""


def _counted(form: Form) -> dict[str, int]:
    after = {name for equation in form.rhs for name in equation.names}
    kept = [e for e in form.lhs if e.names and not after & {*e.names}]
    dying = _operators((e.term for e in form.lhs if e not in kept), form) - _operators(
        (e.term for e in kept), form
    )
    made = _operators((e.term for e in form.rhs), form)
    effect = {OPERATORS: _change(dying.total(), made.total())}
    for name in {**dying, **made}:
        effect[f"operators `{name}`"] = _change(dying[name], made[name])
    if not any(_computes(e.term, form) for e in form.rhs):
        effect[NUMBERS] = WEAK
    multiplies = any(form.vocabulary.operators[name].macs for name in made)
    if not multiplies or never_more_macs(form, lambda term: is_constant(term, form)):
        effect[MACS] = WEAK
    return effect


def _change(before: int, after: int) -> int:
    return (after > before) - (after < before)


def _operators(terms: Iterator[tree.Expr], form: Form) -> Counter[str]:
    """How often each operator stands in some terms, equal subterms counted once, constants not at all."""
    calls = dict.fromkeys(call for term in terms for _, call in positions(term))
    return Counter(
        c.callee for c in calls if c.callee in form.vocabulary.operators and not is_constant(c, form)
    )


def _computes(term: tree.Expr, form: Form) -> bool:
    """Whether a right side makes a constant that was not there."""
    names = [node for node in walk(term) if isinstance(node, tree.Name)]
    return any(is_constant(call, form) for _, call in positions(term)) or any(
        form.roles.get(node.id) is Role.DEFINED for node in names
    )


def is_constant(term: tree.Expr, form: Form) -> bool:
    """Whether a term is known at compile time in every match."""
    match term:
        case tree.Name(id=name) | tree.Declared(name=name):
            return name in constants(form) or form.roles.get(name) is Role.DEFINED
        case tree.Constant():
            return True
        case tree.ListOf(items=items):
            return all(is_constant(item, form) for item in items)
        case tree.Call(callee=callee) if callee in form.vocabulary.operators:
            operands = {p.name for p in form.vocabulary.operators[callee].operands}
            values = [a.value for a in term.arguments if a.name in operands]
            return bool(values) and all(is_constant(value, form) for value in values)
        case _:
            return isinstance(term, tree.Call | tree.Unary | tree.Binary)


def constants(form: Form) -> set[str]:
    """The variables of the left side that are weights in every match."""
    return {
        node.name
        for equation in form.lhs
        for node in walk(equation)
        if isinstance(node, tree.Declared) and node.type is not None and node.type.const
    }
