"""Cases of `passes/commute/channels.tdsl` and `shuffles.tdsl`, and of `passes/layout/index.tdsl`."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number
from torch import nn
from torch.export import Dim

IMAGE, SERIES, ROWS, TOKENS = (2, 6, 4, 5), (2, 6, 7), (3, 6), (2, 5, 6)
BATCH = {"x": {0: Dim("batch")}}
ORDER, SOME, PAIRS = (
    torch.tensor([3, 0, 4, 1, 5, 2]),
    torch.tensor([3, 0, 4]),
    torch.tensor([3, 2, 5, 4, 1, 0]),
)
BACK = ORDER.argsort()


def shuffled(x, groups):
    """Channels seen as groups × members, transposed."""
    b, c, h, w = x.shape
    return x.reshape(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


INDEX = [
    fires(
        "layout.index.first_index",
        lambda m, x: x[m.i],
        ROWS,
        i=SOME[1:2].repeat(4),
        expect="index_select = index_select(x, -2, i)",
    ),
    leaves(
        "layout.index.first_index",
        lambda m, x: x[m.i],
        ROWS,
        i=torch.tensor([-1, 0]),
        because="a place counts from the end",
    ),
    fires(
        "layout.index.second_index",
        lambda m, x: x[:, m.i],
        IMAGE,
        i=SOME,
        dynamic=BATCH,
        expect="""
            slice_1 = slice(x, dim=-4, start=0, end=9223372036854775807)
            index_select = index_select(slice_1, -3, i)
        """,
    ),
    leaves(
        "layout.index.second_index",
        lambda m, x: x[:, m.i],
        IMAGE,
        i=ORDER.reshape(2, 3),
        because="the index has two axes",
    ),
    fires(
        "layout.index.third_index",
        lambda m, x: x[:, :, m.i],
        TOKENS,
        i=SOME,
        expect="index_select = index_select(x, -1, i)",
    ),
    leaves(
        "layout.index.third_index",
        lambda m, x: x[:, m.i, m.i],
        TOKENS,
        i=torch.tensor([3, 0]),
        because="places of two axes are taken",
    ),
]

SELECT = [
    fires(
        "commute.channels.selection_of_selection",
        lambda m, x: x.index_select(1, m.i).index_select(1, m.j),
        ROWS,
        i=ORDER,
        j=SOME,
        expect="index_select_2 = index_select(x, -1, j_selection_of_selection)",
    ),
    leaves(
        "commute.channels.selection_of_selection",
        lambda m, x: x.index_select(1, m.i).index_select(0, m.j),
        ROWS,
        i=ORDER,
        j=torch.tensor([2, 0]),
        because="along another axis",
    ),
    fires(
        "commute.channels.selection_in_order",
        lambda m, x: x.relu().index_select(1, m.i),
        ROWS,
        i=torch.arange(6),
        expect="relu = relu(x)",
    ),
    leaves(
        "commute.channels.selection_in_order",
        lambda m, x: x.index_select(1, m.i),
        ROWS,
        i=torch.arange(5),
        because="one is left out",
    ),
    fires(
        "commute.channels.pointwise_of_permutation",
        lambda m, x: F.gelu(x.index_select(1, m.i)),
        IMAGE,
        i=ORDER,
        dynamic=BATCH,
        expect="""
            gelu_1 = gelu(x)
            index_select_1 = index_select(gelu_1, -3, i)
        """,
    ),
    leaves(
        "commute.channels.pointwise_of_permutation",
        lambda m, x: F.gelu(x.index_select(1, m.i)),
        IMAGE,
        i=SOME,
        because="what is left out need not be computed",
    ),
    fires(
        "commute.channels.elementwise_of_permutation_and_constant",
        lambda m, x: x.index_select(1, m.i) + m.c,
        ROWS,
        i=ORDER,
        c=number(6),
        expect="""
            add_1 = add(x, c_elementwise_of_permutation_and_constant)
            index_select_1 = index_select(add_1, -1, i)
        """,
    ),
    leaves(
        "commute.channels.elementwise_of_permutation_and_constant",
        lambda m, x: x.index_select(1, m.i) + m.c,
        (4, 6),
        i=SOME.clamp(max=5).repeat(2),
        c=number(6),
        because="some places are taken twice",
    ),
]

LAYERS = [
    fires(
        "commute.channels.selection_of_conv",
        lambda m, x: m.conv(x).index_select(1, m.i),
        IMAGE,
        conv=nn.Conv2d(6, 6, 3, padding=1),
        i=SOME,
        dynamic=BATCH,
        expect="""
            conv2d_1 = conv2d(x, conv.weight_selection_of_conv, i_selection_of_conv, padding=[1, 1])
        """,
    ),
    leaves(
        "commute.channels.selection_of_conv",
        lambda m, x: m.conv(x).index_select(1, m.i),
        IMAGE,
        conv=nn.Conv2d(6, 6, 3, groups=2),
        i=ORDER,
        because="channels of one group read other ones",
    ),
    fires(
        "commute.channels.conv_of_permutation",
        lambda m, x: m.conv(x.index_select(1, m.i)),
        IMAGE,
        conv=nn.Conv2d(6, 3, 3, padding=1),
        i=ORDER,
        dynamic=BATCH,
        expect="""
            conv2d_1 = conv2d(x, conv.weight_conv_of_permutation, conv.bias, padding=[1, 1])
        """,
    ),
    leaves(
        "commute.channels.conv_of_permutation",
        lambda m, x: m.conv(x.index_select(1, m.i)),
        IMAGE,
        conv=nn.Conv2d(3, 3, 3),
        i=SOME,
        because="some channels are not read",
    ),
    fires(
        "commute.channels.selection_of_linear",
        lambda m, x: m.fc(x).index_select(-1, m.i),
        TOKENS,
        fc=nn.Linear(6, 6),
        i=SOME,
        expect="linear_1 = linear(x, fc.weight_selection_of_linear, i_selection_of_linear)",
    ),
    leaves(
        "commute.channels.selection_of_linear",
        lambda m, x: m.fc(x).index_select(1, m.i),
        TOKENS,
        fc=nn.Linear(6, 6),
        i=SOME,
        because="rows are selected",
    ),
    fires(
        "commute.channels.linear_of_permutation",
        lambda m, x: m.fc(x.index_select(-1, m.i)),
        TOKENS,
        fc=nn.Linear(6, 4),
        i=ORDER,
        expect="linear_1 = linear(x, fc.weight_linear_of_permutation, fc.bias)",
    ),
    leaves(
        "commute.channels.linear_of_permutation",
        lambda m, x: m.fc(x.index_select(-1, m.i)),
        TOKENS,
        fc=nn.Linear(3, 4),
        i=SOME,
        because="some features are not read",
    ),
    fires(
        "commute.channels.linear_of_permuted_rows",
        lambda m, x: m.fc(x.index_select(1, m.i)),
        SERIES,
        fc=nn.Linear(7, 4),
        i=ORDER,
        expect="""
            linear_1 = linear(x, fc.weight, fc.bias)
            index_select_1 = index_select(linear_1, -2, i)
        """,
    ),
    leaves(
        "commute.channels.linear_of_permuted_rows",
        lambda m, x: m.fc(x.index_select(1, m.i)),
        SERIES,
        fc=nn.Linear(7, 4),
        i=SOME,
        because="rows that are left out need not be computed",
    ),
    fires(
        "commute.channels.group_norm_of_permutation",
        lambda m, x: F.group_norm(x.index_select(1, m.i), 3, m.w),
        IMAGE,
        w=number(6),
        i=PAIRS,
        expect="""
            group_norm_1 = group_norm(x, 3, w_group_norm_of_permutation)
            index_select_1 = index_select(group_norm_1, -3, i)
        """,
    ),
    leaves(
        "commute.channels.group_norm_of_permutation",
        lambda m, x: m.n(x.index_select(1, m.i)),
        IMAGE,
        n=nn.GroupNorm(3, 6),
        i=ORDER,
        because="groups are torn apart",
    ),
    fires(
        "commute.channels.layer_norm_of_permutation",
        lambda m, x: m.n(x.index_select(-1, m.i)),
        TOKENS,
        n=nn.LayerNorm(6, bias=False),
        i=ORDER,
        expect="""
            layer_norm_1 = layer_norm(x, [6], n.weight_layer_norm_of_permutation)
            index_select_1 = index_select(layer_norm_1, -1, i)
        """,
    ),
    leaves(
        "commute.channels.layer_norm_of_permutation",
        lambda m, x: m.n(x.index_select(1, m.i)),
        SERIES,
        n=nn.LayerNorm(7),
        i=ORDER,
        because="rows are permuted",
    ),
    fires(
        "commute.channels.softmax_of_permutation",
        lambda m, x: x.index_select(1, m.i).softmax(1),
        ROWS,
        i=ORDER,
        expect="""
            softmax_1 = softmax(x, -1)
            index_select_1 = index_select(softmax_1, -1, i)
        """,
    ),
    leaves(
        "commute.channels.softmax_of_permutation",
        lambda m, x: x.index_select(1, m.i).softmax(1),
        ROWS,
        i=SOME,
        because="a part has other shares",
    ),
]

SHUFFLES = [
    fires(
        "commute.shuffles.channel_shuffle_of_image",
        lambda m, x: shuffled(x, 3),
        IMAGE,
        dynamic=BATCH,
        expect="""
            sym_size_int_1 = size(x, -4)
            channel_shuffle = channel_shuffle(x, 3)
        """,
    ),
    leaves(
        "commute.shuffles.channel_shuffle_of_image",
        lambda m, x: x.reshape(2, 3, 2, 4, 5).permute(0, 1, 2, 4, 3).reshape(2, 6, 4, 5),
        IMAGE,
        because="rows and columns are exchanged",
    ),
    fires(
        "commute.shuffles.shuffle_of_shuffle",
        lambda m, x: F.channel_shuffle(F.channel_shuffle(x.relu(), 2), 3),
        IMAGE,
        expect="relu = relu(x)",
    ),
    leaves(
        "commute.shuffles.shuffle_of_shuffle",
        lambda m, x: F.channel_shuffle(F.channel_shuffle(x, 2), 2),
        IMAGE,
        because="the second one does not undo the first",
    ),
    fires(
        "commute.shuffles.conv_of_shuffle",
        lambda m, x: m.conv(F.channel_shuffle(x, 2)),
        IMAGE,
        conv=nn.Conv2d(6, 3, 3),
        expect="conv2d_1 = conv2d(x, conv.weight_conv_of_shuffle, conv.bias)",
    ),
    leaves(
        "commute.shuffles.conv_of_shuffle",
        lambda m, x: m.conv(F.channel_shuffle(x, 2)),
        IMAGE,
        conv=nn.Conv2d(6, 6, 3, groups=3),
        because="groups read other channels",
    ),
    fires(
        "commute.shuffles.shuffle_of_conv",
        lambda m, x: F.channel_shuffle(m.conv(x), 2),
        IMAGE,
        conv=nn.Conv2d(6, 6, 3),
        expect="conv2d_1 = conv2d(x, conv.weight_shuffle_of_conv, conv.bias_shuffle_of_conv)",
    ),
    leaves(
        "commute.shuffles.shuffle_of_conv",
        lambda m, x: F.channel_shuffle(m.conv(x), 2),
        IMAGE,
        conv=nn.Conv2d(6, 6, 3, groups=3),
        because="groups read other channels",
    ),
]

CASES = [*INDEX, *SELECT, *LAYERS, *SHUFFLES]
