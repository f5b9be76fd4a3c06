"""The terms of an `action` declaration as actions: `rot90(x, dims=(H, W))`, `g @ x`, `x * [1, -1]`.

`x` is the tensor, `g` an element of the group as it is defined (a permutation of its places, or a matrix),
and `t` what it adds, where it is an affine map x ↦ g·x + t; names of sizes stand for axes where an axis is
asked for, and for numbers elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.bind import bind
from tdsl.ops import OPERATORS
from tdsl.spelling import did_you_mean
from tdsl.symmetry.action import Action, action, flipped, identity_on, rolled, rotated, translated, transposed
from tdsl.symmetry.along import Along, Monomial, inverse, matrix
from tdsl.symmetry.declared import number_of
from tdsl.symmetry.element import Element, Linear, Permutation

TENSOR, ELEMENT, TRANSLATION = "x", "g", "t"
"""The names that a term uses for the tensor, for the element of the group, and for what it adds."""

MOVERS = ("flip", "roll", "rot90", "permute", "index_select", "mul", "matmul", "linear", "neg")
"""The operators that a generator is written with."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a term is read: the shape of x, the axes and sizes that names stand for, and the element."""

    shape: tuple[int, ...]
    axes: Mapping[str, int]
    sizes: Mapping[str, int]
    element: Element | None = None
    moved: tuple[int, ...] = ()
    """The sizes of what the element adds, where it is an affine map."""


def action_of(expr: tree.Expr, setting: Setting) -> Action:
    """What a term does to a tensor of that shape. Raises `TdslError` at the place of a mistake."""
    try:
        return _tensor(expr, setting)[0]
    except TdslError as error:
        if error.span is None:
            raise TdslError(error.message, expr.span, expected=error.expected, hint=error.hint) from None
        raise


def uses_element(expr: tree.Expr) -> bool:
    """Whether a term speaks of the element, `g` or `t`, and so of every generator at once."""
    from tdsl.lang.walk import walk

    return any(isinstance(node, tree.Name) and node.id in (ELEMENT, TRANSLATION) for node in walk(expr))


_Moved = tuple[Action, tuple[int, ...]]
"""What was done to x so far, and the shape it has then."""


def _tensor(expr: tree.Expr, setting: Setting) -> _Moved:
    match expr:
        case tree.Name(id=name) if name == TENSOR:
            return identity_on(len(setting.shape)), setting.shape
        case tree.Unary(operator="-", operand=operand):
            return _scaled(_tensor(operand, setting), [-1.0], expr)
        case tree.Binary(operator="*", left=left, right=right):
            term, factor = (left, right) if _is_tensor(left) else (right, left)
            return _scaled(_tensor(term, setting), _numbers(factor, setting), expr)
        case tree.Binary(operator="@", left=left, right=right):
            return _multiplied(left, right, setting, expr)
        case tree.Binary(operator="+" | "-" as sign, left=left, right=right):
            return _translated(left, right, sign, setting, expr)
        case tree.Call(callee=callee, repeat=None) if callee in MOVERS:
            return _called(expr, setting)
        case tree.Call(callee=callee):
            raise TdslError(
                f"`{callee}` is no action on a tensor",
                expr.span,
                expected=f"one of {', '.join(MOVERS)}, `g @ x`, `x @ g.T`, or `x * [1, -1]`",
                hint=did_you_mean(callee, MOVERS),
            )
        case _:
            raise TdslError(
                "this is no action on a tensor",
                expr.span,
                expected=f"`{TENSOR}`, or an operator applied to it such as `flip({TENSOR}, dims=[-1])`",
            )


def _is_tensor(expr: tree.Expr) -> bool:
    from tdsl.lang.walk import walk

    return any(isinstance(node, tree.Name) and node.id == TENSOR for node in walk(expr))


def _called(call: tree.Call, setting: Setting) -> _Moved:
    if call.callee == "neg":
        return _scaled(_tensor(_only(call), setting), [-1.0], call)
    bound = bind(call, OPERATORS[call.callee])

    def given(name: str) -> tree.Expr | None:
        value = bound.get(name)
        assert not isinstance(value, tuple)
        return value

    def needed(name: str) -> tree.Expr:
        value = given(name)
        if value is None:
            raise TdslError(f"`{call.callee}` needs `{name}`", call.span)
        return value

    if call.callee == "mul":
        left, right = needed("x"), needed("y")
        term, factor = (left, right) if _is_tensor(left) else (right, left)
        return _scaled(_tensor(term, setting), _numbers(factor, setting), call)
    if call.callee == "matmul":
        return _multiplied(needed("x"), needed("y"), setting, call)
    moved, shape = _tensor(needed("x"), setting)
    rank = len(shape)
    match call.callee:
        case "flip":
            done = flipped(shape, [_axis(d, setting, rank) for d in _list(needed("dims"))])
        case "roll":
            shifts = [_whole(s, setting) for s in _list(needed("shifts"))]
            axes = [_axis(d, setting, rank) for d in _list(needed("dims"))]
            if len(shifts) != len(axes):
                raise TdslError(f"{len(shifts)} shifts for {len(axes)} axes", call.span)
            done = rolled(shape, shifts, axes)
        case "rot90":
            turns = given("k")
            pair = [_axis(d, setting, rank) for d in _list(needed("dims"))]
            if len(pair) != 2 or pair[0] == pair[1]:
                raise TdslError("a rotation has two axes", call.span, expected="`dims=(H, W)`")
            done = rotated(shape, 1 if turns is None else _whole(turns, setting), pair[0], pair[1])
        case "permute":
            order = [_axis(d, setting, rank) for d in _list(needed("dims"))]
            own = len(order)
            if own < rank and sorted(order) == list(range(rank - own, rank)):  # the axes before stay
                order = [*range(rank - own), *order]
            done = transposed(rank, order)
        case "index_select":
            axis = _axis(needed("dim"), setting, rank)
            element = _element(needed("index"), setting)
            if isinstance(element, Linear):
                raise TdslError("places are chosen by a permutation, not by a matrix", call.span)
            done = _fitted(action(rank, {axis: element}), shape, call)
        case _:  # linear: x · Wᵀ
            if given("bias") is not None:
                raise TdslError("an action on a tensor is linear, without a bias", call.span)
            done = _fitted(action(rank, {rank - 1: _element(needed("weight"), setting)}), shape, call)
    result = [shape[axis] for axis in done.order]
    return moved.then(done), tuple(result)


def _only(call: tree.Call) -> tree.Expr:
    if len(call.arguments) != 1:
        raise TdslError(f"`{call.callee}` takes one tensor", call.span)
    return call.arguments[0].value


def _multiplied(left: tree.Expr, right: tree.Expr, setting: Setting, at: tree.Expr) -> _Moved:
    """`g @ x` acts on the axis before the last, `x @ g` on the last one: x · g = (gᵀ · xᵀ)ᵀ."""
    if _is_tensor(left) == _is_tensor(right):
        raise TdslError("a product of a tensor and a matrix", at.span, expected="`g @ x` or `x @ g.T`")
    if _is_tensor(right):
        moved, shape = _tensor(right, setting)
        axis = max(len(shape) - 2, 0)
        element = _element(left, setting)
    else:
        moved, shape = _tensor(left, setting)
        axis, element = len(shape) - 1, _transposed(_element(right, setting))
    done = _fitted(action(len(shape), {axis: element}), shape, at)
    return moved.then(done), shape


def _translated(left: tree.Expr, right: tree.Expr, sign: str, setting: Setting, at: tree.Expr) -> _Moved:
    """`x + t`, `x - [1, 0, 0]`: the same is added wherever the tensor lies."""
    if sign == "+" and _is_tensor(right):
        left, right = right, left
    if _is_tensor(right) or not _is_tensor(left):
        raise TdslError("a tensor and what is added to it", at.span, expected="`x + t` or `x + [1, 0, 0]`")
    moved, shape = _tensor(left, setting)
    added = _added(right, setting)
    short = tuple(shape[len(shape) - added.ndim :]) if added.ndim <= len(shape) else ()
    if added.ndim > len(shape) or any(a not in (1, b) for a, b in zip(added.shape, short, strict=True)):
        raise TdslError(f"{list(added.shape)} numbers are added to a tensor of {list(shape)}", right.span)
    return moved.then(translated(identity_on(len(shape)), added if sign == "+" else -added)), shape


def _added(expr: tree.Expr, setting: Setting) -> Tensor:
    """A number, a list of numbers or of lists, `t`, or a multiple of one of these. float64."""
    match expr:
        case tree.Name(id=name) if name == TRANSLATION and name not in setting.sizes:
            if setting.element is None or not setting.moved:
                raise TdslError(
                    "the elements of this group add nothing",
                    expr.span,
                    expected="a group of affine maps, such as E(3), SE(3), T(3) or Z(3)",
                )
            return setting.element.matrix()[:-1, -1].reshape(setting.moved)
        case tree.ListOf(items=items) if items:
            rows = [_added(item, setting) for item in items]
            if any(row.shape != rows[0].shape for row in rows):
                raise TdslError("lists of different lengths", expr.span)
            return torch.stack(rows)
        case tree.Unary(operator="-", operand=operand):
            return -_added(operand, setting)
        case tree.Binary(operator="*", left=left, right=right):
            return _added(left, setting) * _added(right, setting)
        case _:
            return torch.tensor(float(number_of(expr, setting.sizes)), dtype=torch.float64)


def _fitted(done: Action, shape: Sequence[int], at: tree.Expr) -> Action:
    for axis, element in done.parts:
        if element.size != shape[axis]:
            raise TdslError(
                f"an element of size {element.size} on axis {axis - len(shape)}, whose size is {shape[axis]}",
                at.span,
            )
    return done


def _scaled(moved: _Moved, factors: Sequence[float], at: tree.Expr) -> _Moved:
    before, shape = moved
    rank = len(shape)
    if rank == 0:
        raise TdslError("a number has no axis to be scaled along", at.span)
    size = shape[-1]
    wide = list(factors) * size if len(factors) == 1 else list(factors)
    if len(wide) != size or not all(wide):
        raise TdslError(
            f"{len(wide)} factors for an axis of size {size}",
            at.span,
            expected="as many as the last axis is long, none of them zero",
        )
    done = action(rank, {rank - 1: Monomial(tuple(range(size)), tuple(wide))})
    return before.then(done), shape


# ---------------------------------------------------------------- numbers, axes, elements


def _list(expr: tree.Expr) -> tuple[tree.Expr, ...]:
    return expr.items if isinstance(expr, tree.ListOf | tree.TupleOf) else (expr,)


def _axis(expr: tree.Expr, setting: Setting, rank: int) -> int:
    """An axis from the front: by number, or by the name of its size in the action's type."""
    if isinstance(expr, tree.Name):
        if expr.id in setting.axes:
            return setting.axes[expr.id] % rank
        raise TdslError(
            f"`{expr.id}` is no axis of the action's type",
            expr.span,
            expected=f"one of {', '.join(setting.axes)}, or a number" if setting.axes else "a number",
            hint=did_you_mean(expr.id, setting.axes),
        )
    value = _whole(expr, setting)
    if not -rank <= value < rank:
        raise TdslError(f"there is no axis {value} in a tensor of {rank}", expr.span)
    return value % rank


def _whole(expr: tree.Expr, setting: Setting) -> int:
    value = number_of(expr, setting.sizes)
    if value != int(value):
        raise TdslError(f"{value} is no whole number", expr.span)
    return int(value)


def _numbers(expr: tree.Expr, setting: Setting) -> list[float]:
    return [float(number_of(item, setting.sizes)) for item in _list(expr)]


def _element(expr: tree.Expr, setting: Setting) -> Element:
    """`g`, `g.T`, `inverse(g)`, a list of places, or a matrix as a list of rows."""
    match expr:
        case tree.Name(id=name) if name == ELEMENT:
            if setting.element is None:
                raise TdslError("there is no element here", expr.span)
            if setting.moved:
                return Linear(setting.element.matrix()[:-1, :-1])
            return setting.element
        case tree.Unary(operator="T", operand=operand):
            return _transposed(_element(operand, setting))
        case tree.Call(callee="inverse", arguments=(only,)):
            return _plain(inverse(_element(only.value, setting)))
        case tree.ListOf(items=rows) if rows and all(isinstance(row, tree.ListOf) for row in rows):
            values = [_numbers(row, setting) for row in rows]
            if any(len(row) != len(rows) for row in values):
                raise TdslError("this is no square matrix", expr.span, expected="[[0, 1], [1, 0]]")
            made = Linear(torch.tensor(values, dtype=torch.float64))
            if torch.linalg.matrix_rank(made.values) < made.size:
                raise TdslError("this matrix has no inverse", expr.span, expected="an invertible matrix")
            return made
        case tree.ListOf():
            return Permutation(tuple(_whole(item, setting) for item in expr.items))
        case _:
            raise TdslError(
                "this is no permutation and no matrix",
                expr.span,
                expected=f"`{ELEMENT}`, a list of places [1, 0, 2], or of rows [[0, 1], [1, 0]]",
            )


def _transposed(element: Element) -> Element:
    return element.inverse() if isinstance(element, Permutation) else Linear(element.values.T)


def _plain(element: Along) -> Element:
    """As one of the two kinds that groups are given by."""
    return Linear(matrix(element)) if isinstance(element, Monomial | Linear) else Permutation(element.places)
