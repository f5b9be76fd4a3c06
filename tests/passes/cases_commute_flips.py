"""Cases of `passes/commute/pointwise.tdsl` and `flips.tdsl`: mirror images on their way to where they end."""

import torch.nn.functional as F
from rule_cases import fires, leaves, number
from torch import nn
from torch.export import Dim

IMAGE, ODD, SERIES, TOKENS = (2, 4, 6, 5), (2, 4, 7, 7), (2, 4, 9), (2, 5, 6)
BATCH = {"x": {0: Dim("batch")}}
HALF, HALF_1D = number(3, 4, 3, 3), number(3, 4, 3)


POINTWISE = [
    fires(
        "commute.pointwise.pointwise_of_action",
        lambda m, x: F.gelu(x.flip(-1)).sigmoid(),
        IMAGE,
        times=2,
        dynamic=BATCH,
        expect="""
            gelu_1 = gelu(x)
            sigmoid_1 = sigmoid(gelu_1)
            flip_2 = flip(sigmoid_1, [-1])
        """,
    ),
    fires(
        "commute.pointwise.pointwise_of_action",
        lambda m, x: x.transpose(1, 2).tanh(),
        TOKENS,
        expect="""
            tanh_1 = tanh(x)
            permute = permute(tanh_1, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.pointwise.pointwise_of_action",
        lambda m, x: x.flip(1).cumsum(1).relu(),
        TOKENS,
        because="a running sum depends on the order",
    ),
]

COMBINED = [
    fires(
        "commute.flips.flip_of_flip",
        lambda m, x: x.flip(-1, -2).flip(1, 2),
        IMAGE,
        dynamic=BATCH,
        expect="flip_2 = flip(x, [-3, -1])",
    ),
    leaves(
        "commute.flips.flip_of_flip",
        lambda m, x: x.flip(1).relu().flip(1),
        IMAGE,
        because="something stands between",
    ),
    fires(
        "commute.flips.flip_of_nothing",
        lambda m, x: x.mean(2, keepdim=True).flip(2),
        IMAGE,
        expect="mean = mean(x, dim=[-2], keepdim=true)",
    ),
    leaves(
        "commute.flips.flip_of_nothing",
        lambda m, x: x.flip(0),
        IMAGE,
        dynamic=BATCH,
        because="a batch may be large",
    ),
    fires(
        "commute.flips.elementwise_of_flip_and_constant",
        lambda m, x: x.flip(-1) + m.c,
        IMAGE,
        c=number(6, 5),
        expect="""
            add_1 = add(x, c_elementwise_of_flip_and_constant)
            flip_1 = flip(add_1, [-1])
        """,
    ),
    leaves(
        "commute.flips.elementwise_of_flip_and_constant",
        lambda m, x: x.flip(-1) + m.c * x,
        IMAGE,
        c=number(5),
        because="what is added is computed",
    ),
]

WINDOWS = [
    fires(
        "commute.flips.conv_of_flip",
        lambda m, x: m.c(x.flip(-1, -2)),
        ODD,
        c=nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        dynamic=BATCH,
        expect="""
            conv2d_1 = conv2d(x, c.weight_conv_of_flip, c.bias, stride=[2, 2], padding=[1, 1], groups=2)
            flip_1 = flip(conv2d_1, [-1, -2])
        """,
    ),
    leaves(
        "commute.flips.conv_of_flip",
        lambda m, x: m.conv(x.flip(-2)),
        IMAGE,
        conv=nn.Conv2d(4, 6, 3, stride=2, padding=1),
        because="windows of stride 2 do not end where six rows end",
    ),
    fires(
        "commute.flips.symmetric_conv_of_flip",
        lambda m, x: (F.conv2d(x.flip(-1), m.w, padding=1), F.conv2d(x, m.w)),
        IMAGE,
        w=HALF + HALF.flip(-1),
        expect="""
            conv2d_2 = conv2d(x, w, padding=[1, 1])
            flip_1 = flip(conv2d_2, [-1])
            conv2d_1 = conv2d(x, w)
        """,
    ),
    leaves(
        "commute.flips.symmetric_conv_of_flip",
        lambda m, x: m.conv(x.flip(-1)),
        IMAGE,
        conv=nn.Conv2d(4, 3, 3),
        because="the kernel is no mirror image of itself",
    ),
    fires(
        "commute.flips.conv_of_flip",
        lambda m, x: m.conv(x.flip(-1)),
        SERIES,
        conv=nn.Conv1d(4, 3, 3, stride=2, dilation=2),
        expect="""
            conv1d_1 = conv1d(x, conv.weight_conv_of_flip, conv.bias, stride=[2], dilation=[2])
            flip_1 = flip(conv1d_1, [-1])
        """,
    ),
    leaves(
        "commute.flips.conv_of_flip",
        lambda m, x: m.conv(x.flip(-1)),
        SERIES,
        conv=nn.Conv1d(4, 3, 2, stride=2),
        because="the last position is in no window",
    ),
    fires(
        "commute.flips.symmetric_conv_of_flip",
        lambda m, x: F.conv1d(x.flip(-1), m.w, stride=2),
        SERIES,
        w=HALF_1D + HALF_1D.flip(-1),
        expect="""
            conv1d_1 = conv1d(x, w, stride=[2])
            flip_1 = flip(conv1d_1, [-1])
        """,
    ),
    leaves(
        "commute.flips.symmetric_conv_of_flip",
        lambda m, x: m.conv(x.flip(-1)),
        SERIES,
        conv=nn.Conv1d(4, 3, 3),
        because="the kernel is no mirror image of itself",
    ),
    fires(
        "commute.flips.max_pool_of_flip",
        lambda m, x: F.max_pool2d(x.flip(-2), 3, 2, 1),
        ODD,
        expect="""
            max_pool2d_1 = max_pool2d(x, [3, 3], stride=[2, 2], padding=[1, 1])
            flip_1 = flip(max_pool2d_1, [-2])
        """,
    ),
    leaves(
        "commute.flips.max_pool_of_flip",
        lambda m, x: F.max_pool2d(x.flip(-2), 2),
        ODD,
        because="the seventh row is in no window",
    ),
    fires(
        "commute.flips.avg_pool_of_flip",
        lambda m, x: F.avg_pool2d(x.flip(-2), (2, 3)),
        IMAGE,
        expect="""
            avg_pool2d_1 = avg_pool2d(x, [2, 3], stride=[2, 3])
            flip_1 = flip(avg_pool2d_1, [-2])
        """,
    ),
    leaves(
        "commute.flips.avg_pool_of_flip",
        lambda m, x: F.avg_pool2d(x.flip(-1), 2),
        IMAGE,
        because="the fifth column is in no window",
    ),
    fires(
        "commute.flips.adaptive_pool_of_flip",
        lambda m, x: F.adaptive_avg_pool2d(x.flip(-2, -1), (4, 1)),
        IMAGE,
        expect="""
            adaptive_avg_pool2d_1 = adaptive_avg_pool2d(x, [4, 1])
            flip_1 = flip(adaptive_avg_pool2d_1, [-2, -1])
        """,
    ),
    leaves(
        "commute.flips.adaptive_pool_of_flip",
        lambda m, x: F.adaptive_avg_pool2d(x.flip(-1).cumsum(-1), 1),
        IMAGE,
        because="something stands between",
    ),
    fires(
        "commute.flips.resize_of_flip",
        lambda m, x: F.interpolate(x.flip(-1), scale_factor=2, mode="bilinear"),
        IMAGE,
        expect="""
            upsample_bilinear2d_1 = upsample_bilinear2d(x, none, false, [2.0, 2.0])
            flip_1 = flip(upsample_bilinear2d_1, [-1])
        """,
    ),
    leaves(
        "commute.flips.resize_of_flip",
        lambda m, x: F.interpolate(x.flip(-1), scale_factor=2.1, mode="bilinear"),
        IMAGE,
        because="ten columns are a factor of 2, and 2.1 is what positions are computed with",
    ),
    leaves(
        "commute.flips.nearest_of_flip",
        lambda m, x: F.interpolate(x.flip(-1), size=(6, 7)),
        IMAGE,
        because="of five columns two are taken twice",
    ),
    fires(
        "commute.flips.pad_of_flip",
        lambda m, x: F.pad(x.flip(-1), (2, 0, 1, 0), mode="reflect"),
        IMAGE,
        expect="""
            pad_1 = pad(x, [0, 2, 1, 0], mode="reflect")
            flip_1 = flip(pad_1, [-1])
        """,
    ),
    leaves(
        "commute.flips.pad_of_flip",
        lambda m, x: F.pad(x.flip(-1).cumsum(-1), (2, 0)),
        IMAGE,
        because="something stands between",
    ),
]

LAYERS = [
    fires(
        "commute.flips.batch_norm_of_flip",
        lambda m, x: F.batch_norm(x.flip(-1), m.a, m.v),
        IMAGE,
        a=number(4),
        v=number(4).abs(),
        expect="""
            batch_norm_1 = batch_norm(x, mean=a, var=v, training=false, momentum=0.1, eps=1e-05, cudnn=true)
            flip_1 = flip(batch_norm_1, [-1])
        """,
    ),
    leaves(
        "commute.flips.batch_norm_of_flip",
        lambda m, x: m.norm(x.flip(1)),
        IMAGE,
        norm=nn.BatchNorm2d(4),
        because="channels have statistics of their own",
    ),
    fires(
        "commute.flips.group_norm_of_flip",
        lambda m, x: m.norm(x.flip(-1)),
        IMAGE,
        norm=nn.GroupNorm(2, 4),
        expect="""
            group_norm_1 = group_norm(x, 2, norm.weight, norm.bias)
            flip_1 = flip(group_norm_1, [-1])
        """,
    ),
    leaves(
        "commute.flips.group_norm_of_flip",
        lambda m, x: m.norm(x.flip(1)),
        IMAGE,
        norm=nn.GroupNorm(2, 4),
        because="channels have weights of their own",
    ),
    fires(
        "commute.flips.layer_norm_of_flip",
        lambda m, x: m.norm(x.flip(1)),
        TOKENS,
        norm=nn.LayerNorm(6),
        expect="""
            layer_norm_1 = layer_norm(x, [6], norm.weight, norm.bias)
            flip_1 = flip(layer_norm_1, [-2])
        """,
    ),
    leaves(
        "commute.flips.layer_norm_of_flip",
        lambda m, x: m.norm(x.flip(2)),
        TOKENS,
        norm=nn.LayerNorm(6),
        because="features have weights of their own",
    ),
    fires(
        "commute.flips.softmax_of_flip",
        lambda m, x: x.flip(1).softmax(1),
        TOKENS,
        expect="""
            softmax_1 = softmax(x, -2)
            flip_1 = flip(softmax_1, [-2])
        """,
    ),
    leaves(
        "commute.flips.softmax_of_flip",
        lambda m, x: x.flip(1).cumsum(1).softmax(1),
        TOKENS,
        because="something stands between",
    ),
    fires(
        "commute.flips.linear_of_flip",
        lambda m, x: m.fc(x.flip(1)),
        TOKENS,
        fc=nn.Linear(6, 3),
        expect="""
            linear_1 = linear(x, fc.weight, fc.bias)
            flip_1 = flip(linear_1, [-2])
        """,
    ),
    leaves(
        "commute.flips.linear_of_flip",
        lambda m, x: m.fc(x.flip(2)),
        TOKENS,
        fc=nn.Linear(6, 3),
        because="features are reversed",
    ),
    fires(
        "commute.flips.linear_of_flipped_features",
        lambda m, x: m.fc(x.flip(2)),
        TOKENS,
        fc=nn.Linear(6, 3),
        expect="linear_1 = linear(x, fc.weight_linear_of_flipped_features, fc.bias)",
    ),
    leaves(
        "commute.flips.linear_of_flipped_features",
        lambda m, x: m.fc(x.flip(1)),
        TOKENS,
        fc=nn.Linear(6, 3),
        because="rows are reversed",
    ),
    fires(
        "commute.flips.flip_of_linear",
        lambda m, x: m.fc(x).flip(2),
        TOKENS,
        fc=nn.Linear(6, 3),
        expect="linear_1 = linear(x, fc.weight_flip_of_linear, fc.bias_flip_of_linear)",
    ),
    leaves(
        "commute.flips.flip_of_linear",
        lambda m, x: (h := m.fc(x)).flip(2) + h,
        TOKENS,
        fc=nn.Linear(6, 3),
        because="the features are needed in order, too",
    ),
]

FOLDS = []

CASES = [*POINTWISE, *COMBINED, *WINDOWS, *LAYERS, *FOLDS]
