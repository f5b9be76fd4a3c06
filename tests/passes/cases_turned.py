"""Cases of `passes/decompose/turned.py`."""

import torch
from rule_cases import fires, leaves
from turned_kernels import tied

KERNEL = tied("mirrors", 3, 1, 2, inside=True)
PARTS = ", ".join(f"slice_{i}" for i in (2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 23, 24))

CASES = [
    fires(
        "decompose.turned_convolutions",
        lambda m, x: torch.conv2d(x, m.w),
        (2, 4, 5, 4),
        w=KERNEL,
        parameters={"saved": 1},
        expect=f"""
            reshape = reshape(x, [2, 1, 4, 5, 4])
            select = select(reshape, -3, 0)
            slice_1 = slice(select, dim=-2, start=0, end=4)
            slice_2 = slice(slice_1, dim=-1, start=0, end=3)
            slice_3 = slice(slice_1, dim=-1, start=1, end=4)
            slice_4 = slice(select, dim=-2, start=1, end=5)
            slice_5 = slice(slice_4, dim=-1, start=0, end=3)
            slice_6 = slice(slice_4, dim=-1, start=1, end=4)
            select_1 = select(reshape, -3, 1)
            slice_7 = slice(select_1, dim=-2, start=1, end=5)
            slice_8 = slice(slice_7, dim=-1, start=1, end=4)
            slice_9 = slice(slice_7, dim=-1, start=0, end=3)
            slice_10 = slice(select_1, dim=-2, start=0, end=4)
            slice_11 = slice(slice_10, dim=-1, start=1, end=4)
            slice_12 = slice(slice_10, dim=-1, start=0, end=3)
            select_2 = select(reshape, -3, 2)
            slice_13 = slice(select_2, dim=-2, start=0, end=4)
            slice_14 = slice(slice_13, dim=-1, start=1, end=4)
            slice_15 = slice(slice_13, dim=-1, start=0, end=3)
            slice_16 = slice(select_2, dim=-2, start=1, end=5)
            slice_17 = slice(slice_16, dim=-1, start=1, end=4)
            slice_18 = slice(slice_16, dim=-1, start=0, end=3)
            select_3 = select(reshape, -3, 3)
            slice_19 = slice(select_3, dim=-2, start=1, end=5)
            slice_20 = slice(slice_19, dim=-1, start=0, end=3)
            slice_21 = slice(slice_19, dim=-1, start=1, end=4)
            slice_22 = slice(select_3, dim=-2, start=0, end=4)
            slice_23 = slice(slice_22, dim=-1, start=0, end=3)
            slice_24 = slice(slice_22, dim=-1, start=1, end=4)
            concat = concat({PARTS}, dim=-3)
            reshape_1 = reshape(concat, [2, 4, 48])
            matmul = matmul(w_into, reshape_1)
            reshape_2 = reshape(matmul, [2, 4, 4, 12])
            matmul_1 = matmul(w_products, reshape_2)
            reshape_3 = reshape(matmul_1, [2, 4, 36])
            matmul_2 = matmul(w_back, reshape_3)
            reshape_4 = reshape(matmul_2, [2, 4, 3, 12])
            permute = permute(reshape_4, [0, 2, 1, 3])
            reshape_5 = reshape(permute, [2, 12, 4, 3])
        """,
    ),
    leaves(
        "decompose.turned_convolutions",
        lambda m, x: torch.conv2d(x, m.w),
        (2, 4, 5, 4),
        w=KERNEL + torch.eye(2),
        parameters={"saved": 1},
        because="no mirror leaves the kernel as it is",
    ),
]
