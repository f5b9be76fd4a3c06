"""Cases of `passes/decompose/finite*.tdsl`: weights that commute with a finite group, and others."""

import math
import textwrap

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

PRODUCTS = """
    reshape = reshape(x, [$rows, 4, 16])
    matmul = matmul(w_group_blocks, reshape)
    permute = permute(matmul, [1, 0, 2])
    matmul_1 = matmul(permute, w_group_blocks_1)
    permute_1 = permute(matmul_1, [1, 0, 2])
    matmul_2 = matmul(w_group_linear, permute_1)
    reshape_1 = reshape(matmul_2, $shape)
    add = add(reshape_1, b)
"""
PRODUCTS_INSIDE = """
    reshape = reshape(x, [$rows, 16, 4])
    permute = permute(reshape, [0, 2, 1])
    matmul = matmul(w_group_linear_inside_1, permute)
    permute_1 = permute(matmul, [1, 0, 2])
    matmul_1 = matmul(permute_1, w_group_blocks_inside)
    permute_2 = permute(matmul_1, [1, 0, 2])
    matmul_2 = matmul(w_group_linear_inside, permute_2)
    permute_3 = permute(matmul_2, [0, 2, 1])
    reshape_1 = reshape(permute_3, $shape)
    add = add(reshape_1, b)
"""
ONE_ROW = """
    reshape = reshape(x, [1, 8, 6])
    matmul = matmul(w_$rule_1, reshape)
    permute = permute(matmul, [1, 0, 2])
    matmul_1 = matmul(permute, w_$rule_2)
    permute_1 = permute(matmul_1, [1, 0, 2])
    reshape_1 = reshape(permute_1, [1, 20])
    matmul_2 = matmul(w_$rule_3, reshape)
    reshape_2 = reshape(matmul_2, [2, 12])
    matmul_3 = matmul(reshape_2, w_$rule_4)
    reshape_3 = reshape(matmul_3, [1, 20])
    concat = concat(reshape_1, reshape_3, dim=-1)
    reshape_4 = reshape(concat, [1, 8, 5])
    matmul_4 = matmul(w_$rule, reshape_4)
"""
FLAT = "    reshape_5 = reshape(matmul_4, [1, 40])\n"
ONE_ROW_ADDED = ONE_ROW + FLAT + "    reshape_6 = reshape(reshape_5, $shape)\n    add = add(reshape_6, b)\n"
ONE_ROW_ALIKE = ONE_ROW + FLAT + "    add = add(reshape_5, b_$rule)\n    reshape_6 = reshape(add, $shape)\n"


def few(of: str, count: int, sizes: tuple[int, int], first: int) -> str:
    """A value in parts, and a dense layer for each; weights are numbered from `first`."""
    q, p = sizes
    lines = [f"reshape_1 = reshape({of}, [$rows, {count * q}])"]
    lines.append(f"split = split(reshape_1, {[q] * count}, dim=-1)")
    for place in range(count):
        part = "getitem" + (f"_{place}" if place else "")
        lines.append(f"{part} = split[{place}]")
        lines.append(f"linear_{place + 1} = linear({part}, w_$rule_{first + place})")
    layers = ", ".join(f"linear_{place + 1}" for place in range(count))
    lines.append(f"concat = concat({layers}, dim=-1)")
    lines.append(f"reshape_2 = reshape(concat, [$rows, {count}, {p}])")
    return "\n".join("    " + line for line in lines)


FEW = f"""
    reshape = reshape(x, [$rows, 4, 16])
    matmul = matmul(w_group_blocks, reshape)
{few("matmul", 5, (16, 12), 1)}
    matmul_1 = matmul(w_group_linear, reshape_2)
    reshape_3 = reshape(matmul_1, $shape)
    add = add(reshape_3, b)
"""
FEW_INSIDE = f"""
    reshape = reshape(x, [$rows, 16, 4])
    permute = permute(reshape, [0, 2, 1])
    matmul = matmul(w_group_linear_inside_1, permute)
{few("matmul", 5, (16, 12), 2)}
    matmul_1 = matmul(w_group_linear_inside, reshape_2)
    permute_1 = permute(matmul_1, [0, 2, 1])
    reshape_3 = reshape(permute_1, $shape)
    add = add(reshape_3, b)
"""
LINES = """
    reshape = reshape(x, [$rows, 8, 6])
    matmul = matmul(w_$rule_1, reshape)
    reshape_1 = reshape(matmul, [$rows, 48])
    split = split(reshape_1, [6, 6, 6, 6, 24], dim=-1)
    getitem = split[0]
    linear_1 = linear(getitem, w_$rule_2$shared)
    getitem_1 = split[1]
    linear_2 = linear(getitem_1, w_$rule_3)
    getitem_2 = split[2]
    linear_3 = linear(getitem_2, w_$rule_4)
    getitem_3 = split[3]
    linear_4 = linear(getitem_3, w_$rule_5)
    getitem_4 = split[4]
    reshape_2 = reshape(getitem_4, [$twice, 12])
    matmul_1 = matmul(reshape_2, w_$rule_6)
    reshape_3 = reshape(matmul_1, [$rows, 20])
    concat = concat(linear_1, linear_2, linear_3, linear_4, reshape_3, dim=-1)
    reshape_4 = reshape(concat, [$rows, 8, 5])
    matmul_2 = matmul(w_$rule, reshape_4)
    reshape_5 = reshape(matmul_2, [$rows, 40])
    reshape_6 = reshape(reshape_5, $shape)
"""
ADDED = LINES.replace("$shared", "") + "    add = add(reshape_6, b)\n"
INSIDE_A_LINE = LINES.replace("$shared", ", b_repeated")


def found(
    rule: str, weight: Tensor, steps: str, rank: object, *leading: int, bias: Tensor | None = None
) -> Case:
    """The rule finds the group; `steps` with $rows for the rows of a batch, $shape for the result's sizes."""
    rows = math.prod(leading)
    graph = textwrap.dedent(steps).strip().replace("$rows", str(rows)).replace("$twice", str(2 * rows))
    graph = graph.replace("$rule", rule)
    return fires(
        f"decompose.finite.{rule}",
        lambda m, x: F.linear(x, m.w, m.b),
        (*leading, weight.shape[1]),
        w=weight,
        b=number(len(weight)) if bias is None else bias,
        parameters={"rank": rank, **SMALL},
        precision=FULL,
        expect=graph.replace("$shape", str([*leading, len(weight)])),
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


def both_ways(
    rule: str, weight: Tensor, one_row: str, few: str, many: str, bias: Tensor | None = None
) -> list[Case]:
    """Positive cases of several ranks and batches, and what each rule must leave alone."""
    other = number(*weight.shape)
    return [
        found(rule, weight, few, Error(1e-6), 3, bias=bias),
        found(rule, weight, few, Energy(1 - 1e-12), 2, 5, bias=bias),
        found(rule, weight, many, Error(1e-6), 2, 64, bias=bias),
        found(rule, weight, one_row, Error(1e-6), bias=bias),
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

ANY_ROWS = fires(
    "decompose.finite.group_linear",
    lambda m, x: F.linear(x, m.w),
    (3, 64),
    w=TURNS,
    dynamic={"x": {0: Dim("batch")}},
    parameters=SMALL,
    precision=FULL,
    expect=f"""
    sym_size_int = size(x, 0)
    reshape = reshape(x, [-1, 4, 16])
    matmul = matmul(w_group_blocks, reshape)
{few("matmul", 5, (16, 12), 1).replace("$rows", "-1").replace("$rule", "group_linear")}
    matmul_1 = matmul(w_group_linear, reshape_2)
    reshape_3 = reshape(matmul_1, [sym_size_int, 48])
    """,
)

TRIANGLE = planted(dihedral(3), 32, 32)[:, :, None, None]


def pixelwise(weight: Tensor, because: str, **parameters: object) -> Case:
    """A 1×1 convolution of that weight is left alone."""
    return leaves(
        "decompose.finite_conv.group_conv",
        lambda m, x: F.conv2d(x, m.w),
        (2, weight.shape[1], 12, 10),
        w=weight,
        parameters={**SMALL, **parameters},
        because=because,
    )


PIXELS = [
    fires(
        "decompose.finite_conv.group_conv",
        lambda m, x: F.conv2d(x, m.w, m.b),
        (2, 192, 12, 10),
        w=TRIANGLE,
        b=number(192),
        parameters=SMALL,
        precision=FULL,
        expect="""
            reshape = reshape(x, [2, 6, 3840])
            matmul = matmul(w_group_blocks_1, reshape)
            reshape_1 = reshape(matmul, [2, 288, 12, 10])
            conv2d_1 = conv2d(reshape_1, w_group_conv, groups=9)
            reshape_2 = reshape(conv2d_1, [2, 9, 3840])
            matmul_1 = matmul(w_group_blocks, reshape_2)
            reshape_3 = reshape(matmul_1, [2, 192, 12, 10])
            add = add(reshape_3, b_group_conv)
        """,
    ),
    pixelwise(number(192, 192, 1, 1), "it has no group"),
    pixelwise(planted(cyclic(2), 64, 64)[:, :, None, None], "a mirror saves no more than the passes cost"),
    pixelwise(TRIANGLE, "so few pixels are faster as they are", saved=2**30),
    pixelwise(TRIANGLE + 1e-3 * number(192, 192, 1, 1), "it is only nearly symmetric"),
]

ALIKE = "group_irreps_linear_alike"
FIVE = number(5).repeat(8)
"""A bias of five channels that all eight places share."""
BLOCKS = """
    reshape = reshape(x, [8400, 8, 6])
    split = split(reshape, [4200, 4200], dim=-3)
    getitem = split[0]
    matmul = matmul(w_$rule_1, getitem)
    reshape_1 = reshape(matmul, [4200, 48])
    split_1 = split(reshape_1, [6, 6, 6, 6, 24], dim=-1)
    getitem_1 = split_1[0]
    linear_1 = linear(getitem_1, w_$rule_2, b_repeated)
    getitem_2 = split_1[1]
    linear_2 = linear(getitem_2, w_$rule_3)
    getitem_3 = split_1[2]
    linear_3 = linear(getitem_3, w_$rule_4)
    getitem_4 = split_1[3]
    linear_4 = linear(getitem_4, w_$rule_5)
    getitem_5 = split_1[4]
    reshape_2 = reshape(getitem_5, [8400, 12])
    matmul_1 = matmul(reshape_2, w_$rule_6)
    reshape_3 = reshape(matmul_1, [4200, 20])
    concat = concat(linear_1, linear_2, linear_3, linear_4, reshape_3, dim=-1)
    reshape_4 = reshape(concat, [4200, 8, 5])
    matmul_2 = matmul(w_$rule, reshape_4)
    reshape_5 = reshape(matmul_2, [4200, 40])
    getitem_6 = split[1]
    matmul_3 = matmul(w_$rule_1, getitem_6)
    reshape_6 = reshape(matmul_3, [4200, 48])
    split_2 = split(reshape_6, [6, 6, 6, 6, 24], dim=-1)
    getitem_7 = split_2[0]
    linear_5 = linear(getitem_7, w_$rule_2, b_repeated)
    getitem_8 = split_2[1]
    linear_6 = linear(getitem_8, w_$rule_3)
    getitem_9 = split_2[2]
    linear_7 = linear(getitem_9, w_$rule_4)
    getitem_10 = split_2[3]
    linear_8 = linear(getitem_10, w_$rule_5)
    getitem_11 = split_2[4]
    reshape_7 = reshape(getitem_11, [8400, 12])
    matmul_4 = matmul(reshape_7, w_$rule_6)
    reshape_8 = reshape(matmul_4, [4200, 20])
    concat_1 = concat(linear_5, linear_6, linear_7, linear_8, reshape_8, dim=-1)
    reshape_9 = reshape(concat_1, [4200, 8, 5])
    matmul_5 = matmul(w_$rule, reshape_9)
    reshape_10 = reshape(matmul_5, [4200, 40])
    concat_2 = concat(reshape_5, reshape_10, dim=-2)
    reshape_11 = reshape(concat_2, $shape)
"""
"""So many rows are taken in blocks, of the same weights."""
SHARED_BIAS = [
    *both_ways(ALIKE, SQUARE, ONE_ROW_ALIKE, INSIDE_A_LINE, INSIDE_A_LINE, FIVE),
    found(ALIKE, SQUARE, INSIDE_A_LINE, Error(1e-6), 3, bias=FIVE + 1e-10 * number(40)),
    found(ALIKE, SQUARE, BLOCKS, Error(1e-6), 8400, bias=FIVE),
    left(ALIKE, SQUARE, "places have biases of their own", number(40)),
    left(ALIKE, SQUARE, "one place has a bias of its own", FIVE + 1e-4 * (torch.arange(40) < 5)),
    left(ALIKE, SQUARE, "there is no bias"),
]

CASES = [
    ANY_ROWS,
    *PIXELS,
    *LOW_RANK,
    *SHARED_BIAS,
    *both_ways("group_linear", TURNS, PRODUCTS, FEW, PRODUCTS),
    *both_ways("group_linear_inside", INSIDE, PRODUCTS_INSIDE, FEW_INSIDE, PRODUCTS_INSIDE),
    *both_ways("group_irreps_linear", SQUARE, ONE_ROW_ADDED, ADDED, ADDED),
]
