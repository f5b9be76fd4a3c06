"""Groups as the language writes them: `dihedral(4)`, `product(S(n), C4)`, `generated([[1, 0, 2]])`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.spelling import did_you_mean
from tdsl.symmetry.element import Element, Linear, Permutation
from tdsl.symmetry.group import Group
from tdsl.symmetry.makers import MAKERS

FAMILIES = tuple(MAKERS)
"""Every function whose value is a group."""

LARGEST_DEGREE = 100_000
"""No group acts on more places: a misplaced number should not fill the memory."""

LARGEST_SHIFT = 500
"""Translations are given by matrices of one row more than they have numbers."""

_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": lambda a, b: a**b,
}


def group_of(expr: tree.Expr, names: Mapping[str, Group | int]) -> Group:
    """The group that an expression means; `names` are declared groups, and sizes.

    Raises `TdslError` at the place of the mistake.
    """
    match expr:
        case tree.Name(id=name):
            value = names.get(name)
            if isinstance(value, Group):
                return value
            if value is not None:
                raise TdslError(f"`{name}` is the number {value}", expr.span, expected="a group")
            groups = [known for known, what in names.items() if isinstance(what, Group)]
            raise TdslError(
                f"there is no group `{name}`",
                expr.span,
                expected=f"a declared group, or {', '.join(FAMILIES)} applied to something",
                hint=did_you_mean(name, groups) or did_you_mean(name, FAMILIES),
            )
        case tree.Call(callee=callee):
            if callee not in FAMILIES:
                raise TdslError(
                    f"`{callee}` makes no group",
                    expr.span,
                    expected=", ".join(FAMILIES),
                    hint=did_you_mean(callee, FAMILIES),
                )
            try:
                return _constructed(expr, names)
            except TdslError as error:
                raise error if error.span else _at(error, expr) from None
        case _:
            raise TdslError("this is no group", expr.span, expected="cyclic(4), S(n), or a declared name")


def number_of(expr: tree.Expr, names: Mapping[str, Any]) -> int | float:
    """The number that an expression means, names of sizes put in. Raises `TdslError` at its place."""
    match expr:
        case tree.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return value
        case tree.Name(id=name) if isinstance(names.get(name), int | float):
            value = names[name]
            return value if isinstance(value, int) else float(value)
        case tree.Unary(operator="-", operand=operand):
            return -number_of(operand, names)
        case tree.Binary(operator=sign, left=left, right=right) if sign in _ARITHMETIC:
            first, second = number_of(left, names), number_of(right, names)
            if sign in ("/", "//", "%") and second == 0:
                raise TdslError("division by zero", expr.span)
            if sign == "**" and (abs(second) > 64 or (first <= 0 and second != abs(int(second)))):
                raise TdslError("this power is not a number of use here", expr.span)
            computed: int | float = _ARITHMETIC[sign](first, second)
            return computed
        case tree.Name(id=name):
            numbers = [known for known, value in names.items() if isinstance(value, int | float)]
            raise TdslError(
                f"`{name}` is no number here",
                expr.span,
                expected=f"a number, or one of {', '.join(numbers)}" if numbers else "a number",
                hint=did_you_mean(name, numbers),
            )
        case _:
            raise TdslError("this is no number", expr.span, expected="a number")


def _constructed(call: tree.Call, names: Mapping[str, Group | int]) -> Group:
    values = [argument.value for argument in call.arguments]
    named = next((a for a in call.arguments if a.name is not None), None)
    if named is not None:
        raise TdslError(f"`{call.callee}` has no argument called `{named.name}`", named.span)
    maker = MAKERS[call.callee]
    if maker.params == ("n",):
        _arguments(call, 1, "a number of places")
        return maker.function(_size(values[0], names))
    if maker.params == ("sizes...",):
        if not values:
            raise TdslError(
                f"`{call.callee}` takes the sizes of what is added", call.span, expected=f"{call.callee}(3)"
            )
        sizes = [_size(value, names) for value in values]
        if prod(sizes) > LARGEST_SHIFT:
            raise TdslError(
                f"translations of {prod(sizes)} numbers are too many",
                call.span,
                expected=f"at most {LARGEST_SHIFT}",
            )
        return maker.function(*sizes)
    if call.callee == "generated":
        if not values:
            raise TdslError(
                "a group is generated by something",
                call.span,
                expected="permutations [1, 0, 2], or matrices [[0, -1], [1, 0]]",
            )
        return maker.function(*(_element(value, names) for value in values))
    if call.callee == "aut":
        _arguments(call, 1, "an adjacency matrix")
        return maker.function(_matrix(values[0], names))
    if call.callee != "product" or len(values) < 2:
        _arguments(call, 2, "two groups")
    return maker.function(*(group_of(value, names) for value in values))


def _arguments(call: tree.Call, count: int, what: str) -> None:
    if len(call.arguments) != count:
        raise TdslError(f"`{call.callee}` takes {what}, not {len(call.arguments)} arguments", call.span)


def _size(expr: tree.Expr, names: Mapping[str, Group | int]) -> int:
    value = number_of(expr, names)
    if value != int(value) or value < 1:
        raise TdslError(f"{value} is no number of places", expr.span, expected="a positive whole number")
    if value > LARGEST_DEGREE:
        raise TdslError(f"{value} places are too many", expr.span, expected=f"at most {LARGEST_DEGREE}")
    return int(value)


def _element(expr: tree.Expr, names: Mapping[str, Group | int]) -> Element:
    """`[1, 0, 2]` is a permutation, `[[0, -1], [1, 0]]` a matrix."""
    import torch

    if isinstance(expr, tree.ListOf) and expr.items and not isinstance(expr.items[0], tree.ListOf):
        places = [number_of(item, names) for item in expr.items]
        if any(place != int(place) for place in places):
            raise TdslError("places are whole numbers", expr.span, expected="[1, 0, 2]")
        return Permutation(tuple(int(place) for place in places))
    matrix = torch.tensor(_matrix(expr, names), dtype=torch.float64)
    if torch.linalg.matrix_rank(matrix) < len(matrix):
        raise TdslError("this matrix has no inverse", expr.span, expected="an invertible matrix")
    return Linear(matrix)


def _matrix(expr: tree.Expr, names: Mapping[str, Group | int]) -> list[list[float]]:
    rows = expr.items if isinstance(expr, tree.ListOf) else ()
    found = [
        [float(number_of(item, names)) for item in row.items] for row in rows if isinstance(row, tree.ListOf)
    ]
    if not found or len(found) != len(rows) or any(len(row) != len(found) for row in found):
        raise TdslError("this is no square matrix", expr.span, expected="[[0, 1], [1, 0]]")
    return found


def _at(error: TdslError, node: tree.Node) -> TdslError:
    return TdslError(error.message, node.span, expected=error.expected, hint=error.hint)
