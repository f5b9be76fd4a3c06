"""Cases of rings, rolled channels and factors: `passes/commute/rolls.tdsl` and `scaling.tdsl`."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number

CASES = [
    fires(
        "commute.rolls.ring_conv_of_roll",
        lambda m, x: F.conv2d(F.pad(x.roll((1, 2), (2, 3)), (1, 1, 1, 1), "circular"), m.W),
        (2, 3, 4, 5),
        W=number(2, 3, 3, 3),
        expect="""
            pad_1 = pad(x, [1, 1, 1, 1], mode="circular")
            conv2d_1 = conv2d(pad_1, W)
            roll_1 = roll(conv2d_1, [1, 2], dims=[-2, -1])
        """,
    ),
    leaves(
        "commute.rolls.ring_conv_of_roll",
        lambda m, x: F.conv2d(F.pad(x.roll((1, 2), (2, 3)), (1, 1, 0, 0), "circular"), m.W),
        (2, 3, 4, 5),
        W=number(2, 3, 3, 3),
        because="rows end",
    ),
    fires(
        "commute.rolls.linear_of_rolled_features",
        lambda m, x: F.linear(x.roll(1, 2), m.W),
        (2, 5, 6),
        W=number(4, 6),
        expect="linear_1 = linear(x, W_linear_of_rolled_features)",
    ),
    leaves(
        "commute.rolls.linear_of_rolled_features",
        lambda m, x: F.linear(x.roll(1, 2), m.W) + m.W.sum(),
        (2, 5, 6),
        W=number(4, 6),
        because="the weight is read elsewhere",
    ),
    fires(
        "commute.rolls.roll_of_linear",
        lambda m, x: F.linear(x, m.W, m.b).roll(1, 2),
        (2, 5, 6),
        W=number(4, 6),
        b=number(4),
        expect="linear_1 = linear(x, W_roll_of_linear, b_roll_of_linear)",
    ),
    leaves(
        "commute.rolls.roll_of_linear",
        lambda m, x: F.linear(x, m.W, m.b).roll(1, 1),
        (2, 5, 6),
        W=number(4, 6),
        b=number(4),
        because="rows move",
    ),
    fires(
        "commute.rolls.conv_of_rolled_channels",
        lambda m, x: F.conv1d(x.roll(1, 1), m.W),
        (3, 4, 5),
        W=number(2, 4, 3),
        expect="conv1d_1 = conv1d(x, W_conv_of_rolled_channels)",
    ),
    leaves(
        "commute.rolls.conv_of_rolled_channels",
        lambda m, x: F.conv1d(x.roll(1, 1), m.V, groups=2),
        (3, 4, 5),
        V=number(4, 2, 3),
        because="two channels belong together",
    ),
    fires(
        "commute.rolls.rolled_conv",
        lambda m, x: F.conv1d(x, m.W).roll(1, 1),
        (3, 4, 5),
        W=number(2, 4, 3),
        expect="conv1d_1 = conv1d(x, W_rolled_conv)",
    ),
    leaves(
        "commute.rolls.rolled_conv",
        lambda m, x: F.conv1d(x, m.W).roll(1, 2),
        (3, 4, 5),
        W=number(2, 4, 3),
        because="places move",
    ),
    fires(
        "commute.rolls.ring_written_out",
        lambda m, x: torch.cat([x[..., -1:], x, x[..., :1]], 2),
        (3, 4, 5),
        expect='pad = pad(x, [1, 1], mode="circular")',
    ),
    leaves(
        "commute.rolls.ring_written_out",
        lambda m, x: torch.cat([x[..., -1:], x, x[..., -1:]], 2),
        (3, 4, 5),
        because="it is the same end twice",
    ),
    fires(
        "commute.rolls.ring_of_columns_written_out",
        lambda m, x: torch.cat([x[..., -1:], x, x[..., :1]], 3),
        (2, 3, 4, 5),
        expect='pad = pad(x, [1, 1, 0, 0], mode="circular")',
    ),
    leaves(
        "commute.rolls.ring_of_columns_written_out",
        lambda m, x: torch.cat([x[..., -1:], x, x[..., -1:]], 3),
        (2, 3, 4, 5),
        because="it is the same end twice",
    ),
    fires(
        "commute.rolls.ring_of_rows_written_out",
        lambda m, x: torch.cat([x[:, :, -1:], x, x[:, :, :1]], 2),
        (2, 3, 4, 5),
        expect='pad = pad(x, [0, 0, 1, 1], mode="circular")',
    ),
    leaves(
        "commute.rolls.ring_of_rows_written_out",
        lambda m, x: torch.cat([x[:, :, -1:], x, x[:, :, -1:]], 2),
        (2, 3, 4, 5),
        because="it is the same end twice",
    ),
    fires(
        "commute.rolls.torus_written_out",
        lambda m, x: F.pad(F.pad(x, (1, 1, 0, 0), "circular"), (0, 0, 1, 1), "circular"),
        (2, 3, 4, 5),
        expect='pad_2 = pad(x, [1, 1, 1, 1], mode="circular")',
    ),
    leaves(
        "commute.rolls.torus_written_out",
        lambda m, x: F.pad(F.pad(x, (1, 1, 0, 0)), (0, 0, 1, 1), "circular"),
        (2, 3, 4, 5),
        because="zeros are no part of a ring",
    ),
    fires(
        "commute.scaling.prelu_of_scaled",
        lambda m, x: F.prelu(x * m.a, m.w),
        (2, 3, 4, 5),
        a=number(3, 1, 1).abs(),
        w=number(3),
        expect="""
            prelu_1 = prelu(x, w)
            mul_1 = mul(prelu_1, a)
        """,
    ),
    leaves(
        "commute.scaling.prelu_of_scaled",
        lambda m, x: F.prelu(x * m.c, m.w),
        (2, 3, 4, 5),
        c=-number(3, 1, 1).abs(),
        w=number(3),
        because="a factor is negative",
    ),
    fires(
        "commute.scaling.window_of_scaled",
        lambda m, x: F.avg_pool2d(x * m.a, 2),
        (2, 3, 4, 5),
        a=number(3, 1, 1),
        expect="""
            avg_pool2d_1 = avg_pool2d(x, [2, 2], stride=[2, 2])
            mul_1 = mul(avg_pool2d_1, a)
        """,
    ),
    leaves(
        "commute.scaling.window_of_scaled",
        lambda m, x: F.avg_pool2d(x * m.c, 2),
        (2, 3, 4, 5),
        c=number(5),
        because="columns have factors",
    ),
    fires(
        "commute.scaling.kept_fold_of_scaled",
        lambda m, x: (x * m.a).mean((2, 3), keepdim=True),
        (2, 3, 4, 5),
        a=number(3, 1, 1),
        expect="""
            mean_1 = mean(x, dim=[-2, -1], keepdim=true)
            mul_1 = mul(mean_1, a)
        """,
    ),
    leaves(
        "commute.scaling.kept_fold_of_scaled",
        lambda m, x: (x * m.c).mean((2, 3), keepdim=True),
        (2, 3, 4, 5),
        c=number(5),
        because="columns have factors",
    ),
    fires(
        "commute.scaling.fold_of_scaled_features",
        lambda m, x: (x * m.a).mean(1),
        (2, 5, 6),
        a=number(6),
        expect="""
            mean_1 = mean(x, dim=[-2])
            mul_1 = mul(mean_1, a)
        """,
    ),
    leaves(
        "commute.scaling.fold_of_scaled_features",
        lambda m, x: (x * m.a).mean(2),
        (2, 5, 6),
        a=number(6),
        because="features are folded",
    ),
    fires(
        "commute.scaling.fold_of_scaled_channels",
        lambda m, x: (x * m.a).mean((2, 3)),
        (2, 3, 4, 5),
        a=number(3, 1, 1),
        expect="""
            mean_1 = mean(x, dim=[-2, -1])
            mul_1 = mul(mean_1, a_fold_of_scaled_channels)
        """,
    ),
    leaves(
        "commute.scaling.fold_of_scaled_channels",
        lambda m, x: (x * m.c).mean((2, 3)),
        (2, 3, 4, 5),
        c=number(4, 1),
        because="rows have factors",
    ),
    fires(
        "commute.scaling.scaled_relu_of_linear",
        lambda m, x: F.linear(x, m.W).relu() * m.a,
        (2, 5, 6),
        W=number(4, 6),
        a=number(4).abs(),
        expect="""
            linear_1 = linear(x, W_scaled_relu_of_linear)
            relu_1 = relu(linear_1)
        """,
    ),
    leaves(
        "commute.scaling.scaled_relu_of_linear",
        lambda m, x: F.linear(x, m.W).relu() * m.c,
        (2, 5, 6),
        W=number(4, 6),
        c=-number(4).abs(),
        because="a factor is negative",
    ),
    fires(
        "commute.scaling.scaled_relu_of_conv",
        lambda m, x: F.conv1d(x, m.W).relu() * m.a,
        (3, 4, 5),
        W=number(2, 4, 3),
        a=number(2, 1).abs(),
        expect="""
            conv1d_1 = conv1d(x, W_scaled_relu_of_conv)
            relu_1 = relu(conv1d_1)
        """,
    ),
    leaves(
        "commute.scaling.scaled_relu_of_conv",
        lambda m, x: F.conv1d(x, m.W).relu() * m.c,
        (3, 4, 5),
        W=number(2, 4, 3),
        c=-number(2, 1).abs(),
        because="a factor is negative",
    ),
    fires(
        "commute.scaling.multiple_of_relu_of_linear",
        lambda m, x: F.linear(x, m.W).relu() * 2,
        (2, 5, 6),
        W=number(4, 6),
        expect="""
            linear_1 = linear(x, W_multiple_of_relu_of_linear)
            relu_1 = relu(linear_1)
        """,
    ),
    leaves(
        "commute.scaling.multiple_of_relu_of_linear",
        lambda m, x: F.linear(x, m.W).relu() * -2,
        (2, 5, 6),
        W=number(4, 6),
        because="the factor is negative",
    ),
    fires(
        "commute.scaling.multiple_of_relu_of_conv",
        lambda m, x: F.conv1d(x, m.W).relu() * 2,
        (3, 4, 5),
        W=number(2, 4, 3),
        expect="""
            conv1d_1 = conv1d(x, W_multiple_of_relu_of_conv)
            relu_1 = relu(conv1d_1)
        """,
    ),
    leaves(
        "commute.scaling.multiple_of_relu_of_conv",
        lambda m, x: F.conv1d(x, m.W).relu() * -2,
        (3, 4, 5),
        W=number(2, 4, 3),
        because="the factor is negative",
    ),
    fires(
        "commute.scaling.constant_of_channels",
        lambda m, x: x * m.a,
        (2, 3, 4, 5),
        a=number(1, 3, 1, 1),
        expect="mul_1 = mul(x, a_constant_of_channels)",
    ),
    leaves(
        "commute.scaling.constant_of_channels",
        lambda m, x: x * m.c,
        (2, 3, 4, 5),
        c=number(1, 1, 1, 5),
        because="columns have factors",
    ),
    fires(
        "commute.scaling.factor_of_all",
        lambda m, x: x * m.a,
        (2, 5, 6),
        a=number(1, 1),
        expect="mul_1 = mul(x, a_factor_of_all)",
    ),
    leaves(
        "commute.scaling.factor_of_all",
        lambda m, x: x * m.c,
        (2, 5, 6),
        c=number(1, 1, 1, 1),
        because="the result has an axis more",
    ),
]
