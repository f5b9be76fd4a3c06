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
            reshape = reshape(x, [2, 6, 252])
            matmul = matmul(w_group_channels_1, reshape)
            reshape_1 = reshape(matmul, [2, 54, 7, 6])
            conv2d_1 = conv2d(reshape_1, w_group_conv, padding=[1, 1], dilation=[1, 2], groups=9)
            reshape_2 = reshape(conv2d_1, [2, 9, 196])
            matmul_1 = matmul(w_group_channels, reshape_2)
            reshape_3 = reshape(matmul_1, [2, 42, 7, 4])
            add = add(reshape_3, b_group_conv)
        """,
    ),
    *windows(
        lambda m, x: F.conv1d(x, m.w, m.b, padding=2, dilation=2),
        LINES,
        20,
        expect="""
            reshape = reshape(x, [2, 6, 120])
            matmul = matmul(w_group_channels_1, reshape)
            reshape_1 = reshape(matmul, [2, 54, 20])
            conv1d_1 = conv1d(reshape_1, w_group_conv, padding=[2], dilation=[2], groups=9)
            reshape_2 = reshape(conv1d_1, [2, 9, 126])
            matmul_1 = matmul(w_group_channels, reshape_2)
            reshape_3 = reshape(matmul_1, [2, 42, 18])
            add = add(reshape_3, b_group_conv)
        """,
    ),
    *windows(
        lambda m, x: F.conv3d(x, m.w, m.b, stride=(1, 1, 2), padding=1),
        VOLUMES,
        4,
        5,
        6,
        expect="""
            reshape = reshape(x, [2, 6, 720])
            matmul = matmul(w_group_channels_1, reshape)
            reshape_1 = reshape(matmul, [2, 54, 4, 5, 6])
            conv3d_1 = conv3d(reshape_1, w_group_conv, stride=[1, 1, 2], padding=[1, 1, 1], groups=9)
            reshape_2 = reshape(conv3d_1, [2, 9, 840])
            matmul_1 = matmul(w_group_channels, reshape_2)
            reshape_3 = reshape(matmul_1, [2, 42, 5, 6, 4])
            add = add(reshape_3, b_group_conv)
        """,
    ),
]
