"""Cases of `passes/commute/orders.tdsl`, `exchanged.tdsl` and `pieces.py`, and of inference beside them."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves
from torch import nn

ROWS = (2, 4, 6)
ORDER = torch.tensor([2, 0, 3, 1])
SOME = torch.tensor([3, 0, 1])
NAMES = torch.randint(0, 4, (2, 3, 6), generator=torch.Generator().manual_seed(0))
ADDED = torch.tensor([0, 2, 1, 1, 0])
EACH = torch.randint(0, 3, (4, 2), generator=torch.Generator().manual_seed(0))
STORED = "an order of places is stored"

CASES = [
    fires(
        "commute.orders.select_of_flip",
        lambda m, x: x.flip(0, 1)[:, 1],
        ROWS,
        expect="""
            select_1 = select(x, -2, 2)
            flip_1 = flip(select_1, [-2])
        """,
    ),
    leaves(
        "commute.orders.select_of_flip",
        lambda m, x: x.flip(0)[:, 1],
        ROWS,
        because="the part is taken along another axis",
    ),
    fires(
        "commute.orders.select_of_roll",
        lambda m, x: x.roll(3, 1)[:, 1],
        ROWS,
        expect="""
            select_1 = select(x, -2, 2)
        """,
    ),
    leaves(
        "commute.orders.select_of_roll",
        lambda m, x: x.roll((3, 1), (1, 2))[:, 1],
        ROWS,
        because="another axis is rotated, too",
    ),
    fires(
        "commute.orders.slice_of_flip",
        lambda m, x: x.flip(1)[:, 1:3],
        ROWS,
        expect="""
            slice_2 = slice(x, dim=-2, start=1, end=3)
            flip_1 = flip(slice_2, [-2])
        """,
    ),
    fires(
        "commute.orders.slice_of_flip",
        lambda m, x: x.flip(1)[:, 1::2],
        ROWS,
        expect="""
            slice_2 = slice(x, dim=-2, start=0, end=3, step=2)
            flip_1 = flip(slice_2, [-2])
        """,
    ),
    leaves(
        "commute.orders.slice_of_flip",
        lambda m, x: x.flip(0)[:, ::2],
        ROWS,
        because="another axis is mirrored",
    ),
    fires(
        "commute.orders.slice_of_roll",
        lambda m, x: x.roll(2, 1)[:, 2:4],
        ROWS,
        expect="""
            slice_2 = slice(x, dim=-2, start=0, end=2)
        """,
    ),
    leaves(
        "commute.orders.slice_of_roll",
        lambda m, x: x.roll(2, 1)[:, 1:4],
        ROWS,
        because="one place comes from the end, two from the front",
    ),
    fires(
        "commute.orders.slice_of_selection",
        lambda m, x: x.index_select(1, m.some)[:, 1:],
        ROWS,
        some=SOME,
        expect="""
            index_select_1 = index_select(x, -2, some_slice_of_selection)
        """,
    ),
    leaves(
        "commute.orders.slice_of_selection",
        lambda m, x: x.index_select(1, m.some)[1:],
        ROWS,
        some=SOME,
        because="along another axis",
    ),
    fires(
        "commute.orders.selection_of_flip",
        lambda m, x: x.flip(1).index_select(1, m.some),
        ROWS,
        some=SOME,
        expect="""
            index_select_1 = index_select(x, -2, some_selection_of_flip)
        """,
    ),
    leaves(
        "commute.orders.selection_of_flip",
        lambda m, x: x.flip(1).index_select(2, m.some),
        ROWS,
        some=SOME,
        because="places along another axis are selected",
    ),
    fires(
        "commute.orders.selection_of_roll",
        lambda m, x: x.roll(3, 1).index_select(1, m.some),
        ROWS,
        some=SOME,
        expect="""
            index_select_1 = index_select(x, -2, some_selection_of_roll)
        """,
    ),
    leaves(
        "commute.orders.selection_of_roll",
        lambda m, x: x.roll(1, 1).index_select(2, m.some),
        ROWS,
        some=SOME,
        because="places along another axis are selected",
    ),
    fires(
        "commute.orders.gather_of_flip",
        lambda m, x: x.flip(1).gather(1, m.names),
        ROWS,
        names=NAMES,
        expect="""
            gather_1 = gather(x, -2, names_gather_of_flip)
        """,
    ),
    leaves(
        "commute.orders.gather_of_flip",
        lambda m, x, i: x.flip(1).gather(1, i),
        ROWS,
        NAMES,
        because="places are known at run time only",
    ),
    fires(
        "commute.orders.gather_of_roll",
        lambda m, x: x.roll(3, 1).gather(1, m.names),
        ROWS,
        names=NAMES,
        expect="""
            gather_1 = gather(x, -2, names_gather_of_roll)
        """,
    ),
    leaves(
        "commute.orders.gather_of_roll",
        lambda m, x: x.roll(1, 0).gather(1, m.names),
        ROWS,
        names=NAMES,
        because="images are rotated",
    ),
    fires(
        "commute.orders.gather_of_permutation",
        lambda m, x: x.index_select(1, m.order).gather(1, m.names),
        ROWS,
        order=ORDER,
        names=NAMES,
        expect="""
            gather_1 = gather(x, -2, names_gather_of_permutation)
        """,
    ),
    leaves(
        "commute.orders.gather_of_permutation",
        lambda m, x: x.index_select(2, m.order).gather(1, m.names),
        (2, 4, 6),
        order=torch.arange(6).roll(2),
        names=NAMES,
        because="another axis is in another order",
    ),
    fires(
        "commute.orders.rows_of_flip",
        lambda m, x: x.flip(0)[m.names],
        (4, 6),
        names=SOME,
        expect="""
            index_1 = index(x, names_rows_of_flip)
        """,
    ),
    leaves(
        "commute.orders.rows_of_flip",
        lambda m, x: x.flip(1)[m.names],
        (4, 6),
        names=SOME,
        because="columns are in reverse",
    ),
    fires(
        "commute.orders.rows_of_roll",
        lambda m, x: x.roll(1, 0)[m.names],
        (4, 6),
        names=SOME,
        expect="""
            index_1 = index(x, names_rows_of_roll)
        """,
    ),
    leaves(
        "commute.orders.rows_of_roll",
        lambda m, x: x.roll(1, 1)[m.names],
        (4, 6),
        names=SOME,
        because="columns are rotated",
    ),
    fires(
        "commute.orders.odd_diff_of_flip",
        lambda m, x: torch.diff(x.flip(1), dim=1),
        ROWS,
        more_operators="a sign goes into a layer, or ends where none is seen",
        expect="""
            diff_1 = diff(x, dim=-2)
            neg = neg(diff_1)
            flip_1 = flip(neg, [-2])
        """,
    ),
    leaves(
        "commute.orders.odd_diff_of_flip",
        lambda m, x: torch.diff(x.flip(0), dim=1),
        ROWS,
        because="images are in reverse",
    ),
    fires(
        "commute.orders.even_diff_of_flip",
        lambda m, x: torch.diff(x.flip(1, 2), n=2, dim=1),
        ROWS,
        expect="""
            diff_1 = diff(x, order=2, dim=-2)
            flip_1 = flip(diff_1, [-2, -1])
        """,
    ),
    leaves(
        "commute.orders.even_diff_of_flip",
        lambda m, x: torch.diff(x.flip(1), n=3, dim=1),
        ROWS,
        because="the sign changes three times",
    ),
    fires(
        "commute.orders.even_of_negation",
        lambda m, x: (-x).square(),
        ROWS,
        expect="""
            square_1 = square(x)
        """,
    ),
    leaves(
        "commute.orders.even_of_negation",
        lambda m, x: torch.cos((-x).exp()),
        ROWS,
        because="something stands between that sees the sign",
    ),
    fires(
        "commute.operands.adaptive_max_pool_of_permute",
        lambda m, x: F.adaptive_max_pool2d(x.mT, (2, 3)),
        (2, 3, 4, 6),
        expect="""
            adaptive_max_pool2d_1 = adaptive_max_pool2d(x, [3, 2])
            getitem_1 = adaptive_max_pool2d_1[0]
            permute = permute(getitem_1, [0, 1, 3, 2])
        """,
    ),
    leaves(
        "commute.operands.adaptive_max_pool_of_permute",
        lambda m, x: F.adaptive_max_pool2d(x.transpose(1, 2), (2, 3)),
        (2, 3, 4, 6),
        because="channels are rows",
    ),
    fires(
        "commute.operands.largest_of_image",
        lambda m, x: F.adaptive_max_pool2d(x, 1),
        (2, 3, 4, 6),
        expect="""
            amax = amax(x, dim=[-2, -1], keepdim=true)
        """,
    ),
    leaves(
        "commute.operands.largest_of_image",
        lambda m, x: F.adaptive_max_pool2d(x, (1, 2)),
        (2, 3, 4, 6),
        because="there are two windows",
    ),
    fires(
        "commute.operands.largest_of_sequence",
        lambda m, x: F.adaptive_max_pool1d(x, 1),
        ROWS,
        expect="""
            amax = amax(x, dim=[-1], keepdim=true)
        """,
    ),
    leaves(
        "commute.operands.largest_of_sequence",
        lambda m, x: F.adaptive_max_pool1d(x, 1, return_indices=True)[1],
        ROWS,
        because="where it is, is asked for",
    ),
    fires(
        "commute.flatten.linear_of_shuffled_features",
        lambda m, x: m.fc(x.reshape(2, 4, 2, 3).mT.reshape(2, 4, 6)),
        ROWS,
        fc=nn.Linear(6, 5),
        expect="""
            linear_1 = linear(x, fc.weight_linear_of_shuffled_features, fc.bias)
        """,
    ),
    leaves(
        "commute.flatten.linear_of_shuffled_features",
        lambda m, x: m.fc(x.reshape(2, 4, 2, 3).transpose(1, 2).reshape(2, 4, 6)),
        ROWS,
        fc=nn.Linear(6, 5),
        because="rows change places with groups",
    ),
    fires(
        "commute.flatten.shuffled_features_of_linear",
        lambda m, x: m.fc(x).reshape(2, 4, 2, 3).mT.reshape(2, 4, 6),
        ROWS,
        fc=nn.Linear(6, 6),
        expect="""
            linear_1 = linear(x, fc.weight_shuffled_features_of_linear, fc.bias_shuffled_features_of_linear)
            reshape_2 = reshape(linear_1, [2, 4, 6])
        """,
    ),
    leaves(
        "commute.flatten.shuffled_features_of_linear",
        lambda m, x: m.fc(x).reshape(2, 4, 2, 3).mT.reshape(2, 12, 2),
        ROWS,
        fc=nn.Linear(6, 6),
        because="members stay apart",
    ),
    fires(
        "commute.exchanged.exchanged_cdist",
        lambda m, x, y: torch.cdist(x, y).mT,
        ROWS,
        (2, 3, 6),
        expect="""
            cdist_1 = cdist(y, x)
        """,
    ),
    leaves(
        "commute.exchanged.exchanged_cdist",
        lambda m, x, y: torch.cdist(x, y).transpose(0, 1),
        ROWS,
        (2, 3, 6),
        because="images change places with rows",
    ),
    fires(
        "commute.exchanged.transposed_product",
        lambda m, x, y: (x.mT @ y).mT,
        ROWS,
        (2, 4, 3),
        expect="""
            permute = permute(y, [0, 2, 1])
            matmul_1 = matmul(permute, x)
        """,
    ),
    leaves(
        "commute.exchanged.transposed_product",
        lambda m, x, y: (x.mT @ y).relu().mT,
        ROWS,
        (2, 4, 3),
        because="something stands between",
    ),
    fires(
        "commute.exchanged.transposed_product_of_second",
        lambda m, x, y: (x @ y.mT).mT,
        ROWS,
        (2, 3, 6),
        expect="""
            permute = permute(x, [0, 2, 1])
            matmul_1 = matmul(y, permute)
        """,
    ),
    leaves(
        "commute.exchanged.transposed_product_of_second",
        lambda m, x, y: (x @ y.mT).transpose(0, 1),
        ROWS,
        (2, 3, 6),
        because="images change places with rows",
    ),
    fires(
        "commute.exchanged.cosine_of_permutes",
        lambda m, x, y: F.cosine_similarity(x.permute(2, 0, 1), y.permute(2, 0, 1), dim=0),
        ROWS,
        ROWS,
        expect="""
            cosine_similarity_1 = cosine_similarity(x, y, dim=-1)
            permute_2 = permute(cosine_similarity_1, [0, 1])
        """,
    ),
    leaves(
        "commute.exchanged.cosine_of_permutes",
        lambda m, x, y: F.cosine_similarity(x.mT, y, dim=1),
        (2, 4, 4),
        (2, 4, 4),
        because="one of them is as it was",
    ),
    fires(
        "commute.pieces",
        lambda m, x, y: torch.stack([x.mT, y.mT], 1),
        ROWS,
        ROWS,
        expect="""
            stack_1 = stack(x, y, dim=-3)
            permute = permute(stack_1, [0, 1, 3, 2])
        """,
    ),
    leaves(
        "commute.pieces",
        lambda m, x, y: torch.stack([x.mT, y], 1),
        (2, 4, 4),
        (2, 4, 4),
        because="one piece is as it was",
    ),
    fires(
        "commute.pieces",
        lambda m, x, y: torch.cat([x.mT, y.mT, x.mT], 2),
        ROWS,
        ROWS,
        expect="""
            concat = concat(x, y, x, dim=-2)
            permute = permute(concat, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.pieces",
        lambda m, x, y: torch.cat([x.mT, y.transpose(0, 1)], 2),
        (2, 2, 4),
        (4, 2, 3),
        because="the pieces are permuted differently",
    ),
    fires(
        "commute.pieces",
        lambda m, x: torch.stack(x.unbind(1)[::-1], 1),
        ROWS,
        expect="""
            flip = flip(x, [-2])
        """,
    ),
    leaves(
        "commute.pieces",
        lambda m, x: torch.stack((x.unbind(1)[1],) * 4, 1),
        ROWS,
        because="places are left out",
    ),
    fires(
        "commute.pieces",
        lambda m, x: torch.cat([x[:, 1::2], x[:, ::2]], 1),
        ROWS,
        more_bytes=STORED,
        expect="""
            index_select = index_select(x, -2, places)
        """,
    ),
    leaves(
        "commute.pieces",
        lambda m, x: torch.cat([x[:, 1::2], x[:, ::2]], 2),
        ROWS,
        because="parts are put together along another axis",
    ),
    fires(
        "commute.pieces",
        lambda m, x: m.fc(torch.cat(x.chunk(2, -1)[::-1], -1)),
        ROWS,
        fc=nn.Linear(6, 5),
        expect="""
            roll = roll(x, [3], dims=[-1])
            linear = linear(roll, fc.weight, fc.bias)
        """,
    ),
    leaves(
        "commute.pieces",
        lambda m, x: torch.cat(x.chunk(2, -1)[::-1], -1).relu(),
        ROWS,
        because="no layer takes the exchange of two halves, and a file says it in two operators",
    ),
    fires(
        "commute.carried",
        lambda m, x, y, i: x.index_add(0, i.flip(0), y.flip(0)),
        (3, 6),
        (5, 6),
        ADDED,
        expect="""
            index_add_1 = index_add(x, -2, i, y)
        """,
    ),
    leaves(
        "commute.carried",
        lambda m, x, y, i: x.index_add(0, i, y.flip(0)),
        (3, 6),
        (5, 6),
        ADDED,
        because="the index is as it was",
    ),
    fires(
        "commute.carried",
        lambda m, x, y, i: x.flip(1).index_add(0, i.roll(1, 0), y.roll(1, 0).flip(1)),
        (3, 6),
        (5, 6),
        ADDED,
        expect="""
            index_add_1 = index_add(x, -2, i, y)
            flip_2 = flip(index_add_1, [-1])
        """,
    ),
    leaves(
        "commute.carried",
        lambda m, x, y, i: x.flip(0).index_add(0, i.flip(0), y.flip(0)),
        (3, 6),
        (5, 6),
        ADDED,
        because="the places themselves are in reverse",
    ),
    fires(
        "commute.carried",
        lambda m, x, y, i: x.scatter_reduce(
            0, i.index_select(0, m.order), y.index_select(0, m.order), "amax"
        ),
        (3, 2),
        (4, 2),
        EACH,
        order=ORDER,
        expect="""
            scatter_reduce_1 = scatter_reduce(x, -2, i, y, "amax")
        """,
    ),
    leaves(
        "commute.carried",
        lambda m, x, y, i: x.scatter_reduce(0, i.flip(0), y.flip(0), "amax"),
        (3, 2),
        (5, 2),
        EACH,
        because="the index reaches a part of the source",
    ),
    fires(
        "commute.carried",
        lambda m, x: m.prelu(F.channel_shuffle(x, 2)),
        (2, 6, 5),
        prelu=nn.PReLU(6),
        more_bytes=STORED,
        expect="""
            prelu_1 = prelu(x, prelu.weight_carried)
            index_select = index_select(prelu_1, -2, places)
        """,
    ),
    leaves(
        "commute.carried",
        lambda m, x: m.conv(F.channel_shuffle(x, 2)),
        (2, 6, 5),
        conv=nn.Conv1d(6, 6, 3, groups=2),
        because="a group would read channels of another one",
    ),
    fires(
        "commute.carried",
        lambda m, x: F.interpolate(x.flip(3), size=(3, 4), mode="bilinear", antialias=True),
        (1, 2, 5, 7),
        expect="""
            upsample_bilinear2d_aa = upsample_bilinear2d_aa(x, [3, 4], false, none)
            flip_1 = flip(upsample_bilinear2d_aa, [-1])
        """,
    ),
    leaves(
        "commute.carried",
        lambda m, x: F.interpolate(
            x.flip(3), size=(3, 4), mode="bilinear", antialias=True, align_corners=True
        ),
        (1, 2, 5, 7),
        because="smoothed windows between corners begin at the first one",
    ),
]
