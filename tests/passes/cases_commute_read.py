"""Cases of `passes/commute/gather.tdsl`: only the tokens that are read are computed."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number


def heads(x: torch.Tensor) -> torch.Tensor:
    """Heads [b, h, t, e] side by side: [b, t, h · e]."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)


QUERIES, KEYS = (2, 3, 5, 4), (2, 3, 6, 4)

CASES = [
    fires(
        "commute.gather.token_of_pointwise",
        lambda m, x: F.gelu(x)[:, 0],
        (2, 7, 5),
        expect="""
            select_1 = select(x, -2, 0)
            gelu_1 = gelu(select_1)
        """,
    ),
    leaves(
        "commute.gather.token_of_pointwise",
        lambda m, x: (lambda h: h[:, 0] * h[:, 1])(F.gelu(x)),
        (2, 7, 5),
        because="two tokens are read",
    ),
    fires(
        "commute.gather.tokens_of_pointwise",
        lambda m, x: F.gelu(x)[:, 1:3],
        (2, 7, 5),
        expect="""
            slice_2 = slice(x, dim=-2, start=1, end=3)
            gelu_1 = gelu(slice_2)
        """,
    ),
    leaves(
        "commute.gather.tokens_of_pointwise",
        lambda m, x: (lambda h: h[:, 1:3] * h[:, 3:5])(F.gelu(x)),
        (2, 7, 5),
        because="other tokens are read, too",
    ),
    fires(
        "commute.gather.token_of_layer_norm",
        lambda m, x: F.layer_norm(x, (5,), m.w, m.b)[:, 0],
        (2, 7, 5),
        w=number(5),
        b=number(5),
        expect="""
            select_1 = select(x, -2, 0)
            layer_norm_1 = layer_norm(select_1, [5], w, b)
        """,
    ),
    leaves(
        "commute.gather.token_of_layer_norm",
        lambda m, x: F.layer_norm(x, (5,), m.w, m.b)[..., 0],
        (2, 7, 5),
        w=number(5),
        b=number(5),
        because="one feature is read",
    ),
    leaves(
        "commute.gather.token_of_layer_norm",
        lambda m, x: F.layer_norm(x, (7, 5), m.w)[:, 0],
        (2, 7, 5),
        w=number(7, 5),
        because="all tokens are normalised together",
    ),
    fires(
        "commute.gather.tokens_of_layer_norm",
        lambda m, x: F.layer_norm(x, (5,), m.w, m.b)[:, 1:],
        (2, 7, 5),
        w=number(5),
        b=number(5),
        expect="""
            slice_2 = slice(x, dim=-2, start=1, end=7)
            layer_norm_1 = layer_norm(slice_2, [5], w, b)
        """,
    ),
    leaves(
        "commute.gather.tokens_of_layer_norm",
        lambda m, x: F.layer_norm(x, (5,), m.w, m.b)[..., 1:],
        (2, 7, 5),
        w=number(5),
        b=number(5),
        because="features are chosen",
    ),
    fires(
        "commute.gather.token_of_rms_norm",
        lambda m, x: F.rms_norm(x, (5,), m.w)[:, 0],
        (2, 7, 5),
        w=number(5),
        expect="""
            select_1 = select(x, -2, 0)
            rms_norm_1 = rms_norm(select_1, [5], w)
        """,
    ),
    leaves(
        "commute.gather.token_of_rms_norm",
        lambda m, x: F.rms_norm(x, (5,), m.w)[..., 0],
        (2, 7, 5),
        w=number(5),
        because="one feature is read",
    ),
    fires(
        "commute.gather.tokens_of_rms_norm",
        lambda m, x: F.rms_norm(x, (5,), m.w)[:, 1:],
        (2, 7, 5),
        w=number(5),
        expect="""
            slice_2 = slice(x, dim=-2, start=1, end=7)
            rms_norm_1 = rms_norm(slice_2, [5], w)
        """,
    ),
    leaves(
        "commute.gather.tokens_of_rms_norm",
        lambda m, x: F.rms_norm(x, (5,), m.w)[..., 1:],
        (2, 7, 5),
        w=number(5),
        because="features are chosen",
    ),
    fires(
        "commute.gather.token_of_residual",
        lambda m, x, y: (y + F.linear(x, m.W, m.b))[:, 0],
        (2, 7, 5),
        (2, 7, 4),
        W=number(4, 5),
        b=number(4),
        more_operators="a part of the other summand is taken, too: less is computed",
        expect="""
            select_1 = select(y, -2, 0)
            select_2 = select(x, -2, 0)
            linear_1 = linear(select_2, W, b)
            add_1 = add(select_1, linear_1)
        """,
    ),
    leaves(
        "commute.gather.token_of_residual",
        lambda m, x, y: (y + F.linear(x, m.W, m.b))[:, 0],
        (2, 7, 5),
        (4,),
        W=number(4, 5),
        b=number(4),
        because="the other summand is the same for all tokens",
    ),
    leaves(
        "commute.gather.token_of_residual",
        lambda m, x, y: (y + F.linear(x, m.W))[:, 0],
        (2, 1, 5),
        (2, 1, 4),
        W=number(4, 5),
        because="the layer is computed for one token anyway",
    ),
    fires(
        "commute.gather.tokens_of_residual",
        lambda m, x, y: (y + F.linear(x, m.W))[:, -1:],
        (2, 7, 5),
        (2, 7, 4),
        W=number(4, 5),
        more_operators="a part of the other summand is taken, too: less is computed",
        expect="""
            slice_2 = slice(y, dim=-2, start=6, end=7)
            slice_3 = slice(x, dim=-2, start=6, end=7)
            linear_1 = linear(slice_3, W)
            add_1 = add(slice_2, linear_1)
        """,
    ),
    leaves(
        "commute.gather.tokens_of_residual",
        lambda m, x, y: (y + F.linear(x, m.W))[:, 1:],
        (2, 7, 5),
        (2, 7, 4),
        W=number(4, 5),
        because="most tokens are read",
    ),
    fires(
        "commute.gather.token_of_attention",
        lambda m, q, k, v: heads(F.scaled_dot_product_attention(q, k, v))[:, 1],
        QUERIES,
        KEYS,
        KEYS,
        expect="""
            slice_1 = slice(q, dim=-2, start=1, end=2)
            attention = attention(slice_1, k, v)
            reshape_1 = reshape(attention, [2, 12])
        """,
    ),
    leaves(
        "commute.gather.token_of_attention",
        lambda m, q, k, v: heads(F.scaled_dot_product_attention(q, k, v, is_causal=True))[:, 1],
        QUERIES,
        QUERIES,
        QUERIES,
        because="later keys are not seen",
    ),
    leaves(
        "commute.gather.token_of_attention",
        lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)[:, :, 1],
        QUERIES,
        KEYS,
        KEYS,
        because="one feature is read",
    ),
    fires(
        "commute.gather.token_of_masked_attention",
        lambda m, q, k, v, a: heads(F.scaled_dot_product_attention(q, k, v, a))[:, 1],
        QUERIES,
        KEYS,
        KEYS,
        (2, 1, 1, 6),
        expect="""
            slice_1 = slice(q, dim=-2, start=1, end=2)
            attention = attention(slice_1, k, v, a)
            reshape_1 = reshape(attention, [2, 12])
        """,
    ),
    leaves(
        "commute.gather.token_of_masked_attention",
        lambda m, q, k, v, a: heads(F.scaled_dot_product_attention(q, k, v, a))[:, 1],
        QUERIES,
        KEYS,
        KEYS,
        (2, 1, 5, 6),
        because="queries have masks of their own",
    ),
    fires(
        "commute.gather.token_of_attention_with_rows",
        lambda m, q, k, v, a: heads(F.scaled_dot_product_attention(q, k, v, a))[:, 1],
        QUERIES,
        KEYS,
        KEYS,
        (5, 6),
        expect="""
            slice_1 = slice(q, dim=-2, start=1, end=2)
            slice_2 = slice(a, dim=-2, start=1, end=2)
            attention = attention(slice_1, k, v, slice_2)
            reshape_1 = reshape(attention, [2, 12])
        """,
    ),
    leaves(
        "commute.gather.token_of_attention_with_rows",
        lambda m, q, k, v, a: heads(F.scaled_dot_product_attention(q, k, v, a))[:, 1],
        QUERIES,
        KEYS,
        KEYS,
        (2, 1, 1, 6),
        because="one mask for all queries",
    ),
    fires(
        "commute.gather.tokens_of_attention",
        lambda m, q, k, v: heads(F.scaled_dot_product_attention(q, k, v))[:, :1],
        QUERIES,
        KEYS,
        KEYS,
        expect="""
            slice_2 = slice(q, dim=-2, start=0, end=1)
            attention = attention(slice_2, k, v)
            permute = permute(attention, [0, 2, 1, 3])
            reshape_1 = reshape(permute, [2, 1, 12])
        """,
    ),
    leaves(
        "commute.gather.tokens_of_attention",
        lambda m, q, k, v: heads(F.scaled_dot_product_attention(q, k, v))[:, 1:],
        QUERIES,
        KEYS,
        KEYS,
        because="most of them are asked for",
    ),
    fires(
        "commute.gather.last_token_of_attention",
        lambda m, q, k, v: heads(F.scaled_dot_product_attention(q, k, v, is_causal=True))[:, -1],
        QUERIES,
        QUERIES,
        QUERIES,
        expect="""
            slice_1 = slice(q, dim=-2, start=4, end=5)
            attention = attention(slice_1, k, v)
            reshape_1 = reshape(attention, [2, 12])
        """,
    ),
    leaves(
        "commute.gather.last_token_of_attention",
        lambda m, q, k, v: heads(F.scaled_dot_product_attention(q, k, v, is_causal=True))[:, -2],
        QUERIES,
        QUERIES,
        QUERIES,
        because="one key is not seen",
    ),
    fires(
        "commute.gather.last_tokens_of_attention",
        lambda m, q, k, v: heads(F.scaled_dot_product_attention(q, k, v, is_causal=True))[:, -1:],
        QUERIES,
        QUERIES,
        QUERIES,
        expect="""
            slice_2 = slice(q, dim=-2, start=4, end=5)
            attention = attention(slice_2, k, v)
            reshape_1 = reshape(attention, [2, 1, 12])
        """,
    ),
    leaves(
        "commute.gather.last_tokens_of_attention",
        lambda m, q, k, v: heads(F.scaled_dot_product_attention(q, k, v, is_causal=True))[:, -2:],
        QUERIES,
        QUERIES,
        QUERIES,
        because="the first of two sees less",
    ),
]
