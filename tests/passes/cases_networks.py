"""Cases of `passes/factorize/networks.tdsl`: weights that are a ring, one too small to pay, and none."""

import torch.nn.functional as F
from cases_structured import structured
from rule_cases import fires, leaves, number
from torch import Tensor
from torch.export import Dim

from tdsl.factor.kronecker_terms import kronecker_terms_product
from tdsl.factor.network import network_product
from tdsl.factor.rank import Energy, Error

NAME = "factorize.networks.tensor_network_linear"
FULL = 1e-9
"""Precision where a network is found that was planted."""


def ring(outer: int, rank: int) -> Tensor:
    """A ring of two digits of outputs and two of inputs: o₁ — i₁ — o₂ — i₂."""
    r, n = rank, outer
    return network_product(
        number(n, 1, 1, r, r, 1, 1),
        number(n, 1, 1, r, r, 1, 1),
        number(1, n, r, r, 1, 1, 1),
        number(1, n, r, r, 1, 1, 1),
        number(*[1] * 7),
        number(*[1] * 7),
    )


RING = ring(8, 2)
STEPS = """
    reshape = reshape(x, [$rows, 8, 8])
    matmul = matmul(w_tensor_network_linear_1, reshape)
    reshape_1 = reshape(matmul, [$rows4, 8])
    matmul_1 = matmul(reshape_1, w_tensor_network_linear_2)
    reshape_2 = reshape(matmul_1, [$rows2, 4, 2])
    matmul_2 = matmul(w_tensor_network_linear, reshape_2)
    reshape_3 = reshape(matmul_2, [$rows, 2, 8, 2])
    permute = permute(reshape_3, [0, 2, 1, 3])
    reshape_4 = reshape(permute, [$rows8, 4])
    matmul_3 = matmul(reshape_4, w_tensor_network_linear_3)
    reshape_5 = reshape(matmul_3, [$rows, 64])
    reshape_6 = reshape(reshape_5, $shape)
    add = add(reshape_6, b)
"""


def steps(*leading: int) -> str:
    """The graph for a batch of those sizes."""
    rows = 1
    for size in leading:
        rows *= size
    graph = STEPS
    for times in (8, 4, 2):
        graph = graph.replace(f"$rows{times}", str(times * rows))
    return graph.replace("$rows", str(rows)).replace("$shape", str([*leading, 64]))


TERMS = kronecker_terms_product(number(4, 4, 2), number(2, 4, 4), number(2, 4, 4))

CASES = [
    *structured(
        "networks.kronecker_terms_linear",
        TERMS,
        """
            reshape = reshape(x, [$rows16, 4])
            matmul = matmul(reshape, w_kronecker_terms_linear_2)
            reshape_1 = reshape(matmul, [$rows4, 4, 2, 4])
            permute = permute(reshape_1, [2, 0, 1, 3])
            matmul_1 = matmul(w_kronecker_terms_linear_1, permute)
            reshape_2 = reshape(matmul_1, [2, $rows, 4, 16])
            permute_1 = permute(reshape_2, [1, 0, 2, 3])
            reshape_3 = reshape(permute_1, [$rows, 8, 16])
            matmul_2 = matmul(w_kronecker_terms_linear, reshape_3)
            reshape_4 = reshape(matmul_2, $shape)
            add = add(reshape_4, b)
        """,
        2,
    ),
    *(
        fires(
            NAME,
            lambda m, x: F.linear(x, m.w, m.b),
            (*leading, 64),
            w=RING,
            b=number(64),
            parameters={"rank": rank},
            precision=FULL,
            expect=steps(*leading),
        )
        for rank in (Error(1e-6), Energy(1 - 1e-12))
        for leading in ((3,), (2, 5))
    ),
    fires(
        NAME,
        lambda m, x: F.linear(x, m.w),
        (2, 3, 64),
        w=RING,
        dynamic={"x": {0: Dim("batch"), 1: Dim("tokens")}},
        precision=FULL,
        expect="""
            sym_size_int_1 = size(x, 1)
            sym_size_int = size(x, 0)
            reshape = reshape(x, [-1, 8, 8])
            matmul = matmul(w_tensor_network_linear_1, reshape)
            reshape_1 = reshape(matmul, [-1, 8])
            matmul_1 = matmul(reshape_1, w_tensor_network_linear_2)
            reshape_2 = reshape(matmul_1, [-1, 4, 2])
            matmul_2 = matmul(w_tensor_network_linear, reshape_2)
            reshape_3 = reshape(matmul_2, [-1, 2, 8, 2])
            permute = permute(reshape_3, [0, 2, 1, 3])
            reshape_4 = reshape(permute, [-1, 4])
            matmul_3 = matmul(reshape_4, w_tensor_network_linear_3)
            reshape_5 = reshape(matmul_3, [-1, 64])
            reshape_6 = reshape(reshape_5, [sym_size_int, sym_size_int_1, 64])
        """,
    ),
    leaves(NAME, lambda m, x: F.linear(x, m.w), (3, 64), w=number(64, 64), because="it has no structure"),
    leaves(NAME, lambda m, x: F.linear(x, m.w), (3, 36), w=ring(6, 3), because="more products than 36 · 36"),
    leaves(NAME, lambda m, x: F.linear(x, m.w), (3, 7), w=number(11, 7), because="prime sizes"),
    leaves(NAME, lambda m, x: F.linear(F.linear(x, m.w), m.w.T), (3, 64), w=RING, because="it is tied"),
]
