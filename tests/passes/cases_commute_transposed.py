"""Cases of `passes/commute/transposed.tdsl`: transposed convolutions, and pixels made of channels."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number

ORDER = {
    n: torch.tensor([*range(2, n), 0, 1]) if n > 3 else torch.tensor([*range(1, n), 0]) for n in range(2, 9)
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
        "commute.transposed.pixel_shuffle_of_flip",
        lambda m, x: F.pixel_shuffle(F.conv2d(x, m.W).flip(3), 2),
        (2, 3, 4, 5),
        W=number(8, 3, 1, 1),
        expect="""
            conv2d_1 = conv2d(x, W_pixel_shuffle_of_flip)
            pixel_shuffle_1 = pixel_shuffle(conv2d_1, 2)
            flip_1 = flip(pixel_shuffle_1, [-1])
        """,
    ),
    leaves(
        "commute.transposed.pixel_shuffle_of_flip",
        lambda m, x: F.pixel_shuffle(F.conv2d(x, m.W).flip(1), 2),
        (2, 3, 4, 5),
        W=number(8, 3, 1, 1),
        because="channels are reversed",
    ),
    fires(
        "commute.transposed.pixel_shuffle_of_transpose",
        lambda m, x: F.pixel_shuffle(F.conv2d(x, m.W).permute(0, 1, 3, 2), 2),
        (2, 3, 4, 5),
        W=number(8, 3, 1, 1),
        expect="""
            conv2d_1 = conv2d(x, W_pixel_shuffle_of_transpose)
            pixel_shuffle_1 = pixel_shuffle(conv2d_1, 2)
            permute_1 = permute(pixel_shuffle_1, [0, 1, 3, 2])
        """,
    ),
    leaves(
        "commute.transposed.pixel_shuffle_of_transpose",
        lambda m, x: F.pixel_shuffle(F.conv2d(x, m.W).permute(1, 0, 2, 3)[:4].permute(1, 0, 2, 3), 2),
        (2, 3, 4, 5),
        W=number(8, 3, 1, 1),
        because="channels change places",
    ),
    fires(
        "commute.transposed.conv_of_pixels_of_flip",
        lambda m, x: F.conv2d(F.pixel_unshuffle(x.flip(3), 2), m.W),
        (2, 2, 4, 6),
        W=number(3, 8, 1, 1),
        expect="""
            pixel_unshuffle_1 = pixel_unshuffle(x, 2)
            flip_1 = flip(pixel_unshuffle_1, [-1])
            conv2d_1 = conv2d(flip_1, W_conv_of_pixels_of_flip)
        """,
    ),
    leaves(
        "commute.transposed.conv_of_pixels_of_flip",
        lambda m, x: F.conv2d(F.pixel_unshuffle(x.flip(1), 2), m.W),
        (2, 2, 4, 6),
        W=number(3, 8, 1, 1),
        because="channels are reversed",
    ),
    fires(
        "commute.transposed.conv_of_pixels_of_transpose",
        lambda m, x: F.conv2d(F.pixel_unshuffle(x.permute(0, 1, 3, 2), 2), m.W),
        (2, 2, 4, 6),
        W=number(3, 8, 1, 1),
        expect="""
            pixel_unshuffle_1 = pixel_unshuffle(x, 2)
            permute_1 = permute(pixel_unshuffle_1, [0, 1, 3, 2])
            conv2d_1 = conv2d(permute_1, W_conv_of_pixels_of_transpose)
        """,
    ),
    leaves(
        "commute.transposed.conv_of_pixels_of_transpose",
        lambda m, x: F.conv2d(F.pixel_unshuffle(x.permute(1, 0, 2, 3), 2), m.W),
        (2, 2, 4, 6),
        W=number(3, 8, 1, 1),
        because="images are channels",
    ),
]
