"""Lists of axes, as rules compute with them: where an axis comes from, which ones two lists share.

Axes count from the last (-1, -2, …), permutations from the first, as in the normal form of a graph.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any


def inverse(permutation: Sequence[int]) -> list[int]:
    """The permutation that undoes this one."""
    return [list(permutation).index(i) for i in range(len(permutation))]


def compose(first: Sequence[int], then: Sequence[int]) -> list[int]:
    """The permutation of `permute(permute(x, first), then)`."""
    return [first[i] for i in then]


def exchange(count: int, a: int, b: int) -> list[int]:
    """The permutation of `count` axes that exchanges two of them."""
    order = list(range(count))
    order[a], order[b] = order[b], order[a]
    return order


def sources(permutation: Sequence[int], axes: Any) -> Any:
    """Which axes of x stand at the places `axes` of `permute(x, permutation)`; of one axis, one."""
    if axes is None:
        return None
    if isinstance(axes, list | tuple):
        return [sources(permutation, axis) for axis in axes]
    return permutation[axes] - len(permutation)


def unpermuted(values: Sequence[Any] | None, permutation: Sequence[int]) -> list[Any] | None:
    """A number for each of the last axes of `permute(x, permutation)` in the order of those of x.

    Without numbers there is nothing to order. Raises `ValueError` where other axes come among the last.
    """
    if values is None:
        return None
    first = len(permutation) - len(values)
    places = inverse(permutation)[first:]
    if min(places, default=first) < first:
        raise ValueError(f"{list(permutation)} brings others among its last {len(values)} axes")
    return [values[place - first] for place in places]


def entries(values: Sequence[Any], axes: Sequence[int], otherwise: Any) -> list[Any]:
    """The numbers at some axes, of one for each of the last axes; `otherwise` at axes before them."""
    return [values[axis] if axis >= -len(values) else otherwise for axis in axes]


def remaining(permutation: Sequence[int], axes: Any) -> list[int]:
    """The order in which `permutation` leaves the axes that stay when those at the places `axes` go.

    Where none are named, all go, as in a fold.
    """
    count = len(permutation)
    gone = {axis % count for axis in _listed(axes)} or set(range(count))
    kept = [axis for place, axis in enumerate(permutation) if place not in gone]
    return [sorted(kept).index(axis) for axis in kept]


def standing(axes: Any, gone: Any) -> Any:
    """Which axes these are when those of `gone` (where none are named: all) are no more; of one axis, one.

    Raises `ValueError` for an axis that goes.
    """
    if not isinstance(axes, list | tuple):
        return standing([axes], gone)[0]
    going = set(_listed(gone))
    if not going or going & set(axes):
        raise ValueError(f"of the axes {list(axes)} some go with {gone}")
    return [axis + sum(other > axis for other in going) for axis in axes]


def kept(
    shape: Sequence[Any], other: Sequence[Any], axes: Any, equal: Callable[[Any, Any], bool] = operator.eq
) -> Any:
    """Which axes of the same elements in the shape `other` the axes of `shape` are; of one axis, one.

    Raises `ValueError` for an axis that is joined with others there, or taken apart.
    """
    if not isinstance(axes, list | tuple):
        return kept(shape, other, [axes], equal)[0]
    places: list[int] = []
    for axis in axes:
        size, behind = shape[axis], math.prod(shape[len(shape) + axis + 1 :])
        for place in range(-1, -len(other) - 1, -1):  # of axes of size 1 each has one of its own
            same = equal(other[place], size) and equal(math.prod(other[len(other) + place + 1 :]), behind)
            if same and place not in places:
                places.append(place)
                break
        else:
            raise ValueError(f"axis {axis} of {list(shape)} is none of {list(other)}")
    return places


def apart(axes: Sequence[int], others: Sequence[int]) -> list[int]:
    """The axes that are in one of the lists and not in the other, in order."""
    return sorted(set(axes) ^ set(others))


def includes(values: Any, value: Any) -> bool:
    """Whether a list has that entry."""
    return isinstance(values, list | tuple) and value in values


def covers(axes: Any, others: Sequence[int]) -> bool:
    """Whether a fold of `axes` (none of them: all) takes all of the others."""
    return not axes or set(others) <= set(_listed(axes))


def reflected(pad: Sequence[Any], axes: Sequence[int]) -> list[Any]:
    """Border widths with before and after exchanged along some axes; the first pair is that of axis -1."""
    pairs = [list(pad[i : i + 2]) for i in range(0, len(pad), 2)]
    return [width for i, pair in enumerate(pairs) for width in (pair[::-1] if -1 - i in axes else pair)]


def sizes(shape: Sequence[Any], axes: Sequence[int]) -> list[Any]:
    """The sizes along some axes; 1 where the shape has no such axis, as broadcasting sees it."""
    return [shape[axis] if -len(shape) <= axis < len(shape) else 1 for axis in axes]


def aligned(shape: Sequence[Any], count: int) -> list[Any]:
    """The shape with axes of size 1 in front, so that there are `count`."""
    return [1] * (count - len(shape)) + list(shape)


def _listed(axes: Any) -> list[int]:
    """Axes, or one of them, as a list; none as an empty one."""
    return [] if axes is None else list(axes) if isinstance(axes, list | tuple) else [axes]
