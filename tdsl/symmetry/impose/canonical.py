"""Canonicalisation: every input is moved to one representative of its orbit, which the model sees.

    F(x) = ρ_out(g)⁻¹ · f(ρ_in(g)·x)   with g = g(x) equivariant

One pass through the model, where an average takes |G| (Kaba et al., 2023). It is exact where g(x) is defined:
where the best score is tied, rounding decides. No choice of g is continuous everywhere (Dym et al., 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tdsl.errors import TdslError
from tdsl.symmetry.impose.finite import OverFiniteGroup, apart, copies_of, moved_back
from tdsl.symmetry.impose.law import (
    LawReport,
    Margin,
    Tensors,
    drawn,
    examined,
    in_double,
    name_of,
    outputs_of,
)
from tdsl.symmetry.impose.moves import OneOrMany

CLOSE = 1e-5
"""Scores closer than this, relative to their spread, may change places by rounding in float32."""
FINE = 1e-7
"""Scores that differ by less, relative to the largest, may be one number in float32."""
SAME = 1e-12
"""Copies closer than this are one: the input itself is symmetric."""


class GenericScore(nn.Module):
    """A linear function of a sample with weights in general position: no move but the identity keeps it.

    `sizes` are those of a sample without its batch axis; [B, …] → [B].
    """

    weights: Tensor

    def __init__(self, sizes: Sequence[int], seed: int = 0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        weights = torch.randn(math.prod(sizes), generator=random, dtype=torch.float64)
        self.register_buffer("weights", (weights / weights.norm()).to(torch.get_default_dtype()))

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """The score of each sample, by the first input. Raises `TdslError` for samples of another size."""
        if x.shape[1:].numel() != len(self.weights):
            raise TdslError(
                f"samples of shape {list(x.shape[1:])} meet a score of {len(self.weights)} numbers",
                expected="the sizes of a sample without its batch axis",
            )
        return x.flatten(1) @ self.weights


class Canonicalise(OverFiniteGroup):
    """`f` on that copy of its inputs, of all copies under a finite group, whose score is the largest.

    `inputs` and `outputs` as for `GroupAverage`; axis 0 is the batch, and each sample is moved by an element
    of its own. `score` maps the inputs to a number for each sample, [B]; it must tell the copies of a sample
    apart (`GenericScore` does, by the first input). Raises `TdslError` where moves change the shape of an
    input.
    """

    score: Callable[..., Tensor]

    def __init__(
        self,
        f: Callable[..., object],
        inputs: OneOrMany,
        outputs: OneOrMany = None,
        *,
        score: Callable[..., Tensor],
    ) -> None:
        super().__init__(f, inputs, outputs)
        self.score = score

    def forward(self, x: Tensor, *others: Tensor) -> Tensor | Tensors:
        """As `f`."""
        given = (x, *others)
        copies = self._copies(given)
        best = self._scores(copies).argmax(0)
        rows = best * x.shape[0] + torch.arange(x.shape[0], device=best.device)
        chosen = [
            whole if images is None else many.flatten(0, 1).index_select(0, rows)
            for whole, many, images in zip(given, copies, self.images_in(len(given)), strict=True)
        ]
        results = outputs_of(self.f(*chosen))
        found = tuple(
            y if images is None else moved_back([y] * self.order, images).flatten(0, 1).index_select(0, rows)
            for y, images in zip(results, self.images_out(len(results)), strict=True)
        )
        return found[0] if len(found) == 1 else found

    def _copies(self, x: Tensors) -> list[Tensor]:
        """[order, B, …] of each input."""
        copies = []
        for one, images in zip(x, self.images_in(len(x)), strict=True):
            many = copies_of(one, images, self.order)
            if many is None:
                raise TdslError(
                    f"{self.group.name} changes the shape {list(one.shape)} of an input",
                    expected="moves that keep shapes (quarter turns of a square)",
                    hint="`GroupAverage` takes shapes that change",
                )
            copies.append(many)
        return copies

    def _scores(self, copies: Sequence[Tensor]) -> Tensor:
        """The score of each copy, [order, B]."""
        scores = self.score(*(many.flatten(0, 1) for many in copies))
        if not isinstance(scores, Tensor) or scores.shape != (self.order * copies[0].shape[1],):
            made = f"has shape {list(scores.shape)}" if isinstance(scores, Tensor) else f"is {scores!r}"
            raise TdslError(f"the score {made}", expected="one number for each sample, [B]")
        return apart(scores, self.order)

    def margin(self, *x: Tensor) -> Tensor:
        """How far the best score of each sample is ahead of the next, relative to their spread. [B].

        Where every output is invariant, copies that are equal to the best one are no rivals of it.
        """
        copies = self._copies(x)
        scores = self._scores(copies)
        best, ahead = scores.argmax(0), scores.max(0).values - scores
        rivals = torch.arange(self.order)[:, None] != best
        if not any(self.moved_out):
            flat = [many.reshape(*many.shape[:2], -1) for many in copies]
            samples = torch.arange(len(best))
            far = torch.stack([(many - many[best, samples]).abs().amax(2) for many in flat]).amax(0)
            size = torch.stack([many.abs().amax(2) for many in flat]).amax(0)
            rivals &= far > SAME * size
        resolved = FINE / CLOSE * scores.abs().amax(0)  # where all tie, their spread is rounding itself
        spread = torch.maximum(scores.std(0), resolved).clamp_min(1e-300)
        return ahead.masked_fill(~rivals, math.inf).amin(0) / spread

    def check(self, *inputs: Tensor, seed: int = 0) -> LawReport:
        """The law in float64, and the smallest margin, on `inputs` and random ones of their shapes.

        Control: the same with a constant score. Raises `TdslError` where the moves of the inputs do not keep
        the relations of the group.
        """
        whole = in_double(self)
        constant = Canonicalise(
            whole.f, self.moved_in, self.moved_out, score=lambda x, *_: x.new_zeros(len(x))
        )
        samples, changes = drawn(inputs, seed), self.changes()
        self.require_action(samples[-1])
        return examined(
            f"canonical copy under {self.group.name}",
            whole,
            whole.f,
            changes,
            samples,
            {"constant score": (constant, changes)},
            (smallest("tie between copies", [whole.margin(*x) for x in samples], CLOSE),),
        )


def smallest(what: str, margins: Sequence[Tensor], needed: float) -> Margin:
    """The smallest margin among those of several samples, each [B]."""
    least = [float(m.min()) if m.numel() else math.inf for m in margins]
    place = min(range(len(least)), key=lambda i: least[i])
    return Margin(what, least[place], needed, name_of(place))
