"""Sets of points in a canonical order: what S(n) does to them disappears before the model sees them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from tdsl.errors import TdslError
from tdsl.symmetry.element import Element
from tdsl.symmetry.group import symmetric
from tdsl.symmetry.impose.canonical import CLOSE, GenericScore, smallest
from tdsl.symmetry.impose.law import (
    Change,
    LawReport,
    Tensors,
    drawn,
    examined,
    in_double,
    outputs_of,
)

SAME = 1e-12
"""Points closer than this are one point, and their order is nobody's business."""


class PointKey(nn.Module):
    """A linear function of each point with weights in general position. [B, N, d] → [B, N]."""

    def __init__(self, size: int, seed: int = 0) -> None:
        super().__init__()
        self.score = GenericScore((size,), seed)

    def forward(self, x: Tensor) -> Tensor:
        """The key of each point. Raises `TdslError` for points of another size."""
        if x.shape[-1] != len(self.score.weights):
            raise TdslError(
                f"points of {x.shape[-1]} coordinates meet a key of {len(self.score.weights)} numbers",
                expected="the number of coordinates of a point",
            )
        return x @ self.score.weights


class SortPoints(nn.Module):
    """`f` on the points of a set [B, N, d], its first input, in the order of a key.

    `key` maps [B, N, d] to one number for each point, [B, N], and must not look at the order. Further inputs
    are still. With `output="points"` axis 1 of each output is taken back to the order the points came in.
    """

    f: Callable[..., object]
    key: Callable[[Tensor], Tensor]

    def __init__(
        self,
        f: Callable[..., object],
        key: Callable[[Tensor], Tensor],
        output: Literal["invariant", "points"] = "invariant",
    ) -> None:
        super().__init__()
        if output not in ("invariant", "points"):
            raise TdslError(f"there is no output `{output}`", expected="invariant, points")
        self.f, self.key = f, key
        self.output: Literal["invariant", "points"] = output

    def forward(self, x: Tensor, *others: Tensor) -> Tensor | Tensors:
        """As `f`."""
        if x.ndim < 2:
            raise TdslError(
                f"an input of shape {list(x.shape)} is no batch of sets", expected="[batch, points, …]"
            )
        order = self._keys(x).argsort(dim=1)
        results = outputs_of(self.f(_in_order(x, order), *others))
        if self.output == "points":
            for y in results:
                if y.ndim < 2 or y.shape[1] != x.shape[1]:
                    raise TdslError(
                        f"an output of shape {list(y.shape)} holds nothing for each of {x.shape[1]} points",
                        expected="[batch, points, …]",
                        hint='or `output="invariant"`',
                    )
            results = tuple(_in_order(y, order.argsort(dim=1)) for y in results)
        return results[0] if len(results) == 1 else results

    def _keys(self, x: Tensor) -> Tensor:
        keys = self.key(x)
        if keys.shape != x.shape[:2]:
            raise TdslError(
                f"the key has shape {list(keys.shape)}", expected=f"one for each point, {list(x.shape[:2])}"
            )
        return keys

    def margin(self, x: Tensor) -> Tensor:
        """The least distance of the keys of two different points, relative to the spread of the keys. [B].

        Points are different from all others for outputs that belong to points: these tell equal ones apart.
        """
        keys, order = self._keys(x).sort(dim=1)
        steps = keys[:, 1:] - keys[:, :-1]
        if self.output == "invariant" and steps.numel():
            ordered = _in_order(x, order)
            far = (ordered[:, 1:] - ordered[:, :-1]).flatten(2).abs().amax(2)
            steps = steps.masked_fill(far <= SAME * x.abs().amax(), math.inf)
        if not steps.numel():
            return x.new_full((len(x),), math.inf)
        return steps.amin(1) / keys.std(dim=1).clamp_min(1e-300)

    def check(self, x: Tensor, *others: Tensor, seed: int = 0) -> LawReport:
        """The law under the generators of S(N) in float64, and the smallest distance of two keys.

        Control: the same with a constant key.
        """
        whole = in_double(self)
        constant = SortPoints(whole.f, lambda x: x.new_zeros(x.shape[:2]), self.output)
        group = symmetric(x.shape[1])

        def moving(places: Element) -> Callable[[Tensors], Tensors]:
            return lambda many: (places.apply(many[0], 1), *many[1:])

        def along(places: Element) -> Callable[[Tensors], Tensors]:
            return lambda many: tuple(places.apply(y, 1) for y in many)

        changes = [
            Change(name, moving(one), along(one) if self.output == "points" else tuple)
            for name, one in zip(group.names, group.generators, strict=True)
        ]
        samples = drawn((x, *others), seed)
        return examined(
            f"sorted under {group.name}",
            whole,
            whole.f,
            changes,
            samples,
            {"constant key": (constant, changes)},
            (
                smallest(
                    "tie between points", [whole.margin(many[0]) for many in samples], CLOSE / x.shape[1]
                ),
            ),
        )


def _in_order(x: Tensor, order: Tensor) -> Tensor:
    """[B, N, …] along axis 1 by [B, N]."""
    places = order.reshape(*order.shape, *(1,) * (x.ndim - 2)).expand(x.shape)
    return x.gather(1, places)
