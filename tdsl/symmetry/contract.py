"""What a `symmetry` declaration means: which group does what to which inputs and outputs."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.terms import tensor_type
from tdsl.lang.walk import walk
from tdsl.symmetry.action import Action, identity_on, same
from tdsl.symmetry.declared import group_of, number_of
from tdsl.symmetry.element import Element, Linear, identity, key, then
from tdsl.symmetry.group import Group, Word
from tdsl.symmetry.makers import MAKERS
from tdsl.symmetry.term import Setting, action_of, uses_element

TOLERANCE = 1e-6
"""The defect that a contract allows when it does not say."""

MOST_CHECKED = 256
"""Relations of larger groups are not checked element by element, but on random words:"""

WORDS, LONGEST = 60, 12
"""so many, of so many generators at most."""


@dataclass(frozen=True, slots=True)
class Acts:
    """A declared action of a group whose sizes are known: what each element does to tensors of a shape."""

    source: tree.Action
    group: Group

    @property
    def name(self) -> str:
        """What it is called."""
        return self.source.name

    @property
    def by_element(self) -> bool:
        """Whether one term says what every element does."""
        return uses_element(self.source.generators[0].value)

    def generator(self, number: int, shape: Sequence[int]) -> Action:
        """What a generator of the group does. Raises `TdslError` where it does not fit the shape."""
        if self.by_element:
            return self.element(self.group.generators[number], shape)
        return action_of(self.source.generators[number].value, self._setting(shape))

    def element(self, element: Element, shape: Sequence[int]) -> Action:
        """What an element does, of a group whose action is given by one term. Raises `TdslError`."""
        return action_of(self.source.generators[0].value, self._setting(shape, element))

    def derivative(self, algebra: Tensor, x: Tensor) -> Tensor:
        """What an element of the Lie algebra, [degree, degree], does to x: the derivative along exp(t·A).

        The action of an element is a product of matrices that depend on it polynomially or by their inverse,
        so that it can be differentiated numerically without loss: it is done in float64 by a central
        difference of fourth order.
        """
        step = 1e-3
        total = torch.zeros_like(x)
        for times, weight in ((1, 8.0), (-1, -8.0), (2, -1.0), (-2, 1.0)):
            element = Linear(torch.matrix_exp(times * step * algebra))
            total = total + weight * self.element(element, x.shape).apply(x)
        return total / (12 * step)

    def _setting(self, shape: Sequence[int], element: Element | None = None) -> Setting:
        dims = self.source.type.dims or ()
        named = [dim for dim in dims if not isinstance(dim, tree.Ellipsis_)]
        if len(named) > len(shape) or (len(named) == len(dims) and len(named) != len(shape)):
            raise TdslError(
                f"{self.name} acts on {tensor_type(self.source.type)}, not on shape {list(shape)}",
                self.source.type.span,
            )
        axes: dict[str, int] = {}
        sizes: dict[str, int] = {}
        for i, dim in enumerate(named, start=-len(named)):
            size = shape[i]
            if isinstance(dim, tree.Name):
                axes.setdefault(dim.id, i)
                if sizes.setdefault(dim.id, size) != size:
                    raise TdslError(f"`{dim.id}` is {sizes[dim.id]} and {size} at once", dim.span)
            elif number_of(dim, sizes) != size:
                raise TdslError(
                    f"{self.name} acts on an axis of size {number_of(dim, sizes)}, and this one has {size}",
                    dim.span,
                )
        return Setting(tuple(shape), axes, sizes, element, self.group.moved)

    def word(self, word: Sequence[int], shape: Sequence[int], times: int = 1) -> Action:
        """What a product of generators does, the first of them first, some times."""
        done, now = identity_on(len(shape)), tuple(shape)
        known: dict[tuple[int, tuple[int, ...]], Action] = {}
        for number in (*word,) * times:
            if (number, now) not in known:
                known[number, now] = self.generator(number, now)
            one = known[number, now]
            done = done.then(one)
            now = tuple(now[axis] for axis in one.order)
        return done

    def check(self, shape: Sequence[int]) -> None:
        """Raise `TdslError` unless the generators of a finite group keep its relations.

        Of a small group these are all that there are.
        """
        group = self.group
        images: dict[Word, Action] = {}
        for word, times, other in _relations(group) if group.finite else ():
            done = self.word(word, shape, times)
            wanted = images[other] = images.get(other) or self.word(other, shape)
            if not same(done, wanted):
                shown, target = ("·".join(group.names[n] for n in one) or "1" for one in (word, other))
                shown += "" if times == 1 else f", {times} times,"
                raise TdslError(
                    f"{self.name} is no action of {group.name}: there {shown} is {target}, and the"
                    f" generators do {done} and {wanted}",
                    self.source.span,
                    expected="terms that keep the relations of the group",
                )


def _relations(group: Group) -> Iterator[tuple[Word, int, Word]]:
    """Words, how many times, and what they are then: a table; of a larger group random ones, which are 1."""
    elements: tuple[tuple[Word, Element], ...] = ()
    if (group.known_order or 0) <= MOST_CHECKED:
        with contextlib.suppress(TdslError):  # larger than that
            elements = group.elements(MOST_CHECKED)
    position = {key(element): i for i, (_, element) in enumerate(elements)}
    for word, element in elements:
        for number, generator in enumerate(group.generators):
            yield (*word, number), 1, elements[position[key(then(element, generator))]][0]
    source = random.Random(0)
    for _ in range(0 if elements else WORDS):
        word = tuple(source.choices(range(len(group.generators)), k=source.randint(1, LONGEST)))
        one = power = group.image(word, group.generators, group.degree)
        for times in range(1, MOST_CHECKED):
            if key(power) == key(identity(group.degree)):
                yield word, times, ()
                break
            power = then(power, one)


@dataclass(frozen=True, slots=True)
class Contract:
    """A `symmetry` declaration with the declarations that it uses."""

    source: tree.Symmetry
    group: tree.Group
    actions: Mapping[str, tree.Action]
    groups: Mapping[str, tree.Group] = field(repr=False)
    within: float | None = None
    """What a pipeline allows in place of its own tolerance."""

    @property
    def name(self) -> str:
        """What it is called."""
        return self.source.name

    @property
    def tolerance(self) -> float:
        """The largest relative defect that keeps it."""
        if self.within is not None:
            return self.within
        return TOLERANCE if self.source.tolerance is None else float(number_of(self.source.tolerance, {}))

    def side(self, side: str) -> dict[str, tree.Edge]:
        """The edges of one side (`input`, `output`) by name."""
        return {edge.name: edge for edge in self.source.edges if edge.side == side}

    def sizes(self, shapes: Mapping[tuple[str, str], Sequence[int]]) -> dict[str, int]:
        """What the names of sizes stand for, given the shapes of (side, name). Raises `TdslError`."""
        sizes: dict[str, int] = {}
        for edge in self.source.edges:
            shape = shapes.get((edge.side, edge.name))
            if shape is not None:
                _bind(edge, shape, sizes)
        return sizes

    def acts(self, sizes: Mapping[str, int]) -> dict[str, Acts]:
        """Its actions, the group's own sizes being known. Raises `TdslError` for one that is not."""
        group = self.made_group(sizes)
        return {name: Acts(source, group) for name, source in self.actions.items()}

    def made_group(self, sizes: Mapping[str, int]) -> Group:
        """The group, the sizes in its declaration put in. Raises `TdslError` for one that is not known."""
        missing = [name for name in free_sizes(self.group.value) if name not in sizes]
        if missing:
            raise TdslError(
                f"the size `{missing[0]}` of {self.group.name} is no size of this contract",
                self.source.span,
                expected=f"an edge such as `input x: [{missing[0]}, …]`",
            )
        return evaluated(self.group, self.groups, sizes)


def _bind(edge: tree.Edge, shape: Sequence[int], sizes: dict[str, int]) -> None:
    dims = edge.type.dims or ()
    named = [dim for dim in dims if not isinstance(dim, tree.Ellipsis_)]
    if len(named) > len(shape) or (len(named) == len(dims) and len(named) != len(shape)):
        raise TdslError(
            f"{edge.side} {edge.name} has shape {list(shape)}",
            edge.type.span,
            expected=tensor_type(edge.type),
        )
    for dim, size in zip(named, shape[len(shape) - len(named) :], strict=True):
        if isinstance(dim, tree.Name):
            if sizes.setdefault(dim.id, size) != size:
                raise TdslError(f"`{dim.id}` is {size} in {edge.name}, and {sizes[dim.id]} before", dim.span)
        elif all(name in sizes for name in names_in(dim)) and number_of(dim, sizes) != size:
            raise TdslError(f"this size of {edge.name} is {size} in the model", dim.span)


def names_in(expr: tree.Expr) -> Iterator[str]:
    """Every name in an expression, as often as it is there."""
    yield from (node.id for node in walk(expr) if isinstance(node, tree.Name))


def free_sizes(expr: tree.Expr) -> list[str]:
    """Names that stand for numbers in a group's expression: sizes that a contract gives."""
    if not isinstance(expr, tree.Call):
        return []
    found: list[str] = []
    for argument in expr.arguments:
        value = argument.value
        if _of_sizes(expr.callee) or isinstance(value, tree.ListOf):
            found += [name for name in names_in(value) if name not in found]
        else:
            found += [name for name in free_sizes(value) if name not in found]
    return found


def _of_sizes(callee: str) -> bool:
    """Whether what makes a group takes numbers."""
    return callee in MAKERS and MAKERS[callee].params in (("n",), ("sizes...",))


def evaluated(group: tree.Group, groups: Mapping[str, tree.Group], sizes: Mapping[str, int]) -> Group:
    """A declared group with numbers for its sizes; groups that it names are declared before it."""
    known: dict[str, Group | int] = dict(sizes)
    for name, other in groups.items():
        if name == group.name:
            break
        if all(size in sizes for size in free_sizes(other.value)):
            known[name] = group_of(other.value, known)
    return group_of(group.value, known)
