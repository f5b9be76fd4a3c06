"""Relative representations: an input is described by its angles with a few others, in whatever basis.

Encoders that were trained from other seeds differ by a rotation of their outputs, mostly; what is read off
angles with encoded anchors does not see it (Moschella et al., 2023).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tdsl.errors import TdslError
from tdsl.symmetry.group import orthogonal
from tdsl.symmetry.impose.law import Change, LawReport, Tensors, drawn, examined, in_double

TINY = 1e-12
"""Added to lengths, so that a vector of zeros has an angle."""


class Relative(nn.Module):
    """The cosines of what `encoder` makes of an input with what it made of anchors. [B, …] → [B, anchors].

    `anchors` are inputs of the encoder, [A, …]; they are encoded once. With `centred=True` the mean of the
    encoded anchors is the origin, and a translation is not seen either. Raises `TdslError` for an encoder
    that does not take them, or whose outputs are no vectors [B, d].
    """

    encoder: Callable[[Tensor], Tensor]
    anchors: Tensor

    def __init__(
        self, encoder: Callable[[Tensor], Tensor], anchors: Tensor, *, centred: bool = False
    ) -> None:
        super().__init__()
        self.encoder, self.centred = encoder, centred
        try:
            with torch.no_grad():
                encoded = encoder(anchors)
        except RuntimeError as error:
            raise TdslError(
                f"the encoder does not take anchors of shape {list(anchors.shape)}: {error}",
                expected="a batch of its inputs",
            ) from None
        if encoded.ndim != 2 or not len(encoded):
            raise TdslError(
                f"the encoder makes {list(encoded.shape)} of the anchors", expected="vectors, [anchors, d]"
            )
        self.register_buffer("anchors", encoded)

    def forward(self, x: Tensor) -> Tensor:
        """The cosines."""
        return self.cosines(self.encoder(x), self.anchors)

    def cosines(self, z: Tensor, anchors: Tensor) -> Tensor:
        """Those of vectors and anchors that are encoded already. [B, d], [A, d] → [B, A]."""
        if self.centred:
            centre = anchors.mean(0)
            z, anchors = z - centre, anchors - centre
        return _unit(z) @ _unit(anchors).T

    def check(self, x: Tensor, seed: int = 0) -> LawReport:
        """The law in float64: encoded vectors rotated, scaled and, where centred, moved, anchors and all.

        Control: vectors are rotated, and anchors are not.
        """
        whole = in_double(self)
        with torch.no_grad():
            samples = [(whole.encoder(one), whole.anchors) for (one,) in drawn((x,), seed)]
        size = whole.anchors.shape[1]
        unit, still = torch.eye(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
        changes = [
            _change(f"rotation {i + 1}", turn, still)
            for i, turn in enumerate(orthogonal(size).sample(3, seed))
        ]
        changes.append(_change("scaling", 3 * unit, still))
        if self.centred:
            changes.append(_change("translation", unit, still + 1))
        behind = Change("rotation", lambda many: (changes[0].inputs(many)[0], many[1]), lambda many: many)
        return examined(
            f"cosines with {len(self.anchors)} anchors",
            whole.cosines,
            lambda z, _: z,
            changes,
            samples,
            {"anchors left behind": (whole.cosines, [behind])},
        )


def _change(name: str, turn: Tensor, step: Tensor) -> Change:
    def inputs(many: Tensors) -> Tensors:
        return tuple(one @ turn + step for one in many)

    return Change(name, inputs, lambda many: many)


def _unit(z: Tensor) -> Tensor:
    return z / (z.square().sum(1, keepdim=True).sqrt() + TINY)
