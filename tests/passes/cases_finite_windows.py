"""Cases of windows in `passes/decompose/finite_conv.tdsl`: a group permutes channels, at every tap alike."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from cases_finite import FEW, FULL, planted
from rule_cases import Case, fires, leaves, number
from torch import Tensor

from tdsl.symmetry.group import dihedral

WINDOWS = planted(dihedral(3), 6 * 9, 7).reshape(42, 36, 3, 3)
LINES = planted(dihedral(3), 6 * 4, 7).reshape(42, 36, 4)
VOLUMES = planted(dihedral(3), 6 * 8, 7).reshape(42, 36, 2, 2, 2)


def windows(forward: Callable[[Any, Tensor], Tensor], weight: Tensor, *sizes: int, expect: str) -> list[Case]:
    """Windows of any stride, whose channels the triangle permutes at every tap, and three that stay."""
    name, shape = "decompose.finite_conv.group_conv", (2, 36, *sizes)
    spoilt = weight.clone()
    spoilt[3, 5].flatten()[1] += 1e-2
    turned = weight.clone()
    turned[:6] = turned[:6].flip(-1)
    return [
        fires(name, forward, shape, w=weight, b=number(42), parameters=FEW, precision=FULL, expect=expect),
        *(
            leaves(name, forward, shape, w=other, b=number(42), parameters=FEW, because=because)
            for other, because in (
                (number(*weight.shape), "it has no group"),
                (spoilt, "one number differs"),
                (turned, "the taps of one place run backwards"),
            )
        ),
    ]


CASES = [
    *windows(
        lambda m, x: F.conv2d(x, m.w, m.b, padding=1, dilation=(1, 2)),
        WINDOWS,
        7,
        6,
        expect="""
            reshape = reshape(x, [2, 1, 36, 42])
            reshape_1 = reshape(reshape, [2, 1, 6, 252])
            matmul = matmul(w_group_channels, reshape_1)
            split = split(matmul, [1, 1, 4], dim=-2)
            getitem = split[0]
            reshape_2 = reshape(getitem, [2, 1, 1, 1, 252])
            reshape_3 = reshape(reshape_2, [2, 6, 7, 6])
            conv2d_1 = conv2d(reshape_3, w_group_conv_1, padding=[1, 1], dilation=[1, 2])
            reshape_4 = reshape(conv2d_1, [2, 1, 1, 1, 7, 28])
            reshape_5 = reshape(reshape_4, [2, 1, 1, 196])
            getitem_1 = split[1]
            reshape_6 = reshape(getitem_1, [2, 1, 1, 1, 252])
            reshape_7 = reshape(reshape_6, [2, 6, 7, 6])
            conv2d_2 = conv2d(reshape_7, w_group_conv_2, padding=[1, 1], dilation=[1, 2])
            reshape_8 = reshape(conv2d_2, [2, 1, 1, 1, 7, 28])
            reshape_9 = reshape(reshape_8, [2, 1, 1, 196])
            getitem_2 = split[2]
            reshape_10 = reshape(getitem_2, [2, 1, 2, 1, 504])
            reshape_11 = reshape(reshape_10, [4, 12, 7, 6])
            conv2d_3 = conv2d(reshape_11, w_group_conv_3, padding=[1, 1], dilation=[1, 2])
            reshape_12 = reshape(conv2d_3, [2, 1, 2, 1, 14, 28])
            reshape_13 = reshape(reshape_12, [2, 1, 4, 196])
            concat = concat(reshape_5, reshape_9, reshape_13, dim=-2)
            matmul_1 = matmul(w_group_conv, concat)
            reshape_14 = reshape(matmul_1, [2, 1, 42, 28])
            reshape_15 = reshape(reshape_14, [2, 42, 7, 4])
            add = add(reshape_15, b_group_conv)
        """,
    ),
    *windows(
        lambda m, x: F.conv1d(x, m.w, m.b, padding=2, dilation=2),
        LINES,
        20,
        expect="""
            reshape = reshape(x, [2, 1, 36, 20])
            reshape_1 = reshape(reshape, [2, 1, 6, 120])
            matmul = matmul(w_group_channels, reshape_1)
            split = split(matmul, [1, 1, 4], dim=-2)
            getitem = split[0]
            reshape_2 = reshape(getitem, [2, 1, 1, 1, 120])
            reshape_3 = reshape(reshape_2, [2, 6, 20])
            conv1d_1 = conv1d(reshape_3, w_group_conv_1, padding=[2], dilation=[2])
            reshape_4 = reshape(conv1d_1, [2, 1, 1, 1, 7, 18])
            reshape_5 = reshape(reshape_4, [2, 1, 1, 126])
            getitem_1 = split[1]
            reshape_6 = reshape(getitem_1, [2, 1, 1, 1, 120])
            reshape_7 = reshape(reshape_6, [2, 6, 20])
            conv1d_2 = conv1d(reshape_7, w_group_conv_2, padding=[2], dilation=[2])
            reshape_8 = reshape(conv1d_2, [2, 1, 1, 1, 7, 18])
            reshape_9 = reshape(reshape_8, [2, 1, 1, 126])
            getitem_2 = split[2]
            reshape_10 = reshape(getitem_2, [2, 1, 2, 1, 240])
            reshape_11 = reshape(reshape_10, [4, 12, 20])
            conv1d_3 = conv1d(reshape_11, w_group_conv_3, padding=[2], dilation=[2])
            reshape_12 = reshape(conv1d_3, [2, 1, 2, 1, 14, 18])
            reshape_13 = reshape(reshape_12, [2, 1, 4, 126])
            concat = concat(reshape_5, reshape_9, reshape_13, dim=-2)
            matmul_1 = matmul(w_group_conv, concat)
            reshape_14 = reshape(matmul_1, [2, 1, 42, 18])
            reshape_15 = reshape(reshape_14, [2, 42, 18])
            add = add(reshape_15, b_group_conv)
        """,
    ),
    *windows(
        lambda m, x: F.conv3d(x, m.w, m.b, stride=(1, 1, 2), padding=1),
        VOLUMES,
        4,
        5,
        6,
        expect="""
            reshape = reshape(x, [2, 1, 36, 120])
            reshape_1 = reshape(reshape, [2, 1, 6, 720])
            matmul = matmul(w_group_channels, reshape_1)
            split = split(matmul, [1, 1, 4], dim=-2)
            getitem = split[0]
            reshape_2 = reshape(getitem, [2, 1, 1, 1, 720])
            reshape_3 = reshape(reshape_2, [2, 6, 4, 5, 6])
            conv3d_1 = conv3d(reshape_3, w_group_conv_1, stride=[1, 1, 2], padding=[1, 1, 1])
            reshape_4 = reshape(conv3d_1, [2, 1, 1, 1, 7, 120])
            reshape_5 = reshape(reshape_4, [2, 1, 1, 840])
            getitem_1 = split[1]
            reshape_6 = reshape(getitem_1, [2, 1, 1, 1, 720])
            reshape_7 = reshape(reshape_6, [2, 6, 4, 5, 6])
            conv3d_2 = conv3d(reshape_7, w_group_conv_2, stride=[1, 1, 2], padding=[1, 1, 1])
            reshape_8 = reshape(conv3d_2, [2, 1, 1, 1, 7, 120])
            reshape_9 = reshape(reshape_8, [2, 1, 1, 840])
            getitem_2 = split[2]
            reshape_10 = reshape(getitem_2, [2, 1, 2, 1, 1440])
            reshape_11 = reshape(reshape_10, [4, 12, 4, 5, 6])
            conv3d_3 = conv3d(reshape_11, w_group_conv_3, stride=[1, 1, 2], padding=[1, 1, 1])
            reshape_12 = reshape(conv3d_3, [2, 1, 2, 1, 14, 120])
            reshape_13 = reshape(reshape_12, [2, 1, 4, 840])
            concat = concat(reshape_5, reshape_9, reshape_13, dim=-2)
            matmul_1 = matmul(w_group_conv, concat)
            reshape_14 = reshape(matmul_1, [2, 1, 42, 120])
            reshape_15 = reshape(reshape_14, [2, 42, 5, 6, 4])
            add = add(reshape_15, b_group_conv)
        """,
    ),
]
