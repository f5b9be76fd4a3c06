"""Every function whose value is a group, once: as declarations and `where` blocks call it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from tdsl.symmetry.affine import (
    euclidean,
    general_linear,
    special_euclidean,
    translations,
    whole_translations,
)
from tdsl.symmetry.element import Element, Linear, Permutation
from tdsl.symmetry.group import (
    Group,
    alternating,
    cyclic,
    dihedral,
    generated,
    orthogonal,
    product,
    special_orthogonal,
    symmetric,
    symplectic,
    wreath,
)


@dataclass(frozen=True, slots=True)
class Maker:
    """A function that makes a group."""

    name: str
    params: tuple[str, ...]
    """Argument names; `...` marks a list."""
    function: Callable[..., Group]
    doc: str


CONSTRUCTORS: dict[str, Callable[[int], Group]] = {
    "cyclic": cyclic,
    "dihedral": dihedral,
    "S": symmetric,
    "A": alternating,
    "O": orthogonal,
    "SO": special_orthogonal,
    "Sp": symplectic,
    "GL": general_linear,
    "E": euclidean,
    "SE": special_euclidean,
}
"""The families of groups that the language names, each by one number."""


def _product(*groups: Group) -> Group:
    return functools.reduce(product, groups)


def _generated(*generators: Element | Sequence[int] | Sequence[Sequence[float]] | Tensor) -> Group:
    """What elements, lists of places, or square matrices, generate."""
    return generated([_element(one) for one in generators])


def _element(written: Element | Sequence[int] | Sequence[Sequence[float]] | Tensor) -> Element:
    if isinstance(written, Permutation | Linear):
        return written
    if not isinstance(written, Tensor) and all(isinstance(place, int) for place in written):
        return Permutation(tuple(int(place) for place in written))  # type: ignore[arg-type]
    return Linear(torch.as_tensor(written, dtype=torch.float64))


def _automorphisms(adjacency: Tensor | Sequence[Sequence[float]]) -> Group:
    """The permutations of the nodes of a graph that keep its edges. [n, n]"""
    from tdsl.symmetry.finite import automorphisms

    return automorphisms(torch.as_tensor(adjacency, dtype=torch.float64))


_OF_SIZE = {
    "S": "All permutations of n places.",
    "A": "The even permutations of n places.",
    "O": "The orthogonal matrices of size n.",
    "SO": "The rotations of n dimensions.",
    "Sp": "The matrices of even size n that keep the symplectic form.",
    "GL": "The invertible matrices of size n.",
    "E": "Rotations, reflections and translations of n dimensions.",
    "SE": "Rotations and translations of n dimensions.",
    "cyclic": "The rotations of a ring of n places.",
    "dihedral": "The symmetries of a regular n-gon, on its corners.",
}

_DECLARED = (
    *(Maker(name, ("n",), function, _OF_SIZE[name]) for name, function in CONSTRUCTORS.items()),
    Maker("T", ("sizes...",), translations, "Translations by tensors of these sizes."),
    Maker("Z", ("sizes...",), whole_translations, "Translations by whole numbers, of these sizes."),
    Maker("product", ("groups...",), _product, "The direct product, on the sum of the spaces."),
    Maker("wreath", ("inner", "outer"), wreath, "Blocks with `inner` inside each, permuted by `outer`."),
    Maker("generated", ("generators...",), _generated, "What permutations [1, 0, 2], or matrices, generate."),
    Maker("aut", ("adjacency",), _automorphisms, "The automorphisms of a graph, on its nodes."),
)

MAKERS: Mapping[str, Maker] = MappingProxyType({one.name: one for one in _DECLARED})
"""Every maker of a group, by its name in the language."""
