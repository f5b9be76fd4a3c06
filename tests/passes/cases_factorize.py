"""Cases of `passes/factorize`: weights of low rank, which the factors hold exactly."""

import cases_factorize_conv
import cases_regression
import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, low_rank, number

from tdsl.factor.rank import Energy, Error, Ratio

FULL = 1e-9
"""Precision where the rank kept is that of the weight."""
X = (4, 12)
IDS = torch.tensor([[0, 3, 8], [5, 5, 1]])
DENSE = {"w": low_rank(10, 12, 2), "b": number(10)}


LINEAR = [
    fires(
        "factorize.linear.svd_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        **DENSE,
        parameters={"rank": rank},
        precision=FULL,
        expect="""
            linear_1 = linear(x, w_svd)
            linear_2 = linear(linear_1, w_svd_1, b)
        """,
    )
    for rank in (2, 0.5, Ratio(0.5), Energy(1 - 1e-12), Error(1e-6))
] + [
    leaves(
        "factorize.linear.svd_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        **DENSE,
        parameters={"rank": 6},
        because="factors of rank 6 are larger than the weight",
    ),
    leaves(
        "factorize.linear.svd_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        **DENSE,
        parameters={"rank": 64},
        because="the weight has no rank of 64, and other layers may have",
    ),
    leaves(
        "factorize.linear.svd_linear",
        lambda m, x: F.linear(x, m.w),
        X,
        w=number(10, 12),
        because="95% of the energy of noise need nearly every term",
    ),
    leaves(
        "factorize.linear.svd_linear",
        lambda m, x: F.linear(F.linear(x, m.w), m.w.T),
        X,
        w=low_rank(10, 12, 2),
        because="the weight is tied to another layer",
    ),
    leaves(
        "factorize.linear.svd_linear",
        lambda m, x, w: F.linear(x, w),
        X,
        (10, 12),
        because="the weight is an input",
    ),
]

EMBEDDING = [
    fires(
        "factorize.embedding.svd_embedding",
        lambda m, ids: F.embedding(ids, m.e),
        IDS,
        e=low_rank(20, 8, 3),
        parameters={"rank": rank},
        precision=FULL,
        expect="""
            embedding_1 = embedding(e_svd, ids)
            linear = linear(embedding_1, e_svd_embedding)
        """,
    )
    for rank in (3, 0.75, Energy(1 - 1e-12), Error(1e-6))
] + [
    leaves(
        "factorize.embedding.svd_embedding",
        lambda m, ids: F.embedding(ids, m.e) @ m.e.T,
        IDS,
        e=low_rank(20, 8, 3),
        because="the table is tied to the output layer",
    ),
    leaves(
        "factorize.embedding.svd_embedding",
        lambda m, ids: F.embedding(ids, m.e),
        IDS,
        e=low_rank(20, 8, 3),
        parameters={"rank": 9},
        because="a table of 8 columns has no rank of 9",
    ),
]

STEADY = [
    fires(
        "factorize.steady.steady_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        w=1e-5 * number(10, 12),
        b=number(10),
        precision=1e-3,
        expect="linear_1 = linear(x, w_steady, w_steady_1)",
    ),
    leaves(
        "factorize.steady.steady_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        w=0.1 * number(10, 12),
        b=number(10),
        because="outputs vary by more than is allowed",
    ),
]

CASES = [*LINEAR, *EMBEDDING, *STEADY, *cases_regression.CASES, *cases_factorize_conv.CASES]
