"""Actions through data movement.

Moves of whole axes are followed axis by axis. For the others (reshape, slice, pixel shuffle, …) the operator
itself is run on the numbers of the places; where an order of places goes in, one comes out or none does.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.ops.targets import overload_for
from tdsl.symmetry.action import Action, action, resized
from tdsl.symmetry.along import Along, Monomial, Turn, along, flip, matrix, permutes, scales
from tdsl.symmetry.element import Linear, Permutation, direct_sum
from tdsl.symmetry.transfer import (
    Breaks,
    Law,
    Residual,
    Site,
    Value,
    axes_of,
    distance,
    family,
    law,
    require_near,
    transfer,
)
from tdsl.symmetry.transfer_elements import lift, shared_action

MOST_PLACES = 1 << 22
"""Tensors of more elements are not followed place by place."""


@transfer("permute")
def _permute(site: Site) -> Law:
    """The order of axes conjugates the action."""
    x, dims = site["x"], list(site["dims"])
    back = [0] * len(dims)
    for place, axis in enumerate(dims):
        back[axis] = place
    parts = {back[axis]: element for axis, element in x.action.parts}
    return law(site, action(x.rank, parts, [back[x.action.order[axis]] for axis in dims]))


@transfer("unsqueeze")
def _unsqueeze(site: Site) -> Law:
    x = site["x"]
    at = site["dim"] % (x.rank + 1)
    return law(site, renumbered(x.action, lambda axis: axis + (axis >= at), x.rank + 1))


@transfer("squeeze")
def _squeeze(site: Site) -> Law:
    x = site["x"]
    gone = {axis for axis in axes_of(site["dims"], x.rank) if x.shape[axis] == 1} if site["dims"] else set()
    return law(site, without(x.action, gone, "squeeze"))


@transfer("expand")
def _expand(site: Site) -> Law:
    x, shape = site["x"], site.shapes[0]
    lifted = lift(x, shape)
    grown = {axis for axis in range(len(shape)) if _grown(x, axis, shape)}
    if any(place != axis and grown & {place, axis} for place, axis in enumerate(lifted.order)):
        raise Breaks(f"expand along an axis that changes places under {x.action}")
    return law(site, lifted)


def _grown(x: Value, axis: int, shape: Sequence[int]) -> bool:
    at = axis - (len(shape) - x.rank)
    return at < 0 or x.shape[at] != shape[axis]


def renumbered(acting: Action, place: Any, rank: int) -> Action:
    """The same action on a tensor whose axes have other numbers."""
    parts = {place(axis): element for axis, element in acting.parts}
    order = list(range(rank))
    for at, axis in enumerate(acting.order):
        order[place(at)] = place(axis)
    return action(rank, parts, order)


def without(acting: Action, gone: set[int], what: str) -> Action:
    """The action on the axes that are left. Raises `Breaks` when one changes places with a lost one."""
    if any((place in gone) != (axis in gone) for place, axis in enumerate(acting.order)):
        raise Breaks(f"{what} along one of the axes that change places under {acting}")
    if any(axis in gone and not permutes(element) for axis, element in acting.parts):
        raise Breaks(f"{what} along an axis on which {acting} does more than permute")
    kept = [axis for axis in range(acting.rank) if axis not in gone]
    new = {axis: i for i, axis in enumerate(kept)}
    parts = {new[axis]: element for axis, element in acting.parts if axis in new}
    return action(len(kept), parts, [new[acting.order[axis]] for axis in kept])


# ---------------------------------------------------------------- place by place


_ALONG = frozenset({"slice", "split", "index_select", "repeat_interleave"})
"""Moves along the axis `dim`, the same at every place of the others."""

_IN_PLACES = frozenset({"flip", "roll", "rot90"})
"""Moves along the axes `dims`, likewise."""


@family(lambda operator: operator.moves)
def moves(site: Site) -> Law:
    """Any data movement: by the places that the elements of the result come from."""
    values = site.values()
    acted = [value for value in values if value.constant is None]
    if site.operator.name in ("concat", "stack"):
        return _joined(site, acted)
    if site.operator.operands[0].kind == "tensors":
        raise Breaks(f"no law of {site.operator.name} is known")
    site.require_only_x()
    x = site.x
    dims = site.arguments.get("dims" if site.operator.name in _IN_PLACES else "dim")
    if (
        site.operator.name in _ALONG | _IN_PLACES
        and dims is not None
        and len(site.shapes[0]) == x.rank
        and not set(axes_of(dims, x.rank)) & x.action.touched
    ):
        return law(site, *[x.action] * len(site.shapes))  # along an axis that stays as it is
    if site.operator.name == "select":
        at = site["dim"] % x.rank
        if at not in x.action.touched:
            return law(site, without(x.action, {at}, "select"))
    if site.operator.name == "repeat_interleave" and dims is not None:
        return law(site, _repeated(x, axes_of(dims, x.rank)[0], int(site["repeats"])))
    if not x.action.permutes:
        raise Breaks(f"{site.operator.name} takes places apart that {x.action} does more than permute")
    sources = _sources(site)
    return law(site, *(_followed(site, source, x) for source in sources))


@transfer("unfold")
def _windows(site: Site) -> Law:
    """Windows along one axis; a flip of it turns them over, where they reach both ends."""
    x, size, step = site["x"], site["size"], site["step"]
    axis = site["dim"] % x.rank
    acting = x.action
    if acting.order[axis] != axis:
        raise Breaks(f"unfold along an axis that changes places under {acting}")
    parts = {at: element for at, element in acting.parts if at != axis}
    if (element := acting.part(axis)) is not None:
        if not (isinstance(element, Turn) and element.is_flip and (x.shape[axis] - size) % step == 0):
            raise Breaks(f"windows along axis {axis - x.rank} do not commute with {acting}")
        parts.update({axis: flip(site.shapes[0][axis]), x.rank: flip(size)})
    return law(site, action(x.rank + 1, parts, (*acting.order, x.rank)))


def _repeated(x: Value, axis: int, count: int) -> Action:
    """What acts on an axis each of whose places is repeated in a row: groups move as their places did."""
    if x.action.order[axis] != axis:
        raise Breaks(f"repeat_interleave along an axis that changes places under {x.action}")
    parts = dict(x.action.parts)
    element = parts[axis]
    if isinstance(element, Linear):
        raise Breaks("repeat_interleave along an axis on which a matrix acts")
    places = [place * count + i for place in element.places for i in range(count)]
    factors = [scale for scale in scales(element) for _ in range(count)]
    parts[axis] = along(Monomial(tuple(places), tuple(factors)))
    return action(x.rank, parts, x.action.order)


def _joined(site: Site, acted: Sequence[Value]) -> Law:
    """Tensors side by side: alike on the other axes; along the axis they keep to their own pieces."""
    rank = len(site.shapes[0])
    axis = site["dim"] % rank
    values = site["tensors"]
    residual: Residual | None = None
    if any(value.constant is not None for value in values):
        values, residual = _with_constants(site, acted[0], axis)
    lifted = [(value, value.action) for value in values]
    if site.operator.name == "stack":
        together = shared_action(site, lifted, range(rank - 1), values[0].shape)
        return law(site, renumbered(together, lambda a: a + (a >= axis), rank), residual=residual)
    first = shared_action(site, lifted, [at for at in range(rank) if at != axis], site.shapes[0])
    parts = dict(first.parts)
    own = [value.action.part(axis) or Turn(value.shape[axis], 0) for value in values if value.shape[axis]]
    if first.order[axis] != axis:
        raise Breaks(f"concat along an axis that changes places under {first}")
    if all(permutes(element) for element in own):
        parts[axis] = along(direct_sum([Permutation(element.places) for element in own]))
    else:
        parts[axis] = along(direct_sum([Linear(matrix(element)) for element in own]))
    return law(site, action(rank, parts, first.order), residual=residual)


def _with_constants(site: Site, acted: Value, axis: int) -> tuple[list[Value], Residual | None]:
    """The tensors, constants as what the action on the others, the common axis left out, leaves alone."""
    own = acted.action if site.operator.name == "stack" else _beside(acted.action, axis)
    found: list[Value] = []
    residual: Residual | None = None
    for value in site["tensors"]:
        if value.constant is None:
            found.append(value)
            continue
        if own.rank != value.rank or any(e.size != value.shape[a] for a, e in own.parts):
            raise Breaks(f"a constant of {site.operator.name} has other sizes")
        off = distance(own.apply(value.constant), value.constant)
        what = f"a constant operand of {site.operator.name} is not invariant under {own}"
        residual = require_near(off, what) | (residual or Residual())
        found.append(Value(value.shape, own))
    return found, residual


def _beside(acting: Action, axis: int) -> Action:
    """The action without what it does along an axis."""
    return action(acting.rank, {a: e for a, e in acting.parts if a != axis}, acting.order)


def _sources(site: Site) -> list[Tensor]:
    """Where each element of each result comes from: the operator applied to the numbers of the places."""
    x = site.x
    if prod(x.shape) > MOST_PLACES:
        raise Breaks(f"{site.operator.name} of {prod(x.shape)} elements is not followed place by place")
    numbers = torch.arange(1, prod(x.shape) + 1, dtype=torch.float64).reshape(x.shape)
    arguments = [
        _plain(site.arguments.get(p.name), numbers, x) for p in site.operator.params if not p.keyword_only
    ]
    keywords = {
        p.name: site.arguments[p.name]
        for p in site.operator.params
        if p.keyword_only and p.name in site.arguments and p.name != "implicit"
    }
    made: Any = overload_for(site.operator, arguments)(*arguments, **keywords)
    found = list(made) if isinstance(made, list | tuple) else [made]
    return [value.to(torch.int64) - 1 for value in found]


def _plain(value: Any, numbers: Tensor, x: Value) -> Any:
    if value is x:
        return numbers
    if isinstance(value, Value):
        if value.constant is None:
            raise Breaks("the places depend on the input")
        if value.constant.is_floating_point():
            raise Breaks("numbers that the action does not move are written between those that it does")
        return value.constant
    return [_plain(one, numbers, x) for one in value] if isinstance(value, list | tuple) else value


def _followed(site: Site, source: Tensor, x: Value) -> Action:
    """The action on the result for which moving first and acting then is acting first and moving then."""
    name = site.operator.name
    numbers = torch.arange(prod(x.shape), dtype=torch.int64).reshape(x.shape)
    acting = x.action.apply(numbers).flatten()  # acted[i] = x[acting[i]]
    if tuple(x.action.apply(numbers).shape) != tuple(x.shape):
        raise Breaks(f"{name} of what {x.action} changes the shape of")
    wanted = torch.where(source >= 0, acting[source.clamp(min=0)], source)  # (f(ρx))[j] = x[wanted[j]]
    guess = _guess(x, source)
    if guess is not None and torch.equal(_apply(guess, source), wanted):
        return guess
    back = torch.full((prod(x.shape),), -1, dtype=torch.int64)
    flat = source.flatten()
    kept = flat >= 0
    back[flat[kept]] = torch.arange(flat.numel())[kept]
    inverse = back[wanted.flatten().clamp(min=0)]
    if bool((wanted.flatten()[kept] < 0).any()) or bool((inverse[kept] < 0).any()) or not bool(kept.all()):
        raise Breaks(f"{name} does not commute with {x.action}: it drops or repeats what is moved")
    if not torch.equal(inverse.sort().values, torch.arange(len(inverse))):
        raise Breaks(f"{name} repeats what {x.action} moves")
    found = factored(inverse.reshape(source.shape))
    if found is None:
        raise Breaks(f"{name} mixes axes that {x.action} acts on")
    if not torch.equal(_apply(found, source), wanted):
        raise Breaks(f"{name} does not commute with {x.action}")
    return found


def _apply(candidate: Action, source: Tensor) -> Tensor:
    if candidate.rank != source.ndim or any(e.size != source.shape[a] for a, e in candidate.parts):
        return source.new_empty(0)
    return candidate.apply(source)


def _guess(x: Value, source: Tensor) -> Action | None:
    """The same flips and order of axes, on axes that may have other sizes."""
    if source.ndim != x.rank:
        return None
    parts: dict[int, Along] = {}
    for axis, element in x.action.parts:
        size = source.shape[axis]
        try:
            parts[axis] = element if size == element.size else resized(element, size)
        except TdslError:
            return None
    return action(x.rank, parts, x.action.order)


def factored(places: Tensor) -> Action | None:
    """An order of all places of a tensor as one of its axes and places along each; `None` where it is none.

    `places` has the shape of the tensor, and holds for each element the number of the one it comes from.
    """
    shape = list(places.shape)
    if 0 in shape:
        return None
    rank = len(shape)
    parts: dict[int, Along] = {}
    order = list(range(rank))
    used: set[int] = set()
    strides = [prod(shape[axis + 1 :]) for axis in range(rank)]
    for axis in range(rank):
        if shape[axis] == 1:
            continue
        source = (places // strides[axis]) % shape[axis]
        candidates = [axis, *(b for b in range(rank) if b != axis)]
        for along_axis in candidates:
            if along_axis in used or shape[along_axis] != shape[axis]:
                continue
            line = source
            for other in reversed(range(rank)):
                if other != along_axis:
                    line = line.select(other, 0)
            view = [1] * rank
            view[along_axis] = shape[along_axis]
            if torch.equal(source, line.reshape(view).expand(shape)):
                used.add(along_axis)
                order[along_axis] = axis
                parts[axis] = along(Permutation(tuple(line.tolist())))
                break
        else:
            return None
    taken = {order[place] for place in used}
    free = [axis for axis in range(rank) if axis not in taken]
    for place in range(rank):  # axes of size 1 go where they were, if they can
        if place not in used:
            order[place] = place if place in free else free[0]
            free.remove(order[place])
    return action(rank, parts, order)


@transfer("embedding")
def _embedding(site: Site) -> Law:
    """Rows that the indices name: where these are permuted, so are the rows."""
    weight, indices = site["weight"], site["indices"]
    if not weight.still:
        raise Breaks("the table of an embedding is acted on")
    if not indices.action.permutes:
        raise Breaks(f"indices are numbers that {indices.action} would change")
    return law(site, renumbered(indices.action, lambda axis: axis, indices.rank + 1))


@transfer("pad")
def _pad(site: Site) -> Law:
    """A border commutes with flips where both sides are equal, and with an order of axes of equal borders."""
    x, widths = site["x"], list(site["pad"])
    acting: Action = x.action
    sides = {x.rank - 1 - i // 2: (widths[i], widths[i + 1]) for i in range(0, len(widths), 2)}
    parts: dict[int, Along] = {}
    for axis, element in acting.parts:
        before, after = sides.get(axis, (0, 0))
        shown = axis - x.rank
        if before == after == 0:
            parts[axis] = element
        elif not isinstance(element, Turn) or not element.is_flip:
            raise Breaks(f"a border along axis {shown} does not commute with {acting}")
        else:
            parts[axis] = resized(element, site.shapes[0][axis])
            if before != after:
                nominal = action(x.rank, {**dict(acting.parts), axis: parts[axis]}, acting.order)
                raise Breaks(f"pad adds {before} before and {after} behind axis {shown}", nominal)
    for place, axis in enumerate(acting.order):
        if sides.get(place, (0, 0)) != sides.get(axis, (0, 0)):
            raise Breaks(f"pad has other borders on axes that change places under {acting}")
    if not acting.permutes and (site["value"] or site["mode"] != "constant"):
        raise Breaks(f"a border that is not zero, where {acting} does more than permute")
    return law(site, action(x.rank, parts, acting.order))
