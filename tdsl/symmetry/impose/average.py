"""A model averaged over a finite group: it keeps the law exactly, whatever the model is.

    F(x) = |G|⁻¹ · Σ ρ_out(g)⁻¹ · f(ρ_in(g)·x)

The Reynolds operator, of functions; of trained networks Basu et al., 2023 (Equi-tuning).
"""

from __future__ import annotations

from collections.abc import Callable

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

    Raises `TdslError` for a group that is infinite or has more than 1024 elements.
    """

    def __init__(
        self,
        f: Callable[..., object],
        inputs: OneOrMany,
        outputs: OneOrMany = None,
        *,
        batch: int | None = 0,
    ) -> None:
        super().__init__(f, inputs, outputs)
        if batch not in (0, None):
            raise TdslError(f"a batch on axis {batch}", expected="axis 0, or `None` for no batch axis")
        self.batch = batch
        self._over = self.order
        """How many elements are averaged over: all of them, but in the control of a check."""

    def forward(self, x: Tensor, *others: Tensor) -> Tensor | Tensors:
        """As `f`."""
        given = (x, *others)
        results = self._batched(given) if self.batch == 0 else None
        if results is None:
            results = self._called(given)
        acts = self.images_out(len(results[0]))
        means = tuple(
            moved_back([result[i] for result in results[: self._over]], images and images[: self._over]).mean(
                0
            )
            for i, images in enumerate(acts)
        )
        return means[0] if len(means) == 1 else means

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
