"""Spaces of matrices that intertwine two representations, and weights projected onto them.

W intertwines ρ_in and ρ_out when ρ_out(g)·W = W·ρ_in(g) for every g. Diagrams span the space for tensor
powers of classical groups, orbit sums for permutations, and a null space for other finite groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.symmetry.group import Group
from tdsl.symmetry.representation import Representation, defining

MOST_ENTRIES = 1 << 26
"""A basis with more entries is not written out (512 MB)."""


@dataclass(frozen=True, eq=False)
class Space:
    """A basis of intertwining matrices, each perhaps once for every output and input channel."""

    text: str
    """What it is, as it is written: `commutant(S(5))`."""
    basis: Tensor
    """[d, m, n], float64."""
    outputs: int = 1
    inputs: int = 1
    mixes: bool = False
    """Whether channels were asked for: coefficients are matrices then, numbers otherwise."""

    @property
    def dimension(self) -> int:
        """How many coefficients there are."""
        return len(self.basis)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of its matrices, channels running fastest."""
        _, rows, columns = self.basis.shape
        return rows * self.outputs, columns * self.inputs

    @cached_property
    def _dual(self) -> Tensor:
        """The pseudo-inverse of the Gram matrix, with which inner products become coefficients. [d, d]"""
        flat = self.basis.reshape(self.dimension, -1)
        dual: Tensor = torch.linalg.pinv(flat @ flat.T, hermitian=True)
        return dual

    def coefficients(self, weight: Tensor) -> Tensor:
        """Those of the nearest matrix of the space. [m·o, n·i] → [d, o, i], or [d] without channels.

        Raises `TdslError` for a weight of another shape.
        """
        self._require(weight)
        _, rows, columns = self.basis.shape
        blocks = weight.to(torch.float64).reshape(rows, self.outputs, columns, self.inputs)
        found = torch.einsum("cd,dmn,moni->coi", self._dual, self.basis, blocks)
        return found if self.mixes else found[:, 0, 0]

    def matrix(self, *coefficients: Tensor) -> Tensor:
        """The matrix of some coefficients: the inverse of `coefficients`. → [m·o, n·i]"""
        stacked = torch.stack([c.reshape(self.outputs, self.inputs) for c in coefficients])
        basis = self.basis.to(stacked.dtype)
        return torch.einsum("coi,cmn->moni", stacked, basis).reshape(self.shape)

    def defect(self, weight: Tensor) -> float:
        """The distance of a weight from the space, relative to its norm; 0 for a weight of zeros."""
        exact = weight.to(torch.float64)
        missed = exact - self.matrix(*self.coefficients(exact))
        size = float(exact.norm())
        return float(missed.norm()) / size if size > 0 else 0.0

    def _require(self, weight: Tensor) -> None:
        if tuple(weight.shape) != self.shape:
            raise TdslError(
                f"a weight of shape {list(weight.shape)} is not in {self.text}",
                expected=f"the shape {list(self.shape)}",
            )


def hom(source: Group | Representation, target: Group | Representation) -> Space:
    """The matrices [target.size, source.size] that intertwine two representations of one group.

    Raises `TdslError` for representations of two groups, for continuous groups in other than tensor powers
    of their defining representation, and beyond `MOST_ENTRIES`.
    """
    into, out_of = _representation(target), _representation(source)
    if into.group != out_of.group:
        raise TdslError(
            f"{out_of.name} and {into.name} are representations of two groups", expected="the same group"
        )
    text = f"hom({out_of.name}, {into.name})"
    return Space(text, _basis(into, out_of, text))


def commutant(group: Group | Representation) -> Space:
    """The matrices that commute with a group. Raises what `hom` raises."""
    one = _representation(group)
    text = f"commutant({one.name})"
    return Space(text, _basis(one, one, text))


def channels(space: Space, outputs: int, inputs: int) -> Space:
    """The matrices with a member of `space` for each pair of an output and an input channel.

    Channels run fastest: [m·outputs, n·inputs]. Raises `TdslError` for channels of channels.
    """
    if space.mixes:
        raise TdslError(f"{space.text} has channels already", expected="a space without")
    if outputs < 1 or inputs < 1:
        raise TdslError(f"{outputs} and {inputs} channels", expected="positive numbers")
    return Space(f"channels({space.text}, {outputs}, {inputs})", space.basis, outputs, inputs, mixes=True)


def _representation(given: Group | Representation) -> Representation:
    if isinstance(given, Group):
        return defining(given)
    if isinstance(given, Representation):
        return given
    raise TdslError(f"{given} is no group", expected="a group such as S(n), or a representation of one")


def _basis(into: Representation, out_of: Representation, text: str) -> Tensor:
    group = into.group
    entries = into.size * out_of.size
    if into.order is not None and out_of.order is not None and group.family:
        from tdsl.symmetry.diagrams import basis, dimension

        _require_small(dimension(group.family, group.degree, out_of.order, into.order) * entries, text)
        found = basis(group.family, group.degree, out_of.order, into.order)
        if not found:
            return torch.zeros(0, into.size, out_of.size, dtype=torch.float64)
        return torch.stack([diagram.dense(group.degree) for diagram in found])
    if not group.finite:
        raise TdslError(
            f"{text} is not known: {group.name} is continuous",
            expected="tensor powers of its defining representation",
        )
    from tdsl.symmetry.finite import commutant_basis

    _require_small(entries, text)
    return _smallest_numbers(commutant_basis(into, out_of))


def _smallest_numbers(basis: Tensor) -> Tensor:
    """Each matrix scaled to a largest entry of 1: sums over orbits become matrices of ones and zeros."""
    if not len(basis):
        return basis
    flat = basis.reshape(len(basis), -1)
    largest = flat.gather(1, flat.abs().argmax(1, keepdim=True))
    return basis / largest.reshape(-1, 1, 1)


def _require_small(entries: int, text: str) -> None:
    if entries > MOST_ENTRIES:
        raise TdslError(
            f"{text} has a basis of {entries} numbers",
            expected=f"{MOST_ENTRIES} at most",
            hint="rules under `decompose` find large symmetric weights without a basis",
        )
