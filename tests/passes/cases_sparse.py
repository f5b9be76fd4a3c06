"""Cases of `passes/factorize/sparse.tdsl`: every output mixes a few of some directions."""

import torch
import torch.nn.functional as F
from cases_structured import FULL, structured
from rule_cases import fires, leaves, low_rank, number

from tdsl.factor.rank import Error

RANDOM = torch.Generator().manual_seed(11)
FEW = torch.rand(64, 8, generator=RANDOM).argsort(1) < 2
WEIGHT = (FEW * number(64, 8)) @ number(8, 48)

X = (40, 48)
CASES = [
    *structured(
        "sparse.dense_sparse_linear",
        WEIGHT,
        """
            linear_1 = linear(x, w_dense_sparse)
            linear_2 = linear(linear_1, w_dense_sparse_1, b)
        """,
        8,
    ),
    fires(
        "factorize.sparse.whitened_dense_sparse_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        w=WEIGHT,
        b=number(64),
        parameters={"rank": Error(1e-6)},
        precision=FULL,
        expect="""
            linear_1 = linear(x, w_whitened_dense_sparse)
            linear_2 = linear(linear_1, w_whitened_dense_sparse_1, b_whitened_dense_sparse_linear)
        """,
    ),
    leaves(
        "factorize.sparse.whitened_dense_sparse_linear",
        lambda m, x: F.linear(x, m.w),
        X,
        w=number(64, 48),
        parameters={"rank": Error(1e-6)},
        because="directions are as many as columns",
    ),
    leaves(
        "factorize.sparse.whitened_dense_sparse_linear",
        lambda m, x: F.linear(F.linear(x, m.w), m.w.T),
        X,
        w=low_rank(64, 48, 3),
        parameters={"rank": 3},
        because="the weight is tied to another layer",
    ),
]
