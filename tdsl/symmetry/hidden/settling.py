"""Permutations along the axes of one tensor restricted to what they may depend on."""

from __future__ import annotations

from collections.abc import Sequence

from tdsl.symmetry.hidden.dependence import dependences, unambiguous
from tdsl.symmetry.hidden.layout import Atom, Axes, Choice, Layout, atoms_in, case_of, selectors_in
from tdsl.symmetry.hidden.system import System


def settle(system: System, layout: Layout, beside: Sequence[Layout]) -> None:
    """Permutations along an axis depend on nothing but it and the axes `beside` it.

    A choice whose selector is not among the axes is no choice: its cases are permuted alike.
    """
    layout = system.resolve(layout)
    others = [system.resolve(other) for other in beside]
    plain = unambiguous(others)
    for selector in selectors_in(layout) & plain:
        for k in range(system.size(Atom(selector))):
            settle(system, case_of(layout, selector, k), [case_of(other, selector, k) for other in others])
        return
    elsewhere = frozenset(number for other in others for number in atoms_in(other))
    for part, allowed in dependences(layout, plain - set(atoms_in(layout)), elsewhere):
        if isinstance(part, Choice):
            system.collapsed(part.parts)
        else:
            system.restrict(part.number, allowed)


def settle_value(system: System, axes: Axes) -> None:
    """The same for every axis of a tensor beside all others of it."""
    for i, layout in enumerate(axes):
        settle(system, layout, [*axes[:i], *axes[i + 1 :]])
