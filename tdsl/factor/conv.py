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
from tdsl.factor.core_shape import core_shape
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked, decompose, svd, triplets
from tdsl.factor.rank import Fixed, RankRule, Ratio, Tiled, as_rank_rule

HOOI_SWEEPS = 3
"""Most sweeps of the alternating refinement of `tucker2`."""
HOOI_GAIN = 1e-5
"""The refinement stops when a sweep gains less than this share of the kernel's energy."""

WIDE = 2
"""Columns, in rows, from which on a Gram matrix takes the place of a singular value decomposition there."""


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
    rule_out, rule_in = core_rules(exact, rank_out, rank_in)
    basis_out = _basis(exact, 0, rule_out)
    basis_in = _basis(exact, 1, rule_in)
    basis_out, basis_in = _refined(exact, basis_out, basis_in, sweeps)
    core = torch.einsum("ts...,tr,sq->rq...", exact, basis_out, basis_in)
    ones = _ones(exact.shape[2:])
    return (
        basis_in.T.reshape(*basis_in.T.shape, *ones),
        core,
        basis_out.reshape(*basis_out.shape, *ones),
    )


def tucker2_product(first: Tensor, core: Tensor, last: Tensor) -> Tensor:
    """The kernel of the chain. [q, S, *1], [r, q, *k], [T, r, *1] → [T, S, *k]."""
    return torch.einsum(
        "tr,rq...,qs->ts...", last.reshape(last.shape[:2]), core, first.reshape(first.shape[:2])
    )


def tucker2_limits(shape: Sequence[int]) -> tuple[int, int]:
    """The break-even ranks (out, in) of a kernel [T, S, *k].

    With both channel counts cut to the same fraction, three factors hold S²·g + T·S·k·g² + T²·g numbers;
    these are the ranks at the fraction where that reaches T·S·k. A fraction f of them holds at most f of
    the kernel's numbers.
    """
    outputs, inputs, *size = shape
    dense = outputs * inputs * math.prod(size)
    if not dense:
        return 0, 0
    squares = outputs**2 + inputs**2
    fraction = (math.sqrt(squares**2 + 4 * dense**2) - squares) / (2 * dense)
    return math.floor(fraction * outputs), math.floor(fraction * inputs)


def core_rules(kernel: Tensor, rank_out: object, rank_in: object = None) -> tuple[RankRule, RankRule]:
    """The rank rules of both channel axes of a float64 kernel [T, S, *k], one rule alone being shared out."""
    rule = as_rank_rule(rank_out)
    if rank_in is not None:
        return rule, as_rank_rule(rank_in)
    ratio = rule.rule if isinstance(rule, Tiled) else rule
    if not isinstance(ratio, Ratio) or not kernel.numel():
        return rule.share(2), rule.share(2)
    outputs, inputs, *size = kernel.shape
    spectra = [decompose(_unfold(kernel, axis)).values for axis in (0, 1)]
    # At most that share of the numbers; the nudge undoes the rounding of a product such as 0.29 · 100.
    budget = math.floor(ratio.fraction * kernel.numel() * (1 + 1e-15))
    out, into = (Fixed(r) for r in core_shape(spectra, (outputs, inputs), budget, math.prod(size)))
    return (Tiled(out, rule.multiple), Tiled(into, rule.multiple)) if isinstance(rule, Tiled) else (out, into)


# ---------------------------------------------------------------- parts


def _ones(size: Sequence[int]) -> list[int]:
    """Size 1 along each of those axes."""
    return [1] * len(size)


def _unfold(kernel: Tensor, axis: int) -> Tensor:
    """The matrix whose rows run along `axis`. […] → [size of axis, the rest]."""
    return kernel.movedim(axis, 0).reshape(kernel.shape[axis], kernel.numel() // max(1, kernel.shape[axis]))


def _basis(kernel: Tensor, axis: int, rule: RankRule) -> Tensor:
    """Leading left singular vectors of an unfolding, as many as `rule` says. → [size of axis, rank]."""
    unfolded = _unfold(kernel, axis)
    found = decompose(unfolded)
    aspect = min(unfolded.shape) / max(1, *unfolded.shape) or 1.0
    rank = rule.select(found.values, tucker2_limits(kernel.shape)[axis], aspect=aspect)
    return found.left[:, :rank]


def _leading(kernel: Tensor, axis: int, rank: int) -> Tensor:
    """At most `rank` leading left singular vectors of an unfolding. → [size of axis, rank or fewer].

    Of a wide one they are the eigenvectors of its Gram matrix: directions that hold less than rounding of the
    energy come out mixed, which is all the same to the refinement that asks for them.
    """
    unfolded = _unfold(kernel, axis)
    if unfolded.shape[1] < WIDE * unfolded.shape[0]:
        return triplets(unfolded).left[:, :rank]
    vectors: Tensor = torch.linalg.eigh(unfolded @ unfolded.T).eigenvectors
    return vectors[:, -rank:].flip(1)


def _refined(kernel: Tensor, out: Tensor, into: Tensor, sweeps: int) -> tuple[Tensor, Tensor]:
    """Both bases after higher-order orthogonal iteration; the energy that they keep never falls."""
    total = float(kernel.square().sum())
    full = out.shape[0] == out.shape[1] and into.shape[0] == into.shape[1]
    kept = 0.0
    for _ in range(0 if full or not total else sweeps):
        out = _leading(torch.einsum("ts...,sq->tq...", kernel, into), 0, out.shape[1])
        into = _leading(torch.einsum("ts...,tr->rs...", kernel, out), 1, into.shape[1])
        now = float(torch.einsum("ts...,tr,sq->rq...", kernel, out, into).square().sum())
        if now - kept <= HOOI_GAIN * total:
            break
        kept = now
    return out, into


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
