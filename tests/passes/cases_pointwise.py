"""Cases of `passes/factorize/pointwise.tdsl`: 1×1 convolutions with a structured matrix, Hadamard's (F16)."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number
from torch import Tensor

RULE = "factorize.pointwise.tensor_train_pointwise"
STEP = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
HADAMARD = functools.reduce(torch.kron, [STEP] * 4)[:, :, None, None].contiguous()


def conv(m: torch.nn.Module, x: Tensor) -> Tensor:
    return F.conv2d(x, m.w, m.b)


CASES = [
    fires(
        RULE,
        conv,
        (2, 16, 3, 5),
        w=HADAMARD,
        b=number(16),
        precision=1e-9,
        more_operators="three products of small matrices are less than one",
        dynamic={"x": {0: "batch"}},
        expect="""
            sym_size_int = size(x, 0)
            reshape = reshape(x, [sym_size_int, 2, 120])
            matmul = matmul(w_tensor_train_pointwise_2, reshape)
            reshape_1 = reshape(matmul, [sym_size_int, 2, 2, 60])
            matmul_1 = matmul(w_tensor_train_pointwise_1, reshape_1)
            reshape_2 = reshape(matmul_1, [sym_size_int, 4, 4, 15])
            matmul_2 = matmul(w_tensor_train_pointwise, reshape_2)
            reshape_3 = reshape(matmul_2, [sym_size_int, 16, 3, 5])
            add = add(reshape_3, b_tensor_train_pointwise)
        """,
    ),
    leaves(RULE, conv, (2, 16, 3, 5), w=number(16, 16, 1, 1), b=None, because="the matrix has no structure"),
    leaves(
        RULE,
        lambda m, x: F.conv2d(x, m.w, stride=2),
        (2, 16, 4, 6),
        w=HADAMARD,
        because="every second pixel is left out",
    ),
    leaves(
        RULE,
        lambda m, x: F.conv2d(F.conv2d(x, m.w).relu(), m.w),
        (2, 16, 3, 5),
        w=HADAMARD,
        because="the weight has two readers",
    ),
]
