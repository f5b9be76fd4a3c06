"""Decompositions of a convolution kernel into a chain of smaller convolutions.

A kernel is K [T, S, *k]: T output channels, S input channels, any number of spatial axes. Every factor is
again a kernel, with size 1 along the axes that it does not cover, so that applying the chain in order, the
stride, padding and dilation of each axis given to the factor that covers it, is the convolution with the
kernel that `…_product` rebuilds. Everything is float64. The kernel belongs to an ungrouped convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked, svd
from tdsl.factor.tucker import HOOI_SWEEPS, Seen, truncated


def checked_kernel(kernel: Tensor, least_axes: int) -> Tensor:
    """The kernel in float64; `TdslError` unless it is finite, with that many spatial axes or more."""
    if kernel.ndim < 2 + least_axes:
        wanted = "[out, in, k]" if least_axes == 1 else "[out, in, kh, kw]"
        raise TdslError(
            f"a kernel of shape {list(kernel.shape)} has {max(0, kernel.ndim - 2)} spatial axes",
            expected=f"at least {least_axes}, {wanted}",
        )
    return checked(kernel)


# ---------------------------------------------------------------- two factors


def channel_svd(kernel: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """All spatial axes first, then a mixing of channels: the SVD of T × (S·k) (Zhang et al., 2016).

    [T, S, *k] → first [r, S, *k], second [T, r, *1]. Optimal among such pairs in the Frobenius norm.
    """
    exact = checked_kernel(kernel, least_axes=1)
    outputs, inputs, *size = exact.shape
    mixing, filters = svd(exact.reshape(outputs, inputs * math.prod(size)), rank)
    terms = len(filters)
    return filters.reshape(terms, inputs, *size), mixing.reshape(outputs, terms, *_ones(size))


def channel_product(first: Tensor, second: Tensor) -> Tensor:
    """The kernel of `second` (size 1) after `first`. [r, S, *k], [T, r, *1] → [T, S, *k]."""
    mixing = second.reshape(second.shape[:2])
    return torch.einsum("tr,rs...->ts...", mixing, first)


def input_svd(kernel: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """A mixing of channels first, then all spatial axes: the SVD of S × (T·k), `channel_svd` mirrored.

    [T, S, *k] → first [r, S, *1], second [T, r, *k]. Optimal among such pairs in the Frobenius norm.
    """
    second, first = channel_svd(checked_kernel(kernel, least_axes=1).transpose(0, 1), rank)
    return first.transpose(0, 1).contiguous(), second.transpose(0, 1).contiguous()


def input_product(first: Tensor, second: Tensor) -> Tensor:
    """The kernel of `second` after `first` (size 1). [r, S, *1], [T, r, *k] → [T, S, *k]."""
    return torch.einsum("rs,tr...->ts...", first.reshape(first.shape[:2]), second)


def spatial_svd(kernel: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """The first spatial axis, then the others: the SVD of (S·kh) × (T·kw) (Jaderberg et al., 2014).

    [T, S, kh, kw] → vertical [r, S, kh, 1], horizontal [T, r, 1, kw]; of a 3-D kernel the first factor
    covers depth (time), the second height and width. Optimal among such pairs in the Frobenius norm.
    Raises `TdslError` for a kernel with one spatial axis, which cannot be split.
    """
    exact = checked_kernel(kernel, least_axes=2)
    outputs, inputs, along, *across = exact.shape
    unfolded = exact.transpose(0, 1).transpose(1, 2)  # [S, kh, T, kw]
    left, right = svd(unfolded.reshape(inputs * along, outputs * math.prod(across)), rank)
    terms = len(right)
    vertical = left.T.reshape(terms, inputs, along, *_ones(across))
    horizontal = right.reshape(terms, outputs, 1, *across).transpose(0, 1)
    return vertical, horizontal.contiguous()


def spatial_product(vertical: Tensor, horizontal: Tensor) -> Tensor:
    """The kernel of `horizontal` after `vertical`. [r, S, kh, 1], [T, r, 1, kw] → [T, S, kh, kw]."""
    first = vertical.reshape(vertical.shape[:3])
    return torch.einsum("rsi,tr...->tsi...", first, horizontal.squeeze(2))


# ---------------------------------------------------------------- three factors


def tucker2(
    kernel: Tensor, rank_out: object, rank_in: object = None, sweeps: int = HOOI_SWEEPS
) -> tuple[Tensor, Tensor, Tensor]:
    """Channels reduced, convolved, expanded: Tucker decomposition in the two channel axes (Tucker, 1966).

    [T, S, *k] → first [q, S, *1], core [r, q, *k], last [T, r, *1] with r from `rank_out` and q from
    `rank_in`. The first and last factor are orthonormal, the core carries the scale. Starts from the
    higher-order SVD and alternates over the two axes until nothing is gained (De Lathauwer, De Moor &
    Vandewalle, 2000): never worse than √2 times the optimal error, and exact at full ranks. A rank beyond
    what the other axis can feed (r > q·k, q > r·k) is cut to that, which loses nothing.

    One rank rule alone speaks of the whole kernel: `energy(0.9)` keeps at least 90 % after both
    truncations, a number is that number twice, and a ratio is the share of the kernel's numbers that the
    three factors may hold, in the core shape that keeps most (`core_shape`). Two rules speak of an axis each.
    """
    exact = checked_kernel(kernel, least_axes=1)
    into, core, out = truncated(Seen(exact), rank_out, rank_in, sweeps)
    ones = _ones(exact.shape[2:])
    return into.T.reshape(*into.T.shape, *ones), core, out.reshape(*out.shape, *ones)


def tucker2_product(first: Tensor, core: Tensor, last: Tensor) -> Tensor:
    """The kernel of the chain. [q, S, *1], [r, q, *k], [T, r, *1] → [T, S, *k]."""
    return torch.einsum(
        "tr,rq...,qs->ts...", last.reshape(last.shape[:2]), core, first.reshape(first.shape[:2])
    )


# ---------------------------------------------------------------- parts


def _ones(size: Sequence[int]) -> list[int]:
    """Size 1 along each of those axes."""
    return [1] * len(size)


INPUT_FORMS = forms(
    "[T, S, k] -> [r, S, 1], [T, r, k]",
    "[T, S, kh, kw] -> [r, S, 1, 1], [T, r, kh, kw]",
    "[T, S, kd, kh, kw] -> [r, S, 1, 1, 1], [T, r, kd, kh, kw]",
)

DECLARED = (
    Decomposition(
        name="channel_svd",
        params=("K", "rank"),
        results=2,
        function=channel_svd,
        promise_text="K[t, s, …] ≈ Σ_r second[t, r] · first[r, s, …]",
        promise=channel_product,
        forms=forms(
            "[T, S, k] -> [r, S, k], [T, r, 1]",
            "[T, S, kh, kw] -> [r, S, kh, kw], [T, r, 1, 1]",
            "[T, S, kd, kh, kw] -> [r, S, kd, kh, kw], [T, r, 1, 1, 1]",
        ),
        source="Zhang, Zou, He & Sun, 2016",
        doc="A kernel as one with fewer outputs, then a 1×1 mixing of channels.",
    ),
    Decomposition(
        name="input_svd",
        params=("K", "rank"),
        results=2,
        function=input_svd,
        promise_text="K[t, s, …] ≈ Σ_r second[t, r, …] · first[r, s]",
        promise=input_product,
        forms=INPUT_FORMS,
        source="Zhang, Zou, He & Sun, 2016, with inputs and outputs exchanged",
        doc="A kernel as a 1×1 reduction of its input channels, then a kernel on fewer of them.",
    ),
    Decomposition(
        name="spatial_svd",
        params=("K", "rank"),
        results=2,
        function=spatial_svd,
        promise_text="K[t, s, i, …] ≈ Σ_r horizontal[t, r, 0, …] · vertical[r, s, i, 0…]",
        promise=spatial_product,
        forms=forms(
            "[T, S, kh, kw] -> [r, S, kh, 1], [T, r, 1, kw]",
            "[T, S, kd, kh, kw] -> [r, S, kd, 1, 1], [T, r, 1, kh, kw]",
        ),
        source="Jaderberg, Vedaldi & Zisserman, 2014",
        doc="A kernel as one along the first spatial axis, then one along the others.",
    ),
    Decomposition(
        name="tucker2",
        params=("K", "rank_out", "rank_in?"),
        results=3,
        function=tucker2,
        promise_text="K[t, s, …] ≈ Σ_r Σ_q last[t, r] · core[r, q, …] · first[q, s]",
        promise=tucker2_product,
        forms=forms(
            "[T, S, k] -> [q, S, 1], [r, q, k], [T, r, 1]",
            "[T, S, kh, kw] -> [q, S, 1, 1], [r, q, kh, kw], [T, r, 1, 1]",
            "[T, S, kd, kh, kw] -> [q, S, 1, 1, 1], [r, q, kd, kh, kw], [T, r, 1, 1, 1]",
        ),
        source="Tucker, 1966; De Lathauwer, De Moor & Vandewalle, 2000; of kernels Kim et al., 2016",
        doc="A kernel as a 1×1 reduction of channels, a small kernel, and a 1×1 expansion.",
    ),
)
