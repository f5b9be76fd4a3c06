"""Cases of `passes/runtime`: forms that runtimes compute in one pass."""

# ruff: noqa: E501 - graphs as text have long lines

import torch.nn.functional as F
from rule_cases import fires, leaves
from torch import nn

IMAGE = (2, 16, 6, 6)
BATCH = {"x": {0: "batch"}}
CREATED = "a row of ones is made in the graph, and stored in the file"


CASES = [
    fires(
        "runtime.blocked.pool_of_normalised",
        lambda m, x: F.avg_pool2d(m.bn(x).relu(), 2),
        IMAGE,
        dynamic=BATCH,
        bn=nn.BatchNorm2d(16),
        expect="""
            conv2d = conv2d(x, bn.weight_pool_of_normalised, bn.bias_pool_of_normalised, groups=16)
            relu_1 = relu(conv2d)
            avg_pool2d_1 = avg_pool2d(relu_1, [2, 2], stride=[2, 2])
        """,
    ),
    fires(
        "runtime.blocked.pool_of_normalised",
        lambda m, x: F.max_pool2d(F.leaky_relu(m.bn(x), 0.2), 3, 2, 1),
        IMAGE,
        bn=nn.BatchNorm2d(16, affine=False),
        expect="""
            conv2d = conv2d(x, bn.running_var_pool_of_normalised, bn.running_mean_pool_of_normalised, groups=16)
            leaky_relu_1 = leaky_relu(conv2d, slope=0.2)
            max_pool2d_1 = max_pool2d(leaky_relu_1, [3, 3], stride=[2, 2], padding=[1, 1])
        """,
    ),
    leaves(
        "runtime.blocked.pool_of_normalised",
        lambda m, x: F.avg_pool2d(m.bn(x).relu(), 2),
        (2, 6, 6, 6),
        bn=nn.BatchNorm2d(6),
        because="six channels make no block",
    ),
    leaves(
        "runtime.blocked.pool_of_normalised",
        lambda m, x: F.avg_pool2d((y := m.bn(x)).relu(), 2) + y[:, :, ::2, ::2],
        IMAGE,
        bn=nn.BatchNorm2d(16),
        because="what is normalised has another reader",
    ),
    fires(
        "runtime.blocked.conv_of_normalised",
        lambda m, x: m.conv(m.bn(x).relu()),
        IMAGE,
        dynamic=BATCH,
        bn=nn.BatchNorm2d(16),
        conv=nn.Conv2d(16, 32, 3, padding=1),
        expect="""
            conv2d_1 = conv2d(x, bn.weight_conv_of_normalised, bn.bias_conv_of_normalised, groups=16)
            relu_1 = relu(conv2d_1)
            conv2d_2 = conv2d(relu_1, conv.weight, conv.bias, padding=[1, 1])
        """,
    ),
    leaves(
        "runtime.blocked.conv_of_normalised",
        lambda m, x: m.conv(m.bn(x).relu()),
        IMAGE,
        bn=nn.BatchNorm2d(16),
        conv=nn.Conv2d(16, 3, 1),
        because="three outputs make no block",
    ),
    fires(
        "runtime.summed.fold_of_rows",
        lambda m, x: x.float().sum(0),
        (128, 32),
        precision=1e-6,
        more_operators=CREATED,
        expect="""
            to = cast(x, f32)
            new_ones = new_ones(to, [128])
            matmul = matmul(new_ones, to)
        """,
    ),
    fires(
        "runtime.summed.fold_of_rows",
        lambda m, x: x.float().mean(1, keepdim=True),
        (1, 128, 32),
        precision=1e-6,
        more_operators=CREATED,
        expect="""
            to = cast(x, f32)
            new_ones = new_ones(to, [1, 128])
            div = div(new_ones, 128)
            matmul = matmul(div, to)
        """,
    ),
    leaves(
        "runtime.summed.fold_of_rows",
        lambda m, x: x.float().sum(-2),
        (2, 64, 32),
        because="the rows of two matrices are no slower summed than multiplied",
    ),
    leaves(
        "runtime.summed.fold_of_rows",
        lambda m, x: x.float().sum(1),
        (128, 32),
        because="columns are added up",
    ),
    leaves(
        "runtime.summed.fold_of_rows",
        lambda m, x: x.float().sum(0),
        (128, 32),
        dynamic={"x": {0: "rows"}},
        because="how many rows there are is not known",
    ),
    leaves(
        "runtime.summed.fold_of_rows",
        lambda m, x: x.exp().sum(0),
        (128, 32),
        because="float64 was not measured",
    ),
]
