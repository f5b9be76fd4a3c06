"""Cases of `passes/commute/products.tdsl`: actions under products and attention."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number

ORDER = {
    n: torch.tensor([*range(2, n), 0, 1]) if n > 3 else torch.tensor([*range(1, n), 0]) for n in range(2, 9)
}
attention = F.scaled_dot_product_attention

CASES = [
    fires(
        "commute.products.matmul_of_flipped_rows",
        lambda m, x, y: x.flip(1) @ y,
        (2, 3, 4),
        (2, 4, 5),
        expect="""
            matmul_1 = matmul(x, y)
            flip_1 = flip(matmul_1, [-2])
        """,
    ),
    leaves(
        "commute.products.matmul_of_flipped_rows",
        lambda m, x, y: x.flip(2) @ y,
        (2, 3, 4),
        (2, 4, 5),
        because="columns are summed up",
    ),
    fires(
        "commute.products.matmul_of_rolled_rows",
        lambda m, x, y: x.roll(1, 1) @ y,
        (2, 3, 4),
        (2, 4, 5),
        expect="""
            matmul_1 = matmul(x, y)
            roll_1 = roll(matmul_1, [1], dims=[-2])
        """,
    ),
    leaves(
        "commute.products.matmul_of_rolled_rows",
        lambda m, x, y: x.roll(1, 2) @ y,
        (2, 3, 4),
        (2, 4, 5),
        because="columns are summed up",
    ),
    fires(
        "commute.products.matmul_of_permuted_rows",
        lambda m, x, y: x.index_select(1, m.i) @ y,
        (2, 3, 4),
        (2, 4, 5),
        i=ORDER[3],
        expect="""
            matmul_1 = matmul(x, y)
            index_select_1 = index_select(matmul_1, -2, i)
        """,
    ),
    leaves(
        "commute.products.matmul_of_permuted_rows",
        lambda m, x, y: x.index_select(2, m.j) @ y,
        (2, 3, 4),
        (2, 4, 5),
        j=ORDER[4],
        because="columns are summed up",
    ),
    fires(
        "commute.products.matmul_of_flipped_columns",
        lambda m, x, y: x @ y.flip(2),
        (2, 3, 4),
        (2, 4, 5),
        expect="""
            matmul_1 = matmul(x, y)
            flip_1 = flip(matmul_1, [-1])
        """,
    ),
    leaves(
        "commute.products.matmul_of_flipped_columns",
        lambda m, x, y: x @ y.flip(1),
        (2, 3, 4),
        (2, 4, 5),
        because="rows are summed up",
    ),
    fires(
        "commute.products.matmul_of_rolled_columns",
        lambda m, x, y: x @ y.roll(1, 2),
        (2, 3, 4),
        (2, 4, 5),
        expect="""
            matmul_1 = matmul(x, y)
            roll_1 = roll(matmul_1, [1], dims=[-1])
        """,
    ),
    leaves(
        "commute.products.matmul_of_rolled_columns",
        lambda m, x, y: x @ y.roll(1, 1),
        (2, 3, 4),
        (2, 4, 5),
        because="rows are summed up",
    ),
    fires(
        "commute.products.matmul_of_permuted_columns",
        lambda m, x, y: x @ y.index_select(2, m.i),
        (2, 3, 4),
        (2, 4, 5),
        i=ORDER[5],
        expect="""
            matmul_1 = matmul(x, y)
            index_select_1 = index_select(matmul_1, -1, i)
        """,
    ),
    leaves(
        "commute.products.matmul_of_permuted_columns",
        lambda m, x, y: x @ y.index_select(1, m.j),
        (2, 3, 4),
        (2, 4, 5),
        j=ORDER[4],
        because="rows are summed up",
    ),
    fires(
        "commute.products.matmul_of_flips",
        lambda m, x, y: x.flip(2) @ y.flip(1),
        (2, 3, 4),
        (2, 4, 5),
        expect="matmul_1 = matmul(x, y)",
    ),
    leaves(
        "commute.products.matmul_of_flips",
        lambda m, x, y: x.flip(2) @ y,
        (2, 3, 4),
        (2, 4, 5),
        because="one factor is as it was",
    ),
    fires(
        "commute.products.matmul_of_rolls",
        lambda m, x, y: x.roll(1, 2) @ y.roll(1, 1),
        (2, 3, 4),
        (2, 4, 5),
        expect="matmul_1 = matmul(x, y)",
    ),
    leaves(
        "commute.products.matmul_of_rolls",
        lambda m, x, y: x.roll(1, 2) @ y.roll(2, 1),
        (2, 3, 4),
        (2, 4, 5),
        because="they are rotated differently",
    ),
    fires(
        "commute.products.matmul_of_permutations",
        lambda m, x, y: x.index_select(2, m.i) @ y.index_select(1, m.i),
        (2, 3, 4),
        (2, 4, 5),
        i=ORDER[4],
        expect="matmul_1 = matmul(x, y)",
    ),
    leaves(
        "commute.products.matmul_of_permutations",
        lambda m, x, y: x.index_select(2, m.i) @ y.index_select(1, m.j),
        (2, 3, 4),
        (2, 4, 5),
        i=ORDER[4],
        j=ORDER[4].argsort(),
        because="the orders differ",
    ),
    fires(
        "commute.products.attention_of_flipped_keys",
        lambda m, q, k, v: attention(q, k.flip(2), v.flip(2)),
        (1, 2, 3, 4),
        (1, 2, 5, 4),
        (1, 2, 5, 6),
        expect="attention = attention(q, k, v)",
    ),
    leaves(
        "commute.products.attention_of_flipped_keys",
        lambda m, q, k, v: attention(q, k.flip(2), v.flip(2), is_causal=True),
        (1, 2, 3, 4),
        (1, 2, 5, 4),
        (1, 2, 5, 6),
        because="earlier queries see fewer keys",
    ),
    fires(
        "commute.products.attention_of_rolled_keys",
        lambda m, q, k, v: attention(q, k.roll(1, 2), v.roll(1, 2)),
        (1, 2, 3, 4),
        (1, 2, 5, 4),
        (1, 2, 5, 6),
        expect="attention = attention(q, k, v)",
    ),
    leaves(
        "commute.products.attention_of_rolled_keys",
        lambda m, q, k, v: attention(q, k.roll(1, 2), v.roll(1, 2), is_causal=True),
        (1, 2, 3, 4),
        (1, 2, 5, 4),
        (1, 2, 5, 6),
        because="earlier queries see fewer keys",
    ),
    fires(
        "commute.products.attention_of_flipped_queries",
        lambda m, q, k, v: attention(q.flip(2), k, v),
        (1, 2, 3, 4),
        (1, 2, 5, 4),
        (1, 2, 5, 6),
        expect="""
            attention = attention(q, k, v)
            flip_1 = flip(attention, [-2])
        """,
    ),
    leaves(
        "commute.products.attention_of_flipped_queries",
        lambda m, q, k, v: attention(q.flip(2), k, v, is_causal=True),
        (1, 2, 3, 4),
        (1, 2, 5, 4),
        (1, 2, 5, 6),
        because="earlier queries see fewer keys",
    ),
    fires(
        "commute.products.attention_of_rolled_queries",
        lambda m, q, k, v: attention(q.roll(1, 2), k, v),
        (1, 2, 3, 4),
        (1, 2, 5, 4),
        (1, 2, 5, 6),
        expect="""
            attention = attention(q, k, v)
            roll_1 = roll(attention, [1], dims=[-2])
        """,
    ),
    leaves(
        "commute.products.attention_of_rolled_queries",
        lambda m, q, k, v: attention(q.roll(1, 2), k, v, is_causal=True),
        (1, 2, 3, 4),
        (1, 2, 5, 4),
        (1, 2, 5, 6),
        because="earlier queries see fewer keys",
    ),
    fires(
        "commute.products.attention_of_flipped_heads",
        lambda m, q, k, v: attention(q.flip(1), k.flip(1), v.flip(1)),
        (1, 2, 3, 4),
        (1, 2, 5, 4),
        (1, 2, 5, 6),
        expect="""
            attention = attention(q, k, v)
            flip_3 = flip(attention, [-3])
        """,
    ),
    leaves(
        "commute.products.attention_of_flipped_heads",
        lambda m, q, k, v: attention(q.flip(1), k.flip(1), v),
        (1, 2, 3, 4),
        (1, 2, 5, 4),
        (1, 2, 5, 6),
        because="values are those of other heads",
    ),
    fires(
        "commute.products.attention_of_rolled_heads",
        lambda m, q, k, v: attention(q.roll(1, 1), k.roll(1, 1), v.roll(1, 1)),
        (1, 2, 3, 4),
        (1, 2, 5, 4),
        (1, 2, 5, 6),
        expect="""
            attention = attention(q, k, v)
            roll_3 = roll(attention, [1], dims=[-3])
        """,
    ),
    leaves(
        "commute.products.attention_of_rolled_heads",
        lambda m, q, k, v: attention(q.roll(1, 1), k.roll(1, 1), v),
        (1, 2, 3, 4),
        (1, 2, 5, 4),
        (1, 2, 5, 6),
        because="values are those of other heads",
    ),
    fires(
        "commute.products.attention_of_permuted_heads",
        lambda m, q, k, v: attention(q.index_select(1, m.i), k.index_select(1, m.i), v.index_select(1, m.i)),
        (1, 2, 3, 4),
        (1, 2, 5, 4),
        (1, 2, 5, 6),
        i=ORDER[2],
        expect="""
            attention = attention(q, k, v)
            index_select_3 = index_select(attention, -3, i)
        """,
    ),
    leaves(
        "commute.products.attention_of_permuted_heads",
        lambda m, q, k, v: attention(q.index_select(1, m.i), k.index_select(1, m.i), v),
        (1, 2, 3, 4),
        (1, 2, 5, 4),
        (1, 2, 5, 6),
        i=ORDER[2],
        because="values are those of other heads",
    ),
    fires(
        "commute.products.matmul_of_flipped_blocks",
        lambda m, x, y: x.flip(1) @ y.flip(1),
        (1, 3, 2, 4),
        (1, 3, 4, 5),
        expect="""
            matmul_1 = matmul(x, y)
            flip_2 = flip(matmul_1, [-3])
        """,
    ),
    leaves(
        "commute.products.matmul_of_flipped_blocks",
        lambda m, x, y: x.flip(1) @ y,
        (1, 3, 2, 4),
        (1, 3, 4, 5),
        because="one factor is as it was",
    ),
    fires(
        "commute.products.matmul_of_rolled_blocks",
        lambda m, x, y: x.roll(1, 1) @ y.roll(1, 1),
        (1, 3, 2, 4),
        (1, 3, 4, 5),
        expect="""
            matmul_1 = matmul(x, y)
            roll_2 = roll(matmul_1, [1], dims=[-3])
        """,
    ),
    leaves(
        "commute.products.matmul_of_rolled_blocks",
        lambda m, x, y: x.roll(1, 1) @ y,
        (1, 3, 2, 4),
        (1, 3, 4, 5),
        because="one factor is as it was",
    ),
    fires(
        "commute.products.matmul_of_permuted_blocks",
        lambda m, x, y: x.index_select(1, m.i) @ y.index_select(1, m.i),
        (1, 3, 2, 4),
        (1, 3, 4, 5),
        i=ORDER[3],
        expect="""
            matmul_1 = matmul(x, y)
            index_select_2 = index_select(matmul_1, -3, i)
        """,
    ),
    leaves(
        "commute.products.matmul_of_permuted_blocks",
        lambda m, x, y: x.index_select(1, m.i) @ y,
        (1, 3, 2, 4),
        (1, 3, 4, 5),
        i=ORDER[3],
        because="one factor is as it was",
    ),
    fires(
        "commute.products.rms_norm_of_flipped_rows",
        lambda m, x: F.rms_norm(x.flip(1), (6,), m.w),
        (2, 5, 6),
        w=number(6),
        expect="""
            rms_norm_1 = rms_norm(x, [6], w)
            flip_1 = flip(rms_norm_1, [-2])
        """,
    ),
    leaves(
        "commute.products.rms_norm_of_flipped_rows",
        lambda m, x: F.rms_norm(x.flip(2), (6,), m.w),
        (2, 5, 6),
        w=number(6),
        because="features have weights",
    ),
    fires(
        "commute.products.rms_norm_of_rolled_rows",
        lambda m, x: F.rms_norm(x.roll(1, 1), (6,), m.w),
        (2, 5, 6),
        w=number(6),
        expect="""
            rms_norm_1 = rms_norm(x, [6], w)
            roll_1 = roll(rms_norm_1, [1], dims=[-2])
        """,
    ),
    leaves(
        "commute.products.rms_norm_of_rolled_rows",
        lambda m, x: F.rms_norm(x.roll(1, 2), (6,), m.w),
        (2, 5, 6),
        w=number(6),
        because="features have weights",
    ),
]
