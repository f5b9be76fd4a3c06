"""Cases of the dense rules of `passes/factorize`: layers, hidden units, embeddings and heads, with data."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, low_rank, number
from torch import Tensor, nn

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

TOKENS = (3, 6, 12)
HEADS = 2


def narrow_heads(rank: int) -> tuple[Tensor, Tensor]:
    """Two weights [2 heads of 4, 12 inputs] and biases in a last column, of that many independent rows a head."""
    first, second = (torch.cat([low_rank(4, 13, rank) for _ in range(HEADS)]) for _ in range(2))
    return first, second


def scores(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """What two heads score each token of x with, against each of y."""
    q = F.linear(x, m.q, m.a).reshape(3, 6, 2, 4).permute(0, 2, 1, 3)
    return q @ F.linear(y, m.k, m.c).reshape(3, 6, 2, 4).permute(0, 2, 3, 1)


def rotated(m: nn.Module, x: Tensor) -> Tensor:
    """Scores of queries and keys that a rotation by position stands before."""
    q = F.linear(x, m.q, m.a).reshape(3, 6, 2, 4).permute(0, 2, 1, 3)
    k = F.linear(x, m.k, m.c).reshape(3, 6, 2, 4).permute(0, 2, 1, 3)
    q, k = (t * m.cos + torch.cat([-t[..., 2:], t[..., :2]], -1) * m.sin for t in (q, k))
    return q @ k.permute(0, 1, 3, 2)


def normed(m: nn.Module, x: Tensor) -> Tensor:
    """Scores of queries and keys that are normalised first."""
    q = F.layer_norm(F.linear(x, m.q, m.a).reshape(3, 6, 2, 4), [4]).permute(0, 2, 1, 3)
    return q @ F.layer_norm(F.linear(x, m.k, m.c).reshape(3, 6, 2, 4), [4]).permute(0, 2, 3, 1)


QUERY, KEY = narrow_heads(2)
HEAD = {"q": QUERY[:, :12], "a": QUERY[:, 12], "k": KEY[:, :12], "c": KEY[:, 12]}
HEAD = {name: part.contiguous() for name, part in HEAD.items()}
ANGLES = torch.arange(6, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.1, 1.0, 0.1]).double()
QUERY_KEY = [
    fires(
        "factorize.attention.query_key",
        scores,
        TOKENS,
        TOKENS,
        **HEAD,
        parameters={"rank": rank},
        precision=FULL,
        expect="""
            linear_2 = linear(x, q_query_key, q_query_key_1)
            reshape_2 = reshape(linear_2, [3, 6, 2, 2])
            permute_2 = permute(reshape_2, [0, 2, 1, 3])
            linear_3 = linear(y, q_query_key_2, q_query_key_3)
            reshape_3 = reshape(linear_3, [3, 6, 2, 2])
            permute_3 = permute(reshape_3, [0, 2, 3, 1])
            matmul_1 = matmul(permute_2, permute_3)
        """,
    )
    for rank in (2, 1.0, Error(1e-6))
] + [
    leaves(
        "factorize.attention.query_key",
        rotated,
        TOKENS,
        **HEAD,
        cos=ANGLES.cos(),
        sin=ANGLES.sin(),
        parameters={"rank": 2},
        because="positions rotate queries and keys",
    ),
    leaves(
        "factorize.attention.query_key",
        normed,
        TOKENS,
        **HEAD,
        parameters={"rank": 2},
        because="queries and keys are normalised",
    ),
    leaves(
        "factorize.attention.query_key",
        scores,
        TOKENS,
        TOKENS,
        q=number(8, 12),
        k=number(8, 12),
        a=number(8),
        c=number(8),
        parameters={"rank": Error(1e-6)},
        because="the heads need their whole width",
    ),
]


def attended(m: nn.Module, x: Tensor, weights: Tensor) -> Tensor:
    """Values of two heads, mixed and sent through the output layer."""
    v = F.linear(x, m.v, m.c).reshape(3, 6, 2, 4).permute(0, 2, 1, 3)
    return F.linear((weights.softmax(-1) @ v).permute(0, 2, 1, 3).reshape(3, 6, 8), m.o, m.d)


def unnormalised(m: nn.Module, x: Tensor, weights: Tensor) -> Tensor:
    """The same with weights that do not sum to 1."""
    v = F.linear(x, m.v, m.c).reshape(3, 6, 2, 4).permute(0, 2, 1, 3)
    return F.linear((weights.softmax(-1).relu() @ v).permute(0, 2, 1, 3).reshape(3, 6, 8), m.o, m.d)


NARROW = {
    "v": torch.cat([low_rank(4, 12, 2) for _ in range(HEADS)]),
    "c": number(8),
    "o": number(10, 8),
    "d": number(10),
}
VALUE_OUTPUT = [
    fires(
        "factorize.attention.value_output",
        attended,
        TOKENS,
        (3, 2, 6, 6),
        **NARROW,
        parameters={"rank": rank},
        precision=FULL,
        expect="""
            softmax_1 = softmax(weights, -1)
            linear_2 = linear(x, o_value_output)
            reshape_2 = reshape(linear_2, [3, 6, 2, 2])
            permute_2 = permute(reshape_2, [0, 2, 1, 3])
            matmul_1 = matmul(softmax_1, permute_2)
            permute_3 = permute(matmul_1, [0, 2, 1, 3])
            reshape_3 = reshape(permute_3, [3, 6, 4])
            linear_3 = linear(reshape_3, o_value_output_1, d_value_output)
        """,
    )
    for rank in (2, Error(1e-6))
] + [
    leaves(
        "factorize.attention.value_output",
        unnormalised,
        TOKENS,
        (3, 2, 6, 6),
        **NARROW,
        parameters={"rank": 2},
        because="what weights the values need not sum to 1",
    ),
    leaves(
        "factorize.attention.value_output",
        attended,
        TOKENS,
        (3, 2, 6, 6),
        **{**NARROW, "v": number(8, 12)},
        parameters={"rank": Error(1e-6)},
        because="the heads need their whole width",
    ),
]

CASES = [
    *WHITENED,
    *TWO_SIDED,
    *CUR,
    *NEURONS,
    *GATED,
    *FREQUENT,
    *TIED,
    *QUERY_KEY,
    *VALUE_OUTPUT,
]
