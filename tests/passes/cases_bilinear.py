"""Cases of `passes/decompose/bilinear.tdsl`, and of the pass that finds such maps as they are written."""

import numpy as np
import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number
from torch import Tensor, nn

from tdsl.factor.bilinear_grid import grid_terms

FACTORS = "three small factors take the place of a small tensor"


def table(*products: tuple[int, int, int, int]) -> Tensor:
    """The tensor of a multiplication: entries (i, j, k, sign)."""
    size = 1 + max(max(entry[:3]) for entry in products)
    tensor = torch.zeros(size, size, size, dtype=torch.float64)
    for i, j, k, sign in products:
        tensor[i, j, k] = sign
    return tensor


COMPLEX = table((0, 0, 0, 1), (1, 1, 0, -1), (0, 1, 1, 1), (1, 0, 1, 1))
GAUNT = torch.from_numpy(np.einsum("ip,jp,kp->ijk", *(grid_terms((4, 4, 4)) or ())))


def mapped(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """A bilinear map as an equation says it."""
    return torch.einsum("ni,nj,ijk->nk", x, y, m.t)


def per_channel(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Channels of x, each multiplied by the one y."""
    return torch.einsum("nui,nj,ijk->nuk", x, y, m.t)


FEW = """
    linear = linear(x, t_bilinear)
    linear_1 = linear(y, t_bilinear_1)
    mul = mul(linear, linear_1)
    linear_2 = linear(mul, t_bilinear_2)
"""
MAP = [
    fires(
        "decompose.bilinear.bilinear_map",
        mapped,
        (5, len(tensor)),
        (5, len(tensor)),
        t=tensor,
        more_bytes=FACTORS,
        expect=FEW,
    )
    for tensor in (COMPLEX, GAUNT)
] + [
    leaves(
        "decompose.bilinear.bilinear_map",
        mapped,
        (5, 20),
        (5, 20),
        t=number(20, 20, 20),
        because="a random tensor needs too many terms",
    ),
    leaves(
        "decompose.bilinear.bilinear_map",
        lambda m, x, y: torch.einsum("ni,nj,nijk->nk", x, y, m.t),
        (5, 4),
        (5, 4),
        t=number(5, 4, 4, 4),
        because="every element of the batch has its own map",
    ),
]
DENSE = (
    [
        fires(
            f"decompose.bilinear.{rule}",
            mapped,
            (5, *tensor.shape[:1]),
            (5, *tensor.shape[1:2]),
            t=tensor,
            more_operators="the tensor is arranged once and for all",
            expect=expect,
        )
        for rule, tensor, expect in (
            (
                "dense_product",
                number(22, 20, 20),
                """
            reshape = reshape(y, [5, 1, 20])
            matmul = matmul(x, t_dense_product)
            reshape_1 = reshape(matmul, [5, 20, 20])
            matmul_1 = matmul(reshape, reshape_1)
            reshape_2 = reshape(matmul_1, [5, 20])
            """,
            ),
            (
                "dense_product_second",
                number(20, 22, 20),
                """
            reshape = reshape(x, [5, 1, 20])
            matmul = matmul(y, t_dense_product_second)
            reshape_1 = reshape(matmul, [5, 20, 20])
            matmul_1 = matmul(reshape, reshape_1)
            reshape_2 = reshape(matmul_1, [5, 20])
            """,
            ),
        )
    ]
    + [
        leaves(rule, mapped, (5, 2), (5, 2), t=COMPLEX, because="the map is small")
        for rule in ("decompose.bilinear.dense_product", "decompose.bilinear.dense_product_second")
    ]
    + [
        leaves(
            rule,
            lambda m, x, y: torch.einsum("...i,...j,ijk->...k", x, y, m.t),
            *sizes,
            t=number(20, 22, 20) if rule.endswith("second") else number(20, 20, 20),
            because="one operand is the same for the whole batch",
        )
        for rule, sizes in (
            ("decompose.bilinear.dense_product", ((5, 20), (1, 20))),
            ("decompose.bilinear.dense_product_second", ((5, 20), (1, 22))),
        )
    ]
)
CHANNELS = [
    fires(
        "decompose.bilinear.bilinear_channels",
        per_channel,
        (5, 6, 2),
        (5, 2),
        t=COMPLEX,
        more_bytes=FACTORS,
        expect="""
            linear = linear(x, t_bilinear)
            linear_1 = linear(y, t_bilinear_1)
            unsqueeze = unsqueeze(linear_1, -2)
            mul = mul(linear, unsqueeze)
            linear_2 = linear(mul, t_bilinear_2)
        """,
    ),
    leaves(
        "decompose.bilinear.bilinear_channels",
        per_channel,
        (5, 6, 20),
        (5, 20),
        t=number(20, 20, 20),
        because="a random tensor needs too many terms",
    ),
    leaves(
        "decompose.bilinear.bilinear_channels",
        per_channel,
        (5, 16, 2),
        (5, 2),
        t=COMPLEX,
        because="one matrix for many channels is faster",
    ),
    fires(
        "decompose.bilinear.channel_matrices",
        per_channel,
        (5, 16, 2),
        (5, 3),
        t=number(2, 3, 4),
        more_operators="einsum arranges its operands anew for every element",
        expect="""
            reshape = reshape(x, [5, 16, 2])
            linear = linear(y, t_channel_matrices)
            reshape_1 = reshape(linear, [5, 2, 4])
            matmul = matmul(reshape, reshape_1)
            reshape_2 = reshape(matmul, [5, 16, 4])
        """,
    ),
    leaves(
        "decompose.bilinear.channel_matrices",
        per_channel,
        (5, 6, 2),
        (5, 2),
        t=COMPLEX,
        because="few channels are faster as terms",
    ),
]


def complex_layer(m: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(A + iB)(x + iy)."""
    return F.linear(x, m.a) - F.linear(y, m.b), F.linear(x, m.b) + F.linear(y, m.a)


GAUSS = [
    fires(
        "decompose.bilinear.complex_linear",
        complex_layer,
        (4, 64),
        (4, 64),
        a=number(32, 64),
        b=number(32, 64),
        more_bytes="A + B and B - A are stored, and A still is",
        expect="""
            add_1 = add(x, y)
            linear_4 = linear(add_1, a)
            linear_5 = linear(y, a_complex_linear)
            sub_1 = sub(linear_4, linear_5)
            linear_6 = linear(x, b_complex_linear)
            add_2 = add(linear_4, linear_6)
        """,
    ),
    leaves(
        "decompose.bilinear.complex_linear",
        lambda m, x, y: (F.linear(x, m.a) - F.linear(y, m.b), F.linear(x, m.b) + F.linear(y, m.c)),
        (4, 64),
        (4, 64),
        a=number(32, 64),
        b=number(32, 64),
        c=number(32, 64),
        because="three weights are no complex number",
    ),
    leaves(
        "decompose.bilinear.complex_linear",
        complex_layer,
        (2, 4),
        (2, 4),
        a=number(3, 4),
        b=number(3, 4),
        because="the products are small",
    ),
]


def of_blocks(tensor: Tensor, size: int) -> Tensor:
    """The matrix by which an algebra multiplies vectors of blocks with random ones."""
    own, _, result = tensor.shape
    whole = torch.einsum("ijk,ipq->kpjq", tensor, number(own, size, size))
    return whole.reshape(result * size, -1)


BLOCKS = [
    fires(
        "decompose.bilinear.block_bilinear_linear",
        lambda m, x: F.linear(x, m.w, m.b),
        (512, 512),
        w=of_blocks(COMPLEX, 256),
        b=number(512),
        precision=1e-12,
        expect="""
            reshape = reshape(x, [512, 2, 256])
            permute = permute(reshape, [1, 0, 2])
            reshape_1 = reshape(permute, [2, 131072])
            matmul = matmul(w_block_bilinear_1, reshape_1)
            reshape_2 = reshape(matmul, [3, 512, 256])
            matmul_1 = matmul(reshape_2, w_block_bilinear_linear)
            reshape_3 = reshape(matmul_1, [3, 131072])
            matmul_2 = matmul(w_block_bilinear, reshape_3)
            reshape_4 = reshape(matmul_2, [2, 512, 256])
            permute_1 = permute(reshape_4, [1, 0, 2])
            reshape_5 = reshape(permute_1, [512, 512])
            add = add(reshape_5, b)
        """,
    ),
    leaves(
        "decompose.bilinear.block_bilinear_linear",
        lambda m, x: F.linear(x, m.w),
        (64, 128),
        w=number(128, 128),
        because="the blocks have nothing to do with each other",
    ),
    leaves(
        "decompose.bilinear.block_bilinear_linear",
        lambda m, x: F.linear(x, m.w),
        (8, 32),
        w=of_blocks(COMPLEX, 16),
        because="the blocks are small",
    ),
]


def quaternions(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Hamilton's product, written out."""
    a, b, c, d = x.unbind(-1)
    e, f, g, h = y.unbind(-1)
    parts = (
        a * e - b * f - c * g - d * h,
        a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f,
        a * h + b * g - c * f + d * e,
    )
    return torch.stack(parts, -1)


def complex_numbers(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    c, d = y.chunk(2, -1)
    return torch.cat([a * c - b * d, a * d + b * c], -1)


def outer_product(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (x[..., :, None] * y[..., None, :]).flatten(-2) @ m.t.reshape(-1, m.t.shape[-1])


def chain(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    of_each = (x @ m.t.reshape(len(m.t), -1)).reshape(-1, *m.t.shape[1:])
    return (y[:, None] @ of_each).squeeze(1)


REGIONS = [
    fires(
        "decompose.bilinear_regions",
        forward,
        sizes,
        sizes,
        t=COMPLEX if forward is complex_numbers else number(4, 4, 4),
        dynamic={"x": {0: "n"}, "y": {0: "n"}} if forward is quaternions else None,
        more_bytes="the map was in the operators",
        expect='einsum = einsum("...a,...b,abc->...c", x, y, bilinear)',
    )
    for forward, sizes in (
        (quaternions, (64, 4)),
        (quaternions, (8, 16, 4)),
        (complex_numbers, (128, 2)),
        (outer_product, (128, 4)),
    )
] + [
    leaves(
        "decompose.bilinear_regions",
        complex_numbers,
        (64, 256),
        (64, 256),
        because="long slices are multiplied as fast as anything",
    ),
    leaves(
        "decompose.bilinear_regions",
        lambda m, x, y: x * y,
        (64, 4),
        (64, 4),
        because="a product of numbers is one already",
    ),
    leaves(
        "decompose.bilinear_regions",
        lambda m, x, y: x @ y.transpose(-1, -2),
        (64, 4),
        (64, 4),
        because="elements of the batch meet",
    ),
    leaves(
        "decompose.bilinear_regions",
        lambda m, x, y: torch.einsum("ni,nj,ijk->nk", x, y, m.t),
        (64, 4),
        (64, 4),
        t=number(4, 4, 4),
        because="it is one already",
    ),
]

CASES = [*MAP, *DENSE, *CHANNELS, *GAUSS, *BLOCKS, *REGIONS]
