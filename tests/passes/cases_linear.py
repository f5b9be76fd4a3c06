"""Cases of the dense rules of `passes/factorize`: layers, hidden units and embeddings, with data."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, low_rank, number
from torch import Tensor

from tdsl.factor.rank import Energy, Error, Ratio

FULL = 1e-9
"""Precision where the rank kept is that of the weight."""
MOMENT = 1e-7
"""The same where data decide: what they never show counts for a little (`tdsl.factor.moment.DAMPING`)."""
X = (40, 12)
DENSE = {"w": low_rank(10, 12, 2), "b": number(10)}


def twins(*sizes: int) -> Tensor:
    """Random rows, each of them twice."""
    rows, *others = sizes
    return number(rows // 2, *others).repeat(2, *[1 for _ in others])


WHITENED = [
    fires(
        "factorize.linear.whitened_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        **DENSE,
        parameters={"rank": rank},
        precision=FULL,
        expect="""
            linear_1 = linear(x, w_whitened_svd)
            linear_2 = linear(linear_1, w_whitened_svd_1, b_whitened_linear)
        """,
    )
    for rank in (2, 0.5, Ratio(0.5), Energy(1 - 1e-12), Error(1e-6))
] + [
    fires(
        "factorize.linear.whitened_linear",
        lambda m, x: F.linear(x, m.w),
        X,
        w=DENSE["w"],
        parameters={"rank": 2},
        precision=FULL,
        expect="""
            linear_1 = linear(x, w_whitened_svd)
            linear_2 = linear(linear_1, w_whitened_svd_1, w_whitened_linear)
        """,
    ),
    leaves(
        "factorize.linear.whitened_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        **DENSE,
        parameters={"rank": 6},
        because="factors of rank 6 are larger than the weight",
    ),
    leaves(
        "factorize.linear.whitened_linear",
        lambda m, x: F.linear(F.linear(x, m.w), m.w.T),
        X,
        w=low_rank(10, 12, 2),
        because="the weight is tied to another layer",
    ),
    leaves(
        "factorize.linear.whitened_linear",
        lambda m, x: F.linear(x, m.w),
        X,
        w=number(10, 12),
        because="95% of the energy of noise on white inputs need nearly every term",
    ),
]

TWO_SIDED = [
    fires(
        "factorize.linear.two_sided_linear",
        lambda m, x: F.linear(x, m.w, m.b).tanh(),
        X,
        **DENSE,
        parameters={"rank": rank},
        precision=FULL,
        expect="""
            linear_1 = linear(x, w_two_sided_svd)
            linear_2 = linear(linear_1, w_two_sided_svd_1, b_two_sided_linear)
            tanh = tanh(linear_2)
        """,
    )
    for rank in (2, 0.5)
] + [
    leaves(
        "factorize.linear.two_sided_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        **DENSE,
        parameters={"rank": 6},
        because="factors of rank 6 are larger than the weight",
    ),
    leaves(
        "factorize.linear.two_sided_linear",
        lambda m, x, b: F.linear(x, m.w, b),
        X,
        (10,),
        w=DENSE["w"],
        because="the bias is an input, which no correction can be added to for free",
    ),
]

WIDE = [
    fires(
        "factorize.linear.wide_linear",
        lambda m, x: F.linear(x, m.w, m.b).tanh(),
        X,
        **DENSE,
        parameters={"rank": 2, "above": 11},
        precision=FULL,
        expect="""
            linear_1 = linear(x, w_two_sided_output_svd)
            linear_2 = linear(linear_1, w_two_sided_output_svd_1, b_wide_linear)
            tanh = tanh(linear_2)
        """,
    ),
    leaves(
        "factorize.linear.wide_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        **DENSE,
        parameters={"rank": 2},
        because="the moment of 12 inputs is small enough for the other rules",
    ),
    leaves(
        "factorize.linear.wide_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        **DENSE,
        parameters={"rank": 6, "above": 11},
        because="factors of rank 6 are larger than the weight",
    ),
]

CUR = [
    fires(
        "factorize.linear.cur_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        **DENSE,
        parameters={"rank": 2},
        precision=FULL,
        expect="""
            linear_1 = linear(x, w_cur)
            linear_2 = linear(linear_1, w_cur_linear, b)
        """,
    ),
    leaves(
        "factorize.linear.cur_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        **DENSE,
        parameters={"rank": 6},
        because="folded factors of rank 6 are larger than the weight",
    ),
]

WHITENED_CUR = [
    fires(
        "factorize.linear.whitened_cur_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        **DENSE,
        parameters={"rank": rank},
        precision=FULL,
        expect="""
            linear_1 = linear(x, w_whitened_cur)
            linear_2 = linear(linear_1, w_whitened_cur_linear, b_whitened_cur_linear)
        """,
    )
    for rank in (2, Error(1e-6))
] + [
    leaves(
        "factorize.linear.whitened_cur_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        **DENSE,
        parameters={"rank": 6},
        because="folded factors of rank 6 are larger than the weight",
    ),
    leaves(
        "factorize.linear.whitened_cur_linear",
        lambda m, x: F.linear(F.linear(x, m.w), m.w.T),
        X,
        w=low_rank(10, 12, 2),
        parameters={"rank": 2},
        because="the weight is tied to another layer",
    ),
]

FIRST = twins(16, 12)
MLP = {"a": FIRST, "c": twins(16), "b": number(10, 16), "d": number(10)}
NEURONS = [
    fires(
        "factorize.linear.interpolative_neurons",
        lambda m, x: F.linear(F.gelu(F.linear(x, m.a, m.c)), m.b, m.d),
        X,
        **MLP,
        parameters={"rank": rank},
        precision=MOMENT,
        expect="""
            linear_2 = linear(x, b_interpolative_neurons, b_interpolative_neurons_1)
            gelu_1 = gelu(linear_2)
            linear_3 = linear(gelu_1, b_interpolative, d_interpolative_neurons)
        """,
    )
    for rank in (8, 0.5, Error(1e-4))
] + [
    fires(
        "factorize.linear.interpolative_neurons",
        lambda m, x: F.linear(F.linear(x, m.a).relu(), m.b),
        X,
        a=FIRST,
        b=MLP["b"],
        parameters={"rank": 8},
        precision=MOMENT,
        expect="""
            linear_2 = linear(x, b_interpolative_neurons)
            relu_1 = relu(linear_2)
            linear_3 = linear(relu_1, b_interpolative, b_interpolative_neurons_1)
        """,
    ),
    leaves(
        "factorize.linear.interpolative_neurons",
        lambda m, x: (lambda h: (F.linear(h.relu(), m.b), h))(F.linear(x, m.a)),
        X,
        a=FIRST,
        b=MLP["b"],
        because="the hidden units are an output too",
    ),
    leaves(
        "factorize.linear.interpolative_neurons",
        lambda m, x: F.linear(F.linear(x, m.a).softmax(-1), m.b).relu(),
        X,
        a=FIRST,
        b=MLP["b"],
        because="a softmax mixes the hidden units",
    ),
    leaves(
        "factorize.linear.interpolative_neurons",
        lambda m, x: F.linear(F.linear(x, m.a).relu(), m.b),
        X,
        a=number(16, 12),
        b=MLP["b"],
        parameters={"rank": Error(1e-4)},
        because="no hidden unit repeats others",
    ),
]

GATED = [
    fires(
        "factorize.linear.interpolative_gated",
        lambda m, x: F.linear(F.silu(F.linear(x, m.g)) * F.linear(x, m.a, m.c), m.b, m.d),
        X,
        g=twins(16, 12),
        **MLP,
        parameters={"rank": rank},
        precision=MOMENT,
        expect="""
            linear_3 = linear(x, b_interpolative_gated)
            silu_1 = silu(linear_3)
            linear_4 = linear(x, b_interpolative_gated_1, b_interpolative_gated_2)
            mul_1 = mul(silu_1, linear_4)
            linear_5 = linear(mul_1, b_interpolative, d_interpolative_gated)
        """,
    )
    for rank in (8, 0.5)
] + [
    leaves(
        "factorize.linear.interpolative_gated",
        lambda m, x: F.linear(F.silu(F.linear(x, m.g)) * F.linear(x + 1, m.a), m.b),
        X,
        g=twins(16, 12),
        a=FIRST,
        b=MLP["b"],
        because="gate and units read different inputs",
    ),
    leaves(
        "factorize.linear.interpolative_gated",
        lambda m, x: (lambda h: (F.linear(h, m.b), h))(F.silu(F.linear(x, m.g)) * F.linear(x, m.a)),
        X,
        g=twins(16, 12),
        a=FIRST,
        b=MLP["b"],
        because="the hidden units are an output too",
    ),
]

WEIGHTED = [
    fires(
        "factorize.linear.interpolative_neurons_weighted",
        lambda m, x: F.linear(F.gelu(F.linear(x, m.a, m.c)), m.b, m.d).tanh(),
        X,
        **MLP,
        parameters={"rank": rank},
        precision=MOMENT,
        expect="""
            linear_2 = linear(x, b_interpolative_neurons_weighted, b_interpolative_neurons_weighted_1)
            gelu_1 = gelu(linear_2)
            linear_3 = linear(gelu_1, b_interpolative_weighted, d_interpolative_neurons_weighted)
            tanh = tanh(linear_3)
        """,
    )
    for rank in (8, 0.5)
] + [
    leaves(
        "factorize.linear.interpolative_neurons_weighted",
        lambda m, x: (lambda h: (F.linear(h.relu(), m.b), h))(F.linear(x, m.a)),
        X,
        a=FIRST,
        b=MLP["b"],
        because="the hidden units are an output too",
    ),
    leaves(
        "factorize.linear.interpolative_neurons_weighted",
        lambda m, x: F.linear(F.linear(x, m.a).softmax(-1), m.b).relu(),
        X,
        a=FIRST,
        b=MLP["b"],
        because="a softmax mixes the hidden units",
    ),
]

IDS = torch.tensor([[0, 3, 8], [5, 5, 1]])
TABLE = low_rank(20, 8, 3)
FREQUENT = [
    fires(
        "factorize.embedding.frequent_embedding",
        lambda m, ids: F.embedding(ids, m.e),
        IDS,
        e=TABLE,
        parameters={"rank": rank},
        precision=FULL,
        expect="""
            embedding_1 = embedding(e_fisher_svd, ids)
            linear = linear(embedding_1, e_frequent_embedding)
        """,
    )
    for rank in (3, 0.75, Error(1e-6))
] + [
    leaves(
        "factorize.embedding.frequent_embedding",
        lambda m, ids: F.embedding(ids, m.e) @ m.e.T,
        IDS,
        e=TABLE,
        because="the table is tied to the output layer",
    ),
]


TIED = [
    fires(
        "factorize.embedding.tied_embedding",
        lambda m, ids, x: (F.embedding(ids, m.e), F.linear(x, m.e, m.b)),
        IDS,
        (5, 8),
        e=TABLE,
        b=number(20),
        parameters={"rank": 3},
        precision=FULL,
        expect="""
            embedding_1 = embedding(e_svd, ids)
            linear_1 = linear(embedding_1, e_tied_embedding)
            linear_2 = linear(x, e_svd_1)
            linear_3 = linear(linear_2, e_svd, b)
        """,
    ),
    fires(
        "factorize.embedding.tied_embedding",
        lambda m, ids: F.linear(F.embedding(ids, m.e).tanh(), m.e),
        IDS,
        e=TABLE,
        parameters={"rank": 3},
        precision=FULL,
        expect="""
            embedding_1 = embedding(e_svd, ids)
            linear_1 = linear(embedding_1, e_tied_embedding)
            tanh = tanh(linear_1)
            linear_2 = linear(tanh, e_svd_1)
            linear_3 = linear(linear_2, e_svd)
        """,
    ),
    leaves(
        "factorize.embedding.tied_embedding",
        lambda m, ids: F.linear(F.embedding(ids, m.e).tanh(), m.e) + (F.embedding(ids, m.e) @ m.e.T),
        IDS,
        e=TABLE,
        parameters={"rank": 3},
        because="a third use of the table would keep it",
    ),
    leaves(
        "factorize.embedding.tied_embedding",
        lambda m, ids: F.linear(F.embedding(ids, m.e).tanh(), m.u),
        IDS,
        e=TABLE,
        u=low_rank(20, 8, 3),
        parameters={"rank": 3},
        because="the output layer is another table",
    ),
]

CASES = [*WHITENED, *TWO_SIDED, *WIDE, *CUR, *WHITENED_CUR, *NEURONS, *GATED, *WEIGHTED, *FREQUENT, *TIED]
