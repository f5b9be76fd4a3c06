"""The places of a weight that a group permutes, chosen among those that are read off it."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from tdsl.factor.memo import memoised
from tdsl.factor.rank import RankRule, allowed_error
from tdsl.factor.splits import Way, best, enough
from tdsl.symmetry.finite.places import Places, blocks_of, find_places, listed_places

NEARLY = 1e-4
"""Where a rule allows this error, weights that are only near to one that commutes are looked at."""

Numbers = Callable[[Places, int, int], int]
"""How many numbers the factors of a weight of so many rows and columns are."""


@memoised
def chosen_places(
    weight: Tensor, rule: RankRule, channels_last: bool, numbers: Numbers
) -> tuple[Places, Tensor] | None:
    """The places that a rule prefers and the parameters of the weight nearest to W; `None` for no group.

    The parameters are [f, p, q], component by component, as `Places.parameters` gives them.
    """
    known: list[tuple[Places, Tensor]] = []
    ways = [Way((0,), (1,), weight.numel() + 2, 0.0)]
    for places in _candidates(weight, rule, channels_last):
        blocks = blocks_of(weight, places.rows, places.columns, channels_last=channels_last)
        fitted = places.fit(blocks)
        if not fitted.kept or not enough(rule, fitted.kept, fitted.lost) or not places.components:
            continue
        count = numbers(places, *weight.shape)
        if count < weight.numel():
            known.append((places, fitted.near))
            error = fitted.lost / math.hypot(fitted.kept, fitted.lost)
            ways.append(Way((len(known),), (1,), count, error))
    chosen = best(rule, ways if rule.spectral else ways[1:] or ways, weight.numel())
    if chosen is None or not chosen.sizes[0]:
        return None
    places, near = known[chosen.sizes[0] - 1]
    return places, places.parameters(near)


def _candidates(weight: Tensor, rule: RankRule, channels_last: bool) -> tuple[Places, ...]:
    nearly = not rule.spectral or allowed_error(rule) >= NEARLY
    found = _found(weight, channels_last, nearly)
    return found if rule.spectral else (*found, *listed_places(weight))


@memoised
def _found(weight: Tensor, channels_last: bool, nearly: bool) -> tuple[Places, ...]:
    return tuple(find_places(weight, channels_last=channels_last, nearly=nearly))
