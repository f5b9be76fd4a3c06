"""Tensors whose axes are named by letters, as in an einsum: what is called alike is permuted alike."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from tdsl.symmetry.hidden.layout import UNIT, Axes, Choice, Layout
from tdsl.symmetry.hidden.settling import settle
from tdsl.symmetry.hidden.system import System

Letter = Hashable
Named = tuple[Axes, Sequence[Letter]]
"""A tensor, and the letters of its axes."""


@dataclass(slots=True)
class Relation:
    """An equation between tensors: each letter has one layout; `tensors` says which letters meet in one.

    The operator does the same at every index of a letter, so a permutation along one letter may depend on
    another only where every tensor that has the first has the second as well: a sum over the channels of a
    head may take them in another order in each head, a weight that all heads share may not.
    """

    letters: dict[Letter, Layout] = field(default_factory=dict)
    tensors: list[frozenset[Letter]] = field(default_factory=list)

    def restrict(self, system: System) -> None:
        """Restrict what the permutation along each letter depends on."""
        for letter, layout in self.letters.items():
            having = [tensor for tensor in self.tensors if letter in tensor]
            if layout != UNIT and having:
                covering = frozenset.intersection(*having) - {letter}
                settle(system, layout, [self.letters[other] for other in covering])


def relate(system: System, tensors: Sequence[Named]) -> Relation:
    """Unify the axes that have the same letter; those of size 1 beside larger ones are broadcast."""
    by_letter: dict[Letter, list[Layout]] = {}
    for axes, letters in tensors:
        for layout, letter in zip(axes, letters, strict=True):
            found = by_letter.setdefault(letter, [])
            if system.size(layout) != 1:
                found.append(layout)
    # Selectors before what they select: a choice is compared case by case only once they are equal.
    ordered = sorted(by_letter.items(), key=lambda item: _has_choice(system, item[1]))
    for _, layouts in ordered:
        for other in layouts[1:]:
            system.unify(layouts[0], other)
    relation = Relation({letter: layouts[0] if layouts else UNIT for letter, layouts in by_letter.items()})
    for axes, letters in tensors:
        pairs = zip(axes, letters, strict=True)
        relation.tensors.append(frozenset(letter for layout, letter in pairs if system.size(layout) != 1))
    relation.restrict(system)
    return relation


def _has_choice(system: System, layouts: Sequence[Layout]) -> bool:
    return any(isinstance(system.resolve(layout), Choice) for layout in layouts)
