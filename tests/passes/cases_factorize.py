"""Cases of `passes/factorize`: weights of low rank, which the factors hold exactly."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, low_rank, number
from torch import Tensor

from tdsl.factor.rank import Energy, Error, Ratio

FULL = 1e-9
"""Precision where the rank kept is that of the weight."""
X = (4, 12)
IMAGE = (2, 6, 9, 8)
IDS = torch.tensor([[0, 3, 8], [5, 5, 1]])
DENSE = {"w": low_rank(10, 12, 2), "b": number(10)}


def kernel(o: int, i: int, kh: int, kw: int, rank: int, *, spatial: bool = False) -> Tensor:
    """A kernel of that rank: between outputs and the rest, or (`spatial`) between rows and columns."""
    if spatial:
        return low_rank(i * kh, o * kw, rank).reshape(i, kh, o, kw).permute(2, 0, 1, 3).contiguous()
    return low_rank(o, i * kh * kw, rank).reshape(o, i, kh, kw)


def small_core(o: int, i: int, kh: int, kw: int, rank: int) -> Tensor:
    """A kernel with that many independent inputs and outputs (a Tucker-2 product)."""
    core = number(rank, rank, kh, kw)
    return torch.einsum("or,rqhw,qi->oihw", number(o, rank), core, number(rank, i))


LINEAR = [
    fires(
        "factorize.linear.svd_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        **DENSE,
        parameters={"rank": rank},
        precision=FULL,
        expect="""
            linear_1 = linear(x, w_svd)
            linear_2 = linear(linear_1, w_svd_1, b)
        """,
    )
    for rank in (2, 0.5, Ratio(0.5), Energy(1 - 1e-12), Error(1e-6))
] + [
    leaves(
        "factorize.linear.svd_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        **DENSE,
        parameters={"rank": 6},
        because="factors of rank 6 are larger than the weight",
    ),
    leaves(
        "factorize.linear.svd_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        X,
        **DENSE,
        parameters={"rank": 64},
        because="the weight has no rank of 64, and other layers may have",
    ),
    leaves(
        "factorize.linear.svd_linear",
        lambda m, x: F.linear(x, m.w),
        X,
        w=number(10, 12),
        because="95% of the energy of noise need nearly every term",
    ),
    leaves(
        "factorize.linear.svd_linear",
        lambda m, x: F.linear(F.linear(x, m.w), m.w.T),
        X,
        w=low_rank(10, 12, 2),
        because="the weight is tied to another layer",
    ),
    leaves(
        "factorize.linear.svd_linear",
        lambda m, x, w: F.linear(x, w),
        X,
        (10, 12),
        because="the weight is an input",
    ),
]

EMBEDDING = [
    fires(
        "factorize.embedding.svd_embedding",
        lambda m, ids: F.embedding(ids, m.e),
        IDS,
        e=low_rank(20, 8, 3),
        parameters={"rank": rank},
        precision=FULL,
        expect="""
            embedding_1 = embedding(e_svd, ids)
            linear = linear(embedding_1, e_svd_embedding)
        """,
    )
    for rank in (3, 0.75, Energy(1 - 1e-12), Error(1e-6))
] + [
    leaves(
        "factorize.embedding.svd_embedding",
        lambda m, ids: F.embedding(ids, m.e) @ m.e.T,
        IDS,
        e=low_rank(20, 8, 3),
        because="the table is tied to the output layer",
    ),
    leaves(
        "factorize.embedding.svd_embedding",
        lambda m, ids: F.embedding(ids, m.e),
        IDS,
        e=low_rank(20, 8, 3),
        parameters={"rank": 9},
        because="a table of 8 columns has no rank of 9",
    ),
]

SPATIAL = [
    fires(
        "factorize.conv.spatial_svd",
        lambda m, x: F.conv2d(x, m.w, m.b, stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
        IMAGE,
        w=kernel(5, 6, 3, 3, 2, spatial=True),
        b=number(5),
        parameters={"rank": rank},
        precision=FULL,
        expect="""
            conv2d_1 = conv2d(x, w_spatial_svd, stride=[2, 1], padding=[1, 0])
            conv2d_2 = conv2d(conv2d_1, w_spatial_svd_1, b, padding=[0, 2], dilation=[1, 2])
        """,
    )
    for rank in (2, 0.5, Energy(1 - 1e-12), Error(1e-6))
] + [
    leaves(
        "factorize.conv.spatial_svd",
        lambda m, x: F.conv2d(x, m.w, padding=(0, 1)),
        IMAGE,
        w=kernel(5, 6, 1, 3, 2),
        parameters={"rank": 2},
        because="the kernel has one row only",
    ),
    leaves(
        "factorize.conv.spatial_svd",
        lambda m, x: F.conv2d(x, m.w, groups=2),
        IMAGE,
        w=number(6, 3, 3, 3),
        parameters={"rank": 2},
        because="it is grouped",
    ),
    leaves(
        "factorize.conv.spatial_svd",
        lambda m, x: F.conv2d(x, m.w),
        IMAGE,
        w=kernel(5, 6, 3, 3, 2, spatial=True),
        parameters={"rank": 99},
        because="no kernel here has a rank of 99",
    ),
]

CHANNEL = [
    fires(
        "factorize.conv.channel_svd",
        lambda m, x: F.conv2d(x, m.w, m.b, stride=2, padding=1, dilation=2),
        IMAGE,
        w=kernel(8, 6, 3, 3, 2),
        b=number(8),
        parameters={"rank": rank},
        precision=FULL,
        expect="""
            conv2d_1 = conv2d(x, w_channel_svd, stride=[2, 2], padding=[1, 1], dilation=[2, 2])
            conv2d_2 = conv2d(conv2d_1, w_channel_svd_1, b)
        """,
    )
    for rank in (2, 0.5, Energy(1 - 1e-12), Error(1e-6))
] + [
    leaves(
        "factorize.conv.channel_svd",
        lambda m, x: F.conv2d(x, m.w, m.b, groups=2),
        IMAGE,
        w=number(8, 3, 3, 3),
        b=number(8),
        parameters={"rank": 2},
        because="it is grouped",
    ),
    leaves(
        "factorize.conv.channel_svd",
        lambda m, x: F.conv2d(x, m.w) + F.conv2d(x.relu(), m.w),
        IMAGE,
        w=kernel(8, 6, 3, 3, 2),
        because="two convolutions share the weight",
    ),
    leaves(
        "factorize.conv.channel_svd",
        lambda m, x: F.conv2d(x, m.w),
        IMAGE,
        w=kernel(8, 6, 3, 3, 2),
        parameters={"rank": 9},
        because="eight outputs have no rank of 9",
    ),
]

TUCKER = [
    fires(
        "factorize.conv.tucker2",
        lambda m, x: F.conv2d(x, m.w, m.b, stride=1, padding=1),
        IMAGE,
        w=small_core(8, 6, 3, 3, 2),
        b=number(8),
        parameters={"rank": rank},
        precision=FULL,
        expect="""
            conv2d_1 = conv2d(x, w_tucker2)
            conv2d_2 = conv2d(conv2d_1, w_tucker2_1, padding=[1, 1])
            conv2d_3 = conv2d(conv2d_2, w_tucker2_2, b)
        """,
    )
    for rank in (2, 0.5, Energy(1 - 1e-12), Error(1e-6))
] + [
    leaves(
        "factorize.conv.tucker2",
        lambda m, x: F.conv2d(x, m.w, m.b),
        IMAGE,
        w=low_rank(8, 6, 2).reshape(8, 6, 1, 1),
        b=number(8),
        parameters={"rank": 2},
        because="a 1×1 kernel has no core",
    ),
    leaves(
        "factorize.conv.tucker2",
        lambda m, x: F.conv2d(x, m.w, m.b),
        IMAGE,
        w=small_core(8, 6, 3, 3, 2),
        b=number(8),
        parameters={"rank": 2, "rank_in": 7},
        because="six inputs have no rank of 7",
    ),
]

CASES = [*LINEAR, *EMBEDDING, *SPATIAL, *CHANNEL, *TUCKER]
