"""What an axis of a tensor consists of: atoms, one after the other (`Sum`), nested (`Prod`), or by case.

An atom is a set of indices that a permutation may act on. `Sum((a, b))` is a concatenation, `Prod((h, d))`
an axis of blocks in row-major order (a head, and a channel within it). `Choice(s, …)` is an axis that is
another one at each index of the axis `s`, as the last axis of stacked queries, keys and values is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True, slots=True)
class Atom:
    """A set of indices, known by its number in the system."""

    number: int


@dataclass(frozen=True, slots=True)
class Sum:
    """Parts one after the other along the axis."""

    parts: tuple[Layout, ...]


@dataclass(frozen=True, slots=True)
class Prod:
    """Nested parts, the outermost first; without parts, an axis of size 1."""

    parts: tuple[Layout, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One part for each index of the atom `selector`, which stands on another axis of the tensor."""

    selector: int
    parts: tuple[Layout, ...]


Layout = Atom | Sum | Prod | Choice

UNIT = Prod(())
"""An axis of size 1."""

Axes = tuple[Layout, ...]
"""The layouts of all axes of a tensor."""


def atoms_in(layout: Layout) -> Iterator[int]:
    """The number of every atom in the layout, repeated as it occurs; selectors are not counted."""
    if isinstance(layout, Atom):
        yield layout.number
    else:
        for part in layout.parts:
            yield from atoms_in(part)


def size_in(layout: Layout, sizes: Mapping[int, int]) -> int:
    """How many indices the axis has, given the sizes of its atoms."""
    if isinstance(layout, Atom):
        return sizes[layout.number]
    if isinstance(layout, Choice):
        return size_in(layout.parts[0], sizes)
    found = [size_in(part, sizes) for part in layout.parts]
    return sum(found) if isinstance(layout, Sum) else prod(found)


def plain_factors(layout: Layout) -> list[int]:
    """Atoms that have a coordinate at every index of the axis: those not inside a sum or a choice."""
    if isinstance(layout, Atom):
        return [layout.number]
    if isinstance(layout, Prod):
        return [number for part in layout.parts for number in plain_factors(part)]
    return []


def selectors_in(layout: Layout) -> set[int]:
    """The atoms by which the axis chooses."""
    if isinstance(layout, Atom):
        return set()
    found = {number for part in layout.parts for number in selectors_in(part)}
    return found | {layout.selector} if isinstance(layout, Choice) else found


def chooses(layout: Layout, selector: int) -> bool:
    """Whether the axis chooses by this atom."""
    return selector in selectors_in(layout)


def case_of(layout: Layout, selector: int, index: int) -> Layout:
    """The layout at one index of the selector."""
    if isinstance(layout, Atom):
        return layout
    if isinstance(layout, Choice) and layout.selector == selector:
        return case_of(layout.parts[index], selector, index)
    parts = tuple(case_of(part, selector, index) for part in layout.parts)
    return Choice(layout.selector, parts) if isinstance(layout, Choice) else type(layout)(parts)


def factors(layout: Layout) -> list[Layout]:
    """The nested parts of the axis, the outermost first."""
    return list(layout.parts) if isinstance(layout, Prod) else [layout]


def terms(layout: Layout) -> list[Layout]:
    """The consecutive parts of the axis."""
    return list(layout.parts) if isinstance(layout, Sum) else [layout]


def product(parts: list[Layout]) -> Layout:
    """The parts nested in one another."""
    flat = [factor for part in parts for factor in factors(part)]
    return flat[0] if len(flat) == 1 else Prod(tuple(flat))


def total(parts: list[Layout]) -> Layout:
    """The parts one after the other."""
    flat = [term for part in parts for term in terms(part)]
    return flat[0] if len(flat) == 1 else Sum(tuple(flat))
