"""Cases of `passes/factorize/gathered.tdsl`: a butterfly and a low rank, rows that read like columns."""

import torch
from cases_structured import structured
from rule_cases import low_rank, number

NEAR = torch.tensor([[float((i ^ j).bit_count() <= 1) for j in range(16)] for i in range(16)])
FLAT = number(64, 48) * torch.kron(NEAR, torch.ones(4, 3)) + low_rank(64, 48, 1)

RING = torch.eye(8) + torch.eye(8).roll(1, 0)
ROWS, COLUMNS = (torch.randperm(n, generator=torch.Generator().manual_seed(2)) for n in (64, 48))
TILES = (number(64, 48) * torch.kron(RING, torch.ones(8, 6)))[ROWS][:, COLUMNS]

CASES = [
    *structured(
        "gathered.flat_butterfly_linear",
        FLAT,
        """
            linear_1 = linear(x, w_flat_butterfly)
            linear_2 = linear(linear_1, w_flat_butterfly_1, b)
            reshape = reshape(x, [$rows, 48])
            permute = permute(reshape, [1, 0])
            index_select = index_select(permute, -2, w_flat_butterfly_2)
            reshape_1 = reshape(index_select, [16, 15, $rows])
            matmul = matmul(w_flat_butterfly_linear, reshape_1)
            permute_1 = permute(matmul, [2, 0, 1])
            reshape_2 = reshape(permute_1, $shape)
            add = add(linear_2, reshape_2)
        """,
        1,
    ),
    *structured(
        "gathered.gathered_blocks_linear",
        TILES,
        """
            reshape = reshape(x, [$rows, 48])
            permute = permute(reshape, [1, 0])
            index_select = index_select(permute, -2, w_gathered_blocks)
            reshape_1 = reshape(index_select, [8, 12, $rows])
            matmul = matmul(w_gathered_blocks_linear, reshape_1)
            reshape_2 = reshape(matmul, [64, $rows])
            index_select_1 = index_select(reshape_2, -2, w_gathered_blocks_1)
            permute_1 = permute(index_select_1, [1, 0])
            reshape_3 = reshape(permute_1, $shape)
            add = add(reshape_3, b)
        """,
    ),
]
