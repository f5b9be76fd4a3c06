"""Cases of `passes/factorize/conv*`: kernels of low rank, which the factors hold exactly."""

from __future__ import annotations

from typing import Any

import cases_conv_channels
import torch
import torch.nn.functional as F
from conv_sites import planted
from rule_cases import Case, fires, leaves, low_rank, number
from torch import Tensor

from tdsl.factor.rank import Energy, Error

FULL = 1e-9
"""Precision where the rank kept is that of the weight."""
IMAGE = (2, 6, 9, 8)


def kernel(o: int, i: int, kh: int, kw: int, rank: int, *, spatial: bool = False) -> Tensor:
    """A kernel of that rank: between outputs and the rest, or (`spatial`) between rows and columns."""
    if spatial:
        return low_rank(i * kh, o * kw, rank).reshape(i, kh, o, kw).permute(2, 0, 1, 3).contiguous()
    return low_rank(o, i * kh * kw, rank).reshape(o, i, kh, kw)


def small_core(o: int, i: int, kh: int, kw: int, rank: int) -> Tensor:
    """A kernel with that many independent inputs and outputs (a Tucker-2 product)."""
    core = number(rank, rank, kh, kw)
    return torch.einsum("or,rqhw,qi->oihw", number(o, rank), core, number(rank, i))


def both(
    rule: str, conv: Any, x: tuple[int, ...], w: Tensor, rank: int, expect: str, **window: Any
) -> list[Case]:
    """A rule on a kernel of that rank, and not on the same kernel when another layer reads it."""
    filters = w.shape[1] if "transpose" in conv.__name__ else w.shape[0]
    return [
        fires(
            f"factorize.{rule}",
            lambda m, x: conv(x, m.w, m.b, **window),
            x,
            w=w,
            b=number(filters),
            parameters={"rank": rank},
            precision=FULL,
            expect=expect,
        ),
        leaves(
            f"factorize.{rule}",
            lambda m, x: conv(x, m.w, m.b, **window) + conv(x.tanh(), m.w, m.b, **window),
            x,
            w=w,
            b=number(filters),
            parameters={"rank": rank},
            because="another layer reads the weight",
        ),
    ]


SPATIAL = [
    fires(
        "factorize.conv.spatial_svd",
        lambda m, x: F.conv2d(x, m.w, m.b, stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
        IMAGE,
        w=kernel(5, 6, 3, 3, 2, spatial=True),
        b=number(5),
        parameters={"rank": rank},
        precision=FULL,
        expect="""
            conv2d_1 = conv2d(x, w_spatial_svd, stride=[2, 1], padding=[1, 0])
            conv2d_2 = conv2d(conv2d_1, w_spatial_svd_1, b, padding=[0, 2], dilation=[1, 2])
        """,
    )
    for rank in (2, 0.5, Energy(1 - 1e-12), Error(1e-6))
] + [
    leaves(
        "factorize.conv.spatial_svd",
        lambda m, x: F.conv2d(x, m.w, padding=(0, 1)),
        IMAGE,
        w=kernel(5, 6, 1, 3, 2),
        parameters={"rank": 2},
        because="the kernel has one row only",
    ),
    leaves(
        "factorize.conv.spatial_svd",
        lambda m, x: F.conv2d(x, m.w, groups=2),
        IMAGE,
        w=number(6, 3, 3, 3),
        parameters={"rank": 2},
        because="it is grouped",
    ),
    leaves(
        "factorize.conv.spatial_svd",
        lambda m, x: F.conv2d(x, m.w),
        IMAGE,
        w=kernel(5, 6, 3, 3, 2, spatial=True),
        parameters={"rank": 99},
        because="no kernel here has a rank of 99",
    ),
]

CHANNEL = [
    fires(
        "factorize.conv.channel_svd",
        lambda m, x: F.conv2d(x, m.w, m.b, stride=2, padding=1, dilation=2),
        IMAGE,
        w=kernel(8, 6, 3, 3, 2),
        b=number(8),
        parameters={"rank": rank},
        precision=FULL,
        expect="""
            conv2d_1 = conv2d(x, w_channel_svd, stride=[2, 2], padding=[1, 1], dilation=[2, 2])
            conv2d_2 = conv2d(conv2d_1, w_channel_svd_1, b)
        """,
    )
    for rank in (2, 0.5, Energy(1 - 1e-12), Error(1e-6))
] + [
    leaves(
        "factorize.conv.channel_svd",
        lambda m, x: F.conv2d(x, m.w, m.b, groups=2),
        IMAGE,
        w=number(8, 3, 3, 3),
        b=number(8),
        parameters={"rank": 2},
        because="it is grouped",
    ),
    leaves(
        "factorize.conv.channel_svd",
        lambda m, x: F.conv2d(x, m.w) + F.conv2d(x.relu(), m.w),
        IMAGE,
        w=kernel(8, 6, 3, 3, 2),
        because="two convolutions share the weight",
    ),
    leaves(
        "factorize.conv.channel_svd",
        lambda m, x: F.conv2d(x, m.w),
        IMAGE,
        w=kernel(8, 6, 3, 3, 2),
        parameters={"rank": 9},
        because="eight outputs have no rank of 9",
    ),
]

TUCKER = [
    fires(
        "factorize.conv.tucker2",
        lambda m, x: F.conv2d(x, m.w, m.b, stride=1, padding=1),
        IMAGE,
        w=small_core(8, 6, 3, 3, 2),
        b=number(8),
        parameters={"rank": rank},
        precision=FULL,
        expect="""
            conv2d_1 = conv2d(x, w_tucker2)
            conv2d_2 = conv2d(conv2d_1, w_tucker2_1, padding=[1, 1])
            conv2d_3 = conv2d(conv2d_2, w_tucker2_2, b)
        """,
    )
    for rank in (2, 0.5, Energy(1 - 1e-12), Error(1e-6))
] + [
    leaves(
        "factorize.conv.tucker2",
        lambda m, x: F.conv2d(x, m.w, m.b),
        IMAGE,
        w=low_rank(8, 6, 2).reshape(8, 6, 1, 1),
        b=number(8),
        parameters={"rank": 2},
        because="a 1×1 kernel has no core",
    ),
    leaves(
        "factorize.conv.tucker2",
        lambda m, x: F.conv2d(x, m.w, m.b),
        IMAGE,
        w=small_core(8, 6, 3, 3, 2),
        b=number(8),
        parameters={"rank": 2, "rank_in": 7},
        because="six inputs have no rank of 7",
    ),
]

SIGNAL, VOLUME = (2, 6, 14), (2, 6, 7, 8, 6)

OTHER = [
    *both(
        "conv.depthwise_separable",
        F.conv2d,
        IMAGE,
        planted("depthwise_separable", (8, 6, 3, 3), 2),
        2,
        """
            conv2d_1 = conv2d(x, w_depthwise_separable, stride=[2, 2], padding=[1, 1], groups=6)
            conv2d_2 = conv2d(conv2d_1, w_depthwise_separable_1, b)
        """,
        stride=2,
        padding=1,
    ),
    *both(
        "conv1d.channel_svd_1d",
        F.conv1d,
        SIGNAL,
        planted("channel_svd", (8, 6, 5), 2),
        2,
        """
            conv1d_1 = conv1d(x, w_channel_svd, stride=[2], padding=[2])
            conv1d_2 = conv1d(conv1d_1, w_channel_svd_1, b)
        """,
        stride=2,
        padding=2,
    ),
    *both(
        "conv.input_svd",
        F.conv2d,
        IMAGE,
        planted("input_svd", (8, 6, 3, 3), 2),
        2,
        """
            conv2d_1 = conv2d(x, w_input_svd)
            conv2d_2 = conv2d(conv2d_1, w_input_svd_1, b, padding=[1, 2], dilation=[2, 2])
        """,
        padding=(1, 2),
        dilation=2,
    ),
    *both(
        "conv1d.input_svd_1d",
        F.conv1d,
        SIGNAL,
        planted("input_svd", (8, 6, 5), 2),
        2,
        """
            conv1d_1 = conv1d(x, w_input_svd)
            conv1d_2 = conv1d(conv1d_1, w_input_svd_1, b, padding=[2])
        """,
        padding=2,
    ),
    *both(
        "conv1d.tucker2_1d",
        F.conv1d,
        SIGNAL,
        planted("tucker2", (8, 6, 5), 2),
        2,
        """
            conv1d_1 = conv1d(x, w_tucker2)
            conv1d_2 = conv1d(conv1d_1, w_tucker2_1, dilation=[2])
            conv1d_3 = conv1d(conv1d_2, w_tucker2_2, b)
        """,
        dilation=2,
    ),
    *both(
        "conv1d.depthwise_separable_1d",
        F.conv1d,
        SIGNAL,
        planted("depthwise_separable", (8, 6, 5), 1),
        1,
        """
            conv1d_1 = conv1d(x, w_depthwise_separable_1d, padding=[1], groups=6)
            conv1d_2 = conv1d(conv1d_1, w_depthwise_separable_1d_1, b)
        """,
        padding=1,
    ),
    *both(
        "conv3d.spatial_svd_3d",
        F.conv3d,
        VOLUME,
        planted("spatial_svd", (8, 6, 3, 3, 3), 2),
        2,
        """
            conv3d_1 = conv3d(x, w_spatial_svd, stride=[2, 1, 1])
            conv3d_2 = conv3d(conv3d_1, w_spatial_svd_1, b, padding=[0, 1, 1])
        """,
        stride=(2, 1, 1),
        padding=(0, 1, 1),
    ),
    *both(
        "conv3d.channel_svd_3d",
        F.conv3d,
        VOLUME,
        planted("channel_svd", (8, 6, 3, 3, 3), 2),
        2,
        """
            conv3d_1 = conv3d(x, w_channel_svd, padding=[1, 1, 1])
            conv3d_2 = conv3d(conv3d_1, w_channel_svd_1, b)
        """,
        padding=1,
    ),
    *both(
        "conv3d.tucker2_3d",
        F.conv3d,
        VOLUME,
        planted("tucker2", (8, 6, 3, 3, 3), 2),
        2,
        """
            conv3d_1 = conv3d(x, w_tucker2)
            conv3d_2 = conv3d(conv3d_1, w_tucker2_1, padding=[1, 1, 1])
            conv3d_3 = conv3d(conv3d_2, w_tucker2_2, b)
        """,
        padding=1,
    ),
]

GROUPED = [
    *both(
        "conv_grouped.grouped_channel_svd",
        F.conv2d,
        IMAGE,
        planted("grouped_channel_svd", (2, 4, 3, 3, 3), 1).reshape(8, 3, 3, 3),
        1,
        """
            conv2d_1 = conv2d(x, w_grouped_channel_svd, stride=[2, 2], groups=2)
            conv2d_2 = conv2d(conv2d_1, w_grouped_channel_svd_1, b, groups=2)
        """,
        stride=2,
        groups=2,
    ),
    *both(
        "conv_grouped.grouped_channel_svd_1d",
        F.conv1d,
        SIGNAL,
        planted("grouped_channel_svd", (2, 4, 3, 5), 1).reshape(8, 3, 5),
        1,
        """
            conv1d_1 = conv1d(x, w_grouped_channel_svd_1d, groups=2)
            conv1d_2 = conv1d(conv1d_1, w_grouped_channel_svd_1d_1, b, groups=2)
        """,
        groups=2,
    ),
    *both(
        "conv_grouped.grouped_spatial_svd",
        F.conv2d,
        IMAGE,
        planted("grouped_spatial_svd", (6, 1, 1, 5, 5), 1).reshape(6, 1, 5, 5),
        1,
        """
            conv2d_1 = conv2d(x, w_grouped_spatial_svd, padding=[2, 0], groups=6)
            conv2d_2 = conv2d(conv2d_1, w_grouped_spatial_svd_1, b, padding=[0, 2], groups=6)
        """,
        padding=2,
        groups=6,
    ),
    leaves(
        "factorize.conv_grouped.grouped_spatial_svd",
        lambda m, x: F.conv2d(x, m.w, groups=6),
        IMAGE,
        w=planted("grouped_spatial_svd", (6, 1, 1, 3, 3), 2).reshape(6, 1, 3, 3),
        parameters={"rank": 2},
        because="two pairs of vectors of three hold more than nine numbers",
    ),
    leaves(
        "factorize.conv_grouped.grouped_channel_svd",
        lambda m, x: F.conv2d(x, m.w),
        IMAGE,
        w=kernel(8, 6, 3, 3, 1),
        parameters={"rank": 1},
        because="it has one group",
    ),
]

TRANSPOSED = [
    *both(
        "conv_transpose.channel_svd_transposed",
        F.conv_transpose2d,
        IMAGE,
        planted("channel_svd", (8, 6, 3, 3), 2).transpose(0, 1).contiguous(),
        2,
        """
            conv_transpose2d_1 = conv_transpose2d(x, w_channel_svd_transposed, stride=[2, 2], padding=[1, 1])
            conv2d = conv2d(conv_transpose2d_1, w_channel_svd, b)
        """,
        stride=2,
        padding=1,
    ),
    *both(
        "conv_transpose.input_svd_transposed",
        F.conv_transpose2d,
        IMAGE,
        planted("channel_svd", (6, 8, 3, 3), 2),
        2,
        """
            conv2d = conv2d(x, w_input_svd_transposed)
            conv_transpose2d_1 = conv_transpose2d(conv2d, w_channel_svd, b, stride=[2, 2])
        """,
        stride=2,
    ),
    *both(
        "conv_transpose.input_svd_transposed_1d",
        F.conv_transpose1d,
        SIGNAL,
        planted("channel_svd", (6, 8, 5), 2),
        2,
        """
            conv1d = conv1d(x, w_input_svd_transposed_1d)
            conv_transpose1d_1 = conv_transpose1d(conv1d, w_channel_svd, b, stride=[3])
        """,
        stride=3,
    ),
    *both(
        "conv_transpose.input_svd_transposed_3d",
        F.conv_transpose3d,
        VOLUME,
        planted("channel_svd", (6, 8, 3, 2, 3), 2),
        2,
        """
            conv3d = conv3d(x, w_input_svd_transposed_3d)
            conv_transpose3d_1 = conv_transpose3d(conv3d, w_channel_svd, b, padding=[1, 1, 1])
        """,
        padding=1,
    ),
    *both(
        "conv_transpose.spatial_svd_transposed",
        F.conv_transpose2d,
        IMAGE,
        planted("spatial_svd", (8, 6, 3, 3), 2).transpose(0, 1).contiguous(),
        2,
        """
            conv_transpose2d_1 = conv_transpose2d(x, w_spatial_svd_transposed, stride=[2, 1])
            conv_transpose2d_2 = conv_transpose2d(conv_transpose2d_1, w_spatial_svd_transposed_1, b)
        """,
        stride=(2, 1),
    ),
    *both(
        "conv_transpose.tucker2_transposed",
        F.conv_transpose2d,
        IMAGE,
        planted("tucker2", (8, 6, 3, 3), 2).transpose(0, 1).contiguous(),
        2,
        """
            conv2d = conv2d(x, w_tucker2)
            conv_transpose2d_1 = conv_transpose2d(conv2d, w_tucker2_transposed, stride=[2, 2])
            conv2d_1 = conv2d(conv_transpose2d_1, w_tucker2_1, b)
        """,
        stride=2,
    ),
    leaves(
        "factorize.conv_transpose.input_svd_transposed",
        lambda m, x: F.conv_transpose2d(x, m.w, groups=2),
        IMAGE,
        w=number(6, 4, 3, 3),
        parameters={"rank": 1},
        because="it is grouped",
    ),
]

CANONICAL = [
    *both(
        "conv_cp.cp",
        F.conv2d,
        IMAGE,
        planted("cp", (8, 6, 3, 3), 2),
        2,
        """
            conv2d_1 = conv2d(x, w_cp)
            conv2d_2 = conv2d(conv2d_1, w_cp_1, stride=[2, 2], padding=[1, 1], groups=2)
            conv2d_3 = conv2d(conv2d_2, w_cp_2, b)
        """,
        stride=2,
        padding=1,
    ),
    *both(
        "conv_cp.cp_separable",
        F.conv2d,
        IMAGE,
        planted("cp_separable", (8, 6, 3, 3), 2),
        2,
        """
            conv2d_1 = conv2d(x, w_cp_separable)
            conv2d_2 = conv2d(conv2d_1, w_cp_separable_1, padding=[1, 0], groups=2)
            conv2d_3 = conv2d(conv2d_2, w_cp_separable_2, padding=[0, 1], groups=2)
            conv2d_4 = conv2d(conv2d_3, w_cp_separable_3, b)
        """,
        padding=1,
    ),
    *both(
        "conv_cp.cp_1d",
        F.conv1d,
        SIGNAL,
        planted("cp", (8, 6, 5), 2),
        2,
        """
            conv1d_1 = conv1d(x, w_cp)
            conv1d_2 = conv1d(conv1d_1, w_cp_1, padding=[2], groups=2)
            conv1d_3 = conv1d(conv1d_2, w_cp_2, b)
        """,
        padding=2,
    ),
    *both(
        "conv_cp.cp_3d",
        F.conv3d,
        VOLUME,
        planted("cp", (8, 6, 2, 3, 3), 2),
        2,
        """
            conv3d_1 = conv3d(x, w_cp)
            conv3d_2 = conv3d(conv3d_1, w_cp_1, groups=2)
            conv3d_3 = conv3d(conv3d_2, w_cp_2, b)
        """,
    ),
]

DATA = [
    *both(
        "conv_data.output_pca",
        F.conv2d,
        IMAGE,
        planted("channel_svd", (8, 6, 3, 3), 2),
        2,
        """
            conv2d_1 = conv2d(x, w_output_pca, padding=[1, 1])
            conv2d_2 = conv2d(conv2d_1, w_output_pca_1, b_output_pca)
        """,
        padding=1,
    ),
    *both(
        "conv_data.whitened_channel",
        F.conv2d,
        IMAGE,
        planted("channel_svd", (8, 6, 3, 3), 2),
        2,
        """
            conv2d_1 = conv2d(x, w_whitened_channel, stride=[2, 2])
            conv2d_2 = conv2d(conv2d_1, w_whitened_channel_1, b)
        """,
        stride=2,
    ),
    *both(
        "conv_data.whitened_channel_1d",
        F.conv1d,
        SIGNAL,
        planted("channel_svd", (8, 6, 5), 2),
        2,
        """
            conv1d_1 = conv1d(x, w_whitened_channel)
            conv1d_2 = conv1d(conv1d_1, w_whitened_channel_1, b)
        """,
    ),
    *both(
        "conv_data.whitened_input",
        F.conv2d,
        IMAGE,
        planted("input_svd", (8, 6, 3, 3), 2),
        2,
        """
            conv2d_1 = conv2d(x, w_whitened_input)
            conv2d_2 = conv2d(conv2d_1, w_whitened_input_1, b, padding=[1, 2], dilation=[2, 2])
        """,
        padding=(1, 2),
        dilation=2,
    ),
    *both(
        "conv_data.whitened_input_1d",
        F.conv1d,
        SIGNAL,
        planted("input_svd", (8, 6, 5), 2),
        2,
        """
            conv1d_1 = conv1d(x, w_whitened_input)
            conv1d_2 = conv1d(conv1d_1, w_whitened_input_1, b, padding=[2])
        """,
        padding=2,
    ),
    *both(
        "conv_data.whitened_spatial",
        F.conv2d,
        IMAGE,
        planted("spatial_svd", (8, 6, 3, 3), 2),
        2,
        """
            conv2d_1 = conv2d(x, w_whitened_spatial, padding=[1, 0])
            conv2d_2 = conv2d(conv2d_1, w_whitened_spatial_1, b, padding=[0, 2])
        """,
        padding=(1, 2),
    ),
    *both(
        "conv_data.whitened_tucker2",
        F.conv2d,
        IMAGE,
        planted("tucker2", (8, 6, 3, 3), 2),
        2,
        """
            conv2d_1 = conv2d(x, w_whitened_tucker2)
            conv2d_2 = conv2d(conv2d_1, w_whitened_tucker2_1, dilation=[2, 2])
            conv2d_3 = conv2d(conv2d_2, w_whitened_tucker2_2, b)
        """,
        dilation=2,
    ),
    *both(
        "conv_data.two_sided_spatial",
        F.conv2d,
        IMAGE,
        planted("spatial_svd", (8, 6, 3, 3), 2),
        2,
        """
            conv2d_1 = conv2d(x, w_two_sided_spatial, padding=[1, 0])
            conv2d_2 = conv2d(conv2d_1, w_two_sided_spatial_1, b, padding=[0, 2])
        """,
        padding=(1, 2),
    ),
    *both(
        "conv_data.two_sided_pca",
        F.conv2d,
        IMAGE,
        planted("channel_svd", (8, 6, 3, 3), 2),
        2,
        """
            conv2d_1 = conv2d(x, w_two_sided_pca, padding=[1, 1])
            conv2d_2 = conv2d(conv2d_1, w_two_sided_pca_1, b_two_sided_pca)
        """,
        padding=1,
    ),
    *both(
        "conv_data.two_sided_tucker2",
        F.conv2d,
        IMAGE,
        planted("tucker2", (8, 6, 3, 3), 2),
        2,
        """
            conv2d_1 = conv2d(x, w_two_sided_tucker2)
            conv2d_2 = conv2d(conv2d_1, w_two_sided_tucker2_1, padding=[1, 1])
            conv2d_3 = conv2d(conv2d_2, w_two_sided_tucker2_2, b)
        """,
        padding=1,
    ),
    *both(
        "conv_windows.windowed_spatial",
        F.conv2d,
        IMAGE,
        planted("spatial_svd", (8, 6, 3, 3), 2),
        2,
        """
            conv2d_1 = conv2d(x, w_windowed_spatial, padding=[1, 0])
            conv2d_2 = conv2d(conv2d_1, w_windowed_spatial_1, b, padding=[0, 2])
        """,
        padding=(1, 2),
    ),
    *both(
        "conv_windows.windowed_spatial_across",
        F.conv2d,
        IMAGE,
        planted("spatial_svd", (8, 6, 3, 3), 2).transpose(2, 3).contiguous(),
        2,
        """
            conv2d_1 = conv2d(x, w_windowed_spatial_across, padding=[0, 2])
            conv2d_2 = conv2d(conv2d_1, w_windowed_spatial_across_1, b, padding=[1, 0])
        """,
        padding=(1, 2),
    ),
    *both(
        "conv_windows.windowed_tucker2",
        F.conv2d,
        IMAGE,
        planted("tucker2", (8, 6, 3, 3), 2),
        2,
        """
            conv2d_1 = conv2d(x, w_windowed_tucker2)
            conv2d_2 = conv2d(conv2d_1, w_windowed_tucker2_1, padding=[1, 1])
            conv2d_3 = conv2d(conv2d_2, w_windowed_tucker2_2, b)
        """,
        padding=1,
    ),
]

CASES = [
    *SPATIAL,
    *CHANNEL,
    *TUCKER,
    *OTHER,
    *GROUPED,
    *TRANSPOSED,
    *CANONICAL,
    *DATA,
    *cases_conv_channels.CASES,
]
