"""Cases of `passes/commute/transposed.tdsl`: transposed convolutions, and pixels made of channels."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number
from torch import nn

ORDER = {
    n: torch.tensor([*range(2, n), 0, 1]) if n > 3 else torch.tensor([*range(1, n), 0]) for n in range(2, 9)
}

PIXELS = (2, 8, 4, 5)
EDGED = {
    "more_operators": "an order of channels that a layer takes, in an attempt",
    "more_bytes": "that order",
}


CASES = [
    fires(
        "commute.transposed.conv_transpose_of_flip",
        lambda m, x: F.conv_transpose2d(x.flip(3), m.W, stride=2),
        (2, 3, 4, 5),
        W=number(3, 2, 3, 3),
        expect="""
            conv_transpose2d_1 = conv_transpose2d(x, W_conv_transpose_of_flip, stride=[2, 2])
            flip_1 = flip(conv_transpose2d_1, [-1])
        """,
    ),
    leaves(
        "commute.transposed.conv_transpose_of_flip",
        lambda m, x: F.conv_transpose2d(x.flip(3), m.W, stride=2, output_padding=1),
        (2, 3, 4, 5),
        W=number(3, 2, 3, 3),
        because="there is one more column",
    ),
    fires(
        "commute.transposed.conv_transpose_of_flip",
        lambda m, x: F.conv_transpose1d(x.flip(2), m.W, stride=2),
        (3, 4, 5),
        W=number(4, 2, 3),
        expect="""
            conv_transpose1d_1 = conv_transpose1d(x, W_conv_transpose_of_flip, stride=[2])
            flip_1 = flip(conv_transpose1d_1, [-1])
        """,
    ),
    leaves(
        "commute.transposed.conv_transpose_of_flip",
        lambda m, x: F.conv_transpose1d(x.flip(2), m.W, stride=2, output_padding=1),
        (3, 4, 5),
        W=number(4, 2, 3),
        because="there is one more place",
    ),
    fires(
        "commute.transposed.conv_transpose2d_of_transpose",
        lambda m, x: F.conv_transpose2d(x.permute(0, 1, 3, 2), m.W, stride=(2, 1)),
        (2, 3, 4, 5),
        W=number(3, 2, 3, 3),
        expect="""
            conv_transpose2d_1 = conv_transpose2d(x, W_conv_transpose2d_of_transpose, stride=[1, 2])
            permute_1 = permute(conv_transpose2d_1, [0, 1, 3, 2])
        """,
    ),
    leaves(
        "commute.transposed.conv_transpose2d_of_transpose",
        lambda m, x: F.conv_transpose2d(x.permute(0, 2, 1, 3), m.V),
        (2, 3, 4, 5),
        V=number(4, 2, 3, 3),
        because="channels are rows",
    ),
    fires(
        "commute.transposed.conv_transpose_of_permutation",
        lambda m, x: F.conv_transpose1d(x.index_select(1, m.i), m.W),
        (3, 4, 5),
        i=ORDER[4],
        W=number(4, 2, 3),
        expect="conv_transpose1d_1 = conv_transpose1d(x, W_conv_transpose_of_permutation)",
    ),
    leaves(
        "commute.transposed.conv_transpose_of_permutation",
        lambda m, x: F.conv_transpose1d(x.index_select(1, m.i), m.W, groups=2),
        (3, 4, 5),
        i=ORDER[4],
        W=number(4, 2, 3),
        because="two channels belong together",
    ),
    fires(
        "commute.transposed.selection_of_conv_transpose",
        lambda m, x: F.conv_transpose1d(x, m.W).index_select(1, m.i),
        (3, 4, 5),
        i=ORDER[3],
        W=number(4, 3, 2),
        expect="conv_transpose1d_1 = conv_transpose1d(x, W_selection_of_conv_transpose)",
    ),
    leaves(
        "commute.transposed.selection_of_conv_transpose",
        lambda m, x: F.conv_transpose1d(x, m.W).index_select(2, m.i),
        (3, 4, 5),
        i=ORDER[3],
        W=number(4, 3, 2),
        because="places are selected",
    ),
    fires(
        "commute.transposed.conv_transpose_of_scaled",
        lambda m, x: F.conv_transpose1d(x * m.a, m.W),
        (3, 4, 5),
        a=number(4, 1),
        W=number(4, 3, 2),
        expect="conv_transpose1d_1 = conv_transpose1d(x, W_conv_transpose_of_scaled)",
    ),
    leaves(
        "commute.transposed.conv_transpose_of_scaled",
        lambda m, x: F.conv_transpose1d(x * m.c, m.W),
        (3, 4, 5),
        c=number(5),
        W=number(4, 3, 2),
        because="places have factors",
    ),
    fires(
        "commute.transposed.scale_of_conv_transpose",
        lambda m, x: F.conv_transpose1d(x, m.W) * m.a,
        (3, 4, 5),
        a=number(3, 1),
        W=number(4, 3, 2),
        expect="conv_transpose1d_1 = conv_transpose1d(x, W_scale_of_conv_transpose)",
    ),
    leaves(
        "commute.transposed.scale_of_conv_transpose",
        lambda m, x: F.conv_transpose1d(x, m.W) * m.c,
        (3, 4, 5),
        c=number(6),
        W=number(4, 3, 2),
        because="places have factors",
    ),
    fires(
        "commute.shuffles.pixel_shuffle_of_flip",
        lambda m, x: F.pixel_shuffle(x.flip(3), 2),
        PIXELS,
        expect="""
            index_select = index_select(x, -3, pixel_shuffle_of_flip)
            pixel_shuffle_1 = pixel_shuffle(index_select, 2)
            flip_1 = flip(pixel_shuffle_1, [-1])
        """,
        **EDGED,
    ),
    leaves(
        "commute.shuffles.pixel_shuffle_of_flip",
        lambda m, x: F.pixel_shuffle(x.flip(1), 2),
        PIXELS,
        because="channels are reversed",
    ),
    fires(
        "commute.shuffles.pixel_shuffle_of_transpose",
        lambda m, x: F.pixel_shuffle(x.permute(0, 1, 3, 2), 2),
        PIXELS,
        expect="""
            index_select = index_select(x, -3, pixel_shuffle_of_transpose)
            pixel_shuffle_1 = pixel_shuffle(index_select, 2)
            permute_1 = permute(pixel_shuffle_1, [0, 1, 3, 2])
        """,
        **EDGED,
    ),
    leaves(
        "commute.shuffles.pixel_shuffle_of_transpose",
        lambda m, x: F.pixel_shuffle(x.permute(0, 2, 1, 3), 2),
        (2, 3, 8, 5),
        because="channels change places",
    ),
    fires(
        "commute.shuffles.pixel_unshuffle_of_flip",
        lambda m, x: F.pixel_unshuffle(x.flip(3), 2),
        (2, 2, 4, 6),
        expect="""
            pixel_unshuffle_1 = pixel_unshuffle(x, 2)
            index_select = index_select(pixel_unshuffle_1, -3, pixel_unshuffle_of_flip)
            flip_1 = flip(index_select, [-1])
        """,
        **EDGED,
    ),
    leaves(
        "commute.shuffles.pixel_unshuffle_of_flip",
        lambda m, x: F.pixel_unshuffle(x.flip(1), 2),
        (2, 2, 4, 6),
        because="channels are reversed",
    ),
    fires(
        "commute.shuffles.pixel_unshuffle_of_transpose",
        lambda m, x: F.pixel_unshuffle(x.permute(0, 1, 3, 2), 2),
        (2, 2, 4, 6),
        expect="""
            pixel_unshuffle_1 = pixel_unshuffle(x, 2)
            index_select = index_select(pixel_unshuffle_1, -3, pixel_unshuffle_of_transpose)
            permute_1 = permute(index_select, [0, 1, 3, 2])
        """,
        **EDGED,
    ),
    leaves(
        "commute.shuffles.pixel_unshuffle_of_transpose",
        lambda m, x: F.pixel_unshuffle(x.permute(1, 0, 2, 3), 2),
        (2, 2, 4, 6),
        because="images are channels",
    ),
    fires(
        "commute.channels.selection_of_function_of_conv",
        lambda m, x: m.c(x).relu().index_select(1, m.i),
        (2, 3, 4, 5),
        c=nn.Conv2d(3, 4, 2),
        i=torch.tensor([2, 0, 3]),
        expect="""
            conv2d_1 = conv2d(x, c.weight_selection_of_function_of_conv, i_selection_of_function_of_conv)
            relu_1 = relu(conv2d_1)
        """,
    ),
    leaves(
        "commute.channels.selection_of_function_of_conv",
        lambda m, x: (lambda h: (h.index_select(1, m.i), h.exp()))(m.c(x).relu()),
        (2, 3, 4, 5),
        c=nn.Conv2d(3, 4, 2),
        i=torch.tensor([2, 0, 3]),
        because="all channels are read, too",
    ),
    fires(
        "commute.channels.selection_of_function_of_linear",
        lambda m, x: F.linear(x, m.W).tanh().index_select(1, m.i),
        (2, 3),
        W=number(4, 3),
        i=torch.tensor([2, 0, 3]),
        expect="""
            linear_1 = linear(x, W_selection_of_function_of_linear)
            tanh_1 = tanh(linear_1)
        """,
    ),
    leaves(
        "commute.channels.selection_of_function_of_linear",
        lambda m, x: m.f(x).tanh().index_select(0, m.i),
        (4, 3),
        f=nn.Linear(3, 4),
        i=torch.tensor([2, 0, 3]),
        because="rows, not features",
    ),
]
