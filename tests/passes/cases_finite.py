"""Cases of `passes/decompose/finite*.tdsl`: weights that commute with a finite group, and others."""

import torch
import torch.nn.functional as F
from rule_cases import Case, fires, leaves, number
from torch import Tensor
from torch.export import Dim

from tdsl.factor.group_svd import group_svd
from tdsl.factor.rank import Energy, Error
from tdsl.symmetry.finite import reynolds
from tdsl.symmetry.group import Group, cyclic, dihedral
from tdsl.symmetry.representation import copies, regular

FULL = 1e-9
SMALL = {"saved": 1}
"""The extra operators do not matter here."""
FEW = {**SMALL, "each": 0}
"""Nor do passes over images."""


def planted(group: Group, channels_in: int, channels_out: int, *, last: bool = True) -> Tensor:
    """A random weight that commutes with a group, channels running fastest unless `last` is false."""
    places = regular(group)
    inner, out = (copies(places, c, inside=last) for c in (channels_in, channels_out))
    return reynolds(number(out.size, inner.size), out, inner)


def low_rank_of(weight: Tensor) -> Tensor:
    """The nearest weight of rank 9 that commutes with the same group."""
    left, right = group_svd(weight, 9)
    return left @ right


TURNS = planted(cyclic(4), 16, 12)
INSIDE = planted(cyclic(4), 16, 12, last=False)
SQUARE = planted(dihedral(4), 6, 5)


def found(
    rule: str, weight: Tensor, rank: object, *leading: int, bias: Tensor | None = None, expect: str = ""
) -> Case:
    """The rule finds the group."""
    return fires(
        f"decompose.finite.{rule}",
        lambda m, x: F.linear(x, m.w, m.b),
        (*leading, weight.shape[1]),
        w=weight,
        b=number(len(weight)) if bias is None else bias,
        parameters={"rank": rank, **SMALL},
        precision=FULL,
        expect=expect,
    )


def left(rule: str, weight: Tensor, because: str, bias: Tensor | None = None, **parameters: object) -> Case:
    """The rule leaves a layer of that weight alone."""
    return leaves(
        f"decompose.finite.{rule}",
        lambda m, x: F.linear(x, m.w, m.b),
        (3, weight.shape[1]),
        w=weight,
        b=bias,
        parameters={**SMALL, **parameters},
        because=because,
    )


def both_ways(rule: str, weight: Tensor, few: str, one_row: str, bias: Tensor | None = None) -> list[Case]:
    """Positive cases of two ranks and batches, and what each rule must leave alone."""
    other = number(*weight.shape)
    return [
        found(rule, weight, Error(1e-6), 3, bias=bias, expect=few),
        found(rule, weight, Energy(1 - 1e-12), 3, bias=bias, expect=few),
        found(rule, weight, Error(1e-6), 1, bias=bias, expect=one_row),
        left(rule, other, "it has no group", bias),
        left(rule, number(11, 7), "prime sizes have no places and channels"),
        left(rule, weight + 1e-3 * other, "it is only nearly symmetric", bias),
        left(rule, weight, "so few channels are faster as they are", bias, saved=100_000),
        leaves(
            f"decompose.finite.{rule}",
            lambda m, x: F.linear(F.linear(x, m.w, m.b), m.w.T),
            (3, weight.shape[1]),
            w=weight,
            b=bias,
            parameters=SMALL,
            because="the weight is tied",
        ),
    ]


LOW = low_rank_of(planted(dihedral(4), 6, 5))
TWO = """
    linear_1 = linear(x, w_group_svd)
    linear_2 = linear(linear_1, w_group_svd_1, b)
"""
LOW_RANK = [
    fires(
        "decompose.finite.group_svd_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        (3, 48),
        w=LOW,
        b=number(40),
        precision=FULL,
        expect=TWO,
    ),
    *(
        leaves("decompose.finite.group_svd_linear", forward, (3, 48), w=weight, because=because)
        for forward, weight, because in (
            (lambda m, x: F.linear(x, m.w), SQUARE, "all of its rank is too much"),
            (lambda m, x: F.linear(F.linear(x, m.w), m.w.T), LOW, "the weight is tied"),
        )
    ),
]

TRIANGLE = planted(dihedral(3), 32, 32)[:, :, None, None]


def pixelwise(weight: Tensor, because: str, **parameters: object) -> Case:
    """A 1×1 convolution of that weight is left alone."""
    return leaves(
        "decompose.finite_conv.group_conv",
        lambda m, x: F.conv2d(x, m.w),
        (2, weight.shape[1], 12, 10),
        w=weight,
        parameters={**FEW, **parameters},
        because=because,
    )


PIXELS = [
    fires(
        "decompose.finite_conv.group_conv",
        lambda m, x: F.conv2d(x, m.w, m.b),
        (2, 192, 12, 10),
        w=TRIANGLE,
        b=number(192),
        parameters=FEW,
        precision=FULL,
        expect="""
            reshape = reshape(x, [2, 1, 192, 120])
            reshape_1 = reshape(reshape, [2, 1, 6, 3840])
            matmul = matmul(w_group_channels, reshape_1)
            split = split(matmul, [2, 4], dim=-2)
            getitem = split[0]
            reshape_2 = reshape(getitem, [2, 1, 1, 2, 3840])
            reshape_3 = reshape(reshape_2, [2, 64, 12, 10])
            conv2d_1 = conv2d(reshape_3, w_group_conv_1, groups=2)
            reshape_4 = reshape(conv2d_1, [2, 1, 1, 2, 32, 120])
            reshape_5 = reshape(reshape_4, [2, 1, 2, 3840])
            getitem_1 = split[1]
            reshape_6 = reshape(getitem_1, [2, 1, 2, 1, 7680])
            reshape_7 = reshape(reshape_6, [4, 64, 12, 10])
            conv2d_2 = conv2d(reshape_7, w_group_conv_2)
            reshape_8 = reshape(conv2d_2, [2, 1, 2, 1, 64, 120])
            reshape_9 = reshape(reshape_8, [2, 1, 4, 3840])
            concat = concat(reshape_5, reshape_9, dim=-2)
            matmul_1 = matmul(w_group_conv, concat)
            reshape_10 = reshape(matmul_1, [2, 1, 192, 120])
            reshape_11 = reshape(reshape_10, [2, 192, 12, 10])
            add = add(reshape_11, b_group_conv)
        """,
    ),
    pixelwise(number(192, 192, 1, 1), "it has no group"),
    pixelwise(planted(cyclic(2), 64, 64)[:, :, None, None], "a mirror saves no more than the passes cost"),
    pixelwise(TRIANGLE, "the passes cost more", each=100),
    pixelwise(TRIANGLE, "so few pixels are faster as they are", saved=2**30),
    pixelwise(TRIANGLE + 1e-3 * number(192, 192, 1, 1), "it is only nearly symmetric"),
]

ALIKE = "group_linear_alike"
FIVE = number(5).repeat(8)
"""A bias of five channels that all eight places share."""
FEW_OR_MANY = """
    sym_size_int = size(x, 0)
    reshape = reshape(x, [-1, 4, 16])
    matmul = matmul(w_group_spaces, reshape)
    reshape_1 = reshape(matmul, [-1, 80])
    split = split(reshape_1, [16, 16, 16, 16, 16], dim=-1)
    getitem = split[0]
    linear_1 = linear(getitem, w_group_linear_1)
    getitem_1 = split[1]
    linear_2 = linear(getitem_1, w_group_linear_2)
    getitem_2 = split[2]
    linear_3 = linear(getitem_2, w_group_linear_3)
    getitem_3 = split[3]
    linear_4 = linear(getitem_3, w_group_linear_4)
    getitem_4 = split[4]
    linear_5 = linear(getitem_4, w_group_linear_5)
    concat = concat(linear_1, linear_2, linear_3, linear_4, linear_5, dim=-1)
    reshape_2 = reshape(concat, [-1, 5, 12])
    matmul_1 = matmul(w_group_linear, reshape_2)
    reshape_3 = reshape(matmul_1, [-1, 48])
    reshape_4 = reshape(reshape_3, [sym_size_int, 48])
"""
IN_A_LINE = """
    reshape = reshape(x, [3, 8, 6])
    matmul = matmul(w_group_spaces, reshape)
    reshape_1 = reshape(matmul, [3, 48])
    split = split(reshape_1, [6, 6, 6, 6, 24], dim=-1)
    getitem = split[0]
    linear_1 = linear(getitem, w_group_linear_alike_1, b_repeated)
    getitem_1 = split[1]
    linear_2 = linear(getitem_1, w_group_linear_alike_2)
    getitem_2 = split[2]
    linear_3 = linear(getitem_2, w_group_linear_alike_3)
    getitem_3 = split[3]
    linear_4 = linear(getitem_3, w_group_linear_alike_4)
    getitem_4 = split[4]
    reshape_2 = reshape(getitem_4, [6, 12])
    matmul_1 = matmul(reshape_2, w_group_linear_alike_5)
    reshape_3 = reshape(matmul_1, [3, 20])
    concat = concat(linear_1, linear_2, linear_3, linear_4, reshape_3, dim=-1)
    reshape_4 = reshape(concat, [3, 8, 5])
    matmul_2 = matmul(w_group_linear_alike, reshape_4)
    reshape_5 = reshape(matmul_2, [3, 40])
    reshape_6 = reshape(reshape_5, [3, 40])
"""
IN_A_BATCH = """
    reshape = reshape(x, [1, 8, 6])
    matmul = matmul(w_group_linear_alike_1, reshape)
    reshape_1 = reshape(matmul, [1, 4, 6])
    permute = permute(reshape_1, [1, 0, 2])
    reshape_2 = reshape(permute, [4, 1, 6])
    matmul_1 = matmul(reshape_2, w_group_linear_alike_2)
    reshape_3 = reshape(matmul_1, [4, 1, 5])
    permute_1 = permute(reshape_3, [1, 0, 2])
    reshape_4 = reshape(permute_1, [1, 20])
    matmul_2 = matmul(w_group_linear_alike_3, reshape)
    reshape_5 = reshape(matmul_2, [2, 12])
    matmul_3 = matmul(reshape_5, w_group_linear_alike_4)
    reshape_6 = reshape(matmul_3, [1, 20])
    concat = concat(reshape_4, reshape_6, dim=-1)
    reshape_7 = reshape(concat, [1, 8, 5])
    matmul_4 = matmul(w_group_linear_alike, reshape_7)
    reshape_8 = reshape(matmul_4, [1, 40])
    add = add(reshape_8, b_group_linear_alike)
    reshape_9 = reshape(add, [1, 40])
"""
IN_BLOCKS = """
    reshape = reshape(x, [8400, 8, 6])
    split = split(reshape, [4200, 4200], dim=-3)
    getitem = split[0]
    matmul = matmul(w_group_spaces, getitem)
    reshape_1 = reshape(matmul, [4200, 48])
    split_1 = split(reshape_1, [6, 6, 6, 6, 24], dim=-1)
    getitem_1 = split_1[0]
    linear_1 = linear(getitem_1, w_group_linear_alike_1, b_repeated)
    getitem_2 = split_1[1]
    linear_2 = linear(getitem_2, w_group_linear_alike_2)
    getitem_3 = split_1[2]
    linear_3 = linear(getitem_3, w_group_linear_alike_3)
    getitem_4 = split_1[3]
    linear_4 = linear(getitem_4, w_group_linear_alike_4)
    getitem_5 = split_1[4]
    reshape_2 = reshape(getitem_5, [8400, 12])
    matmul_1 = matmul(reshape_2, w_group_linear_alike_5)
    reshape_3 = reshape(matmul_1, [4200, 20])
    concat = concat(linear_1, linear_2, linear_3, linear_4, reshape_3, dim=-1)
    reshape_4 = reshape(concat, [4200, 8, 5])
    matmul_2 = matmul(w_group_linear_alike, reshape_4)
    reshape_5 = reshape(matmul_2, [4200, 40])
    getitem_6 = split[1]
    matmul_3 = matmul(w_group_spaces, getitem_6)
    reshape_6 = reshape(matmul_3, [4200, 48])
    split_2 = split(reshape_6, [6, 6, 6, 6, 24], dim=-1)
    getitem_7 = split_2[0]
    linear_5 = linear(getitem_7, w_group_linear_alike_1, b_repeated)
    getitem_8 = split_2[1]
    linear_6 = linear(getitem_8, w_group_linear_alike_2)
    getitem_9 = split_2[2]
    linear_7 = linear(getitem_9, w_group_linear_alike_3)
    getitem_10 = split_2[3]
    linear_8 = linear(getitem_10, w_group_linear_alike_4)
    getitem_11 = split_2[4]
    reshape_7 = reshape(getitem_11, [8400, 12])
    matmul_4 = matmul(reshape_7, w_group_linear_alike_5)
    reshape_8 = reshape(matmul_4, [4200, 20])
    concat_1 = concat(linear_5, linear_6, linear_7, linear_8, reshape_8, dim=-1)
    reshape_9 = reshape(concat_1, [4200, 8, 5])
    matmul_5 = matmul(w_group_linear_alike, reshape_9)
    reshape_10 = reshape(matmul_5, [4200, 40])
    concat_2 = concat(reshape_5, reshape_10, dim=-2)
    reshape_11 = reshape(concat_2, [8400, 40])
"""
AT_EACH_PLACE = """
    reshape = reshape(x, [3, 42, 3])
    matmul = matmul(w_group_spaces, reshape)
    reshape_1 = reshape(matmul, [3, 18])
    split = split(reshape_1, [3, 15], dim=-1)
    getitem = split[0]
    linear_1 = linear(getitem, w_group_linear_1)
    getitem_1 = split[1]
    reshape_2 = reshape(getitem_1, [15, 3])
    matmul_1 = matmul(reshape_2, w_group_linear_2)
    reshape_3 = reshape(matmul_1, [3, 15])
    concat = concat(linear_1, reshape_3, dim=-1)
    reshape_4 = reshape(concat, [3, 6, 3])
    matmul_2 = matmul(w_group_linear, reshape_4)
    matmul_3 = matmul(reshape, w_group_linear_3)
    index_select = index_select(matmul_3, -2, w_space_products)
    add = add(matmul_2, index_select)
    reshape_5 = reshape(add, [3, 126])
    reshape_6 = reshape(reshape_5, [3, 126])
    add_1 = add(reshape_6, b)
"""
WITH_SIGNS = """
    reshape = reshape(x, [3, 8, 6])
    matmul = matmul(w_group_spaces, reshape)
    reshape_1 = reshape(matmul, [3, 48])
    split = split(reshape_1, [6, 6, 6, 6, 24], dim=-1)
    getitem = split[0]
    linear_1 = linear(getitem, w_group_linear_1)
    getitem_1 = split[1]
    linear_2 = linear(getitem_1, w_group_linear_2)
    getitem_2 = split[2]
    linear_3 = linear(getitem_2, w_group_linear_3)
    getitem_3 = split[3]
    linear_4 = linear(getitem_3, w_group_linear_4)
    getitem_4 = split[4]
    reshape_2 = reshape(getitem_4, [6, 12])
    matmul_1 = matmul(reshape_2, w_group_linear_5)
    reshape_3 = reshape(matmul_1, [3, 20])
    concat = concat(linear_1, linear_2, linear_3, linear_4, reshape_3, dim=-1)
    reshape_4 = reshape(concat, [3, 8, 5])
    matmul_2 = matmul(w_group_linear, reshape_4)
    reshape_5 = reshape(matmul_2, [3, 40])
    reshape_6 = reshape(reshape_5, [3, 40])
    add = add(reshape_6, b)
"""
ADDED_TO_THE_SUM = """
    reshape = reshape(x, [3, 42, 3])
    matmul = matmul(w_group_spaces, reshape)
    reshape_1 = reshape(matmul, [3, 18])
    split = split(reshape_1, [3, 15], dim=-1)
    getitem = split[0]
    linear_1 = linear(getitem, w_group_linear_alike_1, b_repeated)
    getitem_1 = split[1]
    reshape_2 = reshape(getitem_1, [15, 3])
    matmul_1 = matmul(reshape_2, w_group_linear_alike_2)
    reshape_3 = reshape(matmul_1, [3, 15])
    concat = concat(linear_1, reshape_3, dim=-1)
    reshape_4 = reshape(concat, [3, 6, 3])
    matmul_2 = matmul(w_group_linear_alike, reshape_4)
    matmul_3 = matmul(reshape, w_group_linear_alike_3)
    index_select = index_select(matmul_3, -2, w_space_products)
    add = add(matmul_2, index_select)
    reshape_5 = reshape(add, [3, 126])
    reshape_6 = reshape(reshape_5, [3, 126])
"""
TURNED = """
    reshape = reshape(x, [3, 4, 16])
    matmul = matmul(w_group_spaces, reshape)
    reshape_1 = reshape(matmul, [3, 80])
    split = split(reshape_1, [16, 16, 16, 16, 16], dim=-1)
    getitem = split[0]
    linear_1 = linear(getitem, w_group_linear_1)
    getitem_1 = split[1]
    linear_2 = linear(getitem_1, w_group_linear_2)
    getitem_2 = split[2]
    linear_3 = linear(getitem_2, w_group_linear_3)
    getitem_3 = split[3]
    linear_4 = linear(getitem_3, w_group_linear_4)
    getitem_4 = split[4]
    linear_5 = linear(getitem_4, w_group_linear_5)
    concat = concat(linear_1, linear_2, linear_3, linear_4, linear_5, dim=-1)
    reshape_2 = reshape(concat, [3, 5, 12])
    matmul_1 = matmul(w_group_linear, reshape_2)
    reshape_3 = reshape(matmul_1, [3, 48])
    reshape_4 = reshape(reshape_3, [3, 48])
    add = add(reshape_4, b)
"""
TURNED_ROW = """
    reshape = reshape(x, [1, 4, 16])
    matmul = matmul(w_group_linear_1, reshape)
    reshape_1 = reshape(matmul, [1, 5, 16])
    permute = permute(reshape_1, [1, 0, 2])
    reshape_2 = reshape(permute, [5, 1, 16])
    matmul_1 = matmul(reshape_2, w_group_linear_2)
    reshape_3 = reshape(matmul_1, [5, 1, 12])
    permute_1 = permute(reshape_3, [1, 0, 2])
    reshape_4 = reshape(permute_1, [1, 60])
    reshape_5 = reshape(reshape_4, [1, 5, 12])
    matmul_2 = matmul(w_group_linear, reshape_5)
    reshape_6 = reshape(matmul_2, [1, 48])
    reshape_7 = reshape(reshape_6, [1, 48])
    add = add(reshape_7, b)
"""
INSIDE_FEW = """
    reshape = reshape(x, [3, 16, 4])
    permute = permute(reshape, [0, 2, 1])
    matmul = matmul(w_group_spaces_inside, permute)
    reshape_1 = reshape(matmul, [3, 80])
    split = split(reshape_1, [16, 16, 16, 16, 16], dim=-1)
    getitem = split[0]
    linear_1 = linear(getitem, w_group_linear_inside_1)
    getitem_1 = split[1]
    linear_2 = linear(getitem_1, w_group_linear_inside_2)
    getitem_2 = split[2]
    linear_3 = linear(getitem_2, w_group_linear_inside_3)
    getitem_3 = split[3]
    linear_4 = linear(getitem_3, w_group_linear_inside_4)
    getitem_4 = split[4]
    linear_5 = linear(getitem_4, w_group_linear_inside_5)
    concat = concat(linear_1, linear_2, linear_3, linear_4, linear_5, dim=-1)
    reshape_2 = reshape(concat, [3, 5, 12])
    matmul_1 = matmul(w_group_linear_inside, reshape_2)
    reshape_3 = reshape(matmul_1, [3, 48])
    reshape_4 = reshape(reshape_3, [3, 4, 12])
    permute_1 = permute(reshape_4, [0, 2, 1])
    reshape_5 = reshape(permute_1, [3, 48])
    add = add(reshape_5, b)
"""
INSIDE_ROW = """
    reshape = reshape(x, [1, 16, 4])
    permute = permute(reshape, [0, 2, 1])
    matmul = matmul(w_group_linear_inside_1, permute)
    reshape_1 = reshape(matmul, [1, 5, 16])
    permute_1 = permute(reshape_1, [1, 0, 2])
    reshape_2 = reshape(permute_1, [5, 1, 16])
    matmul_1 = matmul(reshape_2, w_group_linear_inside_2)
    reshape_3 = reshape(matmul_1, [5, 1, 12])
    permute_2 = permute(reshape_3, [1, 0, 2])
    reshape_4 = reshape(permute_2, [1, 60])
    reshape_5 = reshape(reshape_4, [1, 5, 12])
    matmul_2 = matmul(w_group_linear_inside, reshape_5)
    reshape_6 = reshape(matmul_2, [1, 48])
    reshape_7 = reshape(reshape_6, [1, 4, 12])
    permute_3 = permute(reshape_7, [0, 2, 1])
    reshape_8 = reshape(permute_3, [1, 48])
    add = add(reshape_8, b)
"""
ANY_ROWS = fires(
    "decompose.finite.group_linear",
    lambda m, x: F.linear(x, m.w),
    (3, 64),
    w=TURNS,
    dynamic={"x": {0: Dim("batch")}},
    parameters=SMALL,
    precision=FULL,
    expect=FEW_OR_MANY,
)

SHARED_BIAS = [
    *both_ways(ALIKE, SQUARE, IN_A_LINE, IN_A_BATCH, FIVE),
    found(ALIKE, SQUARE, Error(1e-6), 3, bias=FIVE + 1e-10 * number(40), expect=IN_A_LINE),
    found(ALIKE, SQUARE, Error(1e-6), 8400, bias=FIVE, expect=IN_BLOCKS),
    left(ALIKE, SQUARE, "places have biases of their own", number(40)),
    left(ALIKE, SQUARE, "one place has a bias of its own", FIVE + 1e-4 * (torch.arange(40) < 5)),
    left(ALIKE, SQUARE, "there is no bias"),
]


def table(wreath: bool) -> Tensor:
    """A layer on tables of 6 × 7 places of 3 channels, in an order that nobody knows."""
    items, others = torch.eye(6, dtype=torch.float64), torch.eye(7, dtype=torch.float64)
    all_items, all_others = torch.ones_like(items), torch.ones_like(others)
    parts = [(items, others), (items, all_others), (all_items, all_others)]
    parts += [] if wreath else [(all_items, others)]
    random = torch.Generator().manual_seed(3)
    rows, columns = (torch.randperm(42, generator=random) for _ in range(2))
    return sum(torch.kron(torch.kron(a, b)[rows][:, columns], number(3, 3)) for a, b in parts)


SIGNS = torch.tensor([1, -1, -1, 1, 1, 1, -1, 1], dtype=torch.float64).repeat_interleave(5)[:, None]

SHUFFLED = [
    found("group_linear", table(True), Error(1e-6), 3, expect=AT_EACH_PLACE),
    found("group_linear", SIGNS * SQUARE, Error(1e-6), 3, expect=WITH_SIGNS),
    found(ALIKE, table(True), Error(1e-6), 3, bias=number(3).repeat(42), expect=ADDED_TO_THE_SUM),
    left("group_linear", table(True) + 1e-4 * number(126, 126), "it is nearly a table"),
]

CASES = [
    ANY_ROWS,
    *PIXELS,
    *LOW_RANK,
    *SHARED_BIAS,
    *SHUFFLED,
    left("group_linear", SQUARE, "small matrices take as long for six channels as for 16", saved=2),
    *both_ways("group_linear", TURNS, TURNED, TURNED_ROW),
    *both_ways("group_linear_inside", INSIDE, INSIDE_FEW, INSIDE_ROW),
]
