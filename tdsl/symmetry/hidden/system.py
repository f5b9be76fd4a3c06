"""The equations between axes: a union–find over atoms that are split where two axes are divided differently.

Every step only ever makes the group smaller: atoms become equal, are divided, are pinned, or lose what
their permutation may depend on. Where two divisions have no common refinement, both axes are pinned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod

from torch import fx

from tdsl.symmetry.hidden.dependence import dependences
from tdsl.symmetry.hidden.layout import (
    UNIT,
    Atom,
    Choice,
    Layout,
    Prod,
    Sum,
    atoms_in,
    case_of,
    chooses,
    factors,
    plain_factors,
    product,
    terms,
    total,
)
from tdsl.symmetry.hidden.pins import Pin

MOST_PARTS = 256
"""A division into more parts than this is not followed part by part."""

Site = tuple[str, int, int]
"""A place where an axis is split: node, outer size, inner size."""


@dataclass(slots=True)
class _State:
    size: int
    parent: int
    bound: Layout | None = None
    pin: Pin | None = None
    over: set[frozenset[int]] = field(default_factory=set)
    """Sets of atoms; the permutation may depend on what is in all of them.

    They are kept apart, for atoms that are not equal now may be found to be equal later.
    """


class System:
    """Atoms and the equations between them; `selectors` are sites at which parts are kept apart by case."""

    def __init__(self, selectors: frozenset[Site] = frozenset()) -> None:
        self.selectors = selectors
        self.node: fx.Node | None = None
        """The node whose law is being written down, which is to blame for pins."""
        self.changes = 0
        self.splits: list[tuple[Site, int]] = []
        """Sites at which an unpinned atom was split, and the outer part."""
        self._states: list[_State] = []

    # ------------------------------------------------------------ atoms

    def fresh(self, size: int) -> Layout:
        """A new axis, free in every respect."""
        if size == 1:
            return UNIT
        number = len(self._states)
        self._states.append(_State(size, number))
        return Atom(number)

    def pinned(self, size: int, reason: str) -> Layout:
        """A new axis that cannot be permuted."""
        layout = self.fresh(size)
        self.pin(layout, reason)
        return layout

    def root(self, number: int) -> int:
        """The atom that stands for all atoms equal to this one."""
        while self._states[number].parent != number:
            self._states[number].parent = self._states[self._states[number].parent].parent
            number = self._states[number].parent
        return number

    def size(self, layout: Layout) -> int:
        """How many indices the axis has."""
        if isinstance(layout, Atom):
            return self._states[layout.number].size
        if isinstance(layout, Sum):
            return sum(map(self.size, layout.parts))
        if isinstance(layout, Prod):
            return prod(map(self.size, layout.parts))
        return self.size(layout.parts[0])

    def set_size(self, number: int, size: int) -> None:
        """The atom has another size from now on, in every axis."""
        self._states[self.root(number)].size = size

    def pin_of(self, number: int) -> Pin | None:
        """Why the atom is pinned, if it is."""
        return self._states[self.root(number)].pin

    def is_free(self, layout: Layout) -> bool:
        """Whether some atom in the axis is not pinned."""
        return any(self.pin_of(number) is None for number in atoms_in(self.resolve(layout)))

    def is_outer(self, number: int) -> bool:
        """Whether the atom counts the blocks of an axis that was split."""
        return any(self.root(outer) == number for _, outer in self.splits)

    def over(self, number: int) -> frozenset[int]:
        """The atoms that a permutation of this one may depend on, as far as something says so."""
        sets = [self._in_atoms(allowed) for allowed in self._states[self.root(number)].over]
        return frozenset.intersection(*sets) if sets else frozenset()

    def _in_atoms(self, numbers: Iterable[int]) -> frozenset[int]:
        """Atoms as they are divided now; of one that is a concatenation no element has a coordinate."""
        return frozenset(n for number in numbers for n in plain_factors(self.resolve(Atom(number))))

    # ------------------------------------------------------------ resolving

    def resolve(self, layout: Layout) -> Layout:
        """The layout in terms of atoms that are neither equal to others nor divided."""
        if isinstance(layout, Atom):
            number = self.root(layout.number)
            state = self._states[number]
            if state.bound is None:
                return Atom(number)
            state.bound = self.resolve(state.bound)
            return state.bound
        parts = [self.resolve(part) for part in layout.parts]
        if isinstance(layout, Sum):
            return total(parts)
        if isinstance(layout, Choice):
            if all(part == parts[0] for part in parts):
                return parts[0]
            selector = self.resolve(Atom(layout.selector))
            if isinstance(selector, Atom):
                return Choice(selector.number, tuple(parts))
            return self.collapsed(parts)
        return self._expanded([factor for part in parts for factor in factors(part)])

    def _expanded(self, parts: list[Layout]) -> Layout:
        """A product in which no factor chooses by another one: that is a sum over the cases."""
        for i, part in enumerate(parts):
            if not isinstance(part, Atom):
                continue
            if any(chooses(later, part.number) for later in parts[i + 1 :]):
                count = self.size(part)
                cases = [
                    self.resolve(product([case_of(later, part.number, k) for later in parts[i + 1 :]]))
                    for k in range(count)
                ]
                return product([*parts[:i], total(cases)])
        return product(parts)

    def collapsed(self, parts: Sequence[Layout]) -> Layout:
        """All parts permuted alike: the one that stands for them."""
        for part in parts[1:]:
            self.unify(parts[0], part)
        return self.resolve(parts[0])

    # ------------------------------------------------------------ equations

    def pin(self, layout: Layout, reason: str) -> None:
        """No atom of the axis may be permuted."""
        for number in set(atoms_in(self.resolve(layout))):
            state = self._states[number]
            if state.pin is None:
                assert self.node is not None
                state.pin = Pin(self.node, reason)
                self.changes += 1

    def restrict(self, number: int, allowed: Iterable[int]) -> None:
        """A permutation of the atom may depend on these atoms only."""
        over = self._states[self.root(number)].over
        found = self._in_atoms(allowed)
        if found not in over:
            over.add(found)
            self.changes += 1

    def unify(self, one: Layout, other: Layout) -> None:
        """Both axes are permuted alike."""
        one, other = self.resolve(one), self.resolve(other)
        if one == other:
            return
        if isinstance(one, Choice) and isinstance(other, Choice) and one.selector == other.selector:
            for a, b in zip(one.parts, other.parts, strict=True):
                self.unify(a, b)
        elif isinstance(one, Atom) or isinstance(other, Atom):
            atom, layout = (one, other) if isinstance(one, Atom) else (other, one)
            assert isinstance(atom, Atom)
            self._bind(atom, layout)
        elif isinstance(one, Choice) or isinstance(other, Choice):
            choice, layout = (one, other) if isinstance(one, Choice) else (other, one)
            assert isinstance(choice, Choice)
            self.unify(self.collapsed(choice.parts), layout)
        elif isinstance(one, Sum) or isinstance(other, Sum):
            self._unify_sums(one, other)
        else:
            self._unify_products(factors(one), factors(other))

    def _bind(self, atom: Atom, layout: Layout) -> None:
        numbers = set(atoms_in(layout))
        if atom.number in numbers:
            if isinstance(layout, Choice):
                self.collapsed(layout.parts)
            else:
                self._give_up(atom, layout)
            return
        state = self._states[atom.number]
        pin = state.pin
        self.changes += 1
        if isinstance(layout, Atom):
            state.parent = layout.number
        else:
            state.bound = layout
        for over in state.over:
            for part, allowed in dependences(layout, self._in_atoms(over), frozenset()):
                if isinstance(part, Atom):
                    self.restrict(part.number, allowed)
        for number in numbers:
            target = self._states[self.root(number)]
            target.pin = target.pin or pin

    def _give_up(self, *layouts: Layout) -> None:
        """No common refinement that we know of."""
        for layout in layouts:
            self.pin(layout, "divides the axis in another way than what it meets")

    def _unify_sums(self, one: Layout, other: Layout) -> None:
        left, right = self._as_sum(one, other), self._as_sum(other, one)
        if left is None or right is None:
            self._give_up(one, other)
            return
        while left and right:
            a, b = self.resolve(left.pop(0)), self.resolve(right.pop(0))
            size = min(self.size(a), self.size(b))
            for part, rest in ((a, left), (b, right)):
                if self.size(part) > size:
                    cut = self.cut(part, size)
                    if cut is None:
                        self._give_up(one, other)
                        return
                    rest.insert(0, cut[1])
                    a, b = (cut[0], b) if part is a else (a, cut[0])
            self.unify(a, b)

    def _as_sum(self, layout: Layout, like: Layout) -> list[Layout] | None:
        """The axis as consecutive parts; a product whose outer factor has no order of its own is unrolled."""
        if not isinstance(layout, Prod):
            return terms(layout)
        outer, *rest = layout.parts
        if isinstance(outer, Sum):
            return [product([term, *rest]) for term in outer.parts]
        count = self.size(outer)
        if not isinstance(outer, Atom) or count > MOST_PARTS or len(terms(like)) > MOST_PARTS:
            return None
        self.pin(outer, "tells the blocks of the axis apart")
        return [product(rest)] * count

    def _unify_products(self, left: list[Layout], right: list[Layout]) -> None:
        whole = (product(list(left)), product(list(right)))
        while left and right:
            a, b = self.resolve(left.pop(0)), self.resolve(right.pop(0))
            if self.size(a) != self.size(b):
                larger, smaller, rest = (a, b, left) if self.size(a) > self.size(b) else (b, a, right)
                size = self.size(smaller)
                parts = (
                    self.split(larger, size, self.size(larger) // size)
                    if self.size(larger) % size == 0
                    else None
                )
                if parts is None:
                    self._give_up(*whole)
                    return
                rest[:0] = factors(parts[1])
                a, b = parts[0], smaller
            self.unify(a, b)

    # ------------------------------------------------------------ dividing

    def split(self, layout: Layout, outer: int, inner: int) -> tuple[Layout, Layout] | None:
        """The axis as `outer` blocks of size `inner`: the axes of blocks and within; `None` if it cannot."""
        layout = self.resolve(layout)
        if outer == 1 or inner == 1:
            return (UNIT, layout) if outer == 1 else (layout, UNIT)
        if isinstance(layout, Atom):
            return self._split_atom(layout, outer, inner)
        if isinstance(layout, Choice):
            pairs = [self.split(part, outer, inner) for part in layout.parts]
            heads = [pair[0] for pair in pairs if pair is not None]
            if not any(map(self.is_free, heads)):
                self.collapsed(heads)  # what is pinned anyway is one selector, not one in each case
            return _case_by_case(layout, pairs)
        if isinstance(layout, Prod):
            taken: list[Layout] = []
            rest = list(layout.parts)
            while outer > 1:
                part = rest.pop(0)
                size = self.size(part)
                if outer % size == 0:
                    taken.append(part)
                    outer //= size
                    continue
                halves = self.split(part, outer, size // outer) if size % outer == 0 else None
                if halves is None:
                    return None
                taken.append(halves[0])
                rest.insert(0, halves[1])
                outer = 1
            return self.resolve(product(taken)), self.resolve(product(rest))
        return self._by_case(layout, outer, inner)

    def _split_atom(self, atom: Atom, outer: int, inner: int) -> tuple[Layout, Layout]:
        assert self.node is not None
        site = (self.node.name, outer, inner)
        if site in self.selectors:
            self._bind(atom, Sum(tuple(self.fresh(inner) for _ in range(outer))))
            found = self._by_case(self.resolve(atom), outer, inner)
            assert found is not None
            return found
        blocks, within = self.fresh(outer), self.fresh(inner)
        assert isinstance(blocks, Atom)
        if self.pin_of(atom.number) is None and outer <= MOST_PARTS:
            self.splits.append((site, blocks.number))
        self._bind(atom, Prod((blocks, within)))
        return blocks, within

    def _by_case(self, layout: Layout, outer: int, inner: int) -> tuple[Layout, Layout] | None:
        if outer > MOST_PARTS:
            return None
        pieces: list[Layout] = []
        rest: Layout = layout
        for _ in range(outer - 1):
            cut = self.cut(rest, inner)
            if cut is None:
                return None
            pieces.append(cut[0])
            rest = cut[1]
        pieces.append(rest)
        selector = self.pinned(outer, "tells the blocks of the axis apart")
        assert isinstance(selector, Atom)
        return selector, self.resolve(Choice(selector.number, tuple(pieces)))

    def cut(self, layout: Layout, size: int) -> tuple[Layout, Layout] | None:
        """The first `size` indices of the axis, and the others; `None` where the blocks do not allow it."""
        layout = self.resolve(layout)
        if isinstance(layout, Atom):
            first, second = self.fresh(size), self.fresh(self.size(layout) - size)
            self._bind(layout, Sum((first, second)))
            return first, second
        if isinstance(layout, Choice):
            return _case_by_case(layout, [self.cut(part, size) for part in layout.parts])
        if isinstance(layout, Sum):
            taken: list[Layout] = []
            rest = list(layout.parts)
            while size:
                part = rest.pop(0)
                own = self.size(part)
                if own > size:
                    cut = self.cut(part, size)
                    if cut is None:
                        return None
                    taken.append(cut[0])
                    rest.insert(0, cut[1])
                    break
                taken.append(part)
                size -= own
            return total(taken), total(rest)
        outer, *inner = layout.parts
        within = prod(map(self.size, inner))
        if size % within:
            return None
        halves = self.cut(outer, size // within)
        if halves is None:
            return None
        return product([halves[0], *inner]), product([halves[1], *inner])


def _case_by_case(layout: Choice, pairs: list[tuple[Layout, Layout] | None]) -> tuple[Layout, Layout] | None:
    """The halves of an axis that is divided in every case."""
    found = [pair for pair in pairs if pair is not None]
    if len(found) != len(pairs):
        return None
    first, second = zip(*found, strict=True)
    return Choice(layout.selector, first), Choice(layout.selector, second)
