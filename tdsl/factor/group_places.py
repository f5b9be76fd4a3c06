"""The places of a weight that a group permutes, chosen among those that are read off it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

from tdsl.factor.memo import memoised
from tdsl.factor.rank import RankRule, allowed_error
from tdsl.factor.splits import Way, best, enough
from tdsl.symmetry.finite.detect import Corners, corners, lines_alike
from tdsl.symmetry.finite.places import Candidate, Fitted, Places, blocks_of, find_places, listed_places

NEARLY = 1e-4
"""Where a rule allows this error, weights that are only near to one that commutes are looked at."""

Numbers = Callable[[Places, int, int], int]
"""How many numbers the factors of a weight of so many rows and columns are."""


@memoised
def chosen_places(
    weight: Tensor,
    rule: RankRule,
    channels_last: bool,
    numbers: Numbers,
    sizes: tuple[int, int] | None = None,
) -> tuple[Places, Tensor] | None:
    """The places that a rule prefers and the parameters of the weight nearest to W; `None` for no group.

    The parameters are [f, p, q], component by component, as `Places.parameters` gives them. `sizes` are the
    numbers of places of rows and columns, where they are known.
    """
    if has_no_group(weight, rule):
        return None
    nearly = _nearly(rule)
    known: list[Places] = []
    ways = [Way((0,), (1,), weight.numel() + 2, 0.0)]

    def consider(candidates: Iterable[Candidate]) -> None:
        for one in candidates:
            if not one.kept or not enough(rule, one.kept, one.lost) or not one.places.components:
                continue
            count = numbers(one.places, *weight.shape)
            if count < weight.numel():
                known.append(one.places)
                ways.append(Way((len(known),), (1,), count, one.lost / math.hypot(one.kept, one.lost)))

    if sizes is not None:
        consider(_found(weight, sizes[0] == sizes[1], channels_last, nearly, frozenset([sizes])))
    else:
        consider(_found(weight, True, channels_last, nearly, None))
        fewer = frozenset(pair for places in known for pair in places.fewer()) if known else None
        if fewer is None or fewer:
            consider(_found(weight, False, channels_last, nearly, fewer))
    if not rule.spectral:
        listed = _listed(weight, channels_last)
        consider(one for one in listed if sizes in (None, (one.places.rows, one.places.columns)))
    chosen = best(rule, ways if rule.spectral else ways[1:] or ways, weight.numel())
    if chosen is None or not chosen.sizes[0]:
        return None
    places = known[chosen.sizes[0] - 1]
    return places, places.parameters(_fitted(places, weight, channels_last).near)


def has_no_group(weight: Tensor, rule: RankRule) -> bool:
    """Whether one pass over a weight [m, n] tells that no group moves rows or columns, within a rule."""
    return not _nearly(rule) and not any(len(set(names.tolist())) < len(names) for names in _lines(weight))


def _nearly(rule: RankRule) -> bool:
    """Whether a weight need only be near to one that commutes."""
    return not rule.spectral or allowed_error(rule) >= NEARLY


@memoised
def _found(
    weight: Tensor, alike: bool, channels_last: bool, nearly: bool, within: frozenset[tuple[int, int]] | None
) -> tuple[Candidate, ...]:
    uneven = None if alike else Corners(weight, _corners(weight))
    lines = None if nearly else _lines(weight)
    found = find_places(weight, channels_last=channels_last, uneven=uneven, lines=lines, within=within)
    return tuple(found)


_corners = memoised(corners)


@memoised
def _lines(weight: Tensor) -> tuple[Tensor, Tensor]:
    return lines_alike(weight, signed=False)


def _listed(weight: Tensor, channels_last: bool) -> Iterator[Candidate]:
    for places in listed_places(weight):
        fitted = _fitted(places, weight, channels_last)
        yield Candidate(places, fitted.kept, fitted.lost)


def _fitted(places: Places, weight: Tensor, channels_last: bool) -> Fitted:
    return places.fit(blocks_of(weight, places.rows, places.columns, channels_last=channels_last))
