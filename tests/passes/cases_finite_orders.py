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
    return torch.stack([reynolds(number(out.size, inner.size), out, inner) for _ in range(taps)], 2)


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
            index_select = index_select(reshape, -1, w_channels_at)
            reshape_1 = reshape(index_select, [3, 6, 8])
            matmul = matmul(w_group_spaces_anywhere, reshape_1)
            reshape_2 = reshape(matmul, [3, 48])
            split = split(reshape_2, [8, 8, 32], dim=-1)
            getitem = split[0]
            linear_1 = linear(getitem, w_group_linear_anywhere_1)
            getitem_1 = split[1]
            linear_2 = linear(getitem_1, w_group_linear_anywhere_2)
            getitem_2 = split[2]
            reshape_3 = reshape(getitem_2, [6, 16])
            matmul_1 = matmul(reshape_3, w_group_linear_anywhere_3)
            reshape_4 = reshape(matmul_1, [3, 36])
            concat = concat(linear_1, linear_2, reshape_4, dim=-1)
            reshape_5 = reshape(concat, [3, 6, 9])
            matmul_2 = matmul(w_group_linear_anywhere, reshape_5)
            reshape_6 = reshape(matmul_2, [3, 54])
            index_select_1 = index_select(reshape_6, -1, w_channels_at_1)
            reshape_7 = reshape(index_select_1, [3, 54])
            add = add(reshape_7, b)
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
            index_select = index_select(reshape, -1, w_channels_at)
            reshape_1 = reshape(index_select, [6, 6, 13])
            matmul = matmul(w_group_spaces_anywhere, reshape_1)
            reshape_2 = reshape(matmul, [6, 78])
            split = split(reshape_2, [13, 13, 52], dim=-1)
            getitem = split[0]
            linear_1 = linear(getitem, w_group_linear_anywhere_1)
            getitem_1 = split[1]
            linear_2 = linear(getitem_1, w_group_linear_anywhere_2)
            getitem_2 = split[2]
            reshape_3 = reshape(getitem_2, [12, 26])
            matmul_1 = matmul(reshape_3, w_group_linear_anywhere_3)
            reshape_4 = reshape(matmul_1, [6, 44])
            concat = concat(linear_1, linear_2, reshape_4, dim=-1)
            reshape_5 = reshape(concat, [6, 6, 11])
            matmul_2 = matmul(w_group_linear_anywhere, reshape_5)
            reshape_6 = reshape(matmul_2, [6, 66])
            index_select_1 = index_select(reshape_6, -1, w_channels_at_1)
            reshape_7 = reshape(index_select_1, [2, 3, 63])
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
            index_select = index_select(x, -3, w_places_read)
            reshape = reshape(index_select, [2, 6, 840])
            matmul = matmul(w_group_channels_1, reshape)
            reshape_1 = reshape(matmul, [2, 252, 6, 5])
            conv2d_1 = conv2d(reshape_1, w_group_conv, groups=9)
            reshape_2 = reshape(conv2d_1, [2, 9, 870])
            matmul_1 = matmul(w_group_channels, reshape_2)
            reshape_3 = reshape(matmul_1, [2, 174, 6, 5])
            index_select_1 = index_select(reshape_3, -3, w_places_written)
            add = add(index_select_1, b_group_conv)
        """,
    ),
    *found(
        lambda m, x: F.conv2d(x, m.w),
        WINDOW,
        (2, 60, 6, 5),
        None,
        """
            index_select = index_select(x, -3, w_places_read)
            reshape = reshape(index_select, [2, 6, 300])
            matmul = matmul(w_group_channels_1, reshape)
            reshape_1 = reshape(matmul, [2, 90, 6, 5])
            conv2d_1 = conv2d(reshape_1, w_group_conv, groups=9)
            reshape_2 = reshape(conv2d_1, [2, 9, 220])
            matmul_1 = matmul(w_group_channels, reshape_2)
            reshape_3 = reshape(matmul_1, [2, 66, 5, 4])
            index_select_1 = index_select(reshape_3, -3, w_places_written)
        """,
    ),
    *found(
        lambda m, x: F.conv2d(x, m.w, m.b, padding=1),
        FIELDS,
        (2, 73, 6, 5),
        63,
        """
            index_select = index_select(x, -3, w_places_read)
            reshape = reshape(index_select, [2, 6, 390])
            matmul = matmul(w_group_channels_1, reshape)
            reshape_1 = reshape(matmul, [2, 117, 6, 5])
            conv2d_1 = conv2d(reshape_1, w_group_conv, padding=[1, 1], groups=9)
            reshape_2 = reshape(conv2d_1, [2, 9, 330])
            matmul_1 = matmul(w_group_channels, reshape_2)
            reshape_3 = reshape(matmul_1, [2, 66, 6, 5])
            index_select_1 = index_select(reshape_3, -3, w_places_written)
            add = add(index_select_1, b_group_conv)
        """,
    ),
    *found(
        lambda m, x: F.conv2d(x, m.w, m.b, padding=1, groups=2),
        FASTEST_IN_TWO,
        (2, 72, 6, 5),
        84,
        """
            index_select = index_select(x, -3, w_places_read)
            reshape = reshape(index_select, [2, 6, 360])
            matmul = matmul(w_group_channels_1, reshape)
            reshape_1 = reshape(matmul, [2, 108, 6, 5])
            conv2d_1 = conv2d(reshape_1, w_group_conv, padding=[1, 1], groups=18)
            reshape_2 = reshape(conv2d_1, [2, 9, 420])
            matmul_1 = matmul(w_group_channels, reshape_2)
            reshape_3 = reshape(matmul_1, [2, 84, 6, 5])
            index_select_1 = index_select(reshape_3, -3, w_places_written)
            add = add(index_select_1, b_group_conv)
        """,
    ),
    *found(
        lambda m, x: F.conv1d(x, m.w, m.b, groups=2),
        SLOWEST_IN_TWO,
        (2, 120, 20),
        132,
        """
            index_select = index_select(x, -2, w_places_read)
            reshape = reshape(index_select, [2, 6, 400])
            matmul = matmul(w_group_channels_1, reshape)
            reshape_1 = reshape(matmul, [2, 180, 20])
            conv1d_1 = conv1d(reshape_1, w_group_conv, groups=18)
            reshape_2 = reshape(conv1d_1, [2, 9, 374])
            matmul_1 = matmul(w_group_channels, reshape_2)
            reshape_3 = reshape(matmul_1, [2, 132, 17])
            index_select_1 = index_select(reshape_3, -2, w_places_written)
            add = add(index_select_1, b_group_conv)
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
            index_select = index_select(slice_2, -3, w_places_read)
            reshape = reshape(index_select, [2, 6, 420])
            matmul = matmul(w_group_channels_1, reshape)
            reshape_1 = reshape(matmul, [2, 252, 5, 3])
            conv2d_1 = conv2d(reshape_1, w_group_conv_strided, groups=9)
            reshape_2 = reshape(conv2d_1, [2, 9, 435])
            matmul_1 = matmul(w_group_channels, reshape_2)
            reshape_3 = reshape(matmul_1, [2, 174, 5, 3])
            index_select_1 = index_select(reshape_3, -3, w_places_written)
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
            index_select = index_select(x, -3, w_places_read)
            reshape = reshape(index_select, [2, 6, 240])
            matmul = matmul(w_group_channels_1, reshape)
            reshape_1 = reshape(matmul, [2, 108, 4, 5])
            conv_transpose2d_1 = conv_transpose2d(reshape_1, w_group_conv_transposed, {TWICE}, groups=9)
            reshape_2 = reshape(conv_transpose2d_1, [2, 9, 1040])
            matmul_1 = matmul(w_group_channels, reshape_2)
            reshape_3 = reshape(matmul_1, [2, 78, 8, 10])
            index_select_1 = index_select(reshape_3, -3, w_places_written)
            add = add(index_select_1, b_group_conv_transposed)
        """,
        TRANSPOSED,
    ),
    *found(
        lambda m, x: F.conv_transpose1d(x, m.w, m.b, dilation=2, groups=2),
        UP_IN_TWO,
        (2, 120, 9),
        132,
        """
            index_select = index_select(x, -2, w_places_read)
            reshape = reshape(index_select, [2, 6, 180])
            matmul = matmul(w_group_channels_1, reshape)
            reshape_1 = reshape(matmul, [2, 180, 9])
            conv_transpose1d_1 = conv_transpose1d(reshape_1, w_group_conv_transposed, groups=18, dilation=[2])
            reshape_2 = reshape(conv_transpose1d_1, [2, 9, 330])
            matmul_1 = matmul(w_group_channels, reshape_2)
            reshape_3 = reshape(matmul_1, [2, 132, 15])
            index_select_1 = index_select(reshape_3, -2, w_places_written)
            add = add(index_select_1, b_group_conv_transposed)
        """,
        TRANSPOSED,
    ),
]
