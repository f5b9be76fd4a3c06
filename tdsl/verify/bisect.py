"""Which rewrite broke the contract."""

from __future__ import annotations

import functools
from collections.abc import Callable


def guilty(number_of_rewrites: int, broken: Callable[[int], bool]) -> int | None:
    """A rewrite k such that rewrites 1..k break the contract and 1..k-1 keep it.

    `broken(k)` applies the first k rewrites, and is asked at most once for each k, about log2(n) + 2
    times in all. Where it is monotone, k is the first such rewrite; otherwise (a later rewrite mends
    what an earlier one broke) k is still one whose application breaks a contract that held before it.
    `None` when no rewrite is to blame: the contract is already broken without any (so the export is),
    or still kept with all of them (so it is what came after).
    """
    ask = functools.cache(broken)
    if number_of_rewrites < 1 or ask(0) or not ask(number_of_rewrites):
        return None
    kept, spoilt = 0, number_of_rewrites  # always: not ask(kept) and ask(spoilt)
    while spoilt - kept > 1:
        middle = (kept + spoilt) // 2
        if ask(middle):
            spoilt = middle
        else:
            kept = middle
    return spoilt
