"""Cases of `passes/commute/norms.tdsl` and `windows.tdsl`."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves
from torch import nn

IMAGE, SQUARE, SERIES, TOKENS = (2, 6, 4, 5), (2, 6, 6, 6), (2, 6, 8), (2, 5, 6)
KNOWN = "bn.weight, bn.bias, bn.running_mean, bn.running_var, false, 0.1, 1e-05, true"
OWN = "use_input_stats=true, momentum=0.1, eps=1e-05, cudnn=true"
MOVED = "norm.weight_instance_norm_of_permutation, norm.bias_instance_norm_of_permutation"
ORDER = torch.tensor([3, 0, 4, 1, 5, 2])

NORMS = [
    fires(
        "commute.norms.batch_norm_of_permute",
        lambda m, x: m.bn(x.transpose(2, 3)),
        IMAGE,
        bn=nn.BatchNorm2d(6),
        expect=f"""
            batch_norm_1 = batch_norm(x, {KNOWN})
            permute = permute(batch_norm_1, [0, 1, 3, 2])
        """,
    ),
    leaves(
        "commute.norms.batch_norm_of_permute",
        lambda m, x: m.bn(x.transpose(1, 2)),
        SQUARE,
        bn=nn.BatchNorm2d(6),
        because="channels are rows",
    ),
    fires(
        "commute.norms.batch_norm_of_roll",
        lambda m, x: m.bn(x.roll(1, 3)),
        IMAGE,
        bn=nn.BatchNorm2d(6),
        expect=f"""
            batch_norm_1 = batch_norm(x, {KNOWN})
            roll_1 = roll(batch_norm_1, [1], dims=[-1])
        """,
    ),
    leaves(
        "commute.norms.batch_norm_of_roll",
        lambda m, x: m.bn(x.roll(1, 1)),
        IMAGE,
        bn=nn.BatchNorm2d(6),
        because="channels are rotated",
    ),
    fires(
        "commute.norms.instance_norm_of_flip",
        lambda m, x: m.norm(x.flip(2)),
        IMAGE,
        norm=nn.InstanceNorm2d(6, affine=True),
        expect=f"""
            instance_norm_1 = instance_norm(x, norm.weight, norm.bias, {OWN})
            flip_1 = flip(instance_norm_1, [-2])
        """,
    ),
    leaves(
        "commute.norms.instance_norm_of_flip",
        lambda m, x: m.norm(x.flip(1)),
        IMAGE,
        norm=nn.InstanceNorm2d(6, affine=True),
        because="channels are reflected",
    ),
    fires(
        "commute.norms.instance_norm_of_transpose",
        lambda m, x: m.norm(x.transpose(2, 3)),
        IMAGE,
        norm=nn.InstanceNorm2d(6, affine=True),
        expect=f"""
            instance_norm_1 = instance_norm(x, norm.weight, norm.bias, {OWN})
            permute = permute(instance_norm_1, [0, 1, 3, 2])
        """,
    ),
    leaves(
        "commute.norms.instance_norm_of_transpose",
        lambda m, x: m.norm(x.transpose(1, 2)),
        SQUARE,
        norm=nn.InstanceNorm2d(6, affine=True),
        because="channels are rows",
    ),
    fires(
        "commute.norms.instance_norm_of_roll",
        lambda m, x: m.norm(x.roll(1, 3)),
        IMAGE,
        norm=nn.InstanceNorm2d(6, affine=True),
        expect=f"""
            instance_norm_1 = instance_norm(x, norm.weight, norm.bias, {OWN})
            roll_1 = roll(instance_norm_1, [1], dims=[-1])
        """,
    ),
    leaves(
        "commute.norms.instance_norm_of_roll",
        lambda m, x: m.norm(x.roll(1, 1)),
        IMAGE,
        norm=nn.InstanceNorm2d(6, affine=True),
        because="channels are rotated",
    ),
    fires(
        "commute.norms.instance_norm_of_permutation",
        lambda m, x: m.norm(x.index_select(1, m.i)),
        IMAGE,
        norm=nn.InstanceNorm2d(6, affine=True),
        i=ORDER,
        expect=f"""
            instance_norm_1 = instance_norm(x, {MOVED}, {OWN})
            index_select_1 = index_select(instance_norm_1, -3, i)
        """,
    ),
    leaves(
        "commute.norms.instance_norm_of_permutation",
        lambda m, x: m.norm(x.index_select(2, m.i)),
        SQUARE,
        norm=nn.InstanceNorm2d(6, affine=True),
        i=ORDER,
        because="rows are permuted",
    ),
    fires(
        "commute.norms.plain_instance_norm_of_permutation",
        lambda m, x: F.instance_norm(x.index_select(1, m.i)),
        IMAGE,
        i=ORDER,
        expect=f"""
            instance_norm_1 = instance_norm(x, {OWN})
            index_select_1 = index_select(instance_norm_1, -3, i)
        """,
    ),
    leaves(
        "commute.norms.plain_instance_norm_of_permutation",
        lambda m, x: F.instance_norm(x.index_select(2, m.i)),
        SQUARE,
        i=ORDER,
        because="rows are permuted",
    ),
    fires(
        "commute.norms.group_norm_of_permute",
        lambda m, x: m.norm(x.transpose(2, 3)),
        IMAGE,
        norm=nn.GroupNorm(2, 6),
        expect="""
            group_norm_1 = group_norm(x, 2, norm.weight, norm.bias)
            permute = permute(group_norm_1, [0, 1, 3, 2])
        """,
    ),
    leaves(
        "commute.norms.group_norm_of_permute",
        lambda m, x: m.norm(x.transpose(1, 2)),
        SQUARE,
        norm=nn.GroupNorm(2, 6),
        because="channels are rows",
    ),
    fires(
        "commute.norms.group_norm_of_roll",
        lambda m, x: m.norm(x.roll(1, 3)),
        IMAGE,
        norm=nn.GroupNorm(2, 6),
        expect="""
            group_norm_1 = group_norm(x, 2, norm.weight, norm.bias)
            roll_1 = roll(group_norm_1, [1], dims=[-1])
        """,
    ),
    leaves(
        "commute.norms.group_norm_of_roll",
        lambda m, x: m.norm(x.roll(1, 1)),
        IMAGE,
        norm=nn.GroupNorm(2, 6),
        because="channels are rotated",
    ),
    fires(
        "commute.norms.layer_norm_of_roll",
        lambda m, x: m.norm(x.roll(1, 1)),
        TOKENS,
        norm=nn.LayerNorm(6),
        expect="""
            layer_norm_1 = layer_norm(x, [6], norm.weight, norm.bias)
            roll_1 = roll(layer_norm_1, [1], dims=[-2])
        """,
    ),
    leaves(
        "commute.norms.layer_norm_of_roll",
        lambda m, x: m.norm(x.roll(1, 2)),
        TOKENS,
        norm=nn.LayerNorm(6),
        because="what is normalised is rotated",
    ),
    fires(
        "commute.norms.prelu_of_flip",
        lambda m, x: m.prelu(x.flip(2)),
        IMAGE,
        prelu=nn.PReLU(6),
        expect="""
            prelu_1 = prelu(x, prelu.weight)
            flip_1 = flip(prelu_1, [-2])
        """,
    ),
    leaves(
        "commute.norms.prelu_of_flip",
        lambda m, x: m.prelu(x.flip(1)),
        IMAGE,
        prelu=nn.PReLU(6),
        because="channels are reflected",
    ),
    fires(
        "commute.norms.prelu_of_transpose",
        lambda m, x: m.prelu(x.transpose(2, 3)),
        IMAGE,
        prelu=nn.PReLU(6),
        expect="""
            prelu_1 = prelu(x, prelu.weight)
            permute = permute(prelu_1, [0, 1, 3, 2])
        """,
    ),
    leaves(
        "commute.norms.prelu_of_transpose",
        lambda m, x: m.prelu(x.transpose(1, 2)),
        SQUARE,
        prelu=nn.PReLU(6),
        because="channels are rows",
    ),
    fires(
        "commute.norms.prelu_of_roll",
        lambda m, x: m.prelu(x.roll(1, 3)),
        IMAGE,
        prelu=nn.PReLU(6),
        expect="""
            prelu_1 = prelu(x, prelu.weight)
            roll_1 = roll(prelu_1, [1], dims=[-1])
        """,
    ),
    leaves(
        "commute.norms.prelu_of_roll",
        lambda m, x: m.prelu(x.roll(1, 1)),
        IMAGE,
        prelu=nn.PReLU(6),
        because="channels are rotated",
    ),
    fires(
        "commute.norms.prelu_of_permutation",
        lambda m, x: m.prelu(x.index_select(1, m.i)),
        IMAGE,
        prelu=nn.PReLU(6),
        i=ORDER,
        expect="""
            prelu_1 = prelu(x, prelu.weight_prelu_of_permutation)
            index_select_1 = index_select(prelu_1, -3, i)
        """,
    ),
    leaves(
        "commute.norms.prelu_of_permutation",
        lambda m, x: m.prelu(x.index_select(2, m.i)),
        SQUARE,
        prelu=nn.PReLU(6),
        i=ORDER,
        because="rows are permuted",
    ),
]

WINDOWS = [
    fires(
        "commute.windows.pool_of_permutation",
        lambda m, x: F.max_pool2d(x.index_select(1, m.i), 2),
        IMAGE,
        i=ORDER,
        expect="""
            max_pool2d_1 = max_pool2d(x, [2, 2], stride=[2, 2])
            index_select_1 = index_select(max_pool2d_1, -3, i)
        """,
    ),
    leaves(
        "commute.windows.pool_of_permutation",
        lambda m, x: F.avg_pool2d(x.index_select(2, m.i), 2),
        SQUARE,
        i=ORDER,
        because="rows are permuted",
    ),
    fires(
        "commute.windows.pool1d_of_permutation",
        lambda m, x: F.avg_pool1d(x.index_select(1, m.i), 2),
        SERIES,
        i=ORDER,
        expect="""
            avg_pool1d_1 = avg_pool1d(x, [2], stride=[2])
            index_select_1 = index_select(avg_pool1d_1, -2, i)
        """,
    ),
    leaves(
        "commute.windows.pool1d_of_permutation",
        lambda m, x: F.avg_pool1d(x.index_select(2, m.i), 2),
        (2, 6, 6),
        i=ORDER,
        because="places are permuted",
    ),
    fires(
        "commute.windows.pool_of_shuffle",
        lambda m, x: F.avg_pool2d(torch.channel_shuffle(x, 2), 2),
        IMAGE,
        expect="""
            avg_pool2d_1 = avg_pool2d(x, [2, 2], stride=[2, 2])
            channel_shuffle_1 = channel_shuffle(avg_pool2d_1, 2)
        """,
    ),
    leaves(
        "commute.windows.pool_of_shuffle",
        lambda m, x: F.avg_pool2d(torch.channel_shuffle(x, 2).transpose(2, 3), 2),
        IMAGE,
        because="rows and columns change places in between",
    ),
    fires(
        "commute.windows.resize_of_permutation",
        lambda m, x: F.interpolate(x.index_select(1, m.i), scale_factor=2),
        IMAGE,
        i=ORDER,
        expect="""
            upsample_nearest2d_1 = upsample_nearest2d(x, none, [2.0, 2.0])
            index_select_1 = index_select(upsample_nearest2d_1, -3, i)
        """,
    ),
    leaves(
        "commute.windows.resize_of_permutation",
        lambda m, x: F.interpolate(x.index_select(2, m.i), scale_factor=2),
        SQUARE,
        i=ORDER,
        because="rows are permuted",
    ),
    fires(
        "commute.windows.resize_of_shuffle",
        lambda m, x: F.interpolate(torch.channel_shuffle(x, 2), scale_factor=2, mode="bilinear"),
        IMAGE,
        expect="""
            upsample_bilinear2d_1 = upsample_bilinear2d(x, none, false, [2.0, 2.0])
            channel_shuffle_1 = channel_shuffle(upsample_bilinear2d_1, 2)
        """,
    ),
    leaves(
        "commute.windows.resize_of_shuffle",
        lambda m, x: F.interpolate(torch.channel_shuffle(x, 2).transpose(2, 3), scale_factor=2),
        IMAGE,
        because="rows and columns change places in between",
    ),
    fires(
        "commute.windows.pad_of_permutation",
        lambda m, x: F.pad(x.index_select(1, m.i), (1, 0, 2, 1)),
        IMAGE,
        i=ORDER,
        expect="""
            pad_1 = pad(x, [1, 0, 2, 1])
            index_select_1 = index_select(pad_1, -3, i)
        """,
    ),
    leaves(
        "commute.windows.pad_of_permutation",
        lambda m, x: F.pad(x.index_select(1, m.i), (0, 0, 0, 0, 1, 1)),
        IMAGE,
        i=ORDER,
        because="the border is one of channels",
    ),
    fires(
        "commute.windows.pad_of_transpose",
        lambda m, x: F.pad(x.transpose(2, 3), (1, 0, 2, 3)),
        IMAGE,
        expect="""
            pad_1 = pad(x, [2, 3, 1, 0])
            permute = permute(pad_1, [0, 1, 3, 2])
        """,
    ),
    leaves(
        "commute.windows.pad_of_transpose",
        lambda m, x: F.pad(x.transpose(1, 2), (1, 0, 2, 3)),
        IMAGE,
        because="channels are rows",
    ),
    fires(
        "commute.windows.nearest_of_permute",
        lambda m, x: F.interpolate(x.transpose(2, 3), scale_factor=(2, 3)),
        IMAGE,
        expect="""
            upsample_nearest2d_1 = upsample_nearest2d(x, none, [3.0, 2.0])
            permute = permute(upsample_nearest2d_1, [0, 1, 3, 2])
        """,
    ),
    leaves(
        "commute.windows.nearest_of_permute",
        lambda m, x: F.interpolate(x.transpose(1, 2), scale_factor=(2, 3)),
        IMAGE,
        because="channels are rows",
    ),
    fires(
        "commute.windows.resize_of_permute",
        lambda m, x: F.interpolate(x.transpose(2, 3), scale_factor=(2, 3), mode="bilinear"),
        IMAGE,
        expect="""
            upsample_bilinear2d_1 = upsample_bilinear2d(x, none, false, [3.0, 2.0])
            permute = permute(upsample_bilinear2d_1, [0, 1, 3, 2])
        """,
    ),
    leaves(
        "commute.windows.resize_of_permute",
        lambda m, x: F.interpolate(x.transpose(1, 2), scale_factor=2, mode="bilinear"),
        IMAGE,
        because="channels are rows",
    ),
    fires(
        "commute.windows.global_pool_of_roll",
        lambda m, x: F.adaptive_avg_pool2d(x.roll((1, 2), (2, 3)), 1),
        IMAGE,
        expect="adaptive_avg_pool2d_1 = adaptive_avg_pool2d(x, [1, 1])",
    ),
    leaves(
        "commute.windows.global_pool_of_roll",
        lambda m, x: F.adaptive_avg_pool2d(x.roll(1, 3), (1, 2)),
        IMAGE,
        because="two means are left of each row",
    ),
]

CASES = [*NORMS, *WINDOWS]
