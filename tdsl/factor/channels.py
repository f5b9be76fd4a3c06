"""Fewer channels between two convolutions, what the others did expressed by those that stay.

As `interpolative` of the hidden units of dense layers: nothing is added to the network, both convolutions
become smaller. A channel goes with all positions of the window through which the second kernel reads it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tdsl.factor.conv import checked_kernel
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.interpolative import interpolative, interpolative_weighted
from tdsl.factor.moment import input_error, two_sided_error


def interpolative_channels(kernel: Tensor, moment: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """The input channels to keep and the kernel that makes up for the others (after He et al., 2017).

    K [T, S, *k], C [S·k, S·k] the second moment of windows → R [T, r, *k], P [r, S] that selects r channels,
    K ≈ Σ_r R[t, r, …]·P[r, s]; both are chosen as by `interpolative`, whose `TdslError`s are raised.
    """
    exact = checked_kernel(kernel, least_axes=1)
    return _whole(exact, *interpolative(exact.flatten(1), moment, rank, _volume(exact)))


def interpolative_channels_weighted(
    kernel: Tensor, moment: Tensor, gradients: Tensor, rank: object
) -> tuple[Tensor, Tensor]:
    """As `interpolative_channels`, with outputs weighted by the second moment G [T, T] of their gradients."""
    exact = checked_kernel(kernel, least_axes=1)
    found = interpolative_weighted(exact.flatten(1), moment, gradients, rank, _volume(exact))
    return _whole(exact, *found)


def channels_product(reading: Tensor, selection: Tensor) -> Tensor:
    """Σ_r R[t, r, …]·P[r, s]. [T, r, *k], [r, S] → [T, S, *k]."""
    return torch.einsum("tr...,rs->ts...", reading, selection)


def _volume(kernel: Tensor) -> int:
    return math.prod(kernel.shape[2:])


def _whole(kernel: Tensor, reading: Tensor, selection: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks of numbers as channels: P repeats the selection of a channel at every position."""
    size = _volume(kernel)
    kept = len(selection) // max(1, size)
    channels = selection.reshape(kept, size, kernel.shape[1], size)[:, 0, :, 0].contiguous()
    return reading.reshape(len(kernel), kept, *kernel.shape[2:]), channels


_FORMS = forms("[T, S, kh, kw] -> [T, r, kh, kw], [r, S]")


def _flat_error(difference: Tensor, moment: Tensor) -> float:
    return input_error(difference.flatten(1), moment)


def _flat_two_sided_error(difference: Tensor, moment: Tensor, gradients: Tensor) -> float:
    return two_sided_error(difference.flatten(1), moment, gradients)


DECLARED = (
    Decomposition(
        name="interpolative_channels",
        params=("K", "C", "rank"),
        results=2,
        function=interpolative_channels,
        promise_text="K[t, s, …] ≈ Σ_r R[t, r, …] · P[r, s]",
        promise=channels_product,
        roles=("dense", "selection"),
        forms=_FORMS,
        moments=forms("[T, S, kh, kw] -> [patch, patch]"),
        metric=_flat_error,
        source="He, Zhang & Sun, 2017; the elimination Hassibi & Stork, 1993",
        doc="Selects input channels, and the kernel that makes up for the others.",
    ),
    Decomposition(
        name="interpolative_channels_weighted",
        params=("K", "C", "G", "rank"),
        results=2,
        function=interpolative_channels_weighted,
        promise_text="K[t, s, …] ≈ Σ_r R[t, r, …] · P[r, s]",
        promise=channels_product,
        roles=("dense", "selection"),
        forms=_FORMS,
        moments=forms("[T, S, kh, kw] -> [patch, patch], [T, T]"),
        metric=_flat_two_sided_error,
        source="He, Zhang & Sun, 2017; the elimination Hassibi & Stork, 1993",
        doc="As `interpolative_channels`, with outputs weighted by the moment of their gradients G.",
    ),
)
