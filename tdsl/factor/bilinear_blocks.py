"""Matrices of blocks that repeat, up to sums and signs: few products of blocks instead of one for each place.

[[A, −B], [B, A]] multiplies complex vectors, and three products do what its four blocks do; a quaternion
matrix has sixteen and takes eight. What the blocks are is a sum of Kronecker products (`kronecker`); how few
products they take is the rank of the tensor of its outer factors (`bilinear`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tdsl.factor.bilinear import EXACT, bilinear
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.kronecker import kronecker
from tdsl.factor.rank import Error

PARTS = 8
CLOSE = 1e-6
"""Coefficients this near to multiples of 1/8 are these: the blocks are known to the rounding of float32."""


def block_bilinear(weight: Tensor, rank: object) -> tuple[Tensor, Tensor, Tensor]:
    """A matrix as Σ_s (u_s v_sᵀ) ⊗ D_s with few products D_s.

    [m, n] → U [o, s], V [s, i], D [s, p, q] with m = o·p and n = i·q. Sizes and error are those of
    `kronecker` under the same rule; raises what it raises.
    """
    from scipy.linalg import qr

    outer, inner = kronecker(weight, rank)
    rows, columns, count = outer.shape
    flat = outer.reshape(rows * columns, count)
    # Blocks that occur are a better basis than singular vectors: in them the others are sums with signs.
    pivots = torch.from_numpy(qr(flat.T.numpy(), pivoting=True, mode="r")[1][:count].astype(np.int64))
    chosen = flat[pivots]
    coefficients = flat @ torch.linalg.pinv(chosen)  # blocks may be fewer than the rank that is asked for
    simple = (coefficients * PARTS).round() / PARTS
    if float((coefficients - simple).abs().max()) <= CLOSE:
        coefficients = simple
    blocks = torch.einsum("kr,rpq->kpq", chosen, inner)
    first, second, third = bilinear(coefficients.reshape(rows, columns, count), Error(EXACT))
    return first.T.contiguous(), second, torch.einsum("ks,kpq->spq", third, blocks)


def block_bilinear_product(left: Tensor, right: Tensor, blocks: Tensor) -> Tensor:
    """The matrix. [o, s], [s, i], [s, p, q] → [o·p, i·q]."""
    whole = torch.einsum("os,si,spq->opiq", left, right, blocks)
    return whole.reshape(left.shape[0] * blocks.shape[1], right.shape[1] * blocks.shape[2])


DECLARED = (
    Decomposition(
        name="block_bilinear",
        params=("W", "rank"),
        results=3,
        function=block_bilinear,
        promise_text="W ≈ Σ_s (U[:, s] · V[s, :]) ⊗ D[s]",
        promise=block_bilinear_product,
        forms=forms("[M, N] -> [o, s], [s, i], [s, p, q]"),
        source="Gauss; Strassen, 1969; Van Loan & Pitsianis, 1993",
        doc="A matrix of repeating blocks, as complex and quaternion layers have, by few products of blocks.",
    ),
)
