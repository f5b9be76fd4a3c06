"""Cases of `passes/factorize/attention.tdsl`: heads whose products have a smaller rank than their width."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, low_rank, number
from torch import Tensor, nn

from tdsl.factor.rank import Error

FULL = 1e-9
"""Precision where the rank kept is that of the products."""
TOKENS = (3, 6, 12)
HEADS = 2


def narrow_heads(rank: int) -> tuple[Tensor, Tensor]:
    """The weight [8, 12] and the bias [8] of two heads of width 4, of `rank` independent rows each."""
    both = torch.cat([low_rank(4, 13, rank) for _ in range(HEADS)])
    return both[:, :12].contiguous(), both[:, 12].contiguous()


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


(QUERY, QUERY_BIAS), (KEY, KEY_BIAS) = narrow_heads(2), narrow_heads(2)
HEAD = {"q": QUERY, "a": QUERY_BIAS, "k": KEY, "c": KEY_BIAS}
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
    fires(
        "factorize.attention.query_key",
        scores,
        TOKENS,
        TOKENS,
        q=low_rank(8, 12, 2),
        k=low_rank(8, 12, 2),
        a=None,
        c=None,
        parameters={"rank": 2},
        precision=FULL,
        more_bytes="biases for what moves all scores of a query",
        expect="""
            linear_2 = linear(x, q_query_key, q_query_key_1)
            reshape_2 = reshape(linear_2, [3, 6, 2, 2])
            permute_2 = permute(reshape_2, [0, 2, 1, 3])
            linear_3 = linear(y, q_query_key_2, q_query_key_3)
            reshape_3 = reshape(linear_3, [3, 6, 2, 2])
            permute_3 = permute(reshape_3, [0, 2, 3, 1])
            matmul_1 = matmul(permute_2, permute_3)
        """,
    ),
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

VALUE_OUTPUT_WEIGHTED = [
    fires(
        "factorize.attention.value_output_weighted",
        attended,
        TOKENS,
        (3, 2, 6, 6),
        **NARROW,
        parameters={"rank": rank},
        precision=1e-6,
        expect="""
            softmax_1 = softmax(weights, -1)
            linear_2 = linear(x, o_value_output_weighted, o_value_output_weighted_1)
            reshape_2 = reshape(linear_2, [3, 6, 2, 2])
            permute_2 = permute(reshape_2, [0, 2, 1, 3])
            matmul_1 = matmul(softmax_1, permute_2)
            permute_3 = permute(matmul_1, [0, 2, 1, 3])
            reshape_3 = reshape(permute_3, [3, 6, 4])
            linear_3 = linear(reshape_3, o_head_svd, d_value_output_weighted)
        """,
    )
    for rank in (2, 0.5)
] + [
    leaves(
        "factorize.attention.value_output_weighted",
        unnormalised,
        TOKENS,
        (3, 2, 6, 6),
        **NARROW,
        parameters={"rank": 2},
        because="what weights the values need not sum to 1",
    ),
    leaves(
        "factorize.attention.value_output_weighted",
        attended,
        TOKENS,
        (3, 2, 6, 6),
        **NARROW,
        parameters={"rank": 4},
        because="at their whole width the heads are as they were",
    ),
]


FUSED = [
    fires(
        "factorize.attention.query_key_fused",
        lambda m, x, y, v: F.scaled_dot_product_attention(
            F.linear(x, m.q, m.a).reshape(3, 6, 2, 4).permute(0, 2, 1, 3),
            F.linear(y, m.k, m.c).reshape(3, 6, 2, 4).permute(0, 2, 1, 3),
            v,
            is_causal=True,
        ),
        TOKENS,
        TOKENS,
        (3, 2, 6, 5),
        **HEAD,
        parameters={"rank": 2},
        precision=FULL,
        expect="""
            linear_2 = linear(x, q_query_key_fused, q_query_key_fused_1)
            reshape_2 = reshape(linear_2, [3, 6, 2, 2])
            permute_2 = permute(reshape_2, [0, 2, 1, 3])
            linear_3 = linear(y, q_query_key_fused_2, q_query_key_fused_3)
            reshape_3 = reshape(linear_3, [3, 6, 2, 2])
            permute_3 = permute(reshape_3, [0, 2, 1, 3])
            attention = attention(permute_2, permute_3, v, causal=true, scale=0.5)
        """,
    ),
    leaves(
        "factorize.attention.query_key_fused",
        lambda m, x, y, v: F.scaled_dot_product_attention(
            F.linear(x, m.q, m.a).reshape(3, 6, 2, 4).permute(0, 2, 1, 3).cos(),
            F.linear(y, m.k, m.c).reshape(3, 6, 2, 4).permute(0, 2, 1, 3),
            v,
        ),
        TOKENS,
        TOKENS,
        (3, 2, 6, 5),
        **HEAD,
        parameters={"rank": 2},
        because="queries pass a function first",
    ),
]

PLACES = torch.arange(128)
BLOCKWISE = [
    fires(
        "layout.attention_blocks",
        lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v, m.seen),
        (2, 128, 4),
        (2, 128, 4),
        (2, 128, 5),
        seen=PLACES[:, None] // 32 == PLACES // 32,
        more_operators="blocks are cut and put together",
        more_bytes="the mask says so in float64 and no more in bits",
        expect="""
            mul = mul(q, 0.5)
            reshape = reshape(mul, [2, 4, 32, 4])
            index_select = index_select(k, -2, keys)
            reshape_1 = reshape(index_select, [2, 4, 32, 4])
            permute = permute(reshape_1, [0, 1, 3, 2])
            matmul = matmul(reshape, permute)
            add = add(matmul, mask)
            softmax = softmax(add, -1)
            index_select_1 = index_select(v, -2, keys)
            reshape_2 = reshape(index_select_1, [2, 4, 32, 5])
            matmul_1 = matmul(softmax, reshape_2)
            reshape_3 = reshape(matmul_1, [2, 128, 5])
        """,
    ),
    leaves(
        "layout.attention_blocks",
        lambda m, q, k, v, seen: F.scaled_dot_product_attention(q, k, v, seen),
        (2, 128, 4),
        (2, 128, 4),
        (2, 128, 5),
        PLACES[:, None] // 32 == PLACES // 32,
        because="the mask is an input",
    ),
]

CASES = [*QUERY_KEY, *VALUE_OUTPUT, *VALUE_OUTPUT_WEIGHTED, *FUSED, *BLOCKWISE]
