"""What the wrappers over a finite group share: copies of a batch for its elements, and the law to check."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tdsl.errors import TdslError
from tdsl.symmetry.action import Action
from tdsl.symmetry.group import Group
from tdsl.symmetry.impose.law import Change, Tensors
from tdsl.symmetry.impose.moves import MOST_COPIES, Images, Moves, OneOrMany, group_of, listed, padded

BROKEN = 1e-9
"""Moves that miss a relation of their group by more are no action."""


class OverFiniteGroup(nn.Module):
    """A model `f` and a finite group that moves its inputs and outputs.

    Raises `TdslError` for a group that is infinite or too large, and where nothing moves.
    """

    f: Callable[..., object]

    def __init__(self, f: Callable[..., object], inputs: OneOrMany, outputs: OneOrMany) -> None:
        super().__init__()
        self.f = f
        self.group = group_of(inputs, outputs)
        self.order = len(self.group.elements(MOST_COPIES))
        self.moved_in, self.moved_out = listed(inputs), listed(outputs)
        self._in = tuple(None if one is None else one.images() for one in self.moved_in)
        self._out = tuple(None if one is None else one.images() for one in self.moved_out)

    def images_in(self, count: int) -> tuple[Images, ...]:
        """What the elements do to each of `count` inputs."""
        return padded(self._in, count, "input")

    def images_out(self, count: int) -> tuple[Images, ...]:
        """What the elements do to each of `count` outputs."""
        return padded(self._out, count, "output")

    def changes(self) -> list[Change]:
        """The law, for each generator."""
        return changes_of(self.group, self.moved_in, self.moved_out)

    def require_action(self, x: Tensors) -> None:
        """Raise `TdslError` unless the moves keep the relations of the group on these inputs."""
        for place, (moved, one) in enumerate(zip(self.moved_in, x, strict=False)):
            missed = 0.0 if moved is None else moved.defect(one)
            if missed > BROKEN:
                raise TdslError(
                    f"the moves of input {place} are no action of {self.group.name}: a product of generators"
                    f" that is one element moves it in two ways (difference {missed:.1e})",
                    expected="moves that keep the relations of the group",
                    hint="another group, other moves for its generators, or an input that is square",
                )


def copies_of(x: Tensor, images: Images, order: int) -> Tensor | None:
    """A copy for each element, [B, …] → [order, B, …]; `None` where they have several shapes."""
    if images is None:
        return x.unsqueeze(0).expand(order, *x.shape)
    copies = [act.apply(x) for act in images]
    return torch.stack(copies) if all(c.shape == x.shape for c in copies) else None


def apart(x: Tensor, order: int) -> Tensor:
    """A batch of copies, one element after the other. [order·B, …] → [order, B, …]."""
    return x.reshape(order, -1, *x.shape[1:])


def moved_back(copies: Sequence[Tensor], images: Sequence[Action] | None) -> Tensor:
    """The result of each element, moved back by it. `order` tensors of one shape → [order, …]."""
    if images is not None:
        copies = [act.inverse().apply(y) for act, y in zip(images, copies, strict=True)]
    return torch.stack(list(copies))


def changes_of(group: Group, inputs: Sequence[Moves | None], outputs: Sequence[Moves | None]) -> list[Change]:
    """A law by the generators of a group: what each does to the inputs, and to the outputs."""
    return [
        Change(
            name,
            _moving([None if m is None else m.generators[i] for m in inputs]),
            _moving([None if m is None else m.generators[i] for m in outputs]),
        )
        for i, name in enumerate(group.names)
    ]


def _moving(acts: Sequence[Action | None]) -> Callable[[Tensors], Tensors]:
    def move(tensors: Tensors) -> Tensors:
        moved = [x if act is None else act.apply(x) for x, act in zip(tensors, acts, strict=False)]
        return (*moved, *tensors[len(moved) :])

    return move
