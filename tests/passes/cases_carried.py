"""Cases of `commute.carried`, and of the rules about heads, tables and pieces that meet what it carries."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number
from torch import Tensor, nn
from torch.export import Dim

TOKENS = (2, 5, 8)
ORDER = torch.tensor([3, 0, 4, 1, 2])
OTHER = torch.tensor([1, 0, 2, 4, 3])
ROWS = torch.tensor([4, 6, 0, 3, 1, 5, 2])
FEATURES = torch.tensor([3, 0, 7, 1, 2, 6, 5, 4])
PAIRS = torch.tensor([3, 2, 0, 1, 4, 5])
SOME = torch.tensor([3, 0, 3, 1, 2])
BATCH = Dim("batch")
IDS = torch.tensor([[1, 6, 0], [2, 5, 3]])
TURN = torch.linalg.qr(number(8, 8)).Q
SMALL = torch.linalg.qr(number(4, 4)).Q
EDGES = torch.tensor([0, 2, 1, 1, 0])


def heads(x: Tensor) -> Tensor:
    """Tokens [b, t, 8] as two heads [b, t, 2, 4]."""
    return x.reshape(*x.shape[:-1], 2, 4)


def attention(x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """Tokens that read others."""
    return F.scaled_dot_product_attention(x, y, y, attn_mask=mask)


def readout(x: Tensor) -> Tensor:
    """What the first token reads from all of them."""
    return attention(x, x)[:, 0]


CASES = [
    leaves(
        "commute.carried",
        lambda m, x, y: torch.cat([x * m.s, y.expand(2, 3, 8)], 1),
        TOKENS,
        (2, 3, 1),
        s=number(8),
        because="what is the same for all features has no factors to take out",
    ),
    fires(
        "commute.carried",
        lambda m, x, y: torch.stack([x.index_select(2, m.i), y.expand(2, 5, 8)], 1),
        TOKENS,
        (2, 5, 1),
        i=FEATURES,
        expect="""
            expand = expand(y, [2, 5, 8])
            stack_1 = stack(x, expand, dim=-3)
            index_select_1 = index_select(stack_1, -1, i)
        """,
    ),
    fires(
        "commute.carried",
        lambda m, x: m.c(x.index_select(1, m.i)),
        (2, 6, 5),
        c=nn.Conv1d(6, 9, 3, groups=3),
        i=PAIRS,
        expect="""
            conv1d_1 = conv1d(x, c.weight_carried, c.bias_carried, groups=3)
            index_select_1 = index_select(conv1d_1, -2, places)
        """,
        more_bytes="an order of nine channels is stored in the place of one of six",
    ),
    fires(
        "commute.carried",
        lambda m, x: m.c(x.index_select(1, m.i)),
        (2, 6, 5),
        c=nn.Conv1d(6, 9, 3, groups=3),
        i=torch.tensor([1, 0, 2, 3, 5, 4]),
        expect="conv1d_1 = conv1d(x, c.weight_carried, c.bias_carried, groups=3)",
    ),
    fires(
        "commute.carried",
        lambda m, x: m.c(F.channel_shuffle(x, 2)),
        (2, 6, 5, 5),
        c=nn.Conv2d(6, 12, 3, groups=6),
        expect="""
            conv2d_1 = conv2d(x, c.weight_carried, c.bias_carried, groups=6)
            index_select = index_select(conv2d_1, -3, places)
        """,
        more_bytes="the order of two channels for each one is no shuffle",
    ),
    fires(
        "commute.carried",
        lambda m, x: m.c(x.flip(1)),
        (2, 6, 4, 4),
        c=nn.ConvTranspose2d(6, 6, 2, groups=2),
        expect="""
            conv_transpose2d_1 = conv_transpose2d(x, c.weight_carried, c.bias_carried, groups=2)
            roll = roll(conv_transpose2d_1, [3], dims=[-3])
        """,
    ),
    leaves(
        "commute.carried",
        lambda m, x: m.c(x.roll(1, 1)),
        (2, 6, 5),
        c=nn.Conv1d(6, 9, 3, groups=3),
        because="no group stays together",
    ),
    leaves(
        "commute.carried",
        lambda m, x: (m.c(x.flip(1)), m.c(x)),
        (2, 6, 5),
        c=nn.Conv1d(6, 9, 3, groups=3),
        because="the weight is read as it is, too",
    ),
    fires(
        "commute.carried",
        lambda m, x: F.rms_norm(x.index_select(2, m.p), (8,), m.w),
        TOKENS,
        p=FEATURES,
        w=number(8),
        expect="""
            rms_norm_1 = rms_norm(x, [8], w_carried)
            index_select_1 = index_select(rms_norm_1, -1, p)
        """,
    ),
    leaves(
        "commute.carried",
        lambda m, x: m.lstm(x.index_select(0, m.i))[0],
        (5, 3, 8),
        lstm=nn.LSTM(8, 3),
        i=ORDER,
        because="steps follow one another",
    ),
    fires(
        "commute.carried",
        lambda m, x, y: attention(x.index_select(1, m.i), y.index_select(1, m.i), m.mask),
        TOKENS,
        TOKENS,
        i=ORDER,
        mask=number(5, 5),
        dynamic={"x": {0: BATCH}, "y": {0: BATCH}},
        expect="""
            attention = attention(x, y, y, mask_carried)
            index_select_2 = index_select(attention, -2, i)
        """,
    ),
    leaves(
        "commute.carried",
        lambda m, x, y: F.scaled_dot_product_attention(
            x.index_select(1, m.i), y.index_select(1, m.i), y.index_select(1, m.i), is_causal=True
        ),
        TOKENS,
        TOKENS,
        i=ORDER,
        because="later tokens see more",
    ),
    leaves(
        "commute.carried",
        lambda m, x, y: F.scaled_dot_product_attention(x, y.index_select(1, m.i), y.index_select(1, m.j)),
        TOKENS,
        TOKENS,
        i=ORDER,
        j=OTHER,
        because="values belong to other keys",
    ),
    fires(
        "commute.carried",
        lambda m, x, k: (x.index_select(1, m.i) * k.index_select(1, m.i).unsqueeze(-1)).sum(1),
        TOKENS,
        (2, 5),
        i=ORDER,
        times=3,
        expect="""
            unsqueeze_1 = unsqueeze(k, -1)
            mul_1 = mul(x, unsqueeze_1)
            sum_2 = sum(mul_1, dim=[-2])
        """,
    ),
    fires(
        "commute.carried",
        lambda m, x: readout(torch.cat([m.cls.expand(2, 1, 8), x.index_select(1, m.i)], 1)),
        TOKENS,
        i=ORDER,
        cls=number(1, 1, 8),
        times=3,
        expect="""
            expand = expand(cls, [2, 1, 8])
            concat = concat(expand, x, dim=-2)
            attention = attention(concat, concat, concat)
            select_1 = select(attention, -2, 0)
        """,
    ),
    leaves(
        "commute.carried",
        lambda m, x: x.index_select(1, m.i).unsqueeze(-1)[:, :2].cumsum(1),
        TOKENS,
        i=SOME,
        because="a token is left out",
    ),
    fires(
        "commute.carried",
        lambda m, x: x @ m.q + m.layer(x).relu() @ m.q,
        TOKENS,
        q=TURN,
        layer=nn.Linear(8, 8),
        expect="""
            linear = linear(x, layer.weight, layer.bias)
            relu = relu(linear)
            add_1 = add(x, relu)
            matmul_2 = matmul(add_1, q)
        """,
    ),
    fires(
        "commute.carried",
        lambda m, x: x.index_select(2, m.p) + m.layer(x).relu(),
        TOKENS,
        p=FEATURES,
        layer=nn.Linear(8, 8),
        expect="""
            linear_1 = linear(x, layer.weight_carried, layer.bias_carried)
            relu_1 = relu(linear_1)
            add_1 = add(x, relu_1)
            index_select_1 = index_select(add_1, -1, p)
        """,
    ),
    leaves(
        "commute.carried",
        lambda m, x: x.index_select(2, m.p) + m.layer(x).tanh().softmax(-1),
        TOKENS,
        p=FEATURES,
        layer=nn.Linear(8, 8),
        because="all elements are looked at together in between",
    ),
    leaves(
        "commute.carried",
        lambda m, x: (x @ m.q).relu(),
        TOKENS,
        q=TURN,
        because="a matrix does not pass single elements",
    ),
    leaves(
        "commute.carried",
        lambda m, x: F.rms_norm(x @ m.q, (8,)),
        TOKENS,
        q=number(8, 8),
        because="lengths change",
    ),
    fires(
        "commute.carried",
        lambda m, x, y: F.scaled_dot_product_attention(x * m.a, y / m.a, y),
        TOKENS,
        TOKENS,
        a=number(8).abs(),
        expect="attention = attention(x, y, y)",
    ),
    leaves(
        "commute.carried",
        lambda m, x: (x * -2).relu(),
        TOKENS,
        because="the negative part is another",
    ),
    leaves(
        "commute.carried",
        lambda m, x: x.index_select(2, m.p) + m.layer(x) + m.layer(x.relu()),
        TOKENS,
        p=FEATURES,
        layer=nn.Linear(8, 8),
        because="the layer is called twice",
    ),
    leaves(
        "commute.carried",
        lambda m, x: (x.index_select(1, m.i) + x.roll(1, 0)).cumsum(1),
        TOKENS,
        i=ORDER,
        dynamic={"x": {0: BATCH}},
        because="how many sequences there are is not known",
    ),
    leaves(
        "commute.carried",
        lambda m, x: torch.cat([x[:, 5:].flip(1), x], 1),
        TOKENS,
        because="nothing is flipped",
    ),
    leaves(
        "commute.carried",
        lambda m, x: torch.cat([x.flip(1)[:, 5:], x], 1),
        TOKENS,
        because="nothing is left of what is flipped",
    ),
    fires(
        "layout.index.fourth_index",
        lambda m, x: x[:, :, :, m.i],
        (2, 2, 2, 5),
        i=ORDER,
        expect="index_select = index_select(x, -1, i)",
    ),
    leaves(
        "layout.index.fourth_index",
        lambda m, x: x[:, :, :, m.i],
        (2, 2, 2, 5),
        i=ORDER - 5,
        because="places are counted from the end",
    ),
    fires(
        "layout.index.fifth_index",
        lambda m, x: x[:, :, :, :, m.i],
        (2, 2, 2, 2, 5),
        i=ORDER,
        expect="index_select = index_select(x, -1, i)",
    ),
    leaves(
        "layout.index.fifth_index",
        lambda m, x: x[:, :, :, :, m.i],
        (2, 2, 2, 2, 5),
        i=ORDER - 5,
        because="places are counted from the end",
    ),
    fires(
        "commute.heads.factor_of_heads",
        lambda m, x: heads(m.layer(x)) * m.a,
        TOKENS,
        layer=nn.Linear(8, 8),
        a=number(2, 1),
        expect="""
            linear_1 = linear(x, layer.weight_factor_of_heads, layer.bias_factor_of_heads)
            reshape_1 = reshape(linear_1, [2, 5, 2, 4])
        """,
    ),
    leaves(
        "commute.heads.factor_of_heads",
        lambda m, x: heads(m.layer(x)) * m.a,
        TOKENS,
        layer=nn.Linear(8, 8),
        a=number(5, 1, 1),
        because="there is a factor for each token",
    ),
    fires(
        "commute.heads.factor_of_permuted_heads",
        lambda m, x: heads(m.layer(x)).transpose(1, 2) / m.a,
        TOKENS,
        layer=nn.Linear(8, 8),
        a=number(1, 2, 1, 4),
        expect="""
            linear_1 = linear(x, layer.weight_factor_of_permuted_heads, layer.bias_factor_of_permuted_heads)
            reshape_1 = reshape(linear_1, [2, 5, 2, 4])
            permute = permute(reshape_1, [0, 2, 1, 3])
        """,
    ),
    leaves(
        "commute.heads.factor_of_permuted_heads",
        lambda m, x: heads(m.layer(x)).transpose(1, 2) / m.a,
        TOKENS,
        layer=nn.Linear(8, 8),
        a=number(5, 1),
        because="there is a factor for each token",
    ),
    fires(
        "commute.heads.linear_of_heads",
        lambda m, x: m.second(heads(m.layer(x))),
        TOKENS,
        layer=nn.Linear(8, 8),
        second=nn.Linear(4, 3),
        expect="""
            linear_2 = linear(x, second.weight_linear_of_heads, layer.bias_linear_of_heads)
            reshape_1 = reshape(linear_2, [2, 5, 2, 3])
        """,
    ),
    leaves(
        "commute.heads.linear_of_heads",
        lambda m, x: m.second(heads(m.layer(x))),
        TOKENS,
        layer=nn.Linear(8, 8),
        second=nn.Linear(4, 9),
        because="heads become wider",
    ),
    fires(
        "commute.heads.linear_of_permuted_heads",
        lambda m, x: F.linear(heads(m.layer(x)).transpose(1, 2), m.q),
        TOKENS,
        layer=nn.Linear(8, 8),
        q=SMALL,
        expect="""
            linear_2 = linear(x, layer.weight_linear_of_permuted_heads, layer.bias_linear_of_permuted_heads)
            reshape_1 = reshape(linear_2, [2, 5, 2, 4])
            permute = permute(reshape_1, [0, 2, 1, 3])
        """,
    ),
    leaves(
        "commute.heads.linear_of_permuted_heads",
        lambda m, x: F.linear(heads(m.layer(x)).transpose(2, 3), m.q),
        TOKENS,
        layer=nn.Linear(8, 8),
        q=number(2, 2),
        because="elements of different heads are mixed",
    ),
    fires(
        "commute.heads.linear_of_attention",
        lambda m, x, y: F.linear(attention(x, y), m.w),
        TOKENS,
        TOKENS,
        w=number(8, 8),
        expect="""
            linear_1 = linear(y, w)
            attention = attention(x, y, linear_1)
        """,
    ),
    leaves(
        "commute.heads.linear_of_attention",
        lambda m, x, y: F.linear(attention(x, y), m.w),
        TOKENS,
        (2, 6, 8),
        w=number(8, 8),
        because="there are more keys than queries",
    ),
    fires(
        "commute.heads.product_of_attention",
        lambda m, x, y: attention(x, y) @ m.w,
        TOKENS,
        TOKENS,
        w=number(8, 8),
        expect="""
            matmul_1 = matmul(y, w)
            attention = attention(x, y, matmul_1)
        """,
    ),
    leaves(
        "commute.heads.product_of_attention",
        lambda m, x, y: attention(x, y) @ m.w,
        TOKENS,
        (2, 6, 8),
        w=number(8, 8),
        because="there are more keys than queries",
    ),
    fires(
        "commute.heads.factor_of_attention",
        lambda m, x, y: attention(x, y) * m.a,
        TOKENS,
        TOKENS,
        a=number(2, 1, 8),
        expect="""
            mul_1 = mul(y, a)
            attention = attention(x, y, mul_1)
        """,
    ),
    leaves(
        "commute.heads.factor_of_attention",
        lambda m, x, y: attention(x, y) * m.a,
        TOKENS,
        TOKENS,
        a=number(5, 8),
        because="there is a factor for each query",
    ),
    fires(
        "commute.heads.multiple_of_attention",
        lambda m, x, y: attention(x, y) / 3,
        TOKENS,
        TOKENS,
        expect="""
            div_1 = div(y, 3)
            attention = attention(x, y, div_1)
        """,
    ),
    leaves(
        "commute.heads.multiple_of_attention",
        lambda m, x, y: attention(x, y).tanh() / 3,
        TOKENS,
        TOKENS,
        because="a third of a hyperbolic tangent is none of a third",
    ),
    fires(
        "commute.joined.concat_of_linears",
        lambda m, x, y: torch.cat([m.layer(x), m.layer(y)], 1),
        TOKENS,
        (2, 3, 8),
        layer=nn.Linear(8, 3),
        expect="""
            concat = concat(x, y, dim=-2)
            linear_2 = linear(concat, layer.weight, layer.bias)
        """,
    ),
    leaves(
        "commute.joined.concat_of_linears",
        lambda m, x, y: torch.cat([m.layer(x), m.layer(y)], 2),
        TOKENS,
        TOKENS,
        layer=nn.Linear(8, 3),
        because="features stand side by side",
    ),
    fires(
        "commute.joined.stack_of_linears",
        lambda m, x, y: torch.stack([m.layer(x), m.layer(y)], 1),
        TOKENS,
        TOKENS,
        layer=nn.Linear(8, 3),
        expect="""
            stack_1 = stack(x, y, dim=-3)
            linear_2 = linear(stack_1, layer.weight, layer.bias)
        """,
    ),
    leaves(
        "commute.joined.stack_of_linears",
        lambda m, x, y: torch.stack([m.layer(x), m.other(y)], 1),
        TOKENS,
        TOKENS,
        layer=nn.Linear(8, 3),
        other=nn.Linear(8, 3),
        because="there are two layers",
    ),
    fires(
        "commute.joined.index_add_in_another_order",
        lambda m, x, z: z.index_add(0, m.edges, x.index_select(0, m.i)),
        (5, 4),
        (3, 4),
        edges=EDGES,
        i=ORDER,
        expect="index_add_1 = index_add(z, -2, edges_index_add_in_another_order, x)",
    ),
    leaves(
        "commute.joined.index_add_in_another_order",
        lambda m, x, z: z.index_add(0, m.edges, x.index_select(0, m.i)),
        (5, 4),
        (3, 4),
        edges=EDGES,
        i=SOME,
        because="an element is left out",
    ),
    fires(
        "commute.lookup.row_of_permuted_ids",
        lambda m, ids: m.table[m.p[ids]],
        IDS,
        table=number(7, 4),
        p=ROWS,
        expect="index_2 = index(table_row_of_permuted_ids, ids)",
    ),
    leaves(
        "commute.lookup.row_of_permuted_ids",
        lambda m, ids: m.table[m.p[ids]],
        IDS,
        table=number(9, 4),
        p=ROWS,
        because="there are rows that no id means",
    ),
    fires(
        "commute.lookup.tied_table_of_permuted_ids",
        lambda m, ids: F.linear(F.embedding(m.p[ids], m.table).relu(), m.table).index_select(-1, m.p),
        IDS,
        table=number(7, 4),
        p=ROWS,
        expect="""
            embedding_1 = embedding(table_tied_table_of_permuted_ids, ids)
            relu = relu(embedding_1)
            linear_1 = linear(relu, table_tied_table_of_permuted_ids)
        """,
    ),
    leaves(
        "commute.lookup.tied_table_of_permuted_ids",
        lambda m, ids: F.linear(F.embedding(m.p[ids], m.table).relu(), m.table).index_select(-1, m.q),
        IDS,
        table=number(7, 4),
        p=ROWS,
        q=ROWS.argsort(),
        because="scores come in another order",
    ),
    fires(
        "commute.lookup.embedding_of_transpose",
        lambda m, ids: m.table(ids.t()),
        IDS,
        table=nn.Embedding(7, 4),
        expect="""
            embedding_1 = embedding(table.weight, ids)
            permute = permute(embedding_1, [1, 0, 2])
        """,
    ),
    leaves(
        "commute.lookup.embedding_of_transpose",
        lambda m, ids: m.table(ids.t() + 1),
        IDS,
        table=nn.Embedding(8, 4),
        because="ids are others",
    ),
    fires(
        "commute.lookup.embedding_of_reshape",
        lambda m, ids: m.table(ids.reshape(-1)),
        IDS,
        table=nn.Embedding(7, 4),
        expect="""
            embedding_1 = embedding(table.weight, ids)
            reshape_1 = reshape(embedding_1, [6, 4])
        """,
    ),
    leaves(
        "commute.lookup.embedding_of_reshape",
        lambda m, ids: m.table(ids.reshape(-1) + 1),
        IDS,
        table=nn.Embedding(8, 4),
        because="ids are others",
    ),
    fires(
        "commute.orthogonal.scores_of_rotated",
        lambda m, x, y: F.linear(x, m.q) @ F.linear(y, m.q).mT,
        TOKENS,
        TOKENS,
        q=TURN,
        expect="""
            permute = permute(y, [0, 2, 1])
            matmul_1 = matmul(x, permute)
        """,
    ),
    leaves(
        "commute.orthogonal.scores_of_rotated",
        lambda m, x, y: F.linear(x, m.q) @ F.linear(y, m.q).mT,
        TOKENS,
        TOKENS,
        q=number(8, 8),
        because="angles change",
    ),
    fires(
        "commute.orthogonal.scores_of_products",
        lambda m, x, y: (x @ m.q) @ (y @ m.q).mT,
        TOKENS,
        TOKENS,
        q=TURN,
        expect="""
            permute = permute(y, [0, 2, 1])
            matmul_3 = matmul(x, permute)
        """,
    ),
    leaves(
        "commute.orthogonal.scores_of_products",
        lambda m, x, y: (x @ m.q) @ (y @ m.r).mT,
        TOKENS,
        TOKENS,
        q=TURN,
        r=TURN.T.contiguous(),
        because="keys are turned back",
    ),
    fires(
        "commute.orthogonal.squares_of_rotated",
        lambda m, x: F.linear(x, m.q).square().sum(-1),
        TOKENS,
        q=TURN,
        expect="""
            pow_1 = pow(x, 2)
            sum_2 = sum(pow_1, dim=[-1])
        """,
    ),
    leaves(
        "commute.orthogonal.squares_of_rotated",
        lambda m, x: F.linear(x, m.q).square().sum(1),
        TOKENS,
        q=TURN,
        because="squares of one element are summed up",
    ),
    fires(
        "commute.tokens.sorted_permutation",
        lambda m, x: x.index_select(1, m.i).sort(1).values,
        TOKENS,
        i=ORDER,
        expect="""
            sort_1 = sort(x, dim=-2)
            getitem_1 = sort_1[0]
        """,
    ),
    leaves(
        "commute.tokens.sorted_permutation",
        lambda m, x: x.index_select(1, m.i).sort(2).values,
        TOKENS,
        i=ORDER,
        because="rows are sorted each by itself",
    ),
    fires(
        "commute.tokens.largest_of_permutation",
        lambda m, x: x.index_select(1, m.i).topk(2, 1).values,
        TOKENS,
        i=ORDER,
        expect="""
            topk_1 = topk(x, 2, dim=-2)
            getitem_1 = topk_1[0]
        """,
    ),
    leaves(
        "commute.tokens.largest_of_permutation",
        lambda m, x: x.index_select(1, m.i).topk(2, 1).indices,
        TOKENS,
        i=ORDER,
        because="where they stood is asked for",
    ),
]
