"""Decompositions of a stack of kernels or matrices that share one rank: grouped and depthwise convolutions.

A grouped convolution is a stack K [G, T, S, *k] of small kernels, one a group; a depthwise one has T outputs
and one input a group. Every member of the stack is truncated optimally, all at the same rank r, so that the
factors are grouped convolutions again. Rank rules see the pooled spectrum: entry i is the root of the sum of
squares of all i-th singular values, whose tails are the squared errors of the whole stack.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked, select_rank, triplets
from tdsl.factor.memo import memoised
from tdsl.factor.rank import as_rank_rule


def stacked_svd(stack: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """The best rank-r approximation of every matrix of a stack, one r for all (Eckart & Young, 1936).

    [G, m, n] → left [G, m, r], right [G, r, n], both with the square roots of the singular values. Raises
    `TdslError` for what is no finite stack and for a rank that its matrices have not.
    """
    exact = checked(stack, ndim=3)
    if not exact.numel():
        empty = 0 if not min(exact.shape[1:]) else 1
        return exact.new_zeros(*exact.shape[:2], empty), exact.new_zeros(len(exact), empty, exact.shape[2])
    left, values, right = _stacked_triplets(exact)
    kept = select_rank(as_rank_rule(rank), values.norm(dim=0), (exact.shape[1], exact.shape[2]))
    root = values[:, :kept].sqrt()
    return left[:, :, :kept] * root[:, None], root[:, :, None] * right[:, :kept]


def grouped_channel_svd(kernels: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """`channel_svd` in every group (Zhang et al., 2016): [G, T, S, *k] → [G, r, S, *k], [G, T, r, *1].

    Raises `TdslError` as `stacked_svd` does, and for kernels without a spatial axis.
    """
    exact = _kernels(kernels, least_axes=1)
    groups, outputs, inputs, *size = exact.shape
    mixing, filters = stacked_svd(exact.reshape(groups, outputs, inputs * math.prod(size)), rank)
    terms = filters.shape[1]
    return (
        filters.reshape(groups, terms, inputs, *size),
        mixing.reshape(groups, outputs, terms, *[1] * len(size)),
    )


def grouped_channel_product(first: Tensor, second: Tensor) -> Tensor:
    """The kernels of the two grouped convolutions. [G, r, S, *k], [G, T, r, *1] → [G, T, S, *k]."""
    return torch.einsum("gtr,grs...->gts...", second.reshape(second.shape[:3]), first)


def grouped_spatial_svd(kernels: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """`spatial_svd` in every group (Jaderberg et al., 2014); of a depthwise kernel r separable filters each.

    [G, T, S, kh, kw] → [G, r, S, kh, 1], [G, T, r, 1, kw]; three spatial axes as `spatial_svd` has them.
    Raises `TdslError` as `stacked_svd` does, and for kernels without two spatial axes.
    """
    exact = _kernels(kernels, least_axes=2)
    groups, outputs, inputs, along, *across = exact.shape
    ones = [1] * len(across)
    unfolded = exact.movedim(1, 3).reshape(groups, inputs * along, outputs * math.prod(across))
    left, right = stacked_svd(unfolded, rank)
    terms = right.shape[1]
    vertical = left.transpose(1, 2).reshape(groups, terms, inputs, along, *ones)
    horizontal = right.reshape(groups, terms, outputs, 1, *across).transpose(1, 2)
    return vertical, horizontal.contiguous()


def grouped_spatial_product(vertical: Tensor, horizontal: Tensor) -> Tensor:
    """The kernels of the chain. [G, r, S, kh, 1], [G, T, r, 1, kw] → [G, T, S, kh, kw]."""
    return torch.einsum("grsi,gtr...->gtsi...", vertical.reshape(vertical.shape[:4]), horizontal.squeeze(3))


def depthwise_separable(kernel: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """r filters of its own for every input channel, then a mixing: the SVD of K[:, s] for each s.

    [T, S, *k] → filters [S, r, *k], mixing [T, S, r]. The form of Howard et al., 2017 (MobileNets); the best
    of it in the Frobenius norm, and exact when no K[:, s], a matrix T × k, has a rank above r. Raises
    `TdslError` as `stacked_svd` does, and for a kernel without a spatial axis.
    """
    if kernel.ndim < 3:
        raise TdslError(f"a kernel of shape {list(kernel.shape)}", expected="[out, in, k], or more axes")
    outputs, inputs, *size = kernel.shape
    by_input = checked(kernel).transpose(0, 1).reshape(inputs, outputs, math.prod(size))
    mixing, filters = stacked_svd(by_input, rank)
    return filters.reshape(inputs, filters.shape[1], *size), mixing.transpose(0, 1).contiguous()


def depthwise_separable_product(filters: Tensor, mixing: Tensor) -> Tensor:
    """The kernel of the chain. [S, r, *k], [T, S, r] → [T, S, *k]."""
    return torch.einsum("sr...,tsr->ts...", filters, mixing)


# ---------------------------------------------------------------- parts


def _kernels(kernels: Tensor, least_axes: int) -> Tensor:
    """The stack in float64; `TdslError` unless it is finite, with that many spatial axes or more."""
    if kernels.ndim < 3 + least_axes:
        wanted = "[groups, out, in, k]" if least_axes == 1 else "[groups, out, in, kh, kw]"
        raise TdslError(
            f"kernels of shape {list(kernels.shape)} have {max(0, kernels.ndim - 3)} spatial axes",
            expected=f"at least {least_axes}, {wanted}",
        )
    return checked(kernels)


@memoised
def _stacked_triplets(stack: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every singular triplet of every matrix: [G, m, n] → [G, m, p], [G, p], [G, p, n], p = min(m, n)."""
    found = [triplets(matrix) for matrix in stack]
    return (
        torch.stack([one.left for one in found]),
        torch.stack([one.values for one in found]),
        torch.stack([one.right for one in found]),
    )


DECLARED = (
    Decomposition(
        name="grouped_channel_svd",
        params=("K", "rank"),
        results=2,
        function=grouped_channel_svd,
        promise_text="K[g, t, s, …] ≈ Σ_r second[g, t, r] · first[g, r, s, …]",
        promise=grouped_channel_product,
        forms=forms(
            "[G, T, S, k] -> [G, r, S, k], [G, T, r, 1]",
            "[G, T, S, kh, kw] -> [G, r, S, kh, kw], [G, T, r, 1, 1]",
            "[G, T, S, kd, kh, kw] -> [G, r, S, kd, kh, kw], [G, T, r, 1, 1, 1]",
        ),
        source="Zhang, Zou, He & Sun, 2016, in every group",
        doc="The kernels of a grouped convolution with fewer outputs, then a 1×1 mixing in each group.",
    ),
    Decomposition(
        name="grouped_spatial_svd",
        params=("K", "rank"),
        results=2,
        function=grouped_spatial_svd,
        promise_text="K[g, t, s, i, …] ≈ Σ_r horizontal[g, t, r, 0, …] · vertical[g, r, s, i, 0…]",
        promise=grouped_spatial_product,
        forms=forms(
            "[G, T, S, kh, kw] -> [G, r, S, kh, 1], [G, T, r, 1, kw]",
            "[G, T, S, kd, kh, kw] -> [G, r, S, kd, 1, 1], [G, T, r, 1, kh, kw]",
        ),
        source="Jaderberg, Vedaldi & Zisserman, 2014, in every group",
        doc="The kernels of a grouped or depthwise convolution along the first axis, then the others.",
    ),
    Decomposition(
        name="depthwise_separable",
        params=("K", "rank"),
        results=2,
        function=depthwise_separable,
        promise_text="K[t, s, …] ≈ Σ_r mixing[t, s, r] · filters[s, r, …]",
        promise=depthwise_separable_product,
        forms=forms(
            "[T, S, k] -> [S, r, k], [T, S, r]",
            "[T, S, kh, kw] -> [S, r, kh, kw], [T, S, r]",
            "[T, S, kd, kh, kw] -> [S, r, kd, kh, kw], [T, S, r]",
        ),
        source="the form of Howard et al., 2017 (MobileNets)",
        doc="A kernel as r filters for every input channel, then a 1×1 mixing of all of them.",
    ),
)
