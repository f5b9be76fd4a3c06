"""Cases of `passes/decompose/diagrams.tdsl`, `shared.tdsl` and `regroup.py`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from rule_cases import Case, fires, leaves, number
from torch import Tensor
from torch.export import Dim

from tdsl.factor.table import DECOMPOSITIONS
from tdsl.symmetry.diagrams.partitions import set_partitions

FULL = 1e-6
"""Precision where a mask of zeros and ones is float32; otherwise nothing is lost."""


def planted(name: str, n: int, *shapes: tuple[int, ...]) -> Tensor:
    """A weight that keeps the promise of that decomposition exactly."""
    return DECOMPOSITIONS[name].promise(*(number(*shape) for shape in shapes), torch.arange(n))


def of_pairs(n: int, labels: list[list[int]], p: int, q: int) -> Tensor:
    """From pairs of n items to pairs: a mix of channels for each partition of output and input axes."""
    table = torch.tensor(labels)
    promise = DECOMPOSITIONS["diagrams"].promise
    weight: Tensor = promise(number(len(labels), p, q), table[:, :2], table[:, 2:], torch.arange(n))
    return weight


def of_tables(name: str, n: int, m: int, p: int, q: int) -> Tensor:
    """On arrays of n × m: each entry, sums of rows and of columns, the total, with mixes of channels."""
    one, other = torch.tensor([0, 0, 1, 1])[:, None], torch.tensor([0, 1, 0, 1])[:, None]
    zero = torch.zeros(4, 1, dtype=torch.int64)
    structure = (zero, one, torch.arange(n), zero, other, torch.arange(m))
    weight: Tensor = DECOMPOSITIONS[name].promise(number(4, p, q), *structure)
    return weight


def planes_of_pairs(n: int, labels: list[list[int]], p: int, q: int) -> Tensor:
    """From pairs of n items to the items, for partitions of one output and two input axes."""
    table = torch.tensor(labels)
    promise = DECOMPOSITIONS["diagrams_planes"].promise
    weight: Tensor = promise(number(len(labels), p, q), table[:, :1], table[:, 1:], torch.arange(n))
    return weight


def layer(rule: str, weight: Tensor, bias: Tensor | None, graph: str) -> list[Case]:
    """The rule finds `weight`, also in a batch of any size; not one changed entry of it, nor a tied one."""
    name = f"decompose.diagrams.{rule}"
    outputs, inputs = weight.shape
    parts: dict[str, Any] = {"w": weight} if bias is None else {"w": weight, "b": bias}
    perturbed = weight.clone()
    perturbed[1, 0] += 0.5

    def forward(m: Any, x: Tensor) -> Tensor:
        return F.linear(x, m.w, m.b if bias is not None else None)

    def tied(m: Any, x: Tensor) -> Tensor:
        return forward(m, x) * (x @ m.w.T)

    common: dict[str, Any] = {"parameters": {"least": 0}}
    return [
        fires(name, forward, (3, inputs), expect=graph.replace("$", f"3, {outputs}"), **common, **parts),
        fires(
            name,
            forward,
            (2, 2, inputs),
            expect=graph.replace("[3, ", "[4, ").replace("$", f"2, 2, {outputs}"),
            **common,
            **parts,
        ),
        leaves(
            name, forward, (3, inputs), because="an entry is another", **common, **{**parts, "w": perturbed}
        ),
        leaves(name, tied, (3, inputs), because="the weight is tied", **common, **parts),
        leaves(name, forward, (3, inputs), because="so small a layer is faster as it is", **parts),
    ]


SPREAD = DECOMPOSITIONS["diagrams"].promise(
    number(2, 64, 64), torch.tensor([[0, 0], [0, 1]]), torch.zeros(2, 0, dtype=torch.int64), torch.arange(16)
)
"""From 64 numbers to all pairs of 16 items, on the diagonal and elsewhere."""
ITEMS = planted("exchangeable", 6, (4, 3), (4, 3))
PLANES = planted("exchangeable_planes", 6, (4, 3), (4, 3))

PLAIN = """
    reshape = reshape(x, [3, 6, 3])
    linear_1 = linear(reshape, w_exchangeable)
    reshape_1 = reshape(x, [3, 6, 3])
    sum_1 = sum(reshape_1, dim=[-2], keepdim=true)
    linear_2 = linear(sum_1, w_exchangeable_1)
    add = add(linear_1, linear_2)
    reshape_2 = reshape(add, [$])
"""
PLAIN_PLANES = """
        reshape = reshape(x, [3, 3, 6])
        matmul = matmul(w_exchangeable_planes, reshape)
        reshape_1 = reshape(x, [3, 3, 6])
        sum_1 = sum(reshape_1, dim=[-1], keepdim=true)
        matmul_1 = matmul(w_exchangeable_planes_1, sum_1)
        add = add(matmul, matmul_1)
        reshape_2 = reshape(add, [$])
"""

LAYERS = [
    *layer(
        "exchangeable_layer",
        ITEMS,
        number(4).repeat(6),
        PLAIN.replace("exchangeable_1)", "exchangeable_1, b_repeated)"),
    ),
    leaves(
        "decompose.diagrams.exchangeable_layer",
        lambda m, x: F.linear(x, m.w, m.b),
        (3, 18),
        w=ITEMS,
        b=number(24),
        parameters={"least": 0},
        because="every item has a bias of its own",
    ),
    *layer("exchangeable_linear", ITEMS, None, PLAIN),
    *layer("exchangeable_linear", ITEMS, number(24), PLAIN.rstrip() + "\n    add_1 = add(reshape_2, b)\n"),
    leaves(
        "decompose.diagrams.exchangeable_linear",
        lambda m, x: F.linear(x, m.w),
        (3, 18),
        w=PLANES,
        parameters={"least": 0},
        because="the channels of an item stand apart",
    ),
    *layer(
        "exchangeable_planes_layer",
        PLANES,
        number(4).repeat_interleave(6),
        """
        reshape = reshape(x, [3, 3, 6])
        matmul = matmul(w_exchangeable_planes, reshape)
        reshape_1 = reshape(x, [3, 3, 6])
        sum_1 = sum(reshape_1, dim=[-1], keepdim=true)
        matmul_1 = matmul(w_exchangeable_planes_1, sum_1)
        add = add(matmul_1, b_exchangeable_planes_layer)
        add_1 = add(matmul, add)
        reshape_2 = reshape(add_1, [$])
        """,
    ),
    *layer("exchangeable_planes_linear", PLANES, None, PLAIN_PLANES),
    *layer(
        "diagrams_linear",
        of_pairs(4, [[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]], 2, 3),
        number(32),
        """
        reshape = reshape(x, [3, 4, 4, 3])
        linear_1 = linear(reshape, w_diagrams_linear)
        permute = permute(reshape, [0, 2, 1, 3])
        linear_2 = linear(permute, w_diagrams_linear_1)
        add = add(linear_1, linear_2)
        reshape_1 = reshape(x, [3, 16, 3])
        slice_1 = slice(reshape_1, dim=-2, start=0, end=16, step=5)
        sum_1 = sum(slice_1, dim=[-2])
        linear_3 = linear(sum_1, w_diagrams_linear_2)
        reshape_2 = reshape(linear_3, [3, 1, 2])
        expand = expand(reshape_2, [3, 4, 2])
        reshape_3 = reshape(expand, [3, 4, 2])
        pad = pad(reshape_3, [0, 8])
        reshape_4 = reshape(pad, [3, 40])
        slice_2 = slice(reshape_4, dim=-1, start=0, end=32)
        reshape_5 = reshape(slice_2, [3, 4, 4, 2])
        add_1 = add(add, reshape_5)
        reshape_6 = reshape(add_1, [$])
        add_2 = add(reshape_6, b)
        """,
    ),
    *layer(
        "diagrams_of_two_linear",
        of_tables("diagrams_of_two", 4, 5, 2, 3),
        number(40),
        """
        reshape = reshape(x, [3, 4, 5, 3])
        linear_1 = linear(reshape, w_diagrams_of_two_linear)
        sum_1 = sum(reshape, dim=[-2])
        linear_2 = linear(sum_1, w_diagrams_of_two_linear_1)
        reshape_1 = reshape(linear_2, [3, 4, 1, 2])
        sum_2 = sum(sum_1, dim=[-2])
        linear_3 = linear(sum_2, w_diagrams_of_two_linear_2)
        reshape_2 = reshape(linear_3, [3, 1, 1, 2])
        add = add(reshape_1, reshape_2)
        add_1 = add(linear_1, add)
        sum_3 = sum(reshape, dim=[-3])
        linear_4 = linear(sum_3, w_diagrams_of_two_linear_3)
        reshape_3 = reshape(linear_4, [3, 1, 5, 2])
        add_2 = add(add_1, reshape_3)
        reshape_4 = reshape(add_2, [$])
        add_3 = add(reshape_4, b)
        """,
    ),
    *layer(
        "diagrams_of_two_planes_linear",
        of_tables("diagrams_of_two_planes", 4, 5, 2, 3),
        None,
        """
        reshape = reshape(x, [3, 3, 4, 5])
        reshape_1 = reshape(reshape, [3, 3, 20])
        matmul = matmul(w_diagrams_of_two_planes_linear, reshape_1)
        reshape_2 = reshape(matmul, [3, 2, 4, 5])
        sum_1 = sum(reshape, dim=[-1])
        matmul_1 = matmul(w_diagrams_of_two_planes_linear_1, sum_1)
        reshape_3 = reshape(matmul_1, [3, 2, 4, 1])
        sum_2 = sum(sum_1, dim=[-1])
        reshape_4 = reshape(sum_2, [3, 3, 1])
        matmul_2 = matmul(w_diagrams_of_two_planes_linear_2, reshape_4)
        reshape_5 = reshape(matmul_2, [3, 2])
        reshape_6 = reshape(reshape_5, [3, 2, 1, 1])
        add = add(reshape_3, reshape_6)
        add_1 = add(reshape_2, add)
        sum_3 = sum(reshape, dim=[-2])
        matmul_3 = matmul(w_diagrams_of_two_planes_linear_3, sum_3)
        reshape_7 = reshape(matmul_3, [3, 2, 1, 5])
        add_2 = add(add_1, reshape_7)
        reshape_8 = reshape(add_2, [$])
        """,
    ),
    *layer(
        "diagrams_planes_linear",
        planes_of_pairs(4, [[0, 0, 1], [0, 0, 0], [1, 1, 0]], 2, 3),
        None,
        """
        reshape = reshape(x, [3, 3, 16])
        slice_1 = slice(reshape, dim=-1, start=0, end=16, step=5)
        reshape_1 = reshape(x, [3, 3, 4, 4])
        sum_1 = sum(reshape_1, dim=[-1])
        concat = concat(slice_1, sum_1, dim=-2)
        matmul = matmul(w_diagrams_planes_linear, concat)
        reshape_2 = reshape(matmul, [$])
        """,
    ),
    *layer(
        "diagrams_planes_linear",
        planes_of_pairs(3, [[0, 0, 1], [0, 0, 0], [1, 1, 0]], 5, 6),  # fewer places than channels
        None,
        """
        reshape = reshape(x, [3, 6, 9])
        permute = permute(reshape, [0, 2, 1])
        reshape_1 = reshape(permute, [3, 9, 6])
        slice_1 = slice(reshape_1, dim=-2, start=0, end=9, step=4)
        reshape_2 = reshape(permute, [3, 3, 3, 6])
        sum_1 = sum(reshape_2, dim=[-2])
        concat = concat(slice_1, sum_1, dim=-1)
        linear_1 = linear(concat, w_diagrams_planes_linear)
        reshape_3 = reshape(linear_1, [3, 3, 5])
        permute_1 = permute(reshape_3, [0, 2, 1])
        reshape_4 = reshape(permute_1, [3, 5, 3])
        reshape_5 = reshape(reshape_4, [$])
        """,
    ),
    leaves(
        "decompose.diagrams.diagrams_linear",
        lambda m, x: F.linear(x, m.w),
        (128, 64),
        w=SPREAD,
        because="so many rows of so many results are written in less time by one product",
    ),
    *layer(
        "diagrams_linear",
        of_pairs(4, [list(labels) for labels in set_partitions(4, 4)], 2, 3),
        None,
        """
        reshape = reshape(x, [3, 4, 4, 3])
        linear_1 = linear(reshape, w_diagrams_linear)
        permute = permute(reshape, [0, 2, 1, 3])
        linear_2 = linear(permute, w_diagrams_linear_1)
        add = add(linear_1, linear_2)
        reshape_1 = reshape(x, [3, 16, 3])
        slice_1 = slice(reshape_1, dim=-2, start=0, end=16, step=5)
        sum_1 = sum(reshape, dim=[-2])
        sum_2 = sum(reshape, dim=[-3])
        concat = concat(slice_1, sum_1, sum_2, dim=-1)
        linear_3 = linear(concat, w_diagrams_linear_2)
        sum_3 = sum(slice_1, dim=[-2])
        sum_4 = sum(sum_1, dim=[-2])
        concat_1 = concat(sum_3, sum_4, dim=-1)
        linear_4 = linear(concat_1, w_diagrams_linear_3)
        reshape_2 = reshape(linear_4, [3, 1, 2])
        add_1 = add(linear_3, reshape_2)
        reshape_3 = reshape(add_1, [3, 4, 2])
        pad = pad(reshape_3, [0, 8])
        reshape_4 = reshape(pad, [3, 40])
        slice_2 = slice(reshape_4, dim=-1, start=0, end=32)
        reshape_5 = reshape(slice_2, [3, 4, 4, 2])
        add_2 = add(add, reshape_5)
        linear_5 = linear(concat, w_diagrams_linear_4)
        reshape_6 = reshape(linear_5, [3, 4, 1, 2])
        linear_6 = linear(concat_1, w_diagrams_linear_5)
        reshape_7 = reshape(linear_6, [3, 1, 1, 2])
        add_3 = add(reshape_6, reshape_7)
        add_4 = add(add_2, add_3)
        linear_7 = linear(concat, w_diagrams_linear_6)
        reshape_8 = reshape(linear_7, [3, 1, 4, 2])
        add_5 = add(add_4, reshape_8)
        reshape_9 = reshape(add_5, [$])
        """,
    ),
]

DYNAMIC = fires(
    "decompose.diagrams.exchangeable_linear",
    lambda m, x: F.linear(x, m.w),
    (2, 3, 18),
    w=ITEMS,
    parameters={"least": 0},
    dynamic={"x": {0: Dim("batch"), 1: Dim("tokens")}},
    expect="""
        sym_size_int_1 = size(x, 1)
        sym_size_int = size(x, 0)
        reshape = reshape(x, [-1, 6, 3])
        linear_1 = linear(reshape, w_exchangeable)
        reshape_1 = reshape(x, [-1, 6, 3])
        sum_1 = sum(reshape_1, dim=[-2], keepdim=true)
        linear_2 = linear(sum_1, w_exchangeable_1)
        add = add(linear_1, linear_2)
        reshape_2 = reshape(add, [sym_size_int, sym_size_int_1, 24])
    """,
)

EQUAL = torch.eye(5, dtype=torch.float64)[:, :, None].clone()

SHARED = [
    fires(
        "decompose.shared.linear_of_spread",
        lambda m, x: F.linear(x[:, :, None].expand(2, 3, 5, 4), m.w, m.b),
        (2, 3, 4),
        w=number(6, 4),
        b=number(6),
        expect="""
        unsqueeze = unsqueeze(x, -2)
        linear_1 = linear(unsqueeze, w, b)
        expand_1 = expand(linear_1, [2, 3, 5, 6])
        """,
    ),
    leaves(
        "decompose.shared.linear_of_spread",
        lambda m, x: F.linear(x[:, :, None].expand(2, 3, 1, 4), m.w),
        (2, 3, 4),
        w=number(6, 4),
        because="there are as many rows before",
    ),
    fires(
        "decompose.shared.linear_of_masked",
        lambda m, x: F.linear(x[:, :, None] * m.e, m.w),
        (2, 5, 4),
        w=number(6, 4),
        e=EQUAL,
        expect="""
        unsqueeze = unsqueeze(x, -2)
        linear_1 = linear(unsqueeze, w)
        mul_1 = mul(linear_1, e)
        """,
    ),
    leaves(
        "decompose.shared.linear_of_masked",
        lambda m, x: F.linear(x[:, :, None] * m.e, m.w, m.b),
        (2, 5, 4),
        w=number(6, 4),
        b=number(6),
        e=EQUAL,
        because="a bias is not masked",
    ),
    fires(
        "decompose.shared.sum_of_layers",
        lambda m, x, y: F.linear(x, m.v, m.b) + y + F.linear(x, m.w),
        (3, 4),
        (3, 6),
        v=number(6, 4),
        w=number(6, 4),
        b=number(6),
        expect="""
        linear_2 = linear(x, v_sum_of_layers, b)
        add_2 = add(linear_2, y)
        """,
    ),
    leaves(
        "decompose.shared.sum_of_layers",
        lambda m, x, y: F.linear(x, m.v) + F.linear(y, m.w),
        (3, 4),
        (3, 4),
        v=number(6, 4),
        w=number(6, 4),
        because="the layers read different values",
    ),
    fires(
        "decompose.shared.sum_of_masked",
        lambda m, x, y, z: x * m.e + z + y * m.e,
        (2, 5, 1, 4),
        (2, 1, 1, 4),
        (2, 5, 5, 4),
        e=EQUAL,
        expect="""
        add_2 = add(x, y)
        mul_2 = mul(add_2, e)
        add_3 = add(mul_2, z)
        """,
    ),
    leaves(
        "decompose.shared.sum_of_masked",
        lambda m, x, y: x * m.e + y * m.f,
        (2, 5, 1, 4),
        (2, 1, 1, 4),
        e=EQUAL,
        f=1 - EQUAL,
        because="the masks differ",
    ),
    fires(
        "decompose.shared.spread_of",
        lambda m, x, y: (x[:, :, None].expand(2, 3, 5, 4) * y).exp(),
        (2, 3, 4),
        (4,),
        expect="""
        unsqueeze = unsqueeze(x, -2)
        mul_1 = mul(unsqueeze, y)
        expand_1 = expand(mul_1, [2, 3, 5, 4])
        exp = exp(expand_1)
        """,
    ),
    leaves(
        "decompose.shared.spread_of",
        lambda m, x, y: x[:, :, None].expand(2, 3, 5, 4) * y,
        (2, 3, 4),
        (5, 4),
        because="the other factor has as many rows",
    ),
    fires(
        "decompose.shared.spread_of_second",
        lambda m, x, y: (y - x[:, :, None].expand(2, 3, 5, 4)).exp(),
        (2, 3, 4),
        (4,),
        expect="""
        unsqueeze = unsqueeze(x, -2)
        sub_1 = sub(y, unsqueeze)
        expand_1 = expand(sub_1, [2, 3, 5, 4])
        exp = exp(expand_1)
        """,
    ),
    leaves(
        "decompose.shared.spread_of_second",
        lambda m, x, y: y - x[:, :, None].expand(2, 3, 5, 4),
        (2, 3, 4),
        (5, 4),
        because="the first operand has as many rows",
    ),
    fires(
        "decompose.shared.sum_of_sums",
        lambda m, x: (x.sum(-1), x.sum((1, 2))),
        (2, 3, 4),
        expect="""
        sum_1 = sum(x, dim=[-1])
        sum_3 = sum(sum_1, dim=[-1])
        """,
    ),
    leaves(
        "decompose.shared.sum_of_sums",
        lambda m, x: (x.sum(0), x.sum((1, 2))),
        (2, 3, 4),
        because="another axis is summed first",
    ),
    fires(
        "decompose.shared.sum_of_row_sums",
        lambda m, x: (x.sum(2), x.sum((1, 2))),
        (2, 3, 4, 5),
        expect="""
        sum_1 = sum(x, dim=[-2])
        sum_3 = sum(sum_1, dim=[-2])
        """,
    ),
    leaves(
        "decompose.shared.sum_of_row_sums",
        lambda m, x, y: (x.sum(2), y.sum((1, 2))),
        (2, 3, 4, 5),
        (2, 3, 4, 5),
        because="another tensor is summed",
    ),
    fires(
        "decompose.shared.diagonal_of_channels",
        lambda m, x: torch.diagonal(x, dim1=1, dim2=2).transpose(1, 2),
        (2, 5, 5, 4),
        expect="""
        reshape = reshape(x, [2, 25, 4])
        slice_1 = slice(reshape, dim=-2, start=0, end=25, step=6)
        """,
    ),
    leaves(
        "decompose.shared.diagonal_of_channels",
        lambda m, x: torch.diagonal(x, dim1=1, dim2=2).transpose(1, 2),
        (2, 5, 6, 4),
        because="the matrices are not square",
    ),
    fires(
        "decompose.shared.diagonal_of_matrices",
        lambda m, x: torch.diagonal(x, dim1=1, dim2=2).exp(),
        (2, 5, 5),
        more_operators="in a file a diagonal is a product with a mask and a sum",
        expect="""
        reshape = reshape(x, [2, 25])
        slice_1 = slice(reshape, dim=-1, start=0, end=25, step=6)
        exp = exp(slice_1)
        """,
    ),
    leaves(
        "decompose.shared.diagonal_of_matrices",
        lambda m, x: torch.diagonal(x, offset=1, dim1=1, dim2=2),
        (2, 5, 5),
        because="it is another diagonal",
    ),
]

REGROUPED = [
    fires(
        "decompose.regroup_sums",
        lambda m, x, y, z: x + y + x.exp() + z + m.c,
        (2, 5, 5, 4),
        (5, 1, 4),
        (5, 1, 4),
        c=number(4),
        expect="""
        exp = exp(x)
        add_4 = add(y, z)
        add_5 = add(add_4, c)
        add_6 = add(x, add_5)
        add_7 = add(add_6, exp)
        """,
    ),
    leaves(
        "decompose.regroup_sums",
        lambda m, x, y, z: x + y + z,
        (2, 5, 4),
        (5, 4),
        (2, 5, 4),
        because="every order writes as much",
    ),
]

CASES = [*LAYERS, DYNAMIC, *SHARED, *REGROUPED]
