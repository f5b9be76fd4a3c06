"""Cases of further ends of actions: equal values, folds of joined axes, places, samples, distances."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number

MIRRORED = (lambda half: half + half.flip(2))(number(4, 3, 3))
ORDER = {n: torch.tensor([*range(2, n), 0, 1]) for n in (3, 4, 5)}

CASES = [
    fires(
        "commute.averaging.extreme_of_equals",
        lambda m, x: (lambda h: torch.maximum(h, h))(x.relu()),
        (3, 4),
        expect="relu = relu(x)",
    ),
    leaves(
        "commute.averaging.extreme_of_equals",
        lambda m, x: torch.maximum(x.relu(), x),
        (3, 4),
        because="two values",
    ),
    fires(
        "commute.averaging.between_equals",
        lambda m, x, w: (lambda h: torch.lerp(h, h, w))(x.relu()),
        (3, 4),
        (4,),
        expect="relu = relu(x)",
    ),
    leaves(
        "commute.averaging.between_equals",
        lambda m, x, w: torch.lerp(x.relu(), x, w),
        (3, 4),
        (4,),
        because="two values",
    ),
    leaves(
        "commute.averaging.between_equals",
        lambda m, x, w: torch.lerp(x, x, w),
        (4,),
        (3, 4),
        because="the result is larger",
    ),
    fires(
        "commute.averaging.fold_of_repeated",
        lambda m, x: x.relu()[None].expand(5, 3, 4).mean(0),
        (3, 4),
        expect="relu = relu(x)",
    ),
    leaves(
        "commute.averaging.fold_of_repeated",
        lambda m, x: x.relu()[None].expand(5, 3, 4).mean(1),
        (3, 4),
        because="other numbers are folded",
    ),
    fires(
        "commute.averaging.sum_of_repeated",
        lambda m, x: x.relu()[None].expand(5, 3, 4).sum(0),
        (3, 4),
        expect="""
            relu = relu(x)
            mul = mul(relu, 5)
        """,
    ),
    leaves(
        "commute.averaging.sum_of_repeated",
        lambda m, x: x.relu()[None].expand(5, 3, 4).sum(1),
        (3, 4),
        because="other numbers are summed",
    ),
    fires(
        "commute.folds.fold_of_joined_last",
        lambda m, x: x.flatten(2).amax(-1),
        (2, 3, 4, 5),
        expect="amax_1 = amax(x, dim=[-2, -1])",
    ),
    leaves(
        "commute.folds.fold_of_joined_last",
        lambda m, x: x.flatten(1, 2).amax(-1),
        (2, 3, 4, 5),
        because="another axis is joined",
    ),
    fires(
        "commute.folds.fold_of_joined",
        lambda m, x: x.flatten(1, 2).mean(1),
        (2, 3, 4, 5),
        expect="mean_1 = mean(x, dim=[-3, -2])",
    ),
    leaves(
        "commute.folds.fold_of_joined",
        lambda m, x: x.flatten(1, 2).mean(2),
        (2, 3, 4, 5),
        because="another axis is folded",
    ),
    fires(
        "commute.tokens.sorted_action",
        lambda m, x: x.flip(1).sort(1)[0],
        (3, 4),
        expect="""
            sort_1 = sort(x)
            getitem_1 = sort_1[0]
        """,
    ),
    leaves(
        "commute.tokens.largest_of_action",
        lambda m, x: x.roll(1, 1).topk(2, 1, sorted=False)[0],
        (3, 4),
        because="in no order they are those that come first",
    ),
    fires(
        "commute.tokens.largest_of_action",
        lambda m, x: x.roll(1, 1).topk(2, 1)[0],
        (3, 4),
        expect="""
            topk_1 = topk(x, 2)
            getitem_1 = topk_1[0]
        """,
    ),
    leaves(
        "commute.tokens.sorted_action",
        lambda m, x: x.flip(1).sort(1)[1] * x,
        (3, 4),
        because="where they stood is asked for",
    ),
    fires(
        "commute.invariance.places_of_largest_shares",
        lambda m, x: x.softmax(1).topk(2, 1)[1] * x[:, :2],
        (3, 4),
        expect="""
            topk_1 = topk(x, 2)
            getitem = topk_1[1]
            slice_1 = slice(x, dim=-1, start=0, end=2)
            mul = mul(getitem, slice_1)
        """,
    ),
    leaves(
        "commute.invariance.places_of_largest_shares",
        lambda m, x: (lambda p: p[0] * p[1])(x.softmax(1).topk(2, 1)),
        (3, 4),
        because="the shares are asked for",
    ),
    leaves(
        "commute.invariance.places_of_largest_shares",
        lambda m, x: x.softmax(0).topk(2, 1)[1] * x[:, :2],
        (3, 4),
        because="shares along another axis",
    ),
    fires(
        "commute.invariance.largest_of_shifted",
        lambda m, x: (x + 2).argmax(1) * x[:, 0],
        (3, 4),
        expect="""
            argmax_1 = argmax(x, dim=-1)
            select = select(x, -1, 0)
            mul = mul(argmax_1, select)
        """,
    ),
    leaves(
        "commute.invariance.largest_of_shifted",
        lambda m, x: (2 - x).argmax(1) * x[:, 0],
        (3, 4),
        because="they are taken away",
    ),
    fires(
        "commute.invariance.layer_norm_of_shifted",
        lambda m, x: F.layer_norm(x - x.mean(-1, keepdim=True), (4,), m.w),
        (2, 3, 4),
        w=number(4),
        expect="""
            mean = mean(x, dim=[-1], keepdim=true)
            layer_norm_1 = layer_norm(x, [4], w)
        """,
    ),
    leaves(
        "commute.invariance.layer_norm_of_shifted",
        lambda m, x: F.layer_norm(x + m.w, (4,)),
        (2, 3, 4),
        w=number(4),
        because="each feature has its own",
    ),
    fires(
        "commute.invariance.instance_norm_of_biased",
        lambda m, x: F.instance_norm(F.conv2d(x, m.W, m.b)),
        (2, 3, 5, 5),
        W=number(4, 3, 2, 2),
        b=number(4),
        expect="conv2d_1 = conv2d(x, W)\n"
        "instance_norm_1 = instance_norm(conv2d_1, "
        "use_input_stats=true, momentum=0.1, eps=1e-05, cudnn=true)",
    ),
    leaves(
        "commute.invariance.instance_norm_of_biased",
        lambda m, x: F.instance_norm(F.conv2d(x, m.W)),
        (2, 3, 5, 5),
        W=number(4, 3, 2, 2),
        because="there is no bias",
    ),
    fires(
        "commute.choices.choice_of_flattened_images",
        lambda m, x: torch.where((x > 0).flatten(2), x.sin().flatten(2), x.cos().flatten(2)),
        (2, 3, 4, 5),
        expect="""
            gt = gt(x, 0)
            sin = sin(x)
            cos = cos(x)
            where_1 = where(gt, sin, cos)
            reshape = reshape(where_1, [2, 3, 20])
        """,
    ),
    leaves(
        "commute.choices.choice_of_flattened_images",
        lambda m, x, y: torch.where(y > 0, x.sin().flatten(2), x.cos().flatten(2)),
        (2, 3, 4, 5),
        (2, 3, 20),
        because="the condition is flat",
    ),
    fires(
        "commute.choices.choice_of_flattened_rows",
        lambda m, x: torch.where((x > 0).flatten(1), x.sin().flatten(1), x.cos().flatten(1)),
        (2, 3, 4),
        expect="""
            gt = gt(x, 0)
            sin = sin(x)
            cos = cos(x)
            where_1 = where(gt, sin, cos)
            reshape = reshape(where_1, [2, 12])
        """,
    ),
    leaves(
        "commute.choices.choice_of_flattened_rows",
        lambda m, x, y: torch.where(y > 0, x.sin().flatten(1), x.cos().flatten(1)),
        (2, 3, 4),
        (2, 12),
        because="the condition is flat",
    ),
    fires(
        "commute.choices.choice_or_number_of_reshapes",
        lambda m, x: torch.where((x > 0).flatten(), x.sin().flatten(), 0.5),
        (3, 4),
        expect="""
            gt = gt(x, 0)
            sin = sin(x)
            where_1 = where(gt, sin, 0.5)
            reshape = reshape(where_1, [12])
        """,
    ),
    leaves(
        "commute.choices.choice_or_number_of_reshapes",
        lambda m, x, y: torch.where(y > 0, x.sin().flatten(), 0.5),
        (3, 4),
        (12,),
        because="the condition is flat",
    ),
    fires(
        "commute.choices.number_or_choice_of_reshapes",
        lambda m, x: torch.where((x > 0).flatten(), 0.5, x.sin().flatten()),
        (3, 4),
        expect="""
            gt = gt(x, 0)
            sin = sin(x)
            where_1 = where(gt, 0.5, sin)
            reshape = reshape(where_1, [12])
        """,
    ),
    leaves(
        "commute.choices.number_or_choice_of_reshapes",
        lambda m, x, y: torch.where(y > 0, 0.5, x.sin().flatten()),
        (3, 4),
        (12,),
        because="the condition is flat",
    ),
    fires(
        "commute.samples.samples_of_flip",
        lambda m, x, g: F.grid_sample(x, g.flip(1), align_corners=False),
        (2, 3, 4, 5),
        (2, 6, 7, 2),
        expect="""
            grid_sample = grid_sample(x, g, 0, 0, false)
            flip_1 = flip(grid_sample, [-2])
        """,
    ),
    leaves(
        "commute.samples.samples_of_flip",
        lambda m, x, g: F.grid_sample(x, g.flip(3), align_corners=False),
        (2, 3, 4, 5),
        (2, 6, 7, 2),
        because="columns for rows",
    ),
    fires(
        "commute.samples.samples_of_flipped_channels",
        lambda m, x, g: F.grid_sample(x.flip(1), g, align_corners=True),
        (2, 3, 4, 5),
        (2, 6, 7, 2),
        expect="""
            grid_sample = grid_sample(x, g, 0, 0, true)
            flip_1 = flip(grid_sample, [-3])
        """,
    ),
    leaves(
        "commute.samples.samples_of_flipped_channels",
        lambda m, x, g: F.grid_sample(x.flip(2), g, align_corners=True),
        (2, 3, 4, 5),
        (2, 6, 7, 2),
        because="the image is mirrored",
    ),
    fires(
        "commute.samples.samples_of_permuted_channels",
        lambda m, x, g: F.grid_sample(x.index_select(1, m.i), g, align_corners=False),
        (2, 3, 4, 5),
        (2, 6, 7, 2),
        i=ORDER[3],
        expect="""
            grid_sample = grid_sample(x, g, 0, 0, false)
            index_select_1 = index_select(grid_sample, -3, i)
        """,
    ),
    leaves(
        "commute.samples.samples_of_permuted_channels",
        lambda m, x, g: F.grid_sample(x.index_select(1, m.i), g, align_corners=False),
        (2, 4, 4, 5),
        (2, 6, 7, 2),
        i=ORDER[3],
        because="a channel is left out",
    ),
    fires(
        "commute.orders.gather_of_places",
        lambda m, x: x.gather(1, m.i.expand(2, 5, 3)),
        (2, 5, 3),
        i=ORDER[5][None, :, None],
        expect="index_select = index_select(x, -2, i_gather_of_places)",
    ),
    leaves(
        "commute.orders.gather_of_places",
        lambda m, x: x.gather(1, m.i.expand(2, 5, 3)),
        (2, 5, 3),
        i=torch.stack([ORDER[5], ORDER[5].flip(0)])[..., None],
        because="each row has its own",
    ),
    fires(
        "commute.orders.gather_of_action",
        lambda m, x, i: x.flip(2).gather(1, i.expand(2, 4, 3)),
        (2, 5, 3),
        torch.tensor([[[0], [4], [1], [1]], [[3], [2], [0], [4]]]),
        expect="""
            expand_1 = expand(i, [2, 4, 3])
            gather_1 = gather(x, -2, expand_1)
            flip_1 = flip(gather_1, [-1])
        """,
    ),
    leaves(
        "commute.orders.gather_of_action",
        lambda m, x, i: x.flip(2).gather(1, i.expand(2, 4, 2)),
        (2, 5, 3),
        torch.tensor([[[0], [4], [1], [1]], [[3], [2], [0], [4]]]),
        because="fewer features are read",
    ),
    fires(
        "commute.exchanged.distance_of_actions",
        lambda m, x, y: F.pairwise_distance(x.flip(1), y.flip(1)),
        (3, 4),
        (3, 4),
        expect="pairwise_distance_1 = pairwise_distance(x, y)",
    ),
    leaves(
        "commute.exchanged.distance_of_actions",
        lambda m, x, y: F.pairwise_distance(x.flip(1), y.flip(0)),
        (3, 4),
        (3, 4),
        because="another axis",
    ),
    fires(
        "commute.exchanged.distance_of_permutations",
        lambda m, x, y: F.pairwise_distance(x.index_select(1, m.i), y.index_select(1, m.i)),
        (3, 4),
        (3, 4),
        i=ORDER[4],
        expect="pairwise_distance_1 = pairwise_distance(x, y)",
    ),
    leaves(
        "commute.exchanged.distance_of_permutations",
        lambda m, x, y: F.pairwise_distance(x.index_select(1, m.i), y.index_select(1, m.j)),
        (3, 4),
        (3, 4),
        i=ORDER[4],
        j=ORDER[4].flip(0),
        because="two orders",
    ),
    fires(
        "commute.shuffles.pixels_of_channels_of_pixels",
        lambda m, x: F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2).relu(),
        (2, 3, 4, 6),
        expect="relu = relu(x)",
    ),
    leaves(
        "commute.shuffles.pixels_of_channels_of_pixels",
        lambda m, x: F.pixel_shuffle(F.pixel_unshuffle(x, 3), 2).relu(),
        (2, 4, 6, 12),
        because="by another factor",
    ),
    fires(
        "commute.shuffles.channels_of_pixels_of_channels",
        lambda m, x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2).relu(),
        (2, 8, 3, 5),
        expect="relu = relu(x)",
    ),
    leaves(
        "commute.shuffles.channels_of_pixels_of_channels",
        lambda m, x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 3).relu(),
        (2, 8, 3, 6),
        because="by another factor",
    ),
    fires(
        "commute.parts",
        lambda m, x, y: torch.cat([x.sin(), y.cos()], 1)[:, 3:5],
        (2, 3),
        (2, 4),
        expect="""
            sin = sin(x)
            cos = cos(y)
            slice_2 = slice(cos, dim=-1, start=0, end=2)
        """,
    ),
    fires(
        "commute.parts",
        lambda m, x, y: torch.stack([x.sin(), y.cos()], 1)[:, -1],
        (2, 3),
        (2, 3),
        expect="""
            sin = sin(x)
            cos = cos(y)
        """,
    ),
    fires(
        "commute.parts",
        lambda m, x: (lambda h: torch.cat([h, h]).mean(0))(x.sin()),
        (2, 3),
        expect="""
            sin = sin(x)
            mean_1 = mean(sin, dim=[-2])
        """,
    ),
    fires(
        "commute.parts",
        lambda m, x: x[:, torch.arange(3, -1, -1)],
        (2, 4),
        expect="""
            arange = arange(3, -1, step=-1, device=cpu)
            flip = flip(x, [-1])
        """,
    ),
    fires(
        "commute.parts",
        lambda m, x: x.index_select(1, m.p)[:, -1],
        (2, 4, 3),
        p=torch.tensor([2, 0, 3, 1]),
        expect="select_1 = select(x, -2, 1)",
    ),
    leaves(
        "commute.parts",
        lambda m, x, p: x.index_select(1, p)[:, 0],
        (2, 4, 3),
        torch.tensor([2, 0, 3, 1]),
        because="the places are known when the model runs",
    ),
    leaves(
        "commute.parts",
        lambda m, x, y: torch.cat([x.sin(), y.cos()], 1)[:, 2:5],
        (2, 3),
        (2, 4),
        because="parts of both",
    ),
    leaves(
        "commute.parts",
        lambda m, x, y: torch.cat([x.sin(), y.cos()]).mean(0),
        (2, 3),
        (2, 3),
        because="two values",
    ),
    leaves(
        "commute.parts",
        lambda m, x: x[:, torch.arange(3, 0, -1)],
        (2, 4),
        because="the first place is left out",
    ),
    fires(
        "merge.copies",
        lambda m, x: F.conv1d(torch.cat([x, x.flip(2)]), m.W, padding=1).mean(2),
        (2, 3, 5),
        W=MIRRORED,
        expect="""
            flip = flip(x, [-1])
            conv1d_1 = conv1d(x, W, padding=[1])
            mean_1 = mean(conv1d_1, dim=[-1])
            concat = concat(mean_1, mean_1, dim=-2)
        """,
    ),
    leaves(
        "merge.copies",
        lambda m, x: F.conv1d(torch.cat([x, x.flip(2)]), m.V, padding=1),
        (2, 3, 5),
        V=number(4, 3, 3),
        because="the kernel is another one in the mirror",
    ),
    leaves(
        "merge.copies",
        lambda m, x, y: F.conv1d(torch.cat([x, y.flip(2)]), m.W, padding=1),
        (2, 3, 5),
        (2, 3, 5),
        W=MIRRORED,
        because="two values",
    ),
    leaves(
        "merge.copies",
        lambda m, x: F.conv1d((lambda h: h - h.mean(0, keepdim=True))(torch.cat([x, x.flip(2)])), m.W),
        (2, 3, 5),
        W=MIRRORED,
        because="copies see one another in a mean over the batch",
    ),
    leaves(
        "merge.copies",
        lambda m, x: F.conv1d(torch.cat([x, x.flip(2)]), m.W, padding=1),
        (2, 3, 5),
        W=MIRRORED,
        because="reflecting its result takes longer than computing it",
    ),
]
