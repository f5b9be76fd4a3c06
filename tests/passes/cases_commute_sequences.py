"""Cases of `passes/commute/sequences.tdsl`, and of other rules about heads and tokens."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves
from torch import Tensor, nn

IMAGE, TOKENS, HEADS = (2, 4, 5, 6), (2, 5, 6), (2, 5, 4, 6)
ORDER = torch.tensor([2, 0, 3, 1])
MORE = "the permutation goes on, and meets its inverse or a layer"


def attended(*parts: Tensor) -> Tensor:
    """Attention of queries, keys and values [b, t, 6], three heads each."""
    return F.scaled_dot_product_attention(*(part.reshape(2, 4, 3, 2).transpose(1, 2) for part in parts))


CASES = [
    fires(
        "commute.sequences.linear_of_permute",
        lambda m, x: m.fc(x.permute(1, 2, 0, 3)),
        IMAGE,
        fc=nn.Linear(6, 3),
        expect="""
            linear_1 = linear(x, fc.weight, fc.bias)
            permute_1 = permute(linear_1, [1, 2, 0, 3])
        """,
    ),
    leaves(
        "commute.sequences.linear_of_permute",
        lambda m, x: m.fc(x.mT),
        (2, 4, 6),
        fc=nn.Linear(4, 3),
        because="features are among the axes that change places",
    ),
    fires(
        "commute.sequences.layer_norm_of_permute",
        lambda m, x: m.norm(x.transpose(0, 1)),
        TOKENS,
        norm=nn.LayerNorm(6),
        expect="""
            layer_norm_1 = layer_norm(x, [6], norm.weight, norm.bias)
            permute = permute(layer_norm_1, [1, 0, 2])
        """,
    ),
    leaves(
        "commute.sequences.layer_norm_of_permute",
        lambda m, x: m.norm(x.transpose(0, 1)),
        TOKENS,
        norm=nn.LayerNorm((2, 6)),
        because="two axes are normalised together",
    ),
    fires(
        "commute.sequences.rms_norm_of_permute",
        lambda m, x: m.norm(x.transpose(0, 1)),
        TOKENS,
        norm=nn.RMSNorm(6),
        expect="""
            rms_norm_1 = rms_norm(x, [6], norm.weight)
            permute = permute(rms_norm_1, [1, 0, 2])
        """,
    ),
    leaves(
        "commute.sequences.rms_norm_of_permute",
        lambda m, x: m.norm(x.mT),
        (2, 6, 6),
        norm=nn.RMSNorm(6),
        because="features are exchanged with tokens",
    ),
    fires(
        "commute.sequences.heads_of_exchanged",
        lambda m, x: x.transpose(0, 1).reshape(5, 2, 3, 2),
        TOKENS,
        expect="""
            reshape_1 = reshape(x, [2, 5, 3, 2])
            permute = permute(reshape_1, [1, 0, 2, 3])
        """,
    ),
    leaves(
        "commute.sequences.heads_of_exchanged",
        lambda m, x: x.transpose(0, 1).reshape(5, 4, 3, 1),
        TOKENS,
        because="heads are cut out of two images at once",
    ),
    fires(
        "commute.sequences.heads_of_each",
        lambda m, x: x.reshape(5, 6, 2).transpose(0, 1).reshape(2, 3, 5, 2),
        (5, 2, 6),
        expect="""
            reshape_2 = reshape(x, [5, 2, 3, 2])
            permute = permute(reshape_2, [1, 2, 0, 3])
        """,
    ),
    leaves(
        "commute.sequences.heads_of_each",
        lambda m, x: x.reshape(5, 6, 2).transpose(0, 1).reshape(3, 2, 5, 2),
        (5, 2, 6),
        because="heads of an image belong to another one",
    ),
    fires(
        "commute.sequences.exchanged_layer_of_heads",
        lambda m, x: m.fc(x.permute(2, 0, 1, 3).reshape(4, 2, 30)).transpose(0, 1),
        HEADS,
        fc=nn.Linear(30, 6),
        expect="""
            permute_1 = permute(x, [0, 2, 1, 3])
            reshape_1 = reshape(permute_1, [2, 4, 30])
            linear_1 = linear(reshape_1, fc.weight, fc.bias)
        """,
    ),
    leaves(
        "commute.sequences.exchanged_layer_of_heads",
        lambda m, x: m.fc(x.permute(2, 0, 1, 3).reshape(4, 2, 30)).relu().transpose(0, 1),
        HEADS,
        fc=nn.Linear(30, 6),
        because="something stands between",
    ),
    fires(
        "commute.sequences.elementwise_of_exchanged_and_heads",
        lambda m, x, y: y.transpose(0, 1) + m.fc(x.permute(2, 0, 1, 3).reshape(4, 2, 30)),
        HEADS,
        (2, 4, 6),
        fc=nn.Linear(30, 6),
        more_operators=MORE,
        expect="""
            permute_1 = permute(y, [0, 1, 2])
            permute_2 = permute(x, [0, 2, 1, 3])
            reshape_1 = reshape(permute_2, [2, 4, 30])
            linear_1 = linear(reshape_1, fc.weight, fc.bias)
            add_1 = add(permute_1, linear_1)
            permute_3 = permute(add_1, [1, 0, 2])
        """,
    ),
    leaves(
        "commute.sequences.elementwise_of_exchanged_and_heads",
        lambda m, x, y: y.transpose(0, 1) + m.fc(x.permute(2, 0, 1, 3).reshape(4, 2, 30)),
        HEADS,
        (1, 4, 6),
        fc=nn.Linear(30, 6),
        because="it is the same for all images",
    ),
    fires(
        "commute.sequences.axis_of_one_carried",
        lambda m, x: x.unsqueeze(0).transpose(0, -2).squeeze(-2),
        (5, 2, 3, 4),
        expect="""
            permute = permute(x, [2, 0, 1, 3])
        """,
    ),
    leaves(
        "commute.sequences.axis_of_one_carried",
        lambda m, x: x.unsqueeze(0).permute(2, 1, 0, 3).squeeze(1),
        (1, 2, 3),
        because="it is another axis of one that goes",
    ),
    fires(
        "commute.sequences.select_of_moved_axis",
        lambda m, x: (lambda h: h[0] * h[1].relu())(x.permute(2, 0, 1, 3)),
        HEADS,
        times=2,
        expect="""
            select_3 = select(x, -2, 0)
            select_2 = select(x, -2, 1)
            relu = relu(select_2)
            mul = mul(select_3, relu)
        """,
    ),
    leaves(
        "commute.sequences.select_of_moved_axis",
        lambda m, x: (lambda h: h[0] * h[1].relu())(x.permute(2, 1, 0, 3)),
        HEADS,
        because="the other axes change places",
    ),
    fires(
        "commute.sequences.heads_of_exchanged_part",
        lambda m, x: x.transpose(0, 1)[:, :, 1].reshape(4, 2, 3, 2).permute(1, 2, 0, 3),
        (2, 4, 3, 6),
        expect="""
            select_1 = select(x, -2, 1)
            reshape_1 = reshape(select_1, [2, 4, 3, 2])
            permute_1 = permute(reshape_1, [0, 2, 1, 3])
        """,
    ),
    leaves(
        "commute.sequences.heads_of_exchanged_part",
        lambda m, x: x.transpose(0, 1)[:, :, 1].reshape(4, 3, 2, 2).permute(1, 2, 0, 3),
        (2, 4, 3, 6),
        because="heads are cut out of two images at once",
    ),
    fires(
        "commute.sequences.linear_of_positions_first",
        lambda m, x: m.fc(x.permute(2, 0, 1)),
        (2, 6, 5),
        fc=nn.Linear(6, 3),
        more_operators=MORE,
        expect="""
            permute_1 = permute(x, [0, 2, 1])
            linear_1 = linear(permute_1, fc.weight, fc.bias)
            permute_2 = permute(linear_1, [1, 0, 2])
        """,
    ),
    leaves(
        "commute.sequences.linear_of_positions_first",
        lambda m, x: m.fc(x.permute(2, 1, 0)),
        (6, 2, 5),
        fc=nn.Linear(6, 3),
        because="images go behind channels",
    ),
    fires(
        "commute.sequences.elementwise_of_other_permutes",
        lambda m, x, y: x.permute(2, 0, 1) + y.transpose(0, 1),
        (2, 6, 5),
        TOKENS,
        expect="""
            permute_1 = permute(x, [0, 2, 1])
            add_1 = add(permute_1, y)
            permute_2 = permute(add_1, [1, 0, 2])
        """,
    ),
    leaves(
        "commute.sequences.elementwise_of_other_permutes",
        lambda m, x, y: x.permute(2, 0, 1) + y.transpose(0, 1),
        (2, 6, 5),
        (1, 5, 6),
        because="one of them is the same for all images",
    ),
    fires(
        "commute.sequences.heads_of_three_parts",
        lambda m, x: attended(*(x[:, :, i] for i in range(3))),
        (2, 4, 3, 6),
        expect="""
            reshape_3 = reshape(x, [2, 4, 3, 3, 2])
            permute = permute(reshape_3, [2, 0, 3, 1, 4])
            select_3 = select(permute, -5, 0)
            reshape_4 = reshape(x, [2, 4, 3, 3, 2])
            permute_1 = permute(reshape_4, [2, 0, 3, 1, 4])
            select_4 = select(permute_1, -5, 1)
            reshape_5 = reshape(x, [2, 4, 3, 3, 2])
            permute_2 = permute(reshape_5, [2, 0, 3, 1, 4])
            select_5 = select(permute_2, -5, 2)
            attention = attention(select_3, select_4, select_5)
        """,
    ),
    leaves(
        "commute.sequences.heads_of_three_parts",
        lambda m, x, y: attended(x[:, :, 0], x[:, :, 1], y[:, :, 2]),
        (2, 4, 3, 6),
        (2, 4, 3, 6),
        because="values are parts of something else",
    ),
    fires(
        "commute.layers.linear_of_regrouped",
        lambda m, x: m.fc(x.reshape(8, 30)).reshape(2, 4, 7),
        (2, 4, 5, 6),
        fc=nn.Linear(30, 7),
        expect="""
            reshape_2 = reshape(x, [2, 4, 30])
            linear_1 = linear(reshape_2, fc.weight, fc.bias)
        """,
    ),
    leaves(
        "commute.layers.linear_of_regrouped",
        lambda m, x: m.fc(x.reshape(8, 6)).reshape(8, 4, 2),
        (2, 4, 6),
        fc=nn.Linear(6, 8),
        because="features are cut, too",
    ),
    fires(
        "commute.layers.selection_of_heads",
        lambda m, x: m.fc(x).reshape(2, 5, 3, 4).index_select(-1, m.order),
        TOKENS,
        fc=nn.Linear(6, 12),
        order=ORDER,
        expect="""
            linear_1 = linear(x, fc.weight_selection_of_heads, fc.bias_selection_of_heads)
            reshape_1 = reshape(linear_1, [2, 5, 3, 4])
        """,
    ),
    leaves(
        "commute.layers.selection_of_heads",
        lambda m, x: m.fc(x).reshape(2, 5, 4, 3).index_select(2, m.order),
        TOKENS,
        fc=nn.Linear(6, 12),
        order=ORDER,
        because="heads change places",
    ),
    fires(
        "commute.layers.selection_of_permuted_heads",
        lambda m, x: m.fc(x).reshape(2, 5, 3, 4).transpose(1, 2).index_select(-1, m.order),
        TOKENS,
        fc=nn.Linear(6, 12),
        order=ORDER,
        expect="""
            linear_1 = linear(x, fc.weight_selection_of_permuted_heads, fc.bias_selection_of_permuted_heads)
            reshape_1 = reshape(linear_1, [2, 5, 3, 4])
            permute = permute(reshape_1, [0, 2, 1, 3])
        """,
    ),
    leaves(
        "commute.layers.selection_of_permuted_heads",
        lambda m, x: (
            m.fc(x).reshape(2, 5, 3, 4).transpose(1, 2).index_select(-1, m.order) + m.fc.weight.sum()
        ),
        TOKENS,
        fc=nn.Linear(6, 12),
        order=ORDER,
        because="the weight is read elsewhere",
    ),
    fires(
        "commute.averaging.mean_of_tokens",
        lambda m, x: F.adaptive_avg_pool1d(x.mT, 1).flatten(1),
        TOKENS,
        expect="""
            mean = mean(x, dim=[-2])
        """,
    ),
    leaves(
        "commute.averaging.mean_of_tokens",
        lambda m, x: F.adaptive_avg_pool1d(x.mT, 2).flatten(1),
        TOKENS,
        because="two means are taken",
    ),
    fires(
        "commute.averaging.mean_of_positions",
        lambda m, x: F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), 1).flatten(1),
        IMAGE,
        expect="""
            mean = mean(x, dim=[-3, -2])
        """,
    ),
    leaves(
        "commute.averaging.mean_of_positions",
        lambda m, x: F.adaptive_avg_pool2d(x.permute(0, 1, 3, 2), 1).flatten(1),
        IMAGE,
        because="channels come first",
    ),
]
