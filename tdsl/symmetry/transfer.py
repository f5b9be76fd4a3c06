"""How an action passes through an operator: one declaration for each operator or family, in a registry.

A transfer is a function of a `Site`, a call whose operands are acted on. It returns what happens to the
results (`Law`), or raises `Breaks` with the reason. Families that a fact of the operator table describes
(pointwise, elementwise, data movement, reductions) have one transfer for all their members; an operator with
a transfer of its own is named.

    @transfer("softmax", "log_softmax")
    def _softmax(site): ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tdsl.ops import Operator
from tdsl.symmetry.action import Action, identity_on

ROUNDING = 64.0
"""Weights tied up to so many roundings of their type are tied."""

NEAR = 0.1
"""A law whose residual is larger is none: random weights leave a residual near 1."""


@dataclass(frozen=True, slots=True)
class Value:
    """An operand: its shape, what acts on it, and its numbers where they do not depend on the input."""

    shape: tuple[int, ...]
    action: Action
    constant: Tensor | None = None
    expanded: frozenset[int] = frozenset()
    """Axes along which all its places were made of one."""

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def still(self) -> bool:
        """Whether nothing acts on it."""
        return self.action.is_identity

    def is_alike_along(self, axis: int) -> bool:
        """Whether its places along an axis hold the same, so that they may be in any order."""
        return axis in self.expanded and self.action.part(axis) is None


@dataclass(frozen=True, slots=True)
class Residual:
    """How far weights are from a law: relative Frobenius norm, and the worst entry over the rms entry."""

    norm: float = 0.0
    worst: float = 0.0
    exact: bool = True
    """Whether the worst entry is off by rounding only."""

    def __or__(self, other: Residual) -> Residual:
        return Residual(max(self.norm, other.norm), max(self.worst, other.worst), self.exact and other.exact)


@dataclass(frozen=True, slots=True)
class Law:
    """What acts on each result, and how well weights obey; `weights`: it holds for these weights only."""

    actions: tuple[Action, ...]
    residual: Residual = field(default_factory=Residual)
    weights: bool = False


class Breaks(Exception):
    """The action does not pass: why, and what would act on the result if it did, where that is clear."""

    def __init__(self, reason: str, nominal: Action | None = None, residual: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.nominal = nominal
        self.residual = residual


@dataclass(frozen=True, slots=True)
class Site:
    """A call: operator, arguments by name (operands as `Value`, lists of them, or numbers), results."""

    operator: Operator
    arguments: Mapping[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    read: tuple[bool, ...]
    """Whether anything reads each result: what acts on another one does not matter."""

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def x(self) -> Value:
        """The first operand."""
        first: Value = self.arguments[self.operator.operands[0].name]
        return first

    def values(self) -> list[Value]:
        """Every tensor operand that is there, in order, lists flattened."""
        found: list[Value] = []
        for param in self.operator.operands:
            value = self.arguments.get(param.name)
            for one in value if isinstance(value, list | tuple) else [value]:
                if isinstance(one, Value):
                    found.append(one)
        return found

    def weights(self) -> list[Value]:
        """Operands that do not depend on the input."""
        return [value for value in self.values() if value.constant is not None]

    def require_values_only(self) -> None:
        """Raise `Breaks` where the second result, which says where the values of the first are, is read."""
        if self.read[1]:
            raise Breaks(f"the places that {self.operator.name} returns are numbered by where they are")

    def require_only_x(self) -> None:
        """Raise `Breaks` unless the first operand alone is acted on."""
        if any(not value.still for value in self.values()[1:]):
            raise Breaks(f"only the first operand of {self.operator.name} may be acted on")


Transfer = Callable[[Site], Law]

TRANSFERS: dict[str, Transfer] = {}
"""Operators with a transfer of their own."""

FAMILIES: list[tuple[Callable[[Operator], bool], Transfer]] = []
"""Transfers by a fact of the operator table; the first that fits is taken."""


def transfer(*names: str) -> Callable[[Transfer], Transfer]:
    """Declare how actions pass through the operators of these names."""

    def declare(function: Transfer) -> Transfer:
        TRANSFERS.update(dict.fromkeys(names, function))
        return function

    return declare


def family(fact: Callable[[Operator], bool]) -> Callable[[Transfer], Transfer]:
    """Declare how actions pass through every operator that a fact describes."""

    def declare(function: Transfer) -> Transfer:
        FAMILIES.append((fact, function))
        return function

    return declare


def transfer_of(operator: Operator) -> Transfer | None:
    """The transfer of an operator: its own, else that of the first family it belongs to."""
    own = TRANSFERS.get(operator.name)
    return own or next((made for fact, made in FAMILIES if fact(operator)), None)


def law(site: Site, *actions: Action, residual: Residual | None = None) -> Law:
    """A law of these results; with a residual it is one of the weights."""
    return Law(tuple(actions), residual or Residual(), residual is not None)


def untouched(site: Site) -> Law:
    """Nothing acts on any result."""
    return Law(tuple(identity_on(len(shape)) for shape in site.shapes))


def distance(moved: Tensor, weight: Tensor) -> Residual:
    """How far a weight is from itself after it was acted on."""
    wide, other = weight.to(torch.float64), moved.to(torch.float64)
    if wide.shape != other.shape:
        return Residual(1.0, 1.0, False)
    off = (wide - other).abs()
    if not off.numel() or float(off.max()) == 0:
        return Residual()
    size = float(wide.norm())
    rms = size / wide.numel() ** 0.5 or 1.0
    worst = float(off.max()) / rms
    dtype = weight.dtype if weight.dtype.is_floating_point else torch.float64
    return Residual(float(off.norm()) / (size or 1.0), worst, worst <= ROUNDING * torch.finfo(dtype).eps)


def require_near(residual: Residual, reason: str, nominal: Action | None = None) -> Residual:
    """The residual itself. Raises `Breaks` when it is too large for a law."""
    if residual.norm > NEAR:
        raise Breaks(f"{reason} (residual {residual.norm:.2g})", nominal, residual.norm)
    return residual


def axes_of(dims: Any, rank: int) -> tuple[int, ...]:
    """Axes from the front; none given means all."""
    if dims is None or (isinstance(dims, Sequence) and not dims):
        return tuple(range(rank))
    return tuple(d % max(rank, 1) for d in ([dims] if isinstance(dims, int) else dims))
