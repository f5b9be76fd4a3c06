"""Cases of `passes/commute/places.tdsl`, and of maxima in `tokens.tdsl`."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number

ORDER = {
    n: torch.tensor([*range(2, n), 0, 1]) if n > 3 else torch.tensor([*range(1, n), 0]) for n in range(2, 9)
}

CASES = [
    fires(
        "commute.places.pixelwise_conv1d_of_permutation",
        lambda m, x: F.conv1d(x.index_select(2, m.i), m.W),
        (3, 4, 5),
        i=ORDER[5],
        W=number(2, 4, 1),
        expect="""
            conv1d_1 = conv1d(x, W)
            index_select_1 = index_select(conv1d_1, -1, i)
        """,
    ),
    leaves(
        "commute.places.pixelwise_conv1d_of_permutation",
        lambda m, x: F.conv1d(x.index_select(2, m.i), m.V),
        (3, 4, 5),
        i=ORDER[5],
        V=number(2, 4, 2),
        because="the kernel has two positions",
    ),
    fires(
        "commute.places.patches_of_roll",
        lambda m, x: F.conv1d(x.roll(1, 2), m.W),
        (3, 4, 5),
        W=number(2, 4, 1),
        expect="""
            conv1d_1 = conv1d(x, W)
            roll_1 = roll(conv1d_1, [1], dims=[-1])
        """,
    ),
    leaves(
        "commute.places.patches_of_roll",
        lambda m, x: F.conv1d(x.roll(1, 2), m.V),
        (3, 4, 5),
        V=number(2, 4, 2),
        because="the kernel has two positions",
    ),
    fires(
        "commute.places.patches_of_roll",
        lambda m, x: F.conv2d(x.roll((1, 2), (2, 3)), m.W),
        (2, 3, 4, 5),
        W=number(2, 3, 1, 1),
        expect="""
            conv2d_1 = conv2d(x, W)
            roll_1 = roll(conv2d_1, [1, 2], dims=[-2, -1])
        """,
    ),
    leaves(
        "commute.places.patches_of_roll",
        lambda m, x: F.conv2d(x.roll((1, 2), (2, 3)), m.W, padding=1),
        (2, 3, 4, 5),
        W=number(2, 3, 1, 1),
        because="there is a border",
    ),
    fires(
        "commute.places.conv_of_flipped_images",
        lambda m, x: F.conv1d(x.flip(0), m.W, padding=1),
        (3, 4, 5),
        W=number(2, 4, 3),
        expect="""
            conv1d_1 = conv1d(x, W, padding=[1])
            flip_1 = flip(conv1d_1, [-3])
        """,
    ),
    leaves(
        "commute.places.conv_of_flipped_images",
        lambda m, x: F.conv1d(x.flip(2), m.W, padding=1),
        (3, 4, 5),
        W=number(2, 4, 3),
        because="places move",
    ),
    fires(
        "commute.places.conv_of_rolled_images",
        lambda m, x: F.conv1d(x.roll(1, 0), m.W, padding=1),
        (3, 4, 5),
        W=number(2, 4, 3),
        expect="""
            conv1d_1 = conv1d(x, W, padding=[1])
            roll_1 = roll(conv1d_1, [1], dims=[-3])
        """,
    ),
    leaves(
        "commute.places.conv_of_rolled_images",
        lambda m, x: F.conv1d(x.roll(1, 2), m.W, padding=1),
        (3, 4, 5),
        W=number(2, 4, 3),
        because="places move",
    ),
    fires(
        "commute.places.conv_of_permuted_images",
        lambda m, x: F.conv1d(x.index_select(0, m.i), m.W, padding=1),
        (3, 4, 5),
        W=number(2, 4, 3),
        i=ORDER[3],
        expect="""
            conv1d_1 = conv1d(x, W, padding=[1])
            index_select_1 = index_select(conv1d_1, -3, i)
        """,
    ),
    leaves(
        "commute.places.conv_of_permuted_images",
        lambda m, x: F.conv1d(x.index_select(2, m.j), m.W, padding=1),
        (3, 4, 5),
        W=number(2, 4, 3),
        j=ORDER[5],
        because="places move",
    ),
    fires(
        "commute.places.avg_pool_of_roll",
        lambda m, x: F.avg_pool2d(x.roll(1, 0), 2),
        (2, 3, 4, 5),
        expect="""
            avg_pool2d_1 = avg_pool2d(x, [2, 2], stride=[2, 2])
            roll_1 = roll(avg_pool2d_1, [1], dims=[-4])
        """,
    ),
    leaves(
        "commute.places.avg_pool_of_roll",
        lambda m, x: F.avg_pool2d(x.roll(1, 2), 2),
        (2, 3, 4, 5),
        because="rows move",
    ),
    fires(
        "commute.places.windows_of_permuted_images",
        lambda m, x: F.avg_pool2d(x.index_select(0, m.i), 2),
        (3, 3, 4, 5),
        i=ORDER[3],
        expect="""
            avg_pool2d_1 = avg_pool2d(x, [2, 2], stride=[2, 2])
            index_select_1 = index_select(avg_pool2d_1, -4, i)
        """,
    ),
    leaves(
        "commute.places.windows_of_permuted_images",
        lambda m, x: F.avg_pool2d(x.index_select(2, m.j), 2),
        (3, 3, 4, 5),
        j=ORDER[4],
        because="rows move",
    ),
    fires(
        "commute.places.batch_norm_of_permutation",
        lambda m, x: F.batch_norm(x.index_select(2, m.i), m.u, m.v),
        (3, 4, 5),
        i=ORDER[5],
        u=number(4),
        v=number(4).abs(),
        expect="""
            batch_norm_1 = batch_norm(x, mean=u, var=v, training=false, momentum=0.1, eps=1e-05, cudnn=true)
            index_select_1 = index_select(batch_norm_1, -1, i)
        """,
    ),
    leaves(
        "commute.places.batch_norm_of_permutation",
        lambda m, x: F.batch_norm(x.index_select(1, m.j), m.u, m.v),
        (3, 4, 5),
        j=ORDER[4],
        u=number(4),
        v=number(4).abs(),
        because="channels move",
    ),
    fires(
        "commute.places.roll_of_permutation",
        lambda m, x: x.index_select(1, m.i).roll(1, 1),
        (3, 4, 5),
        i=ORDER[4],
        expect="index_select_1 = index_select(x, -2, i_roll_of_permutation)",
    ),
    leaves(
        "commute.places.roll_of_permutation",
        lambda m, x: x.index_select(1, m.i).roll(1, 2),
        (3, 4, 5),
        i=ORDER[4],
        because="it is another axis",
    ),
    fires(
        "commute.places.flip_of_permutation",
        lambda m, x: x.index_select(1, m.i).flip(1),
        (3, 4, 5),
        i=ORDER[4],
        expect="index_select_1 = index_select(x, -2, i_flip_of_permutation)",
    ),
    leaves(
        "commute.places.flip_of_permutation",
        lambda m, x: x.index_select(1, m.i).flip(2),
        (3, 4, 5),
        i=ORDER[4],
        because="it is another axis",
    ),
    fires(
        "commute.places.halves_exchanged",
        lambda m, x: torch.cat([x[..., 2:], x[..., :2]], 2),
        (3, 4, 5),
        expect="roll = roll(x, [-2], dims=[-1])",
    ),
    leaves(
        "commute.places.halves_exchanged",
        lambda m, x: torch.cat([x[..., 3:], x[..., :2]], 2),
        (3, 4, 5),
        because="a place is left out",
    ),
    fires(
        "commute.places.three_in_reverse",
        lambda m, x: torch.cat([x[:, 2:3], x[:, 1:2], x[:, :1]], 1),
        (2, 3, 4, 5),
        expect="flip = flip(x, [-3])",
    ),
    leaves(
        "commute.places.three_in_reverse",
        lambda m, x: torch.cat([x[:, 2:3], x[:, :1], x[:, 1:2]], 1),
        (2, 3, 4, 5),
        because="it is another order",
    ),
    fires(
        "commute.places.three_stacked_in_reverse",
        lambda m, x: torch.stack([x[:, 2], x[:, 1], x[:, 0]], 1),
        (2, 3, 4, 5),
        expect="flip = flip(x, [-3])",
    ),
    leaves(
        "commute.places.three_stacked_in_reverse",
        lambda m, x: torch.stack([x[:, 2], x[:, 0], x[:, 1]], 1),
        (2, 3, 4, 5),
        because="it is another order",
    ),
    fires(
        "commute.tokens.largest_value",
        lambda m, x: x.max(1).values,
        (2, 5, 6),
        expect="amax = amax(x, dim=[-2])",
    ),
    leaves(
        "commute.tokens.largest_value",
        lambda m, x: (lambda v: v.values + x.gather(1, v.indices))(x.max(1, keepdim=True)),
        (2, 5, 6),
        because="the place is asked for",
    ),
    fires(
        "commute.tokens.smallest_value",
        lambda m, x: x.min(1).values,
        (2, 5, 6),
        expect="amin = amin(x, dim=[-2])",
    ),
    leaves(
        "commute.tokens.smallest_value",
        lambda m, x: (lambda v: v.values + x.gather(1, v.indices))(x.min(1, keepdim=True)),
        (2, 5, 6),
        because="the place is asked for",
    ),
    fires(
        "commute.tokens.largest_of_positions",
        lambda m, x: F.adaptive_max_pool2d(x, 1),
        (2, 3, 4, 5),
        expect="amax = amax(x, dim=[-2, -1], keepdim=true)",
    ),
    leaves(
        "commute.tokens.largest_of_positions",
        lambda m, x: F.adaptive_max_pool2d(x, 2),
        (2, 3, 4, 5),
        because="four quarters have one each",
    ),
]
