"""Decompositions of convolution kernels that are best for the data they meet, not for their entries.

The mean squared output error of a kernel that is off by D [T, S, *k] is that of its patches of S·k numbers.
Here the moment is one of the input channels alone, C [S, S]: Σ over positions p of tr(D_p·C·D_pᵀ), which is
the output error where values at different positions of a patch are uncorrelated. The whole moment of patches
needs no decomposition of its own: with it `whitened_svd` of the kernel as a matrix T × (S·k) is the
projection on the principal components of the outputs (Zhang et al., 2016).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tdsl.factor.conv import (
    INPUT_FORMS,
    channel_product,
    checked_kernel,
    input_product,
    input_svd,
    spatial_product,
    tucker2_product,
)
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import by_gram, principal, principal_rows, select_rank
from tdsl.factor.memo import memoised
from tdsl.factor.moment import DAMPING, root_of
from tdsl.factor.rank import as_rank_rule
from tdsl.factor.tucker import Seen, channel_axes, is_tall, pieces, reduced, truncated, weighted
from tdsl.factor.whitened import Terms, balanced


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
    rule, shape = as_rank_rule(rank), (outputs, inputs * math.prod(size))
    found = _mixings(kernel, moment, by_gram(rule, shape), damping)
    kept = select_rank(rule, found.values, shape)
    mixing, filters = balanced(found.left[:, :kept], found.right[:kept])
    ones = [1] * len(size)
    return filters.reshape(-1, inputs, *size), mixing.reshape(*mixing.shape, *ones)


@memoised
def _mixings(kernel: Tensor, moment: Tensor, gram: bool, damping: float) -> Terms:
    """Every term of `whitened_channel`, remembered: each rank is a prefix. [T, k], [k, S·k]."""
    exact = checked_kernel(kernel, least_axes=1)
    basis, values = principal(_seen(exact, moment, damping).reshape(len(exact), -1), by_gram=gram)
    return Terms(basis, basis.T @ exact.reshape(len(exact), -1), values)


def whitened_input(kernel: Tensor, moment: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """`input_svd` of least error in the moment of the input channels.

    K [T, S, *k], C [S, S] → first [r, S, *1], second [T, r, *k], with the root of C (damped, `root`) on the
    input axis and its inverse in `first`. Raises `TdslError` as `input_svd` does, and for a C that is no
    moment of S channels.
    """
    exact = checked_kernel(kernel, least_axes=1)
    outputs, channels, *size = exact.shape
    inputs = root_of(moment, channels, "input channels")
    rule, shape = as_rank_rule(rank), (channels, outputs * math.prod(size))
    if not by_gram(rule, shape) or is_tall(exact):
        first, second = input_svd(torch.einsum("ts...,sz->tz...", exact, inputs), rank)
        return _undone(first, inputs), second
    axes = channel_axes(exact, inputs, None, True)
    basis = axes.into[:, : select_rank(rule, axes.into_values, shape)]
    second = reduced(Seen(exact, inputs), None, basis).movedim(0, 2).reshape(outputs, -1, *size)
    first = _undone(basis.T.reshape(*basis.T.shape, *[1] * len(size)), inputs)
    return evened(first, second)


def evened(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The same two kernels, channel c between them as large where it is made as where it is read.

    [r, S, …], [T, r, …] → the same shapes.
    """
    scale = (first.flatten(1).norm(dim=1) / second.transpose(0, 1).flatten(1).norm(dim=1)).sqrt()
    scale = scale.where(scale.isfinite() & (scale > 0), 1.0)
    return (first.movedim(0, -1) / scale).movedim(-1, 0), (second.movedim(1, -1) * scale).movedim(-1, 1)


def whitened_spatial(
    kernel: Tensor, moment: Tensor, rank: object, damping: float = DAMPING
) -> tuple[Tensor, Tensor]:
    """`spatial_svd` of least error in the moment of the input channels (after Jaderberg et al., 2014).

    K [T, S, kh, kw], C [S, S] → vertical [r, S, kh, 1], horizontal [T, r, 1, kw]. The optimum projects on
    right singular vectors, so that nothing is inverted. Raises `TdslError` as `spatial_svd` does, and for a C
    that is no moment of S channels.
    """
    return _spatial(kernel, moment, None, rank, damping)


def two_sided_spatial(
    kernel: Tensor, moment: Tensor, gradients: Tensor, rank: object, damping: float = DAMPING
) -> tuple[Tensor, Tensor]:
    """`spatial_svd` weighted on both channel axes, as `two_sided_tucker2` is (Grosse & Martens, 2016).

    K [T, S, kh, kw], C [S, S] of the inputs, G [T, T] of the gradients → vertical [r, S, kh, 1], horizontal
    [T, r, 1, kw], with the inverse of the root of G (damped, `root`) in `horizontal`; C is not inverted.
    Raises `TdslError` as `whitened_spatial` does, and for a G that is no moment of T channels.
    """
    return _spatial(kernel, moment, gradients, rank, damping)


def _spatial(
    kernel: Tensor, moment: Tensor, gradients: Tensor | None, rank: object, damping: float
) -> tuple[Tensor, Tensor]:
    return spatial_factors(
        checked_kernel(kernel, least_axes=2),
        rank,
        lambda gram: _separated(kernel, moment, gradients, gram, damping),
    )


def spatial_factors(kernel: Tensor, rank: object, terms: Callable[[bool], Terms]) -> tuple[Tensor, Tensor]:
    """As many terms of a separable kernel as `rank` says, as kernels of two convolutions.

    K [T, S, kh, *k] → vertical [r, S, kh, *1], horizontal [T, r, 1, *k]. `terms` gives [S·kh, k], [k, T·∏k],
    from a Gram matrix if it is told so.
    """
    outputs, inputs, along, *across = kernel.shape
    rule, shape = as_rank_rule(rank), (inputs * along, outputs * math.prod(across))
    found = terms(by_gram(rule, shape[::-1]))
    kept = select_rank(rule, found.values, shape)
    left, right = balanced(found.left[:, :kept], found.right[:kept])
    vertical = left.T.reshape(kept, inputs, along, *[1] * len(across))
    return vertical, right.reshape(kept, outputs, 1, *across).transpose(0, 1).contiguous()


@memoised
def _separated(kernel: Tensor, moment: Tensor, gradients: Tensor | None, gram: bool, damping: float) -> Terms:
    """Every term of `_spatial`, remembered: each rank is a prefix. [S·kh, k], [k, T·kw]."""
    exact = checked_kernel(kernel, least_axes=2)
    outputs, inputs, along, *across = exact.shape
    rows, columns = inputs * along, outputs * math.prod(across)
    mixing = None if gradients is None else root_of(gradients, outputs, "output channels", damping)
    if mixing is not None:
        exact = torch.einsum("ts...,tu->us...", exact, mixing)
    seen = _seen(exact, moment, damping).movedim(0, 2).reshape(rows, columns)
    right, values = principal_rows(seen, by_gram=gram)
    left = exact.movedim(0, 2).reshape(rows, columns) @ right.T
    if mixing is not None:
        apart = right.reshape(len(right), outputs, columns // outputs)
        right = torch.linalg.solve(mixing.T, apart).reshape(right.shape)
    return Terms(left, right, values)


def whitened_tucker2(
    kernel: Tensor, moment: Tensor, rank_out: object, rank_in: object = None
) -> tuple[Tensor, Tensor, Tensor]:
    """`tucker2` of least error in the moment of the input channels.

    K [T, S, *k], C [S, S] → first [q, S, *1], core [r, q, *k], last [T, r, *1]: the decomposition of K with
    the root of C (damped, `root`) on its input axis, and the root's inverse in `first`. Rank rules are those
    of `tucker2`. Raises `TdslError` as `tucker2` does, and for a C that is no moment of S channels.
    """
    exact = checked_kernel(kernel, least_axes=1)
    inputs = root_of(moment, exact.shape[1], "input channels")
    return tucker_chain(Seen(exact, inputs), rank_out, rank_in)


def two_sided_tucker2(
    kernel: Tensor, moment: Tensor, gradients: Tensor, rank_out: object, rank_in: object = None
) -> tuple[Tensor, Tensor, Tensor]:
    """`tucker2` weighted on both channel axes: inputs and gradients at the outputs (Grosse & Martens, 2016).

    K [T, S, *k], C [S, S] of the inputs, G [T, T] of the gradients → the factors of `tucker2`; the error is
    Σ over positions of tr(G·D_p·C·D_pᵀ), the Kronecker-factored curvature where positions are uncorrelated.
    Raises `TdslError` as `whitened_tucker2` does, and for a G that is no moment of T channels.
    """
    exact = checked_kernel(kernel, least_axes=1)
    inputs = root_of(moment, exact.shape[1], "input channels")
    outputs = root_of(gradients, exact.shape[0], "output channels")
    return tucker_chain(Seen(exact, inputs, outputs), rank_out, rank_in)


def tucker_chain(seen: Seen, rank_out: object, rank_in: object) -> tuple[Tensor, Tensor, Tensor]:
    """The factors of a kernel from those of the weighted one: with the inverses of both roots, `evened`."""
    into, core, out = truncated(seen, rank_out, rank_in)
    ones = [1] * (seen.kernel.dim() - 2)
    assert seen.inputs is not None
    first = _undone(into.T.reshape(*into.T.shape, *ones), seen.inputs)
    if seen.outputs is not None:
        out = torch.linalg.solve(seen.outputs.T, out)
    sizes = torch.stack([factor.norm() for factor in (first, core, out)]).log()
    first, core, out = (
        factor * scale.exp() if scale.isfinite() else factor
        for factor, scale in zip((first, core, out), sizes.mean() - sizes, strict=True)
    )
    first, core = evened(first, core)
    core, last = evened(core, out.reshape(*out.shape, *ones))
    return first, core, last


def channel_error(difference: Tensor, moment: Tensor) -> float:
    """Σ over positions p of tr(D_p·C·D_pᵀ). D [T, S, *k], C [S, S]."""
    return sum(
        float((torch.einsum("ts...,sz->tz...", rows, moment) * rows).sum()) for rows in pieces(difference)
    )


def two_sided_channel_error(difference: Tensor, moment: Tensor, gradients: Tensor) -> float:
    """Σ over positions p of tr(G·D_p·C·D_pᵀ). D [T, S, *k], C [S, S], G [T, T]."""
    return sum(
        float(
            (torch.einsum("tsk,sz->tzk", piece, moment) * torch.einsum("ut,tsk->usk", gradients, piece)).sum()
        )
        for piece in weighted(Seen(difference))
    )


def _seen(kernel: Tensor, moment: Tensor, damping: float) -> Tensor:
    """The kernel [T, S, *k] with a root of the moment on its input axis: its Frobenius norm is the error."""
    return torch.einsum(
        "ts...,sz->tz...", kernel, root_of(moment, kernel.shape[1], "input channels", damping)
    )


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
        name="two_sided_spatial",
        params=("K", "C", "G", "rank", "damping?"),
        results=2,
        function=two_sided_spatial,
        promise_text="K[t, s, i, …] ≈ Σ_r horizontal[t, r, 0, …] · vertical[r, s, i, 0…]",
        promise=spatial_product,
        forms=forms(
            "[T, S, kh, kw] -> [r, S, kh, 1], [T, r, 1, kw]",
            "[T, S, kd, kh, kw] -> [r, S, kd, 1, 1], [T, r, 1, kh, kw]",
        ),
        moments=forms(*(f"{text}, [T, T]" for text in _INPUTS[1:])),
        metric=two_sided_channel_error,
        source="Jaderberg, Vedaldi & Zisserman, 2014, in the metric of Grosse & Martens, 2016",
        doc="`spatial_svd` weighted by moments of the input channels (C) and of the output gradients (G).",
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
