"""Which entries of a weight to keep, so that no direction loses much: pruning that keeps the spectrum.

Keeping the largest entries loses least squares, but these may be one large singular value: small entries of
one sign, the background of a whole block. The spectral norm of what goes bounds how far any singular value
moves (Weyl, 1912), and any output of a unit input. Everything is computed in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.matrix import checked

TURNS = 12
"""Most turns; they end where no step makes the spectral norm less."""
STEPS = (1.0, 0.5, 0.25, 0.125)
"""Shares of a step that are tried."""
GROWTH = 1.5
"""What a step that helped is multiplied by for the next turn."""
EMPHASIS = 3
"""The power to which squared singular values of what goes are taken: its largest ones are pulled at."""


def spectral_mask(weight: Tensor, kept: float) -> Tensor:
    """The share `kept` of the entries whose removal of all others has a small spectral norm.

    [m, n] → bool [m, n]. It begins with the largest entries, and by turns adds to each entry what the leading
    singular directions of the part that goes have there (the gradient of a Schatten norm, summed over the
    turns), so that entries along those come back for others. The norm is never more than that of the largest
    entries. Raises `TdslError` for a weight that is no finite matrix, or a share that is none.
    """
    exact = checked(weight, ndim=2)
    if not 0 <= kept <= 1:
        raise TdslError(f"a share of {kept:g} of the entries", expected="a share from 0 to 1")
    count = round(kept * exact.numel())
    best = _largest(exact.square(), count)
    pulled, step = torch.zeros_like(exact), 1.0
    norm, towards = _leading(exact, best)
    for _ in range(TURNS if 0 < count < exact.numel() else 0):
        for share in STEPS:
            tried = pulled + share * step * towards
            mask = _largest(exact * (exact + tried), count)
            reached, onwards = _leading(exact, mask)
            if reached < norm:
                best, norm, towards, pulled = mask, reached, onwards, tried
                step *= share * GROWTH
                break
        else:
            break
    return best


def _largest(scores: Tensor, count: int) -> Tensor:
    """True at the `count` largest; the first ones of equals."""
    order = scores.flatten().argsort(descending=True, stable=True)[:count]
    found = torch.zeros(scores.numel(), dtype=torch.bool).index_fill(0, order, True)
    return found.reshape(scores.shape)


def _leading(weight: Tensor, kept: Tensor) -> tuple[float, Tensor]:
    """The spectral norm of what is not kept, and its leading singular directions, times their values."""
    gone = weight.masked_fill(kept, 0.0)
    wide = gone if len(gone) <= gone.shape[1] else gone.T
    values, vectors = torch.linalg.eigh(wide @ wide.T)
    largest = float(values[-1]) if len(values) else 0.0
    if largest <= 0:
        return 0.0, gone
    leading = (vectors * (values.clamp_min(0) / largest) ** EMPHASIS) @ (vectors.T @ wide)
    return largest**0.5, leading if wide is gone else leading.T
