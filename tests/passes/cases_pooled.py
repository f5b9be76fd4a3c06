"""Cases of `passes/fold/pooled.tdsl`: channels that are averaged or summed up behind a linear map."""

import torch.nn.functional as F
from rule_cases import fires, leaves, number

CONV = "fold.pooled.conv_of_pooled"
LINEAR = "fold.pooled.linear_of_pooled"

CASES = [
    fires(
        CONV,
        lambda m, x: F.conv2d(x, m.w, m.b, stride=2, padding=1).reshape(2, 4, 3, 3, 4).mean(1),
        (2, 5, 5, 7),
        w=number(12, 5, 3, 3),
        b=number(12),
        expect="""
            conv2d_1 = conv2d(x, w_conv_of_pooled, b_conv_of_pooled, stride=[2, 2], padding=[1, 1])
            reshape_1 = reshape(conv2d_1, [2, 3, 3, 4])
        """,
    ),
    fires(
        CONV,
        lambda m, x: F.conv2d(x, m.w).reshape(-1, 4, 3, 5, 3).sum(2),
        (2, 5, 5, 3),
        w=number(12, 5, 1, 1),
        dynamic={"x": {0: "batch"}},
        expect="""
            sym_size_int = size(x, 0)
            conv2d_1 = conv2d(x, w_conv_of_pooled)
            reshape_1 = reshape(conv2d_1, [sym_size_int, 4, 5, 3])
        """,
    ),
    leaves(
        CONV,
        lambda m, x: F.conv2d(x, m.w).reshape(6, 4, 3, 5, 1).mean(1),
        (2, 5, 5, 3),
        w=number(12, 5, 1, 1),
        because="images are cut into columns",
    ),
    leaves(
        CONV,
        lambda m, x: F.conv2d(x, m.w).reshape(2, 4, 3, 5, 3).mean(3),
        (2, 5, 5, 3),
        w=number(12, 5, 1, 1),
        because="pixels are averaged",
    ),
    leaves(
        CONV,
        lambda m, x: F.conv2d(x, m.w).reshape(2, 4, 3, 5, 3).mean((1, 3)),
        (2, 5, 5, 3),
        w=number(12, 5, 1, 1),
        because="pixels are averaged, too",
    ),
    leaves(
        CONV,
        lambda m, x: F.conv2d(x, m.w, groups=2).reshape(2, 4, 3, 5, 3).mean(1),
        (2, 6, 5, 3),
        w=number(12, 3, 1, 1),
        because="its groups read different channels",
    ),
    leaves(
        CONV,
        lambda m, x: F.conv2d(F.conv2d(x, m.w), m.w).reshape(2, 4, 3, 5, 3).mean(1),
        (2, 12, 5, 3),
        w=number(12, 12, 1, 1),
        because="the kernel is read twice",
    ),
    fires(
        LINEAR,
        lambda m, x: F.linear(x, m.w, m.b).reshape(3, 4, 5).mean(1),
        (3, 7),
        w=number(20, 7),
        b=number(20),
        expect="linear_1 = linear(x, w_linear_of_pooled, b_linear_of_pooled)",
    ),
    fires(
        LINEAR,
        lambda m, x: F.linear(x, m.w).reshape(-1, 4, 5).sum(-1),
        (3, 7),
        w=number(20, 7),
        dynamic={"x": {0: "batch"}},
        expect="linear_1 = linear(x, w_linear_of_pooled)",
    ),
    leaves(
        LINEAR,
        lambda m, x: F.linear(x, m.w).relu().reshape(3, 4, 5).mean(1),
        (3, 7),
        w=number(20, 7),
        because="what is averaged is no linear map",
    ),
    leaves(
        LINEAR,
        lambda m, x: F.linear(x, m.w).reshape(4, 3, 5).mean(1),
        (3, 7),
        w=number(20, 7),
        because="rows are averaged",
    ),
]
