"""Actions through reshapes: axes that are split or merged together form blocks, each followed on its own."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from tdsl.symmetry.action import Action, action
from tdsl.symmetry.along import Along
from tdsl.symmetry.transfer import Breaks, Law, Site, law, transfer
from tdsl.symmetry.transfer_moves import factored

Block = tuple[tuple[int, ...], tuple[int, ...]]
"""Axes before, and the axes after that hold the same elements."""


@transfer("reshape")
def _reshape(site: Site) -> Law:
    x, shape = site["x"], site.shapes[0]
    return law(site, reshaped(x.action, x.shape, shape))


def reshaped(acting: Action, before: Sequence[int], after: Sequence[int]) -> Action:
    """The action on a reshaped tensor. Raises `Breaks` where it is none of axes and places along them."""
    single = {axis for axis in range(len(before)) if before[axis] == 1}
    if any(axis in single for axis, _ in acting.parts):
        raise Breaks(f"reshape of an axis of size 1 that {acting} scales")
    if any((place in single) != (axis in single) for place, axis in enumerate(acting.order)):
        raise Breaks(f"reshape, where {acting} exchanges an axis of size 1 and another")
    if 0 in before:
        raise Breaks("reshape of a tensor without elements")
    parts: dict[int, Along] = {}
    order = list(range(len(after)))
    for group in _exchanged(acting, blocks(before, after)):
        if len(group) > 1 and all(len(own) == len(made) == 1 for own, made in group):
            there = {own[0]: made[0] for own, made in group}
            for axis, place in there.items():
                order[place] = there[acting.order[axis]]
                element = acting.part(axis)
                if element is not None:
                    parts[place] = element
            continue
        own, made = (tuple(axis for block in group for axis in block[side]) for side in (0, 1))
        _within(acting, own, made, before, after, parts, order)
    return action(len(after), parts, order)


def _within(
    acting: Action,
    own: tuple[int, ...],
    made: tuple[int, ...],
    before: Sequence[int],
    after: Sequence[int],
    parts: dict[int, Along],
    order: list[int],
) -> None:
    """What acts on the axes of a block, by running it on the numbers of their places."""
    new = {axis: i for i, axis in enumerate(own)}
    inside = action(
        len(own), {new[a]: e for a, e in acting.parts if a in new}, [new[acting.order[a]] for a in own]
    )
    if inside.is_identity:
        return
    if len(own) == len(made) == 1:
        parts[made[0]] = inside.parts[0][1]
        return
    if not inside.permutes:
        raise Breaks(f"reshape splits or merges axes on which {acting} does more than permute")
    sizes = [before[axis] for axis in own]
    moved = inside.apply(torch.arange(prod(sizes)).reshape(sizes))
    if list(moved.shape) != sizes:
        raise Breaks(f"reshape of what {acting} changes the shape of")
    there = factored(moved.reshape([after[axis] for axis in made]))
    if there is None:
        raise Breaks(f"reshape tears apart an axis that {acting} acts on")
    for i, element in there.parts:
        parts[made[i]] = element
    for i, source in enumerate(there.order):
        order[made[i]] = made[source]


def _exchanged(acting: Action, found: Sequence[Block]) -> list[list[Block]]:
    """Blocks whose axes change places with one another, together: rows and columns that become windows."""
    groups: list[list[Block]] = []
    for block in found:
        sources = {acting.order[place] for place in block[0]} | set(block[0])
        joined = [block]
        for group in [g for g in groups if any(sources & _reaching(acting, b) for b in g)]:
            joined = group + joined
            groups.remove(group)
        groups.append(joined)
    return groups


def _reaching(acting: Action, block: Block) -> set[int]:
    """Axes of a block, and those that come to stand in their places."""
    return set(block[0]) | {acting.order[place] for place in block[0]}


def blocks(before: Sequence[int], after: Sequence[int]) -> list[Block]:
    """The finest pieces of two shapes that hold the same elements, axes of size 1 left out."""
    left = [axis for axis, size in enumerate(before) if size != 1]
    right = [axis for axis, size in enumerate(after) if size != 1]
    found: list[Block] = []
    while left and right:
        own, made = [left.pop(0)], [right.pop(0)]
        here, there = before[own[0]], after[made[0]]
        while here != there:
            if here < there:
                own.append(left.pop(0))
                here *= before[own[-1]]
            else:
                made.append(right.pop(0))
                there *= after[made[-1]]
        found.append((tuple(own), tuple(made)))
    return found
