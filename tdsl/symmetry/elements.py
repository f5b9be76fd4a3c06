"""The elements with which a contract is tried, and what each does to every input and output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.spelling import did_you_mean
from tdsl.symmetry.action import Action
from tdsl.symmetry.contract import Acts, Contract
from tdsl.symmetry.element import Linear
from tdsl.symmetry.group import Group

RANDOM = 2
"""Random elements with which a continuous group is tried."""

MOST_DIRECTIONS = 36
"""Of a larger Lie algebra random elements are tried, not all of a basis."""

FEW = 8
"""Of an infinite group with more generators random elements alone are tried."""

Shapes = Mapping[str, Sequence[int]]
"""Inputs or outputs by name, and their shapes."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One element: its name, and its action on inputs and outputs in the model's order.

    `None` on an input leaves it alone. An output is claimed (`claimed`) to be moved by its action, or, with
    `None`, to be invariant.
    """

    name: str
    into: tuple[Action | None, ...]
    out: tuple[Action | None, ...]
    claimed: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class LieTrial:
    """One element of the Lie algebra: what its derivative does to inputs and outputs; `None`: nothing."""

    name: str
    into: tuple[Callable[[Tensor], Tensor] | None, ...]
    out: tuple[Callable[[Tensor], Tensor] | None, ...]
    claimed: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A contract on a model whose shapes are known."""

    group: Group
    trials: tuple[Trial, ...]
    algebra: tuple[LieTrial, ...]
    sizes: Mapping[str, int]


def _named_by(contract: Contract, outputs: Shapes) -> Shapes:
    """The outputs, a single one under the name that the contract gives it: PyTorch gives outputs none."""
    declared = [edge.name for edge in contract.source.edges if edge.side == "output"]
    return (
        dict(zip(declared, outputs.values(), strict=True)) if len(declared) == len(outputs) == 1 else outputs
    )


def plan(contract: Contract, inputs: Shapes, outputs: Shapes, seed: int = 0) -> Plan:
    """How a contract is tried on a model with these inputs and outputs.

    A single output may have any name. Raises `TdslError` where an edge names none of them, its shape does
    not fit, a size of the group is not known, the action is none of the group's on tensors of that shape, or
    moves no input.
    """
    outputs = _named_by(contract, outputs)
    sides = {"input": inputs, "output": outputs}
    for edge in contract.source.edges:
        there = sides[edge.side]
        if edge.name not in there:
            raise TdslError(
                f"the model has no {edge.side} `{edge.name}`",
                edge.span,
                expected=f"one of {', '.join(there)}",
                hint=did_you_mean(edge.name, there),
            )
    shapes = {(side, name): shape for side, known in sides.items() for name, shape in known.items()}
    sizes = contract.sizes(shapes)
    acts = contract.acts(sizes)
    group = contract.made_group(sizes)
    edges = {side: contract.side(side) for side in sides}
    for side, known in sides.items():
        for name, shape in known.items():
            if (acting := _acting(edges[side], acts, name)) is not None:
                acting.check(shape)

    def claimed() -> tuple[bool, ...]:
        return tuple(name in edges["output"] for name in outputs)

    def trial(label: str, of: Callable[[Acts, Sequence[int]], Action]) -> Trial:
        def moves(side: str, known: Shapes) -> tuple[Action | None, ...]:
            found = ((_acting(edges[side], acts, name), shape) for name, shape in known.items())
            return tuple(None if acting is None else of(acting, shape) for acting, shape in found)

        return Trial(label, moves("input", inputs), moves("output", outputs), claimed())

    trials = [
        trial(name, lambda acting, shape, i=i: acting.generator(i, shape))  # type: ignore[misc]
        for i, name in enumerate(group.names)
        if group.finite or len(group.names) <= FEW
    ]
    algebra = []
    if not group.finite:
        for i, matrix in enumerate(group.sample(RANDOM, seed), start=1):
            element = Linear(matrix)
            trials.append(
                trial(f"random {i}", lambda acting, shape, e=element: acting.element(e, shape))  # type: ignore[misc]
            )
        for i, direction in enumerate(_directions(group, seed), start=1):

            def derivatives(
                side: str, known: Shapes, direction: Tensor = direction
            ) -> tuple[Callable[[Tensor], Tensor] | None, ...]:
                return tuple(
                    None if acting is None else _derivative(acting, direction)
                    for acting in (_acting(edges[side], acts, name) for name in known)
                )

            algebra.append(
                LieTrial(f"A{i}", derivatives("input", inputs), derivatives("output", outputs), claimed())
            )
    if all(acting is None or acting.is_identity for one in trials for acting in one.into):
        raise TdslError(
            f"{group.name} leaves inputs of these sizes as they are, so that nothing is said",
            contract.source.span,
            expected="a group of several elements, and longer axes where it acts",
        )
    return Plan(group, tuple(trials), tuple(algebra), sizes)


def _directions(group: Group, seed: int) -> list[Tensor]:
    """A basis of the Lie algebra, or, of a large one, random elements: derivatives are linear in them."""
    if len(group.algebra) <= MOST_DIRECTIONS:
        return list(group.algebra)
    random = torch.Generator().manual_seed(seed)
    return [
        torch.einsum(
            "a,aij->ij",
            torch.randn(len(group.algebra), generator=random, dtype=torch.float64),
            torch.stack(group.algebra),
        )
        for _ in range(RANDOM)
    ]


def _derivative(acting: Acts, direction: Tensor) -> Callable[[Tensor], Tensor]:
    def of(x: Tensor) -> Tensor:
        return acting.derivative(direction, x)

    return of


def _acting(edges: Mapping[str, tree.Edge], acts: Mapping[str, Acts], name: str) -> Acts | None:
    edge = edges.get(name)
    return None if edge is None or edge.action is None else acts[edge.action]


def shape_of(value: Tensor) -> tuple[int, ...]:
    """The sizes of a tensor as plain numbers."""
    return tuple(int(size) for size in value.shape)
