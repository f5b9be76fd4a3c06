"""Cases of the rules of `passes/factorize` that let rows of a table share fewer."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves

FULL = 1e-9
"""Precision where the rows that are stored are those of the table."""
IDS = torch.tensor([[0, 3, 8], [5, 5, 1]])
DRAWN = torch.randn(40, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
REPEATED = DRAWN[:5].repeat(8, 1)
CASES = (
    [
        fires(
            f"factorize.embedding.{rule}",
            lambda m, ids: F.embedding(ids, m.e).tanh(),
            IDS,
            e=REPEATED,
            parameters={"rank": 5},
            precision=FULL,
            expect="""
            reshape = reshape(ids, [6])
            index_select = index_select(e_row_sharing_1, -1, reshape)
            embedding_1 = embedding(e_row_sharing, index_select)
            reshape_1 = reshape(embedding_1, [2, 3, 8])
            tanh = tanh(reshape_1)
        """,
        )
        for rule in ("shared_rows", "shared_rows_frequent")
    ]
    + [
        leaves(
            f"factorize.embedding.{rule}",
            lambda m, ids: F.embedding(ids, m.e) @ m.e.T,
            IDS,
            e=REPEATED,
            parameters={"rank": 5},
            because="the table is tied to the output layer",
        )
        for rule in ("shared_rows", "shared_rows_frequent")
    ]
    + [
        leaves(
            "factorize.embedding.shared_rows",
            lambda m, ids: F.embedding(ids, m.e),
            IDS,
            e=DRAWN,
            because="no two rows are alike",
        ),
    ]
)
