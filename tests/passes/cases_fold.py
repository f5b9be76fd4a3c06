"""Cases of `passes/fold`, `passes/layout` and `passes/merge`: constants that become part of a weight."""

# ruff: noqa: E501 - graphs as text have long lines

import math

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number
from torch import nn

X = (4, 6)
TOKENS = (2, 4, 6)
IMAGE = (2, 4, 7, 9)
SIGNAL = (2, 4, 9)
VOLUME = (1, 2, 3, 4, 5)
IDS = torch.tensor([[0, 3, 8], [5, 5, 1]])
BATCH = {"x": {0: "batch"}}


def unaffine(channels: int) -> nn.Module:
    """A batch norm without gamma and beta."""
    return nn.BatchNorm2d(channels, affine=False)


BATCH_NORM = [
    fires(
        "fold.batch_norm.batch_norm_of_fields",
        lambda m, x: m.bn(m.conv(x).unflatten(1, (3, 2))).flatten(1, 2),
        IMAGE,
        dynamic=BATCH,
        conv=nn.Conv2d(4, 6, 3),
        bn=nn.BatchNorm3d(3),
        expect="""
            conv2d = conv2d(x, conv.weight, conv.bias)
            batch_norm_1 = batch_norm(conv2d, bn.weight_batch_norm_of_fields, bn.bias_batch_norm_of_fields, bn.running_mean_batch_norm_of_fields, bn.running_var_batch_norm_of_fields, false, 0.1, 1e-05, true)
            reshape = reshape(batch_norm_1, [-1, 3, 2, 5, 7])
            flatten = reshape(reshape, [-1, 6, 5, 7])
        """,
        more_bytes="scales and shifts of single channels, which the layer takes in",
    ),
    leaves(
        "fold.batch_norm.batch_norm_of_fields",
        lambda m, x: m.bn(m.conv(x).reshape(2, 4, -1)),
        IMAGE,
        conv=nn.Conv2d(4, 6, 2),
        bn=nn.BatchNorm1d(4),
        because="two channels share a part of the third",
    ),
    fires(
        "fold.batch_norm.batch_norm_of_conv",
        lambda m, x: m.bn(m.conv(x)),
        IMAGE,
        dynamic=BATCH,
        conv=nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        bn=nn.BatchNorm2d(6),
        expect="""
            conv2d_1 = conv2d(x, conv.weight_batch_norm_of_conv, conv.bias_batch_norm_of_conv, stride=[2, 2], padding=[1, 1], groups=2)
        """,
    ),
    fires(
        "fold.batch_norm.batch_norm_of_conv",
        lambda m, x: m.bn(m.conv(x)),
        IMAGE,
        conv=nn.Conv2d(4, 5, (3, 2), dilation=2, bias=False),
        bn=unaffine(5),
        expect="""
            conv2d_1 = conv2d(x, conv.weight_batch_norm_of_conv, bn.running_mean_batch_norm_of_conv, dilation=[2, 2])
        """,
    ),
    fires(
        "fold.batch_norm.batch_norm_of_conv",
        lambda m, x: m.bn(m.conv(x)),
        SIGNAL,
        conv=nn.Conv1d(4, 4, 3, padding="same", groups=4),
        bn=nn.BatchNorm1d(4),
        expect="""
            conv1d_1 = conv1d(x, conv.weight_batch_norm_of_conv, conv.bias_batch_norm_of_conv, padding=[1], groups=4)
        """,
    ),
    fires(
        "fold.batch_norm.batch_norm_of_conv",
        lambda m, x: m.bn(m.conv(x)),
        VOLUME,
        conv=nn.Conv3d(2, 3, 2, bias=False),
        bn=nn.BatchNorm3d(3),
        expect="conv3d_1 = conv3d(x, conv.weight_batch_norm_of_conv, bn.bias_batch_norm_of_conv)",
    ),
    leaves(
        "fold.batch_norm.batch_norm_of_conv",
        lambda m, x: m.bn(y := m.conv(x)) + y,
        IMAGE,
        conv=nn.Conv2d(4, 6, 3),
        bn=nn.BatchNorm2d(6),
        because="the convolution's output has a second use",
    ),
    leaves(
        "fold.batch_norm.batch_norm_of_conv",
        lambda m, x: m.bn(m.conv(x)) + m.conv(x.relu()),
        IMAGE,
        conv=nn.Conv2d(4, 6, 3),
        bn=nn.BatchNorm2d(6),
        because="two convolutions share the weight",
    ),
    leaves(
        "fold.batch_norm.batch_norm_of_conv",
        lambda m, x: F.batch_norm(m.conv(x), None, None, m.g, m.g, training=True),
        IMAGE,
        conv=nn.Conv2d(4, 6, 3),
        g=number(6),
        because="the statistics are those of the batch",
    ),
    fires(
        "fold.batch_norm.batch_norm_of_conv_transpose",
        lambda m, x: m.bn(m.conv(x)),
        IMAGE,
        conv=nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1, groups=2, dilation=2),
        bn=nn.BatchNorm2d(6),
        expect="""
            conv_transpose2d_1 = conv_transpose2d(x, conv.weight_batch_norm_of_conv_transpose, conv.bias_batch_norm_of_conv_transpose, stride=[2, 2], output_padding=[1, 1], groups=2, dilation=[2, 2])
        """,
    ),
    fires(
        "fold.batch_norm.batch_norm_of_conv_transpose",
        lambda m, x: m.bn(m.conv(x)),
        SIGNAL,
        conv=nn.ConvTranspose1d(4, 5, 3, padding=1, bias=False),
        bn=nn.BatchNorm1d(5),
        expect="""
            conv_transpose1d_1 = conv_transpose1d(x, conv.weight_batch_norm_of_conv_transpose, bn.bias_batch_norm_of_conv_transpose, padding=[1])
        """,
    ),
    leaves(
        "fold.batch_norm.batch_norm_of_conv_transpose",
        lambda m, x: m.bn(m.conv(x).relu()),
        IMAGE,
        conv=nn.ConvTranspose2d(4, 6, 3),
        bn=nn.BatchNorm2d(6),
        because="a relu stands between",
    ),
    fires(
        "fold.batch_norm.batch_norm_of_linear",
        lambda m, x: m.bn(m.fc(x)),
        X,
        dynamic=BATCH,
        fc=nn.Linear(6, 5, bias=False),
        bn=nn.BatchNorm1d(5),
        expect="linear_1 = linear(x, fc.weight_batch_norm_of_linear, bn.bias_batch_norm_of_linear)",
    ),
    leaves(
        "fold.batch_norm.batch_norm_of_linear",
        lambda m, x: m.bn(m.fc(x)),
        TOKENS,
        fc=nn.Linear(6, 5),
        bn=nn.BatchNorm1d(4),
        because="the channels are the tokens, not the features",
    ),
    leaves(
        "fold.batch_norm.batch_norm_of_linear",
        lambda m, x: m.bn(F.linear(x, m.w)) @ m.w,
        X,
        w=number(5, 6),
        bn=nn.BatchNorm1d(5),
        because="the weight is tied to another layer",
    ),
    fires(
        "fold.batch_norm.conv_of_batch_norm",
        lambda m, x: m.conv(m.bn(x)),
        IMAGE,
        bn=nn.BatchNorm2d(4),
        conv=nn.Conv2d(4, 6, 3, stride=2, dilation=2),
        expect="""
            conv2d_1 = conv2d(x, conv.weight_conv_of_batch_norm, conv.bias_conv_of_batch_norm, stride=[2, 2], dilation=[2, 2])
        """,
    ),
    fires(
        "fold.batch_norm.conv_of_batch_norm",
        lambda m, x: m.conv(m.bn(x)),
        SIGNAL,
        bn=nn.BatchNorm1d(4, affine=False),
        conv=nn.Conv1d(4, 5, 3, bias=False),
        expect="conv1d_1 = conv1d(x, conv.weight_conv_of_batch_norm, conv.weight_conv_of_batch_norm_1)",
    ),
    leaves(
        "fold.batch_norm.conv_of_batch_norm",
        lambda m, x: m.conv(m.bn(x)),
        IMAGE,
        bn=nn.BatchNorm2d(4),
        conv=nn.Conv2d(4, 6, 3, padding=1),
        because="the border of zeros comes after the shift",
    ),
    leaves(
        "fold.batch_norm.conv_of_batch_norm",
        lambda m, x: m.conv(m.bn(x)),
        IMAGE,
        bn=nn.BatchNorm2d(4),
        conv=nn.Conv2d(4, 6, 3, groups=2),
        because="the groups read different channels",
    ),
    leaves(
        "fold.batch_norm.conv_of_batch_norm",
        lambda m, x: m.conv(m.bn(x)),
        IMAGE,
        bn=unaffine(4),
        conv=nn.Conv2d(4, 64, 1, bias=False),
        because="64 new biases are more than 8 statistics",
    ),
    fires(
        "fold.batch_norm.linear_of_batch_norm",
        lambda m, x: m.fc(m.bn(x)),
        X,
        bn=nn.BatchNorm1d(6),
        fc=nn.Linear(6, 5),
        expect="linear_1 = linear(x, fc.weight_linear_of_batch_norm, fc.bias_linear_of_batch_norm)",
    ),
    leaves(
        "fold.batch_norm.linear_of_batch_norm",
        lambda m, x: m.fc(m.bn(x)),
        TOKENS,
        bn=nn.BatchNorm1d(4),
        fc=nn.Linear(6, 5),
        because="the channels are the tokens, not the features",
    ),
    fires(
        "fold.batch_norm.scale_of_batch_norm",
        lambda m, x: m.bn(x.relu()) * m.a,
        IMAGE,
        bn=nn.BatchNorm2d(4),
        a=number(4, 1, 1),
        expect="""
            relu = relu(x)
            batch_norm_1 = batch_norm(relu, bn.weight_scale_of_batch_norm, bn.bias_scale_of_batch_norm, bn.running_mean, bn.running_var, false, 0.1, 1e-05, true)
        """,
    ),
    fires(
        "fold.batch_norm.scale_of_batch_norm",
        lambda m, x: m.a * m.bn(x.relu()),
        IMAGE,
        bn=unaffine(4),
        a=number(4, 1, 1),
        expect="""
            relu = relu(x)
            batch_norm_1 = batch_norm(relu, a_scale_of_batch_norm, mean=bn.running_mean, var=bn.running_var, training=false, momentum=0.1, eps=1e-05, cudnn=true)
        """,
    ),
    leaves(
        "fold.batch_norm.scale_of_batch_norm",
        lambda m, x: m.bn(x) * m.a,
        (2, 4, 4, 4),
        bn=nn.BatchNorm2d(4),
        a=number(4),
        because="the factors are those of the columns",
    ),
    fires(
        "fold.batch_norm.shift_of_batch_norm",
        lambda m, x: m.c + m.bn(x.relu()),
        IMAGE,
        bn=unaffine(4),
        c=number(4, 1, 1),
        expect="""
            relu = relu(x)
            batch_norm_1 = batch_norm(relu, bias=c_shift_of_batch_norm, mean=bn.running_mean, var=bn.running_var, training=false, momentum=0.1, eps=1e-05, cudnn=true)
        """,
    ),
    leaves(
        "fold.batch_norm.shift_of_batch_norm",
        lambda m, x: m.bn(x) + m.c,
        IMAGE,
        bn=nn.BatchNorm2d(4),
        c=number(4, 7, 1),
        because="the constant differs from row to row",
    ),
]

BIAS = [
    fires(
        "fold.bias.add_into_linear",
        lambda m, x: m.c + m.fc(x),
        TOKENS,
        fc=nn.Linear(6, 5),
        c=number(5),
        expect="linear_1 = linear(x, fc.weight, fc.bias_add_into_linear)",
    ),
    fires(
        "fold.bias.add_into_linear",
        lambda m, x: m.fc(x) + m.c,
        X,
        dynamic=BATCH,
        fc=nn.Linear(6, 5, bias=False),
        c=number(5),
        expect="linear_1 = linear(x, fc.weight, c)",
    ),
    leaves(
        "fold.bias.add_into_linear",
        lambda m, x: m.fc(x) + m.c,
        TOKENS,
        fc=nn.Linear(6, 5),
        c=number(4, 5),
        because="each token has a constant of its own",
    ),
    leaves(
        "fold.bias.add_into_linear",
        lambda m, x: m.fc(x).sum(0) + m.c,
        X,
        fc=nn.Linear(6, 5),
        c=number(5),
        because="a sum over rows stands between",
    ),
    fires(
        "fold.bias.subtract_from_linear",
        lambda m, x: m.fc(x) - m.c,
        X,
        fc=nn.Linear(6, 5, bias=False),
        c=number(5),
        expect="linear_1 = linear(x, fc.weight, c_subtract_from_linear)",
    ),
    leaves(
        "fold.bias.subtract_from_linear",
        lambda m, x: m.c - m.fc(x),
        X,
        fc=nn.Linear(6, 5),
        c=number(5),
        because="the layer is what is subtracted",
    ),
    leaves(
        "fold.bias.subtract_from_linear",
        lambda m, x: (m.fc(x) - m.c) * m.c,
        X,
        fc=nn.Linear(6, 5, bias=False),
        c=number(5),
        because="the constant stays, and a bias would come on top",
    ),
    fires(
        "fold.bias.add_into_conv",
        lambda m, x: m.conv(x) + m.c,
        IMAGE,
        conv=nn.Conv2d(4, 6, 3, padding=1, groups=2),
        c=number(6, 1, 1),
        expect="conv2d_1 = conv2d(x, conv.weight, conv.bias_add_into_conv, padding=[1, 1], groups=2)",
    ),
    fires(
        "fold.bias.add_into_conv",
        lambda m, x: m.c + m.conv(x),
        SIGNAL,
        conv=nn.Conv1d(4, 5, 3, bias=False),
        c=number(5, 1),
        expect="conv1d_1 = conv1d(x, conv.weight, c_add_into_conv)",
    ),
    leaves(
        "fold.bias.add_into_conv",
        lambda m, x: m.conv(x) + m.c,
        (2, 4, 6, 6),
        conv=nn.Conv2d(4, 6, 1),
        c=number(6),
        because="the constant runs along the columns, as many as channels",
    ),
]

SCALE = [
    fires(
        "fold.scale.scale_of_linear",
        lambda m, x: m.fc(x) * m.a,
        TOKENS,
        fc=nn.Linear(6, 5),
        a=number(5),
        expect="linear_1 = linear(x, fc.weight_scale_of_linear, fc.bias_scale_of_linear)",
    ),
    leaves(
        "fold.scale.scale_of_linear",
        lambda m, x: m.fc(x) * m.a + m.fc(x.relu()),
        TOKENS,
        fc=nn.Linear(6, 5),
        a=number(5),
        because="two layers share the weight",
    ),
    fires(
        "fold.scale.linear_of_scaled",
        lambda m, x: m.fc(m.a * x),
        TOKENS,
        fc=nn.Linear(6, 5),
        a=number(6),
        expect="linear_1 = linear(x, fc.weight_linear_of_scaled, fc.bias)",
    ),
    leaves(
        "fold.scale.linear_of_scaled",
        lambda m, x: m.fc(x * m.a),
        (6, 6),
        fc=nn.Linear(6, 5),
        a=number(6, 1),
        because="the factors are those of the rows",
    ),
    leaves(
        "fold.scale.linear_of_scaled",
        lambda m, x: m.fc(y := x * m.a) + y.sum(),
        X,
        fc=nn.Linear(6, 5),
        a=number(6),
        because="the scaled input has a second use",
    ),
    fires(
        "fold.scale.number_of_linear",
        lambda m, x: m.fc(x) * 0.125,
        X,
        fc=nn.Linear(6, 5),
        expect="linear_1 = linear(x, fc.weight_number_of_linear, fc.bias_number_of_linear)",
    ),
    leaves(
        "fold.scale.number_of_linear",
        lambda m, x: m.fc(x) * x.sum(),
        X,
        fc=nn.Linear(6, 5),
        because="the number is computed",
    ),
    fires(
        "fold.scale.linear_of_number",
        lambda m, x: m.fc(3 * x),
        X,
        fc=nn.Linear(6, 5),
        expect="linear_1 = linear(x, fc.weight_linear_of_number, fc.bias)",
    ),
    leaves(
        "fold.scale.linear_of_number",
        lambda m, x: m.fc(x * 3 + 1),
        X,
        fc=nn.Linear(6, 5),
        because="a sum stands between",
    ),
    fires(
        "fold.scale.linear_of_quotient",
        lambda m, x: m.fc(x / 3),
        X,
        fc=nn.Linear(6, 5),
        expect="linear_1 = linear(x, fc.weight_linear_of_quotient, fc.bias)",
    ),
    leaves(
        "fold.scale.linear_of_quotient",
        lambda m, x: m.fc(x / x.norm()),
        X,
        fc=nn.Linear(6, 5),
        because="the number is computed",
    ),
    fires(
        "fold.scale.quotient_of_linear",
        lambda m, x: m.fc(x) / math.sqrt(5),
        X,
        fc=nn.Linear(6, 5),
        expect="linear_1 = linear(x, fc.weight_quotient_of_linear, fc.bias_quotient_of_linear)",
    ),
    leaves(
        "fold.scale.quotient_of_linear",
        lambda m, x: (y := m.fc(x)) / 2 + y,
        X,
        fc=nn.Linear(6, 5),
        because="a second use",
    ),
    fires(
        "fold.scale.scale_of_conv",
        lambda m, x: m.conv(x) * m.a,
        IMAGE,
        conv=nn.Conv2d(4, 6, 3, groups=2),
        a=number(6, 1, 1),
        expect="conv2d_1 = conv2d(x, conv.weight_scale_of_conv, conv.bias_scale_of_conv, groups=2)",
    ),
    leaves(
        "fold.scale.scale_of_conv",
        lambda m, x: m.conv(x) * m.a,
        (2, 4, 6, 6),
        conv=nn.Conv2d(4, 6, 1),
        a=number(6),
        because="the factors run along the columns, as many as channels",
    ),
    fires(
        "fold.scale.conv_of_scaled",
        lambda m, x: m.conv(x * m.a),
        IMAGE,
        conv=nn.Conv2d(4, 6, 3, padding=2, stride=2),
        a=number(4, 1, 1),
        expect="""
            conv2d_1 = conv2d(x, conv.weight_conv_of_scaled, conv.bias, stride=[2, 2], padding=[2, 2])
        """,
    ),
    leaves(
        "fold.scale.conv_of_scaled",
        lambda m, x: m.conv(x * m.a),
        IMAGE,
        conv=nn.Conv2d(4, 6, 3, groups=2),
        a=number(4, 1, 1),
        because="the groups read different channels",
    ),
    fires(
        "fold.scale.number_of_conv",
        lambda m, x: 0.5 * m.conv(x),
        VOLUME,
        conv=nn.Conv3d(2, 3, 2),
        expect="conv3d_1 = conv3d(x, conv.weight_number_of_conv, conv.bias_number_of_conv)",
    ),
    leaves(
        "fold.scale.number_of_conv",
        lambda m, x: 0.5 * m.conv(x).relu(),
        VOLUME,
        conv=nn.Conv3d(2, 3, 2),
        because="a relu stands between",
    ),
    fires(
        "fold.scale.conv_of_number",
        lambda m, x: m.conv(x * 2),
        IMAGE,
        conv=nn.Conv2d(4, 6, 3, padding=1),
        expect="conv2d_1 = conv2d(x, conv.weight_conv_of_number, conv.bias, padding=[1, 1])",
    ),
    leaves(
        "fold.scale.conv_of_number",
        lambda m, x: m.conv(x * 2 - 1),
        IMAGE,
        conv=nn.Conv2d(4, 6, 3, padding=1),
        because="a shift stands between",
    ),
    fires(
        "fold.scale.conv_of_quotient",
        lambda m, x: m.conv(x / 255),
        IMAGE,
        conv=nn.Conv2d(4, 6, 3),
        expect="conv2d_1 = conv2d(x, conv.weight_conv_of_quotient, conv.bias)",
    ),
    leaves(
        "fold.scale.conv_of_quotient",
        lambda m, x: m.conv(x / 255) + m.conv(x),
        IMAGE,
        conv=nn.Conv2d(4, 6, 3),
        because="two convolutions share the weight",
    ),
    fires(
        "fold.scale.negation_of_linear",
        lambda m, x: -m.fc(x),
        X,
        fc=nn.Linear(6, 5),
        expect="linear_1 = linear(x, fc.weight_negation_of_linear, fc.bias_negation_of_linear)",
    ),
    leaves(
        "fold.scale.negation_of_linear",
        lambda m, x: -m.fc(x).relu(),
        X,
        fc=nn.Linear(6, 5),
        because="a relu stands between",
    ),
    fires(
        "fold.scale.linear_of_negation",
        lambda m, x: m.fc(-x),
        X,
        fc=nn.Linear(6, 5),
        expect="linear_1 = linear(x, fc.weight_linear_of_negation, fc.bias)",
    ),
    leaves(
        "fold.scale.linear_of_negation",
        lambda m, x: m.fc(-x) + m.fc(x),
        X,
        fc=nn.Linear(6, 5),
        because="two layers share the weight",
    ),
    fires(
        "fold.scale.negation_of_conv",
        lambda m, x: -m.conv(x),
        VOLUME,
        conv=nn.Conv3d(2, 3, 2),
        expect="conv3d_1 = conv3d(x, conv.weight_negation_of_conv, conv.bias_negation_of_conv)",
    ),
    leaves(
        "fold.scale.negation_of_conv",
        lambda m, x: -m.conv(x) + m.conv(x + 1),
        VOLUME,
        conv=nn.Conv3d(2, 3, 2),
        because="two convolutions share the weight",
    ),
    fires(
        "fold.scale.conv_of_negation",
        lambda m, x: m.conv(-x),
        IMAGE,
        conv=nn.Conv2d(4, 6, 3, padding=1),
        expect="conv2d_1 = conv2d(x, conv.weight_conv_of_negation, conv.bias, padding=[1, 1])",
    ),
    leaves(
        "fold.scale.conv_of_negation",
        lambda m, x: m.conv(-x + 1),
        IMAGE,
        conv=nn.Conv2d(4, 6, 3, padding=1),
        because="a shift stands between",
    ),
]

EMBEDDING = [
    fires(
        "fold.embedding.scale_of_embedding",
        lambda m, ids: m.e(ids) * m.a,
        IDS,
        e=nn.Embedding(9, 5),
        a=number(5),
        expect="embedding_1 = embedding(e.weight_scale_of_embedding, ids)",
    ),
    leaves(
        "fold.embedding.scale_of_embedding",
        lambda m, ids: m.e(ids) * m.a,
        IDS,
        e=nn.Embedding(9, 5),
        a=number(3, 5),
        because="each position has factors of its own",
    ),
    fires(
        "fold.embedding.number_of_embedding",
        lambda m, ids: m.e(ids) * 5**0.5,
        IDS,
        e=nn.Embedding(9, 5, padding_idx=0),
        expect="embedding_1 = embedding(e.weight_number_of_embedding, ids)",
    ),
    leaves(
        "fold.embedding.number_of_embedding",
        lambda m, ids: (m.e(ids) * 3) @ m.e.weight.T,
        IDS,
        e=nn.Embedding(9, 5),
        because="the table is tied to the output layer",
    ),
    fires(
        "fold.embedding.negation_of_embedding",
        lambda m, ids: -m.e(ids),
        IDS,
        e=nn.Embedding(9, 5, padding_idx=0),
        expect="embedding_1 = embedding(e.weight_negation_of_embedding, ids)",
    ),
    leaves(
        "fold.embedding.negation_of_embedding",
        lambda m, ids: -m.e(ids) @ m.e.weight.T,
        IDS,
        e=nn.Embedding(9, 5),
        because="the table is tied to the output layer",
    ),
    fires(
        "fold.embedding.shift_of_embedding",
        lambda m, ids: m.c + m.e(ids),
        IDS,
        e=nn.Embedding(9, 5),
        c=number(5),
        expect="embedding_1 = embedding(e.weight_shift_of_embedding, ids)",
    ),
    leaves(
        "fold.embedding.shift_of_embedding",
        lambda m, ids: m.c + m.e(ids),
        IDS,
        e=nn.Embedding(9, 5),
        c=number(3, 5),
        because="each position has a constant of its own",
    ),
    fires(
        "fold.embedding.linear_of_embedding",
        lambda m, ids: m.fc(m.e(ids)),
        IDS,
        e=nn.Embedding(9, 5),
        fc=nn.Linear(5, 4),
        expect="embedding_1 = embedding(e.weight_linear_of_embedding, ids)",
    ),
    leaves(
        "fold.embedding.linear_of_embedding",
        lambda m, ids: m.fc(m.e(ids)),
        IDS,
        e=nn.Embedding(90, 5),
        fc=nn.Linear(5, 8),
        because="a table of longer vectors is larger than both",
    ),
]

SHORT = (2, 4, 3, 5)
CROPPED = [
    fires(
        "fold.pad.crop_padded_taps",
        lambda m, x: m.conv(F.pad(x, (3, 4, 4, 5))),
        SHORT,
        conv=nn.Conv2d(4, 6, (10, 8), groups=2),
        expect="""
            pad_1 = pad(x, [3, 4, 2, 2])
            conv2d_1 = conv2d(pad_1, conv.weight_crop_padded_taps, conv.bias, groups=2)
        """,
    ),
    fires(
        "fold.pad.crop_padded_taps",
        lambda m, x: m.conv(F.pad(x, (0, 0, 3, 4))),
        (2, 4, 3, 1),
        conv=nn.Conv2d(4, 6, (8, 1)),
        dynamic={"x": {0: torch.export.Dim("b", min=1, max=9)}},
        expect="""
            pad_1 = pad(x, [0, 0, 2, 2])
            conv2d_1 = conv2d(pad_1, conv.weight_crop_padded_taps, conv.bias)
        """,
    ),
    fires(
        "fold.pad.crop_taps",
        lambda m, x: m.conv(x),
        (2, 4, 1, 5),
        conv=nn.Conv2d(4, 6, (5, 3), padding=(2, 1)),
        expect="conv2d_1 = conv2d(x, conv.weight_crop_taps, conv.bias, padding=[0, 1])",
    ),
    leaves(
        "fold.pad.crop_padded_taps",
        lambda m, x: m.conv(F.pad(x, (1, 1, 2, 2))),
        SHORT,
        conv=nn.Conv2d(4, 6, 3),
        because="every tap meets some of the input",
    ),
    leaves(
        "fold.pad.crop_padded_taps",
        lambda m, x: m.conv(F.pad(x, (3, 4, 4, 5), value=1.0)),
        SHORT,
        conv=nn.Conv2d(4, 6, (10, 8)),
        because="the border is no zeros",
    ),
    leaves(
        "fold.pad.crop_padded_taps",
        lambda m, x: m.conv(F.pad(x, (3, 4, 4, 5))) + m.conv(F.pad(x.tanh(), (3, 4, 4, 5))),
        SHORT,
        conv=nn.Conv2d(4, 6, (10, 8)),
        because="another layer reads the weight",
    ),
    leaves(
        "fold.pad.crop_taps",
        lambda m, x: m.conv(x),
        (2, 4, 2, 5),
        conv=nn.Conv2d(4, 6, (5, 3), padding=(3, 1), stride=2),
        because="it strides",
    ),
    leaves(
        "fold.pad.crop_taps",
        lambda m, x: m.conv(x),
        (2, 4, 3, 5),
        conv=nn.Conv2d(4, 6, 3, padding=1),
        because="every tap meets some of the input",
    ),
    leaves(
        "fold.pad.crop_taps",
        lambda m, x: m.conv(x),
        (2, 4, 2, 5),
        conv=nn.Conv2d(4, 6, (5, 3), padding=(2, 1)),
        dynamic={"x": {2: torch.export.Dim("h", min=2, max=9)}},
        because="of a longer input the outer taps would meet something",
    ),
]

PAD = [
    fires(
        "fold.pad.pad_into_conv1d",
        lambda m, x: m.conv(F.pad(x, (2, 2))),
        SIGNAL,
        conv=nn.Conv1d(4, 5, 3, padding=1, bias=False),
        expect="conv1d_1 = conv1d(x, conv.weight, padding=[3])",
    ),
    leaves(
        "fold.pad.pad_into_conv1d",
        lambda m, x: m.conv(F.pad(x, (2, 0))),
        SIGNAL,
        conv=nn.Conv1d(4, 5, 3),
        because="it is causal: one side only",
    ),
    fires(
        "fold.pad.pad_into_conv2d",
        lambda m, x: m.conv(F.pad(x, (1, 1, 2, 2))),
        IMAGE,
        conv=nn.Conv2d(4, 6, 3, stride=2, groups=2),
        expect="conv2d_1 = conv2d(x, conv.weight, conv.bias, stride=[2, 2], padding=[2, 1], groups=2)",
    ),
    leaves(
        "fold.pad.pad_into_conv2d",
        lambda m, x: m.conv(F.pad(x, (1, 1, 2, 2), mode="reflect")),
        IMAGE,
        conv=nn.Conv2d(4, 6, 3),
        because="the border is a reflection",
    ),
    leaves(
        "fold.pad.pad_into_conv2d",
        lambda m, x: m.conv(F.pad(x, (1, 1, 2, 2), value=0.5)),
        IMAGE,
        conv=nn.Conv2d(4, 6, 3),
        because="the border is not zero",
    ),
    leaves(
        "fold.pad.pad_into_conv2d",
        lambda m, x: m.conv(F.pad(x, (-1, -1, 0, 0))),
        IMAGE,
        conv=nn.Conv2d(4, 6, 3),
        because="a negative border cuts off",
    ),
]

MERGE = [
    fires(
        "fold.merge.merge_linear",
        lambda m, x: m.b(m.a(x)),
        TOKENS,
        a=nn.Linear(6, 5),
        b=nn.Linear(5, 3),
        expect="linear_2 = linear(x, b.weight_merge_linear, b.bias_merge_linear)",
    ),
    fires(
        "fold.merge.merge_linear",
        lambda m, x: m.b(m.a(x)),
        X,
        dynamic=BATCH,
        a=nn.Linear(6, 5, bias=False),
        b=nn.Linear(5, 3, bias=False),
        expect="linear_2 = linear(x, b.weight_merge_linear)",
    ),
    leaves(
        "fold.merge.merge_linear",
        lambda m, x: m.b(m.a(x)),
        X,
        a=nn.Linear(6, 2),
        b=nn.Linear(2, 6),
        because="it is a bottleneck: two small weights become a large one",
    ),
    leaves(
        "fold.merge.merge_linear",
        lambda m, x: m.b(m.a(x).tanh()),
        X,
        a=nn.Linear(6, 5),
        b=nn.Linear(5, 3),
        because="tanh stands between",
    ),
    fires(
        "fold.merge.merge_linear",
        lambda m, x: m.a(m.a(x)),
        X,
        a=nn.Linear(6, 6),
        expect="linear_2 = linear(x, a.weight_merge_linear, a.bias_merge_linear)",
    ),
    leaves(
        "fold.merge.merge_linear",
        lambda m, x: m.b(m.a(x)) + m.a(x.relu()),
        X,
        a=nn.Linear(6, 6),
        b=nn.Linear(6, 6),
        because="the first weight is tied to another layer",
    ),
    fires(
        "fold.merge.merge_conv2d_1x1",
        lambda m, x: m.b(m.a(x)),
        IMAGE,
        a=nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2),
        b=nn.Conv2d(6, 5, 1),
        expect="""
            conv2d_2 = conv2d(x, b.weight_merge_conv2d_1x1, b.bias_merge_conv2d_1x1, stride=[2, 2], padding=[1, 1], dilation=[2, 2])
        """,
    ),
    leaves(
        "fold.merge.merge_conv2d_1x1",
        lambda m, x: m.b(m.a(x)),
        IMAGE,
        a=nn.Conv2d(4, 6, 3),
        b=nn.Conv2d(6, 5, 1, stride=2),
        because="the 1×1 convolution has a stride",
    ),
    leaves(
        "fold.merge.merge_conv2d_1x1",
        lambda m, x: m.b(m.a(x)),
        IMAGE,
        a=nn.Conv2d(4, 6, 3),
        b=nn.Conv2d(6, 5, 1, padding=1),
        because="the 1×1 convolution has a border",
    ),
    leaves(
        "fold.merge.merge_conv2d_1x1",
        lambda m, x: m.b(m.a(x)),
        IMAGE,
        a=nn.Conv2d(4, 4, 3, groups=4),
        b=nn.Conv2d(4, 5, 1),
        because="a depthwise convolution is cheaper",
    ),
    fires(
        "fold.merge.merge_1x1_conv2d",
        lambda m, x: m.b(m.a(x)),
        IMAGE,
        a=nn.Conv2d(4, 6, 1),
        b=nn.Conv2d(6, 5, 3, stride=2),
        expect="""
            conv2d_2 = conv2d(x, b.weight_merge_1x1_conv2d, b.bias_merge_1x1_conv2d, stride=[2, 2])
        """,
    ),
    leaves(
        "fold.merge.merge_1x1_conv2d",
        lambda m, x: m.b(m.a(x)),
        IMAGE,
        a=nn.Conv2d(4, 6, 1),
        b=nn.Conv2d(6, 5, 3, padding=1),
        because="the first bias does not reach into the border",
    ),
    fires(
        "fold.merge.merge_unbiased_1x1_conv2d",
        lambda m, x: m.b(m.a(x)),
        IMAGE,
        a=nn.Conv2d(4, 6, 1, bias=False),
        b=nn.Conv2d(6, 5, 3, padding=1, dilation=2),
        expect="""
            conv2d_2 = conv2d(x, b.weight_merge_unbiased_1x1_conv2d, b.bias, padding=[1, 1], dilation=[2, 2])
        """,
    ),
    leaves(
        "fold.merge.merge_unbiased_1x1_conv2d",
        lambda m, x: m.b(m.a(x)),
        IMAGE,
        a=nn.Conv2d(4, 2, 1, bias=False),
        b=nn.Conv2d(2, 5, 3, padding=1),
        because="it is a bottleneck: the merged convolution is larger",
    ),
]

SIBLINGS = [
    fires(
        "merge.siblings.linear_siblings",
        lambda m, x: (m.q(x), m.k(x)),
        TOKENS,
        dynamic=BATCH,
        q=nn.Linear(6, 5),
        k=nn.Linear(6, 3),
        expect="""
            linear_2 = linear(x, k.weight_linear_siblings, k.bias_linear_siblings)
            split = split(linear_2, [3, 5], dim=-1)
            getitem = split[0]
            getitem_1 = split[1]
        """,
    ),
    leaves(
        "merge.siblings.linear_siblings",
        lambda m, x: (m.q(x), m.k(x.relu())),
        TOKENS,
        q=nn.Linear(6, 5),
        k=nn.Linear(6, 5),
        because="they read different inputs",
    ),
    leaves(
        "merge.siblings.linear_siblings",
        lambda m, x: m.q(x) + m.k(m.q(x)),
        TOKENS,
        q=nn.Linear(6, 6),
        k=nn.Linear(6, 6),
        because="one reads the other's output",
    ),
    leaves(
        "merge.siblings.linear_siblings",
        lambda m, x: (m.q(x), m.k(x)),
        TOKENS,
        q=nn.Linear(6, 5),
        k=nn.Linear(6, 5, bias=False),
        because="one has no bias, and zeros would have to be stored",
    ),
    fires(
        "merge.siblings.conv2d_siblings",
        lambda m, x: (m.a(x), m.b(x)),
        IMAGE,
        a=nn.Conv2d(4, 5, 3, padding=1, stride=2),
        b=nn.Conv2d(4, 3, 3, padding=1, stride=2),
        expect="""
            conv2d_2 = conv2d(x, b.weight_conv2d_siblings, b.bias_conv2d_siblings, stride=[2, 2], padding=[1, 1])
            split = split(conv2d_2, [3, 5], dim=-3)
            getitem = split[0]
            getitem_1 = split[1]
        """,
    ),
    leaves(
        "merge.siblings.conv2d_siblings",
        lambda m, x: (m.a(x), m.b(x)),
        IMAGE,
        a=nn.Conv2d(4, 5, 3, padding=1),
        b=nn.Conv2d(4, 5, 1),
        because="the kernels have different sizes",
    ),
    leaves(
        "merge.siblings.conv2d_siblings",
        lambda m, x: (m.a(x), m.b(x)),
        IMAGE,
        a=nn.Conv2d(4, 4, 3, padding=1),
        b=nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        because="the dilations differ",
    ),
    fires(
        "merge.siblings.conv1d_siblings",
        lambda m, x: (m.a(x), m.b(x)),
        SIGNAL,
        a=nn.Conv1d(4, 5, 3, bias=False),
        b=nn.Conv1d(4, 3, 3, bias=False),
        expect="""
            conv1d_2 = conv1d(x, b.weight_conv1d_siblings)
            split = split(conv1d_2, [3, 5], dim=-2)
            getitem = split[0]
            getitem_1 = split[1]
        """,
    ),
    leaves(
        "merge.siblings.conv1d_siblings",
        lambda m, x: (m.a(x), m.b(x)),
        SIGNAL,
        a=nn.Conv1d(4, 4, 3),
        b=nn.Conv1d(4, 4, 3, groups=2),
        because="one is grouped",
    ),
]

LAYOUT = [
    fires(
        "layout.linear.matmul_is_linear",
        lambda m, x: x @ m.w,
        TOKENS,
        dynamic=BATCH,
        w=number(6, 5),
        expect="linear = linear(x, w_matmul_is_linear)",
    ),
    leaves(
        "layout.linear.matmul_is_linear",
        lambda m, x: x @ m.w,
        TOKENS,
        w=number(2, 6, 5),
        because="it is a batch of matrices",
    ),
    leaves(
        "layout.linear.matmul_is_linear",
        lambda m, x: x @ m.w + m.w.sum(),
        X,
        w=number(6, 5),
        because="the matrix is used elsewhere",
    ),
    leaves(
        "layout.linear.matmul_is_linear",
        lambda m, x: x @ m.w,
        (6,),
        w=number(6, 5),
        because="the input is a vector",
    ),
    fires(
        "layout.linear.addmm_is_linear",
        lambda m, x: torch.addmm(m.b, x, m.w),
        X,
        w=number(6, 5),
        b=number(5),
        expect="linear = linear(x, w_addmm_is_linear, b)",
    ),
    leaves(
        "layout.linear.addmm_is_linear",
        lambda m, x: torch.addmm(m.b, x, m.w, beta=2),
        X,
        w=number(6, 5),
        b=number(5),
        because="the bias is doubled",
    ),
    leaves(
        "layout.linear.addmm_is_linear",
        lambda m, x: torch.addmm(m.b, x, m.w),
        X,
        w=number(6, 5),
        b=number(4, 1),
        because="the bias is one of rows",
    ),
    fires(
        "layout.linear.linear_of_flattened",
        lambda m, x: m.fc(x.view(-1, 6)).view(x.shape[0], 4, 5),
        TOKENS,
        dynamic=BATCH,
        fc=nn.Linear(6, 5),
        expect="""
            sym_size_int_1 = size(x, -3)
            linear_1 = linear(x, fc.weight, fc.bias)
        """,
    ),
    leaves(
        "layout.linear.linear_of_flattened",
        lambda m, x: m.fc(x.view(-1, 6)).view(4, 2, 5),
        TOKENS,
        fc=nn.Linear(6, 5),
        because="the rows come out under another shape",
    ),
    leaves(
        "layout.linear.linear_of_flattened",
        lambda m, x: m.fc(x.view(8, 2, 3)).view(8, 10),
        TOKENS,
        fc=nn.Linear(3, 5),
        because="the rows are cut in two",
    ),
    fires(
        "layout.constant.channel_axis",
        lambda m, x: m.a * m.conv(x),
        IMAGE,
        conv=nn.Conv2d(4, 6, 3, padding=1),
        a=number(1, 6, 1, 1),
        expect="""
            conv2d_1 = conv2d(x, conv.weight, conv.bias, padding=[1, 1])
            mul_1 = mul(conv2d_1, a_channel_axis)
        """,
    ),
    leaves(
        "layout.constant.channel_axis",
        lambda m, x: m.conv(x) * m.a,
        (1, 4, 6, 6),
        conv=nn.Conv2d(4, 6, 1),
        a=number(1, 6, 6, 1),
        because="the constant differs from row to row",
    ),
    fires(
        "layout.constant.feature_axis",
        lambda m, x: m.fc(x) + m.c,
        TOKENS,
        fc=nn.Linear(6, 5),
        c=number(1, 1, 5),
        expect="""
            linear_1 = linear(x, fc.weight, fc.bias)
            add_1 = add(linear_1, c_feature_axis)
        """,
    ),
    leaves(
        "layout.constant.feature_axis",
        lambda m, x: m.fc(x) + m.c,
        TOKENS,
        fc=nn.Linear(6, 5),
        c=number(1, 4, 5),
        because="each position has a constant of its own",
    ),
    leaves(
        "layout.constant.feature_axis",
        lambda m, x: m.fc(x) + m.c,
        X,
        fc=nn.Linear(6, 5),
        c=number(1, 1, 5),
        because="the constant brings a new axis",
    ),
]

SPREAD = [
    fires(
        "fold.spread.linear_of_spread",
        lambda m, x: m.fc(m.q.expand(x.shape[0], -1, -1)).relu() + x,
        (2, 4, 6),
        dynamic=BATCH,
        fc=nn.Linear(6, 6),
        q=number(1, 4, 6),
        expect="""
            sym_size_int_1 = size(x, -3)
            expand_1 = expand(q_linear_of_spread, [sym_size_int_1, 4, 6])
            relu = relu(expand_1)
            add = add(relu, x)
        """,
    ),
    leaves(
        "fold.spread.linear_of_spread",
        lambda m, x: (m.fc(m.q.expand(x.shape[0], -1, -1)), m.q.expand(x.shape[0], -1, -1) * x),
        (2, 9, 6),
        dynamic=BATCH,
        fc=nn.Linear(6, 6),
        q=number(1, 9, 6),
        because="what is projected is more than the weight",
    ),
    leaves(
        "fold.spread.linear_of_spread",
        lambda m, x: m.fc(x.expand(5, -1, -1)),
        (1, 4, 6),
        fc=nn.Linear(6, 6),
        because="what is spread is computed",
    ),
    fires(
        "fold.spread.layer_norm_of_spread",
        lambda m, x: m.norm(m.q.expand(x.shape[0], -1, -1)).relu() + x,
        (2, 4, 6),
        dynamic=BATCH,
        norm=nn.LayerNorm(6),
        q=number(1, 4, 6),
        expect="""
            sym_size_int_1 = size(x, -3)
            expand_1 = expand(q_layer_norm_of_spread, [sym_size_int_1, 4, 6])
            relu = relu(expand_1)
            add = add(relu, x)
        """,
    ),
    leaves(
        "fold.spread.layer_norm_of_spread",
        lambda m, x: m.norm(m.q.expand(4, -1)) + x,
        (2, 4, 6),
        norm=nn.LayerNorm([4, 6]),
        q=number(6),
        because="the rows are normalised together",
    ),
    fires(
        "fold.spread.pointwise_of_spread",
        lambda m, x: m.q.expand(x.shape[0], -1).sigmoid() + x,
        X,
        dynamic=BATCH,
        q=number(6),
        expect="""
            sym_size_int_1 = size(x, -2)
            expand_1 = expand(q_pointwise_of_spread, [sym_size_int_1, 6])
            add = add(expand_1, x)
        """,
    ),
    leaves(
        "fold.spread.pointwise_of_spread",
        lambda m, x: m.q.expand(x.shape[0], -1).sigmoid() + m.q.expand(x.shape[0], -1) * x,
        (3, 30),
        dynamic=BATCH,
        q=number(30),
        because="the values before are stored, too",
    ),
    fires(
        "fold.spread.sum_of_spreads",
        lambda m, x: (m.q.expand(x.shape[0], -1) * m.k.expand(x.shape[0], 6)).relu() + x,
        X,
        dynamic=BATCH,
        q=number(6),
        k=number(1, 1),
        expect="""
            sym_size_int_1 = size(x, -2)
            expand_2 = expand(q_sum_of_spreads, [sym_size_int_1, 6])
            relu = relu(expand_2)
            add = add(relu, x)
        """,
    ),
    leaves(
        "fold.spread.sum_of_spreads",
        lambda m, x: m.q.expand(4, -1) - x.expand(4, -1),
        (1, 6),
        q=number(6),
        because="one of them is computed",
    ),
]

CASES = [*BATCH_NORM, *BIAS, *SCALE, *EMBEDDING, *PAD, *MERGE, *SIBLINGS, *LAYOUT, *CROPPED, *SPREAD]
