"""Cases of `passes/commute/tokens.tdsl`, and of what sums and reversed channels have beside them."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number
from torch import nn
from torch.export import Dim

TOKENS, IMAGE = (2, 5, 6), (2, 4, 5, 6)
BATCH = {"x": {0: Dim("batch")}}
ORDER = torch.tensor([3, 0, 4, 1, 2])
SOME = torch.tensor([3, 0, 3, 1, 2])

CASES = [
    fires(
        "commute.tokens.function_of_linear_of_reshape",
        lambda m, x: F.linear(x.reshape(6, 4), m.W).tanh(),
        (2, 3, 4),
        W=number(5, 4),
        expect="""
            linear_1 = linear(x, W)
            tanh_1 = tanh(linear_1)
            reshape_1 = reshape(tanh_1, [6, 5])
        """,
    ),
    leaves(
        "commute.tokens.function_of_linear_of_reshape",
        lambda m, x: F.linear(x.reshape(2, 12), m.W).tanh(),
        (2, 3, 4),
        W=number(5, 12),
        because="features are put together, too",
    ),
    fires(
        "commute.tokens.reshape_of_linear_of_reshape",
        lambda m, x: F.linear(x.reshape(6, 4), m.W).reshape(3, 2, 5),
        (2, 3, 4),
        W=number(5, 4),
        expect="""
            linear_1 = linear(x, W)
            reshape_2 = reshape(linear_1, [3, 2, 5])
        """,
    ),
    leaves(
        "commute.tokens.reshape_of_linear_of_reshape",
        lambda m, x: F.linear(x.reshape(2, 12), m.W).reshape(5, 2),
        (2, 3, 4),
        W=number(5, 12),
        because="features are put together, too",
    ),
    fires(
        "commute.tokens.layer_norm_of_reshape",
        lambda m, x: F.layer_norm(x.reshape(6, 4), (4,), m.w, m.b),
        (2, 3, 4),
        w=number(4),
        b=number(4),
        expect="""
            layer_norm_1 = layer_norm(x, [4], w, b)
            reshape_1 = reshape(layer_norm_1, [6, 4])
        """,
    ),
    leaves(
        "commute.tokens.layer_norm_of_reshape",
        lambda m, x: F.layer_norm(x.reshape(2, 12), (12,)),
        (2, 3, 4),
        because="features are put together, too",
    ),
    fires(
        "commute.tokens.layer_norm_of_permuted_rows",
        lambda m, x: m.norm(x.index_select(1, m.i)),
        TOKENS,
        norm=nn.LayerNorm(6),
        i=ORDER,
        dynamic=BATCH,
        expect="""
            layer_norm_1 = layer_norm(x, [6], norm.weight, norm.bias)
            index_select_1 = index_select(layer_norm_1, -2, i)
        """,
    ),
    leaves(
        "commute.tokens.layer_norm_of_permuted_rows",
        lambda m, x: F.layer_norm(x.index_select(1, m.i), (5, 6)),
        TOKENS,
        i=ORDER,
        because="rows are normalised together",
    ),
    fires(
        "commute.tokens.rms_norm_of_permuted_rows",
        lambda m, x: F.rms_norm(x.index_select(1, m.i), (6,)),
        TOKENS,
        i=ORDER,
        expect="""
            rms_norm_1 = rms_norm(x, [6])
            index_select_1 = index_select(rms_norm_1, -2, i)
        """,
    ),
    leaves(
        "commute.tokens.rms_norm_of_permuted_rows",
        lambda m, x: F.rms_norm(x.index_select(1, m.i), (6,)),
        TOKENS,
        i=SOME,
        because="a token is left out",
    ),
    fires(
        "commute.tokens.attention_of_permuted_keys",
        lambda m, x: F.scaled_dot_product_attention(
            x.tanh(), x.index_select(1, m.i), x.relu().index_select(1, m.i)
        ),
        TOKENS,
        i=ORDER,
        expect="""
            tanh = tanh(x)
            relu = relu(x)
            attention = attention(tanh, x, relu)
        """,
    ),
    leaves(
        "commute.tokens.attention_of_permuted_keys",
        lambda m, x: F.scaled_dot_product_attention(
            x.tanh(), x.index_select(1, m.i), x.index_select(1, m.i), attn_mask=m.mask
        ),
        TOKENS,
        i=ORDER,
        mask=number(5, 5),
        because="the mask knows the places",
    ),
    fires(
        "commute.tokens.attention_of_permuted_queries",
        lambda m, x: F.scaled_dot_product_attention(x.index_select(1, m.i), x.tanh(), x),
        TOKENS,
        i=ORDER,
        expect="""
            tanh = tanh(x)
            attention = attention(x, tanh, x)
            index_select_1 = index_select(attention, -2, i)
        """,
    ),
    leaves(
        "commute.tokens.attention_of_permuted_queries",
        lambda m, x: F.scaled_dot_product_attention(x.index_select(1, m.i), x.tanh(), x, is_causal=True),
        TOKENS,
        i=ORDER,
        because="later queries see more",
    ),
    fires(
        "commute.invariance.softmax_of_difference",
        lambda m, x: (x - x.amax(-1, keepdim=True)).log_softmax(-1),
        TOKENS,
        dynamic=BATCH,
        expect="""
            amax = amax(x, dim=[-1], keepdim=true)
            log_softmax_1 = log_softmax(x, -1)
        """,
    ),
    leaves(
        "commute.invariance.softmax_of_difference",
        lambda m, x: (x.amax(-1, keepdim=True) - x).softmax(-1),
        TOKENS,
        because="signs are turned",
    ),
    fires(
        "commute.sums.sum_of_linears",
        lambda m, x: m.mix(x.tanh()) + m.mix(x),
        TOKENS,
        mix=nn.Linear(6, 3),
        dynamic=BATCH,
        expect="""
            tanh = tanh(x)
            add_1 = add(tanh, x)
            linear_2 = linear(add_1, mix.weight, mix.bias_sum_of_linears)
        """,
    ),
    leaves(
        "commute.sums.sum_of_linears",
        lambda m, x: m.mix(x.tanh()) + m.mix(x[:, :1]),
        TOKENS,
        mix=nn.Linear(6, 3),
        because="the sum would have more rows than one of them",
    ),
    fires(
        "commute.sums.sum_of_products",
        lambda m, x: x.tanh() @ m.w + x @ m.w,
        TOKENS,
        w=number(6, 6),
        expect="""
            tanh = tanh(x)
            add_1 = add(tanh, x)
            matmul_2 = matmul(add_1, w)
        """,
    ),
    leaves(
        "commute.sums.sum_of_products",
        lambda m, x: x.tanh() @ m.w + x @ m.v,
        TOKENS,
        w=number(6, 6),
        v=number(6, 6),
        because="there are two matrices",
    ),
    fires(
        "commute.channels.conv_of_reversed_channels",
        lambda m, x: m.conv(x.flip(1)),
        IMAGE,
        conv=nn.Conv2d(4, 3, 3, 2),
        dynamic=BATCH,
        expect="conv2d_1 = conv2d(x, conv.weight_conv_of_reversed_channels, conv.bias, stride=[2, 2])",
    ),
    leaves(
        "commute.channels.conv_of_reversed_channels",
        lambda m, x: m.conv(x.flip(1)),
        IMAGE,
        conv=nn.Conv2d(4, 4, 3, groups=2),
        because="groups change places",
    ),
    fires(
        "commute.channels.reversed_conv",
        lambda m, x: m.conv(x).flip(1),
        IMAGE,
        conv=nn.Conv2d(4, 3, 3),
        expect="conv2d_1 = conv2d(x, conv.weight_reversed_conv, conv.bias_reversed_conv)",
    ),
    leaves(
        "commute.channels.reversed_conv",
        lambda m, x: m.conv(x).flip(1, 3),
        IMAGE,
        conv=nn.Conv2d(4, 3, 3),
        because="columns are reversed, too",
    ),
]
