"""Cases of `passes/cleanup`: what changes nothing goes, what only looks like it stays."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number
from torch import fx, nn
from torch.export import Dim

aten = torch.ops.aten
X = (3, 5)
IMAGE = (2, 3, 4, 6)
BATCH = {"x": {0: "batch"}}


def with_unused_product(graph: fx.Graph) -> None:
    """Add `exp(x) * x`, which nothing reads."""
    (x,) = graph.find_nodes(op="placeholder")
    with graph.inserting_before(graph.output_node()):
        graph.call_function(aten.mul.Tensor, (graph.call_function(aten.exp.default, (x,)), x))


IDENTITY = [
    fires(
        "cleanup.identity.dropout_at_inference",
        lambda m, x: m.drop(x.relu()),
        X,
        drop=nn.Dropout(0.5),
        expect="relu = relu(x)",
    ),
    fires(
        "cleanup.identity.dropout_at_inference",
        lambda m, x: F.alpha_dropout(F.dropout2d(x.relu(), training=False)),
        IMAGE,
        times=2,
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.identity.dropout_at_inference",
        lambda m, x: F.dropout(x.relu(), 0.5, training=True),
        X,
        because="this dropout is on at inference, too",
    ),
    fires(
        "cleanup.identity.native_dropout_at_inference",
        lambda m, x: aten.native_dropout(x.relu(), 0.5, False)[0],
        X,
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.identity.native_dropout_at_inference",
        lambda m, x: aten.native_dropout(x.relu(), 0.5, False)[1],
        X,
        because="the mask is asked for, not the values",
    ),
    fires(
        "cleanup.identity.contiguous",
        lambda m, x: x.relu().clone(memory_format=torch.contiguous_format),
        X,
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.identity.contiguous", lambda m, x: x.relu().detach(), X, because="detach is another operator"
    ),
    fires("cleanup.identity.detach", lambda m, x: x.relu().detach(), X, expect="relu = relu(x)"),
    leaves("cleanup.identity.detach", lambda m, x: x.relu().clone(), X, because="clone is another operator"),
    fires("cleanup.identity.add_zero", lambda m, x: 0 + x.relu() + 0.0, X, times=2, expect="relu = relu(x)"),
    leaves(
        "cleanup.identity.add_zero",
        lambda m, x: x.long() + 0.0,
        X,
        because="the sum has another element type",
    ),
    leaves("cleanup.identity.add_zero", lambda m, x: x + 1e-30, X, because="small is not zero"),
    fires("cleanup.identity.subtract_zero", lambda m, x: x.relu() - 0, X, expect="relu = relu(x)"),
    leaves(
        "cleanup.identity.subtract_zero", lambda m, x: 0 - x, X, because="zero is what is subtracted from"
    ),
    fires("cleanup.identity.multiply_by_one", lambda m, x: 1.0 * x.relu(), X, expect="relu = relu(x)"),
    leaves(
        "cleanup.identity.multiply_by_one",
        lambda m, x: (x > 0) * 1,
        X,
        because="a truth value becomes a number",
    ),
    fires("cleanup.identity.divide_by_one", lambda m, x: x.relu() / 1, X, expect="relu = relu(x)"),
    leaves("cleanup.identity.divide_by_one", lambda m, x: x / 1.5, X, because="it is another number"),
    leaves(
        "cleanup.identity.divide_by_one",
        lambda m, x: x.long() / 1,
        X,
        because="the quotient of integers is none",
    ),
    fires("cleanup.identity.first_power", lambda m, x: x.relu() ** 1, X, expect="relu = relu(x)"),
    leaves("cleanup.identity.first_power", lambda m, x: 1**x, X, because="one is the base"),
    fires("cleanup.identity.double_negation", lambda m, x: x.relu().neg().neg(), X, expect="relu = relu(x)"),
    fires("cleanup.identity.double_negation", lambda m, x: ~(~(x > 0)), X, expect="gt = gt(x, 0)"),
    leaves(
        "cleanup.identity.double_negation", lambda m, x: -(-x).relu(), X, because="something stands between"
    ),
    leaves(
        "cleanup.identity.double_negation",
        lambda m, x: torch.logical_not(torch.logical_not(x)),
        X,
        because="numbers would not become truth values any more",
    ),
    leaves(
        "cleanup.identity.double_negation",
        lambda m, x: (-(y := -x), y),
        X,
        because="the first negation is an output as well",
    ),
    fires(
        "cleanup.identity.double_relu",
        lambda m, x: x.relu().relu().relu(),
        X,
        times=2,
        expect="relu_4 = relu(x)",
    ),
    leaves(
        "cleanup.identity.double_relu", lambda m, x: (-x.relu()).relu(), X, because="a sign stands between"
    ),
    fires(
        "cleanup.identity.idempotent",
        lambda m, x: F.relu6(F.relu6(4 * x)).round().round(),
        X,
        times=2,
        expect="""
            mul = mul(x, 4)
            relu6_2 = relu6(mul)
            round_3 = round(relu6_2)
        """,
    ),
    leaves(
        "cleanup.identity.idempotent", lambda m, x: (5 * x).floor().ceil().abs(), X, because="they differ"
    ),
    fires(
        "cleanup.identity.relu_of_nonnegative",
        lambda m, x: x.softmax(-1).relu(),
        X,
        expect="softmax_1 = softmax(x, -1)",
    ),
    leaves(
        "cleanup.identity.relu_of_nonnegative",
        lambda m, x: x.sigmoid().log().relu(),
        X,
        because="a log is negative",
    ),
]

ARITHMETIC = [
    fires("cleanup.arithmetic.multiply_by_minus_one", lambda m, x: -1.0 * x, X, expect="neg = neg(x)"),
    leaves(
        "cleanup.arithmetic.multiply_by_minus_one",
        lambda m, x: (x > 0) * -1,
        X,
        because="a truth value has no sign",
    ),
    fires("cleanup.arithmetic.add_negation", lambda m, x, y: -x + y, X, X, expect="sub = sub(y, x)"),
    leaves(
        "cleanup.arithmetic.add_negation",
        lambda m, x, y: -x * y + y,
        X,
        X,
        because="a product stands between",
    ),
    leaves(
        "cleanup.arithmetic.add_negation",
        lambda m, x, y: ((z := -x) + y, z),
        X,
        X,
        because="the negative is an output as well",
    ),
    fires("cleanup.arithmetic.subtract_negation", lambda m, x, y: x - -y, X, X, expect="add = add(x, y)"),
    leaves(
        "cleanup.arithmetic.subtract_negation",
        lambda m, x, y: -x - y,
        X,
        X,
        because="the other one is negative",
    ),
    fires("cleanup.arithmetic.negation_of_scaled", lambda m, x: -(x * 3), X, expect="mul_1 = mul(x, -3)"),
    leaves(
        "cleanup.arithmetic.negation_of_scaled",
        lambda m, x: -(x * x.sum()),
        X,
        because="the factor is computed",
    ),
    fires("cleanup.arithmetic.scaled_negation", lambda m, x: -x * 3, X, expect="mul_1 = mul(x, -3)"),
    leaves(
        "cleanup.arithmetic.scaled_negation", lambda m, x: -x * x.sum(), X, because="the factor is computed"
    ),
    fires("cleanup.arithmetic.double_scale", lambda m, x: x * 0.5 * 3, X, expect="mul_2 = mul(x, 1.5)"),
    fires(
        "cleanup.arithmetic.double_scale",
        lambda m, x: x * m.a * m.b,
        X,
        a=number(5),
        b=number(5),
        expect="mul_2 = mul(x, a_double_scale)",
    ),
    leaves(
        "cleanup.arithmetic.double_scale", lambda m, x: x * x.sum() * 3, X, because="one factor is computed"
    ),
    leaves(
        "cleanup.arithmetic.double_scale",
        lambda m, x: x * m.a * m.b,
        X,
        a=number(5),
        b=number(3, 1),
        because="the product of the constants is larger than both",
    ),
    fires("cleanup.arithmetic.double_shift", lambda m, x: x + 0.5 + 3, X, expect="add_2 = add(x, 3.5)"),
    leaves(
        "cleanup.arithmetic.double_shift",
        lambda m, x: (x + 0.5) * 2 + 3,
        X,
        because="a factor stands between",
    ),
    leaves(
        "cleanup.arithmetic.double_shift",
        lambda m, x: ((y := x + 0.5) + 3, y),
        X,
        because="the first sum is an output as well",
    ),
    fires(
        "cleanup.arithmetic.log_of_softmax",
        lambda m, x: x.softmax(0).log(),
        X,
        expect="log_softmax = log_softmax(x, -2)",
    ),
    leaves(
        "cleanup.arithmetic.log_of_softmax",
        lambda m, x: (x.softmax(0) + 1e-9).log(),
        X,
        because="a guard against zero stands between",
    ),
    fires(
        "cleanup.arithmetic.expand_left",
        lambda m, x, y: x.expand(3, 5) - y,
        (3, 1),
        X,
        expect="sub_1 = sub(x, y)",
    ),
    leaves(
        "cleanup.arithmetic.expand_left",
        lambda m, x, y: x.expand(3, 5) - y,
        (3, 1),
        (1,),
        because="nothing else says that there are five columns",
    ),
    leaves(
        "cleanup.arithmetic.expand_left",
        lambda m, x, y: y - x.expand(3, 5),
        (3, 1),
        X,
        because="sub does not commute, though add does",
    ),
    fires(
        "cleanup.arithmetic.expand_right",
        lambda m, x, y: x / 2 - y.expand_as(x),
        X,
        (1, 5),
        expect="""
            div = div(x, 2)
            sub_1 = sub(div, y)
        """,
    ),
    fires(
        "cleanup.arithmetic.expand_right",
        lambda m, x: F.normalize(x, dim=1),
        X,
        expect="""
            linalg_vector_norm = norm(x, dim=[-1], keepdim=true)
            clamp_min = clamp(linalg_vector_norm, min=1e-12)
            div_1 = div(x, clamp_min)
        """,
    ),
    leaves(
        "cleanup.arithmetic.expand_right",
        lambda m, x, y: x - y.expand(3, 5),
        (1, 5),
        (5,),
        because="nothing else says that there are three rows",
    ),
]

MOVEMENT = [
    fires(
        "cleanup.movement.double_permute",
        lambda m, x: x.permute(1, 2, 3, 0).transpose(0, 1),
        IMAGE,
        expect="permute_1 = permute(x, [2, 1, 3, 0])",
    ),
    leaves(
        "cleanup.movement.double_permute",
        lambda m, x: x.transpose(1, 2).flatten(2).transpose(1, 2),
        IMAGE,
        because="a reshape stands between",
    ),
    fires(
        "cleanup.movement.identity_permute",
        lambda m, x: x.relu().permute(0, 1, 2, 3),
        IMAGE,
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.movement.identity_permute",
        lambda m, x: x.transpose(2, 3),
        (2, 3, 4, 4),
        because="equal sizes are not equal axes",
    ),
    fires(
        "cleanup.movement.double_reshape",
        lambda m, x: x.flatten(1).unsqueeze(2).view(x.shape[0], -1, 3),
        IMAGE,
        dynamic=BATCH,
        times=2,
        expect="""
            sym_size_int_1 = size(x, -4)
            reshape_1 = reshape(x, [sym_size_int_1, 24, 3])
        """,
    ),
    leaves(
        "cleanup.movement.double_reshape",
        lambda m, x: x.flatten(2).transpose(1, 2).reshape(2, -1),
        IMAGE,
        because="the order changes between the two",
    ),
    leaves(
        "cleanup.movement.double_reshape",
        lambda m, x: ((y := x.flatten(1)), y.view(2, 3, -1)),
        IMAGE,
        because="the first reshape is an output as well",
    ),
    fires(
        "cleanup.movement.identity_reshape",
        lambda m, x: x.relu().view(x.shape),
        IMAGE,
        dynamic=BATCH,
        expect="""
            sym_size_int_1 = size(x, -4)
            relu = relu(x)
        """,
    ),
    leaves(
        "cleanup.movement.identity_reshape",
        lambda m, x: x.relu().view(5, 3),
        X,
        because="the shape is another one",
    ),
    fires(
        "cleanup.movement.identity_expand",
        lambda m, x: x.relu().expand(-1, 5),
        X,
        dynamic=BATCH,
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.movement.identity_expand",
        lambda m, x: x.relu().expand(2, 3, 5),
        X,
        because="there is a new axis",
    ),
    fires(
        "cleanup.movement.identity_slice",
        lambda m, x: x.relu()[:, 0:99],
        X,
        dynamic=BATCH,
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.movement.identity_slice",
        lambda m, x: x.relu()[:, :-1],
        X,
        because="the last column is left out",
    ),
    fires(
        "cleanup.movement.squeeze_of_unsqueeze",
        lambda m, x: x.unsqueeze(1).squeeze(1),
        X,
        expect="return (x)",
    ),
    leaves(
        "cleanup.movement.squeeze_of_unsqueeze",
        lambda m, x: x.unsqueeze(0).squeeze(1),
        (3, 1),
        because="it is not the new axis that goes",
    ),
    fires(
        "cleanup.movement.unsqueeze_of_squeeze",
        lambda m, x: x.relu().squeeze(1).unsqueeze(1),
        (3, 1, 5),
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.movement.unsqueeze_of_squeeze",
        lambda m, x: x.squeeze(1).unsqueeze(1),
        (3, 2, 5),
        because="the axis of size 2 stays, and a new one comes",
    ),
    fires("cleanup.movement.identity_squeeze", lambda m, x: x.relu().squeeze(1), X, expect="relu = relu(x)"),
    leaves(
        "cleanup.movement.identity_squeeze", lambda m, x: x.relu().squeeze(1), (3, 1), because="the axis goes"
    ),
    fires(
        "cleanup.movement.identity_pad",
        lambda m, x: F.pad(x.relu(), (0, 0, 0, 0)),
        X,
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.movement.identity_pad",
        lambda m, x: F.pad(x, (1, -1)),
        X,
        because="the shape is the same, the values are shifted",
    ),
    fires(
        "cleanup.movement.repeat_of_one",
        lambda m, x: x[None].repeat(3, 1, 1).relu(),
        X,
        expect="""
            unsqueeze = unsqueeze(x, -3)
            expand = expand(unsqueeze, [3, 3, 5])
            relu = relu(expand)
        """,
    ),
    leaves(
        "cleanup.movement.repeat_of_one",
        lambda m, x: x.repeat(3, 1).relu(),
        X,
        because="there are several rows",
    ),
    fires("cleanup.movement.identity_repeat", lambda m, x: x.relu().repeat(1, 1), X, expect="relu = relu(x)"),
    leaves(
        "cleanup.movement.identity_repeat",
        lambda m, x: x.repeat(x.shape[0] // 3, 1),
        (4, 5),
        dynamic={"x": {0: Dim("batch", min=3)}},
        because="one copy is what the example takes, other batches take more",
    ),
    leaves(
        "cleanup.movement.identity_repeat", lambda m, x: x.repeat(1, 1, 1), X, because="there is a new axis"
    ),
    fires("cleanup.movement.double_flip", lambda m, x: x.relu().flip(1).flip(-1), X, expect="relu = relu(x)"),
    leaves(
        "cleanup.movement.double_flip", lambda m, x: x.flip(0).flip(1), X, because="another axis is mirrored"
    ),
    fires(
        "cleanup.movement.double_slice",
        lambda m, x: x[1:7][2:4],
        (9, 2),
        expect="slice_3 = slice(x, dim=-2, start=3, end=5)",
    ),
    leaves(
        "cleanup.movement.double_slice",
        lambda m, x: x[1:7:2][1:2],
        (9, 2),
        because="the first one has a step",
    ),
    leaves("cleanup.movement.double_slice", lambda m, x: x[1:7][:, 0:1], (9, 2), because="the axes differ"),
    fires(
        "cleanup.movement.concat_of_one",
        lambda m, x: torch.cat([x.relu()], dim=1),
        X,
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.movement.concat_of_one", lambda m, x: torch.cat([x, x], dim=1), X, because="there are two"
    ),
    fires(
        "cleanup.movement.concat_of_split",
        lambda m, x: torch.cat(x.relu().split([2, 3], 1), 1),
        X,
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.movement.concat_of_split",
        lambda m, x: torch.cat(x.split([2, 3], 1)[::-1], 1),
        X,
        because="the pieces change places",
    ),
    leaves(
        "cleanup.movement.concat_of_split",
        lambda m, x: torch.cat(x.split([2, 2], 1), 0),
        (3, 4),
        because="the axes differ",
    ),
    fires(
        "cleanup.movement.split_of_concat",
        lambda m, x, y: tuple(p.relu() for p in torch.cat([x, y], 1).split([2, 5], 1)),
        (3, 2),
        X,
        expect="""
            relu = relu(x)
            relu_1 = relu(y)
        """,
    ),
    leaves(
        "cleanup.movement.split_of_concat",
        lambda m, x, y: torch.cat([x, y], 1).split([5, 2], 1),
        (3, 2),
        X,
        because="it is cut in another place",
    ),
    fires("cleanup.movement.identity_cast", lambda m, x: x.relu().double(), X, expect="relu = relu(x)"),
    leaves("cleanup.movement.identity_cast", lambda m, x: x.relu().float(), X, because="precision is lost"),
    fires(
        "cleanup.movement.double_cast",
        lambda m, x: x.half().float().double(),
        X,
        expect="""
            to = cast(x, f16)
            cast = cast(to, f64)
        """,
    ),
    leaves(
        "cleanup.movement.double_cast",
        lambda m, x: x.half().double(),
        X,
        because="the first cast loses precision",
    ),
    leaves(
        "cleanup.movement.double_cast",
        lambda m, x: (9 * x).long().float().double(),
        X,
        because="long to float loses",
    ),
    fires(
        "cleanup.movement.split_of_first_part",
        lambda m, x: [(y := x.split([5, 2], 1))[1].relu(), *y[0].split([2, 3], 1)],
        (3, 7),
        expect="""
            split = split(x, [2, 3, 2], dim=-1)
            getitem_4 = split[0]
            getitem_5 = split[1]
            getitem_6 = split[2]
            relu = relu(getitem_6)
        """,
    ),
    leaves(
        "cleanup.movement.split_of_first_part",
        lambda m, x: [(y := x.split([5, 2], 1))[1].relu(), y[0].sum(), *y[0].split([2, 3], 1)],
        (3, 7),
        because="the first part is used as a whole, too",
    ),
    fires(
        "cleanup.movement.split_of_last_part",
        lambda m, x: [(y := x.split([2, 5], 1))[0].relu(), *y[1].split([2, 3], 1)],
        (3, 7),
        expect="""
            split = split(x, [2, 2, 3], dim=-1)
            getitem_4 = split[0]
            getitem_5 = split[1]
            getitem_6 = split[2]
            relu = relu(getitem_4)
        """,
    ),
    leaves(
        "cleanup.movement.split_of_last_part",
        lambda m, x: [(y := x.split([2, 4], 1))[0].relu(), *y[1].split([1, 2], 0)],
        (3, 6),
        because="the axes differ",
    ),
]

POOLING = [
    fires(
        "cleanup.pooling.max_pool_of_one",
        lambda m, x: F.max_pool2d(x.relu(), 1),
        IMAGE,
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.pooling.max_pool_of_one",
        lambda m, x: F.max_pool2d(x, 1, 2),
        IMAGE,
        because="it takes every second",
    ),
    fires(
        "cleanup.pooling.avg_pool1d_of_one",
        lambda m, x: F.avg_pool1d(x.relu(), 1),
        (2, 3, 5),
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.pooling.avg_pool1d_of_one",
        lambda m, x: F.avg_pool1d(x, 1, 2),
        (2, 3, 5),
        because="a stride of 2",
    ),
    fires(
        "cleanup.pooling.avg_pool_of_one",
        lambda m, x: F.avg_pool2d(x.relu(), 1),
        IMAGE,
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.pooling.avg_pool_of_one",
        lambda m, x: F.avg_pool2d(x, 1, divisor_override=2),
        IMAGE,
        because="it divides by two all the same",
    ),
    fires(
        "cleanup.pooling.identity_adaptive_pool",
        lambda m, x: F.adaptive_avg_pool2d(x.relu(), (4, 6)),
        IMAGE,
        expect="relu = relu(x)",
    ),
    leaves(
        "cleanup.pooling.identity_adaptive_pool",
        lambda m, x: F.adaptive_avg_pool2d(x, (4, 5)),
        IMAGE,
        because="the width changes",
    ),
]

PASSES = [
    fires(
        "cleanup.fold_constants",
        lambda m, x: x @ (m.a * m.b + 1).T,
        X,
        a=number(4, 5),
        b=number(5),
        times=3,
        expect="matmul = matmul(x, a_folded_1_folded)",
    ),
    fires(
        "cleanup.fold_constants",
        lambda m, x: F.conv2d(x, m.w, m.b.repeat_interleave(8)),
        (1, 3, 4, 4),
        w=number(40, 3, 1, 1),
        b=number(5),
        expect="conv2d = conv2d(x, w, b_folded)",
        more_bytes="a vector that its layer takes in",
    ),
    leaves(
        "cleanup.fold_constants",
        lambda m, x: x * m.a.repeat_interleave(1000),
        (5000,),
        a=number(5),
        because="the vector is larger than the scales and shifts of layers",
    ),
    leaves(
        "cleanup.fold_constants",
        lambda m, x: x * m.a.expand(300, 5),
        (300, 5),
        a=number(5),
        because="the result is larger than what it is made of",
    ),
    fires(
        "cleanup.fold_constants",
        lambda m, x: [F.linear(x, w) for w in m.a.split([1, 3])],
        X,
        a=number(4, 5),
        times=2,
        expect="""
            linear = linear(x, a_folded)
            linear_1 = linear(x, a_folded_1)
        """,
    ),
    leaves(
        "cleanup.fold_constants",
        lambda m, x: [F.linear(x, w) for w in (*m.a.split([1, 3]), m.a)],
        X,
        a=number(4, 5),
        because="the weight is read as a whole, too: it would be stored twice",
    ),
    leaves(
        "cleanup.fold_constants",
        lambda m, x: F.dropout(m.a, 0.5, True) + x,
        X,
        a=number(5),
        because="it is random",
    ),
    fires(
        "cleanup.common_subexpressions",
        lambda m, x: x.exp().sum(1) + x.exp().sum(1),
        X,
        times=2,
        expect="""
            exp = exp(x)
            sum_1 = sum(exp, dim=[-1])
            add = add(sum_1, sum_1)
        """,
    ),
    leaves(
        "cleanup.common_subexpressions",
        lambda m, x: x.sum(0).sum() + x.sum(1).sum(),
        X,
        because="the axes differ",
    ),
    leaves(
        "cleanup.common_subexpressions",
        lambda m, x: x * 1 + x * 1.0 * (x * True),
        X,
        because="1, 1.0, true differ",
    ),
    fires(
        "cleanup.dead_code",
        lambda m, x: x.relu(),
        X,
        prepare=with_unused_product,
        times=2,
        expect="relu = relu(x)",
    ),
    leaves("cleanup.dead_code", lambda m, x: x.relu(), X, because="everything is used"),
]

ZEROS = [
    fires(
        "cleanup.zeros.zero_linear",
        lambda m, x: (F.linear(F.linear(x, m.w, m.b), m.v), x.exp()),
        (4, 6),
        w=torch.zeros(5, 6, dtype=torch.float64),
        b=number(5),
        v=number(3, 5),
        dynamic=BATCH,
        more_operators="the batch has to be asked for its size",
        expect="""
            sym_size_int = size(x, 0)
            expand = expand(b, [sym_size_int, 5])
            linear_1 = linear(expand, v)
            exp = exp(x)
        """,
    ),
    leaves(
        "cleanup.zeros.zero_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        (4, 6),
        w=torch.eye(3, 6, dtype=torch.float64),
        b=number(3),
        because="one entry is no zero",
    ),
    fires(
        "cleanup.zeros.zero_linear",
        lambda m, x: (F.linear(x, m.w, m.b), x.exp()),
        (40, 6),
        w=torch.zeros(3, 6, dtype=torch.float64),
        b=number(3),
        expect="""
            expand = expand(b, [40, 3])
            exp = exp(x)
        """,
    ),
]

CASES = [*ZEROS, *IDENTITY, *ARITHMETIC, *MOVEMENT, *POOLING, *PASSES]
