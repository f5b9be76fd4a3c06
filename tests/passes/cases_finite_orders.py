"""Cases of `passes/decompose/finite_conv.tdsl`: channels in any order or in groups, strides, transposed ones.

A weight that commutes with the triangle is planted, its channels are put in another order, or some fields are
smaller than the group; neither the group nor the order is named anywhere.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from cases_finite import FEW, FULL, planted
from rule_cases import Case, fires, leaves, number
from torch import Tensor

from tdsl.symmetry.element import Permutation
from tdsl.symmetry.finite import reynolds
from tdsl.symmetry.group import dihedral
from tdsl.symmetry.representation import Representation, copies, defining, regular, trivial

GROUP = dihedral(3)
RULE = "decompose.finite_conv.group_conv"
LINEAR = "decompose.finite.group_linear_anywhere"


def many(rows: int, columns: int, taps: int, *, inside: bool, groups: int = 1) -> Tensor:
    """Matrices that commute with the triangle for each tap and group. → [groups·6·rows, 6·columns, taps]"""
    return torch.cat(
        [
            torch.stack([planted(GROUP, columns, rows, last=not inside) for _ in range(taps)], 2)
            for _ in range(groups)
        ]
    )


def together(*parts: Representation) -> Representation:
    """Fields side by side."""
    starts = [sum(one.size for one in parts[:place]) for place in range(len(parts))]
    generators = []
    for images in zip(*(one.generators for one in parts), strict=True):
        moved = (
            start + to
            for start, image in zip(starts, images, strict=True)
            if isinstance(image, Permutation)
            for to in image.places
        )
        generators.append(Permutation(tuple(moved)))
    return Representation(GROUP, "fields", sum(one.size for one in parts), tuple(generators))


def mixed(taps: int) -> Tensor:
    """From twelve regular fields and a channel that stays to ten regular ones and the three corners."""
    inner = together(copies(regular(GROUP), 12), trivial(GROUP, 1))
    out = together(defining(GROUP), copies(regular(GROUP), 10))
    random = torch.Generator().manual_seed(9)  # the order of spaces of one size depends on the numbers
    drawn = torch.randn(taps, out.size, inner.size, generator=random, dtype=torch.float64)
    return torch.stack([reynolds(one, out, inner) for one in drawn], 2)


def shuffled(weight: Tensor) -> Tensor:
    """Its rows and columns in a random order, the same for all taps."""
    random = torch.Generator().manual_seed(5)
    rows, columns = (torch.randperm(size, generator=random) for size in weight.shape[:2])
    return weight[rows][:, columns]


def spoilt(weight: Tensor) -> Tensor:
    """One number is another one."""
    other = weight.clone()
    other[3, 5].flatten()[0] += 1e-2
    return other


def found(
    forward: Callable[[Any, Tensor], Tensor],
    weight: Tensor,
    shape: tuple[int, ...],
    bias: int | None,
    expect: str,
    rule: str = RULE,
) -> list[Case]:
    """The rule finds the group, and finds none where a number differs, or all do."""
    return [
        fires(
            rule,
            forward,
            shape,
            w=weight,
            b=None if bias is None else number(bias),
            parameters=FEW,
            precision=FULL,
            expect=expect,
        ),
        *(
            leaves(
                rule,
                forward,
                shape,
                w=other,
                b=None if bias is None else number(bias),
                parameters=FEW,
                because=because,
            )
            for other, because in (
                (spoilt(weight), "one number differs"),
                (number(*weight.shape), "it has no group"),
            )
        ),
    ]


PIXEL = many(29, 28, 1, inside=True).reshape(174, 168, 1, 1)
WINDOW = shuffled(many(11, 10, 4, inside=False)).reshape(66, 60, 2, 2)
FIELDS = shuffled(mixed(9)).reshape(63, 73, 3, 3)
FASTEST_IN_TWO = many(7, 6, 9, inside=True, groups=2).reshape(84, 36, 3, 3)
SLOWEST_IN_TWO = many(11, 10, 4, inside=False, groups=2).reshape(132, 60, 4)
APART = FASTEST_IN_TWO.clone()
APART[42:] = number(42, 36, 3, 3)
UP = shuffled(many(13, 12, 9, inside=False)).transpose(0, 1).reshape(72, 78, 3, 3)
UP_IN_TWO = many(11, 10, 4, inside=True, groups=2).reshape(2, 66, 60, 4).transpose(1, 2).reshape(120, 66, 4)
STRIDED = "decompose.finite_conv.group_conv_strided"
TRANSPOSED = "decompose.finite_conv.group_conv_transposed"

TWICE = "stride=[2, 2], padding=[1, 1], output_padding=[1, 1]"

AGAIN = "groups=2, dilation=[2]"

DENSE = shuffled(many(9, 8, 1, inside=False))[..., 0]
DENSE_FIELDS = shuffled(mixed(1))[..., 0]

CASES = [
    *found(
        lambda m, x: F.linear(x, m.w, m.b),
        DENSE,
        (3, 48),
        54,
        """
            reshape = reshape(x, [3, 48])
            index_select = index_select(reshape, -1, w_layer_by_spaces)
            reshape_1 = reshape(index_select, [3, 1, 48, 1])
            reshape_2 = reshape(reshape_1, [3, 1, 6, 8])
            matmul = matmul(w_group_channels, reshape_2)
            split = split(matmul, [1, 1, 4], dim=-2)
            getitem = split[0]
            reshape_3 = reshape(getitem, [3, 1, 1, 1, 8])
            reshape_4 = reshape(reshape_3, [3, 8])
            linear_1 = linear(reshape_4, w_group_linear_anywhere_1)
            reshape_5 = reshape(linear_1, [3, 1, 1, 1, 9, 1])
            reshape_6 = reshape(reshape_5, [3, 1, 1, 9])
            getitem_1 = split[1]
            reshape_7 = reshape(getitem_1, [3, 1, 1, 1, 8])
            reshape_8 = reshape(reshape_7, [3, 8])
            linear_2 = linear(reshape_8, w_group_linear_anywhere_2)
            reshape_9 = reshape(linear_2, [3, 1, 1, 1, 9, 1])
            reshape_10 = reshape(reshape_9, [3, 1, 1, 9])
            getitem_2 = split[2]
            reshape_11 = reshape(getitem_2, [3, 1, 2, 1, 16])
            reshape_12 = reshape(reshape_11, [6, 16])
            linear_3 = linear(reshape_12, w_group_linear_anywhere_3)
            reshape_13 = reshape(linear_3, [3, 1, 2, 1, 18, 1])
            reshape_14 = reshape(reshape_13, [3, 1, 4, 9])
            concat = concat(reshape_6, reshape_10, reshape_14, dim=-2)
            matmul_1 = matmul(w_group_linear_anywhere, concat)
            reshape_15 = reshape(matmul_1, [3, 1, 54, 1])
            reshape_16 = reshape(reshape_15, [3, 54])
            index_select_1 = index_select(reshape_16, -1, w_layer_by_spaces_1)
            reshape_17 = reshape(index_select_1, [3, 54])
            add = add(reshape_17, b)
        """,
        LINEAR,
    ),
    *found(
        lambda m, x: F.linear(x, m.w),
        DENSE_FIELDS,
        (2, 3, 73),
        None,
        """
            reshape = reshape(x, [6, 73])
            index_select = index_select(reshape, -1, w_layer_by_spaces)
            reshape_1 = reshape(index_select, [6, 1, 73, 1])
            split = split(reshape_1, [1, 72], dim=-2)
            getitem = split[1]
            reshape_2 = reshape(getitem, [6, 1, 6, 12])
            matmul = matmul(w_group_linear_anywhere_1, reshape_2)
            split_1 = split(matmul, [1, 1, 4], dim=-2)
            getitem_1 = split_1[0]
            reshape_3 = reshape(getitem_1, [6, 1, 1, 1, 12])
            reshape_4 = reshape(reshape_3, [6, 12])
            linear_1 = linear(reshape_4, w_group_linear_anywhere_2)
            reshape_5 = reshape(linear_1, [6, 1, 1, 1, 10, 1])
            reshape_6 = reshape(reshape_5, [6, 1, 1, 10])
            getitem_2 = split[0]
            reshape_7 = reshape(getitem_2, [6, 1, 1, 1])
            matmul_1 = matmul(w_group_linear_anywhere_3, reshape_7)
            reshape_8 = reshape(matmul_1, [6, 1, 1, 1, 1])
            getitem_3 = split_1[1]
            reshape_9 = reshape(getitem_3, [6, 1, 1, 1, 12])
            concat = concat(reshape_8, reshape_9, dim=-1)
            reshape_10 = reshape(concat, [6, 13])
            linear_2 = linear(reshape_10, w_group_linear_anywhere_4)
            reshape_11 = reshape(linear_2, [6, 1, 1, 1, 11, 1])
            split_2 = split(reshape_11, [10, 1], dim=-2)
            getitem_4 = split_2[0]
            reshape_12 = reshape(getitem_4, [6, 1, 1, 10])
            getitem_5 = split_1[2]
            reshape_13 = reshape(getitem_5, [6, 1, 2, 1, 24])
            reshape_14 = reshape(reshape_13, [12, 24])
            linear_3 = linear(reshape_14, w_group_linear_anywhere_5)
            reshape_15 = reshape(linear_3, [6, 1, 2, 1, 21, 1])
            split_3 = split(reshape_15, [20, 1], dim=-2)
            getitem_6 = split_3[0]
            reshape_16 = reshape(getitem_6, [6, 1, 4, 10])
            concat_1 = concat(reshape_6, reshape_12, reshape_16, dim=-2)
            matmul_2 = matmul(w_group_linear_anywhere, concat_1)
            reshape_17 = reshape(matmul_2, [6, 1, 60, 1])
            getitem_7 = split_2[1]
            reshape_18 = reshape(getitem_7, [6, 1, 1, 1])
            getitem_8 = split_3[1]
            reshape_19 = reshape(getitem_8, [6, 1, 2, 1])
            concat_2 = concat(reshape_18, reshape_19, dim=-2)
            matmul_3 = matmul(w_group_linear_anywhere_6, concat_2)
            reshape_20 = reshape(matmul_3, [6, 1, 3, 1])
            concat_3 = concat(reshape_17, reshape_20, dim=-2)
            reshape_21 = reshape(concat_3, [6, 63])
            index_select_1 = index_select(reshape_21, -1, w_layer_by_spaces_1)
            reshape_22 = reshape(index_select_1, [2, 3, 63])
        """,
        LINEAR,
    ),
    leaves(
        LINEAR,
        lambda m, x: F.linear(x, m.w),
        (3, 48),
        w=many(9, 8, 1, inside=False)[..., 0],
        parameters=FEW,
        because="its places run slowest: other rules see them",
    ),
    leaves(
        LINEAR,
        lambda m, x: F.linear(F.linear(x, m.w), m.w.T),
        (3, 48),
        w=DENSE,
        parameters=FEW,
        because="the weight is tied",
    ),
    *found(
        lambda m, x: F.conv2d(x, m.w, m.b),
        PIXEL,
        (2, 168, 6, 5),
        174,
        """
            index_select = index_select(x, -3, w_convolved_by_spaces)
            reshape = reshape(index_select, [2, 1, 168, 30])
            reshape_1 = reshape(reshape, [2, 1, 6, 840])
            matmul = matmul(w_group_channels, reshape_1)
            split = split(matmul, [1, 1, 4], dim=-2)
            getitem = split[0]
            reshape_2 = reshape(getitem, [2, 1, 1, 1, 840])
            reshape_3 = reshape(reshape_2, [2, 28, 6, 5])
            conv2d_1 = conv2d(reshape_3, w_group_conv_1)
            reshape_4 = reshape(conv2d_1, [2, 1, 1, 1, 29, 30])
            reshape_5 = reshape(reshape_4, [2, 1, 1, 870])
            getitem_1 = split[1]
            reshape_6 = reshape(getitem_1, [2, 1, 1, 1, 840])
            reshape_7 = reshape(reshape_6, [2, 28, 6, 5])
            conv2d_2 = conv2d(reshape_7, w_group_conv_2)
            reshape_8 = reshape(conv2d_2, [2, 1, 1, 1, 29, 30])
            reshape_9 = reshape(reshape_8, [2, 1, 1, 870])
            getitem_2 = split[2]
            reshape_10 = reshape(getitem_2, [2, 1, 2, 1, 1680])
            reshape_11 = reshape(reshape_10, [4, 56, 6, 5])
            conv2d_3 = conv2d(reshape_11, w_group_conv_3)
            reshape_12 = reshape(conv2d_3, [2, 1, 2, 1, 58, 30])
            reshape_13 = reshape(reshape_12, [2, 1, 4, 870])
            concat = concat(reshape_5, reshape_9, reshape_13, dim=-2)
            matmul_1 = matmul(w_group_conv, concat)
            reshape_14 = reshape(matmul_1, [2, 1, 174, 30])
            reshape_15 = reshape(reshape_14, [2, 174, 6, 5])
            index_select_1 = index_select(reshape_15, -3, w_convolved_by_spaces_1)
            add = add(index_select_1, b_group_conv)
        """,
    ),
    *found(
        lambda m, x: F.conv2d(x, m.w),
        WINDOW,
        (2, 60, 6, 5),
        None,
        """
            index_select = index_select(x, -3, w_convolved_by_spaces)
            reshape = reshape(index_select, [2, 1, 60, 30])
            reshape_1 = reshape(reshape, [2, 1, 6, 300])
            matmul = matmul(w_group_channels, reshape_1)
            split = split(matmul, [1, 1, 4], dim=-2)
            getitem = split[0]
            reshape_2 = reshape(getitem, [2, 1, 1, 1, 300])
            reshape_3 = reshape(reshape_2, [2, 10, 6, 5])
            conv2d_1 = conv2d(reshape_3, w_group_conv_1)
            reshape_4 = reshape(conv2d_1, [2, 1, 1, 1, 11, 20])
            reshape_5 = reshape(reshape_4, [2, 1, 1, 220])
            getitem_1 = split[1]
            reshape_6 = reshape(getitem_1, [2, 1, 1, 1, 300])
            reshape_7 = reshape(reshape_6, [2, 10, 6, 5])
            conv2d_2 = conv2d(reshape_7, w_group_conv_2)
            reshape_8 = reshape(conv2d_2, [2, 1, 1, 1, 11, 20])
            reshape_9 = reshape(reshape_8, [2, 1, 1, 220])
            getitem_2 = split[2]
            reshape_10 = reshape(getitem_2, [2, 1, 2, 1, 600])
            reshape_11 = reshape(reshape_10, [4, 20, 6, 5])
            conv2d_3 = conv2d(reshape_11, w_group_conv_3)
            reshape_12 = reshape(conv2d_3, [2, 1, 2, 1, 22, 20])
            reshape_13 = reshape(reshape_12, [2, 1, 4, 220])
            concat = concat(reshape_5, reshape_9, reshape_13, dim=-2)
            matmul_1 = matmul(w_group_conv, concat)
            reshape_14 = reshape(matmul_1, [2, 1, 66, 20])
            reshape_15 = reshape(reshape_14, [2, 66, 5, 4])
            index_select_1 = index_select(reshape_15, -3, w_convolved_by_spaces_1)
        """,
    ),
    *found(
        lambda m, x: F.conv2d(x, m.w, m.b, padding=1),
        FIELDS,
        (2, 73, 6, 5),
        63,
        """
            index_select = index_select(x, -3, w_convolved_by_spaces)
            reshape = reshape(index_select, [2, 1, 73, 30])
            split = split(reshape, [1, 72], dim=-2)
            getitem = split[0]
            reshape_1 = reshape(getitem, [2, 1, 1, 30])
            matmul = matmul(w_group_conv_1, reshape_1)
            reshape_2 = reshape(matmul, [2, 1, 1, 1, 30])
            getitem_1 = split[1]
            reshape_3 = reshape(getitem_1, [2, 1, 6, 360])
            matmul_1 = matmul(w_group_conv_2, reshape_3)
            split_1 = split(matmul_1, [1, 1, 4], dim=-2)
            getitem_2 = split_1[0]
            reshape_4 = reshape(getitem_2, [2, 1, 1, 1, 360])
            concat = concat(reshape_2, reshape_4, dim=-1)
            reshape_5 = reshape(concat, [2, 13, 6, 5])
            conv2d_1 = conv2d(reshape_5, w_group_conv_3, padding=[1, 1])
            reshape_6 = reshape(conv2d_1, [2, 1, 1, 1, 11, 30])
            split_2 = split(reshape_6, [10, 1], dim=-2)
            getitem_3 = split_2[0]
            reshape_7 = reshape(getitem_3, [2, 1, 1, 300])
            getitem_4 = split_1[1]
            reshape_8 = reshape(getitem_4, [2, 1, 1, 1, 360])
            reshape_9 = reshape(reshape_8, [2, 12, 6, 5])
            conv2d_2 = conv2d(reshape_9, w_group_conv_4, padding=[1, 1])
            reshape_10 = reshape(conv2d_2, [2, 1, 1, 1, 10, 30])
            reshape_11 = reshape(reshape_10, [2, 1, 1, 300])
            getitem_5 = split_1[2]
            reshape_12 = reshape(getitem_5, [2, 1, 2, 1, 720])
            reshape_13 = reshape(reshape_12, [4, 24, 6, 5])
            conv2d_3 = conv2d(reshape_13, w_group_conv_5, padding=[1, 1])
            reshape_14 = reshape(conv2d_3, [2, 1, 2, 1, 21, 30])
            split_3 = split(reshape_14, [20, 1], dim=-2)
            getitem_6 = split_3[0]
            reshape_15 = reshape(getitem_6, [2, 1, 4, 300])
            concat_1 = concat(reshape_7, reshape_11, reshape_15, dim=-2)
            matmul_2 = matmul(w_group_conv, concat_1)
            reshape_16 = reshape(matmul_2, [2, 1, 60, 30])
            getitem_7 = split_2[1]
            reshape_17 = reshape(getitem_7, [2, 1, 1, 30])
            getitem_8 = split_3[1]
            reshape_18 = reshape(getitem_8, [2, 1, 2, 30])
            concat_2 = concat(reshape_17, reshape_18, dim=-2)
            matmul_3 = matmul(w_group_conv_6, concat_2)
            reshape_19 = reshape(matmul_3, [2, 1, 3, 30])
            concat_3 = concat(reshape_16, reshape_19, dim=-2)
            reshape_20 = reshape(concat_3, [2, 63, 6, 5])
            index_select_1 = index_select(reshape_20, -3, w_convolved_by_spaces_1)
            add = add(index_select_1, b_group_conv)
        """,
    ),
    *found(
        lambda m, x: F.conv2d(x, m.w, m.b, padding=1, groups=2),
        FASTEST_IN_TWO,
        (2, 72, 6, 5),
        84,
        """
            index_select = index_select(x, -3, w_convolved_by_spaces)
            reshape = reshape(index_select, [2, 2, 36, 30])
            reshape_1 = reshape(reshape, [2, 2, 6, 180])
            matmul = matmul(w_group_channels, reshape_1)
            split = split(matmul, [1, 1, 4], dim=-2)
            getitem = split[0]
            reshape_2 = reshape(getitem, [2, 2, 1, 1, 180])
            reshape_3 = reshape(reshape_2, [2, 12, 6, 5])
            conv2d_1 = conv2d(reshape_3, w_group_conv_1, padding=[1, 1], groups=2)
            reshape_4 = reshape(conv2d_1, [2, 2, 1, 1, 7, 30])
            reshape_5 = reshape(reshape_4, [2, 2, 1, 210])
            getitem_1 = split[1]
            reshape_6 = reshape(getitem_1, [2, 2, 1, 1, 180])
            reshape_7 = reshape(reshape_6, [2, 12, 6, 5])
            conv2d_2 = conv2d(reshape_7, w_group_conv_2, padding=[1, 1], groups=2)
            reshape_8 = reshape(conv2d_2, [2, 2, 1, 1, 7, 30])
            reshape_9 = reshape(reshape_8, [2, 2, 1, 210])
            getitem_2 = split[2]
            reshape_10 = reshape(getitem_2, [2, 2, 2, 1, 360])
            permute = permute(reshape_10, [0, 2, 1, 3, 4])
            reshape_11 = reshape(permute, [4, 24, 6, 5])
            conv2d_3 = conv2d(reshape_11, w_group_conv_3, padding=[1, 1], groups=2)
            reshape_12 = reshape(conv2d_3, [2, 2, 2, 1, 14, 30])
            permute_1 = permute(reshape_12, [0, 2, 1, 3, 4, 5])
            reshape_13 = reshape(permute_1, [2, 2, 4, 210])
            concat = concat(reshape_5, reshape_9, reshape_13, dim=-2)
            matmul_1 = matmul(w_group_conv, concat)
            reshape_14 = reshape(matmul_1, [2, 2, 42, 30])
            reshape_15 = reshape(reshape_14, [2, 84, 6, 5])
            index_select_1 = index_select(reshape_15, -3, w_convolved_by_spaces_1)
            add = add(index_select_1, b_group_conv)
        """,
    ),
    *found(
        lambda m, x: F.conv1d(x, m.w, m.b, groups=2),
        SLOWEST_IN_TWO,
        (2, 120, 20),
        132,
        """
            reshape = reshape(x, [2, 2, 60, 20])
            reshape_1 = reshape(reshape, [2, 2, 6, 200])
            matmul = matmul(w_group_channels, reshape_1)
            split = split(matmul, [1, 1, 4], dim=-2)
            getitem = split[0]
            reshape_2 = reshape(getitem, [2, 2, 1, 1, 200])
            reshape_3 = reshape(reshape_2, [2, 20, 20])
            conv1d_1 = conv1d(reshape_3, w_group_conv_1, groups=2)
            reshape_4 = reshape(conv1d_1, [2, 2, 1, 1, 11, 17])
            reshape_5 = reshape(reshape_4, [2, 2, 1, 187])
            getitem_1 = split[1]
            reshape_6 = reshape(getitem_1, [2, 2, 1, 1, 200])
            reshape_7 = reshape(reshape_6, [2, 20, 20])
            conv1d_2 = conv1d(reshape_7, w_group_conv_2, groups=2)
            reshape_8 = reshape(conv1d_2, [2, 2, 1, 1, 11, 17])
            reshape_9 = reshape(reshape_8, [2, 2, 1, 187])
            getitem_2 = split[2]
            reshape_10 = reshape(getitem_2, [2, 2, 2, 1, 400])
            permute = permute(reshape_10, [0, 2, 1, 3, 4])
            reshape_11 = reshape(permute, [4, 40, 20])
            conv1d_3 = conv1d(reshape_11, w_group_conv_3, groups=2)
            reshape_12 = reshape(conv1d_3, [2, 2, 2, 1, 22, 17])
            permute_1 = permute(reshape_12, [0, 2, 1, 3, 4, 5])
            reshape_13 = reshape(permute_1, [2, 2, 4, 187])
            concat = concat(reshape_5, reshape_9, reshape_13, dim=-2)
            matmul_1 = matmul(w_group_conv, concat)
            reshape_14 = reshape(matmul_1, [2, 2, 66, 17])
            reshape_15 = reshape(reshape_14, [2, 132, 17])
            add = add(reshape_15, b_group_conv)
        """,
    ),
    leaves(
        RULE,
        lambda m, x: F.conv2d(x, m.w, padding=1, groups=2),
        (2, 72, 6, 5),
        w=APART,
        parameters=FEW,
        because="the channels of one of two groups have no symmetry",
    ),
    leaves(
        RULE,
        lambda m, x: F.conv2d(x, m.w, stride=2),
        (2, 168, 6, 5),
        w=PIXEL,
        parameters=FEW,
        because="most pixels that would be mixed are not read",
    ),
    *found(
        lambda m, x: F.conv2d(x, m.w, m.b, stride=(1, 2)),
        PIXEL,
        (2, 168, 5, 6),
        174,
        """
            slice_1 = slice(x, dim=-2, start=0, end=5)
            slice_2 = slice(slice_1, dim=-1, start=0, end=6, step=2)
            index_select = index_select(slice_2, -3, w_convolved_by_spaces)
            reshape = reshape(index_select, [2, 1, 168, 15])
            reshape_1 = reshape(reshape, [2, 1, 6, 420])
            matmul = matmul(w_group_channels, reshape_1)
            split = split(matmul, [1, 1, 4], dim=-2)
            getitem = split[0]
            reshape_2 = reshape(getitem, [2, 1, 1, 1, 420])
            reshape_3 = reshape(reshape_2, [2, 28, 5, 3])
            conv2d_1 = conv2d(reshape_3, w_group_conv_strided_1)
            reshape_4 = reshape(conv2d_1, [2, 1, 1, 1, 29, 15])
            reshape_5 = reshape(reshape_4, [2, 1, 1, 435])
            getitem_1 = split[1]
            reshape_6 = reshape(getitem_1, [2, 1, 1, 1, 420])
            reshape_7 = reshape(reshape_6, [2, 28, 5, 3])
            conv2d_2 = conv2d(reshape_7, w_group_conv_strided_2)
            reshape_8 = reshape(conv2d_2, [2, 1, 1, 1, 29, 15])
            reshape_9 = reshape(reshape_8, [2, 1, 1, 435])
            getitem_2 = split[2]
            reshape_10 = reshape(getitem_2, [2, 1, 2, 1, 840])
            reshape_11 = reshape(reshape_10, [4, 56, 5, 3])
            conv2d_3 = conv2d(reshape_11, w_group_conv_strided_3)
            reshape_12 = reshape(conv2d_3, [2, 1, 2, 1, 58, 15])
            reshape_13 = reshape(reshape_12, [2, 1, 4, 435])
            concat = concat(reshape_5, reshape_9, reshape_13, dim=-2)
            matmul_1 = matmul(w_group_conv_strided, concat)
            reshape_14 = reshape(matmul_1, [2, 1, 174, 15])
            reshape_15 = reshape(reshape_14, [2, 174, 5, 3])
            index_select_1 = index_select(reshape_15, -3, w_convolved_by_spaces_1)
            add = add(index_select_1, b_group_conv_strided)
        """,
        STRIDED,
    ),
    leaves(
        STRIDED,
        lambda m, x: F.conv2d(x, m.w),
        (2, 168, 6, 5),
        w=PIXEL,
        parameters=FEW,
        because="it has no stride",
    ),
    leaves(
        STRIDED,
        lambda m, x: F.conv2d(x, m.w, stride=2, padding=1),
        (2, 168, 6, 5),
        w=PIXEL,
        parameters=FEW,
        because="some pixels are borders",
    ),
    *found(
        lambda m, x: F.conv_transpose2d(x, m.w, m.b, stride=2, padding=1, output_padding=1),
        UP,
        (2, 72, 4, 5),
        78,
        f"""
            index_select = index_select(x, -3, w_transposed_by_spaces)
            reshape = reshape(index_select, [2, 1, 72, 20])
            reshape_1 = reshape(reshape, [2, 1, 6, 240])
            matmul = matmul(w_group_channels, reshape_1)
            split = split(matmul, [1, 1, 4], dim=-2)
            getitem = split[0]
            reshape_2 = reshape(getitem, [2, 1, 1, 1, 240])
            reshape_3 = reshape(reshape_2, [2, 12, 4, 5])
            conv_transpose2d_1 = conv_transpose2d(reshape_3, w_group_conv_transposed_1, {TWICE})
            reshape_4 = reshape(conv_transpose2d_1, [2, 1, 1, 1, 13, 80])
            reshape_5 = reshape(reshape_4, [2, 1, 1, 1040])
            getitem_1 = split[1]
            reshape_6 = reshape(getitem_1, [2, 1, 1, 1, 240])
            reshape_7 = reshape(reshape_6, [2, 12, 4, 5])
            conv_transpose2d_2 = conv_transpose2d(reshape_7, w_group_conv_transposed_2, {TWICE})
            reshape_8 = reshape(conv_transpose2d_2, [2, 1, 1, 1, 13, 80])
            reshape_9 = reshape(reshape_8, [2, 1, 1, 1040])
            getitem_2 = split[2]
            reshape_10 = reshape(getitem_2, [2, 1, 2, 1, 480])
            reshape_11 = reshape(reshape_10, [4, 24, 4, 5])
            conv_transpose2d_3 = conv_transpose2d(reshape_11, w_group_conv_transposed_3, {TWICE})
            reshape_12 = reshape(conv_transpose2d_3, [2, 1, 2, 1, 26, 80])
            reshape_13 = reshape(reshape_12, [2, 1, 4, 1040])
            concat = concat(reshape_5, reshape_9, reshape_13, dim=-2)
            matmul_1 = matmul(w_group_conv_transposed, concat)
            reshape_14 = reshape(matmul_1, [2, 1, 78, 80])
            reshape_15 = reshape(reshape_14, [2, 78, 8, 10])
            index_select_1 = index_select(reshape_15, -3, w_transposed_by_spaces_1)
            add = add(index_select_1, b_group_conv_transposed)
        """,
        TRANSPOSED,
    ),
    *found(
        lambda m, x: F.conv_transpose1d(x, m.w, m.b, dilation=2, groups=2),
        UP_IN_TWO,
        (2, 120, 9),
        132,
        f"""
            index_select = index_select(x, -2, w_transposed_by_spaces)
            reshape = reshape(index_select, [2, 2, 60, 9])
            reshape_1 = reshape(reshape, [2, 2, 6, 90])
            matmul = matmul(w_group_channels, reshape_1)
            split = split(matmul, [1, 1, 4], dim=-2)
            getitem = split[0]
            reshape_2 = reshape(getitem, [2, 2, 1, 1, 90])
            reshape_3 = reshape(reshape_2, [2, 20, 9])
            conv_transpose1d_1 = conv_transpose1d(reshape_3, w_group_conv_transposed_1, {AGAIN})
            reshape_4 = reshape(conv_transpose1d_1, [2, 2, 1, 1, 11, 15])
            reshape_5 = reshape(reshape_4, [2, 2, 1, 165])
            getitem_1 = split[1]
            reshape_6 = reshape(getitem_1, [2, 2, 1, 1, 90])
            reshape_7 = reshape(reshape_6, [2, 20, 9])
            conv_transpose1d_2 = conv_transpose1d(reshape_7, w_group_conv_transposed_2, {AGAIN})
            reshape_8 = reshape(conv_transpose1d_2, [2, 2, 1, 1, 11, 15])
            reshape_9 = reshape(reshape_8, [2, 2, 1, 165])
            getitem_2 = split[2]
            reshape_10 = reshape(getitem_2, [2, 2, 2, 1, 180])
            permute = permute(reshape_10, [0, 2, 1, 3, 4])
            reshape_11 = reshape(permute, [4, 40, 9])
            conv_transpose1d_3 = conv_transpose1d(reshape_11, w_group_conv_transposed_3, {AGAIN})
            reshape_12 = reshape(conv_transpose1d_3, [2, 2, 2, 1, 22, 15])
            permute_1 = permute(reshape_12, [0, 2, 1, 3, 4, 5])
            reshape_13 = reshape(permute_1, [2, 2, 4, 165])
            concat = concat(reshape_5, reshape_9, reshape_13, dim=-2)
            matmul_1 = matmul(w_group_conv_transposed, concat)
            reshape_14 = reshape(matmul_1, [2, 2, 66, 15])
            reshape_15 = reshape(reshape_14, [2, 132, 15])
            index_select_1 = index_select(reshape_15, -2, w_transposed_by_spaces_1)
            add = add(index_select_1, b_group_conv_transposed)
        """,
        TRANSPOSED,
    ),
]
