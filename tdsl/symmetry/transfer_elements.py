"""Actions through functions of single elements: which functions commute with which actions.

Orders of places commute with every function of the elements; signs with odd functions; positive scales with
homogeneous ones (f(s·x) = s·f(x)); matrices with linear ones only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from tdsl.symmetry.action import Action, action, same
from tdsl.symmetry.along import Along, Monomial, Turn, along, is_still, keeps_signs, matrix, permutes
from tdsl.symmetry.along import scales as scales_of
from tdsl.symmetry.element import Linear, Permutation
from tdsl.symmetry.transfer import (
    Breaks,
    Law,
    Residual,
    Site,
    Value,
    distance,
    family,
    law,
    require_near,
    transfer,
)


@family(lambda operator: operator.pointwise)
def pointwise(site: Site) -> Law:
    """A function of each element: permutations pass; the rest by what the operator table knows of it."""
    site.require_only_x()
    operator, acting = site.operator, site.x.action
    try:
        parts = {axis: _through(site, element) for axis, element in acting.parts}
    except Breaks as why:
        raise Breaks(why.reason, acting) from None
    if operator.name == "cast" and not site["dtype"].is_floating_point and not acting.permutes:
        raise Breaks("a cast to whole numbers is not linear")
    return law(site, action(acting.rank, parts, acting.order))


def _through(site: Site, element: Along) -> Along:
    operator = site.operator
    if permutes(element) or operator.name == "cast" or "x" in operator.linear_in:
        return element
    name = operator.name
    if isinstance(element, Linear):
        raise Breaks(
            f"{name} acts on each element, so it commutes with no matrix that mixes them; {name} of lengths,"
            " or a gate that is computed from them, does"
        )
    assert isinstance(element, Monomial)
    signs = all(abs(scale) == 1 for scale in element.scales)
    if operator.even and (signs or operator.homogeneous):
        return along(Monomial(element.places, tuple(abs(scale) for scale in element.scales)))
    positive = keeps_signs(element)
    if (positive or operator.odd) and (signs or operator.homogeneous):
        return element
    if not positive and not operator.odd:
        raise Breaks(f"{name} is not odd: {name}(-x) is not -{name}(x)")
    raise Breaks(f"{name} is not homogeneous: {name}(s·x) is not s·{name}(x)")


@transfer("prelu")
def _prelu(site: Site) -> Law:
    """Homogeneous, with a slope for every channel, axis 1."""
    x, slopes = site["x"], site["weight"]
    if slopes.constant is None or not slopes.still:
        raise Breaks("the slopes of prelu depend on the input")
    if not all(keeps_signs(element) for _, element in x.action.parts):
        raise Breaks("prelu is homogeneous, and neither odd nor linear")
    if slopes.constant.numel() == 1 or x.rank < 2:
        return law(site, x.action)
    if x.action.order[1] != 1:
        raise Breaks("the channels of prelu change places with another axis")
    part = x.action.part(1)
    moved = slopes.constant if part is None else slopes.constant[list(part.places)]
    residual = require_near(distance(moved, slopes.constant), "prelu has other slopes there", x.action)
    return law(site, x.action, residual=residual)


# ---------------------------------------------------------------- several operands


@family(lambda operator: operator.elementwise)
def elementwise(site: Site) -> Law:
    """Operands broadcast against each other; all that are not constant must be moved alike."""
    return _together(site, _kind(site))


@transfer("masked_fill")
def _masked_fill(site: Site) -> Law:
    return _together(site, "any")


@transfer("where")
def _where(site: Site) -> Law:
    return _together(site, "any")


@transfer("pow")
def _power(site: Site) -> Law:
    """A number as exponent: scales are raised to it."""
    exponent = site["exponent"]
    if isinstance(exponent, Value) or not isinstance(site["x"], Value):
        return _together(site, "any")
    acting = site["x"].action
    parts: dict[int, Along] = {}
    for axis, element in acting.parts:
        if isinstance(element, Linear):
            raise Breaks("a power of each element commutes with no matrix that mixes them")
        if isinstance(element, Monomial):
            if exponent != int(exponent) and any(scale < 0 for scale in element.scales):
                raise Breaks(f"a power of {exponent} has no law for negative numbers")
            element = along(Monomial(element.places, tuple(scale**exponent for scale in element.scales)))
        parts[axis] = element
    return law(site, action(acting.rank, parts, acting.order))


def _kind(site: Site) -> str:
    name = site.operator.name
    if name in ("add", "sub"):
        return "sum"
    return "product" if name in ("mul", "div") else "any"


def _together(site: Site, kind: str) -> Law:
    shape = site.shapes[0]
    values = site.values()
    numbers = [
        site.arguments[p.name]
        for p in site.operator.operands
        if isinstance(site.arguments.get(p.name), int | float)
    ]
    lifted = [(value, lift(value, shape)) for value in values if value.constant is None]
    order = _order(lifted, shape)
    parts: dict[int, Along] = {}
    for axis in range(len(shape)):
        if any(
            acting.part(axis) is not None and extent(v, axis, shape) != shape[axis] for v, acting in lifted
        ):
            raise Breaks(f"an operand of {site.operator.name} is scaled before it is broadcast")
        found = [
            (value, acting.part(axis))
            for value, acting in lifted
            if extent(value, axis, shape) == shape[axis]
        ]
        element = _joined(site, kind, found, [value for value, _ in lifted], axis, shape)
        if element is not None:
            parts[axis] = element
    made = action(len(shape), parts, order)
    if not made.permutes and kind != "product" and any(number != 0 for number in numbers):
        raise Breaks(f"a number is added to what {made} acts on", made)
    residual: Residual | None = None
    for value in values:
        if value.constant is not None:
            off = _constant_residual(value.constant, made, shape, kind)
            what = f"the constant operand of {site.operator.name} is not invariant under {made}"
            require_near(off, what, made)
            if not off.exact or any(extent(value, axis, shape) > 1 for axis in made.touched):
                residual = off if residual is None else residual | off
    return law(site, made, residual=residual)


def lift(value: Value, shape: Sequence[int]) -> Action:
    """What acts on a value once it is broadcast to a shape: axes align from the last."""
    more = len(shape) - value.rank
    parts: dict[int, Along] = {}
    for axis, element in value.action.parts:
        if value.shape[axis] == 1 and shape[axis + more] != 1:
            scale = float(matrix(element)[0, 0])
            element = Monomial(tuple(range(shape[axis + more])), (scale,) * shape[axis + more])
        parts[axis + more] = element
    single = all(value.shape[axis] == 1 for place, axis in enumerate(value.action.order) if place != axis)
    own = range(value.rank) if single else value.action.order
    order = [*range(more), *(axis + more for axis in own)]
    return action(len(shape), parts, order)


def extent(value: Value, axis: int, shape: Sequence[int]) -> int:
    """How many different places a value has along an axis of the shape that it is broadcast to."""
    at = axis - (len(shape) - value.rank)
    return value.shape[at] if at >= 0 and not value.is_alike_along(at) else 1


def shared_action(
    site: Site, lifted: Sequence[tuple[Value, Action]], axes: Iterable[int], shape: Sequence[int]
) -> Action:
    """What acts along some axes of a shape on all operands of it or broadcast to it, and their axes.

    An operand whose places along an axis are all the same goes with every order of them, and with nothing
    that does more. Raises `Breaks` where it is not the same.
    """
    name, parts = site.operator.name, {}
    for axis in axes:
        found = [
            acting.part(axis)
            for value, acting in lifted
            if extent(value, axis, shape) == shape[axis] or acting.part(axis) is not None
        ]
        if len(set(found)) > 1:
            raise Breaks(f"{name} of tensors that are acted on differently")
        if found and (element := found[0]) is not None:
            if not permutes(element) and len(found) < len(lifted):
                raise Breaks(f"{name} with what is the same along an axis that {element} mixes or scales")
            parts[axis] = element
    orders = {acting.order for _, acting in lifted}
    if len(orders) > 1:
        raise Breaks(f"{name} of tensors whose axes change places differently")
    return action(len(shape), parts, orders.pop())


def _order(lifted: Sequence[tuple[Value, Action]], shape: Sequence[int]) -> tuple[int, ...]:
    """The order of axes that all operands share; one that is constant along moved axes goes with any."""
    chosen: Action | None = None
    for value, acting in lifted:
        own = tuple(extent(value, axis, shape) for axis in range(len(shape)))
        if chosen is None:
            chosen = acting
        if acting.order != chosen.order:
            first = lifted[0][0]
            if all(own[axis] == 1 for axis in chosen.touched | acting.touched):
                continue
            if all(extent(first, axis, shape) == 1 for axis in chosen.touched | acting.touched):
                chosen = acting
                continue
            raise Breaks(f"one operand is acted on by {chosen}, another by {acting}", chosen)
    return chosen.order if chosen else tuple(range(len(shape)))


def _joined(
    site: Site,
    kind: str,
    found: Sequence[tuple[Value, Along | None]],
    every: Sequence[Value],
    axis: int,
    shape: Sequence[int],
) -> Along | None:
    """What acts on an axis of the result, given what acts on it in each operand that has the whole axis."""
    elements = [Turn(shape[axis], 0) if element is None else element for _, element in found]
    if not elements or all(is_still(element) for element in elements):
        return None
    first = elements[0]
    alike = all(_equal(first, other) for other in elements[1:])
    name = site.operator.name
    if kind == "product" and not any(isinstance(element, Linear) for element in elements):
        places = first.places  # type: ignore[union-attr]  # no matrix here
        if any(other.places != places for other in elements[1:]):  # type: ignore[union-attr]
            raise Breaks(f"the operands of {name} are permuted differently along axis {axis - len(shape)}")
        total = [1.0] * shape[axis]
        for (value, _), element in zip(found, elements, strict=True):
            inverted = name == "div" and value is site.arguments.get("y")
            for i, scale in enumerate(scales_of(element)):  # type: ignore[arg-type]
                total[i] *= 1 / scale if inverted else scale
        return along(Monomial(places, tuple(total)))
    if kind == "product" and len(elements) == 1:
        return first  # the other operands are one number along this axis
    if not alike:
        raise Breaks(f"the operands of {name} are acted on differently along axis {axis - len(shape)}")
    if permutes(first):
        return first
    if kind == "sum" and len(elements) == len(every):
        return first
    if kind == "sum":
        raise Breaks(f"what {name} adds along axis {axis - len(shape)} is not acted on as the rest is")
    raise Breaks(f"{name} acts on each element, so it commutes with permutations only")


def _equal(first: Along, second: Along) -> bool:
    if first == second:
        return True
    if permutes(first) and permutes(second):
        return False
    return same(action(1, {0: first}), action(1, {0: second}))


def _constant_residual(constant: Tensor, acting: Action, shape: Sequence[int], kind: str) -> Residual:
    """How far a constant is from being left alone by the action on the result that it is broadcast into."""
    more = len(shape) - constant.ndim
    own = {axis: constant.shape[axis - more] if axis >= more else 1 for axis in range(len(shape))}
    parts: dict[int, Any] = {}
    for axis, element in acting.parts:
        whole = own[axis] == shape[axis]
        if kind == "product":  # scales pass by; only what mixes places matters
            if isinstance(element, Linear):
                if whole and shape[axis] > 1:
                    mean = constant.mean(axis - more, keepdim=True).expand_as(constant)
                    return distance(mean, constant)
                continue
            element = along(Permutation(tuple(element.places)))
        if whole:
            parts[axis] = element
        elif not permutes(element) and constant.abs().max() > 0:
            ones = torch.ones(shape[axis], dtype=torch.float64)
            off = distance(matrix(element) @ ones, ones)
            if off.norm:
                return off
    touched = [place for place, axis in enumerate(acting.order) if place != axis]
    if all(own[axis] == 1 for axis in touched):
        moved = action(len(shape), parts)
    else:
        moved = action(len(shape), parts, acting.order)
    wide = constant.reshape((1,) * more + tuple(constant.shape))
    sizes = [own[axis] for axis in range(len(shape))]
    return distance(moved.apply(wide.expand(sizes)), wide.expand(sizes))


__all__ = ["elementwise", "extent", "lift", "pointwise", "shared_action"]
