"""Cases of windows and constants around images, sequences and volumes that are moved."""

import torch.nn.functional as F
from rule_cases import fires, leaves, number
from torch import nn

IMAGE, VOLUME, SERIES = (2, 4, 6, 6), (2, 4, 3, 4, 5), (2, 4, 6)
POSITIVE = number(4, 1, 1).abs()

CASES = [
    fires(
        "commute.flips.conv_of_flip",
        lambda m, x: m.conv(x.flip(2, 4)),
        VOLUME,
        conv=nn.Conv3d(4, 3, 3, padding=1),
        expect="""
            conv3d_1 = conv3d(x, conv.weight_conv_of_flip, conv.bias, padding=[1, 1, 1])
            flip_1 = flip(conv3d_1, [-3, -1])
        """,
    ),
    leaves(
        "commute.flips.conv_of_flip",
        lambda m, x: m.conv(x.flip(3)),
        VOLUME,
        conv=nn.Conv3d(4, 3, 2, stride=(1, 3, 1), padding=1),
        because="windows of two do not end where four rows with a border of one end",
    ),
    fires(
        "commute.flips.max_pool_of_flip",
        lambda m, x: F.max_pool1d(x.flip(-1, 0), 2),
        SERIES,
        expect="""
            max_pool1d_1 = max_pool1d(x, [2], stride=[2])
            flip_1 = flip(max_pool1d_1, [-1, -3])
        """,
    ),
    fires(
        "commute.flips.avg_pool_of_flip",
        lambda m, x: F.avg_pool3d(x.flip(3), (1, 2, 1)),
        VOLUME,
        expect="""
            avg_pool3d_1 = avg_pool3d(x, [1, 2, 1], stride=[1, 2, 1])
            flip_1 = flip(avg_pool3d_1, [-2])
        """,
    ),
    fires(
        "commute.flips.nearest_of_flip",
        lambda m, x: F.interpolate(x.flip(-1), scale_factor=2, mode="nearest-exact"),
        IMAGE,
        expect="""
            upsample_nearest_exact2d = upsample_nearest_exact2d(x, none, [2.0, 2.0])
            flip_1 = flip(upsample_nearest_exact2d, [-1])
        """,
    ),
    fires(
        "commute.flips.resize_of_flip",
        lambda m, x: F.interpolate(x.flip(-1), size=(7, 9), mode="bicubic"),
        IMAGE,
        expect="""
            upsample_bicubic2d_1 = upsample_bicubic2d(x, [7, 9], false, none)
            flip_1 = flip(upsample_bicubic2d_1, [-1])
        """,
    ),
    fires(
        "commute.flips.resize_of_flip",
        lambda m, x: F.interpolate(x.flip(-1), size=(4, 9), mode="bilinear", align_corners=True),
        IMAGE,
        expect="""
            upsample_bilinear2d_1 = upsample_bilinear2d(x, [4, 9], true, none)
            flip_1 = flip(upsample_bilinear2d_1, [-1])
        """,
    ),
    leaves(
        "commute.flips.resize_of_flip",
        lambda m, x: F.interpolate(x.flip(-1), size=(4, 1), mode="bilinear", align_corners=True),
        IMAGE,
        because="a single column is the first one",
    ),
    fires(
        "commute.transposed.conv_transpose_of_flip",
        lambda m, x: m.c(x.flip(2, 4)),
        VOLUME,
        c=nn.ConvTranspose3d(4, 3, 3),
        expect="""
            conv_transpose3d_1 = conv_transpose3d(x, c.weight_conv_transpose_of_flip, c.bias)
            flip_1 = flip(conv_transpose3d_1, [-3, -1])
        """,
    ),
    fires(
        "commute.rotations.conv3d_of_permute",
        lambda m, x: m.conv(x.permute(0, 1, 4, 2, 3)),
        VOLUME,
        conv=nn.Conv3d(4, 3, (1, 2, 3), stride=(1, 2, 1)),
        expect="""
            conv3d_1 = conv3d(x, conv.weight_conv3d_of_permute, conv.bias, stride=[2, 1, 1])
            permute_1 = permute(conv3d_1, [0, 1, 4, 2, 3])
        """,
    ),
    leaves(
        "commute.rotations.conv3d_of_permute",
        lambda m, x: m.conv(x.permute(0, 3, 1, 2, 4)),
        VOLUME,
        conv=nn.Conv3d(4, 3, 1),
        because="channels are rows",
    ),
    fires(
        "commute.transposed.conv_transpose3d_of_permute",
        lambda m, x: m.c(x.permute(0, 1, 4, 2, 3)),
        VOLUME,
        c=nn.ConvTranspose3d(4, 3, (1, 2, 3)),
        expect="""
            conv_transpose3d_1 = conv_transpose3d(x, c.weight_conv_transpose3d_of_permute, c.bias)
            permute_1 = permute(conv_transpose3d_1, [0, 1, 4, 2, 3])
        """,
    ),
    leaves(
        "commute.transposed.conv_transpose3d_of_permute",
        lambda m, x: m.conv(x.permute(0, 3, 1, 2, 4)),
        VOLUME,
        conv=nn.ConvTranspose3d(4, 3, 1),
        because="channels are rows",
    ),
    fires(
        "commute.rotations.avg_pool_of_permute",
        lambda m, x: F.avg_pool3d(x.transpose(2, 4), (1, 2, 3)),
        VOLUME,
        expect="""
            avg_pool3d_1 = avg_pool3d(x, [3, 2, 1], stride=[3, 2, 1])
            permute = permute(avg_pool3d_1, [0, 1, 4, 3, 2])
        """,
    ),
    fires(
        "commute.windows.resize_of_permute",
        lambda m, x: F.interpolate(x.transpose(2, 4), size=(2, 3, 6), mode="trilinear"),
        VOLUME,
        expect="""
            upsample_trilinear3d_1 = upsample_trilinear3d(x, [6, 3, 2], false, none)
            permute = permute(upsample_trilinear3d_1, [0, 1, 4, 3, 2])
        """,
    ),
    fires(
        "commute.rolls.ring_conv_of_roll",
        lambda m, x: m.conv(x.roll((2, 4), (2, 3))),
        IMAGE,
        conv=nn.Conv2d(4, 3, 3, 2, 1, padding_mode="circular"),
        expect="""
            pad_1 = pad(x, [1, 1, 1, 1], mode="circular")
            conv2d_1 = conv2d(pad_1, conv.weight, conv.bias, stride=[2, 2])
            roll_1 = roll(conv2d_1, [1, 2], dims=[-2, -1])
        """,
    ),
    leaves(
        "commute.rolls.ring_conv_of_roll",
        lambda m, x: m.conv(x.roll(1, 3)),
        IMAGE,
        conv=nn.Conv2d(4, 3, 3, 2, 1, padding_mode="circular"),
        because="half a stride",
    ),
    leaves(
        "commute.rolls.ring_conv_of_roll",
        lambda m, x: m.conv(x.roll(2, 2)),
        (2, 4, 5),
        conv=nn.Conv1d(4, 3, 3, 2, 1, padding_mode="circular"),
        because="the ring has five places",
    ),
    fires(
        "commute.places.patches_of_roll",
        lambda m, x: m.conv(x.roll((2, 4), (2, 3))),
        IMAGE,
        conv=nn.Conv2d(4, 3, 2, 2),
        expect="""
            conv2d_1 = conv2d(x, conv.weight, conv.bias, stride=[2, 2])
            roll_1 = roll(conv2d_1, [1, 2], dims=[-2, -1])
        """,
    ),
    leaves(
        "commute.places.patches_of_roll",
        lambda m, x: m.conv(x.roll(2, 3)),
        IMAGE,
        conv=nn.Conv2d(4, 3, 3, 2),
        because="patches overlap",
    ),
    fires(
        "commute.places.max_pool_of_roll",
        lambda m, x: F.max_pool2d(x.roll((2, 4), (2, 3)), 2),
        IMAGE,
        expect="""
            max_pool2d_1 = max_pool2d(x, [2, 2], stride=[2, 2])
            roll_1 = roll(max_pool2d_1, [1, 2], dims=[-2, -1])
        """,
    ),
    leaves(
        "commute.places.max_pool_of_roll",
        lambda m, x: F.max_pool2d(x.roll(1, 3), 2),
        IMAGE,
        because="half a window",
    ),
    fires(
        "commute.places.avg_pool_of_roll",
        lambda m, x: F.avg_pool1d(x.roll(3, 2), 3),
        SERIES,
        expect="""
            avg_pool1d_1 = avg_pool1d(x, [3], stride=[3])
            roll_1 = roll(avg_pool1d_1, [1], dims=[-1])
        """,
    ),
    leaves(
        "commute.places.avg_pool_of_roll",
        lambda m, x: F.avg_pool1d(x.roll(2, 2), 2),
        (2, 4, 7),
        because="the seventh position is in no window",
    ),
    fires(
        "commute.places.adaptive_pool_of_roll",
        lambda m, x: F.adaptive_avg_pool2d(x.roll(2, 3), 3),
        IMAGE,
        expect="""
            adaptive_avg_pool2d_1 = adaptive_avg_pool2d(x, [3, 3])
            roll_1 = roll(adaptive_avg_pool2d_1, [1], dims=[-1])
        """,
    ),
    leaves(
        "commute.places.adaptive_pool_of_roll",
        lambda m, x: F.adaptive_avg_pool2d(x.roll(2, 3), 4),
        IMAGE,
        because="windows of six positions overlap",
    ),
    fires(
        "commute.places.nearest_of_roll",
        lambda m, x: F.interpolate(x.roll(1, 3), scale_factor=2),
        IMAGE,
        expect="""
            upsample_nearest2d_1 = upsample_nearest2d(x, none, [2.0, 2.0])
            roll_1 = roll(upsample_nearest2d_1, [2], dims=[-1])
        """,
    ),
    leaves(
        "commute.places.nearest_of_roll",
        lambda m, x: F.interpolate(x.roll(1, 3), size=(6, 7)),
        IMAGE,
        because="of six columns one is taken twice",
    ),
    fires(
        "commute.places.resize_of_roll",
        lambda m, x: F.interpolate(x.roll(1, 1), scale_factor=2, mode="bilinear"),
        IMAGE,
        expect="""
            upsample_bilinear2d_1 = upsample_bilinear2d(x, none, false, [2.0, 2.0])
            roll_1 = roll(upsample_bilinear2d_1, [1], dims=[-3])
        """,
    ),
    leaves(
        "commute.places.resize_of_roll",
        lambda m, x: F.interpolate(x.roll(1, 3), scale_factor=2, mode="bilinear"),
        IMAGE,
        because="the last column lies between no others",
    ),
    fires(
        "commute.transposed.conv_transpose_of_roll",
        lambda m, x: m.conv(x.roll(1, 3)),
        IMAGE,
        conv=nn.ConvTranspose2d(4, 3, 2, 2),
        expect="""
            conv_transpose2d_1 = conv_transpose2d(x, conv.weight, conv.bias, stride=[2, 2])
            roll_1 = roll(conv_transpose2d_1, [2], dims=[-1])
        """,
    ),
    leaves(
        "commute.transposed.conv_transpose_of_roll",
        lambda m, x: m.conv(x.roll(1, 3)),
        IMAGE,
        conv=nn.ConvTranspose2d(4, 3, 3, 2),
        because="patches overlap",
    ),
    fires(
        "commute.scaling.kept_extreme_of_scaled",
        lambda m, x: (x * m.a).amax((2, 3), keepdim=True),
        IMAGE,
        a=POSITIVE,
        expect="""
            amax_1 = amax(x, dim=[-2, -1], keepdim=true)
            mul_1 = mul(amax_1, a)
        """,
    ),
    leaves(
        "commute.scaling.kept_extreme_of_scaled",
        lambda m, x: (x * m.a).amax((2, 3), keepdim=True),
        IMAGE,
        a=-POSITIVE,
        because="a negative factor makes the smallest the largest",
    ),
    fires(
        "commute.scaling.extreme_of_scaled_channels",
        lambda m, x: (x * m.a).amax((2, 3)),
        IMAGE,
        a=POSITIVE,
        expect="""
            amax_1 = amax(x, dim=[-2, -1])
            mul_1 = mul(amax_1, a_extreme_of_scaled_channels)
        """,
    ),
    leaves(
        "commute.scaling.extreme_of_scaled_channels",
        lambda m, x: (x * m.a).amax((2, 3)),
        IMAGE,
        a=-POSITIVE,
        because="a negative factor makes the smallest the largest",
    ),
    fires(
        "commute.scaling.extreme_of_multiple",
        lambda m, x: (x * 3).amin(1),
        IMAGE,
        expect="""
            amin_1 = amin(x, dim=[-3])
            mul_1 = mul(amin_1, 3)
        """,
    ),
    leaves(
        "commute.scaling.extreme_of_multiple",
        lambda m, x: (x * -3).amin(1),
        IMAGE,
        because="a negative factor makes the smallest the largest",
    ),
    fires(
        "fold.bias.conv_of_shifted",
        lambda m, x: m.conv(x - m.a),
        IMAGE,
        conv=nn.Conv2d(4, 3, 2, stride=2),
        a=POSITIVE,
        expect="conv2d_1 = conv2d(x, conv.weight, conv.bias_conv_of_shifted, stride=[2, 2])",
    ),
    leaves(
        "fold.bias.conv_of_shifted",
        lambda m, x: m.conv(x - m.a),
        IMAGE,
        conv=nn.Conv2d(4, 3, 3, padding=1),
        a=POSITIVE,
        because="the border of zeros has no mean to be taken away",
    ),
    fires(
        "fold.bias.conv_of_shift",
        lambda m, x: m.conv(x - 0.5),
        IMAGE,
        conv=nn.Conv2d(4, 4, 3, groups=2),
        expect="conv2d_1 = conv2d(x, conv.weight, conv.bias_conv_of_shift, groups=2)",
    ),
    leaves(
        "fold.bias.conv_of_shift",
        lambda m, x: m.conv(x - 0.5),
        IMAGE,
        conv=nn.Conv2d(4, 3, 3, padding=1),
        because="the border of zeros stays zero",
    ),
    fires(
        "fold.scale.conv_of_divided",
        lambda m, x: m.conv(x / m.a),
        IMAGE,
        conv=nn.Conv2d(4, 3, 3, padding=1),
        a=POSITIVE,
        expect="conv2d_1 = conv2d(x, conv.weight_conv_of_divided, conv.bias, padding=[1, 1])",
    ),
    leaves(
        "fold.scale.conv_of_divided",
        lambda m, x: m.conv(x / m.a),
        IMAGE,
        conv=nn.Conv2d(4, 3, 3),
        a=number(6),
        because="a divisor for each column",
    ),
]
