"""Cases of `passes/commute/rotations.tdsl`, `rolls.tdsl`, `scaling.tdsl`, `orthogonal.tdsl` and the like."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number
from torch import nn
from torch.export import Dim

IMAGE, TOKENS, SERIES, ROWS = (2, 4, 6, 5), (2, 5, 6), (2, 4, 9), (3, 6)
BATCH = {"x": {0: Dim("batch")}}
Q = torch.linalg.qr(number(6, 6)).Q
RANDOM = number(6, 6)


def rms(x):
    """Each vector divided by its root mean square."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


ROTATIONS = [
    fires(
        "commute.rotations.no_turn",
        lambda m, x: x.rot90(4, (2, 3)).relu(),
        IMAGE,
        dynamic=BATCH,
        expect="relu = relu(x)",
    ),
    leaves(
        "commute.rotations.no_turn",
        lambda m, x: x.rot90(6, (2, 3)).relu(),
        IMAGE,
        because="it is half a turn",
    ),
    fires(
        "commute.rotations.quarter_turn",
        lambda m, x: x.rot90(1, (2, 3)),
        IMAGE,
        dynamic=BATCH,
        expect="""
            permute = permute(x, [0, 1, 3, 2])
            flip = flip(permute, [-2])
        """,
    ),
    leaves(
        "commute.rotations.quarter_turn", lambda m, x: x.rot90(2, (2, 3)), IMAGE, because="it is half a turn"
    ),
    fires(
        "commute.rotations.half_turn",
        lambda m, x: x.rot90(-2, (2, 3)),
        IMAGE,
        expect="flip = flip(x, [-2, -1])",
    ),
    leaves(
        "commute.rotations.half_turn", lambda m, x: x.rot90(3, (2, 3)), IMAGE, because="it is three quarters"
    ),
    fires(
        "commute.rotations.three_quarter_turn",
        lambda m, x: x.rot90(-1, (3, 2)),
        IMAGE,
        expect="""
            permute = permute(x, [0, 1, 3, 2])
            flip = flip(permute, [-2])
        """,
    ),
    leaves(
        "commute.rotations.three_quarter_turn",
        lambda m, x: x.rot90(5, (2, 3)),
        IMAGE,
        because="it is one quarter",
    ),
    fires(
        "commute.rotations.permute_of_flip",
        lambda m, x: x.flip(1, 3).permute(0, 2, 3, 1),
        IMAGE,
        expect="""
            permute_1 = permute(x, [0, 2, 3, 1])
            flip_1 = flip(permute_1, [-1, -2])
        """,
    ),
    leaves(
        "commute.rotations.permute_of_flip",
        lambda m, x: x.permute(0, 2, 3, 1).flip(1),
        IMAGE,
        because="it is so already",
    ),
    fires(
        "commute.rotations.permute_of_roll",
        lambda m, x: x.roll((1, 2), (1, 3)).permute(0, 2, 3, 1),
        IMAGE,
        expect="""
            permute_1 = permute(x, [0, 2, 3, 1])
            roll_1 = roll(permute_1, [1, 2], dims=[-1, -2])
        """,
    ),
    leaves(
        "commute.rotations.permute_of_roll",
        lambda m, x: x.roll(3).permute(0, 2, 1),
        TOKENS,
        because="rows run into each other",
    ),
    fires(
        "commute.rotations.elementwise_of_permute_and_constant",
        lambda m, x: x.transpose(1, 2) * m.c,
        TOKENS,
        c=number(6, 1),
        expect="""
            mul_1 = mul(x, c_elementwise_of_permute_and_constant)
            permute = permute(mul_1, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.rotations.elementwise_of_permute_and_constant",
        lambda m, x: x.transpose(1, 2) * m.c,
        TOKENS,
        c=number(3, 1, 1, 1),
        because="the constant enlarges the value",
    ),
    fires(
        "commute.rotations.conv2d_of_transpose",
        lambda m, x: m.c(x.transpose(2, 3)),
        IMAGE,
        c=nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0)),
        dynamic=BATCH,
        expect="""
            conv2d_1 = conv2d(x, c.weight_conv2d_of_transpose, c.bias, stride=[1, 2], padding=[0, 1])
            permute = permute(conv2d_1, [0, 1, 3, 2])
        """,
    ),
    leaves(
        "commute.rotations.conv2d_of_transpose",
        lambda m, x: m.conv(x.permute(0, 3, 1, 2)),
        (2, 6, 5, 4),
        conv=nn.Conv2d(4, 6, (3, 2)),
        because="channels are moved",
    ),
    fires(
        "commute.rotations.max_pool_of_permute",
        lambda m, x: F.max_pool2d(x.transpose(2, 3), (2, 3), (1, 2)),
        IMAGE,
        expect="""
            max_pool2d_1 = max_pool2d(x, [3, 2], stride=[2, 1])
            permute = permute(max_pool2d_1, [0, 1, 3, 2])
        """,
    ),
    leaves(
        "commute.rotations.max_pool_of_permute",
        lambda m, x: F.max_pool2d(x.transpose(1, 2), (2, 3)),
        IMAGE,
        because="channels are moved",
    ),
    fires(
        "commute.rotations.avg_pool_of_permute",
        lambda m, x: F.avg_pool2d(x.transpose(2, 3), (2, 3)),
        IMAGE,
        expect="""
            avg_pool2d_1 = avg_pool2d(x, [3, 2], stride=[3, 2])
            permute = permute(avg_pool2d_1, [0, 1, 3, 2])
        """,
    ),
    leaves(
        "commute.rotations.avg_pool_of_permute",
        lambda m, x: F.avg_pool2d(x.transpose(1, 2), (2, 3)),
        IMAGE,
        because="channels are moved",
    ),
    fires(
        "commute.rotations.adaptive_pool_of_permute",
        lambda m, x: F.adaptive_avg_pool2d(x.transpose(2, 3), (2, 3)),
        IMAGE,
        expect="""
            adaptive_avg_pool2d_1 = adaptive_avg_pool2d(x, [3, 2])
            permute = permute(adaptive_avg_pool2d_1, [0, 1, 3, 2])
        """,
    ),
    leaves(
        "commute.rotations.adaptive_pool_of_permute",
        lambda m, x: F.adaptive_avg_pool2d(x.transpose(1, 2), 2),
        IMAGE,
        because="channels are moved",
    ),
]

ROLLS = [
    fires(
        "commute.rolls.roll_of_roll",
        lambda m, x: x.roll((1, 2), (1, 2)).roll((3, -1), (1, 2)),
        TOKENS,
        dynamic=BATCH,
        expect="roll_2 = roll(x, [4, 1], dims=[-2, -1])",
    ),
    leaves(
        "commute.rolls.roll_of_roll",
        lambda m, x: x.roll(1, 1).roll(2, 2),
        TOKENS,
        because="along another axis",
    ),
    fires(
        "commute.rolls.roll_of_nothing",
        lambda m, x: x.relu().roll((5, -12), (1, 2)),
        TOKENS,
        expect="relu = relu(x)",
    ),
    leaves(
        "commute.rolls.roll_of_nothing",
        lambda m, x: x.roll(2, 0),
        TOKENS,
        dynamic=BATCH,
        because="a batch may be large",
    ),
    fires(
        "commute.rolls.elementwise_of_roll_and_constant",
        lambda m, x: x.roll(2, 1) + m.c,
        TOKENS,
        c=number(5, 6),
        expect="""
            add_1 = add(x, c_elementwise_of_roll_and_constant)
            roll_1 = roll(add_1, [2], dims=[-2])
        """,
    ),
    leaves(
        "commute.rolls.elementwise_of_roll_and_constant",
        lambda m, x: (x.roll(2, 1) + m.c, x * m.c),
        TOKENS,
        c=number(5, 6),
        because="there would be two constants",
    ),
    fires(
        "commute.rolls.ring_conv_of_roll",
        lambda m, x: F.conv2d(F.pad(x.roll(2, 3), (1, 1, 0, 0), mode="circular"), m.w),
        IMAGE,
        w=number(3, 4, 1, 3),
        expect="""
            pad_1 = pad(x, [1, 1, 0, 0], mode="circular")
            conv2d_1 = conv2d(pad_1, w)
            roll_1 = roll(conv2d_1, [2], dims=[-1])
        """,
    ),
    leaves(
        "commute.rolls.ring_conv_of_roll",
        lambda m, x: F.conv2d(F.pad(x.roll(2, 3), (1, 1, 0, 0), mode="circular"), m.w, padding=(0, 1)),
        IMAGE,
        w=number(3, 4, 1, 3),
        because="there is a border of zeros as well",
    ),
    fires(
        "commute.rolls.ring_conv_of_roll",
        lambda m, x: F.conv1d(F.pad(x.roll(2, 2), (2, 2), mode="circular"), m.w, dilation=2),
        SERIES,
        w=number(3, 4, 3),
        expect="""
            pad_1 = pad(x, [2, 2], mode="circular")
            conv1d_1 = conv1d(pad_1, w, dilation=[2])
            roll_1 = roll(conv1d_1, [2], dims=[-1])
        """,
    ),
    leaves(
        "commute.rolls.ring_conv_of_roll",
        lambda m, x: F.conv1d(F.pad(x.roll(2, 2), (2, 2), mode="reflect"), m.w, dilation=2),
        SERIES,
        w=number(3, 4, 3),
        because="the border is a mirror image",
    ),
    fires(
        "commute.rolls.linear_of_roll",
        lambda m, x: m.fc(x.roll(2, 1)),
        TOKENS,
        fc=nn.Linear(6, 3),
        expect="""
            linear_1 = linear(x, fc.weight, fc.bias)
            roll_1 = roll(linear_1, [2], dims=[-2])
        """,
    ),
    leaves(
        "commute.rolls.linear_of_roll",
        lambda m, x: m.fc(x.roll(2, 2)),
        TOKENS,
        fc=nn.Linear(6, 3),
        because="features are moved",
    ),
    fires(
        "commute.rolls.softmax_of_roll",
        lambda m, x: x.roll(2, 1).softmax(1),
        TOKENS,
        expect="""
            softmax_1 = softmax(x, -2)
            roll_1 = roll(softmax_1, [2], dims=[-2])
        """,
    ),
    leaves(
        "commute.rolls.softmax_of_roll",
        lambda m, x: x.roll(2).softmax(1),
        TOKENS,
        because="rows run into each other",
    ),
]

SCALING = [
    fires(
        "commute.scaling.homogeneous_of_scaled",
        lambda m, x: F.leaky_relu(x * 3, 0.2),
        ROWS,
        expect="""
            leaky_relu_1 = leaky_relu(x, slope=0.2)
            mul_1 = mul(leaky_relu_1, 3)
        """,
    ),
    fires(
        "commute.scaling.homogeneous_of_scaled",
        lambda m, x: (x * m.a).relu(),
        ROWS,
        a=number(6).abs(),
        expect="""
            relu_1 = relu(x)
            mul_1 = mul(relu_1, a)
        """,
    ),
    leaves(
        "commute.scaling.homogeneous_of_scaled",
        lambda m, x: (x * m.a).relu(),
        ROWS,
        a=number(6),
        because="some factors are negative",
    ),
    fires(
        "commute.scaling.homogeneous_of_quotient",
        lambda m, x: (x / 255).relu(),
        ROWS,
        expect="""
            relu_1 = relu(x)
            div_1 = div(relu_1, 255)
        """,
    ),
    leaves(
        "commute.scaling.homogeneous_of_quotient",
        lambda m, x: (x / -255).relu(),
        ROWS,
        because="the divisor is negative",
    ),
    fires(
        "commute.scaling.max_pool2d_of_scaled",
        lambda m, x: F.max_pool2d(x * 0.5, 2),
        IMAGE,
        expect="""
            max_pool2d_1 = max_pool2d(x, [2, 2], stride=[2, 2])
            mul_1 = mul(max_pool2d_1, 0.5)
        """,
    ),
    leaves(
        "commute.scaling.max_pool2d_of_scaled",
        lambda m, x: F.max_pool2d(x * -0.5, 2),
        IMAGE,
        because="the least becomes the largest",
    ),
    fires("commute.scaling.quotient_of_scaled", lambda m, x: x * 3 / 6, ROWS, expect="mul_1 = mul(x, 0.5)"),
    leaves(
        "commute.scaling.quotient_of_scaled",
        lambda m, x, y: x * y / 6,
        ROWS,
        ROWS,
        because="the factor is computed",
    ),
]

ORTHOGONAL = [
    fires(
        "commute.orthogonal.rms_norm_of_rotated",
        lambda m, x: F.rms_norm(F.linear(x, m.q), (6,)),
        ROWS,
        q=Q,
        expect="""
            rms_norm_1 = rms_norm(x, [6])
            linear_1 = linear(rms_norm_1, q)
        """,
    ),
    leaves(
        "commute.orthogonal.rms_norm_of_rotated",
        lambda m, x: F.rms_norm(F.linear(x, m.q), (6,)),
        ROWS,
        q=RANDOM,
        because="lengths change",
    ),
    leaves(
        "commute.orthogonal.rms_norm_of_rotated",
        lambda m, x: F.rms_norm(F.linear(x, m.q), (6,), m.g),
        ROWS,
        q=Q,
        g=number(6),
        because="a weight of its own for each feature does not commute",
    ),
    fires(
        "commute.orthogonal.rms_norm_of_product",
        lambda m, x: F.rms_norm(x @ m.q, (6,)),
        ROWS,
        q=Q,
        expect="""
            rms_norm_1 = rms_norm(x, [6])
            matmul_1 = matmul(rms_norm_1, q)
        """,
    ),
    leaves(
        "commute.orthogonal.rms_norm_of_product",
        lambda m, x: F.rms_norm(x @ m.q, (6,)),
        ROWS,
        q=RANDOM,
        because="lengths change",
    ),
    fires(
        "commute.orthogonal.root_mean_square_of_rotated",
        lambda m, x: rms(F.linear(x, m.q)),
        ROWS,
        q=Q,
        expect="""
            pow_2 = pow(x, 2)
            mean_1 = mean(pow_2, dim=[-1], keepdim=true)
            add_1 = add(mean_1, 1e-06)
            rsqrt_1 = rsqrt(add_1)
            mul_1 = mul(x, rsqrt_1)
            linear_1 = linear(mul_1, q)
        """,
    ),
    leaves(
        "commute.orthogonal.root_mean_square_of_rotated",
        lambda m, x: rms(F.linear(x, m.q)),
        ROWS,
        q=RANDOM,
        because="lengths change",
    ),
    fires(
        "commute.orthogonal.root_mean_square_of_product",
        lambda m, x: rms(x @ m.q),
        ROWS,
        q=Q,
        expect="""
            pow_2 = pow(x, 2)
            mean_1 = mean(pow_2, dim=[-1], keepdim=true)
            add_1 = add(mean_1, 1e-06)
            rsqrt_1 = rsqrt(add_1)
            mul_1 = mul(x, rsqrt_1)
            matmul_1 = matmul(mul_1, q)
        """,
    ),
    leaves(
        "commute.orthogonal.root_mean_square_of_product",
        lambda m, x: rms(x @ m.q),
        ROWS,
        q=RANDOM,
        because="lengths change",
    ),
    fires(
        "commute.orthogonal.product_with_transpose",
        lambda m, x: x @ m.w.T,
        ROWS,
        w=number(4, 6),
        expect="linear = linear(x, w)",
    ),
    leaves(
        "commute.orthogonal.product_with_transpose",
        lambda m, x, y: x @ y.mT,
        TOKENS,
        (2, 4, 6),
        because="there is a matrix for each sample",
    ),
    fires(
        "commute.orthogonal.rotated_and_back",
        lambda m, x: F.linear(x.relu() @ m.q, m.q),
        ROWS,
        q=Q,
        expect="relu = relu(x)",
    ),
    leaves(
        "commute.orthogonal.rotated_and_back",
        lambda m, x: F.linear(x @ m.q, m.q),
        ROWS,
        q=RANDOM,
        because="it is another matrix",
    ),
    fires(
        "commute.orthogonal.back_and_rotated",
        lambda m, x: F.linear(x.relu(), m.q) @ m.q,
        ROWS,
        q=Q,
        expect="relu = relu(x)",
    ),
    leaves(
        "commute.orthogonal.back_and_rotated",
        lambda m, x: F.linear(x, m.q) @ m.q,
        ROWS,
        q=RANDOM,
        because="it is another matrix",
    ),
    fires(
        "commute.orthogonal.identity_linear",
        lambda m, x: F.linear(x.relu(), m.w),
        ROWS,
        w=Q @ Q.T,
        expect="relu = relu(x)",
    ),
    leaves(
        "commute.orthogonal.identity_linear", lambda m, x: F.linear(x, m.w), ROWS, w=Q, because="it rotates"
    ),
]

INVARIANCE = [
    fires(
        "commute.invariance.softmax_of_shifted",
        lambda m, x, y: (x + y).softmax(-1),
        ROWS,
        (3, 1),
        precision=1e-9,
        expect="softmax_1 = softmax(x, -1)",
    ),
    leaves(
        "commute.invariance.softmax_of_shifted",
        lambda m, x, y: (x + y).softmax(-1),
        ROWS,
        (6,),
        because="the shift differs along the axis",
    ),
    fires(
        "narrow.keys.bias_of_keys",
        lambda m, q, x, v: F.scaled_dot_product_attention(q, m.k(x).reshape(2, 5, 3, 4).transpose(1, 2), v),
        (2, 3, 7, 4),
        TOKENS,
        (2, 3, 5, 4),
        k=nn.Linear(6, 12),
        precision=1e-9,
        expect="""
            linear_1 = linear(x, k.weight)
            reshape_1 = reshape(linear_1, [2, 5, 3, 4])
            permute = permute(reshape_1, [0, 2, 1, 3])
            attention = attention(q, permute, v)
        """,
    ),
    leaves(
        "narrow.keys.bias_of_keys",
        lambda m, q, x, v: F.scaled_dot_product_attention(
            q, m.k(x).reshape(2, 5, 3, 4).transpose(1, 2).relu(), v
        ),
        (2, 3, 7, 4),
        TOKENS,
        (2, 3, 5, 4),
        k=nn.Linear(6, 12),
        because="a function stands between",
    ),
    fires(
        "commute.invariance.largest_of_softmax",
        lambda m, x: x.softmax(-1).argmax(-1),
        ROWS,
        expect="argmax_1 = argmax(x, dim=-1)",
    ),
    leaves(
        "commute.invariance.largest_of_softmax",
        lambda m, x: x.softmax(0).argmax(-1),
        ROWS,
        because="shares of columns are compared along rows",
    ),
]

AVERAGING = [
    fires(
        "commute.averaging.sum_of_equals",
        lambda m, x: (h := x.relu()) + h,
        ROWS,
        expect="""
            relu = relu(x)
            mul = mul(relu, 2)
        """,
    ),
    leaves("commute.averaging.sum_of_equals", lambda m, x: x.relu() + x, ROWS, because="they differ"),
    fires(
        "commute.averaging.sum_of_multiple",
        lambda m, x: (h := x.relu()) * 3 + h,
        ROWS,
        expect="""
            relu = relu(x)
            mul_1 = mul(relu, 4)
        """,
    ),
    leaves("commute.averaging.sum_of_multiple", lambda m, x, y: x * 3 + y, ROWS, ROWS, because="they differ"),
    fires("commute.averaging.sum_of_multiples", lambda m, x: x * 3 + x * 4, ROWS, expect="mul_2 = mul(x, 7)"),
    leaves(
        "commute.averaging.sum_of_multiples", lambda m, x, y: x * 3 + y * 4, ROWS, ROWS, because="they differ"
    ),
    fires(
        "commute.averaging.mean_of_stacked_equals",
        lambda m, x: torch.stack([h := x.relu(), h]).mean(0),
        ROWS,
        expect="relu = relu(x)",
    ),
    leaves(
        "commute.averaging.mean_of_stacked_equals",
        lambda m, x: torch.stack([x, x.relu()]).mean(0),
        ROWS,
        because="they differ",
    ),
]

CASES = [*ROTATIONS, *ROLLS, *SCALING, *ORTHOGONAL, *INVARIANCE, *AVERAGING]
