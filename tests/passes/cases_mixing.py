"""Cases of `passes/commute/mixing` and `layers`, and of the cleanups beside them."""

# ruff: noqa: E501 - graphs as text have long lines

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves
from torch import nn

IMAGE = (2, 4, 6, 8)
CLOUD = (2, 4, 9)
TOKENS = (2, 5, 4)
BATCH = {"x": {0: "batch"}}
ANY_SIZE = {"x": {0: "batch", 2: "height", 3: "width"}}


def pixelwise(into: int, out: int, bias: bool = True) -> nn.Conv2d:
    """A 1×1 convolution."""
    return nn.Conv2d(into, out, 1, bias=bias)


def enlarged(x, mode="bilinear"):
    """An image of twice the size."""
    return F.interpolate(x, scale_factor=2, mode=mode)


MIXING = [
    fires(
        "commute.mixing.conv_of_resized",
        lambda m, x: m.conv(enlarged(x)),
        IMAGE,
        conv=pixelwise(4, 3),
        dynamic=BATCH,
        expect="""
            conv2d_1 = conv2d(x, conv.weight, conv.bias)
            upsample_bilinear2d_1 = upsample_bilinear2d(conv2d_1, none, false, [2.0, 2.0])
        """,
    ),
    fires(
        "commute.mixing.conv_of_resized",
        lambda m, x: m.conv(F.interpolate(x, (9, 11), mode="bilinear", align_corners=True)),
        IMAGE,
        conv=pixelwise(4, 3),
        expect="""
            conv2d_1 = conv2d(x, conv.weight, conv.bias)
            upsample_bilinear2d_1 = upsample_bilinear2d(conv2d_1, [9, 11], true, none)
        """,
    ),
    fires(
        "commute.mixing.conv_of_resized",
        lambda m, x: m.conv(enlarged(x, "nearest-exact")),
        IMAGE,
        conv=pixelwise(4, 3, bias=False),
        expect="""
            conv2d_1 = conv2d(x, conv.weight)
            upsample_nearest_exact2d = upsample_nearest_exact2d(conv2d_1, none, [2.0, 2.0])
        """,
    ),
    leaves(
        "commute.mixing.conv_of_resized",
        lambda m, x: m.conv(F.interpolate(x, (3, 4), mode="bilinear")),
        IMAGE,
        conv=pixelwise(4, 3),
        because="the image is made smaller",
    ),
    leaves(
        "commute.mixing.conv_of_resized",
        lambda m, x: m.conv(enlarged(x)),
        IMAGE,
        conv=nn.Conv2d(4, 3, 3, padding=1),
        because="the kernel sees neighbours",
    ),
    leaves(
        "commute.mixing.conv_of_resized",
        lambda m, x: m.conv(enlarged(x).relu()),
        IMAGE,
        conv=pixelwise(4, 3),
        because="a relu stands between",
    ),
    leaves(
        "commute.mixing.conv_of_resized",
        lambda m, x: m.conv(y := enlarged(x)) + y[:, :3],
        IMAGE,
        conv=pixelwise(4, 3),
        because="the large image has another reader",
    ),
    fires(
        "commute.mixing.resized_of_conv",
        lambda m, x: F.interpolate(m.conv(x), (3, 4), mode="nearest"),
        IMAGE,
        conv=pixelwise(4, 3),
        expect="""
            upsample_nearest2d_1 = upsample_nearest2d(x, [3, 4], none)
            conv2d_1 = conv2d(upsample_nearest2d_1, conv.weight, conv.bias)
        """,
    ),
    leaves(
        "commute.mixing.resized_of_conv",
        lambda m, x: enlarged(m.conv(x)),
        IMAGE,
        conv=pixelwise(4, 3),
        because="the image is made larger",
    ),
    fires(
        "commute.mixing.pool_of_conv",
        lambda m, x: F.avg_pool2d(m.conv(x), 2),
        IMAGE,
        conv=pixelwise(4, 3),
        dynamic=BATCH,
        expect="""
            avg_pool2d_1 = avg_pool2d(x, [2, 2], stride=[2, 2])
            conv2d_1 = conv2d(avg_pool2d_1, conv.weight, conv.bias)
        """,
    ),
    fires(
        "commute.mixing.pool_of_conv",
        lambda m, x: F.avg_pool2d(m.conv(x), 3, 2, padding=1, ceil_mode=True, count_include_pad=False),
        IMAGE,
        conv=pixelwise(4, 3),
        expect="""
            avg_pool2d_1 = avg_pool2d(x, [3, 3], stride=[2, 2], padding=[1, 1], ceil_mode=true, count_include_pad=false)
            conv2d_1 = conv2d(avg_pool2d_1, conv.weight, conv.bias)
        """,
    ),
    leaves(
        "commute.mixing.pool_of_conv",
        lambda m, x: F.avg_pool2d(m.conv(x), 3, 2, padding=1),
        IMAGE,
        conv=pixelwise(4, 3),
        because="zeros of the border are counted",
    ),
    leaves(
        "commute.mixing.pool_of_conv",
        lambda m, x: F.avg_pool2d(m.bn(m.conv(x)).relu(), 2),
        IMAGE,
        conv=pixelwise(4, 3),
        bn=nn.BatchNorm2d(3),
        because="batch norm and relu stand between",
    ),
    fires(
        "commute.mixing.pool_of_unbiased_conv",
        lambda m, x: F.avg_pool2d(m.conv(x), 3, 2, padding=1, divisor_override=5),
        IMAGE,
        conv=pixelwise(4, 3, bias=False),
        expect="""
            avg_pool2d_1 = avg_pool2d(x, [3, 3], stride=[2, 2], padding=[1, 1], divisor=5)
            conv2d_1 = conv2d(avg_pool2d_1, conv.weight)
        """,
    ),
    leaves(
        "commute.mixing.pool_of_unbiased_conv",
        lambda m, x: F.avg_pool2d(m.conv(x), 3, 1, padding=1),
        IMAGE,
        conv=pixelwise(4, 3, bias=False),
        because="there are as many windows as positions",
    ),
    fires(
        "commute.mixing.adaptive_pool_of_conv",
        lambda m, x: F.adaptive_avg_pool2d(m.conv(x), (1, 1)),
        IMAGE,
        conv=pixelwise(4, 3),
        dynamic=BATCH,
        expect="""
            adaptive_avg_pool2d_1 = adaptive_avg_pool2d(x, [1, 1])
            conv2d_1 = conv2d(adaptive_avg_pool2d_1, conv.weight, conv.bias)
        """,
    ),
    leaves(
        "commute.mixing.adaptive_pool_of_conv",
        lambda m, x: F.adaptive_avg_pool2d(m.conv(x).relu(), (1, 1)),
        IMAGE,
        conv=pixelwise(4, 3),
        because="a relu stands between",
    ),
    fires(
        "commute.mixing.pixel_mean_of_conv",
        lambda m, x: m.conv(x).mean((2, 3), keepdim=True),
        IMAGE,
        conv=pixelwise(4, 3),
        expect="""
            mean_1 = mean(x, dim=[-2, -1], keepdim=true)
            conv2d_1 = conv2d(mean_1, conv.weight, conv.bias)
        """,
    ),
    leaves(
        "commute.mixing.pixel_mean_of_conv",
        lambda m, x: m.conv(x).mean((2, 3), keepdim=True),
        IMAGE,
        conv=nn.Conv2d(4, 3, (3, 1)),
        because="the kernel sees neighbours",
    ),
    fires(
        "commute.mixing.mean_of_conv",
        lambda m, x: m.conv(x).mean((2, 3)),
        IMAGE,
        conv=pixelwise(4, 3),
        dynamic=BATCH,
        expect="""
            mean_1 = mean(x, dim=[-2, -1])
            linear = linear(mean_1, conv.weight_mean_of_conv, conv.bias)
        """,
    ),
    leaves(
        "commute.mixing.mean_of_conv",
        lambda m, x: m.conv(x).mean((1, 3)),
        IMAGE,
        conv=pixelwise(4, 3),
        because="the mean is taken over channels",
    ),
    fires(
        "commute.mixing.conv_of_border",
        lambda m, x: m.conv(F.pad(x, (1, 2, 0, 1), mode="replicate")),
        IMAGE,
        conv=pixelwise(4, 3),
        expect="""
            conv2d_1 = conv2d(x, conv.weight, conv.bias)
            pad_1 = pad(conv2d_1, [1, 2, 0, 1], mode="replicate")
        """,
    ),
    leaves(
        "commute.mixing.conv_of_border",
        lambda m, x: m.conv(F.pad(x, (1, 2, 0, 1))),
        IMAGE,
        conv=pixelwise(4, 3),
        because="the border of zeros would get a bias",
    ),
    fires(
        "commute.mixing.conv_of_zero_border",
        lambda m, x: m.conv(F.pad(x, (1, 2, 0, 1))),
        IMAGE,
        conv=pixelwise(4, 3, bias=False),
        expect="""
            conv2d_1 = conv2d(x, conv.weight)
            pad_1 = pad(conv2d_1, [1, 2, 0, 1])
        """,
    ),
    leaves(
        "commute.mixing.conv_of_zero_border",
        lambda m, x: m.conv(F.pad(x, (1, 2, 0, 1), value=1.0)),
        IMAGE,
        conv=pixelwise(4, 3, bias=False),
        because="the border is one of ones",
    ),
    fires(
        "commute.mixing.slice_of_conv",
        lambda m, x: m.conv(x)[..., 1:5:2],
        IMAGE,
        conv=pixelwise(4, 3),
        dynamic=BATCH,
        expect="""
            slice_2 = slice(x, dim=-1, start=1, end=5, step=2)
            conv2d_1 = conv2d(slice_2, conv.weight, conv.bias)
        """,
    ),
    leaves(
        "commute.mixing.slice_of_conv",
        lambda m, x: m.conv(x)[:, 1:],
        IMAGE,
        conv=pixelwise(4, 3),
        because="channels are chosen",
    ),
    fires(
        "commute.mixing.conv_of_every_other",
        lambda m, x: m.conv(x[:, :, ::2, ::3]),
        IMAGE,
        conv=pixelwise(4, 3),
        expect="conv2d_1 = conv2d(x, conv.weight, conv.bias, stride=[2, 3])",
    ),
    leaves(
        "commute.mixing.conv_of_every_other",
        lambda m, x: m.conv(x[:, :, 1::2, ::3]),
        IMAGE,
        conv=pixelwise(4, 3),
        because="the first row is left out",
    ),
]

LAYERS = [
    fires(
        "commute.layers.linear_over_channels",
        lambda m, x: m.fc(x.transpose(1, 2)).transpose(1, 2),
        CLOUD,
        fc=nn.Linear(4, 3),
        dynamic={"x": {0: "batch", 2: "length"}},
        expect="conv1d = conv1d(x, fc.weight_linear_over_channels, fc.bias)",
    ),
    leaves(
        "commute.layers.linear_over_channels",
        lambda m, x: m.fc(x.transpose(1, 2)).relu().transpose(1, 2),
        CLOUD,
        fc=nn.Linear(4, 3),
        because="a relu stands between",
    ),
    fires(
        "commute.layers.linear_over_image_channels",
        lambda m, x: m.fc(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        IMAGE,
        fc=nn.Linear(4, 3, bias=False),
        expect="conv2d = conv2d(x, fc.weight_linear_over_image_channels)",
    ),
    leaves(
        "commute.layers.linear_over_image_channels",
        lambda m, x: m.fc(x.permute(0, 2, 3, 1)).permute(0, 3, 2, 1),
        IMAGE,
        fc=nn.Linear(4, 3),
        because="rows and columns change places",
    ),
    fires(
        "commute.layers.conv_of_row",
        lambda m, x: m.conv(x.flatten(2)).reshape(2, 3, 6, 8),
        IMAGE,
        conv=nn.Conv1d(4, 3, 1),
        expect="conv2d = conv2d(x, conv.weight_conv_of_row, conv.bias)",
    ),
    leaves(
        "commute.layers.conv_of_row",
        lambda m, x: m.conv(x.flatten(2)).reshape(2, 3, 8, 6),
        IMAGE,
        conv=nn.Conv1d(4, 3, 1),
        because="the image has another shape",
    ),
    fires(
        "commute.layers.conv_of_pixel",
        lambda m, x: m.conv(x).flatten(1),
        (2, 4, 1, 1),
        conv=pixelwise(4, 3),
        expect="""
            reshape = reshape(x, [2, 4])
            linear = linear(reshape, conv.weight_conv_of_pixel, conv.bias)
        """,
    ),
    leaves(
        "commute.layers.conv_of_pixel",
        lambda m, x: m.conv(x).flatten(1),
        (2, 4, 2, 1),
        conv=pixelwise(4, 3),
        because="there are two pixels",
    ),
]

NOTHING = [
    fires(
        "cleanup.zeros.add_zeros",
        lambda m, x: (torch.zeros(1, 4, dtype=torch.float64) + x).relu(),
        (3, 4),
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.zeros.add_zeros",
        lambda m, x: (torch.zeros(2, 3, 4, dtype=torch.float64) + x).relu(),
        (3, 4),
        because="the sum is larger than x",
    ),
    fires(
        "cleanup.zeros.add_new_zeros",
        lambda m, x: (x.new_zeros(1, 4) + x).relu(),
        (3, 4),
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.zeros.add_new_zeros",
        lambda m, x: (x.new_zeros(2, 3, 4) + x).relu(),
        (3, 4),
        because="the sum is larger than x",
    ),
    fires(
        "cleanup.zeros.add_zeros_like",
        lambda m, x: (torch.zeros_like(x) + x).relu(),
        (3, 4),
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.zeros.add_zeros_like",
        lambda m, x, y: (torch.zeros_like(y) + x).relu() + y,
        (3, 4),
        (2, 3, 4),
        because="the sum is larger than x",
    ),
    fires(
        "cleanup.pooling.identity_nearest",
        lambda m, x: F.interpolate(x, (6, 8)).relu(),
        IMAGE,
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.pooling.identity_nearest",
        lambda m, x: F.interpolate(x, (6, 9)).relu(),
        IMAGE,
        because="there is a column more",
    ),
    fires(
        "cleanup.pooling.identity_interpolation",
        lambda m, x: F.interpolate(x, (6, 8), mode="bilinear").relu(),
        IMAGE,
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.pooling.identity_interpolation",
        lambda m, x: F.interpolate(x, scale_factor=1.1, mode="bilinear").relu(),
        IMAGE,
        because="the factor moves the positions",
    ),
]

CASES = [*MIXING, *LAYERS, *NOTHING]
