"""Cases of `passes/commute/flatten.tdsl` and `lookup.tdsl`: actions that end in weights."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number

ORDER = {
    n: torch.tensor([*range(2, n), 0, 1]) if n > 3 else torch.tensor([*range(1, n), 0]) for n in range(2, 9)
}
IDS = torch.tensor([[3, 0, 7, 2], [1, 6, 4, 4]])

CASES = [
    fires(
        "commute.flatten.linear_of_flattened_permute",
        lambda m, x: F.linear(x.permute(0, 2, 3, 1).reshape(2, 60), m.W),
        (2, 3, 4, 5),
        W=number(7, 60),
        expect="""
            reshape_1 = reshape(x, [2, 60])
            linear_1 = linear(reshape_1, W_linear_of_flattened_permute)
        """,
    ),
    leaves(
        "commute.flatten.linear_of_flattened_permute",
        lambda m, x: F.linear(x.permute(0, 2, 3, 1).reshape(2, 60), m.W) + m.W.sum(),
        (2, 3, 4, 5),
        W=number(7, 60),
        because="the weight is read elsewhere",
    ),
    fires(
        "commute.flatten.linear_of_flattened_transpose",
        lambda m, x: F.linear(x.permute(0, 2, 1).reshape(2, 30), m.W),
        (2, 5, 6),
        W=number(7, 30),
        expect="""
            reshape_1 = reshape(x, [2, 30])
            linear_1 = linear(reshape_1, W_linear_of_flattened_transpose)
        """,
    ),
    leaves(
        "commute.flatten.linear_of_flattened_transpose",
        lambda m, x: F.linear(x.permute(0, 2, 1).reshape(2, 30), m.W) + m.W.sum(),
        (2, 5, 6),
        W=number(7, 30),
        because="the weight is read elsewhere",
    ),
    fires(
        "commute.flatten.linear_of_flattened_flip",
        lambda m, x: F.linear(x.flip(3).reshape(2, 60), m.W),
        (2, 3, 4, 5),
        W=number(7, 60),
        expect="""
            reshape_1 = reshape(x, [2, 60])
            linear_1 = linear(reshape_1, W_linear_of_flattened_flip)
        """,
    ),
    leaves(
        "commute.flatten.linear_of_flattened_flip",
        lambda m, x: F.linear(x.flip(0).reshape(2, 60), m.W),
        (2, 3, 4, 5),
        W=number(7, 60),
        because="images change places",
    ),
    fires(
        "commute.flatten.linear_of_flattened_roll",
        lambda m, x: F.linear(x.roll(2, 3).reshape(2, 60), m.W),
        (2, 3, 4, 5),
        W=number(7, 60),
        expect="""
            reshape_1 = reshape(x, [2, 60])
            linear_1 = linear(reshape_1, W_linear_of_flattened_roll)
        """,
    ),
    leaves(
        "commute.flatten.linear_of_flattened_roll",
        lambda m, x: F.linear(x.roll(1, 0).reshape(2, 60), m.W),
        (2, 3, 4, 5),
        W=number(7, 60),
        because="images change places",
    ),
    fires(
        "commute.flatten.linear_of_flattened_permutation",
        lambda m, x: F.linear(x.index_select(1, m.i).reshape(2, 60), m.W),
        (2, 3, 4, 5),
        i=ORDER[3],
        W=number(7, 60),
        expect="""
            reshape_1 = reshape(x, [2, 60])
            linear_1 = linear(reshape_1, W_linear_of_flattened_permutation)
        """,
    ),
    leaves(
        "commute.flatten.linear_of_flattened_permutation",
        lambda m, x: F.linear(x.index_select(1, m.j).reshape(2, 60), m.W),
        (2, 3, 4, 5),
        j=torch.tensor([0, 0, 2]),
        W=number(7, 60),
        because="a channel is left out",
    ),
    fires(
        "commute.flatten.linear_of_flattened_scaled",
        lambda m, x: F.linear((x * m.a).reshape(2, 60), m.W),
        (2, 3, 4, 5),
        a=number(3, 1, 1),
        W=number(7, 60),
        expect="""
            reshape_1 = reshape(x, [2, 60])
            linear_1 = linear(reshape_1, W_linear_of_flattened_scaled)
        """,
    ),
    leaves(
        "commute.flatten.linear_of_flattened_scaled",
        lambda m, x: F.linear((x * m.c).reshape(2, 60), m.W),
        (2, 3, 4, 5),
        c=number(5),
        W=number(7, 60),
        because="columns have factors",
    ),
    fires(
        "commute.flatten.linear_of_permuted_heads",
        lambda m, x: F.linear(x.index_select(2, m.i).reshape(2, 5, 12), m.W),
        (2, 5, 3, 4),
        i=ORDER[3],
        W=number(7, 12),
        expect="""
            reshape_1 = reshape(x, [2, 5, 12])
            linear_1 = linear(reshape_1, W_linear_of_permuted_heads)
        """,
    ),
    leaves(
        "commute.flatten.linear_of_permuted_heads",
        lambda m, x: F.linear(x.index_select(2, m.j).reshape(2, 5, 12), m.W),
        (2, 5, 3, 4),
        j=torch.tensor([0, 0, 2]),
        W=number(7, 12),
        because="a head is left out",
    ),
    fires(
        "commute.lookup.embedding_of_permuted_ids",
        lambda m, x: F.embedding(m.i[x], m.E),
        IDS,
        i=ORDER[8],
        E=number(8, 5),
        expect="embedding_1 = embedding(E_embedding_of_permuted_ids, x)",
    ),
    leaves(
        "commute.lookup.embedding_of_permuted_ids",
        lambda m, x: F.embedding(m.i[x], m.E) + m.E.sum(),
        IDS,
        i=ORDER[8],
        E=number(8, 5),
        because="the table is read elsewhere",
    ),
    fires(
        "commute.lookup.selection_of_embedding",
        lambda m, x: F.embedding(x, m.E).index_select(2, m.i),
        IDS,
        i=ORDER[5],
        E=number(8, 5),
        expect="embedding_1 = embedding(E_selection_of_embedding, x)",
    ),
    leaves(
        "commute.lookup.selection_of_embedding",
        lambda m, x: F.embedding(x, m.E).index_select(1, m.j),
        IDS,
        j=ORDER[4],
        E=number(8, 5),
        because="places are selected",
    ),
    fires(
        "commute.lookup.flip_of_embedding",
        lambda m, x: F.embedding(x, m.E).flip(2),
        IDS,
        E=number(8, 5),
        expect="embedding_1 = embedding(E_flip_of_embedding, x)",
    ),
    leaves(
        "commute.lookup.flip_of_embedding",
        lambda m, x: F.embedding(x, m.E).flip(1),
        IDS,
        E=number(8, 5),
        because="places are reflected",
    ),
    fires(
        "commute.lookup.roll_of_embedding",
        lambda m, x: F.embedding(x, m.E).roll(2, 2),
        IDS,
        E=number(8, 5),
        expect="embedding_1 = embedding(E_roll_of_embedding, x)",
    ),
    leaves(
        "commute.lookup.roll_of_embedding",
        lambda m, x: F.embedding(x, m.E).roll(1, 1),
        IDS,
        E=number(8, 5),
        because="places are rotated",
    ),
    fires(
        "commute.lookup.embedding_of_permutation",
        lambda m, x: F.embedding(x.index_select(1, m.i), m.E),
        IDS,
        i=ORDER[4],
        E=number(8, 5),
        expect="""
            embedding_1 = embedding(E, x)
            index_select_1 = index_select(embedding_1, -2, i)
        """,
    ),
    leaves(
        "commute.lookup.embedding_of_permutation",
        lambda m, x: F.embedding(x.index_select(1, m.i[:2]), m.E),
        IDS,
        i=ORDER[4],
        E=number(8, 5),
        because="some are left out",
    ),
    fires(
        "commute.lookup.embedding_of_flip",
        lambda m, x: F.embedding(x.flip(1), m.E),
        IDS,
        E=number(8, 5),
        expect="""
            embedding_1 = embedding(E, x)
            flip_1 = flip(embedding_1, [-2])
        """,
    ),
    leaves(
        "commute.lookup.embedding_of_flip",
        lambda m, x: F.embedding(x.flip(1).cumsum(1) // 9, m.E),
        IDS,
        E=number(8, 5),
        because="sums stand between",
    ),
    fires(
        "commute.lookup.embedding_of_roll",
        lambda m, x: F.embedding(x.roll(1, 1), m.E),
        IDS,
        E=number(8, 5),
        expect="""
            embedding_1 = embedding(E, x)
            roll_1 = roll(embedding_1, [1], dims=[-2])
        """,
    ),
    leaves(
        "commute.lookup.embedding_of_roll",
        lambda m, x: F.embedding(x.roll(1), m.E),
        IDS,
        E=number(8, 5),
        because="all ids are rotated in a row",
    ),
]
