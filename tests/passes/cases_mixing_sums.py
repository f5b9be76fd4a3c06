"""Cases of `passes/commute/concat`, `sums`, `scatter` and `gather`."""

import torch
import torch.nn.functional as F
from cases_mixing import BATCH, CLOUD, TOKENS, enlarged, pixelwise
from rule_cases import fires, leaves
from torch import nn

CONCAT = [
    fires(
        "commute.concat.conv_of_first_resized",
        lambda m, x, y, z: m.conv(torch.cat([enlarged(x), y, z], 1)),
        (2, 4, 3, 4),
        (2, 2, 6, 8),
        (2, 1, 6, 8),
        conv=pixelwise(7, 3),
        more_operators="there are fewer multiplications",
        expect="""
            conv2d_1 = conv2d(x, conv.weight_conv_of_first_resized)
            upsample_bilinear2d_1 = upsample_bilinear2d(conv2d_1, none, false, [2.0, 2.0])
            concat = concat(y, z, dim=-3)
            conv2d_2 = conv2d(concat, conv.weight_conv_of_first_resized_1, conv.bias)
            add = add(upsample_bilinear2d_1, conv2d_2)
        """,
    ),
    leaves(
        "commute.concat.conv_of_first_resized",
        lambda m, x, y: m.conv(torch.cat([enlarged(x), y], 2)),
        (2, 4, 3, 4),
        (2, 4, 6, 8),
        conv=pixelwise(4, 3),
        because="rows are put together, not channels",
    ),
    leaves(
        "commute.concat.conv_of_first_resized",
        lambda m, x, y: m.conv(torch.cat([enlarged(x), y], 1).relu()),
        (2, 4, 3, 4),
        (2, 2, 6, 8),
        conv=pixelwise(6, 3),
        because="a relu stands between",
    ),
    fires(
        "commute.concat.conv_of_last_resized",
        lambda m, x, y: m.conv(torch.cat([y, enlarged(x, "nearest")], 1)),
        (2, 4, 3, 4),
        (2, 2, 6, 8),
        conv=pixelwise(6, 3, bias=False),
        more_operators="there are fewer multiplications",
        expect="""
            concat = concat(y, dim=-3)
            conv2d_1 = conv2d(concat, conv.weight_conv_of_last_resized)
            conv2d_2 = conv2d(x, conv.weight_conv_of_last_resized_1)
            upsample_nearest2d_1 = upsample_nearest2d(conv2d_2, none, [2.0, 2.0])
            add = add(conv2d_1, upsample_nearest2d_1)
        """,
    ),
    leaves(
        "commute.concat.conv_of_last_resized",
        lambda m, x, y: m.conv(torch.cat([y, enlarged(x, "nearest")], 1)),
        (2, 4, 3, 4),
        (2, 2, 6, 8),
        conv=nn.Conv2d(6, 3, 3),
        because="the kernel sees neighbours",
    ),
    fires(
        "commute.concat.conv_of_first_spread",
        lambda m, x, y: m.conv(torch.cat([x.expand(-1, -1, 9), y], 1)),
        (2, 4, 1),
        (2, 2, 9),
        conv=nn.Conv1d(6, 3, 1),
        more_operators="there are fewer multiplications",
        expect="""
            conv1d_1 = conv1d(x, conv.weight_conv_of_first_spread)
            concat = concat(y, dim=-2)
            conv1d_2 = conv1d(concat, conv.weight_conv_of_first_spread_1, conv.bias)
            add = add(conv1d_1, conv1d_2)
        """,
    ),
    leaves(
        "commute.concat.conv_of_first_spread",
        lambda m, x, y: m.conv(torch.cat([x.expand(-1, -1, 9), y], 1)),
        (2, 4, 1),
        (2, 2, 9),
        conv=nn.Conv1d(6, 3, 2),
        because="the kernel sees neighbours",
    ),
    fires(
        "commute.concat.conv_of_last_spread",
        lambda m, x, y: m.conv(torch.cat([y, x.repeat(1, 1, 9)], 1)),
        (2, 4, 1),
        (2, 2, 9),
        conv=nn.Conv1d(6, 3, 1),
        more_operators="there are fewer multiplications",
        expect="""
            concat = concat(y, dim=-2)
            conv1d_1 = conv1d(concat, conv.weight_conv_of_last_spread, conv.bias)
            conv1d_2 = conv1d(x, conv.weight_conv_of_last_spread_1)
            add = add(conv1d_1, conv1d_2)
        """,
    ),
    leaves(
        "commute.concat.conv_of_last_spread",
        lambda m, x, y: m.conv(torch.cat([y, x.repeat(1, 1, 3)], 1)),
        (2, 4, 3),
        (2, 2, 9),
        conv=nn.Conv1d(6, 3, 1),
        because="the features differ from point to point",
    ),
    fires(
        "commute.concat.linear_of_first_spread",
        lambda m, x, y: m.fc(torch.cat([x.expand(-1, 5, -1), y], -1)),
        (2, 1, 4),
        (2, 5, 2),
        fc=nn.Linear(6, 3),
        more_operators="there are fewer multiplications",
        expect="""
            linear_1 = linear(x, fc.weight_linear_of_first_spread)
            concat = concat(y, dim=-1)
            linear_2 = linear(concat, fc.weight_linear_of_first_spread_1, fc.bias)
            add = add(linear_1, linear_2)
        """,
    ),
    leaves(
        "commute.concat.linear_of_first_spread",
        lambda m, x, y: m.fc(torch.cat([x.expand(-1, 5, -1), y], 1)),
        (2, 1, 4),
        (2, 5, 4),
        fc=nn.Linear(4, 3),
        because="tokens are put together, not features",
    ),
    fires(
        "commute.concat.linear_of_last_spread",
        lambda m, x, y: m.fc(torch.cat([y, x.expand(2, 5, 4)], -1)),
        (2, 1, 4),
        (2, 5, 2),
        fc=nn.Linear(6, 3, bias=False),
        more_operators="there are fewer multiplications",
        expect="""
            concat = concat(y, dim=-1)
            linear_1 = linear(concat, fc.weight_linear_of_last_spread)
            linear_2 = linear(x, fc.weight_linear_of_last_spread_1)
            add = add(linear_1, linear_2)
        """,
    ),
    leaves(
        "commute.concat.linear_of_last_spread",
        lambda m, x, y: m.fc(torch.cat([y, x.expand(2, 5, 4)], -1)) + m.fc(torch.cat([y, y, y], -1)),
        (2, 1, 4),
        (2, 5, 2),
        fc=nn.Linear(6, 3),
        because="two layers share the weight",
    ),
    fires(
        "commute.concat.linear_of_first_rows",
        lambda m, x, y, i, j: m.fc(torch.cat([x[i], x[j], y], -1)),
        (3, 4),
        (7, 2),
        torch.tensor([0, 2, 2, 1, 0, 1, 2]),
        torch.tensor([1, 1, 2, 0, 0, 2, 1]),
        fc=nn.Linear(10, 5),
        times=2,
        more_operators="there are fewer multiplications",
        expect="""
            linear_1 = linear(x, fc.weight_linear_of_first_rows)
            index_2 = index(linear_1, i)
            linear_3 = linear(x, fc.weight_linear_of_first_rows_1_linear_of_first_rows)
            index_3 = index(linear_3, j)
            concat_1 = concat(y, dim=-1)
            linear_4 = linear(concat_1, fc.weight_linear_of_first_rows_1_linear_of_first_rows_1, fc.bias)
            add_1 = add(index_3, linear_4)
            add = add(index_2, add_1)
        """,
    ),
    leaves(
        "commute.concat.linear_of_first_rows",
        lambda m, x, y, i: m.fc(torch.cat([x[i], y], -1)),
        (8, 4),
        (7, 2),
        torch.tensor([0, 2, 2, 1, 7, 1, 2]),
        fc=nn.Linear(6, 5),
        because="there are more nodes than edges",
    ),
    leaves(
        "commute.concat.linear_of_first_rows",
        lambda m, x, y, i: m.fc(torch.cat([x[i], y], -1)),
        (3, 4),
        (7, 2),
        torch.tensor([0, 2, 2, 1, 0, 1, 2]),
        fc=nn.Linear(6, 5),
        dynamic={"y": {0: "edges"}, "i": {0: "edges"}},
        because="the number of edges is not known",
    ),
    fires(
        "commute.concat.linear_of_last_rows",
        lambda m, x, y, i: m.fc(torch.cat([y, x[i]], -1)),
        (3, 4),
        (7, 2),
        torch.tensor([0, 2, 2, 1, 0, 1, 2]),
        fc=nn.Linear(6, 5),
        more_operators="there are fewer multiplications",
        expect="""
            concat = concat(y, dim=-1)
            linear_1 = linear(concat, fc.weight_linear_of_last_rows, fc.bias)
            linear_2 = linear(x, fc.weight_linear_of_last_rows_1)
            index_1 = index(linear_2, i)
            add = add(linear_1, index_1)
        """,
    ),
    leaves(
        "commute.concat.linear_of_last_rows",
        lambda m, x, y, i: m.fc(torch.cat([y, x[i].relu()], -1)) + x[i].sum(),
        (3, 4),
        (7, 2),
        torch.tensor([0, 2, 2, 1, 0, 1, 2]),
        fc=nn.Linear(6, 5),
        because="a relu stands between",
    ),
    fires(
        "commute.concat.linear_of_first_selected",
        lambda m, x, y: m.fc(torch.cat([x.index_select(0, m.i), y], -1)),
        (3, 4),
        (7, 2),
        fc=nn.Linear(6, 5),
        i=torch.tensor([0, 2, 2, 1, 0, 1, 2]),
        more_operators="there are fewer multiplications",
        expect="""
            linear_1 = linear(x, fc.weight_linear_of_first_selected)
            index_select_1 = index_select(linear_1, -2, i)
            concat = concat(y, dim=-1)
            linear_2 = linear(concat, fc.weight_linear_of_first_selected_1, fc.bias)
            add = add(index_select_1, linear_2)
        """,
    ),
    leaves(
        "commute.concat.linear_of_first_selected",
        lambda m, x, y: m.fc(torch.cat([x.index_select(1, m.i), y], -1)),
        (7, 2),
        (7, 2),
        fc=nn.Linear(9, 5),
        i=torch.tensor([0, 1, 1, 1, 0, 1, 0]),
        because="features are selected",
    ),
    fires(
        "commute.concat.linear_of_last_selected",
        lambda m, x, y: m.fc(torch.cat([y, x.index_select(0, m.i)], -1)),
        (3, 4),
        (7, 2),
        fc=nn.Linear(6, 5),
        i=torch.tensor([0, 2, 2, 1, 0, 1, 2]),
        more_operators="there are fewer multiplications",
        expect="""
            concat = concat(y, dim=-1)
            linear_1 = linear(concat, fc.weight_linear_of_last_selected, fc.bias)
            linear_2 = linear(x, fc.weight_linear_of_last_selected_1)
            index_select_1 = index_select(linear_2, -2, i)
            add = add(linear_1, index_select_1)
        """,
    ),
    leaves(
        "commute.concat.linear_of_last_selected",
        lambda m, x, y: m.fc(torch.cat([y, x.index_select(1, m.i)], -1)),
        (7, 2),
        (7, 2),
        fc=nn.Linear(9, 5),
        i=torch.tensor([0, 1, 1, 1, 0, 1, 0]),
        because="features are selected",
    ),
]

SUMS = [
    fires(
        "commute.sums.last_running_sum",
        lambda m, x: x.cumsum(1)[:, -1],
        (2, 5, 3),
        expect="sum_1 = sum(x, dim=[-2])",
    ),
    leaves(
        "commute.sums.last_running_sum",
        lambda m, x: x.cumsum(1)[:, -2],
        (2, 5, 3),
        because="the last one is left out",
    ),
    fires(
        "commute.sums.mean_of_linear",
        lambda m, x: m.fc(x).mean(1),
        TOKENS,
        fc=nn.Linear(4, 3),
        dynamic=BATCH,
        expect="""
            mean_1 = mean(x, dim=[-2])
            linear_1 = linear(mean_1, fc.weight, fc.bias)
        """,
    ),
    leaves(
        "commute.sums.mean_of_linear",
        lambda m, x: m.fc(x).mean(-1),
        TOKENS,
        fc=nn.Linear(4, 3),
        because="the mean is taken over features",
    ),
    fires(
        "commute.sums.sum_of_linear",
        lambda m, x: m.fc(x).sum(1, keepdim=True),
        TOKENS,
        fc=nn.Linear(4, 3),
        expect="""
            sum_2 = sum(x, dim=[-2], keepdim=true)
            linear_1 = linear(sum_2, fc.weight, fc.bias_sum_of_linear)
        """,
    ),
    fires(
        "commute.sums.sum_of_linear",
        lambda m, x: m.fc(x).sum((0, 1)),
        TOKENS,
        fc=nn.Linear(4, 3, bias=False),
        expect="""
            sum_2 = sum(x, dim=[-3, -2])
            linear_1 = linear(sum_2, fc.weight)
        """,
    ),
    fires(
        "commute.sums.sum_of_linear",
        lambda m, x: m.fc(x).sum(1),
        TOKENS,
        fc=nn.Linear(4, 3),
        dynamic={"x": {1: "length"}},
        more_operators="the bias is multiplied by a length that is known later",
        expect="""
            sym_size_int = size(x, 1)
            sum_2 = sum(x, dim=[-2])
            mul = mul(fc.bias, sym_size_int)
            linear_1 = linear(sum_2, fc.weight, mul)
        """,
    ),
    leaves(
        "commute.sums.sum_of_linear",
        lambda m, x: m.fc(x).relu().sum(1),
        TOKENS,
        fc=nn.Linear(4, 3),
        because="a relu stands between",
    ),
    fires(
        "commute.sums.sum_of_conv1d",
        lambda m, x: m.conv(x).sum(-1),
        CLOUD,
        conv=nn.Conv1d(4, 3, 1),
        expect="""
            sum_2 = sum(x, dim=[-1])
            linear = linear(sum_2, conv.weight_sum_of_conv1d, conv.bias_sum_of_conv1d)
        """,
    ),
    leaves(
        "commute.sums.sum_of_conv1d",
        lambda m, x: m.conv(x).sum(-1),
        CLOUD,
        conv=nn.Conv1d(4, 3, 2),
        because="the kernel sees neighbours",
    ),
    fires(
        "commute.sums.merge_counted",
        lambda m, x: m.out(F.linear(x.sum(1), m.fc.weight, m.fc.bias * x.shape[1])),
        TOKENS,
        fc=nn.Linear(4, 6),
        out=nn.Linear(6, 2),
        dynamic={"x": {1: "length"}},
        expect="""
            sym_size_int_1 = size(x, -2)
            sum_1 = sum(x, dim=[-2])
            mul_1 = mul(out.weight_merge_counted_1, sym_size_int_1)
            add = add(mul_1, out.bias)
            linear_2 = linear(sum_1, out.weight_merge_counted, add)
        """,
    ),
    leaves(
        "commute.sums.merge_counted",
        lambda m, x: m.out(F.linear(x.sum(1), m.fc.weight, m.fc.bias * x.shape[1])),
        TOKENS,
        fc=nn.Linear(4, 2),
        out=nn.Linear(2, 6),
        dynamic={"x": {1: "length"}},
        because="two values in between say less",
    ),
    fires(
        "commute.sums.weighed_sum_of_linear",
        lambda m, x, w: (m.fc(x) * w).sum(1),
        TOKENS,
        (2, 5, 1),
        fc=nn.Linear(4, 3),
        more_operators="weights are added up",
        expect="""
            mul_1 = mul(x, w)
            sum_2 = sum(mul_1, dim=[-2])
            linear_1 = linear(sum_2, fc.weight)
            sum_3 = sum(w, dim=[-2])
            mul_2 = mul(sum_3, fc.bias)
            add = add(linear_1, mul_2)
        """,
    ),
    fires(
        "commute.sums.weighed_sum_of_linear",
        lambda m, x, w: (m.fc(x) * w.unsqueeze(-1)).sum(1, keepdim=True),
        TOKENS,
        (2, 5),
        fc=nn.Linear(4, 3, bias=False),
        expect="""
            unsqueeze = unsqueeze(w, -1)
            mul_1 = mul(x, unsqueeze)
            sum_2 = sum(mul_1, dim=[-2], keepdim=true)
            linear_1 = linear(sum_2, fc.weight)
        """,
    ),
    leaves(
        "commute.sums.weighed_sum_of_linear",
        lambda m, x, w: (m.fc(x) * w).sum(1),
        TOKENS,
        (2, 5, 3),
        fc=nn.Linear(4, 3),
        because="every feature has a weight of its own",
    ),
    fires(
        "commute.sums.merge_weighed",
        lambda m, x, t: m.out(F.linear(x, m.fc.weight) + t * m.fc.bias),
        (2, 4),
        (2, 1),
        fc=nn.Linear(4, 6),
        out=nn.Linear(6, 2),
        expect="""
            linear_2 = linear(x, out.weight_merge_weighed, out.bias)
            mul_1 = mul(t, out.weight_merge_weighed_1)
            add_1 = add(linear_2, mul_1)
        """,
    ),
    leaves(
        "commute.sums.merge_weighed",
        lambda m, x, t: m.out((F.linear(x, m.fc.weight) + t * m.fc.bias).relu()),
        (2, 4),
        (2, 1),
        fc=nn.Linear(4, 6),
        out=nn.Linear(6, 2),
        because="a relu stands between",
    ),
]


def collected(m, x, y):
    """x with the rows of y added where the index says, as `scatter_add` takes it."""
    return x.scatter_add(0, m.i.expand(y.shape), y)


ORDER = torch.tensor([2, 0, 3, 1])
TWICE = torch.tensor([2, 0, 2, 1])
SEGMENTS = torch.tensor([0, 0, 1, 1, 2, 2])
MIXED_UP = torch.tensor([0, 1, 0, 1, 2, 2])

SCATTER = [
    fires(
        "commute.scatter.index_add_of_one_segment",
        lambda m, x, y: x.index_add(0, m.i, y),
        (1, 3),
        (6, 3),
        i=torch.zeros(6, dtype=torch.int64),
        more_operators="nothing is scattered",
        expect="""
            sum_1 = sum(y, dim=[-2], keepdim=true)
            add = add(x, sum_1)
        """,
    ),
    leaves(
        "commute.scatter.index_add_of_one_segment",
        lambda m, x, y: x.index_add(0, m.i, y),
        (2, 3),
        (6, 3),
        i=torch.zeros(6, dtype=torch.int64),
        because="there is a second segment",
    ),
    fires(
        "commute.scatter.scatter_add_of_one_segment",
        lambda m, x: x.new_zeros(1, 3).scatter_add_(0, m.i.view(-1, 1).expand_as(x), x),
        (6, 3),
        i=torch.zeros(6, dtype=torch.int64),
        more_operators="nothing is scattered",
        expect="""
            new_zeros = new_zeros(x, [1, 3])
            view = reshape(i, [6, 1])
            expand_as = expand(view, [6, 3])
            sum_1 = sum(x, dim=[-2], keepdim=true)
            add = add(new_zeros, sum_1)
        """,
    ),
    leaves(
        "commute.scatter.scatter_add_of_one_segment",
        lambda m, x, y: x.scatter_add(0, m.i.view(-1, 1).expand(5, 3), y),
        (1, 3),
        (6, 3),
        i=torch.zeros(5, dtype=torch.int64),
        because="the last row is left out",
    ),
    fires(
        "commute.scatter.index_add_of_permutation",
        lambda m, x, y: x.index_add(0, m.i, y),
        (4, 3),
        (4, 3),
        i=ORDER,
        more_operators="nothing is scattered",
        expect="""
            index_select = index_select(y, -2, i_index_add_of_permutation)
            add = add(x, index_select)
        """,
    ),
    leaves(
        "commute.scatter.index_add_of_permutation",
        lambda m, x, y: x.index_add(0, m.i, y),
        (4, 3),
        (4, 3),
        i=TWICE,
        because="a place is named twice",
    ),
    fires(
        "commute.scatter.scatter_add_of_permutation",
        collected,
        (4, 3),
        (4, 3),
        i=ORDER.view(-1, 1),
        expect="""
            index_select = index_select(y, -2, i_scatter_add_of_permutation)
            add = add(x, index_select)
        """,
    ),
    leaves(
        "commute.scatter.scatter_add_of_permutation",
        collected,
        (4, 3),
        (4, 3),
        i=TWICE.view(-1, 1),
        because="a place is named twice",
    ),
    fires(
        "commute.scatter.index_add_of_segments",
        lambda m, x, y: x.index_add(0, m.i, y),
        (3, 4),
        (6, 4),
        i=SEGMENTS,
        more_operators="nothing is scattered",
        expect="""
            reshape = reshape(y, [3, 2, 4])
            sum_1 = sum(reshape, dim=[-2])
            add = add(x, sum_1)
        """,
    ),
    leaves(
        "commute.scatter.index_add_of_segments",
        lambda m, x, y: x.index_add(0, m.i, y),
        (3, 4),
        (6, 4),
        i=MIXED_UP,
        because="segments are mixed up",
    ),
    fires(
        "commute.scatter.scatter_add_of_segments",
        collected,
        (3, 4),
        (6, 4),
        i=SEGMENTS.view(-1, 1),
        more_operators="nothing is scattered",
        expect="""
            reshape = reshape(y, [3, 2, 4])
            sum_1 = sum(reshape, dim=[-2])
            add = add(x, sum_1)
        """,
    ),
    leaves(
        "commute.scatter.scatter_add_of_segments",
        collected,
        (3, 4),
        (6, 4),
        i=MIXED_UP.view(-1, 1),
        because="segments are mixed up",
    ),
]

FEW = torch.tensor([0, 2, 2, 1, 0, 1, 2])

GATHER = [
    fires(
        "commute.gather.linear_of_rows",
        lambda m, x, i: m.fc(x[i]),
        (3, 4),
        FEW,
        fc=nn.Linear(4, 5),
        expect="""
            linear_1 = linear(x, fc.weight, fc.bias)
            index_1 = index(linear_1, i)
        """,
    ),
    leaves(
        "commute.gather.linear_of_rows",
        lambda m, x, i: m.fc(x[i]),
        (8, 4),
        FEW,
        fc=nn.Linear(4, 5),
        because="there are more nodes than edges",
    ),
    fires(
        "commute.gather.rows_of_linear",
        lambda m, x, i: m.fc(x)[i],
        (8, 4),
        FEW,
        fc=nn.Linear(4, 5),
        expect="""
            index_1 = index(x, i)
            linear_1 = linear(index_1, fc.weight, fc.bias)
        """,
    ),
    leaves(
        "commute.gather.rows_of_linear",
        lambda m, x, i: (y := m.fc(x))[i].sum() + y,
        (8, 4),
        FEW,
        fc=nn.Linear(4, 5),
        because="all nodes are read, too",
    ),
    fires(
        "commute.gather.linear_of_selected",
        lambda m, x: m.fc(x.index_select(1, m.i)),
        (2, 3, 4),
        fc=nn.Linear(4, 5),
        i=FEW,
        dynamic=BATCH,
        expect="""
            linear_1 = linear(x, fc.weight, fc.bias)
            index_select_1 = index_select(linear_1, -2, i)
        """,
    ),
    leaves(
        "commute.gather.linear_of_selected",
        lambda m, x: m.fc(x.index_select(1, m.i)),
        (2, 4),
        fc=nn.Linear(7, 5),
        i=FEW,
        because="features are selected",
    ),
    fires(
        "commute.gather.selected_of_linear",
        lambda m, x: m.fc(x).index_select(1, m.i),
        (2, 9, 4),
        fc=nn.Linear(4, 5),
        i=FEW,
        expect="""
            index_select_1 = index_select(x, -2, i)
            linear_1 = linear(index_select_1, fc.weight, fc.bias)
        """,
    ),
    leaves(
        "commute.gather.selected_of_linear",
        lambda m, x: m.fc(x).index_select(1, m.i),
        (9, 4),
        fc=nn.Linear(4, 5),
        i=FEW[:3],
        because="features are selected",
    ),
    fires(
        "commute.gather.token_of_linear",
        lambda m, x: m.fc(x).select(1, 0),
        TOKENS,
        fc=nn.Linear(4, 5),
        dynamic={"x": {0: "batch", 1: "length"}},
        expect="""
            select_1 = select(x, -2, 0)
            linear_1 = linear(select_1, fc.weight, fc.bias)
        """,
    ),
    leaves(
        "commute.gather.token_of_linear",
        lambda m, x: m.fc(x).relu().select(1, 0),
        TOKENS,
        fc=nn.Linear(4, 5),
        because="a relu stands between",
    ),
    fires(
        "commute.gather.tokens_of_linear",
        lambda m, x: m.fc(x)[..., 1:3, :],
        TOKENS,
        fc=nn.Linear(4, 5),
        expect="""
            slice_2 = slice(x, dim=-2, start=1, end=3)
            linear_1 = linear(slice_2, fc.weight, fc.bias)
        """,
    ),
    leaves(
        "commute.gather.tokens_of_linear",
        lambda m, x: m.fc(x)[..., 1:3],
        TOKENS,
        fc=nn.Linear(4, 5),
        because="features are chosen",
    ),
]

CASES = [*CONCAT, *SUMS, *SCATTER, *GATHER]
