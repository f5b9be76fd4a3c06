"""What wrappers for point clouds share: points in coordinates of their own, results taken back from there.

Points are rows, so that a rotation is x ↦ x·R, and an equivariant basis Q of rows, Q(x·R) = Q(x)·R, has
coordinates x·Qᵀ that no rotation changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tdsl.errors import TdslError
from tdsl.symmetry.group import orthogonal, special_orthogonal
from tdsl.symmetry.impose.law import Change, Tensors, outputs_of

Rotations = Literal["O", "SO", "E", "SE"]
"""Rotations with or without reflections (O, SO), and with translations besides (E, SE)."""

Output = Literal["invariant", "vectors", "points"]
"""What an output does: nothing, turn along, or turn and move along."""

TURNS = 3
"""Random rotations that a law is checked for."""


class OnCloud(nn.Module):
    """A model `f` of point clouds [B, N, d], in coordinates of the cloud, and of inputs that nothing moves.

    Raises `TdslError` for a group or a kind of output that there is not.
    """

    f: Callable[..., object]

    def __init__(self, f: Callable[..., object], group: Rotations, output: Output, size: int) -> None:
        super().__init__()
        for what, given, known in (("group", group, Rotations), ("output", output, Output)):
            if given not in get_args(known):
                raise TdslError(f"there is no {what} `{given}`", expected=", ".join(get_args(known)))
        if output == "points" and "E" not in group:
            raise TdslError(
                f"points do not move along under {group}({size})", expected="`vectors`, or the group E or SE"
            )
        self.f, self.group, self.output, self.size = f, group, output, size

    @property
    def reflects(self) -> bool:
        """Whether mirror images are equal."""
        return self.group in ("O", "E")

    @property
    def translates(self) -> bool:
        """Whether shifted clouds are equal."""
        return self.group in ("E", "SE")

    def require_cloud(self, x: Tensor) -> None:
        """Raise `TdslError` unless x is a batch of clouds."""
        if x.ndim != 3 or x.shape[2] != self.size:
            raise TdslError(
                f"an input of shape {list(x.shape)} is no batch of point clouds",
                expected=f"[batch, points, {self.size}]",
            )
        if not x.is_floating_point():
            raise TdslError(
                f"a cloud of {str(x.dtype).removeprefix('torch.')} has no axes to turn to",
                expected="coordinates of a floating type",
                hint="`x.float()` in front of the wrapper",
            )

    def require_vectors(self, rows: Tensor, count: int) -> None:
        """Raise `TdslError` unless these are at least `count` vectors of each cloud."""
        if rows.ndim != 3 or rows.shape[1] < count or rows.shape[2] != self.size:
            raise TdslError(
                f"`vectors` gives {list(rows.shape)}",
                expected=f"[batch, {count} or more, {self.size}], a vector in each row",
            )

    def centre(self, x: Tensor) -> Tensor:
        """The centroid, [B, 1, d]; zero where translations are none of the group's business."""
        return x.mean(1, keepdim=True) if self.translates else torch.zeros_like(x[:, :1])

    def seen(self, x: Tensor, centre: Tensor, bases: Tensor, others: Tensors) -> Tensor | Tensors:
        """The average of `f` over coordinates in several bases. [B, N, d], [B, 1, d], [F, B, d, d]."""
        frames = bases.shape[0]
        inside = (x - centre).unsqueeze(0) @ bases.transpose(2, 3)
        rest = [one.unsqueeze(0).expand(frames, *one.shape).flatten(0, 1) for one in others]
        found = []
        for y in outputs_of(self.f(inside.flatten(0, 1), *rest)):
            parts = y.reshape(frames, -1, *y.shape[1:])
            if self.output != "invariant":
                parts = self._outside(parts, bases, centre)
            found.append(parts.mean(0))
        return found[0] if len(found) == 1 else tuple(found)

    def _outside(self, y: Tensor, bases: Tensor, centre: Tensor) -> Tensor:
        """[F, B, …, d] out of the bases again."""
        if y.shape[-1] != self.size:
            raise TdslError(
                f"an output of shape {list(y.shape[1:])} holds no vectors of {self.size} coordinates",
                expected=f"[B, …, {self.size}]",
                hint='or `output="invariant"`',
            )
        turned = (y.flatten(2, -2) if y.ndim > 3 else y.reshape(*y.shape[:2], -1, self.size)) @ bases
        moved = turned + centre if self.output == "points" else turned
        return moved.reshape(y.shape)

    def changes(self, seed: int) -> list[Change]:
        """The law: random rotations, a reflection and a translation, as far as they are in the group."""
        random = torch.Generator().manual_seed(seed)
        turns = special_orthogonal(self.size).sample(TURNS, seed)
        found = [(f"rotation {i + 1}", turn, torch.zeros(self.size)) for i, turn in enumerate(turns)]
        if self.reflects:
            [mirror] = [g.matrix() for g in orthogonal(self.size).generators]
            found.append(("reflection", mirror, torch.zeros(self.size)))
        if self.translates:
            step = torch.randn(self.size, generator=random, dtype=torch.float64)
            found.append(("translation", torch.eye(self.size), step))
        return [self.change(*one) for one in found]

    def change(self, name: str, turn: Tensor, step: Tensor) -> Change:
        """A rotation x ↦ x·R followed by a translation, as a change to be seen."""
        turn, step = turn.double(), step.double()

        def inputs(tensors: Tensors) -> Tensors:
            return (tensors[0] @ turn + step, *tensors[1:])

        def outputs(tensors: Tensors) -> Tensors:
            if self.output == "invariant":
                return tensors
            return tuple(y @ turn + (step if self.output == "points" else 0) for y in tensors)

        return Change(name, inputs, outputs)


def crossed(one: Tensor, other: Tensor) -> Tensor:
    """The cross product along the last axis, by products and differences. [..., 3], [..., 3] → [..., 3]."""
    (a, b, c), (d, e, f) = one.unbind(-1), other.unbind(-1)
    return torch.stack([b * f - c * e, c * d - a * f, a * e - b * d], dim=-1)
