"""Representations: what each generator of a group does to one axis, and new ones from old."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.symmetry.element import (
    Element,
    Permutation,
    block_diagonal,
    direct_sum,
    identity,
    key,
    kronecker,
    then,
)
from tdsl.symmetry.group import MOST_ELEMENTS, Group


@dataclass(frozen=True, slots=True)
class Representation:
    """A group on R^size: an element for each generator, a matrix for each of its Lie algebra's."""

    group: Group
    name: str
    size: int
    generators: tuple[Element, ...]
    algebra: tuple[Tensor, ...] = field(default=(), compare=False)
    order: int | None = field(default=None, compare=False)
    """Of which tensor power of the defining representation this is; `None` for any other one."""

    @property
    def permutes(self) -> bool:
        """Whether every element only permutes the places of the axis."""
        return self.group.finite and all(isinstance(g, Permutation) for g in self.generators)

    def images(self, most: int = MOST_ELEMENTS) -> tuple[Element, ...]:
        """What every element of a finite group does, in the order of `Group.elements`."""
        return tuple(
            self.group.image(word, self.generators, self.size) for word, _ in self.group.elements(most)
        )

    def check(self, most: int = MOST_ELEMENTS) -> None:
        """Raise `TdslError` unless the generators do what the group's own relations ask of them.

        Walks the Cayley graph of a finite group: two words of one element must have one image.
        """
        position = {key(element): i for i, (_, element) in enumerate(self.group.elements(most))}
        images = self.images(most)
        for i, (word, element) in enumerate(self.group.elements(most)):
            for place, generator in enumerate(self.group.generators):
                product = then(element, generator)
                j = position[key(product)]
                if not _equal(then(images[i], self.generators[place]), images[j]):
                    names = "·".join(self.group.names[w] for w in (*word, place))
                    raise TdslError(
                        f"{self.name} is no representation of {self.group.name}: what {names} does"
                        " depends on how the element is written",
                        expected="generators that keep the relations of the group",
                    )


def _equal(first: Element, second: Element) -> bool:
    if isinstance(first, Permutation) and isinstance(second, Permutation):
        return first == second
    return bool(torch.allclose(first.matrix(), second.matrix(), rtol=0, atol=1e-9))


def defining(group: Group) -> Representation:
    """The representation by which the group is given."""
    return Representation(group, group.name, group.degree, group.generators, group.algebra, 1)


def trivial(group: Group, size: int) -> Representation:
    """Nothing moves."""
    zero = torch.zeros(size, size, dtype=torch.float64)
    one: Element = identity(size)
    return Representation(
        group, f"trivial({size})", size, (one,) * len(group.generators), (zero,) * len(group.algebra)
    )


def regular(group: Group) -> Representation:
    """A finite group on itself, its elements in the order of `Group.elements`: (g·f)(h) = f(h·g), g first."""
    elements = group.elements()
    position = {key(element): i for i, (_, element) in enumerate(elements)}
    generators = tuple(
        Permutation(tuple(position[key(then(g, element))] for _, element in elements))
        for g in group.generators
    )
    return Representation(group, f"regular({group.name})", len(elements), generators)


def tensor(factors: Sequence[Representation]) -> Representation:
    """Several representations of one group on the axes of a tensor, flattened, the first running slowest."""
    group = _one_group(factors)
    sizes = [one.size for one in factors]
    size = functools.reduce(int.__mul__, sizes, 1)
    generators = tuple(
        kronecker([one.generators[i] for one in factors]) for i in range(len(group.generators))
    )
    algebra = []
    for i in range(len(group.algebra)):
        total = torch.zeros(size, size, dtype=torch.float64)
        for at, one in enumerate(factors):  # Leibniz: each factor in turn
            parts = [torch.eye(n, dtype=torch.float64) for n in sizes]
            parts[at] = one.algebra[i]
            total += functools.reduce(lambda a, b: torch.kron(a.contiguous(), b.contiguous()), parts)
        algebra.append(total)
    name = " ⊗ ".join(one.name for one in factors)
    return Representation(group, name, size, generators, tuple(algebra))


def power(base: Representation, order: int) -> Representation:
    """The tensor power: `order` axes that are all moved alike; order 0 is one invariant number."""
    if order == 0:
        return replace(trivial(base.group, 1), order=0)
    found = tensor([base] * order)
    return replace(found, order=None if base.order is None else base.order * order)


def copies(base: Representation, count: int, *, inside: bool = True) -> Representation:
    """`count` channels that are moved alike: running fastest (`inside`), or slowest."""
    channels = trivial(base.group, count)
    return tensor([base, channels] if inside else [channels, base])


def plus(parts: Sequence[Representation]) -> Representation:
    """The direct sum, on consecutive pieces of one axis."""
    group = _one_group(parts)
    generators = tuple(direct_sum([one.generators[i] for one in parts]) for i in range(len(group.generators)))
    algebra = tuple(block_diagonal([one.algebra[i] for one in parts]) for i in range(len(group.algebra)))
    return Representation(
        group, " ⊕ ".join(one.name for one in parts), sum(one.size for one in parts), generators, algebra
    )


def _one_group(parts: Sequence[Representation]) -> Group:
    if not parts or any(one.group != parts[0].group for one in parts):
        raise TdslError("representations of several groups do not combine", expected="one group")
    return parts[0].group
