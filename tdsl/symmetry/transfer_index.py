"""Actions through what looks numbers up beside a value: gathers, indices, classes, distances of rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from tdsl.symmetry.action import action, identity_on
from tdsl.symmetry.along import Along, is_orthogonal, permutes
from tdsl.symmetry.transfer import Breaks, Law, Site, Value, law, transfer
from tdsl.symmetry.transfer_elements import lift, shared_action
from tdsl.symmetry.transfer_moves import moves, renumbered, without


@transfer("bucketize")
def _bucketize(site: Site) -> Law:
    """A function of each element, whatever the boundaries."""
    site.require_only_x()
    if not site.x.action.permutes:
        raise Breaks(f"which boundaries a number lies between, {site.x.action} would change")
    return law(site, site.x.action)


@transfer("one_hot")
def _one_hot(site: Site) -> Law:
    """A row for each number; numbers themselves may only change places."""
    if not site.x.action.permutes:
        raise Breaks(f"classes are numbers that {site.x.action} would change")
    return law(site, renumbered(site.x.action, lambda axis: axis, site.x.rank + 1))


@transfer("gather", "take_along_dim")
def _gather(site: Site) -> Law:
    """Value and index alike along all other axes; along its own axis the index alone, as the result."""
    x, index, dim = site["x"], site["index"], site["dim"]
    if dim is None or not index.action.permutes:
        raise Breaks(
            f"{site.operator.name} by numbers that {index.action} would change, or of a flattened value"
        )
    axis = dim % x.rank
    if any(one.action.order != tuple(range(one.rank)) for one in (x, index)):
        raise Breaks(f"{site.operator.name} of a value whose axes change places")
    if x.action.part(axis) is not None:
        raise Breaks(f"{site.operator.name} along an axis on which {x.action} acts", None)
    others = {place: element for place, element in x.action.parts if permutes(element)}
    if len(others) != len(x.action.parts):
        raise Breaks(f"{site.operator.name} takes places apart that {x.action} does more than permute")
    followed = {place: element for place, element in index.action.parts if place != axis}
    if others != followed or any(x.shape[place] != index.shape[place] for place in others):
        raise Breaks("the value and the index are acted on differently, or are not of one size there")
    return law(site, index.action)


@transfer("index")
def _index(site: Site) -> Law:
    """By one tensor of numbers along one axis: its axes take the place of that one."""
    x, indices = site["x"], site["indices"]
    given = [(axis, one) for axis, one in enumerate(indices) if isinstance(one, Value)]
    if len(given) != 1 or given[0][1].constant is not None:
        return moves(site)
    ((axis, index),) = given
    if x.action.part(axis) is not None or x.action.order != tuple(range(x.rank)):
        raise Breaks(f"index along an axis on which {x.action} acts, or of axes that change places")
    if not index.action.permutes or index.action.order != tuple(range(index.rank)):
        raise Breaks(f"index by numbers that {index.action} would change")
    more = index.rank - 1
    parts: dict[int, Along] = {place + more * (place > axis): element for place, element in x.action.parts}
    parts.update({axis + place: element for place, element in index.action.parts})
    return law(site, action(x.rank + more, parts))


@transfer("cdist")
def _cdist(site: Site) -> Law:
    """Rows and batches keep to their places; what turns all rows alike, or orders their numbers, ends."""
    x, y = site["x"], site["y"]
    if any(one.action.order != tuple(range(one.rank)) for one in (x, y)) or x.shape[:-2] != y.shape[:-2]:
        raise Breaks("cdist of values whose axes change places, or that are repeated for each other")
    last, rank = x.rank - 1, x.rank
    features = x.action.part(last)
    if features != y.action.part(last):
        raise Breaks("cdist of rows that are acted on differently")
    turned = features is not None and not permutes(features)
    if turned and (site["order"] != 2 or not is_orthogonal(features)):
        raise Breaks(f"distances are not what they were under {x.action}")
    batches = [{axis: element for axis, element in one.action.parts if axis < last - 1} for one in (x, y)]
    rows = {rank - 2: x.action.part(rank - 2), rank - 1: y.action.part(rank - 2)}
    parts = {**batches[0], **{axis: element for axis, element in rows.items() if element is not None}}
    if batches[0] != batches[1] or not all(permutes(element) for element in parts.values()):
        raise Breaks(f"cdist does not commute with {x.action} and {y.action}")
    return law(site, action(rank, parts))


@transfer("cosine_similarity")
def _cosine(site: Site) -> Law:
    """Both alike; along the axis of the rows an order of places or an orthogonal matrix ends."""
    shape = np.broadcast_shapes(site["x"].shape, site["y"].shape)
    lifted = [(value, lift(value, shape)) for value in (site["x"], site["y"])]
    acting = shared_action(site, lifted, range(len(shape)), shape)
    axis = site["dim"] % acting.rank
    kept: dict[int, Any] = {}
    for place, element in acting.parts:
        if place != axis and permutes(element):
            kept[place] = element
        elif place != axis or not (permutes(element) or is_orthogonal(element)):
            raise Breaks(f"cosine_similarity does not commute with {acting}")
    beside = action(acting.rank, kept, acting.order)
    return law(site, without(beside, {axis}, "cosine_similarity") if len(site.shapes[0]) else identity_on(0))


@transfer("index_add", "scatter_add", "scatter_reduce")
def _folded_by_index(site: Site) -> Law:
    """Index and source in one order are folded as they were; along other axes all move alike.

    A source whose slices are all equal has any order. Adding slices is linear along the other axes.
    """
    x, index, source = site["x"], site["index"], site["source"]
    name, axis = site.operator.name, site["dim"] % x.rank
    if any(one.action.order != tuple(range(one.rank)) for one in (x, index, source)):
        raise Breaks(f"{name} of values whose axes change places")
    slices = name == "index_add"
    if not slices and index.shape != source.shape:
        raise Breaks(f"{name} of a source that the index reaches a part of")
    places = index.action.part(0 if slices else axis)
    same_order = source.action.part(axis) == places
    if x.action.part(axis) is not None or not (same_order or _is_uniform(source, axis)):
        raise Breaks(f"{name} of an index and a source that are in different orders")
    kept = {place: element for place, element in x.action.parts if place != axis}
    others = [{p: e for p, e in one.action.parts if p != axis} for one in (x, source, index)]
    alike = others[0] == others[1] and (slices or others[0] == others[2])
    fits = slices or all(index.shape[place] == x.shape[place] for place in kept)
    linear = slices or all(permutes(element) for element in kept.values())
    if not (alike and fits and linear and index.action.permutes):
        raise Breaks(f"{name} does not commute with {x.action}, {index.action} and {source.action}")
    return law(site, action(x.rank, kept))


def _is_uniform(value: Value, axis: int) -> bool:
    """Whether a constant has the same numbers at all places along an axis."""
    numbers = value.constant
    if numbers is None or value.action.part(axis) is not None or not numbers.numel():
        return False
    return bool((numbers == numbers.narrow(axis, 0, 1)).all())
