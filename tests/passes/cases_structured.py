"""Cases of `passes/factorize/structured.tdsl` and `sums.tdsl`: weights with and without a structure."""

import math
import textwrap
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from rule_cases import Case, fires, leaves, low_rank, number
from torch import Tensor
from torch.export import Dim

from tdsl.factor.block_train import block_tt_product, low_rank_blocks_product, strided_blocks_product
from tdsl.factor.butterfly import butterfly_product
from tdsl.factor.diagonal_blocks import block_diagonal_product
from tdsl.factor.kronecker import kronecker_product, train_product
from tdsl.factor.rank import Energy, Error

FULL = 1e-9
"""Precision where a structure is found that was planted."""
BOUNDS = (Error(1e-6), Energy(1 - 1e-12))
"""Rank rules that speak of the error."""


def structured(rule: str, weight: Tensor, steps: str, *ranks: Any) -> list[Case]:
    """The rule finds the structure planted in `weight` at every rank, for inputs of any number of axes, and
    finds none in a random matrix, where the weight is tied, or where sizes are prime.

    `steps` is the graph, with $rows for the rows of a batch ($rows2: twice as many) and $shape for the
    sizes of the result.
    """
    name = f"factorize.{rule}" if "." in rule else f"factorize.structured.{rule}"
    outputs, inputs = weight.shape

    def positive(rank: Any, *leading: int, bias: bool = True) -> Case:
        graph = textwrap.dedent(steps).strip().replace("$rule", rule)
        rows = math.prod(leading)
        multiples = {f"rows{times}": times * rows for times in (2, 4, 6, 16)}
        sizes = {"rows": rows, **multiples, "shape": [*leading, outputs]}
        for key in sorted(sizes, reverse=True):
            graph = graph.replace(f"${key}", str(sizes[key]))
        return fires(
            name,
            lambda m, x: F.linear(x, m.w, m.b) if bias else F.linear(x, m.w),
            (*leading, inputs),
            w=weight,
            b=number(outputs),
            parameters={"rank": rank},
            precision=FULL,
            expect=graph if bias else without_bias(graph),
        )

    def negative(because: str, w: Tensor, forward: Callable[..., Any]) -> Case:
        return leaves(name, forward, (3, w.shape[1]), w=w, because=because)

    return [
        *(positive(rank, 3) for rank in (*BOUNDS, *ranks)),
        positive(BOUNDS[0], 2, 5),
        positive(BOUNDS[0]),
        positive(BOUNDS[0], 3, bias=False),
        negative("it has no structure", number(outputs, inputs), lambda m, x: F.linear(x, m.w)),
        negative("prime sizes do not divide", number(11, 7), lambda m, x: F.linear(x, m.w)),
        negative("the weight is tied", weight, lambda m, x: F.linear(F.linear(x, m.w), m.w.T)),
    ]


def without_bias(graph: str) -> str:
    """The graph that does not add the bias in its last line, or inside a linear layer."""
    before, _, last = graph.rpartition("\n")
    adds = " = add(" in last and last.endswith(", b)")
    return before if adds else graph.replace(", b)", ")")


def two_stages(entering: str, first: str, last: str) -> str:
    """The graph of slices of rank 1, 6 blocks of inputs and 8 of outputs."""
    return f"""
        reshape = reshape(x, [$rows, {entering}])
        permute = permute(reshape, {first})
        matmul = matmul(w_$rule_1, permute)
        reshape_1 = reshape(matmul, [6, 8, 1, $rows])
        permute_1 = permute(reshape_1, [1, 0, 2, 3])
        reshape_2 = reshape(permute_1, [8, 6, $rows])
        matmul_1 = matmul(w_$rule, reshape_2)
        permute_2 = permute(matmul_1, {last})
        reshape_3 = reshape(permute_2, $shape)
        add = add(reshape_3, b)
    """


SLICES = (number(6, 4, 8, 1), number(8, 6, 1, 5))

BLOCKS = [
    *structured(
        "block_tt_linear",
        block_tt_product(*SLICES),
        two_stages("4, 6", "[2, 1, 0]", "[2, 0, 1]"),
        1,
    ),
    *structured(
        "low_rank_blocks_linear",
        low_rank_blocks_product(*SLICES),
        two_stages("6, 4", "[1, 2, 0]", "[2, 0, 1]"),
        1,
    ),
    *structured(
        "strided_blocks_linear",
        strided_blocks_product(*SLICES),
        two_stages("4, 6", "[2, 1, 0]", "[2, 1, 0]"),
        1,
    ),
]

KRONECKER = [
    *structured(
        "kronecker_linear",
        kronecker_product(number(6, 4, 2), number(2, 5, 6)),
        """
            reshape = reshape(x, [$rows, 4, 6])
            matmul = matmul(reshape, w_$rule_1)
            reshape_1 = reshape(matmul, [$rows, 8, 5])
            matmul_1 = matmul(w_$rule, reshape_1)
            reshape_2 = reshape(matmul_1, $shape)
            add = add(reshape_2, b)
        """,
        2,
    ),
    *structured(
        "kronecker_outer_first",
        kronecker_product(number(4, 6, 2), number(2, 6, 5)),
        """
            reshape = reshape(x, [$rows, 6, 5])
            matmul = matmul(w_$rule, reshape)
            reshape_1 = reshape(matmul, [$rows, 4, 10])
            matmul_1 = matmul(reshape_1, w_$rule_1)
            reshape_2 = reshape(matmul_1, $shape)
            add = add(reshape_2, b)
        """,
        2,
    ),
    *structured(
        "tensor_train_linear",
        train_product(number(3, 2, 2), number(2, 4, 3, 2), number(2, 5, 4)),
        """
            reshape = reshape(x, [$rows6, 4])
            matmul = matmul(reshape, w_$rule_2)
            reshape_1 = reshape(matmul, [$rows2, 6, 5])
            matmul_1 = matmul(w_$rule_1, reshape_1)
            reshape_2 = reshape(matmul_1, [$rows, 4, 20])
            matmul_2 = matmul(w_$rule, reshape_2)
            reshape_3 = reshape(matmul_2, $shape)
            add = add(reshape_3, b)
        """,
        2,
    ),
]

BUTTERFLY = structured(
    "butterfly_linear",
    butterfly_product(number(3, 2, 4, 3), number(3, 2, 3, 4), number(3, 4, 2, 5)),
    """
        reshape = reshape(x, [$rows, 4, 6])
        permute = permute(reshape, [2, 1, 0])
        matmul = matmul(w_$rule_2, permute)
        reshape_1 = reshape(matmul, [3, 2, 3, $rows])
        permute_1 = permute(reshape_1, [2, 1, 0, 3])
        reshape_2 = reshape(permute_1, [6, 3, $rows])
        matmul_1 = matmul(w_$rule_1, reshape_2)
        reshape_3 = reshape(matmul_1, [3, 2, 4, $rows])
        permute_2 = permute(reshape_3, [0, 2, 1, 3])
        reshape_4 = reshape(permute_2, [12, 2, $rows])
        matmul_2 = matmul(w_$rule, reshape_4)
        permute_3 = permute(matmul_2, [2, 0, 1])
        reshape_5 = reshape(permute_3, $shape)
        add = add(reshape_5, b)
    """,
    1,
)

DIAGONAL = block_diagonal_product(number(8, 3, 5))
ROWS, COLUMNS = (torch.randperm(n, generator=torch.Generator().manual_seed(1)) for n in (40, 24))

DIAGONAL_BLOCKS = [
    *structured(
        "block_diagonal_linear",
        DIAGONAL,
        """
            reshape = reshape(x, [$rows, 8, 3])
            permute = permute(reshape, [1, 0, 2])
            matmul = matmul(permute, w_block_diagonal)
            permute_1 = permute(matmul, [1, 0, 2])
            reshape_1 = reshape(permute_1, $shape)
            add = add(reshape_1, b)
        """,
    ),
    leaves(
        "factorize.structured.block_diagonal_linear",
        lambda m, x: F.linear(x, m.w),
        (3, 24),
        w=DIAGONAL[ROWS][:, COLUMNS],
        because="permutations hide the blocks",
    ),
    *structured(
        "hidden_blocks_linear",
        DIAGONAL[ROWS][:, COLUMNS],
        """
            reshape = reshape(x, [$rows, 24])
            permute = permute(reshape, [1, 0])
            index_select = index_select(permute, -2, w_hidden_blocks)
            reshape_1 = reshape(index_select, [8, 3, $rows])
            matmul = matmul(w_$rule, reshape_1)
            reshape_2 = reshape(matmul, [40, $rows])
            index_select_1 = index_select(reshape_2, -2, w_hidden_blocks_1)
            permute_1 = permute(index_select_1, [1, 0])
            reshape_3 = reshape(permute_1, $shape)
            add = add(reshape_3, b)
        """,
    ),
]

STEPS = torch.arange(12)
CIRCULANT_BLOCKS = number(3, 4, 12)[:, :, (STEPS[:, None] - STEPS) % 12].transpose(1, 2).reshape(36, 48)
AROUND = torch.arange(48)
CIRCULANT = number(48)[(AROUND[:, None] - AROUND) % 48]

CIRCULANTS = [
    *structured(
        "block_circulant_linear",
        CIRCULANT_BLOCKS,
        """
            reshape = reshape(x, [$rows, 4, 12])
            permute = permute(reshape, [0, 2, 1])
            matmul = matmul(w_block_circulant_linear, permute)
            reshape_1 = reshape(matmul, [$rows, 7, 8])
            permute_1 = permute(reshape_1, [1, 0, 2])
            matmul_1 = matmul(permute_1, w_block_circulant_linear_1)
            permute_2 = permute(matmul_1, [1, 0, 2])
            reshape_2 = reshape(permute_2, [$rows, 14, 3])
            permute_3 = permute(reshape_2, [0, 2, 1])
            matmul_2 = matmul(permute_3, w_block_circulant_linear_2)
            reshape_3 = reshape(matmul_2, $shape)
            add = add(reshape_3, b)
        """,
        1,
    ),
    *structured(
        "circulant_linear",
        CIRCULANT,
        """
            reshape = reshape(x, [$rows, 12, 4])
            matmul = matmul(w_circulant_linear_1, reshape)
            reshape_1 = reshape(matmul, [$rows, 7, 8])
            permute = permute(reshape_1, [1, 0, 2])
            matmul_1 = matmul(permute, w_circulant_linear_2)
            permute_1 = permute(matmul_1, [1, 0, 2])
            reshape_2 = reshape(permute_1, [$rows, 14, 4])
            matmul_2 = matmul(w_circulant_linear, reshape_2)
            reshape_3 = reshape(matmul_2, $shape)
            add = add(reshape_3, b)
        """,
        1,
    ),
]

SUM = structured(
    "sums.low_rank_plus_blocks_linear",
    low_rank(40, 24, 1) + block_diagonal_product(number(8, 3, 5)),
    """
        linear_1 = linear(x, w_low_rank_plus_blocks)
        linear_2 = linear(linear_1, w_low_rank_plus_blocks_1, b)
        reshape = reshape(x, [$rows, 8, 3])
        permute = permute(reshape, [1, 0, 2])
        matmul = matmul(permute, w_low_rank_plus_blocks_2)
        permute_1 = permute(matmul, [1, 0, 2])
        reshape_1 = reshape(permute_1, $shape)
        add = add(linear_2, reshape_1)
    """,
    1,
)

DYNAMIC = fires(
    "factorize.structured.block_tt_linear",
    lambda m, x: F.linear(x, m.w),
    (2, 3, 24),
    w=block_tt_product(*SLICES),
    dynamic={"x": {0: Dim("batch"), 1: Dim("tokens")}},
    precision=FULL,
    expect="""
        sym_size_int_1 = size(x, 1)
        sym_size_int = size(x, 0)
        reshape = reshape(x, [-1, 4, 6])
        permute = permute(reshape, [2, 1, 0])
        matmul = matmul(w_block_tt_linear_1, permute)
        reshape_1 = reshape(matmul, [6, 8, 1, -1])
        permute_1 = permute(reshape_1, [1, 0, 2, 3])
        reshape_2 = reshape(permute_1, [8, 6, -1])
        matmul_1 = matmul(w_block_tt_linear, reshape_2)
        permute_2 = permute(matmul_1, [2, 0, 1])
        reshape_3 = reshape(permute_2, [sym_size_int, sym_size_int_1, 40])
    """,
)

CASES = [*BLOCKS, *KRONECKER, *BUTTERFLY, *DIAGONAL_BLOCKS, *CIRCULANTS, *SUM, DYNAMIC]
