"""A model averaged over a finite group: it keeps the law exactly, whatever the model is.

    F(x) = |G|⁻¹ · Σ ρ_out(g)⁻¹ · f(ρ_in(g)·x)

The Reynolds operator, of functions; of trained networks Basu et al., 2023 (Equi-tuning). Some copies may
count more than others, by a function of each copy that needs no law (λ-equitune, Basu et al.).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.symmetry.impose.finite import OverFiniteGroup, apart, copies_of, moved_back
from tdsl.symmetry.impose.law import LawReport, Tensors, drawn, examined, in_double, outputs_of
from tdsl.symmetry.impose.moves import OneOrMany


class GroupAverage(OverFiniteGroup):
    """The average of `f` over a finite group that moves its inputs and outputs.

    `inputs` and `outputs` are `Moves`, one for each tensor in order (`None`: nothing moves it; outputs that
    nothing moves become invariant). Along the batch axis 0 all copies go through `f` in one call, where
    moving keeps the shapes; with `batch=None`, or where shapes change, `f` is called for each element.

    `weights`, a function of the inputs that gives a number for each sample, [B], says how much each copy
    counts: its exponential, of the sum of all (a small net that tells upright copies, for example). A copy of
    an input has the same copies, so that the law holds whatever the function is.

    Raises `TdslError` for a group that is infinite or has more than 1024 elements, and for weights without a
    batch.
    """

    weights: Callable[..., Tensor] | None

    def __init__(
        self,
        f: Callable[..., object],
        inputs: OneOrMany,
        outputs: OneOrMany = None,
        *,
        batch: int | None = 0,
        weights: Callable[..., Tensor] | None = None,
    ) -> None:
        super().__init__(f, inputs, outputs)
        if batch not in (0, None):
            raise TdslError(f"a batch on axis {batch}", expected="axis 0, or `None` for no batch axis")
        if weights is not None and batch is None:
            raise TdslError("weights for samples that have no batch axis", expected="`batch=0`")
        self.batch, self.weights = batch, weights
        self._over = self.order
        """How many elements are averaged over: all of them, but in the control of a check."""

    def forward(self, x: Tensor, *others: Tensor) -> Tensor | Tensors:
        """As `f`."""
        given = (x, *others)
        results = self._batched(given) if self.batch == 0 else None
        if results is None:
            results = self._called(given)
        acts = self.images_out(len(results[0]))
        back = [
            moved_back([result[i] for result in results[: self._over]], images and images[: self._over])
            for i, images in enumerate(acts)
        ]
        if self.weights is None:
            means = tuple(one.mean(0) for one in back)
        else:
            shares = self._shares(given)
            means = tuple((_factor(shares, one) * one).sum(0) for one in back)
        return means[0] if len(means) == 1 else means

    def _shares(self, x: Tensors) -> Tensor:
        """How much each copy of each sample counts, [order, B]."""
        assert self.weights is not None
        acts = self.images_in(len(x))
        found = []
        for i in range(self._over):
            moved = (one if a is None else a[i].apply(one) for one, a in zip(x, acts, strict=True))
            score = self.weights(*moved)
            if not isinstance(score, Tensor) or score.shape != x[0].shape[:1]:
                made = f"shape {list(score.shape)}" if isinstance(score, Tensor) else repr(score)
                raise TdslError(f"the weights are {made}", expected="one number for each sample, [B]")
            found.append(score)
        return torch.stack(found).softmax(0)

    def _batched(self, x: Tensors) -> list[Tensors] | None:
        """What `f` makes of the copies, in one call; `None` where they have several shapes."""
        acts = self.images_in(len(x))
        copies = [copies_of(one, images, self.order) for one, images in zip(x, acts, strict=True)]
        whole = [one.flatten(0, 1) for one in copies if one is not None]
        if len(whole) != len(x):
            return None
        parts = [apart(one, self.order).unbind(0) for one in outputs_of(self.f(*whole))]
        return list(zip(*parts, strict=True))

    def _called(self, x: Tensors) -> list[Tensors]:
        """What `f` makes of each copy, one call after the other."""
        acts = self.images_in(len(x))
        return [
            outputs_of(
                self.f(*(one if a is None else a[i].apply(one) for one, a in zip(x, acts, strict=True)))
            )
            for i in range(self.order)
        ]

    def check(self, *inputs: Tensor, seed: int = 0) -> LawReport:
        """The law in float64, on `inputs` (a batch, as the model takes it) and random ones of their shapes.

        Control: the average with the last element left out. Raises `TdslError` where the moves of the inputs
        do not keep the relations of the group, so that there is no law to keep.
        """
        whole, short = in_double(self), in_double(self)
        short._over = max(1, self.order - 1)
        samples, changes = drawn(inputs, seed), self.changes()
        self.require_action(samples[-1])
        return examined(
            f"average over {self.group.name}",
            whole,
            whole.f,
            changes,
            samples,
            {"one element left out": (short, changes)} if self.order > 1 else {},
        )


def _factor(shares: Tensor, like: Tensor) -> Tensor:
    """[order, B] as a factor of [order, B, …]."""
    return shares.reshape(*shares.shape, *(1,) * (like.ndim - 2))
