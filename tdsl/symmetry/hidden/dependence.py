"""What a permutation may depend on: coordinates that every element of the axis has, and only once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tdsl.symmetry.hidden.layout import Atom, Choice, Layout, Sum, atoms_in, plain_factors


def unambiguous(axes: Sequence[Layout]) -> frozenset[int]:
    """The atoms of which every element of a tensor with these axes has exactly one coordinate."""
    counts = Counter(number for layout in axes for number in atoms_in(layout))
    return frozenset(number for layout in axes for number in plain_factors(layout) if counts[number] == 1)


def dependences(
    layout: Layout, outside: frozenset[int], elsewhere: frozenset[int]
) -> Iterator[tuple[Atom | Choice, frozenset[int]]]:
    """Every atom and choice of an axis, with the atoms that it may depend on.

    Those are the atoms of other axes (`outside`) and the blocks that it is nested with, unless they stand
    `elsewhere` as well, where their coordinate would be ambiguous. The parts of a choice follow it.
    """
    if isinstance(layout, Atom):
        yield layout, outside
        return
    if isinstance(layout, Choice):
        yield layout, outside
    if isinstance(layout, (Choice, Sum)):
        for part in layout.parts:
            yield from dependences(part, outside, elsewhere)
        return
    counts = Counter(number for part in layout.parts for number in atoms_in(part))
    for i, part in enumerate(layout.parts):
        siblings = {
            number
            for k, other in enumerate(layout.parts)
            if k != i
            for number in plain_factors(other)
            if counts[number] == 1 and number not in elsewhere
        }
        yield from dependences(part, outside | siblings, elsewhere)
