"""Decompositions of convolution kernels that are best for the data they meet, not for their entries.

The mean squared output error of a kernel that is off by D [T, S, *k] is that of its patches of S·k numbers.
Here the moment is one of the input channels alone, C [S, S]: Σ over positions p of tr(D_p·C·D_pᵀ), which is
the output error where values at different positions of a patch are uncorrelated. The whole moment of patches
needs no decomposition of its own: with it `whitened_svd` of the kernel as a matrix T × (S·k) is the
projection on the principal components of the outputs (Zhang et al., 2016).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tdsl.factor.conv import (
    INPUT_FORMS,
    channel_product,
    checked_kernel,
    input_product,
    input_svd,
    spatial_product,
    tucker2,
    tucker2_product,
)
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import truncate
from tdsl.factor.moment import DAMPING, checked_moment, root
from tdsl.factor.whitened import balanced


def whitened_channel(
    kernel: Tensor, moment: Tensor, rank: object, damping: float = DAMPING
) -> tuple[Tensor, Tensor]:
    """`channel_svd` of least error in the moment of the input channels (after Zhang et al., 2016).

    K [T, S, *k], C [S, S] → first [r, S, *k], second [T, r, *1]. Nothing is inverted: the optimum projects K
    on the leading left singular vectors of the weighted unfolding, and full rank is exact for any C. Raises
    `TdslError` as `channel_svd` does, and for a C that is no moment of S channels.
    """
    exact = checked_kernel(kernel, least_axes=1)
    outputs, inputs, *size = exact.shape
    basis = truncate(_seen(exact, moment, damping).reshape(outputs, -1), rank).left
    mixing, filters = balanced(basis, basis.T @ exact.reshape(outputs, -1))
    ones = [1] * len(size)
    return filters.reshape(-1, inputs, *size), mixing.reshape(*mixing.shape, *ones)


def whitened_input(kernel: Tensor, moment: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """`input_svd` of least error in the moment of the input channels.

    K [T, S, *k], C [S, S] → first [r, S, *1], second [T, r, *k], with the root of C (damped, `root`) on the
    input axis and its inverse in `first`. Raises `TdslError` as `input_svd` does, and for a C that is no
    moment of S channels.
    """
    exact = checked_kernel(kernel, least_axes=1)
    inputs = root(checked_moment(moment, exact.shape[1], of="input channels"))
    first, second = input_svd(torch.einsum("ts...,sz->tz...", exact, inputs), rank)
    return _undone(first, inputs), second


def whitened_spatial(
    kernel: Tensor, moment: Tensor, rank: object, damping: float = DAMPING
) -> tuple[Tensor, Tensor]:
    """`spatial_svd` of least error in the moment of the input channels (after Jaderberg et al., 2014).

    K [T, S, kh, kw], C [S, S] → vertical [r, S, kh, 1], horizontal [T, r, 1, kw]. The optimum projects on
    right singular vectors, so that nothing is inverted. Raises `TdslError` as `spatial_svd` does, and for a C
    that is no moment of S channels.
    """
    exact = checked_kernel(kernel, least_axes=2)
    outputs, inputs, along, *across = exact.shape
    rows, columns = inputs * along, outputs * math.prod(across)
    seen = _seen(exact, moment, damping).movedim(0, 2).reshape(rows, columns)
    basis = truncate(seen, rank).right
    left, right = balanced(exact.movedim(0, 2).reshape(rows, columns) @ basis.T, basis)
    terms = len(right)
    vertical = left.T.reshape(terms, inputs, along, *[1] * len(across))
    return vertical, right.reshape(terms, outputs, 1, *across).transpose(0, 1).contiguous()


def whitened_tucker2(
    kernel: Tensor, moment: Tensor, rank_out: object, rank_in: object = None
) -> tuple[Tensor, Tensor, Tensor]:
    """`tucker2` of least error in the moment of the input channels.

    K [T, S, *k], C [S, S] → first [q, S, *1], core [r, q, *k], last [T, r, *1]: the decomposition of K with
    the root of C (damped, `root`) on its input axis, and the root's inverse in `first`. Rank rules are those
    of `tucker2`. Raises `TdslError` as `tucker2` does, and for a C that is no moment of S channels.
    """
    exact = checked_kernel(kernel, least_axes=1)
    inputs = root(checked_moment(moment, exact.shape[1], of="input channels"))
    first, core, last = tucker2(torch.einsum("ts...,sz->tz...", exact, inputs), rank_out, rank_in)
    return _undone(first, inputs), core, last


def two_sided_tucker2(
    kernel: Tensor, moment: Tensor, gradients: Tensor, rank_out: object, rank_in: object = None
) -> tuple[Tensor, Tensor, Tensor]:
    """`tucker2` weighted on both channel axes: inputs and gradients at the outputs (Grosse & Martens, 2016).

    K [T, S, *k], C [S, S] of the inputs, G [T, T] of the gradients → the factors of `tucker2`; the error is
    Σ over positions of tr(G·D_p·C·D_pᵀ), the Kronecker-factored curvature where positions are uncorrelated.
    Raises `TdslError` as `whitened_tucker2` does, and for a G that is no moment of T channels.
    """
    exact = checked_kernel(kernel, least_axes=1)
    inputs = root(checked_moment(moment, exact.shape[1], of="input channels"))
    outputs = root(checked_moment(gradients, exact.shape[0], of="output channels"))
    seen = torch.einsum("ts...,tu,sz->uz...", exact, outputs, inputs)
    first, core, last = tucker2(seen, rank_out, rank_in)
    expanded: Tensor = torch.linalg.solve(outputs.T, last.flatten(1))
    return _undone(first, inputs), core, expanded.reshape(last.shape)


def channel_error(difference: Tensor, moment: Tensor) -> float:
    """Σ over positions p of tr(D_p·C·D_pᵀ). D [T, S, *k], C [S, S]."""
    return float((torch.einsum("ts...,sz->tz...", difference, moment) * difference).sum())


def two_sided_channel_error(difference: Tensor, moment: Tensor, gradients: Tensor) -> float:
    """Σ over positions p of tr(G·D_p·C·D_pᵀ). D [T, S, *k], C [S, S], G [T, T]."""
    seen = torch.einsum("ts...,sz->tz...", difference, moment)
    return float((seen * torch.einsum("ut,ts...->us...", gradients, difference)).sum())


def _seen(kernel: Tensor, moment: Tensor, damping: float) -> Tensor:
    """The kernel [T, S, *k] with a root of the moment on its input axis: its Frobenius norm is the error."""
    metric = checked_moment(moment, kernel.shape[1], of="input channels")
    return torch.einsum("ts...,sz->tz...", kernel, root(metric, damping))


def _undone(first: Tensor, inputs: Tensor) -> Tensor:
    """The reduction [q, S, *1] of a weighted kernel as that of the kernel: with the root's inverse."""
    reduced: Tensor = torch.linalg.solve(inputs.T, first.flatten(1).T)
    return reduced.T.reshape(first.shape)


_TUCKER2 = forms(
    "[T, S, k] -> [q, S, 1], [r, q, k], [T, r, 1]",
    "[T, S, kh, kw] -> [q, S, 1, 1], [r, q, kh, kw], [T, r, 1, 1]",
    "[T, S, kd, kh, kw] -> [q, S, 1, 1, 1], [r, q, kd, kh, kw], [T, r, 1, 1, 1]",
)
_INPUTS = ("[T, S, k] -> [S, S]", "[T, S, kh, kw] -> [S, S]", "[T, S, kd, kh, kw] -> [S, S]")

DECLARED = (
    Decomposition(
        name="whitened_channel",
        params=("K", "C", "rank", "damping?"),
        results=2,
        function=whitened_channel,
        promise_text="K[t, s, …] ≈ Σ_r second[t, r] · first[r, s, …]",
        promise=channel_product,
        forms=forms(
            "[T, S, k] -> [r, S, k], [T, r, 1]",
            "[T, S, kh, kw] -> [r, S, kh, kw], [T, r, 1, 1]",
            "[T, S, kd, kh, kw] -> [r, S, kd, kh, kw], [T, r, 1, 1, 1]",
        ),
        moments=forms(*_INPUTS),
        metric=channel_error,
        source="after Zhang, Zou, He & Sun, 2016",
        doc="`channel_svd` of least error in the moment C of the input channels.",
    ),
    Decomposition(
        name="whitened_input",
        params=("K", "C", "rank"),
        results=2,
        function=whitened_input,
        promise_text="K[t, s, …] ≈ Σ_r second[t, r, …] · first[r, s]",
        promise=input_product,
        forms=INPUT_FORMS,
        moments=forms(*_INPUTS),
        metric=channel_error,
        source="after Zhang, Zou, He & Sun, 2016, with inputs and outputs exchanged",
        doc="`input_svd` of least error in the moment C of the input channels.",
    ),
    Decomposition(
        name="whitened_spatial",
        params=("K", "C", "rank", "damping?"),
        results=2,
        function=whitened_spatial,
        promise_text="K[t, s, i, …] ≈ Σ_r horizontal[t, r, 0, …] · vertical[r, s, i, 0…]",
        promise=spatial_product,
        forms=forms(
            "[T, S, kh, kw] -> [r, S, kh, 1], [T, r, 1, kw]",
            "[T, S, kd, kh, kw] -> [r, S, kd, 1, 1], [T, r, 1, kh, kw]",
        ),
        moments=forms(*_INPUTS[1:]),
        metric=channel_error,
        source="after Jaderberg, Vedaldi & Zisserman, 2014",
        doc="`spatial_svd` of least error in the moment C of the input channels.",
    ),
    Decomposition(
        name="whitened_tucker2",
        params=("K", "C", "rank_out", "rank_in?"),
        results=3,
        function=whitened_tucker2,
        promise_text="K[t, s, …] ≈ Σ_r Σ_q last[t, r] · core[r, q, …] · first[q, s]",
        promise=tucker2_product,
        forms=_TUCKER2,
        moments=forms(*_INPUTS),
        metric=channel_error,
        source="Tucker, 1966, in the metric of the inputs",
        doc="`tucker2` of least error in the moment C of the input channels.",
    ),
    Decomposition(
        name="two_sided_tucker2",
        params=("K", "C", "G", "rank_out", "rank_in?"),
        results=3,
        function=two_sided_tucker2,
        promise_text="K[t, s, …] ≈ Σ_r Σ_q last[t, r] · core[r, q, …] · first[q, s]",
        promise=tucker2_product,
        forms=_TUCKER2,
        moments=forms(*(f"{text}, [T, T]" for text in _INPUTS)),
        metric=two_sided_channel_error,
        source="Tucker, 1966, in the metric of Grosse & Martens, 2016",
        doc="`tucker2` weighted by moments of the input channels (C) and of the output gradients (G).",
    ),
)
