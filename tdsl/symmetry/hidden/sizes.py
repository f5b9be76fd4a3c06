"""Dynamic sizes as numbers that divide nothing by accident, so that layouts need integers only."""

from __future__ import annotations

from typing import Any

_PRIMES = (10007, 10009, 10037, 10039, 10061, 10067, 10069, 10079, 10091, 10093, 10099, 10103)


class Sizes:
    """Each symbol stands for a large prime, the same one everywhere; another one for every symbol.

    A prime divides no product of static sizes, so a reshape that takes a dynamic axis apart is refused, as
    it must be: what it does depends on a size that is not known.
    """

    def __init__(self) -> None:
        self._values: dict[Any, int] = {}

    def concrete(self, size: Any) -> int:
        """The size as an integer."""
        if isinstance(size, int):
            return size
        expression = size.node.expr
        for symbol in sorted(expression.free_symbols, key=str):
            if symbol not in self._values:
                count = len(self._values)
                self._values[symbol] = _PRIMES[count % len(_PRIMES)] + 10**5 * (count // len(_PRIMES))
        return int(expression.subs(self._values))

    def shape(self, value: Any) -> tuple[int, ...]:
        """The shape of a fake tensor."""
        return tuple(self.concrete(size) for size in value.shape)
