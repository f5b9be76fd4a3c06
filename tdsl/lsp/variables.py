"""What a variable of a rule or pipeline stands for: its type as written, where it is bound, its role."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tdsl.lang import tree
from tdsl.lang.bind import bind
from tdsl.lang.resolve import Resolved
from tdsl.lang.scope import Role
from tdsl.lang.terms import clause, declared, flat, number, parameter, quoted
from tdsl.lang.vocabulary import DTYPES, PARAMETER_KINDS, SIDES
from tdsl.lang.walk import walk
from tdsl.lsp.knowledge import Knowledge
from tdsl.ops import Operator, Param

ATTRIBUTES: Mapping[str, str] = {
    "int": "an integer",
    "float": "a number",
    "scalar": "a number or a truth value",
    "bool": "`true` or `false`",
    "text": "a text",
    "border": '`"constant"`, `"reflect"`, `"replicate"` or `"circular"`',
    "dtype": "an element type",
    "dim": "one axis",
    "newdim": "one axis of the result",
    "dims": "axes, or `none` for all",
    "axes": "axes in this order",
    "perm": "a permutation of all axes",
    "shape": "a list of sizes",
    "spread": "a list of sizes that those of 1 are made",
    "ints": "a list of integers",
    "ints1": "an integer, or a list of one",
    "ints2": "an integer, or one for each of two axes",
    "ints3": "an integer, or one for each of three axes",
    "extents": "sizes of the spatial axes, or none",
    "scales": "a factor for each spatial axis, or none",
    "any": "any value",
}
"""Kinds of attributes, as a person calls them."""


def literal(value: Any) -> str:
    """A default as it is written in the language."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    match value:
        case None | bool():
            return str(value).lower()
        case str():
            return quoted(value)
        case int() | float():
            return number(value)
        case _:
            return str(value)


def describe(
    item: tree.Item, name: str, resolved: Resolved | None, knowledge: Knowledge
) -> tuple[str, list[str]] | None:
    """A variable as it was bound (`W: const [m, n]`), and sentences about it; `None` for no variable."""
    if isinstance(item, tree.Rule | tree.Pipeline):
        for one in item.parameters:
            if one.name == name:
                return parameter(one), list(_of_parameter(one, knowledge))
    if not isinstance(item, tree.Rule | tree.Example):
        return None
    for equation in item.lhs:
        if name in equation.names:
            names = ", ".join(equation.names)
            shown = f"({names})" if len(equation.names) > 1 else names
            return f"{shown} = {flat(equation.term)}", ["A result of the left side."]
    for step in item.where:
        if isinstance(step, tree.Definition) and name in (t.name for t in step.targets):
            return clause(step), list(_of_definition(step, knowledge))
    operators = dict(resolved.operators) if resolved else {}
    bound = next(_declarations(item, name), None)
    places = list(_arguments(item, name, knowledge, operators))
    role = resolved.roles.get(name) if resolved else None
    if bound is not None:
        return declared(bound), [*_of_type(bound, places), *_taken_as(places)]
    sized = [d for d in _declarations(item) if _has_size(d, name)]
    if sized:
        return name, [f"A size: {_axis(sized[0], name)}.", *_taken_as(places)]
    if name in DTYPES:
        return name, ["An element type."]
    if name in SIDES:
        return name, [f"The {'left' if name == 'lhs' else 'right'} side of the rule, as a whole."]
    if not places and role is None:
        return None
    kind = f"{role.value.capitalize()}." if role in (Role.VARIADIC, Role.DIMENSION) else ""
    return name, [*([kind] if kind else []), *_taken_as(places)]


# ---------------------------------------------------------------- how it is bound


def _declarations(rule: tree.Rule | tree.Example, name: str | None = None) -> Iterator[tree.Declared]:
    """Where variables have a type or a mark, with a type first."""
    found = [n for n in walk(rule) if isinstance(n, tree.Declared) and name in (None, n.name)]
    yield from sorted(found, key=lambda node: node.type is None)


def _has_size(declared: tree.Declared, name: str) -> bool:
    dims = declared.type.dims if declared.type else None
    return any(isinstance(node, tree.Name) and node.id == name for dim in dims or () for node in walk(dim))


def _axis(node: tree.Declared, name: str) -> str:
    dims = (node.type.dims if node.type else None) or ()
    at = next(i for i, dim in enumerate(dims) if any(n == name for n in _names(dim)))
    shown = "the last axis" if at == len(dims) - 1 else f"axis {at - len(dims)}"
    computed = "" if isinstance(dims[at], tree.Name) else "part of "
    return f"{computed}{shown} of `{declared(node)}`"


def _names(root: tree.Node) -> Iterator[str]:
    return (node.id for node in walk(root) if isinstance(node, tree.Name))


def _of_parameter(one: tree.Parameter, knowledge: Knowledge) -> Iterator[str]:
    kind = one.kinds[0]
    if kind in PARAMETER_KINDS:
        yield f"A parameter: {PARAMETER_KINDS[kind]}."
        return
    members = [op.name for kind in one.kinds for op in knowledge.vocabulary.members(kind)]
    shown = ", ".join(f"`{member}`" for member in members[:12])
    yield f"An operator: {shown}{', …' if len(members) > 12 else ''}."


def _of_definition(step: tree.Definition, knowledge: Knowledge) -> Iterator[str]:
    yield "Defined in `where`, computed in float64."
    call = step.value
    known = knowledge.decompositions.get(call.callee) if isinstance(call, tree.Call) else None
    if known is not None:
        yield f"`{known.name}` promises `{known.promise_text}` ({known.source})."


def _of_type(bound: tree.Declared, places: list[tuple[Operator, Param]]) -> Iterator[str]:
    if bound.type is not None and bound.type.const:
        yield "Known at compile time: a weight or a folded constant."
    if bound.optional:
        fill = next((p.default for _, p in places if p.is_operand and p.optional), None)
        yield "May be absent" + (f"; it is then {fill}." if fill is not None else ".")


# ---------------------------------------------------------------- where it is used


def _arguments(
    rule: tree.Rule | tree.Example,
    name: str,
    knowledge: Knowledge,
    variables: Mapping[str, tuple[Operator, ...]],
) -> Iterator[tuple[Operator, Param]]:
    """The parameters of operators that the variable is given for, on the left side first."""
    for node in (n for side in (rule.lhs, rule.rhs) for equation in side for n in walk(equation)):
        if not isinstance(node, tree.Call):
            continue
        candidates = variables.get(node.callee) or knowledge.vocabulary.members(node.callee)
        for operator in candidates[:1]:
            yield from ((operator, param) for param in _params_of(node, operator, name))


def _params_of(call: tree.Call, operator: Operator, name: str) -> Iterator[Param]:
    for given, written in bind(call, operator).items():
        param = operator.param(given)
        for value in written if isinstance(written, tuple) else (written,):
            value = value.value if isinstance(value, tree.Splat) else value
            if param and name == (value.id if isinstance(value, tree.Name) else getattr(value, "name", None)):
                yield param


def _taken_as(places: list[tuple[Operator, Param]]) -> Iterator[str]:
    if not places:
        return
    operator, param = places[0]
    if not param.is_operand:
        yield f"`{param.name}` of `{operator.name}`: {ATTRIBUTES[param.kind]}."
        return
    shape = f", of shape `[{', '.join(param.dims)}]`" if param.dims else ""
    yield f"`{param.name}` of `{operator.name}`{shape}."
