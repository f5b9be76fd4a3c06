"""A network of cores applied to a value: in which order, and as which operators of a graph.

A network has up to as many cores as it likes, core k with the axes outputs oₖ, inputs iₖ, and one for every
other core, which the two sum over together; most have size 1. Contracting a value with one core after the
other, or with cores that were contracted with each other beforehand, takes some order, and the order decides
about the products and about the largest intermediate value (Pfeifer, Haegeman & Verstraete, 2014). All orders
are compared here, by what they leave open. The result are reshapes, moves and matrix products.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tdsl.factor.declare import TermFunction, Terms

Axis = tuple[str, int, int]
"""`("o", k, k)` and `("i", k, k)` of core k, `("r", k, l)` between cores k < l."""
Shape = tuple[int, ...]

ROOM = 16
"""So many times the inputs or outputs of a row, whichever are more, an intermediate value may hold."""
TRAFFIC = 8
"""Writing and reading a number costs as much as so many products."""
LAYOUTS = 64
"""So many orders of axes are kept while the moves are chosen."""


@dataclass(frozen=True, slots=True)
class Order:
    """In which order a value meets the cores, those of one step being one matrix by then."""

    steps: tuple[tuple[int, ...], ...]
    products: int
    """Multiplications for each row."""
    largest: int
    """Numbers of the largest intermediate value of a row."""


def axes_of(core: int, count: int) -> tuple[Axis, ...]:
    """The axes of a core among so many, in order."""
    others = (("r", min(core, k), max(core, k)) for k in range(count) if k != core)
    return (("o", core, core), ("i", core, core), *others)


def open_axes(cores: Iterable[int], count: int) -> tuple[Axis, ...]:
    """The axes of some cores that they do not share with each other."""
    inside = set(cores)
    return tuple(
        axis
        for core in sorted(inside)
        for axis in axes_of(core, count)
        if axis[0] != "r" or not {axis[1], axis[2]} <= inside
    )


def sizes_of(shapes: Sequence[Shape]) -> dict[Axis, int]:
    """The size of every axis. Raises `ValueError` where two cores do not agree."""
    sizes: dict[Axis, int] = {}
    for core, shape in enumerate(shapes):
        for axis, size in zip(axes_of(core, len(shapes)), shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                raise ValueError(f"cores of shapes {[list(s) for s in shapes]} do not fit")
    return sizes


def best_order(shapes: Sequence[Shape]) -> Order:
    """The order with the fewest products and moves; those that stay within `ROOM` come first.

    By dynamic programming over what was met: it alone decides what is open. Cores are contracted with each
    other beforehand only where that makes no more numbers of them.
    """
    count, sizes = len(shapes), sizes_of(shapes)
    every = range(count)
    room = ROOM * max(math.prod(s[0] for s in shapes), math.prod(s[1] for s in shapes))
    whole = (1 << count) - 1
    members = {mask: tuple(k for k in every if mask >> k & 1) for mask in range(1, whole + 1)}

    def numbers(axes: Iterable[Axis]) -> int:
        return math.prod(sizes[axis] for axis in axes)

    held = {mask: numbers(open_axes(cores, count)) for mask, cores in members.items()}
    own = [math.prod(shape) for shape in shapes]
    groups = [
        mask for mask, cores in members.items() if len(cores) == 1 or held[mask] <= sum(own[k] for k in cores)
    ]

    def value(mask: int) -> set[Axis]:
        """The open axes of the value once it met the cores of a mask."""
        met = open_axes(members[mask], count) if mask else ()
        return {a for a in met if a[0] != "i"} | {("i", k, k) for k in every if not mask >> k & 1}

    best: dict[int, tuple[float, Order]] = {0: (0.0, Order((), 0, 0))}
    for mask in range(1, whole + 1):
        after = value(mask)
        written = numbers(after)
        found: list[tuple[float, Order]] = []
        for group in groups:
            if group & mask != group:
                continue
            cost, before = best[mask ^ group]
            there = value(mask ^ group) | set(open_axes(members[group], count))
            products = numbers(there)
            beyond = 1e30 if written > room else 0.0
            order = Order(
                (*before.steps, members[group]), before.products + products, max(before.largest, written)
            )
            found.append((cost + products + TRAFFIC * written + beyond, order))
        best[mask] = min(found, key=lambda one: (one[0], one[1].steps))
    return best[whole][1]


def within_room(shapes: Sequence[Shape]) -> bool:
    """Whether there is an order whose intermediate values stay small."""
    outputs, inputs = (math.prod(shape[place] for shape in shapes) for place in (0, 1))
    return best_order(shapes).largest <= ROOM * max(outputs, inputs)


# ---------------------------------------------------------------- as operators


def network(terms: Terms, x: Any, *cores: Any) -> Any:
    """The network of these cores applied to x [..., i₁·i₂ ⋯] → [b, o₁·o₂ ⋯], b as many as x has rows."""
    return _Network(terms, [tuple(terms.shape(core)) for core in cores]).of(x, cores)


@dataclass(frozen=True, slots=True)
class _Step:
    """One product: how axes are moved before, what is summed over, what comes in its place."""

    before: tuple[Axis, ...]
    """The axes of the value, in the order they have for the product."""
    start: int
    """Where the axes that are summed over begin."""
    summed: tuple[Axis, ...]
    new: tuple[Axis, ...]

    @property
    def after(self) -> tuple[Axis, ...]:
        """The axes of the result."""
        return (*self.before[: self.start], *self.new, *self.before[self.start + len(self.summed) :])


class _Network:
    def __init__(self, terms: Terms, shapes: Sequence[Shape]) -> None:
        self.terms = terms
        self.count = len(shapes)
        self.sizes = sizes_of(shapes)
        self.order = best_order(shapes)

    def of(self, x: Any, cores: Sequence[Any]) -> Any:
        """The cores applied to x."""
        axes = self.real(("i", k, k) for k in range(self.count))
        value = x
        parts = [self.plain(core, k) for k, core in enumerate(cores)]
        for group, step in zip(self.order.steps, self.layout(axes), strict=True):
            value = self.applied(value, axes, self.merged([parts[k] for k in group]), step)
            axes = step.after
        value = self.moved(value, axes, self.real(("o", k, k) for k in range(self.count)))
        outputs = math.prod(self.sizes["o", k, k] for k in range(self.count))
        return self.terms("reshape", value, [-1, outputs])

    # ------------------------------------------------------------ which axes where

    def real(self, axes: Iterable[Axis]) -> tuple[Axis, ...]:
        """The axes of a size other than 1."""
        return tuple(axis for axis in axes if self.sizes[axis] > 1)

    def layout(self, axes: tuple[Axis, ...]) -> list[_Step]:
        """The steps with as few numbers moved as the orders of new axes allow."""
        states: dict[tuple[Axis, ...], tuple[int, list[_Step]]] = {axes: (0, [])}
        for group in self.order.steps:
            opened = self.real(open_axes(group, self.count))
            reached: dict[tuple[Axis, ...], tuple[int, list[_Step]]] = {}
            for there, (cost, steps) in states.items():
                before, start, moves = _together(there, [a for a in there if a in opened])
                summed = before[start : start + sum(a in opened for a in there)]
                if moves:
                    cost += self.numbers(there)
                for new in itertools.permutations(a for a in opened if a not in summed):
                    step = _Step(before, start, summed, new)
                    if step.after not in reached or cost < reached[step.after][0]:
                        reached[step.after] = cost, [*steps, step]
            kept = sorted(reached.items(), key=lambda one: (one[1][0], one[0]))[:LAYOUTS]
            states = dict(kept)
        wanted = self.real(("o", k, k) for k in range(self.count))
        last = {
            there: (cost + (self.numbers(there) if there != wanted else 0), there)
            for there, (cost, _) in states.items()
        }
        return states[min(last.values())[1]][1]

    def numbers(self, axes: Iterable[Axis]) -> int:
        return math.prod(self.sizes[axis] for axis in axes)

    # ------------------------------------------------------------ constants

    def plain(self, core: Any, k: int) -> tuple[Any, tuple[Axis, ...]]:
        """A core without its axes of size 1."""
        axes = self.real(axes_of(k, self.count))
        return self.terms("reshape", core, [self.sizes[a] for a in axes] or [1]), axes

    def merged(self, parts: Sequence[tuple[Any, tuple[Axis, ...]]]) -> tuple[Any, tuple[Axis, ...]]:
        """Cores contracted with each other, those first that share most."""
        whole, axes = parts[0]
        rest = list(parts[1:])
        while rest:
            shared = [self.numbers(set(axes) & set(other)) for _, other in rest]
            part, other = rest.pop(shared.index(max(shared)))
            summed = [axis for axis in axes if axis in other]
            left, right = ([a for a in side if a not in summed] for side in (axes, other))
            first, second = (
                self.matrix(whole, axes, left, summed),
                self.matrix(part, other, summed, right),
            )
            axes = (*left, *right)
            product = self.terms("matmul", first, second)
            whole = self.terms("reshape", product, [self.sizes[a] for a in axes] or [1])
        return whole, axes

    def matrix(self, part: Any, axes: Sequence[Axis], rows: Sequence[Axis], columns: Sequence[Axis]) -> Any:
        """A core as a matrix."""
        places = [axes.index(axis) for axis in (*rows, *columns)]
        turned = part if places == sorted(places) else self.terms("permute", part, places)
        return self.terms("reshape", turned, [self.numbers(rows), self.numbers(columns)])

    # ------------------------------------------------------------ values

    def moved(self, value: Any, axes: Sequence[Axis], wanted: Sequence[Axis]) -> Any:
        """The value with its axes in that order, behind the rows; as it is where they are."""
        if tuple(axes) == tuple(wanted):
            return value
        value = self.terms("reshape", value, [-1, *(self.sizes[axis] for axis in axes)])
        return self.terms("permute", value, [0, *(1 + list(axes).index(axis) for axis in wanted)])

    def applied(
        self, value: Any, axes: tuple[Axis, ...], core: tuple[Any, tuple[Axis, ...]], step: _Step
    ) -> Any:
        """One product; a core stands on the right where nothing comes behind what is summed over."""
        value = self.moved(value, axes, step.before)
        behind = step.before[step.start + len(step.summed) :]
        summed = self.numbers(step.summed)
        if behind:
            rows = self.terms("reshape", value, [-1, summed, self.numbers(behind)])
            return self.terms("matmul", self.matrix(core[0], core[1], step.new, step.summed), rows)
        rows = self.terms("reshape", value, [-1, summed])
        return self.terms("matmul", rows, self.matrix(core[0], core[1], step.summed, step.new))


def _together(axes: tuple[Axis, ...], summed: Sequence[Axis]) -> tuple[tuple[Axis, ...], int, bool]:
    """The axes with those that are summed over side by side, where these begin, whether any had to move."""
    places = [place for place, axis in enumerate(axes) if axis in summed]
    if not places:
        return axes, len(axes), False
    if places[-1] - places[0] + 1 == len(places):
        return axes, places[0], False
    rest = tuple(axis for axis in axes if axis not in summed)
    return (*rest, *summed), len(rest), True


def _shape(x: Sequence[int], *cores: Sequence[int]) -> tuple[int, ...]:
    """The shape of `network`. Raises `ValueError` where the sizes do not fit."""
    sizes_of([tuple(core) for core in cores])
    outputs, inputs = (math.prod(core[place] for core in cores) for place in (0, 1))
    if x[-1] != inputs:
        raise ValueError(f"a network of {inputs} inputs, applied to a value of shape {list(x)}")
    return math.prod(x[:-1]), outputs


DECLARED = (
    TermFunction(
        "network",
        ("x", "cores..."),
        network,
        _shape,
        "The network of cores [o, i, r, …] applied to x [..., i₁·i₂ ⋯] → [b, o₁·o₂ ⋯].",
    ),
)
